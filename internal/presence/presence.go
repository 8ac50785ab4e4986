// Package presence knows who is online. It turns the sessions of devices into one status per user, waits out short
// interruptions, tells those who have subscribed and may know, and keeps what is worth keeping of it. It knows no
// sockets: a session's Listener does.
//
// Each app has a roster with one lock. Everything that happens to presence happens under it and in order, so that
// nobody hears of one user in the wrong order; nothing that waits for a disk or a network happens under any lock.
package presence

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/awake"
	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
)

// Config is what a Presence needs. Directory is required; everything else has a useful zero value.
type Config struct {
	Directory *directory.Directory
	// Feed hands over what is committed to the directory. Nil means one of its own.
	Feed *changefeed.Feed
	// Grace is how long a device may be away whose connection broke before its user counts as offline. Zero means
	// DefaultGrace.
	Grace time.Duration
	// SilenceGrace is the same for a device that has fallen silent. Zero means 5 s.
	SilenceGrace time.Duration
	// Quiet is the least time between two events about a user. Zero means 250 ms.
	Quiet time.Duration
	// SessionsPerUser is how many live sessions a user may have. Zero means DefaultSessionsPerUser.
	SessionsPerUser int
	// WatchedPerUser is how many users the sessions of one user may watch by their uids, counted for each session, and
	// WatchedPerApp the same for all sessions of an app. Zero means DefaultWatchedPerUser and DefaultWatchedPerApp.
	WatchedPerUser, WatchedPerApp int
	// Returning are the users who were online when the server last ran. Clients that come back believe it still: those who
	// do not return within ReturnWithin are announced as offline, and for those who do nothing needs to be said.
	Returning map[directory.AppID][]directory.User
	// ReturnWithin is counted from the first session or stream of the app on. Zero means DefaultReturnWithin.
	ReturnWithin time.Duration
	// Logger gets what went wrong. Nil discards it.
	Logger *slog.Logger
	// Observer gets the numbers. Nil discards them.
	Observer Observer
}

// What the zero value of a Config means.
const (
	DefaultGrace           = 8 * time.Second
	DefaultReturnWithin    = 15 * time.Second
	DefaultSessionsPerUser = 100
	DefaultWatchedPerUser  = 50_000
	DefaultWatchedPerApp   = 5_000_000
)

// Observer counts what happens. Its methods are called under a lock, and must be quick.
type Observer interface {
	// SessionOpened and SessionEnded count sessions.
	SessionOpened()
	SessionEnded(cause Cause)
	// OnlineChanged adds to the number of online users.
	OnlineChanged(by int)
	// Announced counts a change of a user's status and how many heard of it.
	Announced(status Status, cause Cause, listeners int)
	// FalselyOffline and Stuck count users whose announced status was found to contradict their sessions.
	FalselyOffline()
	Stuck()
}

