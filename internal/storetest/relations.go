package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

func testRelations(t *testing.T, s directory.Store) {
	uids := []directory.UID{"a", "b", "c", "d", "e"}
	update(t, s, func(tx directory.Writer) error {
		for _, uid := range uids {
			if err := tx.PutUser(app, directory.User{UID: uid, Name: string(uid), Role: "default"}); err != nil {
				return err
			}
		}
		return errors.Join(
			tx.PutBlock(app, "a", "b", 5), tx.PutBlock(app, "a", "b", 6), tx.PutBlock(app, "c", "a", 7),
			tx.PutBlock("other", "a", "d", 8),
			tx.PutFriends(app, "a", "d", 9), tx.PutFriends(app, "b", "a", 10),
			tx.PutFriendRequest(app, "a", "e", 11), tx.PutFriendRequest(app, "c", "a", 12),
		)
	})
	view(t, s, func(tx directory.Reader) error {
		relations, err := tx.Relations(app, "a", []directory.UID{"b", "c", "d", "e", "nobody"})
		equal(t, relations, map[directory.UID]directory.Relation{
			"b": {BlockedByMeAt: 5, FriendsSince: 10}, "c": {HasBlockedMeAt: 7}, "d": {FriendsSince: 9},
		})
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
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(
			tx.DeleteBlock(app, "a", "b"), tx.DeleteFriends(app, "a", "b"), tx.DeleteFriendRequest(app, "c", "a"),
		)
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteUser(app, "c") })
	update(t, s, func(tx directory.Writer) error { return tx.DeleteUser(app, "e") })
	view(t, s, func(tx directory.Reader) error {
		relations, err := tx.Relations(app, "a", []directory.UID{"b", "c", "d", "e"})
		equal(t, relations, map[directory.UID]directory.Relation{"d": {FriendsSince: 9}})
		mirrored, errMirrored := tx.Relations(app, "d", []directory.UID{"a"})
		equal(t, mirrored, map[directory.UID]directory.Relation{"a": {FriendsSince: 9}})
		requests, errRequests := tx.CountFriendRequests(app, "a")
		equal(t, requests, 0)
		return errors.Join(err, errMirrored, errRequests)
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteUser(app, "a") })
	view(t, s, func(tx directory.Reader) error {
		friends, err := tx.CountFriends(app, "d")
		equal(t, friends, 0)
		return err
	})
}

func testPairs(t *testing.T, s directory.Store) {
	pair := func(uid, other directory.UID, at int64) directory.Pair {
		return directory.Pair{UID: uid, Other: other, At: at}
	}
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(
			tx.PutBlock(app, "a", "b", 1), tx.PutBlock(app, "a", "c", 2), tx.PutBlock(app, "b", "a", 3),
			tx.PutBlock("other", "a", "b", 4),
			tx.PutFriends(app, "c", "a", 5), tx.PutFriends(app, "b", "c", 6),
			tx.PutFriendRequest(app, "a", "d", 7), tx.PutFriendRequest(app, "e", "a", 8),
		)
	})
	view(t, s, func(tx directory.Reader) error {
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
	update(t, s, func(tx directory.Writer) error {
		for i := range 20 {
			other := directory.UID(fmt.Sprintf("u%02d", i))
			if err := errors.Join(
				tx.PutBlock(app, "a", other, int64(i+1)), tx.PutFriends(app, "a", other, int64(i+101)),
			); err != nil {
				return err
			}
		}
		return tx.PutBlock(app, "u03", "a", 300)
	})
	view(t, s, func(tx directory.Reader) error {
		relations, err := tx.Relations(app, "a", []directory.UID{"u03", "u17", "nobody"})
		equal(t, relations, map[directory.UID]directory.Relation{
			"u03": {BlockedByMeAt: 4, HasBlockedMeAt: 300, FriendsSince: 104}, "u17": {BlockedByMeAt: 18, FriendsSince: 118},
		})
		return err
	})
}
