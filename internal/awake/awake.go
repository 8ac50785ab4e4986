// Package awake tells the time in which this process ran. A process that is stopped, or whose machine is paused, hears
// nothing of its clients meanwhile: that time is nobody's silence. The package knows nothing of who waits for whom.
package awake

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	beatEvery = 250 * time.Millisecond
	// pauseFrom is how long no beat may come before the process is taken to have been stopped.
	pauseFrom = 2 * time.Second
)

// Clock counts the time since it was made, without the spans of two seconds and more in which the process did not run.
// It never jumps and never goes back, whatever happens to the time of day. It is safe for concurrent use.
type Clock struct {
	started time.Time
	state   atomic.Pointer[state]
}

// state is replaced as a whole, so that nobody sees half of a pause.
type state struct {
	beat   time.Duration // when the process was last seen to run, since started
	paused time.Duration // how much of that time it did not run
}

// NewClock returns a clock, for which Run must be running by the time that it is asked.
func NewClock() *Clock {
	c := &Clock{started: time.Now()}
	c.state.Store(&state{})
	return c
}

// Run keeps the clock going until ctx ends. A clock that is not kept going stands still after two seconds.
func (c *Clock) Run(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.beat()
		case <-ctx.Done():
			return
		}
	}
}

// beat notes that the process runs, and what it has slept through if it has. It returns what is true then.
func (c *Clock) beat() *state {
	for {
		was := c.state.Load()
		now := time.Since(c.started)
		is := &state{beat: max(now, was.beat), paused: was.paused}
		if gap := now - was.beat; gap >= pauseFrom {
			is.paused += gap - beatEvery
		}
		if c.state.CompareAndSwap(was, is) {
			return is
		}
	}
}

// Now returns the time in which the process ran, since the clock was made. Who asks first after a pause is told of it
// already.
func (c *Clock) Now() time.Duration {
	for {
		is := c.state.Load()
		now := time.Since(c.started)
		if now-is.beat >= beatEvery { // whoever asks has seen the process run
			is = c.beat()
			return is.beat - is.paused
		}
		if c.state.Load() == is { // otherwise a pause may lie between the two
			return now - is.paused
		}
	}
}