// Presence is the presence of all apps. It is safe for concurrent use.
type Presence struct {
	config Config
	dir    *directory.Directory
	// clock is what every span of time is measured with: while the server does not run, nobody's time runs out.
	clock *awake.Clock
	began time.Time
	// readers are there for the apps of config.Returning, and not changed.
	readers map[directory.AppID]*readers

	mu      sync.Mutex
	rosters map[directory.AppID]*roster // guarded by mu
	// making are the rosters that are being made; each is closed when its is. Guarded by mu.
	making map[directory.AppID]chan struct{}
	closed bool // guarded by mu

	running context.Context //nolint:containedctx // it bounds the work of the rosters, which outlives any call
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// New returns a Presence in which nobody is online. Close stops it.
func New(config Config) *Presence {
	for _, duration := range []struct {
		field   *time.Duration
		standby time.Duration
	}{{&config.Grace, DefaultGrace}, {&config.SilenceGrace, 5 * time.Second}, {&config.Quiet, 250 * time.Millisecond}, {&config.ReturnWithin, DefaultReturnWithin}} {
		if *duration.field <= 0 {
			*duration.field = duration.standby
		}
	}
	for _, limit := range []struct {
		field   *int
		standby int
	}{
		{&config.SessionsPerUser, DefaultSessionsPerUser},
		{&config.WatchedPerUser, DefaultWatchedPerUser},
		{&config.WatchedPerApp, DefaultWatchedPerApp},
	} {
		if *limit.field <= 0 {
			*limit.field = limit.standby
		}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Observer == nil {
		config.Observer = nobody{}
	}
	if config.Feed == nil {
		config.Feed = changefeed.New(config.Directory)
	}
	p := &Presence{
		config: config, dir: config.Directory, clock: awake.NewClock(), began: time.Now(),
		rosters: map[directory.AppID]*roster{}, making: map[directory.AppID]chan struct{}{},
		readers: map[directory.AppID]*readers{},
	}
	for app := range config.Returning {
		p.readers[app] = newReaders()
	}
	p.running, p.stop = context.WithCancel(context.Background())
	p.work.Go(func() { p.clock.Run(p.running) })
	return p
}

// Clock is the clock that presence goes by. It runs until Close.
func (p *Presence) Clock() *awake.Clock { return p.clock }

// now is the time by the clock. Times within this package are such times, and compared with nothing else.
func (p *Presence) now() time.Time { return p.began.Add(p.clock.Now()) }

// local returns the time by the clock of a moment of the lately past or of the future.
func (p *Presence) local(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return p.now().Add(time.Until(at))
}

// Drain makes sessions end without a word to anybody, because the server stops: their users are expected back.
func (p *Presence) Drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, r := range p.rosters {
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
	}
}

// Close ends what runs in the background and stores when everybody was last active. No session may be opened any more.
func (p *Presence) Close() {
	p.Drain()
	p.stop()
	p.work.Wait()
}

// roster returns the roster of an app, which it makes when it is wanted for the first time.
func (p *Presence) roster(ctx context.Context, app directory.AppID) (*roster, error) {
	for {
		p.mu.Lock()
		r, made, closed := p.rosters[app], p.making[app], p.closed
		if r == nil && made == nil && !closed {
			made = make(chan struct{})
			p.making[app] = made
			p.mu.Unlock()
			return p.makeRoster(ctx, app, made)
		}
		p.mu.Unlock()
		switch {
		case r != nil:
			return r, nil
		case closed:
			return nil, errClosed()
		}
		select {
		case <-made:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// makeRoster makes the roster of an app, while whoever else wants it waits for made.
func (p *Presence) makeRoster(ctx context.Context, app directory.AppID, made chan struct{}) (*roster, error) {
	// What is committed from here on is handed to the roster, and what it reads is as new.
	last, err := p.dir.CommitsSince(ctx, app, math.MaxInt64-1, 1)
	feed := p.config.Feed.Follow(app, last.Revision)
	var policy *directory.Policy
	if err == nil {
		policy, err = p.dir.Policy(ctx, app)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.making, app)
	close(made)
	if err == nil && p.closed {
		err = errClosed()
	}
	if err != nil {
		feed.Close()
		return nil, err
	}
	r := newRoster(p, app, policy)
	r.feed, r.followed = feed, last.Revision
	r.expect(p.config.Returning[app])
	delete(p.config.Returning, app)
	p.rosters[app] = r
	p.work.Go(func() { r.keepTime(p.running) })
	p.work.Go(func() { r.follow(p.running) })
	p.work.Go(func() { r.keepRecord(p.running) })
	return r, nil
}

// known returns the roster of an app, nil when nobody has asked for it yet.
func (p *Presence) known(app directory.AppID) *roster {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rosters[app]
}

func errClosed() error {
	return &directory.Error{Code: directory.CodeOperationFailed, Message: "The server is stopping. Try again in a moment."}
}

// stamp is the directory's time of a moment by the clock, in Unix seconds.
func (p *Presence) stamp(at time.Time) int64 {
	return p.dir.Now() - int64(p.now().Sub(at)/time.Second)
}

type nobody struct{}

func (nobody) SessionOpened()               {}
func (nobody) SessionEnded(Cause)           {}
func (nobody) OnlineChanged(int)            {}
func (nobody) Announced(Status, Cause, int) {}
func (nobody) FalselyOffline()              {}
func (nobody) Stuck()                       {}
