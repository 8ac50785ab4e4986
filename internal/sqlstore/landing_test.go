package sqlstore_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// TestNobodySeesWhatIsNotOnTheDisk looks at a user whose creation is written but not synced: the view must not end before that.
func TestNobodySeesWhatIsNotOnTheDisk(t *testing.T) {
	t.Parallel()
	var looking atomic.Bool
	store := openSQLite(t)
	seen := make(chan bool, 1)
	store.BeforeSyncs(func() error {
		if !looking.CompareAndSwap(true, false) {
			return nil
		}
		asked := make(chan struct{})
		go func() {
			var found bool
			err := store.View(t.Context(), func(tx directory.Tx) (err error) {
				defer close(asked)
				_, found, err = tx.User("app", "new")
				return err
			})
			if err != nil {
				t.Error(err)
			}
			seen <- found
		}()
		<-asked
		select {
		case found := <-seen:
			t.Error("the view ended before the user was on the disk")
			seen <- found
		case <-time.After(100 * time.Millisecond): // it waits, as it should
		}
		return nil
	})
	if err := register(t.Context(), store, "first", "N"); err != nil { // begins the log, whose header is synced by itself
		t.Fatal(err)
	}
	looking.Store(true)
	if err := register(t.Context(), store, "new", "N"); err != nil {
		t.Fatal(err)
	}
	if found := <-seen; !found {
		t.Error("the view did not see what was written before it looked: there is nothing to wait for")
	}
}

// TestDiskFailsUnderLoad lets syncs fail now and then while many write: what was acknowledged is there, once, and what was
// refused can be done again; revisions have no gaps.
func TestDiskFailsUnderLoad(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("the disk fails")
	var syncs atomic.Int64
	var healed atomic.Bool
	store := openSQLite(t)
	store.BeforeSyncs(func() error {
		if healed.Load() {
			return nil
		}
		if n := syncs.Add(1); n%7 == 3 || n%11 == 5 {
			return errDisk
		}
		return nil
	})
	const uids, callers, attempts = 2000, 128, 50
	var next, failed atomic.Int64
	var writers sync.WaitGroup
	for range callers {
		writers.Go(func() {
			for n := next.Add(1) - 1; n < uids; n = next.Add(1) - 1 {
				err := errDisk
				for range attempts {
					if err = register(t.Context(), store, directory.UID(fmt.Sprint("u", n)), "N"); err == nil || errors.Is(err, errUIDTaken) {
						break // that it is there already is the answer when an earlier attempt was uncertain
					}
					if !directory.IsCode(err, directory.CodeOperationFailed) {
						t.Errorf("u%d: %v", n, err)
					}
					failed.Add(1)
				}
				if err != nil && !errors.Is(err, errUIDTaken) {
					t.Errorf("u%d could not be made: %v", n, err)
				}
			}
		})
	}
	writers.Wait()
	if failed.Load() == 0 {
		t.Error("no sync has failed")
	}
	healed.Store(true)
	if err := register(t.Context(), store, "last", "N"); err != nil {
		t.Fatal(err)
	}
	checkCreations(t, store, uids+1)
}
