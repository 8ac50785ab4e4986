package bus

import (
	"bytes"
	"sync"
)

// Exchange is where the servers of one process meet.
type Exchange struct {
	mu      sync.Mutex
	members map[*Local]struct{} // guarded by mu
}

// NewExchange returns an exchange that nobody has joined.
func NewExchange() *Exchange { return &Exchange{members: map[*Local]struct{}{}} }

// Local is the bus of one server among those of its process. A lone server hears nothing.
type Local struct {
	counters
	exchange *Exchange
	fanout   *fanout
}

// Join returns the bus of one more server.
func (e *Exchange) Join() *Local {
	l := &Local{exchange: e}
	l.fanout = newFanout(&l.counters)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.members[l] = struct{}{}
	return l
}

// Publish implements Bus.
func (l *Local) Publish(subject string, message []byte) error {
	if err := checkMessage(subject, message); err != nil {
		return err
	}
	l.exchange.mu.Lock() // one after another, so that everybody hears them in the same order
	defer l.exchange.mu.Unlock()
	if _, joined := l.exchange.members[l]; !joined {
		return ErrClosed
	}
	l.sent.Add(1)
	if len(l.exchange.members) == 1 {
		return nil
	}
	copied := bytes.Clone(message)
	for other := range l.exchange.members {
		if other != l {
			other.fanout.deliver(subject, copied)
		}
	}
	return nil
}

// Subscribe implements Bus.
func (l *Local) Subscribe(prefix string, to Subscriber) (unsubscribe func(), err error) {
	s, err := l.fanout.subscribe(prefix, to)
	if err != nil {
		return nil, err
	}
	return func() { l.fanout.unsubscribe(s) }, nil
}

// Close implements Bus.
func (l *Local) Close() error {
	l.exchange.mu.Lock()
	delete(l.exchange.members, l)
	l.exchange.mu.Unlock()
	l.fanout.close()
	return nil
}
