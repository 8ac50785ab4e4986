package directory

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
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
	// ExpiresAt is from when on the key is not accepted, in Unix seconds: it was replaced by RotateKey. 0 is never.
	ExpiresAt int64
	// LastUsedAt is when a call was last made with the key, in Unix seconds, 0 for never: to the second while the
	// directory is open, and after a crash as of the last Sweep.
	LastUsedAt int64
}

// expired reports whether a key is not accepted any more: it is as good as deleted, which Sweep does.
func (k Key) expired(now int64) bool { return k.ExpiresAt != 0 && k.ExpiresAt <= now }

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
	known, ok := policy.recognized.Load(text)
	if !ok {
		for _, hash := range d.secrets.Hashes(text) {
			if key, there := policy.keys[string(hash)]; there {
				known, ok = &recognizedKey{key, d.keyUses.of(policy.App.ID, key.ID)}, true
				policy.recognized.Store(text, known)
				break
			}
		}
	}
	if !ok {
		return Key{}, fail(CodeKeyUnknown, "This API key does not belong to the app. Check the apikey header, or that the "+
			"key was not deleted.")
	}
	recognized := known.(*recognizedKey) //nolint:forcetypeassert // nothing else is in it
	now := d.Now()
	if recognized.expired(now) {
		return Key{}, fail(
			CodeKeyUnknown, "This API key has expired: it was replaced by another, which has to be sent in its place.",
		)
	}
	recognized.use.note(now)
	return recognized.Key, nil
}

// recognizedKey is a key as it is used, with the note of when it last was.
type recognizedKey struct {
	Key
	use *keyUse
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
		keys = slices.DeleteFunc(keys, func(key Key) bool { return key.ExpiresAt != 0 }) // which go by themselves
		if len(keys) >= d.limits.KeysPerApp {
			return Key{}, fail(
				CodeQuota, "An app has at most %d API keys. Delete one that is no longer used.", d.limits.KeysPerApp,
			)
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
			if !key.expired(d.Now()) && (query.Scope == "" || key.Scope == query.Scope) &&
				strings.Contains(strings.ToLower(key.Name), strings.ToLower(query.Search)) {
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

// openKey completes a stored key with its text, and with when it was last used.
func (d *Directory) openKey(app AppID, key *Key) (err error) {
	key.LastUsedAt = max(key.LastUsedAt, d.keyUses.last(app, key.ID))
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
		if key.expired(d.Now()) {
			continue
		}
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
		err = fail(CodeKeySelfAction, "An API key cannot change or delete itself. Use another fullAccess key, or the "+
			"management key and secret; to replace the key by a new one, rotate it.")
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
