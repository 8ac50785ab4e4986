package sqlstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

func beforeSyncs(t *testing.T, store *sqlstore.Store, sync func() error) (onDisk func() []byte) {
	t.Helper()
	onDisk, err := store.BeforeSyncs(sync)
	if err != nil {
		t.Fatal(err)
	}
	return onDisk
}

// TestPowerFailsAfterSync lets the sync of a commit fail, and then looks at what the disk holds of the next one.
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
	fails.Store(true)
	err := register(t.Context(), store, "uncertain", "N")
	if !directory.IsCode(err, directory.CodeOperationFailed) {
		t.Errorf("want to be told that it is not known whether it happened, got %v", err)
	}
	if err := register(t.Context(), store, "last", "N"); err != nil {
		t.Fatal(err)
	}
	checkCreations(t, store, 2)

	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "test.db")
	if err := errors.Join(os.WriteFile(copied, file, 0o600), os.WriteFile(copied+"-wal", onDisk(), 0o600)); err != nil {
		t.Fatal(err)
	}
	checkCreations(t, openSQLiteAt(t, copied), 2)
}

// TestSyncFails lets the sync of a creation fail.
func TestSyncFails(t *testing.T) {
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

// TestDiskFailsUnderLoad lets syncs fail now and then while many write: what was acknowledged is there, once, and what
// was refused can be done again; revisions have no gaps. No two syncs go on at once, as when the log is folded beside a
// commit: only one of them would be told of a failure.
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
