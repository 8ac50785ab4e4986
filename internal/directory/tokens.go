package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// TokenID names an auth token in the change log and in lists, without being the token.
type TokenID string

// Token is an auth token: what a chat client logs in with.
type Token struct {
	ID  TokenID
	UID UID
	// Text is the token itself. It is set on a token just minted, and by ListTokens, GetToken and Authenticate; it is
	// never stored.
	Text         string
	Hash, Sealed []byte
	// MintedBy is the API key that minted it; empty for other actors.
	MintedBy  KeyID
	CreatedAt int64
	// Revision is the change that announced the token: it orders tokens minted in the same second.
	Revision int64
	Device   Device
}

// Device is what a client tells about the device it uses a token on.
type Device struct {
	Platform  string
	UserAgent string
	DeviceID  string
	AppInfo   json.RawMessage `json:",omitempty"`
}

// The text of a token is the uid, an underscore, the time as ten digits and random bytes in hexadecimal (contract
// rest.md section 2).
const (
	tokenRandom = 15
	tokenTail   = 10 + 2*tokenRandom
)

func tokenContext(app AppID, id TokenID) string { return "token:" + string(app) + ":" + string(id) }

// CreateToken mints an auth token for a user. When the user has more than Limits.TokensPerUser, those are revoked that
// were not used for the longest time, and of those with a live session the last. Errors: CodeUserNotFound,
// CodeBadRequest, CodeQuota where the caller may not have others revoked.
func (d *Directory) CreateToken(ctx context.Context, caller Caller, rawUID string, device Device) (Token, error) {
	uid := FoldUID(rawUID)
	if err := d.checkDevice(&device); err != nil {
		return Token{}, err
	}
	return write(ctx, d, caller, []UID{uid}, func(tx Writer, log *logbook) (Token, error) {
		if _, err := requireUser(tx, caller.App, uid, rawUID); err != nil {
			return Token{}, err
		}
		return d.mint(tx, log, caller, uid, device)
	})
}

func (d *Directory) mint(tx Writer, log *logbook, caller Caller, uid UID, device Device) (Token, error) {
	count, err := tx.CountTokens(log.app, uid)
	if err != nil {
		return Token{}, err
	}
	if count >= d.limits.TokensPerUser {
		if err := mayEvict(tx, caller, uid, count); err != nil {
			return Token{}, err
		}
		if err := d.revokeSpare(tx, log, uid, count); err != nil {
			return Token{}, err
		}
	}
	next, err := tx.Revision(log.app)
	if err != nil {
		return Token{}, err
	}
	// Ids that grow keep new tokens together in the store.
	token := Token{
		ID: TokenID(fmt.Sprintf("tok_%012x", next+1)), UID: uid, MintedBy: caller.Key, CreatedAt: log.at, Device: device,
		Revision: next + 1,
		Text:     fmt.Sprintf("%s_%010d%s", uid, log.at, d.randomHex(tokenRandom)),
	}
	token.Hash = d.secrets.Hash(token.Text)
	d.logins.expect(loginKey(log.app, token.Hash))
	token.Sealed = d.secrets.Seal(token.Text, tokenContext(log.app, token.ID))
	if err := log.append(TokenCreated, string(uid), string(token.ID)); err != nil {
		return Token{}, err
	}
	return token, tx.PutToken(log.app, token)
}

// mayEvict tells whether a caller may mint an auth token in the place of others of a user, who has as many as it may.
// Errors: CodeQuota.
func mayEvict(tx Writer, caller Caller, uid UID, count int) error {
	if !caller.hasAuthOnlyKey() {
		return nil
	}
	app, err := requireApp(tx, caller.App)
	if err == nil && app.Settings.DenyEvictionByAuthOnlyKeys {
		err = fail(CodeQuota,
			"The user %s has %d auth tokens, and this app's authOnly keys may not mint one in the place of "+
				"another. Revoke some, or mint with a fullAccess key.", uid, count)
	}
	return err
}

// revokeSpare revokes as many of a user's tokens as are too many for one more: first those without a live session, and
// of both kinds first those that were not used for the longest time. When a token was used is known since the server's
// start; before that, when it was minted counts.
func (d *Directory) revokeSpare(tx Writer, log *logbook, uid UID, count int) error {
	tokens, err := tx.Tokens(log.app, uid, count, 0)
	if err != nil {
		return err
	}
	live := d.sessions.LiveTokens(log.app, uid)
	used := make(map[TokenID]int64, len(tokens))
	for _, token := range tokens {
		used[token.ID] = max(token.CreatedAt, d.logins.usedAt(log.app, token.Hash))
	}
	slices.SortFunc(tokens, func(a, b Token) int {
		_, aLives := live[a.ID]
		_, bLives := live[b.ID]
		switch {
		case aLives && !bLives:
			return 1
		case bLives && !aLives:
			return -1
		}
		return cmp.Or(cmp.Compare(used[a.ID], used[b.ID]), cmp.Compare(a.Revision, b.Revision))
	})
	return revokeTokens(tx, log, uid, tokens[:max(0, count-(d.limits.TokensPerUser-1))])
}

