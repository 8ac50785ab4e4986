package sqlstore

import "github.com/rollcall/rollcall/internal/directory"

const keyColumns = `id, name, scope, hash, sealed, created_by, created_at, expires_at, last_used_at`

func readAPIKey(r row) directory.Key {
	return directory.Key{
		ID: directory.KeyID(r.text(0)), Name: r.text(1), Scope: directory.Scope(r.text(2)), Hash: r.blob(3),
		Sealed: r.blob(4), CreatedBy: directory.Actor(r.text(5)), CreatedAt: r.integer(6),
		ExpiresAt: r.integer(7), LastUsedAt: r.integer(8),
	}
}

func (t *tx) Keys(app directory.AppID) ([]directory.Key, error) {
	return all(
		t, `SELECT `+keyColumns+` FROM api_keys WHERE app = $1 ORDER BY created_at DESC, id`, []any{string(app)}, readAPIKey,
	)
}

func (t *tx) PutKey(app directory.AppID, key directory.Key) error {
	return t.exec(`INSERT INTO api_keys (app, `+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (app, id) DO UPDATE SET name = excluded.name, scope = excluded.scope, hash = excluded.hash,
		sealed = excluded.sealed, expires_at = excluded.expires_at, last_used_at = excluded.last_used_at`,
		string(app), string(key.ID), key.Name, string(key.Scope), key.Hash, key.Sealed, string(key.CreatedBy), key.CreatedAt,
		key.ExpiresAt, key.LastUsedAt)
}

func (t *tx) DeleteKey(app directory.AppID, id directory.KeyID) error {
	return t.exec(`DELETE FROM api_keys WHERE app = $1 AND id = $2`, string(app), string(id))
}
