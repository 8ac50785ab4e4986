package sqlstore

import "github.com/rollcall/rollcall/internal/directory"

const tokenColumns = `id, uid, hash, sealed, minted_by, created_at, revision, platform, user_agent, device_id, app_info`

func readToken(r row) directory.Token {
	return directory.Token{
		ID: directory.TokenID(r.text(0)), UID: directory.UID(r.text(1)), Hash: r.blob(2), Sealed: r.blob(3),
		MintedBy:  directory.KeyID(r.text(4)),
		CreatedAt: r.integer(5), Revision: r.integer(6),
		Device: directory.Device{
			Platform: r.text(7), UserAgent: r.text(8), DeviceID: r.text(9), AppInfo: rawJSON(r.text(10)),
		},
	}
}

func (t *tx) firstToken(where string, args ...any) (token directory.Token, found bool, err error) {
	found, err = t.first(
		`SELECT `+tokenColumns+` FROM auth_tokens WHERE `+where, args, func(r row) { token = readToken(r) },
	)
	return token, found, err
}

func (t *tx) Token(app directory.AppID, uid directory.UID, hash []byte) (directory.Token, bool, error) {
	return t.firstToken(`app = $1 AND uid = $2 AND hash = $3`, string(app), string(uid), hash)
}

func (t *tx) TokenByID(app directory.AppID, id directory.TokenID) (directory.Token, bool, error) {
	return t.firstToken(`app = $1 AND id = $2`, string(app), string(id))
}

func (t *tx) Tokens(app directory.AppID, uid directory.UID, limit, offset int) ([]directory.Token, error) {
	return all(t, `SELECT `+tokenColumns+` FROM auth_tokens WHERE app = $1 AND uid = $2 ORDER BY revision DESC LIMIT $3 OFFSET $4`,
		[]any{string(app), string(uid), limit, offset}, readToken)
}

func (t *tx) CountTokens(app directory.AppID, uid directory.UID) (int, error) {
	return t.count(`SELECT count(*) FROM auth_tokens WHERE app = $1 AND uid = $2`, string(app), string(uid))
}

func (t *tx) CountTokensIssued(app directory.AppID, from, before int64) (int, error) {
	return t.count(
		`SELECT count(*) FROM auth_tokens WHERE app = $1 AND created_at >= $2 AND created_at < $3`, string(app), from, before,
	)
}

func (t *tx) PutToken(app directory.AppID, token directory.Token) error {
	return t.exec(`INSERT INTO auth_tokens (app, `+tokenColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (app, id) DO UPDATE SET hash = excluded.hash, sealed = excluded.sealed, platform = excluded.platform,
		user_agent = excluded.user_agent, device_id = excluded.device_id, app_info = excluded.app_info`,
		string(app), string(token.ID), string(token.UID), token.Hash, token.Sealed, string(token.MintedBy), token.CreatedAt,
		token.Revision,
		token.Device.Platform, token.Device.UserAgent, token.Device.DeviceID, string(token.Device.AppInfo))
}

func (t *tx) DeleteToken(app directory.AppID, id directory.TokenID) error {
	return t.exec(`DELETE FROM auth_tokens WHERE app = $1 AND id = $2`, string(app), string(id))
}

func (t *tx) DeleteTokensIssued(app directory.AppID, before int64, limit int) (int, error) {
	ids, err := all(t, `SELECT id FROM auth_tokens WHERE app = $1 AND created_at < $2 LIMIT $3`, []any{string(app), before, limit},
		func(r row) directory.TokenID { return directory.TokenID(r.text(0)) })
	for _, id := range ids {
		if err := t.DeleteToken(app, id); err != nil {
			return 0, err
		}
	}
	return len(ids), err
}

func (t *tx) DeleteTokensOfKey(app directory.AppID, key directory.KeyID) (int, error) {
	const those = ` FROM auth_tokens WHERE app = $1 AND minted_by = $2`
	count, err := t.count(`SELECT count(*)`+those, string(app), string(key))
	if err != nil || count == 0 {
		return 0, err
	}
	return count, t.exec(`DELETE`+those, string(app), string(key))
}

func (t *tx) TokensAfter(app directory.AppID, after directory.TokenID, limit int) ([]directory.Token, error) {
	return all(t, `SELECT `+tokenColumns+` FROM auth_tokens WHERE app = $1 AND id > $2 ORDER BY id LIMIT $3`,
		[]any{string(app), string(after), limit}, readToken)
}
