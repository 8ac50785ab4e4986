package bus

import "sync"

// fanout hands what comes to the subscribers of this server. Each has a bounded queue and a goroutine of its own.
type fanout struct {
	counters *counters

	mu            sync.RWMutex
	closed        bool                       // guarded by mu
	subscriptions map[*subscription]struct{} // guarded by mu
}

func newFanout(counters *counters) *fanout {
	return &fanout{counters: counters, subscriptions: map[*subscription]struct{}{}}
}

func (f *fanout) subscribe(prefix string, to Subscriber) (*subscription, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	s := &subscription{
		counters: f.counters, prefix: prefix, to: to, wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	f.subscriptions[s] = struct{}{}
	go s.run()
	return s, nil
}

// unsubscribe returns when the subscriber is not called any more.
func (f *fanout) unsubscribe(s *subscription) {
	f.mu.Lock()
	delete(f.subscriptions, s)
	f.mu.Unlock()
	s.end()
	<-s.ended
}

// deliver queues a message for everybody who has subscribed to it.
func (f *fanout) deliver(subject string, message []byte) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for s := range f.subscriptions {
		if covers(s.prefix, subject) {
			s.deliver(subject, message)
		}
	}
}

// missed tells everybody.
func (f *fanout) missed() {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for s := range f.subscriptions {
		s.missed()
	}
}

func (f *fanout) close() {
	f.mu.Lock()
	f.closed = true
	ending := f.subscriptions
	f.subscriptions = nil
	f.mu.Unlock()
	for s := range ending {
		s.end()
	}
	for s := range ending {
		<-s.ended
	}
}

// subscription is one subscriber and what waits for it.
type subscription struct {
	counters *counters
	prefix   string
	to       Subscriber
	wake     chan struct{}
	ended    chan struct{}

	mu     sync.Mutex
	over   bool       // guarded by mu
	queued []delivery // guarded by mu
	bytes  int        // guarded by mu
}

// delivery is a message, or word that something was missed.
type delivery struct {
	subject string
	message []byte
	missed  bool
}

func (s *subscription) deliver(subject string, message []byte) {
	s.counters.received.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queued) >= maxQueuedMessages || s.bytes+len(message) > maxQueued {
		for _, waiting := range s.queued {
			if !waiting.missed {
				s.counters.overflowed.Add(1)
			}
		}
		s.queued, s.bytes = []delivery{{missed: true}}, 0
	}
	s.queue(delivery{subject: subject, message: message})
}

func (s *subscription) missed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queued) == 0 || !s.queued[len(s.queued)-1].missed {
		s.queue(delivery{missed: true})
	}
}

// queue is called with mu held.
func (s *subscription) queue(d delivery) {
	if s.over {
		return
	}
	s.queued = append(s.queued, d)
	s.bytes += len(d.message)
	signal(s.wake)
}

func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.queued = true, nil
	signal(s.wake)
}

func (s *subscription) run() {
	defer close(s.ended)
	for {
		next, waiting, over := s.next()
		switch {
		case over:
			return
		case !waiting:
			<-s.wake
		case !next.missed:
			s.to.Message(next.subject, next.message)
		case s.to.Missed != nil:
			s.to.Missed()
		}
	}
}

func (s *subscription) next() (next delivery, waiting, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || len(s.queued) == 0 {
		return delivery{}, false, s.over
	}
	next = s.queued[0]
	s.queued[0] = delivery{} // what was handed over is not kept
	s.queued = s.queued[1:]
	s.bytes -= len(next.message)
	return next, true, false
}

// signal wakes who waits on a channel that holds one signal.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default: // it has been told
	}
}
