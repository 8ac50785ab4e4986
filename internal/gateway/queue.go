package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// queue hands sockets to workers. Putting something in never waits.
type queue struct {
	mu      sync.Mutex
	ready   sync.Cond
	sockets []*socket // guarded by mu
	head    int       // guarded by mu
	closed  bool      // guarded by mu
}

// taken is how many sockets a worker takes at once.
const taken = 32

func newQueue() *queue {
	q := &queue{}
	q.ready.L = &q.mu
	return q
}

func (q *queue) put(sockets ...*socket) {
	q.mu.Lock()
	q.sockets = append(q.sockets, sockets...)
	q.mu.Unlock()
	if len(sockets) > 1 {
		q.ready.Broadcast()
		return
	}
	q.ready.Signal()
}

// take waits for sockets and moves some into the buffer. It returns none when the queue is closed and empty.
func (q *queue) take(into []*socket) []*socket {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head == len(q.sockets) {
		if q.closed {
			return nil
		}
		q.ready.Wait()
	}
	n := copy(into[:cap(into)], q.sockets[q.head:])
	clear(q.sockets[q.head : q.head+n])
	q.head += n
	if q.head == len(q.sockets) {
		if cap(q.sockets) > 1024 {
			q.sockets = nil // a burst is over
		}
		q.sockets, q.head = q.sockets[:0], 0
	} else if q.head > 1024 && q.head > len(q.sockets)/2 {
		left := copy(q.sockets, q.sockets[q.head:])
		clear(q.sockets[left:])
		q.sockets, q.head = q.sockets[:left], 0
	}
	return into[:n]
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Broadcast()
}

// The least time between two writes to one socket: what comes meanwhile goes out together. With few sockets waiting it
// is short; with many, each write less is worth more than what it delays.
const (
	lightPace = 50 * time.Millisecond
	heavyPace = 200 * time.Millisecond
	heavyFrom = 1000
)

// pacer holds sockets back that have been written to a moment ago.
type pacer struct {
	started time.Time
	waiting atomic.Int64
	wake    chan struct{}

	mu sync.Mutex
	// slots hold the sockets by when they are due: the slot with number n is that of the n-th span since started.
	slots [slots][]*socket // guarded by mu
	done  int64            // the number of the last slot that was emptied. Guarded by mu
}

const (
	slots    = 64
	slotSpan = 5 * time.Millisecond // slots spans are longer than any pace
)

func newPacer() *pacer { return &pacer{started: time.Now(), wake: make(chan struct{}, 1)} }

// pace is the least time between two writes to a socket now.
func (p *pacer) pace() time.Duration {
	if p.waiting.Load() >= heavyFrom {
		return heavyPace
	}
	return lightPace
}

func (p *pacer) now() int64 { return int64(time.Since(p.started) / slotSpan) }

// hold keeps a socket back for a while, which is shorter than slots spans.
func (p *pacer) hold(s *socket, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.waiting.Add(1) == 1
	now := p.now()
	if first {
		p.done = max(p.done, now-1) // nobody has waited for the slots before
	}
	due := max(now+int64(wait/slotSpan)+1, p.done+1)
	p.slots[due%slots] = append(p.slots[due%slots], s)
	if first {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// run moves sockets to a queue when their time has come, until ctx ends.
func (p *pacer) run(ctx context.Context, to *queue) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if p.waiting.Load() > 0 {
			wait = slotSpan
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if due := p.takeDue(); len(due) > 0 {
			to.put(due...)
		}
	}
}

func (p *pacer) takeDue() (due []*socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for now := p.now(); p.done < now; {
		p.done++
		slot := &p.slots[p.done%slots]
		due = append(due, *slot...)
		*slot = nil
	}
	p.waiting.Add(int64(-len(due)))
	return due
}
