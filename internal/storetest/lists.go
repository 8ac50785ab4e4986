package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

func uidsOf(users []directory.User) []directory.UID {
	uids := []directory.UID{}
	for _, user := range users {
		uids = append(uids, user.UID)
	}
	return uids
}

// testOrders reads every order forward and backward, whole and page by page, with many users who are equal but for their
// uids.
func testOrders(t *testing.T, s directory.Store) {
	var users []directory.User
	for i := range 60 {
		users = append(users, directory.User{
			UID: directory.UID(fmt.Sprintf("u%02d", (i*37)%60)), Name: fmt.Sprintf("Name %d", i%7), Role: "default",
			CreatedAt: int64(100 + i%4), UpdatedAt: int64(i % 3 * 101), LastActiveAt: int64(i % 5 * 10),
		})
	}
	update(t, s, func(tx directory.Tx) error {
		for _, user := range users {
			if err := tx.PutUser(app, user); err != nil {
				return err
			}
		}
		return nil
	})
	changed := func(u directory.User) int64 {
		if u.UpdatedAt == 0 {
			return u.CreatedAt
		}
		return u.UpdatedAt
	}
	for order, compare := range map[directory.Order]func(a, b directory.User) int{
		directory.NewestFirst:      func(a, b directory.User) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) },
		directory.ByName:           func(a, b directory.User) int { return cmp.Compare(a.Name, b.Name) },
		directory.LastChangedFirst: func(a, b directory.User) int { return cmp.Compare(changed(b), changed(a)) },
		directory.LastActiveFirst: func(a, b directory.User) int {
			return cmp.Or(cmp.Compare(b.LastActiveAt, a.LastActiveAt), cmp.Compare(b.CreatedAt, a.CreatedAt))
		},
	} {
		want := slices.Clone(users)
		slices.SortFunc(want, func(a, b directory.User) int { return cmp.Or(compare(a, b), cmp.Compare(a.UID, b.UID)) })
		for _, backward := range []bool{false, true} {
			query := directory.UserQuery{App: app, Order: order, Backward: backward, Limit: 100}
			view(t, s, func(tx directory.Tx) error {
				got, err := tx.Users(query)
				equal(t, uidsOf(got), uidsOf(want))
				query.Limit = 7
				var walked []directory.User
				for range 20 {
					page, err := tx.Users(query)
					if err != nil || len(page) == 0 {
						break
					}
					walked = append(walked, page...)
					position := directory.PositionOf(order, page[len(page)-1])
					query.After = &position
				}
				equal(t, uidsOf(walked), uidsOf(want))
				return err
			})
			slices.Reverse(want)
		}
	}
	view(t, s, func(tx directory.Tx) error {
		after, errAfter := tx.CountUsers(directory.UserQuery{App: app, ChangedAfter: 102})
		before, errBefore := tx.CountUsers(directory.UserQuery{App: app, ChangedBefore: 102})
		count := func(matches func(int64) bool) (n int) {
			for _, user := range users {
				if matches(changed(user)) {
					n++
				}
			}
			return n
		}
		equal(t, after, count(func(at int64) bool { return at > 102 }))
		equal(t, before, count(func(at int64) bool { return at < 102 }))
		return errors.Join(errAfter, errBefore)
	})
}