// revokeTokens deletes auth tokens of a user, and tells so: what revokes tokens one by one, for whatever reason, ends
// here. The tokens of a user who is erased go with its other rows, those of a key are told of as the key's, and those
// from before the app's TokensValidFrom are dead before clearTokens comes to them.
func revokeTokens(tx Writer, log *logbook, uid UID, tokens []Token) error {
	if len(tokens) == 0 {
		return nil
	}
	ids := make([]string, len(tokens))
	for i, token := range tokens {
		if err := tx.DeleteToken(log.app, token.ID); err != nil {
			return err
		}
		ids[i] = string(token.ID)
	}
	return log.append(TokenRevoked, string(uid), ids...)
}

// tokensOf returns all auth tokens of a user, newest first.
func tokensOf(tx Reader, app AppID, uid UID) ([]Token, error) {
	count, err := tx.CountTokens(app, uid)
	if err != nil || count == 0 {
		return nil, err
	}
	return tx.Tokens(app, uid, count, 0)
}

// checkDevice bounds what a client may make the server keep about it, and compacts AppInfo.
func (d *Directory) checkDevice(device *Device) error {
	var wrong FieldErrors
	checkText(&wrong, "platform", device.Platform, d.limits.Name, "")
	checkText(&wrong, "deviceId", device.DeviceID, maxDeviceID, "")
	checkText(&wrong, "userAgent", device.UserAgent, 4000, "")
	if len(device.AppInfo) > 0 {
		device.AppInfo = d.checkMetadata(&wrong, "appInfo", device.AppInfo)
	}
	return wrong.Err()
}

// RemembersToken reports whether an auth token is one that was minted or used lately and was not refused since, without
// asking the store.
func (d *Directory) RemembersToken(policy *Policy, text string) bool {
	return d.logins.knows(loginKey(policy.App.ID, d.secrets.Hashes(text)[0]))
}

// LoggedIn is Authenticate for an auth token whose owner is held in memory. ok is false for any other.
func (d *Directory) LoggedIn(policy *Policy, text string) (user User, token Token, ok bool) {
	known, ok := d.logins.get(policy.App.ID, loginKey(policy.App.ID, d.secrets.Hashes(text)[0]))
	if !ok || !policy.admits(known) {
		return user, token, false
	}
	known.usedAt.Store(d.Now())
	known.token.Text = text
	return known.user, known.token, true
}

// admits reports whether a login is good: not revoked with all of its time, and of a user who is active.
func (p *Policy) admits(known login) bool {
	return p.accepts(known.token) && known.user.DeactivatedAt == 0
}

// accepts reports whether an auth token is not revoked with all of its time.
func (p *Policy) accepts(token Token) bool { return token.CreatedAt >= p.App.Settings.TokensValidFrom }

// Authenticate returns the owner of an auth token, as it may see itself, and the token. Errors: CodeTokenUnknown for a
// token that is unknown or revoked, and for one whose owner is deactivated or deleted.
func (d *Directory) Authenticate(ctx context.Context, policy *Policy, text string) (user User, token Token, err error) {
	app := policy.App.ID
	hashes := d.secrets.Hashes(text)
	key := loginKey(app, hashes[0])
	known, ok := d.logins.get(app, key)
	if !ok {
		loadedAt := d.logins.begin()
		if known, err = d.findLogin(ctx, app, text, hashes); err != nil {
			if IsCode(err, CodeTokenUnknown) {
				d.logins.forget(key)
			}
			return user, token, err
		}
		known = d.logins.put(key, known.user, known.token, loadedAt)
	}
	known.usedAt.Store(d.Now())
	if !policy.admits(known) {
		return user, token, errTokenUnknown()
	}
	known.token.Text = text
	return known.user, known.token, nil
}

func errTokenUnknown() error {
	return fail(CodeTokenUnknown, "This auth token is not valid any more: it was revoked, or its user is deactivated or "+
		"gone. Have the user log in again.")
}

// findLogin reads a token, which is stored under one of the hashes, and its owner. Errors: CodeTokenUnknown.
func (d *Directory) findLogin(ctx context.Context, app AppID, text string, hashes [][]byte) (found login, err error) {
	uid, wellFormed := tokenOwner(text)
	if !wellFormed {
		return login{}, errTokenUnknown()
	}
	err = d.store.View(ctx, func(tx Reader) error {
		token, exists, err := firstToken(tx, app, uid, hashes)
		if err != nil {
			return err
		}
		if !exists {
			return errTokenUnknown()
		}
		user, exists, err := tx.User(app, uid)
		if err != nil {
			return err
		}
		if !exists {
			return errTokenUnknown()
		}
		user.Metadata = PublicMetadata(user.Metadata) // users do not see their own private metadata
		found = login{user: user, token: token}
		return nil
	})
	return found, err
}

