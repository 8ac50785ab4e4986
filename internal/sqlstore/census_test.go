package sqlstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

// emptyStore returns a store on SQLite that is closed with the test.
func emptyStore(t *testing.T) *Store {
	t.Helper()
	store, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// TestCensusAgreesWithDatabase makes random changes, and compares every page and every total that come from memory with
// what the database says.
func TestCensusAgreesWithDatabase(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	store.census.bucketSize, store.census.deepOffset, store.census.keptFrom = 4, 0, 0
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 150 {
		err := store.Update(t.Context(), "app", nil, func(tx directory.Tx) error {
			for range 1 + random.IntN(4) {
				if err := changeSomebody(tx, random); err != nil {
					return err
				}
			}
			if round%10 == 9 {
				return errRefused // nothing of it happens
			}
			if round%3 == 2 {
				return nil // there are changes without a revision
			}
			_, err := tx.AppendChange("app", directory.Change{Actor: "operator", Kind: "user.updated", Subject: "x"})
			return err
		})
		if err != nil && round%10 != 9 {
			t.Fatal(err)
		}
		query := directory.UserQuery{App: "app", Limit: 1 + random.IntN(9), Order: directory.Order(random.IntN(4)), Backward: random.IntN(2) == 0}
		if random.IntN(2) == 0 {
			query.NotUID = someUID(random)
		}
		compareWithDatabase(t, store, query)
		query.Activity = directory.Activity(random.IntN(3))
		query.Roles = [][]string{nil, {"vip"}, {"vip", "default"}}[random.IntN(3)]
		query.NotBlockedWith = []directory.UID{"", "u1"}[random.IntN(2)]
		compareWithDatabase(t, store, query)
		query.Search, query.SearchUID, query.SearchName = []string{"", "u1", "u2", "name", "name 3"}[random.IntN(5)], true, random.IntN(2) == 0
		query.Tags = [][]string{nil, {"red"}, {"red", "blue"}}[random.IntN(3)]
		compareWithDatabase(t, store, query)
		if round == 100 {
			store.census.forgetAll()
		}
	}
}

// TestCensusIsReadAmongCommits reads parts of the census anew while commits without a revision go on, and compares it with the
// database when they have ended.
func TestCensusIsReadAmongCommits(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	store.census.bucketSize, store.census.deepOffset, store.census.keptFrom = 4, 0, 0
	query := directory.UserQuery{App: "app", Limit: 10, Order: directory.LastActiveFirst}
	filtered := query
	filtered.Search, filtered.SearchName = "name", true
	store.writer.pace.overlapFrom = 1 // what is committed can be seen for a while before it is noted
	for round := range uint64(30) {
		store.census.forgetAll()
		var writing sync.WaitGroup
		for writer := range uint64(4) {
			random := rand.New(rand.NewPCG(round, writer))
			writing.Go(func() {
				for range 5 {
					err := store.Update(t.Context(), "app", nil, func(tx directory.Tx) error { return changeSomebody(tx, random) })
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 3 {
			err := store.View(t.Context(), func(tx directory.Tx) error {
				for _, query := range []directory.UserQuery{query, filtered} {
					_, errTotal := tx.CountUsers(query)
					query.Offset = 5
					if _, err := tx.Users(query); err != nil || errTotal != nil {
						return errors.Join(err, errTotal)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		writing.Wait()
		compareWithDatabase(t, store, query)
		compareWithDatabase(t, store, filtered)
	}
}

var errRefused = &directory.Error{Code: directory.CodeBadRequest}

func someUID(random *rand.Rand) directory.UID {
	return directory.UID(fmt.Sprintf("u%d", random.IntN(60)))
}

func changeSomebody(tx directory.Tx, random *rand.Rand) error {
	uid := someUID(random)
	switch random.IntN(8) {
	case 0:
		return tx.DeleteUser("app", uid)
	case 1:
		return tx.PutBlock("app", "u1", uid, 5)
	default:
		tags := [][]string{nil, {"red"}, {"blue"}, {"red", "blue"}}[random.IntN(4)]
		return errors.Join(tx.PutUserTags("app", uid, tags), tx.PutUser("app", directory.User{
			UID: uid, Tags: tags, Name: fmt.Sprint("Name ", random.IntN(5)), Role: []string{"default", "vip"}[random.IntN(2)], CreatedAt: random.Int64N(4),
			UpdatedAt: random.Int64N(3), LastActiveAt: random.Int64N(3), DeactivatedAt: max(0, random.Int64N(5)-3),
		}))
	}
}

// compareWithDatabase reads a list whole and page by page, with and without the census.
func compareWithDatabase(t *testing.T, store *Store, query directory.UserQuery) {
	t.Helper()
	err := store.engine.view(t.Context(), func(s session) error {
		plain, quick := &tx{session: s}, &tx{session: s, ctx: t.Context(), census: store.census}
		whole := query
		whole.Limit = 1000
		want, err := plain.Users(whole)
		if err != nil {
			return err
		}
		total, err := quick.CountUsers(query)
		if err != nil || total != len(want) {
			t.Fatalf("%+v: the total is %d, %v; want %d", query, total, err, len(want))
		}
		for query.Offset = 0; query.Offset <= len(want)+1; query.Offset++ {
			page, err := quick.Users(query)
			if err != nil {
				return err
			}
			expected := want[min(query.Offset, len(want)):min(query.Offset+query.Limit, len(want))]
			if !slices.EqualFunc(page, expected, func(a, b directory.User) bool { return a.UID == b.UID }) {
				t.Fatalf("%+v: got %v, want %v", query, uids(page), uids(expected))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func uids(users []directory.User) (uids []directory.UID) {
	for _, user := range users {
		uids = append(uids, user.UID)
	}
	return uids
}