func testSearch(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Tx) error {
		return errors.Join(
			tx.PutUser(app, directory.User{UID: "smith", Name: "Ann", Role: "default"}),
			tx.PutUser(app, directory.User{UID: "b", Name: "Bob Van Smith", Role: "default"}),
			tx.PutUser(app, directory.User{UID: "c", Name: "Smithers", Role: "default"}),
			tx.PutUser(app, directory.User{UID: "d", Name: "Locksmith", Role: "default"}),
			tx.MoveUserTerms(app, "b", nil, []string{"van smith", "smith"}),
			tx.MoveUserTerms("other", "d", nil, []string{"smith"}),
		)
	})
	for _, test := range []struct {
		query directory.UserQuery
		want  []directory.UID
	}{
		{directory.UserQuery{Search: "smith", SearchUID: true, SearchName: true}, []directory.UID{"smith", "b", "c"}},
		{directory.UserQuery{Search: "smith", SearchUID: true}, []directory.UID{"smith"}},
		{directory.UserQuery{Search: "van s", SearchName: true}, []directory.UID{"b"}},
		{directory.UserQuery{Search: "%", SearchUID: true, SearchName: true}, []directory.UID{}},
		{directory.UserQuery{Words: []string{"smi", "bo"}}, []directory.UID{"b"}},
		{directory.UserQuery{Words: []string{"smi", "ann"}}, []directory.UID{}},
	} {
		test.query.App, test.query.Order, test.query.Limit = app, directory.ByName, 10
		view(t, s, func(tx directory.Tx) error {
			got, err := tx.Users(test.query)
			equal(t, uidsOf(got), test.want)
			count, errCount := tx.CountUsers(test.query)
			equal(t, count, len(test.want))
			test.query.Limit = 2
			page, total, errPage := tx.UserPage(test.query)
			equal(t, uidsOf(page), test.want[:min(2, len(test.want))])
			equal(t, total, len(test.want))
			return errors.Join(err, errCount, errPage)
		})
	}
	update(t, s, func(tx directory.Tx) error {
		return tx.MoveUserTerms(app, "b", []string{"van smith", "smith"}, []string{"van", "smith"})
	})
	view(t, s, func(tx directory.Tx) error {
		count, err := tx.CountUsers(directory.UserQuery{App: app, Words: []string{"van smith"}})
		equal(t, count, 0)
		kept, errKept := tx.CountUsers(directory.UserQuery{App: app, Words: []string{"smith"}})
		equal(t, kept, 2)
		return errors.Join(err, errKept)
	})
}

