package sqlstore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

const userColumns = `uid, name, avatar, link, role, status_message, metadata, tags, created_at, updated_at, last_active_at, deactivated_at`

func readUser(r row) directory.User {
	var texts [8]string
	r.texts(texts[:])
	user := directory.User{
		UID: directory.UID(texts[0]), Name: texts[1], Avatar: texts[2], Link: texts[3], Role: texts[4],
		StatusMessage: texts[5],
		Metadata:      rawJSON(texts[6]), CreatedAt: r.integer(8), UpdatedAt: r.integer(9), LastActiveAt: r.integer(10),
		DeactivatedAt: r.integer(11),
	}
	user.Tags = readTags(texts[7])
	return user
}

// readTags reads what encode has written of tags. Nearly all are a list without anything escaped.
func readTags(text string) (tags []string) {
	if text == "" {
		return nil
	}
	if strings.Contains(text, "\\") || len(text) < len(`[""]`) {
		decode(text, &tags)
		return tags
	}
	return strings.Split(text[len(`["`):len(text)-len(`"]`)], `","`)
}

func (t *tx) User(app directory.AppID, uid directory.UID) (user directory.User, found bool, err error) {
	if cached, known := t.users.get(app, uid); known {
		if cached == nil {
			return user, false, nil
		}
		return *cached, true, nil
	}
	if !t.hot.mayBeOld() && t.hot.get(userKey{app, uid}, &user) {
		return user, true, nil
	}
	found, err = t.first(`SELECT `+userColumns+` FROM users WHERE app = $1 AND uid = $2`, []any{string(app), string(uid)},
		func(r row) { user = readUser(r) })
	if found && err == nil {
		t.hot.put(app, &user)
	}
	return user, found, err
}

// maxTogether is how many users one statement fetches.
const maxTogether = 256

func (t *tx) UsersNamed(app directory.AppID, uids []directory.UID) ([]directory.User, error) {
	users := make([]directory.User, len(uids))
	remembered, err := t.remembersAll(app)
	if err != nil {
		return nil, err
	}
	var cold []int
	for i, uid := range uids {
		if !remembered || !t.hot.get(userKey{app, uid}, &users[i]) {
			cold = append(cold, i)
		}
	}
	for some := range slices.Chunk(cold, maxTogether) {
		if err := t.fetch(app, uids, some, users); err != nil {
			return nil, err
		}
	}
	if len(cold) == 0 { // nobody is missing who was known
		return users, nil
	}
	return slices.DeleteFunc(users, func(user directory.User) bool { return user.UID == "" }), nil
}

// remembersAll reports whether what is remembered of an app's users is as new as the snapshot: whether everything that
// others had committed by then was handed on.
func (t *tx) remembersAll(app directory.AppID) (bool, error) {
	if !t.hot.mayBeOld() {
		return true, nil
	}
	snapshot, err := t.head(app)
	return err == nil && t.hot.shared.handedOn(app) >= snapshot.revision, err
}

// fetch reads those of the users that have the given places in uids.
func (t *tx) fetch(app directory.AppID, uids []directory.UID, places []int, into []directory.User) error {
	wanted := make([]directory.UID, len(places))
	at := make(map[directory.UID]int, len(places))
	for i, place := range places {
		wanted[i] = uids[place]
		at[uids[place]] = place
	}
	s := statement{args: []any{string(app)}}
	s.add(`SELECT ` + userColumns + ` FROM users WHERE app = $1 AND `)
	in(&s, `uid`, padded(wanted))
	return t.query(s.sql.String(), s.args, func(r row) error {
		user := readUser(r)
		into[at[user.UID]] = user
		t.hot.put(app, &user)
		return nil
	})
}

func (t *tx) UsersAfter(app directory.AppID, after directory.UID, limit int) ([]directory.User, error) {
	return all(t, `SELECT `+userColumns+` FROM users WHERE app = $1 AND uid > $2 ORDER BY uid LIMIT $3`,
		[]any{string(app), string(after), limit}, readUser)
}

func (t *tx) EachUser(app directory.AppID, metadata bool, each func(directory.User) error) error {
	metadataColumn := `''`
	if metadata {
		metadataColumn = `metadata`
	}
	hint, err := t.scanHint(app)
	if err != nil {
		return err
	}
	return t.query(`SELECT uid, name, role, `+metadataColumn+`, tags, created_at, updated_at, last_active_at, deactivated_at
		FROM users`+hint+` WHERE app = $1`,
		[]any{string(app)}, func(r row) error {
			var texts [5]string
			r.texts(texts[:])
			user := directory.User{
				UID: directory.UID(texts[0]), Name: texts[1], Role: texts[2], Metadata: rawJSON(texts[3]),
				CreatedAt: r.integer(5), UpdatedAt: r.integer(6), LastActiveAt: r.integer(7), DeactivatedAt: r.integer(8),
			}
			user.Tags = readTags(texts[4])
			return each(user)
		})
}

