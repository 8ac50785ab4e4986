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
		UID: directory.UID(texts[0]), Name: texts[1], Avatar: texts[2], Link: texts[3], Role: texts[4], StatusMessage: texts[5],
		Metadata: rawJSON(texts[6]), CreatedAt: r.integer(8), UpdatedAt: r.integer(9), LastActiveAt: r.integer(10), DeactivatedAt: r.integer(11),
	}
	if texts[7] != "" {
		decode(texts[7], &user.Tags)
	}
	return user
}

func (t *tx) User(app directory.AppID, uid directory.UID) (user directory.User, found bool, err error) {
	user, found, err = t.readUser(app, uid)
	if err == nil {
		t.draft.know(app, uid, user, found)
	}
	return user, found, err
}

func (t *tx) readUser(app directory.AppID, uid directory.UID) (user directory.User, found bool, err error) {
	if cached, known := t.users.get(app, uid); known {
		if cached == nil {
			return user, false, nil
		}
		return *cached, true, nil
	}
	if t.hot.get(userKey{app, uid}, &user) {
		return user, true, nil
	}
	if app == t.app && t.taken.free(uid) {
		return user, false, nil
	}
	found, err = t.first(`SELECT `+userColumns+` FROM users WHERE app = $1 AND uid = $2`, []any{string(app), string(uid)},
		func(r row) { user = readUser(r) })
	switch {
	case err != nil:
	case found:
		t.hot.put(app, &user)
	case app == t.app:
		t.taken.miss(1)
	}
	return user, found, err
}

// maxTogether is how many users one statement fetches.
const maxTogether = 256

