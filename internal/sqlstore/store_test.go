package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/pgserver"
	"github.com/rollcall/rollcall/internal/sqlstore"
	"github.com/rollcall/rollcall/internal/storetest"
)

// postgres is the server that the tests of this package share; each test has a database of its own.
var postgres *pgserver.Server

func TestMain(m *testing.M) { os.Exit(storetest.Main(m, &postgres)) }

func openSQLite(t *testing.T) *sqlstore.Store {
	return openSQLiteAt(t, filepath.Join(t.TempDir(), "test.db"))
}

func openSQLiteAt(t *testing.T, path string) *sqlstore.Store {
	return open(t, func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenSQLite(ctx, path) })
}

var errUIDTaken = errors.New("taken")

// register makes a user, unless there is one.
func register(ctx context.Context, store *sqlstore.Store, uid directory.UID, name string) error {
	return store.Update(ctx, "app", []directory.UID{uid}, func(tx directory.Writer) error {
		if _, found, err := tx.User("app", uid); err != nil || found {
			return errors.Join(err, errUIDTaken)
		}
		return create(tx, uid, name)
	})
}

func create(tx directory.Writer, uid directory.UID, name string) error {
	if err := tx.PutUser("app", directory.User{UID: uid, Name: name, Role: "default"}); err != nil {
		return err
	}
	_, err := tx.AppendChange("app", directory.Change{Kind: directory.UserCreated, Subject: string(uid)})
	return err
}

// checkCreations fails unless so many users were made, each with one change, and the revisions have no gap.
func checkCreations(t *testing.T, store *sqlstore.Store, want int) {
	t.Helper()
	err := store.View(t.Context(), func(tx directory.Reader) error {
		users, err := tx.UsersAfter("app", "", 2*want)
		changes, errChanges := tx.Changes("app", 0, 2*want)
		if len(users) != want || len(changes) != want {
			t.Errorf("%d users and %d changes, want %d", len(users), len(changes), want)
		}
		for i, change := range changes {
			if change.Revision != int64(i+1) {
				t.Fatalf("revision %d follows %d", change.Revision, i)
			}
		}
		return errors.Join(err, errChanges)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func openPostgres(t *testing.T) *sqlstore.Store {
	return open(t, func(ctx context.Context) (*sqlstore.Store, error) {
		url, err := postgres.NewDatabase(ctx)
		if err != nil {
			return nil, err
		}
		return sqlstore.OpenPostgres(ctx, url)
	})
}

func open(t *testing.T, open func(context.Context) (*sqlstore.Store, error)) *sqlstore.Store {
	t.Helper()
	store, err := open(t.Context())
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

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) directory.Store {
		store := openSQLite(t)
		t.Cleanup(func() { checkPlans(t, store) })
		return store
	})
}

// checkPlans fails for a statement of a store on SQLite that reads more of a table than it should.
func checkPlans(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	err := store.EachPlan(func(sql string, plan []string) {
		if step := sqlstore.Wasteful(sql, plan); step != "" {
			t.Errorf("%s\n%s", step, sql)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) directory.Store { return openPostgres(t) })
}

func TestPostgresRefusesASecondServer(t *testing.T) {
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, err := sqlstore.OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := sqlstore.OpenPostgres(t.Context(), url); err == nil {
		t.Error("two servers use one database", second.Close())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := sqlstore.OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatalf("the database was not given back: %v", err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}

// TestPostgresFailedBatchLeavesNothing makes batches fail in which others have found something: that, refusals too,
// must not count.
func TestPostgresFailedBatchLeavesNothing(t *testing.T) {
	store := openPostgres(t)
	const pairs, workers = 400, 64
	var next atomic.Int64
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= 2*pairs {
					return
				}
				uid, name := directory.UID(fmt.Sprint("u", n/2)), "N"
				if n%2 == 0 && n%16 == 0 {
					name = "\x00" // PostgreSQL refuses it when the batch is sent
				}
				err := register(t.Context(), store, uid, name)
				switch {
				case name == "N" && n%16 == 1 && err != nil:
					t.Errorf("%s: nobody else has made it, but it was refused: %v", uid, err)
				case name != "N" && !directory.IsCode(err, directory.CodeOperationFailed) && !errors.Is(err, errUIDTaken):
					t.Errorf("%s: what the database refuses was answered %v", uid, err)
				case name == "N" && err != nil && !errors.Is(err, errUIDTaken):
					t.Errorf("%s: %v", uid, err)
				}
			}
		})
	}
	running.Wait()
	checkCreations(t, store, pairs)
}