// scanHint makes SQLite read the whole table when an app has much of it: along the index of uids, which is what it
// would do, it would look for each row by itself.
func (t *tx) scanHint(app directory.AppID) (hint string, err error) {
	if _, ok := t.querier.(*reader); !ok {
		return "", nil
	}
	_, err = t.first(`SELECT 4 * revision >= (SELECT sum(revision) FROM revisions) FROM revisions WHERE app = $1`,
		[]any{string(app)}, func(r row) {
			if r.integer(0) == 1 {
				hint = ` NOT INDEXED`
			}
		})
	return hint, err
}

const putUser = `INSERT INTO users (app, ` + userColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
	ON CONFLICT (app, uid) DO UPDATE SET name = excluded.name, avatar = excluded.avatar,
	link = excluded.link, role = excluded.role, status_message = excluded.status_message, metadata = excluded.metadata,
	tags = excluded.tags, created_at = excluded.created_at, updated_at = excluded.updated_at,
	last_active_at = excluded.last_active_at, deactivated_at = excluded.deactivated_at`

func (t *tx) PutUser(app directory.AppID, user directory.User) error {
	if err := t.noteUser(app, directory.UserChange{UID: user.UID, User: &user}); err != nil {
		return err
	}
	t.users.put(app, user.UID, &user)
	tags := ""
	if len(user.Tags) > 0 {
		tags = encode(user.Tags)
	}
	return t.exec(putUser, string(app), string(user.UID), user.Name, user.Avatar, user.Link, user.Role, user.StatusMessage,
		string(user.Metadata), tags, user.CreatedAt, user.UpdatedAt, user.LastActiveAt, user.DeactivatedAt)
}

// noteUser notes what the update does to a user.
func (t *tx) noteUser(app directory.AppID, change directory.UserChange) error {
	if app != t.app {
		return fmt.Errorf("user of app %s changed outside its own update", app)
	}
	t.did.Users = append(t.did.Users, change)
	return nil
}

func (t *tx) PutLastActive(app directory.AppID, uid directory.UID, at int64) error {
	if err := t.noteUser(app, directory.UserChange{UID: uid, LastActiveAt: at}); err != nil {
		return err
	}
	if user, known := t.users.get(app, uid); known && user != nil {
		seen := *user
		seen.LastActiveAt = at
		t.users.put(app, uid, &seen)
	}
	return t.exec(`UPDATE users SET last_active_at = $3 WHERE app = $1 AND uid = $2`, string(app), string(uid), at)
}

func (t *tx) DeleteUser(app directory.AppID, uid directory.UID) error {
	if err := t.noteUser(app, directory.UserChange{UID: uid, Gone: true}); err != nil {
		return err
	}
	t.users.put(app, uid, nil)
	friends, err := all(t, `SELECT friend FROM friends WHERE app = $1 AND uid = $2`, []any{string(app), string(uid)},
		func(r row) directory.UID { return directory.UID(r.text(0)) })
	if err != nil {
		return err
	}
	for _, friend := range friends {
		if err := t.DeleteFriends(app, uid, friend); err != nil {
			return err
		}
	}
	for _, place := range []string{
		"auth_tokens WHERE app = $1 AND uid", "activity WHERE app = $1 AND uid", "users WHERE app = $1 AND uid",
		"presence_online WHERE app = $1 AND uid", "presence_transitions WHERE app = $1 AND uid",
		"blocks WHERE app = $1 AND uid", "blocks WHERE app = $1 AND blocked",
		"friend_requests WHERE app = $1 AND uid", "friend_requests WHERE app = $1 AND receiver",
	} {
		if err := t.exec(`DELETE FROM `+place+` = $2`, string(app), string(uid)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Active(app directory.AppID, day int64, uid directory.UID) (bool, error) {
	return t.first(
		`SELECT 1 FROM activity WHERE app = $1 AND day = $2 AND uid = $3`, []any{string(app), day, string(uid)}, func(row) {},
	)
}

func (t *tx) PutActive(app directory.AppID, day int64, uid directory.UID) error {
	return t.exec(
		`INSERT INTO activity (app, day, uid) VALUES ($1, $2, $3) ON CONFLICT (app, day, uid) DO NOTHING`, string(app), day,
		string(uid),
	)
}

func (t *tx) CountActive(app directory.AppID, from, to int64) (int, error) {
	return t.count(
		`SELECT count(DISTINCT uid) FROM activity WHERE app = $1 AND day BETWEEN $2 AND $3`, string(app), from, to,
	)
}
