package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// TestMoveKnowsEveryTable fails for a table that is neither moved nor left on purpose, and for one that differs between
// the engines.
func TestMoveKnowsEveryTable(t *testing.T) {
	t.Parallel()
	described := map[string]map[string]string{}
	for engine, place := range emptyPlaces(t) {
		openPlace(t, place)()
		names, tables, err := sqlstore.TablesOf(t.Context(), place)
		if err != nil {
			t.Fatal(err)
		}
		described[engine] = tables
		for _, name := range names {
			if slices.Contains(sqlstore.MovedTables, name) == slices.Contains(sqlstore.LeftTables, name) {
				t.Errorf("%s: say in movetables.go whether a move copies table %s", engine, name)
			}
		}
		for _, name := range sqlstore.MovedTables {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no table %s", engine, name)
			}
		}
	}
	if diff := cmp.Diff(described["SQLite"], described["PostgreSQL"]); diff != "" {
		t.Errorf("the engines have different tables: %s", diff)
	}
}

// emptyPlaces are databases that are not there yet.
func emptyPlaces(t *testing.T) map[string]sqlstore.MovePlace {
	t.Helper()
	return map[string]sqlstore.MovePlace{"SQLite": newFile(t), "PostgreSQL": newPostgres(t)}
}

func newFile(t *testing.T) sqlstore.MovePlace {
	t.Helper()
	return sqlstore.MovePlace{Path: filepath.Join(t.TempDir(), "rollcall.db")}
}

func newPostgres(t *testing.T) sqlstore.MovePlace {
	t.Helper()
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sqlstore.MovePlace{URL: url}
}

func openAt(ctx context.Context, place sqlstore.MovePlace) (*sqlstore.Store, error) {
	if place.URL != "" {
		return sqlstore.OpenPostgres(ctx, place.URL)
	}
	return sqlstore.OpenSQLite(ctx, place.Path)
}