// firstToken returns the user's token that is stored under one of the hashes.
func firstToken(tx Reader, app AppID, uid UID, hashes [][]byte) (token Token, found bool, err error) {
	for _, hash := range hashes {
		if token, found, err = tx.Token(app, uid, hash); err != nil || found {
			break
		}
	}
	return token, found, err
}

// tokenOwner returns the uid that stands at the beginning of an auth token's text.
func tokenOwner(text string) (uid UID, wellFormed bool) {
	end := len(text) - len("_") - tokenTail
	if end <= 0 || text[end] != '_' || !validUID(text[:end], end) {
		return "", false
	}
	return UID(text[:end]), true
}

// ListTokens lists a user's auth tokens, newest first, with their texts. Errors: CodeUserNotFound.
func (d *Directory) ListTokens(ctx context.Context, caller Caller, rawUID string, page Page) (List[Token], error) {
	list := List[Token]{Page: page.orDefault()}
	uid := FoldUID(rawUID)
	err := d.store.View(ctx, func(tx Reader) error {
		_, err := requireUser(tx, caller.App, uid, rawUID)
		if err != nil {
			return err
		}
		if list.Total, err = tx.CountTokens(caller.App, uid); err != nil {
			return err
		}
		list.Items, err = tx.Tokens(caller.App, uid, list.Page.Size, list.Page.offset())
		return err
	})
	for i := range list.Items {
		if err := d.openToken(caller.App, &list.Items[i]); err != nil {
			return list, err
		}
	}
	return list, err
}

func (d *Directory) openToken(app AppID, token *Token) (err error) {
	if token.Text, err = d.secrets.Open(token.Sealed, tokenContext(app, token.ID)); err != nil {
		err = fmt.Errorf("read auth token %s: %w", token.ID, err)
	}
	return err
}

// findToken returns the user's token that text names, by its text or its id.
func (d *Directory) findToken(tx Reader, app AppID, rawUID, text string) (Token, error) {
	uid := FoldUID(rawUID)
	if _, err := requireUser(tx, app, uid, rawUID); err != nil {
		return Token{}, err
	}
	var token Token
	var found bool
	var err error
	if strings.HasPrefix(text, "tok_") {
		if token, found, err = tx.TokenByID(app, TokenID(text)); err != nil {
			return Token{}, err
		}
	}
	if !found {
		if token, found, err = firstToken(tx, app, uid, d.secrets.Hashes(text)); err != nil {
			return Token{}, err
		}
	}
	if !found || token.UID != uid {
		return Token{}, fail(CodeTokenNotFound, "The user %s has no such auth token. It may have been revoked.", uid)
	}
	return token, d.openToken(app, &token)
}

// GetToken returns a user's auth token by its text or id. Errors: CodeUserNotFound, CodeTokenNotFound.
func (d *Directory) GetToken(ctx context.Context, caller Caller, rawUID, text string) (token Token, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		token, err = d.findToken(tx, caller.App, rawUID, text)
		return err
	})
	return token, err
}

// DevicePatch holds what a caller tells about a device. Nil fields stay as they are.
type DevicePatch struct {
	Platform  *string
	UserAgent *string
	DeviceID  *string
	AppInfo   *json.RawMessage
}

func (p DevicePatch) apply(device *Device) (changed []string) {
	for _, field := range []struct {
		name   string
		stored *string
		value  *string
	}{{"platform", &device.Platform, p.Platform}, {"userAgent", &device.UserAgent, p.UserAgent}, {"deviceId", &device.DeviceID, p.DeviceID}} {
		if field.value != nil {
			setField(&changed, field.name, field.stored, *field.value)
		}
	}
	if p.AppInfo != nil && !sameJSON(*p.AppInfo, device.AppInfo) {
		device.AppInfo = *p.AppInfo
		changed = append(changed, "appInfo")
	}
	return changed
}

// UpdateToken records the device that an auth token is used on. Errors: CodeUserNotFound, CodeTokenNotFound,
// CodeBadRequest.
func (d *Directory) UpdateToken(
	ctx context.Context, caller Caller, rawUID, text string, patch DevicePatch,
) (Token, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (Token, error) {
		token, err := d.findToken(tx, caller.App, rawUID, text)
		if err != nil {
			return Token{}, err
		}
		return token, d.changeDevice(tx, log, &token, patch)
	})
}

