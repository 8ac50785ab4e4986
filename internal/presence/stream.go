package presence

import (
	"context"
	"fmt"
	"sync"

	"github.com/rollcall/rollcall/internal/directory"
)

// maxStreamed bounds how many events wait for the reader of a stream.
const maxStreamed = 10_000

// Stream is what happens in an app, told to its operator: every change of every user, those invisible included. It is
// for one reader.
type Stream struct {
	roster *roster
	// informed and unsure are as in Session. Guarded by the roster's lock.
	informed, unsure bool

	mu     sync.Mutex
	events []*Event // guarded by mu
	// overrun says that the reader was too slow. Guarded by mu.
	overrun bool
	grown   chan struct{}
}

// Watch opens a stream. Close it. With a position that is remembered, people holds how those are now who changed since;
// without one that is, complete is true and people holds all who are online.
// Errors: CodeInvalidApp, CodeAppArchived, CodeOperationFailed.
func (p *Presence) Watch(
	ctx context.Context, app directory.AppID, from *Position,
) (stream *Stream, people []UserStatus, position Position, complete bool, err error) {
	r, err := p.roster(ctx, app)
	if err != nil {
		return nil, nil, position, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, position, false, errClosed()
	}
	r.awaitReturns()
	stream = &Stream{roster: r, grown: make(chan struct{}, 1), informed: from == nil}
	r.streams = append(r.streams, stream)
	position = Position{Epoch: r.recent.epoch, Sequence: r.recent.last}
	if from != nil && from.Epoch == r.recent.epoch {
		if subjects, known := r.recent.since(from.Sequence, ""); known {
			stream.unsure = true
			for uid := range subjects {
				people = append(people, r.trueStanding(uid))
			}
			return stream, people, position, false, nil
		}
	}
	for uid, p := range r.people {
		if p.told.status != Offline && p.isThereFor(stream.informed) {
			people = append(people, r.trueStanding(uid))
		}
	}
	return stream, people, position, true, nil
}

func (r *roster) trueStanding(uid directory.UID) UserStatus {
	p, there := r.people[uid]
	if !there {
		return UserStatus{UID: uid, Status: Offline}
	}
	standing := r.statusOfPerson(p)
	standing.Status = p.told.status
	return standing
}

// hear queues an event for the reader.
func (s *Stream) hear(event *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) >= maxStreamed {
		s.overrun, s.events = true, nil
	}
	if !s.overrun {
		s.events = append(s.events, event)
	}
	select {
	case s.grown <- struct{}{}:
	default:
	}
}

func (s *Stream) tellsApart(a, b appearance) bool { return a.status != b.status || a.text != b.text }

// Grown delivers when there may be something to take.
func (s *Stream) Grown() <-chan struct{} { return s.grown }

// Take returns the events since it was last called, and false when the reader was too slow and must begin anew.
func (s *Stream) Take() (events []*Event, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, s.events = s.events, nil
	return events, !s.overrun
}

// Position returns the position behind an event of the stream.
func (s *Stream) Position(event *Event) Position {
	return Position{Epoch: s.roster.recent.epoch, Sequence: event.Sequence}
}

// Close ends the stream.
func (s *Stream) Close() {
	r := s.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.streams {
		if other == s {
			r.streams = append(r.streams[:i], r.streams[i+1:]...)
			return
		}
	}
}

func (p Position) String() string { return fmt.Sprintf("%s:%d", p.Epoch, p.Sequence) }
