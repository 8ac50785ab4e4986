package sqlstore

import (
	"slices"
	"strconv"

	"github.com/rollcall/rollcall/internal/directory"
)

// sides are the ways in which somebody is related to a user: the table, the column that names the other and the one
// that names the user, and what it means.
var sides = [...]struct {
	table, other, user string
	set                func(relation *directory.Relation, at int64)
}{
	{"blocks", "blocked", "uid", func(r *directory.Relation, at int64) { r.BlockedByMeAt = at }},
	{"blocks", "uid", "blocked", func(r *directory.Relation, at int64) { r.HasBlockedMeAt = at }},
	{"friends", "friend", "uid", func(r *directory.Relation, at int64) { r.FriendsSince = at }},
}

// Relations reads everything that a user has of a side when it is no more than the others are, which most users have,
// and else looks the others up. It asks once for all sides.
func (t *tx) Relations(
	app directory.AppID, of directory.UID, others []directory.UID,
) (map[directory.UID]directory.Relation, error) {
	relations := map[directory.UID]directory.Relation{}
	var found [len(sides)][]directory.Pair
	wanted := []int{0, 1, 2}
	if len(others) > 1 {
		if err := t.readSides(app, of, wanted, nil, len(others)+1, &found); err != nil {
			return nil, err
		}
		wanted = slices.DeleteFunc(wanted, func(side int) bool { return len(found[side]) <= len(others) })
		for _, side := range wanted {
			found[side] = nil
		}
	}
	if len(wanted) > 0 && len(others) > 0 {
		if err := t.readSides(app, of, wanted, padded(others), len(others), &found); err != nil {
			return nil, err
		}
	}
	for side, pairs := range found {
		for _, pair := range pairs {
			relation := relations[pair.Other]
			sides[side].set(&relation, pair.At)
			relations[pair.Other] = relation
		}
	}
	return relations, nil
}

// readSides reads at most so many relations of each wanted side of a user: those to the others, or to anybody when
// there are none.
func (t *tx) readSides(
	app directory.AppID, of directory.UID, wanted []int, others []directory.UID, most int,
	found *[len(sides)][]directory.Pair,
) error {
	s := statement{args: []any{string(app), string(of), most}}
	for n, side := range wanted {
		if n > 0 {
			s.add(` UNION ALL `)
		}
		s.add(`SELECT ` + strconv.Itoa(side) + ` AS side, other, at FROM (SELECT ` + sides[side].other + ` AS other, at FROM ` + sides[side].table +
			` WHERE app = $1 AND ` + sides[side].user + ` = $2`)
		if len(others) > 0 {
			s.add(` AND `)
			in(&s, sides[side].other, others)
		}
		s.add(` LIMIT $3) AS side` + strconv.Itoa(side))
	}
	return t.query(s.sql.String(), s.args, func(r row) error {
		side := r.integer(0)
		found[side] = append(found[side], directory.Pair{Other: directory.UID(r.text(1)), At: r.integer(2)})
		return nil
	})
}

// padded repeats the last of the values until there are as many as the next power of two: a list of any length makes
// one of few statements, which stay prepared.
func padded[T any](values []T) []T {
	size := 1
	for size < len(values) {
		size *= 2
	}
	if len(values) == 0 {
		return values
	}
	filled := append(make([]T, 0, size), values...)
	for len(filled) < size {
		filled = append(filled, values[len(values)-1])
	}
	return filled
}

func (t *tx) PutBlock(app directory.AppID, uid, blocked directory.UID, at int64) error {
	return t.exec(`INSERT INTO blocks (app, uid, blocked, at) VALUES ($1, $2, $3, $4) ON CONFLICT (app, uid, blocked) DO NOTHING`,
		string(app), string(uid), string(blocked), at)
}

func (t *tx) DeleteBlock(app directory.AppID, uid, blocked directory.UID) error {
	return t.exec(
		`DELETE FROM blocks WHERE app = $1 AND uid = $2 AND blocked = $3`, string(app), string(uid), string(blocked),
	)
}

