package gateway

import (
	"context"
	"sync"
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

// pace is the least time between two writes to one socket: what comes meanwhile goes out together.
const pace = 100 * time.Millisecond

// pacer holds sockets back that have just been written to. As all wait for the same time, they come out in order.
type pacer struct {
	mu      sync.Mutex
	waiting []paced // guarded by mu
	wake    chan struct{}
}

type paced struct {
	socket *socket
	due    time.Time
}

func newPacer() *pacer { return &pacer{wake: make(chan struct{}, 1)} }

func (p *pacer) hold(s *socket, due time.Time) {
	p.mu.Lock()
	p.waiting = append(p.waiting, paced{s, due})
	first := len(p.waiting) == 1
	p.mu.Unlock()
	if first {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// run moves sockets to a queue when their time has come, until ctx ends. Those due within a few milliseconds go together.
func (p *pacer) run(ctx context.Context, to *queue) {
	const together = 5 * time.Millisecond
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var due []*socket
	for {
		p.mu.Lock()
		wait := time.Hour
		if len(p.waiting) > 0 {
			wait = time.Until(p.waiting[0].due)
		}
		p.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-p.wake:
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		until := time.Now().Add(together)
		due = due[:0]
		p.mu.Lock()
		for len(due) < len(p.waiting) && p.waiting[len(due)].due.Before(until) {
			due = append(due, p.waiting[len(due)].socket)
		}
		p.waiting = append(p.waiting[:0], p.waiting[len(due):]...)
		p.mu.Unlock()
		if len(due) > 0 {
			to.put(due...)
			clear(due)
		}
	}
}
