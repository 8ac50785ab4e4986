package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/rollcall/rollcall/internal/directory"
)

// disk is the write-ahead log with a disk under it that does what a test wants.
type disk struct {
	vfs.File
	sync func() error
}

func (d *disk) Sync(flags vfs.SyncFlag) error {
	if err := d.sync(); err != nil {
		return err
	}
	return d.File.Sync(flags)
}

// onDisk opens a store, and puts sync before every sync of its log.
func onDisk(t *testing.T, sync func() error) *Store {
	t.Helper()
	store := emptyStore(t)
	log := store.engine.(*sqlite).log //nolint:forcetypeassert // it is SQLite's
	log.File = &disk{log.File, sync}
	return store
}

func register(ctx context.Context, store *Store, uid directory.UID) error {
	return store.Update(ctx, "app", nil, func(tx directory.Tx) error {
		if _, found, err := tx.User("app", uid); err != nil || found {
			return errors.Join(err, &directory.Error{Code: directory.CodeUserExists})
		}
		_, err := tx.AppendChange("app", directory.Change{Kind: directory.UserCreated, Subject: string(uid)})
		return errors.Join(err, tx.PutUser("app", directory.User{UID: uid, Name: "N", Role: "default"}))
	})
}

// TestNobodySeesWhatIsNotOnTheDisk looks at a user whose creation is written but not synced: the view must not end before that.
func TestNobodySeesWhatIsNotOnTheDisk(t *testing.T) {
	t.Parallel()
	var looking atomic.Bool
	var store *Store
	seen := make(chan bool, 1)
	store = onDisk(t, func() error {
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
	if err := register(t.Context(), store, "first"); err != nil { // begins the log, whose header is synced by itself
		t.Fatal(err)
	}
	looking.Store(true)
	if err := register(t.Context(), store, "new"); err != nil {
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
	store := onDisk(t, func() error {
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
					if err = register(t.Context(), store, directory.UID(fmt.Sprint("u", n))); err == nil || directory.IsCode(err, directory.CodeUserExists) {
						break // that it is there already is the answer when an earlier attempt was uncertain
					}
					if !directory.IsCode(err, directory.CodeOperationFailed) {
						t.Errorf("u%d: %v", n, err)
					}
					failed.Add(1)
				}
				if err != nil && !directory.IsCode(err, directory.CodeUserExists) {
					t.Errorf("u%d could not be made: %v", n, err)
				}
			}
		})
	}
	writers.Wait()
	if failed.Load() == 0 {
		t.Error("no sync has failed")
	}
	store.engine.(*sqlite).log.File.(*disk).sync = func() error { return nil } //nolint:forcetypeassert // as above
	if err := register(t.Context(), store, "last"); err != nil {
		t.Fatal(err)
	}
	err := store.View(t.Context(), func(tx directory.Tx) error {
		count, err := tx.CountUsers(directory.UserQuery{App: "app"})
		changes, errChanges := tx.Changes("app", 0, 2*uids)
		if count != uids+1 || len(changes) != uids+1 {
			t.Errorf("%d users and %d changes, want %d", count, len(changes), uids+1)
		}
		for i, change := range changes {
			if change.Revision != int64(i+1) {
				t.Fatalf("revision %d follows %d", change.Revision, i)
			}
		}
		return errors.Join(err, errChanges)
	})
	if err != nil {
		t.Error(err)
	}
}
