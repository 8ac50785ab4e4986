package presence

import (
	"github.com/rollcall/rollcall/internal/directory"
)

// changeView makes a change to what a viewer may hear of somebody, and tells its sessions whom they see now or do not
// see any more. subject may be nil for somebody who is not there. It needs the lock.
func (r *roster) changeView(viewer, subject *person, uid directory.UID, change func()) {
	r.recent.add(mark{viewer: viewer.user.UID, subject: uid})
	if subject == nil || subject.told.status.public() == Offline {
		change()
		return
	}
	heard := make([]bool, len(viewer.sessions))
	for i, s := range viewer.sessions {
		heard[i] = r.hears(s, subject)
	}
	change()
	for i, s := range viewer.sessions {
		r.tellOne(s, subject, heard[i], r.hears(s, subject))
	}
}

// tellOne tells one session what follows for it from a change of what it may hear. It needs the lock.
func (r *roster) tellOne(s *Session, subject *person, heard, hears bool) {
	switch {
	case heard && !hears:
		s.listener.Deliver(r.hides(subject))
	case hears && !heard:
		r.shows(s, subject, r.event(subject, subject.told.status, subject.told.text))
	}
}

// shows delivers an event to a session that hears of a person from now on. It needs the lock.
func (r *roster) shows(s *Session, subject *person, event *Event) {
	s.listener.Deliver(event)
	subject.noteShown(s)
}

// hides makes the event for who may not know any more that a person is online. When the person was last active, it does
// not tell. It needs the lock.
func (r *roster) hides(subject *person) *Event {
	event := r.event(subject, Offline, "")
	event.At = r.presence.dir.Now()
	return event
}

// shown is whom a session has been told to be online.
type shown map[*person]bool

// heardBy returns the users shown to each session of a person. It needs the lock.
func (r *roster) heardBy(p *person) []shown {
	views := make([]shown, len(p.sessions))
	for i, s := range p.sessions {
		views[i] = r.shownTo(s)
	}
	return views
}

func (r *roster) shownTo(s *Session) shown {
	seen := shown{}
	if s.subscription.Scope == NoUsers {
		return seen
	}
	for _, subject := range r.people {
		if subject.told.status.public() != Offline && r.hears(s, subject) {
			seen[subject] = true
		}
	}
	return seen
}

// tellDifference tells the sessions of a person how whom they see differs from what they were. It needs the lock.
func (r *roster) tellDifference(p *person, before []shown) {
	for i, s := range p.sessions {
		after := r.shownTo(s)
		for subject := range before[i] {
			if !after[subject] {
				r.tellOne(s, subject, true, false)
			}
		}
		for subject := range after {
			if !before[i][subject] {
				r.tellOne(s, subject, false, true)
			}
		}
	}
}