func testRelations(t *testing.T, s directory.Store) {
	uids := []directory.UID{"a", "b", "c", "d", "e"}
	update(t, s, func(tx directory.Tx) error {
		for _, uid := range uids {
			if err := tx.PutUser(app, directory.User{UID: uid, Name: string(uid), Role: "default"}); err != nil {
				return err
			}
		}
		return errors.Join(
			tx.PutBlock(app, "a", "b", 5), tx.PutBlock(app, "a", "b", 6), tx.PutBlock(app, "c", "a", 7), tx.PutBlock("other", "a", "d", 8),
			tx.PutFriends(app, "a", "d", 9), tx.PutFriends(app, "b", "a", 10),
			tx.PutFriendRequest(app, "a", "e", 11), tx.PutFriendRequest(app, "c", "a", 12),
		)
	})
	list := func(tx directory.Tx, query directory.UserQuery) []directory.UID {
		query.App, query.Order, query.Limit = app, directory.ByName, 10
		users, err := tx.Users(query)
		if err != nil {
			t.Error(err)
		}
		return uidsOf(users)
	}
	related := func(tx directory.Tx, r directory.Related) []directory.UID {
		r.To = "a"
		return list(tx, directory.UserQuery{Related: []directory.Related{r}})
	}
	view(t, s, func(tx directory.Tx) error {
		relations, err := tx.Relations(app, "a", []directory.UID{"b", "c", "d", "e", "nobody"})
		equal(t, relations, map[directory.UID]directory.Relation{
			"b": {BlockedByMeAt: 5, FriendsSince: 10}, "c": {HasBlockedMeAt: 7}, "d": {FriendsSince: 9},
		})
		equal(t, related(tx, directory.Related{Blocked: true}), []directory.UID{"b"})
		equal(t, related(tx, directory.Related{Blockers: true}), []directory.UID{"c"})
		equal(t, related(tx, directory.Related{Blocked: true, Blockers: true}), []directory.UID{"b", "c"})
		equal(t, related(tx, directory.Related{Blocked: true, Blockers: true, BlockersAmongFriends: true}), []directory.UID{"b"})
		equal(t, related(tx, directory.Related{Blockers: true, BlockersOfRoles: []string{"default", "other"}}), []directory.UID{"c"})
		equal(t, related(tx, directory.Related{Blockers: true, BlockersOfRoles: []string{"other"}}), []directory.UID{})
		equal(t, related(tx, directory.Related{Friends: true}), []directory.UID{"b", "d"})
		equal(t, related(tx, directory.Related{Asked: true}), []directory.UID{"e"})
		equal(t, related(tx, directory.Related{Asking: true}), []directory.UID{"c"})
		equal(t, list(tx, directory.UserQuery{NotBlockedWith: "a", NotUID: "a"}), []directory.UID{"d", "e"})
		equal(t, list(tx, directory.UserQuery{Related: []directory.Related{{To: "a", Friends: true}}, NotBlockedWith: "a"}), []directory.UID{"d"})
		blocks, errBlocks := tx.CountBlocks(app, "a")
		equal(t, blocks, 1)
		friends, errFriends := tx.CountFriends(app, "a")
		equal(t, friends, 2)
		requests, errRequests := tx.CountFriendRequests(app, "a")
		equal(t, requests, 1)
		at, found, errRequest := tx.FriendRequest(app, "c", "a")
		equal(t, at, int64(12))
		equal(t, found, true)
		_, found, errNone := tx.FriendRequest(app, "a", "c")
		equal(t, found, false)
		return errors.Join(err, errBlocks, errFriends, errRequests, errRequest, errNone)
	})
	update(t, s, func(tx directory.Tx) error {
		return errors.Join(tx.DeleteBlock(app, "a", "b"), tx.DeleteFriends(app, "a", "b"), tx.DeleteFriendRequest(app, "c", "a"))
	})
	update(t, s, func(tx directory.Tx) error { return tx.DeleteUser(app, "c") })
	update(t, s, func(tx directory.Tx) error { return tx.DeleteUser(app, "e") })
	view(t, s, func(tx directory.Tx) error {
		relations, err := tx.Relations(app, "a", []directory.UID{"b", "c", "d", "e"})
		equal(t, relations, map[directory.UID]directory.Relation{"d": {FriendsSince: 9}})
		mirrored, errMirrored := tx.Relations(app, "d", []directory.UID{"a"})
		equal(t, mirrored, map[directory.UID]directory.Relation{"a": {FriendsSince: 9}})
		requests, errRequests := tx.CountFriendRequests(app, "a")
		equal(t, requests, 0)
		return errors.Join(err, errMirrored, errRequests)
	})
	update(t, s, func(tx directory.Tx) error { return tx.DeleteUser(app, "a") })
	view(t, s, func(tx directory.Tx) error {
		friends, err := tx.CountFriends(app, "d")
		equal(t, friends, 0)
		return err
	})
}

