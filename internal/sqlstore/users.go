package sqlstore

import (
	"slices"

	"github.com/rollcall/rollcall/internal/directory"
)

const userColumns = `uid, name, avatar, link, role, status_message, metadata, tags, created_at, updated_at, last_active_at, deactivated_at`

func readUser(r row) directory.User {
	user := directory.User{
		UID: directory.UID(r.text(0)), Name: r.text(1), Avatar: r.text(2), Link: r.text(3), Role: r.text(4), StatusMessage: r.text(5),
		Metadata: rawJSON(r.text(6)), CreatedAt: r.integer(8), UpdatedAt: r.integer(9), LastActiveAt: r.integer(10), DeactivatedAt: r.integer(11),
	}
	decode(r.text(7), &user.Tags)
	return user
}

func (t *tx) User(app directory.AppID, uid directory.UID) (user directory.User, found bool, err error) {
	if cached, known := t.users.get(app, uid); known {
		if cached == nil {
			return user, false, nil
		}
		return *cached, true, nil
	}
	found, err = t.first(`SELECT `+userColumns+` FROM users WHERE app = $1 AND uid = $2`, []any{string(app), string(uid)},
		func(r row) { user = readUser(r) })
	return user, found, err
}

func (t *tx) Users(query directory.UserQuery) ([]directory.User, error) {
	var s statement
	s.add(`SELECT ` + userColumns + ` FROM users WHERE `)
	addUserConditions(&s, query)
	switch query.Order {
	case directory.ByName:
		s.add(` ORDER BY name_key, uid`)
	default:
		s.add(` ORDER BY created_at DESC, uid`)
	}
	s.add(` LIMIT ` + s.arg(query.Limit) + ` OFFSET ` + s.arg(query.Offset))
	return all(t, s.sql.String(), s.args, readUser)
}

func (t *tx) CountUsers(query directory.UserQuery) (int, error) {
	var s statement
	s.add(`SELECT count(*) FROM users WHERE `)
	addUserConditions(&s, query)
	return t.count(s.sql.String(), s.args...)
}

// lastText sorts after every text that starts with a prefix, when put behind it.
const lastText = "\U0010FFFF"

func addUserConditions(s *statement, query directory.UserQuery) {
	s.add(`users.app = ` + s.arg(string(query.App)))
	switch query.Activity {
	case directory.ActiveOnly:
		s.add(` AND deactivated_at = 0`)
	case directory.DeactivatedOnly:
		s.add(` AND deactivated_at <> 0`)
	case directory.ActiveOrDeactivated:
	}
	if query.NotUID != "" {
		s.add(` AND uid <> ` + s.arg(string(query.NotUID)))
	}
	if query.Search != "" {
		from, to := s.arg(query.Search), s.arg(query.Search+lastText)
		uidMatches := `uid >= ` + from + ` AND uid < ` + to
		nameMatches := `name_key >= ` + from + ` AND name_key < ` + to
		switch {
		case query.SearchUID && query.SearchName:
			s.add(` AND (` + uidMatches + ` OR ` + nameMatches + `)`)
		case query.SearchUID:
			s.add(` AND ` + uidMatches)
		default:
			s.add(` AND ` + nameMatches)
		}
	}
	if len(query.Roles) > 0 {
		s.add(` AND `)
		in(s, `role`, query.Roles)
		if !slices.Contains(query.Roles, directory.DefaultRole) {
			s.add(` AND role <> 'default'`) // lets the index of users with another role serve it
		}
	}
	if len(query.UIDs) > 0 {
		s.add(` AND `)
		in(s, `uid`, query.UIDs)
	}
	if len(query.Tags) > 0 {
		s.add(` AND uid IN (SELECT uid FROM user_tags WHERE app = ` + s.arg(string(query.App)) + ` AND `)
		in(s, `tag`, query.Tags)
		s.add(`)`)
	}
}

func (t *tx) PutUser(app directory.AppID, user directory.User) error {
	t.users.put(app, user.UID, &user)
	tags := ""
	if len(user.Tags) > 0 {
		tags = encode(user.Tags)
	}
	return t.exec(`INSERT INTO users (app, name_key, `+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (app, uid) DO UPDATE SET name_key = excluded.name_key, name = excluded.name, avatar = excluded.avatar,
		link = excluded.link, role = excluded.role, status_message = excluded.status_message, metadata = excluded.metadata,
		tags = excluded.tags, updated_at = excluded.updated_at, last_active_at = excluded.last_active_at,
		deactivated_at = excluded.deactivated_at`,
		string(app), directory.FoldText(user.Name), string(user.UID), user.Name, user.Avatar, user.Link, user.Role, user.StatusMessage,
		string(user.Metadata), tags, user.CreatedAt, user.UpdatedAt, user.LastActiveAt, user.DeactivatedAt)
}

func (t *tx) PutUserTags(app directory.AppID, uid directory.UID, tags []string) error {
	if err := t.exec(`DELETE FROM user_tags WHERE app = $1 AND uid = $2`, string(app), string(uid)); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := t.exec(`INSERT INTO user_tags (app, uid, tag) VALUES ($1, $2, $3)`, string(app), string(uid), tag); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) DeleteUser(app directory.AppID, uid directory.UID) error {
	t.users.put(app, uid, nil)
	for _, table := range []string{"user_tags", "auth_tokens", "activity", "users"} {
		if err := t.exec(`DELETE FROM `+table+` WHERE app = $1 AND uid = $2`, string(app), string(uid)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Active(app directory.AppID, day int64, uid directory.UID) (bool, error) {
	return t.first(`SELECT 1 FROM activity WHERE app = $1 AND day = $2 AND uid = $3`, []any{string(app), day, string(uid)}, func(row) {})
}

func (t *tx) PutActive(app directory.AppID, day int64, uid directory.UID) error {
	return t.exec(`INSERT INTO activity (app, day, uid) VALUES ($1, $2, $3) ON CONFLICT (app, day, uid) DO NOTHING`, string(app), day, string(uid))
}

func (t *tx) CountActive(app directory.AppID, from, to int64) (int, error) {
	return t.count(`SELECT count(DISTINCT uid) FROM activity WHERE app = $1 AND day BETWEEN $2 AND $3`, string(app), from, to)
}
