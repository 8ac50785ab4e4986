package sqlstore

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/directory"
)

// TestHotUsersAreThoseOfTheSnapshot reads users while others change and erase them. What a view gets from memory is
// what the database says in the same snapshot, and a write that was answered is seen.
func TestHotUsersAreThoseOfTheSnapshot(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	const users, writers, rounds = 8, 4, 100
	uid := func(random *rand.Rand) directory.UID { return directory.UID(fmt.Sprintf("u%d", random.IntN(users))) }
	var done sync.WaitGroup
	stop := make(chan struct{})
	for n := range 4 {
		done.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				compareHotUser(t, store, uid(random), random.IntN(2) == 0)
			}
		})
	}
	var writing sync.WaitGroup
	for n := range writers {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 2))
			for round := range rounds {
				changeAndRead(t, store, directory.UID(fmt.Sprintf("own%d", n)), fmt.Sprintf("%d", round))
				changed := uid(random)
				if err := store.Update(t.Context(), "app", nil, func(tx directory.Writer) error {
					if round%5 == 4 {
						return tx.DeleteUser("app", changed)
					}
					return tx.PutUser("app", directory.User{UID: changed, Name: "N", StatusMessage: fmt.Sprintf("%d by %d", round, n)})
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	done.Wait()
}

func compareHotUser(t *testing.T, store *Store, uid directory.UID, hotFirst bool) {
	t.Helper()
	err := store.View(t.Context(), func(view directory.Reader) error {
		kept := view.(*tx)
		var hot directory.User
		var hotFound bool
		if hotFirst {
			var err error
			if hot, hotFound, err = kept.User("app", uid); err != nil {
				return err
			}
		}
		stored, storedFound, err := (&tx{querier: kept.querier}).User("app", uid)
		if err == nil {
			err = kept.hot.noteAsked() // the snapshot is taken now, at the latest
		}
		if err == nil && !hotFirst {
			hot, hotFound, err = kept.User("app", uid)
		}
		if err == nil && (hotFound != storedFound || !cmp.Equal(hot, stored)) {
			t.Errorf("got %v %v, want %v %v", hotFound, hot, storedFound, stored)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// changeAndRead writes a user of whom nobody else knows, and reads it twice.
func changeAndRead(t *testing.T, store *Store, uid directory.UID, status string) {
	t.Helper()
	if err := store.Update(t.Context(), "app", nil, func(tx directory.Writer) error {
		return tx.PutUser("app", directory.User{UID: uid, Name: "Own", StatusMessage: status})
	}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := store.View(t.Context(), func(tx directory.Reader) error {
			user, _, err := tx.User("app", uid)
			if err == nil && user.StatusMessage != status {
				t.Errorf("after an answered write of %q: %q", status, user.StatusMessage)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}