// openPlace opens a database, as a start of the server does, and returns what closes it.
func openPlace(t *testing.T, place sqlstore.MovePlace) (closeIt func()) {
	t.Helper()
	store, err := openAt(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// beginMove opens a move that is closed at the end of the test.
func beginMove(t *testing.T, from, to sqlstore.MovePlace) *sqlstore.Move {
	t.Helper()
	m, err := sqlstore.OpenMove(t.Context(), from, to, func(sqlstore.MoveProgress) {})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func closeMove(t *testing.T, m *sqlstore.Move) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func nothingBeside() error { return nil }

// moveAll moves everything and returns what both sides held.
func moveAll(t *testing.T, from, to sqlstore.MovePlace) []sqlstore.MovedTable {
	t.Helper()
	m := beginMove(t, from, to)
	defer closeMove(t, m)
	if err := errors.Join(m.CatchUp(t.Context()), m.Switch(t.Context(), nothingBeside)); err != nil {
		t.Fatal(err)
	}
	return m.Sums()
}

// TestMoveEverything moves rows of every table to the other engine and back. What comes back is what went.
func TestMoveEverything(t *testing.T) {
	t.Parallel()
	const apps = 2
	here, there, back := newFile(t), newPostgres(t), newFile(t)
	openPlace(t, here)()
	if err := sqlstore.FillEveryTable(t.Context(), here.Path, apps); err != nil {
		t.Fatal(err)
	}
	went := moveAll(t, here, there)
	if len(went) != apps*len(sqlstore.MovedTables) {
		t.Errorf("%d tables of %d apps were moved, want %d", len(went), apps, apps*len(sqlstore.MovedTables))
	}
	openPlace(t, there)()
	if diff := cmp.Diff(went, moveAll(t, there, back)); diff != "" {
		t.Errorf("what came back is not what went: %s", diff)
	}
	openPlace(t, back)()
	for place, says := range map[sqlstore.MovePlace]string{here: "moved to PostgreSQL", there: "moved to SQLite"} {
		if _, err := openAt(t.Context(), place); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a database that was moved away is opened: %v", err)
		}
	}
}

// TestMoveFollows copies, and then what was changed, added and deleted since, also by apps that are gone.
func TestMoveFollows(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to sqlstore.MovePlace) {
		store, err := openAt(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		update := func(app directory.AppID, fn func(directory.Writer) error) {
			t.Helper()
			if err := store.Update(t.Context(), app, nil, fn); err != nil {
				t.Fatal(err)
			}
		}
		for _, app := range []directory.AppID{"app", "gone", "quiet"} {
			update(app, func(tx directory.Writer) error {
				return errors.Join(
					tx.PutUser(app, directory.User{UID: "ada", Name: "Ada"}), tx.PutUser(app, directory.User{UID: "bob", Name: "Bob"}),
				)
			})
		}
		m := beginMove(t, from, to)
		defer closeMove(t, m)
		if err := m.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		update("app", func(tx directory.Writer) error {
			return errors.Join(
				tx.PutUser("app", directory.User{UID: "cyd", Name: "Cyd"}),
				tx.PutUser("app", directory.User{UID: "ada", Name: "Countess"}), tx.DeleteUser("app", "bob"),
			)
		})
		update("app", func(tx directory.Writer) error { return tx.PutLastActive("app", "cyd", 17) }) // which is in no log
		update("gone", func(tx directory.Writer) error { return tx.DeleteApp("gone") })
		if err := m.Switch(t.Context(), nothingBeside); err != nil {
			t.Fatal(err)
		}
		moved, err := openAt(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		defer moved.Close()
		for app, want := range map[directory.AppID]string{"app": "Countess 0 Cyd 17", "gone": "", "quiet": "Ada 0 Bob 0"} {
			if here, there := namesIn(t, store, app), namesIn(t, moved, app); here != want || there != want {
				t.Errorf("app %s has %q in the source and %q in the target, want %q", app, here, there, want)
			}
		}
	})
}

// eachWay runs a test from SQLite to PostgreSQL and from PostgreSQL to SQLite.
func eachWay(t *testing.T, test func(t *testing.T, from, to sqlstore.MovePlace)) {
	t.Helper()
	t.Run("to PostgreSQL", func(t *testing.T) { t.Parallel(); test(t, newFile(t), newPostgres(t)) })
	t.Run("to SQLite", func(t *testing.T) { t.Parallel(); test(t, newPostgres(t), newFile(t)) })
}

// namesIn returns the names of an app's users, each with when it was last active.
func namesIn(t *testing.T, store *sqlstore.Store, app directory.AppID) string {
	t.Helper()
	var names []string
	err := store.View(t.Context(), func(tx directory.Reader) error {
		users, err := tx.UsersAfter(app, "", 100)
		for _, user := range users {
			names = append(names, fmt.Sprintf("%s %d", user.Name, user.LastActiveAt))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// TestMoveKeepsWritesOut demands that a source takes no write from the switch on, and takes them as before when the
// switch fails.
func TestMoveKeepsWritesOut(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to sqlstore.MovePlace) {
		store, err := openAt(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if err := register(t.Context(), store, "ada", "Ada"); err != nil {
			t.Fatal(err)
		}
		m := beginMove(t, from, to)
		defer closeMove(t, m)
		broken := errors.New("broken on purpose")
		expectRefused := func(says string) {
			t.Helper()
			var refused *directory.Error
			err := register(t.Context(), store, "bob", "Bob")
			if !errors.As(err, &refused) || refused.RetryAfter <= 0 || !strings.Contains(refused.Message, says) {
				t.Errorf("a write in the switch gets %v", err)
			}
			if namesIn(t, store, "app") != "Ada 0" {
				t.Error("the source does not answer reads, or has taken the write")
			}
		}
		err = m.Switch(t.Context(), func() error { expectRefused("is being moved"); return broken })
		if !errors.Is(err, broken) {
			t.Fatalf("the switch ends with %v", err)
		}
		if err := register(t.Context(), store, "cyd", "Cyd"); err != nil {
			t.Errorf("the switch has failed, and the source takes no writes: %v", err)
		}
		err = store.Update(t.Context(), "app", nil, func(tx directory.Writer) error { return tx.DeleteUser("app", "cyd") })
		if err != nil {
			t.Error(err)
		}
		if err := m.Switch(t.Context(), nothingBeside); err != nil {
			t.Fatal(err)
		}
		expectRefused("was moved to another database")
	})
}

// TestMoveRefusesWhoWaited demands that a write which had looked for a move before there was one, and waits for the
// lock of writers while it switches, is refused when it gets it.
func TestMoveRefusesWhoWaited(t *testing.T) {
	t.Parallel()
	from := newFile(t)
	store, err := openAt(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m := beginMove(t, from, newPostgres(t))
	defer closeMove(t, m)
	waited := make(chan error, 1)
	err = m.Switch(t.Context(), func() error {
		store.PretendToHaveLooked(time.Now().Add(30 * time.Millisecond)) // the switch takes longer than that from here on
		go func() { waited <- register(t.Context(), store, "ada", "Ada") }()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var refused *directory.Error
	if err := <-waited; !errors.As(err, &refused) || !strings.Contains(refused.Message, "was moved to another database") &&
		!strings.Contains(refused.Message, "is being moved") {
		t.Errorf("a write that waited for the switch gets %v", err)
	}
	if names := namesIn(t, store, "app"); names != "" {
		t.Errorf("the source has %q", names)
	}
}

// TestMoveCutOffInTheSwitch goes on when the source was sealed and the target was not ready.
func TestMoveCutOffInTheSwitch(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to sqlstore.MovePlace) {
		store, err := openAt(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(register(t.Context(), store, "ada", "Ada"), store.Close()); err != nil {
			t.Fatal(err)
		}
		m := beginMove(t, from, to)
		if err := m.SwitchByHalf(t.Context()); err != nil {
			t.Fatal(err)
		}
		closeMove(t, m)
		if _, err := openAt(t.Context(), from); err == nil || !strings.Contains(err.Error(), "was moved to") {
			t.Errorf("the source is opened: %v", err)
		}
		if to.URL != "" {
			if _, err := openAt(t.Context(), to); err == nil || !strings.Contains(err.Error(), "is not done") {
				t.Errorf("the target is opened before the move is done: %v", err)
			}
		}
		m = beginMove(t, from, to)
		if !m.Sealed || !m.GoesOn {
			t.Error("the move does not know that it was cut off in the switch")
		}
		if err := m.Switch(t.Context(), nothingBeside); err != nil {
			t.Fatal(err)
		}
		closeMove(t, m)
		_, err = sqlstore.OpenMove(t.Context(), from, to, func(sqlstore.MoveProgress) {})
		if !sqlstore.IsMoveDone(err) {
			t.Errorf("the move is done, and is begun anew: %v", err)
		}
		moved, err := openAt(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		defer moved.Close()
		if names := namesIn(t, moved, "app"); names != "Ada 0" {
			t.Errorf("the target has %q", names)
		}
	})
}

// TestMoveRefuses demands that data which is not of the move is left alone, and so is a source that is not as it should
// be.
func TestMoveRefuses(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to sqlstore.MovePlace) {
		openPlace(t, from)()
		expect := func(from, to sqlstore.MovePlace, says string) {
			t.Helper()
			m, err := sqlstore.OpenMove(t.Context(), from, to, func(sqlstore.MoveProgress) {})
			if err == nil {
				closeMove(t, m)
			}
			_, errPlan := sqlstore.PlanMove(t.Context(), from, to)
			for _, err := range []error{err, errPlan} {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("it says %v, want %q", err, says)
				}
			}
		}
		other := sqlstore.MovePlace{Path: filepath.Join(t.TempDir(), "rollcall.db")}
		openPlace(t, other)()
		unfinished := beginMove(t, other, to)
		closeMove(t, unfinished)
		expect(from, to, "a part of a move from SQLite in "+other.Path)

		used := to
		if to.URL != "" {
			used = newPostgres(t)
		} else {
			used.Path = filepath.Join(t.TempDir(), "rollcall.db")
		}
		store, err := openAt(t.Context(), used)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(register(t.Context(), store, "ada", "Ada"), store.Close()); err != nil {
			t.Fatal(err)
		}
		expect(from, used, "data that is not of this move")
		openPlace(t, used)() // and is as it was
	})
	t.Run("an earlier version", func(t *testing.T) {
		t.Parallel()
		old := newFile(t)
		if err := sqlstore.MakeSQLite(t.Context(), old.Path, sqlstore.LatestVersion-1); err != nil {
			t.Fatal(err)
		}
		_, err := sqlstore.OpenMove(t.Context(), old, newPostgres(t), func(sqlstore.MoveProgress) {})
		if err == nil || !strings.Contains(err.Error(), "has schema version") {
			t.Errorf("it says %v", err)
		}
	})
}