func TestBackup(t *testing.T) {
	folder := t.TempDir()
	path, target := filepath.Join(folder, "live.db"), filepath.Join(folder, "backup.db")
	store, err := sqlstore.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	write := func(uid directory.UID) error {
		return store.Update(t.Context(), "app", nil, func(tx directory.Writer) error {
			_, err := tx.AppendChange("app", directory.Change{Kind: directory.UserCreated, Subject: string(uid)})
			return errors.Join(err, tx.PutUser("app", directory.User{UID: uid, Name: "N", Role: "default"}))
		})
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	if err := write("first"); err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := write(directory.UID(fmt.Sprint("u", i))); err != nil {
				stopped <- err
				return
			}
		}
	}()
	condition, err := sqlstore.BackupSQLite(t.Context(), path, target)
	close(stop)
	if writeErr := storetest.Await(t, stopped, "the writing to stop"); writeErr != nil || err != nil {
		t.Fatal(writeErr, err)
	}
	if condition.Users != condition.Changes || condition.Users == 0 {
		t.Errorf("the backup holds half a write: %d users, %d changes", condition.Users, condition.Changes)
	}
	if _, err := sqlstore.BackupSQLite(t.Context(), path, target); err == nil {
		t.Error("a backup overwrote another")
	}
	restored, err := sqlstore.OpenSQLite(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	err = restored.View(t.Context(), func(tx directory.Reader) error {
		_, found, err := tx.User("app", "first")
		if !found {
			t.Error("the backup lacks a user")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLogStaysShort writes much while others read without a pause: the write-ahead log must be folded all the same.
func TestLogStaysShort(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	store, err := sqlstore.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := store.View(t.Context(), func(tx directory.Reader) error { _, err := tx.Revision("app"); return err }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	const writes, size = 60, 1 << 20
	for i := range writes {
		err := store.Update(t.Context(), "app", nil, func(tx directory.Writer) error {
			return tx.PutUser("app", directory.User{UID: directory.UID(fmt.Sprint("u", i)), Name: "N", StatusMessage: strings.Repeat("x", size), Role: "default"})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
	info, err := os.Stat(path + "-wal")
	if err != nil || info.Size() > writes*size/2 {
		t.Errorf("the log has %d bytes, %v", info.Size(), err)
	}
}

// TestPanicInUpdate lets the rules panic: that update fails, and others go on.
func TestPanicInUpdate(t *testing.T) {
	t.Parallel()
	store := openSQLite(t)
	err := store.Update(t.Context(), "app", nil, func(tx directory.Writer) error {
		if err := create(tx, "half", "N"); err != nil {
			return err
		}
		panic("rules are broken")
	})
	if err == nil || !strings.Contains(err.Error(), "rules are broken") {
		t.Errorf("want the panic, got %v", err)
	}
	if err := register(t.Context(), store, "next", "N"); err != nil {
		t.Fatal(err)
	}
	checkCreations(t, store, 1)
}

// TestClosedStoreRefuses uses a store that is closed.
func TestClosedStoreRefuses(t *testing.T) {
	t.Parallel()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	err = store.View(t.Context(), func(tx directory.Reader) error {
		_, _, err := tx.User("app", "ada")
		return err
	})
	if !directory.IsCode(err, directory.CodeOperationFailed) {
		t.Errorf("a view of a closed store: %v", err)
	}
	if err := register(t.Context(), store, "ada", "N"); !directory.IsCode(err, directory.CodeOperationFailed) {
		t.Errorf("an update of a closed store: %v", err)
	}
}