func (t *tx) CountBlocks(app directory.AppID, uid directory.UID) (int, error) {
	return t.count(`SELECT count(*) FROM blocks WHERE app = $1 AND uid = $2`, string(app), string(uid))
}

func (t *tx) PutFriends(app directory.AppID, a, b directory.UID, at int64) error {
	for _, pair := range [][2]directory.UID{{a, b}, {b, a}} {
		err := t.exec(`INSERT INTO friends (app, uid, friend, at) VALUES ($1, $2, $3, $4) ON CONFLICT (app, uid, friend) DO NOTHING`,
			string(app), string(pair[0]), string(pair[1]), at)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) DeleteFriends(app directory.AppID, a, b directory.UID) error {
	for _, pair := range [][2]directory.UID{{a, b}, {b, a}} {
		if err := t.exec(
			`DELETE FROM friends WHERE app = $1 AND uid = $2 AND friend = $3`, string(app), string(pair[0]), string(pair[1]),
		); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) CountFriends(app directory.AppID, uid directory.UID) (int, error) {
	return t.count(`SELECT count(*) FROM friends WHERE app = $1 AND uid = $2`, string(app), string(uid))
}

func (t *tx) FriendRequest(app directory.AppID, uid, receiver directory.UID) (at int64, found bool, err error) {
	found, err = t.first(`SELECT at FROM friend_requests WHERE app = $1 AND uid = $2 AND receiver = $3`,
		[]any{string(app), string(uid), string(receiver)}, func(r row) { at = r.integer(0) })
	return at, found, err
}

func (t *tx) PutFriendRequest(app directory.AppID, uid, receiver directory.UID, at int64) error {
	return t.exec(`INSERT INTO friend_requests (app, uid, receiver, at) VALUES ($1, $2, $3, $4) ON CONFLICT (app, uid, receiver) DO NOTHING`,
		string(app), string(uid), string(receiver), at)
}

func (t *tx) DeleteFriendRequest(app directory.AppID, uid, receiver directory.UID) error {
	return t.exec(
		`DELETE FROM friend_requests WHERE app = $1 AND uid = $2 AND receiver = $3`, string(app), string(uid),
		string(receiver),
	)
}

func (t *tx) CountFriendRequests(app directory.AppID, uid directory.UID) (int, error) {
	return t.count(`SELECT count(*) FROM friend_requests WHERE app = $1 AND uid = $2`, string(app), string(uid))
}

// pairTables are where relations are kept: the table, and the column of the other user.
var pairTables = map[directory.PairKind]struct{ table, other string }{
	directory.Blocks: {"blocks", "blocked"}, directory.Friendships: {"friends", "friend"},
	directory.FriendRequests: {"friend_requests", "receiver"},
}

func readPair(r row) directory.Pair {
	return directory.Pair{UID: directory.UID(r.text(0)), Other: directory.UID(r.text(1)), At: r.integer(2)}
}

func (t *tx) Pairs(
	app directory.AppID, kind directory.PairKind, after directory.Pair, limit int,
) ([]directory.Pair, error) {
	place := pairTables[kind]
	once := ``
	if kind == directory.Friendships {
		once = ` AND uid < friend`
	}
	return all(t, `SELECT uid, `+place.other+`, at FROM `+place.table+` WHERE app = $1 AND (uid, `+place.other+`) > ($2, $3)`+once+
		` ORDER BY uid, `+place.other+` LIMIT $4`,
		[]any{string(app), string(after.UID), string(after.Other), limit}, readPair)
}

func (t *tx) PairsOf(app directory.AppID, kind directory.PairKind, uid directory.UID) ([]directory.Pair, error) {
	place := pairTables[kind]
	pairs, err := all(t, `SELECT uid, `+place.other+`, at FROM `+place.table+` WHERE app = $1 AND uid = $2 ORDER BY `+place.other,
		[]any{string(app), string(uid)}, readPair)
	if err != nil || kind == directory.Friendships {
		return pairs, err
	}
	received, err := all(t, `SELECT uid, `+place.other+`, at FROM `+place.table+` WHERE app = $1 AND `+place.other+` = $2 ORDER BY uid`,
		[]any{string(app), string(uid)}, readPair)
	return append(pairs, received...), err
}
