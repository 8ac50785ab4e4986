package directory

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
)

// KeyID names an API key in the change log and in lists, without being the key.
type KeyID string

// Scope is what an API key may do.
type Scope string

// The scopes of contract rest.md section 3.
const (
	// FullAccess may do everything; it belongs on the customer's servers only.
	FullAccess Scope = "fullAccess"
	// AuthOnly may create and update users and mint auth tokens, and nothing else.
	AuthOnly Scope = "authOnly"
)

var scopes = []string{string(FullAccess), string(AuthOnly)}

// Key is an API key of an app.
type Key struct {
	ID    KeyID
	Name  string
	Scope Scope
	// Text is the key itself. It is set on a key just made, and by ListKeys and GetKey; it is never stored.
	Text string
	// Hash finds the key, Sealed is its encrypted copy.
	Hash, Sealed []byte
	CreatedBy    Actor
	CreatedAt    int64
}

func keyContext(app AppID, id KeyID) string { return "key:" + string(app) + ":" + string(id) }

// validKeyText reports whether text has the form of an API key: 40 lower-case hex digits.
func validKeyText(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 20 && text == strings.ToLower(text)
}

// NewKeyText returns the text of a fresh API key.
func (d *Directory) NewKeyText() string { return d.randomHex(20) }

func (d *Directory) addKey(tx Writer, log *logbook, name string, scope Scope, text string) (Key, error) {
	if text == "" {
		text = d.NewKeyText()
	} else if !validKeyText(text) {
		return Key{}, fail(CodeBadRequest, "An API key is 40 lower-case hex digits.")
	}
	key := Key{
		ID: KeyID("key_" + d.randomHex(6)), Name: name, Scope: scope, Text: text,
		Hash: d.secrets.Hash(text), CreatedBy: log.actor, CreatedAt: log.at,
	}
	key.Sealed = d.secrets.Seal(text, keyContext(log.app, key.ID))
	if err := tx.PutKey(log.app, key); err != nil {
		return Key{}, err
	}
	return key, log.append(KeyCreated, string(key.ID))
}

// Key finds the API key with the given text. Errors: CodeKeyUnknown.
func (d *Directory) Key(policy *Policy, text string) (Key, error) {
	if key, ok := policy.recognized.Load(text); ok {
		return key.(Key), nil //nolint:forcetypeassert // nothing else is in it
	}
	for _, hash := range d.secrets.Hashes(text) {
		if key, ok := policy.keys[string(hash)]; ok {
			policy.recognized.Store(text, key)
			return key, nil
		}
	}
	return Key{}, fail(CodeKeyUnknown, "This API key does not belong to the app. Check the apikey header, or that the key was not deleted.")
}

// NewKey is what CreateKey needs.
type NewKey struct {
	Name string
	// Scope defaults to AuthOnly.
	Scope Scope
}

func (d *Directory) checkKey(name string, scope Scope) error {
	var wrong FieldErrors
	d.checkName(&wrong, name)
	checkOneOf(&wrong, "scope", string(scope), scopes)
	return wrong.Err()
}

// CreateKey makes an API key. Errors: CodeBadRequest, CodeQuota.
func (d *Directory) CreateKey(ctx context.Context, caller Caller, wanted NewKey) (Key, error) {
	if wanted.Scope == "" {
		wanted.Scope = AuthOnly
	}
	if err := d.checkKey(wanted.Name, wanted.Scope); err != nil {
		return Key{}, err
	}
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (Key, error) {
		keys, err := tx.Keys(caller.App)
		if err != nil {
			return Key{}, err
		}
		if len(keys) >= d.limits.KeysPerApp {
			return Key{}, fail(CodeQuota, "An app has at most %d API keys. Delete one that is no longer used.", d.limits.KeysPerApp)
		}
		return d.addKey(tx, log, wanted.Name, wanted.Scope, "")
	})
}

// KeyQuery selects keys. Zero fields select all.
type KeyQuery struct {
	Scope Scope
	// Search is a part of the name, in any case.
	Search string
	Page   Page
}

