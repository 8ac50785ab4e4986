package changefeed_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// world is a directory with a feed of it.
type world struct {
	*testing.T
	*directory.Directory
	feed    *changefeed.Feed
	source  *source
	backend directory.Caller
}

// source is a directory that fails to read as often as it is told.
type source struct {
	*directory.Directory
	failures int
	reads    int
}

var errRead = errors.New("no answer")

func (s *source) CommitsSince(
	ctx context.Context, app directory.AppID, since int64, limit int,
) (directory.Commit, error) {
	s.reads++
	if s.failures > 0 {
		s.failures--
		return directory.Commit{}, errRead
	}
	return s.Directory.CommitsSince(ctx, app, since, limit)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	d := directory.New(directory.Config{Store: store, Secrets: keyring})
	t.Cleanup(func() {
		d.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	from := &source{Directory: d}
	w := &world{T: t, Directory: d, source: from, feed: changefeed.New(from)}
	created, err := d.CreateApp(t.Context(), "operator", directory.NewApp{Name: "Test"})
	if err != nil {
		t.Fatal(err)
	}
	w.backend = directory.System(created.App.ID, "test")
	return w
}

func (w *world) create(uid string) {
	w.Helper()
	if _, err := w.CreateUser(w.Context(), w.backend, directory.NewUser{UID: uid, Name: "Name of " + uid}); err != nil {
		w.Fatal(err)
	}
}

// next returns the next commit, and fails unless it goes on behind the last one.
func (w *world) next(follower *changefeed.Follower, last *int64) directory.Commit {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	commit, err := follower.Next(ctx)
	if err != nil {
		w.Fatal(err)
	}
	for _, change := range commit.Changes {
		if *last++; change.Revision != *last {
			w.Fatalf("revision %d is handed over where %d is next", change.Revision, *last)
		}
	}
	if commit.Revision != *last {
		w.Fatalf("a commit with changes up to %d says revision %d", *last, commit.Revision)
	}
	return commit
}

func TestFollowerIsHandedWhatIsCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var last int64
	follower := w.feed.Follow(w.backend.App, 0)
	defer follower.Close()
	w.next(follower, &last) // what the app was made with is read
	reads := w.source.reads
	for n := range 20 {
		uid := fmt.Sprintf("u%d", n)
		w.create(uid)
		if handed := follower.Handed(); handed != last+1 {
			t.Fatalf("handed %d when the write of %d was answered", handed, last+1)
		}
		commit := w.next(follower, &last)
		if len(commit.Users) != 1 || commit.Users[0].User.Name != "Name of "+uid {
			t.Fatalf("handed %+v for the creation of %s", commit.Users, uid)
		}
	}
	if w.source.reads != reads {
		t.Errorf("the log was read %d times for what was handed over", w.source.reads-reads)
	}
}

func TestFollowerReadsWhatItMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var last int64
	follower := w.feed.Follow(w.backend.App, 0)
	defer follower.Close()
	const users = 1300
	for n := range users {
		w.create(fmt.Sprintf("u%d", n))
	}
	if _, err := w.EraseUser(t.Context(), w.backend, "u7"); err != nil {
		t.Fatal(err)
	}
	w.source.failures = 1
	if _, err := follower.Next(t.Context()); !errors.Is(err, errRead) {
		t.Fatalf("a log that cannot be read came back as %v", err)
	}
	seen := map[directory.UID]*directory.User{}
	gone := 0
	for last < follower.Handed() || last == 0 {
		for _, change := range w.next(follower, &last).Users {
			seen[change.UID] = change.User
			if change.Gone {
				gone++
			}
		}
	}
	if len(seen) < users-1 || gone == 0 {
		t.Errorf("%d users, %d of them gone", len(seen), gone)
	}
	w.feed.CatchUp() // nothing comes twice
	w.create("late")
	if commit := w.next(follower, &last); len(commit.Changes) != 1 {
		t.Errorf("after catching up: %+v", commit.Changes)
	}
}

func TestFollowerEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var last int64
	follower := w.feed.Follow(w.backend.App, 0)
	w.next(follower, &last)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := follower.Next(ctx)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	follower.Close()
	w.create("unheard")
	if handed := follower.Handed(); handed != last {
		t.Errorf("a closed follower was handed %d", handed)
	}
}