// usersWith returns the users with these uids, in this order, without those who do not exist.
func (t *tx) usersWith(app directory.AppID, uids []directory.UID) ([]directory.User, error) {
	users := make([]directory.User, len(uids))
	var cold []int
	for i, uid := range uids {
		if !t.hot.get(userKey{app, uid}, &users[i]) {
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

func (t *tx) Users(query directory.UserQuery) ([]directory.User, error) {
	return t.usersOf(query, 0)
}

func (t *tx) UserPage(query directory.UserQuery) (users []directory.User, total int, err error) {
	if candidates, few, err := t.candidates(query); err != nil || few {
		if err != nil {
			return nil, 0, err
		}
		return t.pageAmong(query, candidates)
	}
	counted := query
	counted.After = nil
	if total, err = t.CountUsers(counted); err != nil || total == 0 {
		return nil, 0, err
	}
	users, err = t.usersOf(query, total)
	return users, total, err
}

// usersOf lists the users that a query selects, of which there are so many; zero when that is not known.
func (t *tx) usersOf(query directory.UserQuery, matches int) ([]directory.User, error) {
	way := alongOrder
	if matches > 0 && narrows(query) {
		everybody, err := t.total(directory.UserQuery{App: query.App, Activity: directory.ActiveOrDeactivated})
		if err != nil {
			return nil, err
		}
		way = cheaperWay(query.Offset+query.Limit, matches, everybody)
	}
	return t.usersFound(query, way)
}

func (t *tx) usersFound(query directory.UserQuery, way way) ([]directory.User, error) {
	if query.Limit == 0 {
		return nil, nil
	}
	begin := start{at: query.After}
	if t.census != nil && t.census.ranked(query) {
		var err error
		if query, begin, err = t.census.seek(t.ctx, t, query); err != nil {
			return nil, err
		}
	}
	var uids []directory.UID
	for _, stretch := range stretchesOf(query.Order, begin, query.Backward, way) {
		s, err := t.stretchStatement(query, stretch, way, `uid`, query.Limit-len(uids))
		if err != nil {
			return nil, err
		}
		found, err := t.uids(min(query.Limit-len(uids), 100), s)
		if err != nil {
			return nil, err
		}
		if uids = append(uids, found...); len(uids) == query.Limit {
			break
		}
		if query.Offset, err = t.restOfOffset(query, stretch, len(found)); err != nil {
			return nil, err
		}
	}
	return t.usersWith(query.App, uids)
}

// uids runs a statement for uids, of which there may be so many.
func (t *tx) uids(limit int, s *statement) ([]directory.UID, error) {
	return atMost(t, limit, s.sql.String(), s.args, func(r row) directory.UID { return directory.UID(r.text(0)) })
}

// restOfOffset returns how many users remain to be skipped behind a stretch that did not fill the page.
func (t *tx) restOfOffset(query directory.UserQuery, stretch stretch, found int) (int, error) {
	if query.Offset == 0 || found > 0 {
		return 0, nil
	}
	s, err := t.userStatement(query, alongOrder)
	if err != nil {
		return 0, err
	}
	s.add(`SELECT count(*) FROM (`)
	for i, arm := range stretch.arms() {
		if i > 0 {
			s.add(` UNION ALL `)
		}
		s.add(`SELECT 1 FROM users WHERE `)
		addUserConditions(s, query, alongOrder, arm)
		stretch.add(s, arm)
	}
	s.add(` LIMIT ` + s.arg(query.Offset) + `) AS skipped`)
	skipped, err := t.count(s.sql.String(), s.args...)
	return query.Offset - skipped, err
}

func (t *tx) CountUsers(query directory.UserQuery) (int, error) {
	if counted(query) && t.draft == nil { // what is drafted is counted when it is committed
		return t.total(query)
	}
	if t.census != nil && filterOnly(query) {
		if total, known, err := t.census.found(t.ctx, t, query); err != nil || known {
			return total, err
		}
	}
	return t.countMatches(query)
}

func (t *tx) countMatches(query directory.UserQuery) (int, error) {
	s, err := t.userStatement(query, byFilter)
	if err != nil {
		return 0, err
	}
	arms := everybody
	if query.ChangedAfter != 0 || query.ChangedBefore != 0 {
		arms = ordersOfTimes[directory.LastChangedFirst] // each has an index by that time
	}
	var counts []string
	for _, arm := range arms {
		s.sql.Reset()
		s.add(`(SELECT count(*) FROM users WHERE `)
		addUserConditions(s, query, byFilter, arm)
		counts = append(counts, s.sql.String()+`)`)
	}
	return t.count(`SELECT `+strings.Join(counts, ` + `), s.args...)
}

// userStatement returns an empty statement for users that a query selects. It has looked which searches find many of them, if
// they are to be found by filter.
func (t *tx) userStatement(query directory.UserQuery, way way) (*statement, error) {
	s := &statement{broad: map[search]bool{}}
	if way == byFilter {
		for _, wanted := range searchesOf(query) {
			broad, err := t.findsMany(query.App, wanted)
			if err != nil {
				return nil, err
			}
			s.broad[wanted] = broad
		}
	}
	return s, nil
}

// searchesOf returns everything that a query looks for in uids and names.
func searchesOf(query directory.UserQuery) (searches []search) {
	if query.Search != "" {
		searches = append(searches, search{query.Search, query.SearchUID, query.SearchName})
	}
	for _, word := range query.Words {
		searches = append(searches, search{word, false, true})
	}
	return searches
}

// search is where a text is looked for.
type search struct {
	text          string
	inUID, inName bool
}

// placesKey is a search in an app.
type placesKey struct {
	app    directory.AppID
	wanted search
}

// fewPlaces is how many places are worth gathering of which a search finds users.
const fewPlaces = 4000

// findsMany reports whether more than fewPlaces hold a text. It looks at no more places than that.
func (t *tx) findsMany(app directory.AppID, wanted search) (bool, error) {
	if many, known := t.many[placesKey{app, wanted}]; known {
		return many, nil
	}
	var s statement
	var counts []string
	for _, place := range searchPlaces(&s, s.arg(string(app)), wanted) {
		counts = append(counts, `(SELECT count(*) FROM (`+place+` LIMIT `+s.arg(fewPlaces+1)+`) AS places)`)
	}
	s.add(`SELECT ` + strings.Join(counts, ` + `))
	count, err := t.count(s.sql.String(), s.args...)
	if err != nil {
		return false, err
	}
	if t.many == nil {
		t.many = map[placesKey]bool{}
	}
	t.many[placesKey{app, wanted}] = count > fewPlaces
	return count > fewPlaces, nil
}

// way is how the users of a query are found.
type way int

const (
	// byFilter gathers them from the index of a filter, and sorts them.
	byFilter way = iota
	// alongOrder meets them along the index of an order, which is to say no other index than that serves the statement.
	alongOrder
)

// narrows reports whether a query has a filter with an index.
func narrows(query directory.UserQuery) bool {
	return query.Search != "" || onlyOtherRoles(query) || query.Activity == directory.DeactivatedOnly ||
		len(query.Words)+len(query.UIDs)+len(query.Tags)+len(query.Metadata)+len(query.Related) > 0
}

// cheaperWay returns the better way to a page of so many users, behind whatever is skipped, when so many of everybody match.
// To gather a user costs about twice as much as to look at one along the way.
func cheaperWay(page, matches, everybody int) way {
	if 2*matches <= page*everybody/matches {
		return byFilter
	}
	return alongOrder
}

// onlyOtherRoles reports whether a query selects roles, and the default one, which nearly all users have, is not among them.
func onlyOtherRoles(query directory.UserQuery) bool {
	return len(query.Roles) > 0 && !slices.Contains(query.Roles, directory.DefaultRole)
}

// lastText sorts after every text that starts with a prefix, when put behind it.
const lastText = "\U0010FFFF"

// addUserConditions adds what a query selects among the users of an arm. Along an order, what filters is written so that no
// index of users serves it, and is looked up for each user instead of being gathered.
func addUserConditions(s *statement, query directory.UserQuery, way way, arm arm) {
	app := s.arg(string(query.App))
	s.add(`users.app = ` + app + arm.condition)
	uid, role, deactivatedAt := `uid`, `role`, `deactivated_at`
	if way == alongOrder {
		uid, role, deactivatedAt = `(uid || '')`, `(role || '')`, `(deactivated_at + 0)`
	}
	switch query.Activity {
	case directory.ActiveOnly:
		s.add(` AND deactivated_at = 0`)
	case directory.DeactivatedOnly:
		s.add(` AND ` + deactivatedAt + ` <> 0`)
	case directory.ActiveOrDeactivated:
	}
	if query.NotUID != "" {
		s.add(` AND uid <> ` + s.arg(string(query.NotUID)))
	}
	if query.ChangedAfter != 0 {
		s.add(` AND ` + arm.changedAt + ` > ` + s.arg(query.ChangedAfter))
	}
	if query.ChangedBefore != 0 {
		s.add(` AND ` + arm.changedAt + ` < ` + s.arg(query.ChangedBefore))
	}
	for _, wanted := range searchesOf(query) {
		addSearch(s, app, way, wanted)
	}
	if len(query.Roles) > 0 {
		s.add(` AND `)
		in(s, role, query.Roles)
		if onlyOtherRoles(query) {
			s.add(` AND ` + role + ` <> 'default'`) // lets the index of users with another role serve it
		}
	}
	if len(query.UIDs) > 0 {
		s.add(` AND `)
		in(s, uid, query.UIDs)
	}
	if len(query.Tags) > 0 {
		addPlaces(s, way, `user_tags`, app, func() { in(s, `tag`, query.Tags) })
	}
	for _, filter := range query.Metadata {
		addPlaces(s, way, `user_metadata`, app, func() { addMetadataFilter(s, filter) })
	}
	for _, related := range query.Related {
		s.add(` AND ` + uid + ` IN (` + relatedUIDs(s, app, related) + `)`)
	}
	if query.NotBlockedWith != "" {
		s.add(` AND uid NOT IN (` + relatedUIDs(s, app, directory.Related{To: query.NotBlockedWith, Blocked: true, Blockers: true}) + `)`)
	}
}

// addPlaces adds that a table has a row for the user that condition is true of.
func addPlaces(s *statement, way way, table, app string, condition func()) {
	if way == alongOrder {
		s.add(` AND EXISTS (SELECT 1 FROM ` + table + ` WHERE app = ` + app + ` AND ` + table + `.uid = (users.uid || '') AND `)
	} else {
		s.add(` AND uid IN (SELECT uid FROM ` + table + ` WHERE app = ` + app + ` AND `)
	}
	condition()
	s.add(`)`)
}

func addMetadataFilter(s *statement, filter directory.MetadataFilter) {
	s.add(`key = ` + s.arg(filter.Key) + ` AND `)
	in(s, `value`, filter.Values)
}

// searchPlaces returns a query for each place in which a text is looked for. Each is served by an index.
func searchPlaces(s *statement, app string, wanted search) (places []string) {
	from, to := s.arg(wanted.text), s.arg(wanted.text+lastText)
	if wanted.inUID {
		places = append(places, `SELECT uid FROM users WHERE app = `+app+` AND uid >= `+from+` AND uid < `+to)
	}
	if wanted.inName {
		places = append(places,
			`SELECT uid FROM users WHERE app = `+app+` AND name_key >= `+from+` AND name_key < `+to,
			`SELECT uid FROM user_terms WHERE app = `+app+` AND term >= `+from+` AND term < `+to)
	}
	return places
}

// addSearch adds that the uid, or the name from any of its words on, starts with a text. When that is true of many, it is
// cheaper to look at every user that comes along than to gather them.
func addSearch(s *statement, app string, way way, wanted search) {
	if way == byFilter && !s.broad[wanted] {
		s.add(` AND uid IN (` + strings.Join(searchPlaces(s, app, wanted), ` UNION ALL `) + `)`)
		return
	}
	uid, name := `uid`, `name_key`
	if way == alongOrder {
		uid, name = `(uid || '')`, `(name_key || '')`
	}
	from, to := s.arg(wanted.text), s.arg(wanted.text+lastText)
	var found []string
	if wanted.inUID {
		found = append(found, uid+` >= `+from+` AND `+uid+` < `+to)
	}
	if wanted.inName {
		found = append(found, name+` >= `+from+` AND `+name+` < `+to, `replace(name_key, `+s.arg(" "+wanted.text)+`, '') <> name_key`)
	}
	s.add(` AND (` + strings.Join(found, ` OR `) + `)`)
}

const (
	insertUser = `INSERT INTO users (app, name_key, ` + userColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`
	upsertUser = insertUser + `
		ON CONFLICT (app, uid) DO UPDATE SET name_key = excluded.name_key, name = excluded.name, avatar = excluded.avatar,
		link = excluded.link, role = excluded.role, status_message = excluded.status_message, metadata = excluded.metadata,
		tags = excluded.tags, created_at = excluded.created_at, updated_at = excluded.updated_at, last_active_at = excluded.last_active_at,
		deactivated_at = excluded.deactivated_at`
)

func (t *tx) PutUser(app directory.AppID, user directory.User) error {
	if app != t.app {
		return fmt.Errorf("user put into app %s outside its own update", app)
	}
	exists, err := t.noteMove(app, user.UID, &user)
	if err != nil {
		return err
	}
	t.users.put(app, user.UID, &user)
	tags := ""
	if len(user.Tags) > 0 {
		tags = encode(user.Tags)
	}
	sql := upsertUser
	if !exists {
		sql = insertUser // costs less: it does not look for a conflict
		t.taken.take(user.UID)
	}
	return t.exec(sql, string(app), directory.FoldText(user.Name), string(user.UID), user.Name, user.Avatar, user.Link, user.Role, user.StatusMessage,
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

func (t *tx) MoveUserTerms(app directory.AppID, uid directory.UID, from, to []string) error {
	for _, term := range from {
		if slices.Contains(to, term) {
			continue
		}
		if err := t.exec(`DELETE FROM user_terms WHERE app = $1 AND term = $2 AND uid = $3`, string(app), term, string(uid)); err != nil {
			return err
		}
	}
	for _, term := range to {
		if slices.Contains(from, term) {
			continue
		}
		if err := t.exec(`INSERT INTO user_terms (app, term, uid) VALUES ($1, $2, $3)`, string(app), term, string(uid)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) MoveUserMetadata(app directory.AppID, uid directory.UID, from, to []directory.MetadataValue) error {
	for _, value := range from {
		if slices.Contains(to, value) {
			continue
		}
		if err := t.exec(`DELETE FROM user_metadata WHERE app = $1 AND key = $2 AND value = $3 AND uid = $4`, string(app), value.Key, value.Value, string(uid)); err != nil {
			return err
		}
	}
	for _, value := range to {
		if slices.Contains(from, value) {
			continue
		}
		if err := t.exec(`INSERT INTO user_metadata (app, key, value, uid) VALUES ($1, $2, $3, $4) ON CONFLICT (app, key, value, uid) DO NOTHING`,
			string(app), value.Key, value.Value, string(uid)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) DeleteMetadataValues(app directory.AppID, key string, limit int) (int, error) {
	type place struct{ value, uid string }
	places, err := all(t, `SELECT value, uid FROM user_metadata WHERE app = $1 AND key = $2 LIMIT $3`, []any{string(app), key, limit},
		func(r row) place { return place{r.text(0), r.text(1)} })
	for _, p := range places {
		if err := t.exec(`DELETE FROM user_metadata WHERE app = $1 AND key = $2 AND value = $3 AND uid = $4`, string(app), key, p.value, p.uid); err != nil {
			return 0, err
		}
	}
	return len(places), err
}

func (t *tx) DeleteUser(app directory.AppID, uid directory.UID) error {
	if _, err := t.noteMove(app, uid, nil); err != nil {
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
		"user_tags WHERE app = $1 AND uid", "auth_tokens WHERE app = $1 AND uid", "activity WHERE app = $1 AND uid", "users WHERE app = $1 AND uid",
		"presence_online WHERE app = $1 AND uid", "presence_transitions WHERE app = $1 AND uid",
		"blocks WHERE app = $1 AND uid", "blocks WHERE app = $1 AND blocked", "friend_requests WHERE app = $1 AND uid", "friend_requests WHERE app = $1 AND receiver",
	} {
		if err := t.exec(`DELETE FROM `+place+` = $2`, string(app), string(uid)); err != nil {
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