func (d *Directory) changeDevice(tx Writer, log *logbook, token *Token, patch DevicePatch) error {
	if len(patch.apply(&token.Device)) == 0 {
		return nil
	}
	if err := d.checkDevice(&token.Device); err != nil {
		return err
	}
	if err := tx.PutToken(log.app, *token); err != nil {
		return err
	}
	return log.append(TokenUpdated, string(token.UID), string(token.ID))
}

// revoke is write for what revokes auth tokens: it also counts the sockets that were closed.
func revoke(
	ctx context.Context, d *Directory, caller Caller, fn func(tx Writer, log *logbook) (Revoked, error),
) (Revoked, error) {
	revoked, sockets, err := writeCounting(ctx, d, caller, nil, fn)
	revoked.Sockets = sockets
	return revoked, err
}

// DeleteToken revokes one auth token. Errors: CodeUserNotFound, CodeTokenNotFound.
func (d *Directory) DeleteToken(ctx context.Context, caller Caller, rawUID, text string) (Revoked, error) {
	return revoke(ctx, d, caller, func(tx Writer, log *logbook) (Revoked, error) {
		token, err := d.findToken(tx, caller.App, rawUID, text)
		if err != nil {
			return Revoked{}, err
		}
		return Revoked{Tokens: 1}, revokeTokens(tx, log, token.UID, []Token{token})
	})
}

// DeleteTokens revokes a user's auth tokens that were issued before a time in Unix seconds; zero means all of them.
// Errors: CodeUserNotFound.
func (d *Directory) DeleteTokens(
	ctx context.Context, caller Caller, rawUID string, issuedBefore int64,
) (Revoked, error) {
	uid := FoldUID(rawUID)
	if issuedBefore == 0 {
		issuedBefore = math.MaxInt64
	}
	return revoke(ctx, d, caller, func(tx Writer, log *logbook) (Revoked, error) {
		if _, err := requireUser(tx, caller.App, uid, rawUID); err != nil {
			return Revoked{}, err
		}
		tokens, err := tokensOf(tx, caller.App, uid)
		if err != nil {
			return Revoked{}, err
		}
		tokens = slices.DeleteFunc(tokens, func(token Token) bool { return token.CreatedAt >= issuedBefore })
		return Revoked{Tokens: len(tokens)}, revokeTokens(tx, log, uid, tokens)
	})
}

// LogOut revokes the auth token that the caller, the logged-in user, uses. Errors: CodePermissionDenied.
func (d *Directory) LogOut(ctx context.Context, caller Caller, policy *Policy, current User) error {
	if err := policy.mayUse(caller, current, FeatureLogout); err != nil {
		return err
	}
	_, err := write(ctx, d, caller, nil, func(tx Writer, log *logbook) (struct{}, error) {
		token, found, err := tx.TokenByID(caller.App, caller.Token)
		if err != nil || !found {
			return struct{}{}, err // revoked by somebody else meanwhile: the same outcome
		}
		return struct{}{}, revokeTokens(tx, log, caller.User, []Token{token})
	})
	return err
}

// RevokeTokens revokes every auth token of the app that was issued before a time, in Unix seconds; a time to come is
// taken as now. All of them end at once, with the first of its writes; the others only clear away what is left.
func (d *Directory) RevokeTokens(ctx context.Context, caller Caller, issuedBefore int64) (Revoked, error) {
	issuedBefore = min(issuedBefore, d.Now())
	revoked, err := revoke(ctx, d, caller, func(tx Writer, log *logbook) (Revoked, error) {
		app, err := requireApp(tx, caller.App)
		if err != nil || issuedBefore <= app.Settings.TokensValidFrom {
			return Revoked{}, err
		}
		count, err := tx.CountTokensIssued(caller.App, app.Settings.TokensValidFrom, issuedBefore)
		if err != nil {
			return Revoked{}, err
		}
		app.Settings.TokensValidFrom = issuedBefore
		if err := tx.PutApp(app); err != nil {
			return Revoked{}, err
		}
		return Revoked{Tokens: count}, log.append(AppUpdated, string(app.ID), fieldTokensValidFrom)
	})
	if err == nil {
		err = d.clearTokens(ctx, caller.App)
	}
	return revoked, err
}

// clearTokens deletes the tokens that the app's TokensValidFrom has revoked.
func (d *Directory) clearTokens(ctx context.Context, app AppID) error {
	for {
		cleared := 0
		err := d.store.Update(ctx, app, nil, func(tx Writer) error {
			current, found, err := tx.App(app)
			if err != nil || !found {
				return err
			}
			cleared, err = tx.DeleteTokensIssued(app, current.Settings.TokensValidFrom, sweepBatch)
			return err
		})
		if err != nil || cleared < sweepBatch {
			return err
		}
	}
}
