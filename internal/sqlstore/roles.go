package sqlstore

import "github.com/rollcall/rollcall/internal/directory"

const roleColumns = `role, name, description, metadata, settings, permissions, restricted, created_at, updated_at`

func readRole(r row) directory.Role {
	role := directory.Role{
		ID: r.text(0), Name: r.text(1), Description: r.text(2), Metadata: rawJSON(r.text(3)), CreatedAt: r.integer(7),
		UpdatedAt: r.integer(8),
	}
	decode(r.text(4), &role.Settings)
	decode(r.text(5), &role.Permissions)
	decode(r.text(6), &role.Restricted)
	return role
}

// rawJSON returns stored JSON text, nil for none.
func rawJSON(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

func (t *tx) Role(app directory.AppID, id string) (role directory.Role, found bool, err error) {
	found, err = t.first(`SELECT `+roleColumns+` FROM roles WHERE app = $1 AND role = $2`, []any{string(app), id}, func(r row) { role = readRole(r) })
	return role, found, err
}

func (t *tx) Roles(app directory.AppID) ([]directory.Role, error) {
	return all(
		t, `SELECT `+roleColumns+` FROM roles WHERE app = $1 ORDER BY created_at, role`, []any{string(app)}, readRole,
	)
}

func (t *tx) PutRole(app directory.AppID, role directory.Role) error {
	return t.exec(`INSERT INTO roles (app, `+roleColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (app, role) DO UPDATE SET name = excluded.name, description = excluded.description, metadata = excluded.metadata,
		settings = excluded.settings, permissions = excluded.permissions, restricted = excluded.restricted,
		created_at = excluded.created_at, updated_at = excluded.updated_at`,
		string(app), role.ID, role.Name, role.Description, string(role.Metadata), encode(role.Settings),
		encode(role.Permissions),
		encode(role.Restricted), role.CreatedAt, role.UpdatedAt)
}

func (t *tx) DeleteRole(app directory.AppID, id string) error {
	return t.exec(`DELETE FROM roles WHERE app = $1 AND role = $2`, string(app), id)
}
