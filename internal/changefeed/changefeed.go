// Package changefeed hands what was committed to those who act on it: every change of an app with its content, in order
// and without a gap. What this server commits is handed on as it was committed; what may have been missed, because a
// follower is slow or somebody else may have written, is read from the change log.
package changefeed

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// Source is where commits come from.
type Source interface {
	// Follow adds a function that is called with every commit from now on, in order for each app, before anybody is
	// answered who waits for it.
	Follow(func(directory.Commit))
	// CommitsSince reads what was committed to an app after a revision: at most limit changes, and the users that they are
	// about as they are now, as one commit. Without any changes, its revision is the app's last.
	CommitsSince(ctx context.Context, app directory.AppID, since int64, limit int) (directory.Commit, error)
}

const (
	// maxQueued is how many commits are kept for a follower: those that it missed, it reads.
	maxQueued = 1000
	// readAtOnce is how many changes are read together.
	readAtOnce = 500
	// lookAgain is how soon the log is read again when that has failed, or when it is not known whether something was
	// committed.
	lookAgain = time.Second
)

// Feed hands commits on. It is safe for concurrent use.
type Feed struct {
	source Source

	mu        sync.Mutex
	followers map[directory.AppID][]*Follower // guarded by mu
}

// New returns a feed of what a source commits from now on.
func New(source Source) *Feed {
	f := &Feed{source: source, followers: map[directory.AppID][]*Follower{}}
	source.Follow(f.hand)
	return f
}

// Follow begins to follow an app from behind a revision on. Close the follower when it is not needed any more.
func (f *Feed) Follow(app directory.AppID, since int64) *Follower {
	follower := &Follower{feed: f, app: app, revision: since, missed: true, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers[app] = append(f.followers[app], follower)
	return follower
}

// CatchUp makes every follower read the log, because somebody else may have written to it.
func (f *Feed) CatchUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, followers := range f.followers {
		for _, follower := range followers {
			follower.miss()
		}
	}
}

// hand gives a commit to the followers of its app.
func (f *Feed) hand(commit directory.Commit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, follower := range f.followers[commit.App] {
		follower.take(commit)
	}
}

// Follower is handed the commits of one app. Next is for one goroutine; the other methods are safe for concurrent use.
type Follower struct {
	feed *Feed
	app  directory.AppID
	// revision is the last that Next has returned. It belongs to who calls Next.
	revision int64
	wake     chan struct{}

	mu     sync.Mutex
	queued []directory.Commit // guarded by mu
	// missed says that the log is to be read. Guarded by mu.
	missed bool
	// uncertain says that it is not known whether something was committed. Guarded by mu.
	uncertain bool
	// handed is the last revision that is known to be committed. Guarded by mu.
	handed int64
}

// Close ends the following.
func (f *Follower) Close() {
	f.feed.mu.Lock()
	defer f.feed.mu.Unlock()
	left := slices.DeleteFunc(f.feed.followers[f.app], func(other *Follower) bool { return other == f })
	if f.feed.followers[f.app] = left; len(left) == 0 {
		delete(f.feed.followers, f.app)
	}
}

// Handed returns a revision that Next returns, or has returned, and that no write which was answered before is behind.
func (f *Follower) Handed() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handed
}

func (f *Follower) take(commit directory.Commit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case commit.Uncertain:
		f.missed, f.uncertain = true, true
	case len(commit.Changes) == 0:
		f.uncertain = false
		return
	case f.missed || len(f.queued) >= maxQueued:
		f.queued, f.missed, f.uncertain = nil, true, false
		f.handed = max(f.handed, commit.Revision)
	default:
		f.queued, f.uncertain = append(f.queued, commit), false
		f.handed = commit.Revision
	}
	f.wakeUp()
}

func (f *Follower) miss() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued, f.missed = nil, true
	f.wakeUp()
}

func (f *Follower) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default: // it has been told
	}
}

// Next waits for the next commit that changed something, and returns it. When the log cannot be read, it returns why;
// the next call tries again a moment later.
func (f *Follower) Next(ctx context.Context) (directory.Commit, error) {
	for {
		commit, queued, missed, uncertain := f.next()
		switch {
		case queued && commit.Changes[0].Revision == f.revision+1:
			f.revision = commit.Revision
			return commit, nil
		case queued && commit.Revision <= f.revision: // it was read
			continue
		case queued || missed:
			read, err := f.read(ctx)
			if err != nil || len(read.Changes) > 0 {
				return read, err
			}
			if !uncertain {
				continue
			}
		}
		if err := f.wait(ctx, uncertain); err != nil {
			return directory.Commit{}, err
		}
	}
}

// next takes the next commit from the queue.
func (f *Follower) next() (commit directory.Commit, queued, missed, uncertain bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.missed || len(f.queued) == 0 {
		return directory.Commit{}, false, f.missed, f.uncertain
	}
	commit = f.queued[0]
	f.queued = f.queued[1:]
	return commit, true, false, false
}

// read reads from the log what is behind the last revision. When that is not all, it will be read on.
func (f *Follower) read(ctx context.Context) (directory.Commit, error) {
	f.mu.Lock()
	f.missed, f.queued = false, nil // what is committed from here on is queued, or seen
	f.mu.Unlock()
	commit, err := f.feed.source.CommitsSince(ctx, f.app, f.revision, readAtOnce)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.missed = true
		return directory.Commit{}, err
	}
	if len(commit.Changes) == readAtOnce {
		f.missed, f.queued = true, nil
	}
	f.missed = f.missed || f.uncertain
	f.handed = max(f.handed, commit.Revision)
	f.revision = max(f.revision, commit.Revision)
	return commit, nil
}

// wait returns when there may be something to do.
func (f *Follower) wait(ctx context.Context, soon bool) error {
	var again <-chan time.Time
	if soon {
		timer := time.NewTimer(lookAgain)
		defer timer.Stop()
		again = timer.C
	}
	select {
	case <-f.wake:
		return nil
	case <-again:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
