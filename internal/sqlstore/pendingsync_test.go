package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
	"github.com/rollcall/rollcall/internal/storetest"
)

// TestNobodySeesWhatIsNotOnTheDisk looks at a user whose creation is written but not synced: a view that sees it must not end
// before that is done, and one that began earlier need not wait.
func TestNobodySeesWhatIsNotOnTheDisk(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // for a view that waits for the sync it runs in
	defer cancel()
	store := openSQLite(t)
	look := func(tx directory.Reader) bool {
		_, found, err := tx.User("app", "new")
		if err != nil {
			t.Error(err)
		}
		return found
	}
	var written atomic.Bool
	seen := make(chan bool, 1)
	beforeSyncs(t, store, func() error {
		if !written.CompareAndSwap(true, false) {
			return nil
		}
		asked := make(chan struct{})
		err := store.View(ctx, func(tx directory.Reader) error {
			if look(tx) {
				t.Error("a view of the state before sees the user")
			}
			go func() {
				var found bool
				err := store.View(ctx, func(tx directory.Reader) error {
					defer close(asked)
					found = look(tx)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				seen <- found
			}()
			select {
			case <-asked:
			case <-time.After(storetest.Patience):
				t.Error("a second view cannot be made")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
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
	err := updateFollowed(t, store, func(tx directory.Writer) error {
		written.Store(true) // by the next sync
		return errors.Join(
			tx.PutUser("app", directory.User{UID: "new", Name: "N", Role: "default"}),
			store.View(t.Context(), func(tx directory.Reader) error { look(tx); return nil }), // the state before
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	if found := storetest.Await(t, seen, "the view to end"); !found {
		t.Error("the view did not see what was written before it looked: there is nothing to wait for")
	}
}

func beforeSyncs(t *testing.T, store *sqlstore.Store, sync func() error) (onDisk func() []byte) {
	t.Helper()
	onDisk, err := store.BeforeSyncs(sync)
	if err != nil {
		t.Fatal(err)
	}
	return onDisk
}

// updateFollowed makes an update whose batch is not its caller's: another may be prepared while it is committed.
func updateFollowed(t *testing.T, store *sqlstore.Store, fn func(directory.Writer) error) (err error) {
	t.Helper()
	store.OverlapFrom(1)
	var following sync.WaitGroup
	leading := store.Update(t.Context(), "app", nil, func(directory.Writer) error {
		following.Go(func() { err = store.Update(t.Context(), "app", nil, fn) })
		ctx, cancel := context.WithTimeout(t.Context(), storetest.Patience)
		defer cancel()
		store.AwaitWaiting("app", 1, ctx.Done())
		return nil
	})
	storetest.AwaitReturn(t, following.Wait, "the update behind another")
	return errors.Join(leading, err)
}

// TestPowerFailsAfterSync lets the sync of a commit fail that can be read already, and then looks at what the disk holds of the
// next one, which builds on it.
func TestPowerFailsAfterSync(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	store := openSQLiteAt(t, path)
	var fails atomic.Bool
	onDisk := beforeSyncs(t, store, func() error {
		if fails.CompareAndSwap(true, false) {
			return errors.New("the disk fails")
		}
		return nil
	})
	if err := register(t.Context(), store, "first", "N"); err != nil {
		t.Fatal(err)
	}
	err := updateFollowed(t, store, func(tx directory.Writer) error {
		fails.Store(true)
		return create(tx, "uncertain", "N")
	})
	if !directory.IsCode(err, directory.CodeOperationFailed) {
		t.Errorf("want to be told that it is not known whether it happened, got %v", err)
	}
	if err := register(t.Context(), store, "last", "N"); err != nil {
		t.Fatal(err)
	}
	checkCreations(t, store, 3)

	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "test.db")
	if err := errors.Join(os.WriteFile(copied, file, 0o600), os.WriteFile(copied+"-wal", onDisk(), 0o600)); err != nil {
		t.Fatal(err)
	}
	checkCreations(t, openSQLiteAt(t, copied), 3)
}

// TestCloseAfterFailedSync closes a store whose log cannot be brought to the disk: it must not be folded into the file then.
func TestCloseAfterFailedSync(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	store, err := sqlstore.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var fails atomic.Int64
	beforeSyncs(t, store, func() error {
		if fails.Add(-1) >= 0 {
			return errors.New("the disk fails")
		}
		return nil
	})
	if err := register(t.Context(), store, "first", "N"); err != nil {
		t.Fatal(err)
	}
	err = updateFollowed(t, store, func(tx directory.Writer) error {
		fails.Store(2) // the commit's, and that of the log when it is written again
		return create(tx, "uncertain", "N")
	})
	if err == nil {
		t.Error("the commit did not fail")
	}
	before, errBefore := os.ReadFile(path)
	if err := store.Close(); err == nil {
		t.Error("nobody is told that a commit did not get to the disk")
	}
	after, errAfter := os.ReadFile(path)
	if err := errors.Join(errBefore, errAfter); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the log was folded into the file")
	}
	checkCreations(t, openSQLiteAt(t, path), 2)
}

// TestLoneSyncFails lets the sync of a creation fail that nobody waits behind.
func TestLoneSyncFails(t *testing.T) {
	t.Parallel()
	store := openSQLite(t)
	var fails atomic.Bool
	beforeSyncs(t, store, func() error {
		if fails.Load() {
			return errors.New("the disk fails")
		}
		return nil
	})
	if err := register(t.Context(), store, "first", "N"); err != nil {
		t.Fatal(err)
	}
	fails.Store(true)
	err := register(t.Context(), store, "new", "N")
	var refused *directory.Error
	if !errors.As(err, &refused) || refused.Code != directory.CodeOperationFailed || strings.Contains(refused.Message, "Nothing was changed") {
		t.Errorf("want to be told that it is not known whether it happened, got %v", err)
	}
	checkCreations(t, store, 1)
	fails.Store(false)
	if err := register(t.Context(), store, "new", "N"); err != nil {
		t.Error(err)
	}
	checkCreations(t, store, 2)
}

// TestDiskFailsUnderLoad lets syncs fail now and then while many write: what was acknowledged is there, once, and what was
// refused can be done again; revisions have no gaps. No two syncs go on at once, as when the log is folded beside a commit: only
// one of them would be told of a failure.
func TestDiskFailsUnderLoad(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("the disk fails")
	var syncs, syncing atomic.Int64
	var healed atomic.Bool
	store := openSQLite(t)
	store.CheckpointAt(100)
	beforeSyncs(t, store, func() error {
		if syncing.Add(1) > 1 {
			t.Error("the log is synced twice at once")
		}
		defer syncing.Add(-1)
		runtime.Gosched() // so that others can
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
