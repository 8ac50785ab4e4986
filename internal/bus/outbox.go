package bus

import (
	"bytes"
	"sync"
)

// outgoing is a message that waits to be sent.
type outgoing struct {
	subject string
	message []byte
}

// outbox is the bounded queue of what is to be sent. One goroutine takes from it.
type outbox struct {
	counters *counters
	// wake is signalled when there may be something to do.
	wake chan struct{}

	mu     sync.Mutex
	queued []outgoing // guarded by mu
	bytes  int        // guarded by mu
	// lost says that the others are to be told that they missed something. Guarded by mu.
	lost   bool
	closed bool // guarded by mu
}

func newOutbox(counters *counters) *outbox {
	return &outbox{counters: counters, wake: make(chan struct{}, 1)}
}

// put queues a copy of a message, and drops the oldest when there are too many.
func (o *outbox) put(subject string, message []byte) error {
	if err := checkMessage(subject, message); err != nil {
		return err
	}
	copied := bytes.Clone(message)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	for len(o.queued) >= maxQueuedMessages || o.bytes+len(copied) > maxQueued {
		o.pop()
		o.counters.dropped.Add(1)
		o.lost = true
	}
	o.queued = append(o.queued, outgoing{subject, copied})
	o.bytes += len(copied)
	signal(o.wake)
	return nil
}

// pop is called with mu held.
func (o *outbox) pop() outgoing {
	next := o.queued[0]
	o.queued[0] = outgoing{}
	o.queued = o.queued[1:]
	o.bytes -= len(next.message)
	return next
}

// take returns the oldest messages, of some limit bytes together, and whether some before them were lost.
func (o *outbox) take(limit int) (batch []outgoing, lost bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for size := 0; len(o.queued) > 0 && size < limit; {
		next := o.pop()
		size += len(next.message) + len(next.subject)
		batch = append(batch, next)
	}
	lost, o.lost = o.lost, false
	return batch, lost
}

// failed says that a number of messages may never have been sent, and that the others are to be told.
func (o *outbox) failed(messages int) {
	o.counters.dropped.Add(uint64(messages))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = true
	signal(o.wake)
}

// size returns how many bytes wait, whether there is anything to send at all, and whether the outbox was closed.
func (o *outbox) size() (bytes int, waiting, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes, o.lost || len(o.queued) > 0, o.closed
}

// close refuses what is published from now on.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	signal(o.wake)
}

// abandon gives up what was never sent.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counters.dropped.Add(uint64(len(o.queued)))
	o.queued, o.bytes = nil, 0
}