// ListKeys lists the API keys of the caller's app, newest first, with their texts.
// Errors: CodeBadRequest for an unknown scope.
func (d *Directory) ListKeys(ctx context.Context, caller Caller, query KeyQuery) (List[Key], error) {
	var matching []Key
	var wrong FieldErrors
	if query.Scope != "" {
		checkOneOf(&wrong, "scope", string(query.Scope), scopes)
	}
	if err := wrong.Err(); err != nil {
		return List[Key]{}, err
	}
	err := d.store.View(ctx, func(tx Reader) error {
		keys, err := tx.Keys(caller.App)
		matching = nil
		for _, key := range keys {
			if (query.Scope == "" || key.Scope == query.Scope) && strings.Contains(strings.ToLower(key.Name), strings.ToLower(query.Search)) {
				matching = append(matching, key)
			}
		}
		return err
	})
	if err != nil {
		return List[Key]{}, err
	}
	list := PageOf(matching, query.Page)
	for i := range list.Items {
		if err := d.openKey(caller.App, &list.Items[i]); err != nil {
			return List[Key]{}, err
		}
	}
	return list, nil
}

func (d *Directory) openKey(app AppID, key *Key) (err error) {
	if key.Text, err = d.secrets.Open(key.Sealed, keyContext(app, key.ID)); err != nil {
		err = fmt.Errorf("read API key %s: %w", key.ID, err)
	}
	return err
}

// findKey returns the key that text names, by its text or its id, with its text.
func (d *Directory) findKey(tx Reader, app AppID, text string) (Key, error) {
	keys, err := tx.Keys(app)
	if err != nil {
		return Key{}, err
	}
	hashes := d.secrets.Hashes(text)
	for _, key := range keys {
		match := string(key.ID) == text
		for _, hash := range hashes {
			match = match || string(key.Hash) == string(hash)
		}
		if match {
			return key, d.openKey(app, &key)
		}
	}
	return Key{}, fail(CodeKeyNotFound, "There is no such API key in this app.")
}

// GetKey returns the API key that text names, by its text or its id. Errors: CodeKeyNotFound.
func (d *Directory) GetKey(ctx context.Context, caller Caller, text string) (key Key, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		key, err = d.findKey(tx, caller.App, text)
		return err
	})
	return key, err
}

// KeyPatch holds what to change of a key. Nil fields stay as they are.
type KeyPatch struct {
	Name  *string
	Scope *Scope
}

// UpdateKey changes a key. Errors: CodeKeyNotFound, CodeKeySelfAction, CodeBadRequest.
func (d *Directory) UpdateKey(ctx context.Context, caller Caller, text string, patch KeyPatch) (Key, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (Key, error) {
		key, err := d.findOtherKey(tx, caller, text)
		if err != nil {
			return Key{}, err
		}
		var changed []string
		if patch.Name != nil {
			setField(&changed, "name", &key.Name, *patch.Name)
		}
		if patch.Scope != nil {
			setField(&changed, "scope", &key.Scope, *patch.Scope)
		}
		if err := d.checkKey(key.Name, key.Scope); err != nil || len(changed) == 0 {
			return key, err
		}
		if err := tx.PutKey(caller.App, key); err != nil {
			return Key{}, err
		}
		return key, log.append(KeyUpdated, string(key.ID), changed...)
	})
}

func (d *Directory) findOtherKey(tx Writer, caller Caller, text string) (Key, error) {
	key, err := d.findKey(tx, caller.App, text)
	if err == nil && key.ID == caller.Key {
		err = fail(CodeKeySelfAction, "An API key cannot change or delete itself. Use another fullAccess key.")
	}
	return key, err
}

// Revoked says what a revocation ended.
type Revoked struct {
	// Tokens is how many auth tokens are no longer accepted.
	Tokens int
	// Sockets is how many live sockets were closed that had been opened with them.
	Sockets int
}

// DeleteKey revokes an API key: no request with it is served any more. With revokeTokens the auth tokens that it
// minted are revoked too. Errors: CodeKeyNotFound, CodeKeySelfAction.
func (d *Directory) DeleteKey(ctx context.Context, caller Caller, text string, revokeTokens bool) (Revoked, error) {
	return revoke(ctx, d, caller, func(tx Writer, log *logbook) (Revoked, error) {
		var revoked Revoked
		key, err := d.findOtherKey(tx, caller, text)
		if err != nil {
			return revoked, err
		}
		if err := tx.DeleteKey(caller.App, key.ID); err != nil {
			return revoked, err
		}
		fields := []string{}
		if revokeTokens {
			if revoked.Tokens, err = tx.DeleteTokensOfKey(caller.App, key.ID); err != nil {
				return revoked, err
			}
			fields = append(fields, fieldTokens)
		}
		return revoked, log.append(KeyDeleted, string(key.ID), fields...)
	})
}
