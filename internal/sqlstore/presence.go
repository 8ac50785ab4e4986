package sqlstore

import "github.com/rollcall/rollcall/internal/directory"

func (t *tx) PutOnline(app directory.AppID, uid directory.UID) error {
	return t.exec(
		`INSERT INTO presence_online (app, uid) VALUES ($1, $2) ON CONFLICT (app, uid) DO NOTHING`, string(app), string(uid),
	)
}

func (t *tx) DeleteOnline(app directory.AppID, uid directory.UID) error {
	return t.exec(`DELETE FROM presence_online WHERE app = $1 AND uid = $2`, string(app), string(uid))
}

func (t *tx) Online(app directory.AppID, limit int) ([]directory.UID, error) {
	return all(t, `SELECT uid FROM presence_online WHERE app = $1 LIMIT $2`, []any{string(app), limit},
		func(r row) directory.UID { return directory.UID(r.text(0)) })
}

func (t *tx) PutAlive(app directory.AppID, at int64) error {
	return t.exec(
		`INSERT INTO presence_alive (app, at) VALUES ($1, $2) ON CONFLICT (app) DO UPDATE SET at = excluded.at`, string(app),
		at,
	)
}

func (t *tx) Alive(app directory.AppID) (at int64, err error) {
	_, err = t.first(`SELECT at FROM presence_alive WHERE app = $1`, []any{string(app)}, func(r row) { at = r.integer(0) })
	return at, err
}

func (t *tx) AddTransitions(app directory.AppID, uid directory.UID, transitions []directory.Transition) error {
	for _, transition := range transitions {
		err := t.exec(`INSERT INTO presence_transitions (app, uid, device, at, status, cause) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (app, uid, device, at) DO UPDATE SET status = excluded.status, cause = excluded.cause`,
			string(app), string(uid), transition.Device, transition.At, transition.Status, transition.Cause)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) TrimTransitions(app directory.AppID, uid directory.UID, device string, kept int, before int64) error {
	err := t.exec(`DELETE FROM presence_transitions WHERE app = $1 AND uid = $2 AND device = $3 AND at <= (
		SELECT at FROM presence_transitions WHERE app = $1 AND uid = $2 AND device = $3 ORDER BY at DESC LIMIT 1 OFFSET $4)`,
		string(app), string(uid), device, kept)
	if err != nil {
		return err
	}
	return t.exec(
		`DELETE FROM presence_transitions WHERE app = $1 AND uid = $2 AND at < $3`, string(app), string(uid), before,
	)
}

func (t *tx) Transitions(app directory.AppID, uid directory.UID) ([]directory.Transition, error) {
	return all(t, `SELECT device, at, status, cause FROM presence_transitions WHERE app = $1 AND uid = $2 ORDER BY at DESC, device`,
		[]any{string(app), string(uid)}, func(r row) directory.Transition {
			return directory.Transition{Device: r.text(0), At: r.integer(1), Status: r.text(2), Cause: r.text(3)}
		})
}
