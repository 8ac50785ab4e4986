package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

func TestFewUIDsSeemTaken(t *testing.T) {
	t.Parallel()
	seed := maphash.MakeSeed()
	for _, count := range []int{1, 100, 2688, 2689, 100_000} {
		wrong, err := sqlstore.MayBeHeld(func(i int) uint64 { return maphash.String(seed, fmt.Sprint("user-", i)) }, count)
		if err != nil {
			t.Fatal(err)
		}
		if wrong > 5+count/20 {
			t.Errorf("%d of %d that are not in the set seem to be", wrong, count)
		}
	}
}

// reopenable returns a function that opens the same database each time, on each engine.
func reopenable(t *testing.T) map[string]func(context.Context) (*sqlstore.Store, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func(context.Context) (*sqlstore.Store, error){
		"SQLite":     func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenSQLite(ctx, path) },
		"PostgreSQL": func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenPostgres(ctx, url) },
	}
}

// TestFreeUIDsAreKnown registers people in a database with users of an earlier time: what is known to be free must be, whether
// its owner came before or since, and went.
func TestFreeUIDsAreKnown(t *testing.T) {
	t.Parallel()
	for engine, reopen := range reopenable(t) {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			const earlier, later = 50, 100
			store, err := reopen(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range earlier {
				if err := register(t.Context(), store, directory.UID(fmt.Sprint("earlier-", i)), "N"); err != nil {
					t.Fatal(err)
				}
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}

			store = open(t, reopen)
			store.ReadUIDsInSteps(7)
			for i := range later {
				if err := register(t.Context(), store, directory.UID(fmt.Sprint("later-", i)), "N"); err != nil {
					t.Fatal(err)
				}
				if i == 0 && store.KnowsFree("app", "nobody") {
					t.Error("a uid is known to be free before anybody was read")
				}
			}
			if !store.KnowsFree("app", "nobody") && !store.KnowsFree("app", "nobody-else") { // one may seem taken
				t.Error("no uid is known to be free")
			}
			for name, count := range map[string]int{"earlier-": earlier, "later-": later} {
				for i := range count {
					uid := directory.UID(fmt.Sprint(name, i))
					if store.KnowsFree("app", uid) {
						t.Errorf("%s is said to be free", uid)
					}
					if err := register(t.Context(), store, uid, "N"); !errors.Is(err, errUIDTaken) {
						t.Errorf("%s was made again: %v", uid, err)
					}
				}
			}
			err = store.Update(t.Context(), "app", nil, func(tx directory.Tx) error { return tx.DeleteUser("app", "earlier-0") })
			if err != nil {
				t.Fatal(err)
			}
			if err := register(t.Context(), store, "earlier-0", "N"); err != nil {
				t.Errorf("who was deleted could not be made again: %v", err)
			}
		})
	}
}

// TestRegisteringTwice lets callers race for uids while those that are taken are being read: each is given to one of them.
func TestRegisteringTwice(t *testing.T) {
	t.Parallel()
	for engine, reopen := range reopenable(t) {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			store := open(t, reopen)
			store.ReadUIDsInSteps(50)
			const uids, callers = 600, 16
			var made [uids]atomic.Int64
			var next atomic.Int64
			var racing sync.WaitGroup
			for range callers {
				racing.Go(func() {
					for n := next.Add(1) - 1; n < 2*uids; n = next.Add(1) - 1 {
						// The second turn on a uid comes at once or much later.
						uid := n / 2
						if n%4 == 3 {
							uid = (n - 3) * 7 % (2 * uids) / 2
						}
						switch err := register(t.Context(), store, directory.UID(fmt.Sprint("u", uid)), "N"); {
						case err == nil:
							made[uid].Add(1)
						case !errors.Is(err, errUIDTaken):
							t.Errorf("u%d: %v", uid, err)
						}
					}
				})
			}
			racing.Wait()
			for uid := range made {
				if times := made[uid].Load(); times > 1 {
					t.Errorf("u%d was made %d times", uid, times)
				}
			}
			if !store.KnowsFree("app", "nobody") && !store.KnowsFree("app", "nobody-else") {
				t.Error("no uid is known to be free")
			}
		})
	}
}
