package bus

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// link knows whether the bus can be used, and tells the owner once when that changes.
type link struct {
	options  Options
	counters *counters

	mu sync.Mutex
	// broken are the connections that are not there. Guarded by mu.
	broken map[string]bool
	state  linkState // guarded by mu
	wasUp  bool      // guarded by mu
}

type linkState int

const (
	linkNew linkState = iota
	linkDown
	linkUp
)

// newLink returns a link that is up when all of its connections are.
func newLink(options Options, counters *counters, connections ...string) *link {
	l := &link{options: options, counters: counters, broken: map[string]bool{}}
	for _, connection := range connections {
		l.broken[connection] = true
	}
	return l
}

func (l *link) works(connection string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.broken, connection)
	if len(l.broken) > 0 || l.state == linkUp {
		return
	}
	l.state = linkUp
	if l.wasUp {
		l.counters.reconnects.Add(1)
	}
	l.wasUp = true
	l.options.Log.Info("the bus is up")
	if l.options.Up != nil {
		l.options.Up()
	}
}

func (l *link) isUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == linkUp
}

func (l *link) fails(connection string, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken[connection] = true
	l.goDown(why)
}

// notYet says that the first connection has not come about at once.
func (l *link) notYet(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkNew {
		l.goDown(why)
	}
}

// goDown is called with mu held.
func (l *link) goDown(why error) {
	if l.state == linkDown {
		return
	}
	l.state = linkDown
	l.options.Log.Warn("the bus is down: servers learn from each other by polling until it is back", "error", why)
	if l.options.Down != nil {
		l.options.Down(why)
	}
}

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// retryAfter returns how long to wait before an attempt, when some have failed: a little longer each time, and not the
// same for every server.
func retryAfter(failures int) time.Duration {
	longest := min(lastRetry, firstRetry<<min(failures, 10))
	return longest/2 + rand.N(longest/2)
}

// pause waits, and says whether that was to the end.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
