package sqlstore

import (
	"encoding/json"

	"github.com/rollcall/rollcall/internal/directory"
)

const appColumns = `app, name, region, owner, settings, salt, created_at, delete_at`

func readApp(r row) directory.App {
	app := directory.App{
		ID: directory.AppID(r.text(0)), Name: r.text(1), Region: r.text(2), Owner: r.text(3), Salt: r.blob(5),
		CreatedAt: r.integer(6), DeleteAt: r.integer(7),
	}
	decode(r.text(4), &app.Settings)
	return app
}

// encode returns the text in which a structured column is kept; empty for a zero value.
func encode(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic("encode column: " + err.Error()) // only plain structs and maps are kept this way
	}
	return string(text)
}

// decode reads what encode wrote. It leaves the value alone when the text is empty.
func decode(text string, value any) {
	if text == "" {
		return
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		panic("decode column: " + err.Error()) // the text was written by encode
	}
}

func (t *tx) App(id directory.AppID) (app directory.App, found bool, err error) {
	if app, found = t.apps[id]; found && !t.appsChanged {
		return app, true, nil
	}
	found, err = t.first(
		`SELECT `+appColumns+` FROM apps WHERE app = $1`, []any{string(id)}, func(r row) { app = readApp(r) },
	)
	if found && err == nil && t.apps != nil && !t.appsChanged {
		t.apps[id] = app
	}
	return app, found, err
}

func (t *tx) Apps() ([]directory.App, error) {
	return all(t, `SELECT `+appColumns+` FROM apps ORDER BY created_at DESC, app`, nil, readApp)
}

func (t *tx) CountApps() (int, error) { return t.count(`SELECT count(*) FROM apps`) }

func (t *tx) PutApp(app directory.App) error {
	t.appsChanged = true
	if app.ID == t.app {
		t.did.AppRow = &app
	}
	return t.exec(`INSERT INTO apps (`+appColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (app) DO UPDATE SET name = excluded.name, region = excluded.region, owner = excluded.owner,
		settings = excluded.settings, salt = excluded.salt, delete_at = excluded.delete_at`,
		string(app.ID), app.Name, app.Region, app.Owner, encode(app.Settings), app.Salt, app.CreatedAt, app.DeleteAt)
}

func (t *tx) DeleteApp(app directory.AppID) error {
	t.appsChanged = true
	for _, table := range []string{
		"collaborators", "api_keys", "roles", "users", "blocks", "friends", "friend_requests", "auth_tokens", "answers",
		"answer_subjects", "activity", "presence_alive", "presence_online", "presence_transitions", "changes", "apps",
	} {
		if err := t.exec(`DELETE FROM `+table+` WHERE app = $1`, string(app)); err != nil {
			return err
		}
	}
	t.did.Gone = t.did.Gone || app == t.app
	t.did.Users = nil
	return nil
}

func (t *tx) Collaborators(app directory.AppID) ([]directory.Collaborator, error) {
	return all(t, `SELECT email, name, role, created_at FROM collaborators WHERE app = $1 ORDER BY created_at, email`, []any{string(app)},
		func(r row) directory.Collaborator {
			return directory.Collaborator{Email: r.text(0), Name: r.text(1), Role: r.text(2), CreatedAt: r.integer(3)}
		})
}

func (t *tx) PutCollaborator(app directory.AppID, c directory.Collaborator) error {
	return t.exec(`INSERT INTO collaborators (app, email, name, role, created_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (app, email) DO UPDATE SET name = excluded.name, role = excluded.role`,
		string(app), c.Email, c.Name, c.Role, c.CreatedAt)
}

func (t *tx) DeleteCollaborator(app directory.AppID, email string) error {
	return t.exec(`DELETE FROM collaborators WHERE app = $1 AND email = $2`, string(app), email)
}