func testPairs(t *testing.T, s directory.Store) {
	pair := func(uid, other directory.UID, at int64) directory.Pair {
		return directory.Pair{UID: uid, Other: other, At: at}
	}
	update(t, s, func(tx directory.Tx) error {
		return errors.Join(
			tx.PutBlock(app, "a", "b", 1), tx.PutBlock(app, "a", "c", 2), tx.PutBlock(app, "b", "a", 3), tx.PutBlock("other", "a", "b", 4),
			tx.PutFriends(app, "c", "a", 5), tx.PutFriends(app, "b", "c", 6),
			tx.PutFriendRequest(app, "a", "d", 7), tx.PutFriendRequest(app, "e", "a", 8),
		)
	})
	view(t, s, func(tx directory.Tx) error {
		var failures []error
		for _, test := range []struct {
			kind  directory.PairKind
			after directory.Pair
			limit int
			want  []directory.Pair
		}{
			{directory.Blocks, directory.Pair{}, 2, []directory.Pair{pair("a", "b", 1), pair("a", "c", 2)}},
			{directory.Blocks, pair("a", "b", 1), 9, []directory.Pair{pair("a", "c", 2), pair("b", "a", 3)}},
			{directory.Friendships, directory.Pair{}, 9, []directory.Pair{pair("a", "c", 5), pair("b", "c", 6)}},
			{directory.FriendRequests, pair("a", "d", 7), 9, []directory.Pair{pair("e", "a", 8)}},
		} {
			got, err := tx.Pairs(app, test.kind, test.after, test.limit)
			equal(t, got, test.want)
			failures = append(failures, err)
		}
		for kind, want := range map[directory.PairKind][]directory.Pair{
			directory.Blocks:         {pair("a", "b", 1), pair("a", "c", 2), pair("b", "a", 3)},
			directory.Friendships:    {pair("a", "c", 5)},
			directory.FriendRequests: {pair("a", "d", 7), pair("e", "a", 8)},
		} {
			got, err := tx.PairsOf(app, kind, "a")
			equal(t, got, want)
			failures = append(failures, err)
		}
		return errors.Join(failures...)
	})
}

func testManyRelations(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Tx) error {
		for i := range 20 {
			other := directory.UID(fmt.Sprintf("u%02d", i))
			if err := errors.Join(tx.PutBlock(app, "a", other, int64(i+1)), tx.PutFriends(app, "a", other, int64(i+101))); err != nil {
				return err
			}
		}
		return tx.PutBlock(app, "u03", "a", 300)
	})
	view(t, s, func(tx directory.Tx) error {
		relations, err := tx.Relations(app, "a", []directory.UID{"u03", "u17", "nobody"})
		equal(t, relations, map[directory.UID]directory.Relation{
			"u03": {BlockedByMeAt: 4, HasBlockedMeAt: 300, FriendsSince: 104}, "u17": {BlockedByMeAt: 18, FriendsSince: 118},
		})
		return err
	})
}

func testMetadata(t *testing.T, s directory.Store) {
	value := func(key, value string) directory.MetadataValue {
		return directory.MetadataValue{Key: key, Value: value}
	}
	update(t, s, func(tx directory.Tx) error {
		for uid, values := range map[directory.UID][]directory.MetadataValue{
			"a": {value("city", "rome"), value("plan", "free")}, "b": {value("city", "rome")}, "c": {value("city", "oslo")},
		} {
			if err := errors.Join(tx.PutUser(app, directory.User{UID: uid, Name: string(uid), Role: "default"}), tx.MoveUserMetadata(app, uid, nil, values)); err != nil {
				return err
			}
		}
		return nil
	})
	in := func(filters ...directory.MetadataFilter) (uids []directory.UID) {
		view(t, s, func(tx directory.Tx) error {
			users, err := tx.Users(directory.UserQuery{App: app, Metadata: filters, Order: directory.ByName, Limit: 10})
			uids = uidsOf(users)
			return err
		})
		return uids
	}
	cities := func(names ...string) directory.MetadataFilter {
		return directory.MetadataFilter{Key: "city", Values: names}
	}
	equal(t, in(cities("rome")), []directory.UID{"a", "b"})
	equal(t, in(cities("rome", "oslo"), directory.MetadataFilter{Key: "plan", Values: []string{"free"}}), []directory.UID{"a"})
	update(t, s, func(tx directory.Tx) error {
		return tx.MoveUserMetadata(app, "a", []directory.MetadataValue{value("city", "rome"), value("plan", "free")}, []directory.MetadataValue{value("city", "oslo"), value("plan", "free")})
	})
	equal(t, in(cities("oslo")), []directory.UID{"a", "c"})
	for _, want := range []int{2, 1, 0} {
		update(t, s, func(tx directory.Tx) error {
			deleted, err := tx.DeleteMetadataValues(app, "city", 2)
			equal(t, deleted, want)
			return err
		})
	}
	equal(t, len(in(cities("rome", "oslo"))), 0)
}
