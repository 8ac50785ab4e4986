package presence

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
)

// roster is who is there in one app, and who wants to know.
type roster struct {
	presence *Presence
	app      directory.AppID
	// wake tells the timekeeper that something is due earlier than it knows.
	wake chan struct{}

	mu     sync.Mutex
	policy *directory.Policy
	closed bool
	// people are those with a session, live or lately ended, and those of whom something is still to be told.
	people  map[directory.UID]*person
	opening map[directory.UID][]*Session
	listeners
	audiences map[rolePair]audience
	due       agenda
	recent    recent
	streams   []*Stream
	unsaved   record
	online    int
	// expected are those who were online when the server last ran, until the first session or stream is opened.
	expected []*person
	// returnUntil is when those expected must be back; zero until the first session or stream is opened.
	returnUntil time.Time
	// followed is the revision up to which the change log has been acted on, and progress is closed when it grows.
	followed int64
	progress chan struct{}
	feed     *changefeed.Follower
	closedBy map[int64]int // see countClosed
}

// person is what a roster holds of a user.
type person struct {
	// user is shared with the directory and with events, and not changed: it is replaced.
	user     *directory.User
	sessions []*Session
	// lingering are the devices that are away and may be back before anybody notices.
	lingering []gracePeriod
	// told is what others were last told, toldAt when, and profile grows when the user looks different.
	told    appearance
	toldAt  time.Time
	profile uint32
	// informed are those who were told on their own, since the last announcement, and what: the next announcement leaves
	// out whom it says nothing new.
	informed map[hearer]appearance
	// listed is how the directory knows the user.
	listed  Status
	cause   Cause // of the last change
	blocked map[directory.UID]struct{}
	friends map[directory.UID]struct{}
	// friendsKnown says that friends is complete.
	friendsKnown bool
	lastActive   int64 // Unix seconds, of the last session that ended
	wakeAt       time.Time
	// expected says that the user was online when the server last ran and has not come back: until expectedUntil, which is
	// set when the first session is opened, nobody is told so.
	expected      bool
	expectedUntil time.Time
	// at is the person's place in the agenda, counted from 1.
	at int
}

// appearance is how a user looks to others.
type appearance struct {
	status  Status
	text    string
	profile uint32
}

// gracePeriod is a device whose session broke.
type gracePeriod struct {
	device string
	token  token
	shown  deviceStatus
	until  time.Time
}

// hearer is who can be told of events: a session, or a stream.
type hearer interface {
	hear(event *Event)
	// tellsApart reports whether two looks of a user differ in anything that it is told.
	tellsApart(a, b appearance) bool
}

func newRoster(p *Presence, app directory.AppID, policy *directory.Policy) *roster {
	return &roster{
		presence: p, app: app, policy: policy, wake: make(chan struct{}, 1), people: map[directory.UID]*person{},
		opening: map[directory.UID][]*Session{}, listeners: newListeners(), audiences: map[rolePair]audience{},
		recent: newRecent(), progress: make(chan struct{}), closedBy: map[int64]int{}, unsaved: newRecord(),
	}
}

// expect adds users of whom others believe that they are online.
func (r *roster) expect(users []directory.User) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, user := range users {
		p := r.person(user)
		p.told, p.expected = appearance{status: Available}, true
		r.expected = append(r.expected, p)
	}
}

// awaitReturns sets the time within which those expected must be back, when the first session or stream is opened. It
// needs the lock.
func (r *roster) awaitReturns() {
	if len(r.expected) == 0 {
		return
	}
	now := r.presence.now()
	r.returnUntil = now.Add(r.presence.config.ReturnWithin)
	for _, p := range r.expected {
		p.expectedUntil = r.returnUntil
		r.reconcile(p, now)
	}
	r.expected = nil
}

// isExpected reports whether a person has not come back yet since the server was started.
func (p *person) isExpected() bool {
	return p.expected && len(p.sessions) == 0 && len(p.lingering) == 0
}

// isThereFor reports whether one who asks who is there is shown a person who is believed to be online. Who asks anew is
// shown who is there now, and who goes on where it was before the restart those as well who may be on their way back.
func (p *person) isThereFor(asksAnew bool) bool { return !asksAnew || !p.isExpected() }

// welcomeBack ends the wait for a person who has come. Others have not noticed the restart, but for those who have
// asked meanwhile who is there. It needs the lock.
func (r *roster) welcomeBack(p *person) {
	if !p.expected {
		return
	}
	p.expected = false
	is := p.appearance()
	if p.told.status == Offline || is.status == Offline {
		return
	}
	var event *Event
	tell := func(h hearer) {
		if event == nil {
			event = r.event(p, is.status, is.text)
		}
		h.hear(event)
		if is != p.told { // otherwise it knows what all others know
			p.inform(h, is)
		}
	}
	for _, stream := range r.streams {
		if stream.informed || stream.unsure {
			tell(stream)
		}
	}
	if is.status.public() == Offline {
		r.spareInformed(p, is)
		return
	}
	readers := r.presence.readers[r.app]
	r.eachListener(p, func(s *Session) {
		if s.informed || s.unsure || readers.has(s.uid) {
			tell(s)
		}
	})
}

// spareInformed notes that those know how a person looks who were told after the start that it is not there. It needs
// the lock.
func (r *roster) spareInformed(p *person, is appearance) {
	for _, stream := range r.streams {
		if stream.informed && is.status == Offline {
			p.inform(stream, is)
		}
	}
	r.eachListener(p, func(s *Session) {
		if s.informed {
			p.inform(s, is)
		}
	})
}

// inform notes that somebody was told on its own how a person looks. It needs the lock.
func (p *person) inform(h hearer, is appearance) {
	if p.informed == nil {
		p.informed = map[hearer]appearance{}
	}
	p.informed[h] = is
}

// noteShown notes that somebody was shown a person as it was last told, but with the profile that it has now: what of
// that is not announced yet, it knows. It needs the lock.
func (p *person) noteShown(h hearer) {
	if p.told.profile != p.profile {
		p.inform(h, appearance{status: p.told.status, text: p.told.text, profile: p.profile})
	}
}

// statusOf is how a device presented itself that was away a moment ago, and available for any other.
func (p *person) statusOf(device string) deviceStatus {
	if device != "" {
		for _, s := range slices.Backward(p.sessions) { // nobody has noticed yet that its connection is dead
			if s.device == device {
				return s.shown
			}
		}
		for _, gone := range slices.Backward(p.lingering) {
			if gone.device == device {
				return gone.shown
			}
		}
	}
	return deviceStatus{setting: setting{status: Available}}
}

// isAmong reports whether one of some sessions is that of a device.
func isAmong(sessions []*Session, device string) bool {
	return device != "" && slices.ContainsFunc(sessions, func(s *Session) bool { return s.device == device })
}

// person returns the person of a user, who is added when not there yet. It needs the lock.
func (r *roster) person(user directory.User) *person {
	p, ok := r.people[user.UID]
	if !ok {
		p = &person{user: &user, lastActive: user.LastActiveAt}
		r.people[user.UID] = p
	}
	return p
}

// dropGraces lets go of the devices that a condition selects, and reports whether there were any.
func (p *person) dropGraces(selects func(gracePeriod) bool) bool {
	before := len(p.lingering)
	p.lingering = slices.DeleteFunc(p.lingering, selects)
	return len(p.lingering) < before
}

// appearance merges the devices of a person: the highest status wins, and of two alike the later one to open that has a
// text.
func (p *person) appearance() appearance {
	merged := appearance{profile: p.profile}
	merge := func(device setting) {
		if device.status > merged.status || device.status == merged.status && (device.text != "" || merged.text == "") {
			merged.status, merged.text = device.status, device.text
		}
	}
	for _, grace := range p.lingering {
		merge(grace.shown.setting)
	}
	for i, s := range p.sessions {
		if !isAmong(p.sessions[i+1:], s.device) { // else its connection is dead, and nobody has noticed yet
			merge(s.shown.setting)
		}
	}
	return merged
}

// expire lets go of what has had its time, and returns when the next of it has. Zero is never. It needs the lock.
func (r *roster) expire(p *person, now time.Time) (next time.Time) {
	kept := p.lingering[:0]
	for _, grace := range p.lingering {
		if !grace.until.After(now) {
			continue
		}
		grace.shown.expire(time.Now())
		next = earlier(earlier(next, grace.until), r.presence.local(grace.shown.until))
		kept = append(kept, grace)
	}
	if p.lingering = kept; len(kept) == 0 {
		p.lingering = nil
	}
	for _, s := range p.sessions {
		was := s.shown.status
		if s.shown.expire(time.Now()) {
			p.cause = Expired
			if s.shown.status != was {
				r.record(s, s.shown.status, Expired)
			}
		}
		next = earlier(next, r.presence.local(s.shown.until))
	}
	return next
}

// reconcile makes true what others believe of a person, now or as soon as it may be told. It needs the lock.
func (r *roster) reconcile(p *person, now time.Time) {
	next := r.expire(p, now)
	is := p.appearance()
	if r.closed {
		return // whoever is online now is found in the store at the next start
	}
	r.index(p, is)
	quietUntil := p.toldAt.Add(r.presence.config.Quiet)
	quiet := !p.toldAt.IsZero() && now.Before(quietUntil)
	absent := is.status == Offline
	switch {
	case absent && p.expected && p.expectedUntil.IsZero():
		return
	case absent && p.expected && now.Before(p.expectedUntil):
		next = earlier(next, p.expectedUntil)
	case p.told == is || absent && p.told.status == Offline:
		if absent && !quiet {
			r.forget(p)
			return
		}
		if absent {
			next = earlier(next, quietUntil)
		}
	case quiet:
		next = earlier(next, quietUntil)
	default:
		if absent && p.expected {
			r.spareInformed(p, is)
		}
		r.announce(p, is, now)
		if absent {
			next = earlier(next, now.Add(r.presence.config.Quiet))
		}
	}
	r.schedule(p, next)
}

// forget lets go of a person of whom nothing is to be told any more. It needs the lock.
func (r *roster) forget(p *person) {
	delete(r.people, p.user.UID)
	r.unschedule(p)
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// index makes the directory know how a person looks, and what is kept of it.
func (r *roster) index(p *person, is appearance) {
	was := p.listed
	if was == is.status {
		return
	}
	p.listed = is.status
	seen, wasSeen := is.status.public() != Offline, was.public() != Offline
	if wasSeen && is.status == Invisible {
		p.lastActive = r.presence.dir.Now()
	}
	switch {
	case is.status == Offline && was == Invisible:
		r.presence.dir.SetOffline(r.app, p.user.UID, 0) // when it hid is stored
	case is.status == Offline:
		r.presence.dir.SetOffline(r.app, p.user.UID, p.lastActive)
	default:
		r.presence.dir.SetOnline(r.app, directory.OnlineUser{
			UID: p.user.UID, Invisible: is.status == Invisible, Status: is.status.String(),
		})
	}
	switch {
	case seen && !wasSeen:
		r.online++
		r.presence.config.Observer.OnlineChanged(1)
		r.unsaved.came(p.user.UID)
	case wasSeen && !seen:
		r.online--
		r.presence.config.Observer.OnlineChanged(-1)
		r.unsaved.left(p.user.UID, p.lastActive)
	}
}

// announce tells all who hear of a person how it looks now. It needs the lock.
func (r *roster) announce(p *person, is appearance, now time.Time) {
	was := p.told
	p.told, p.toldAt = is, now
	event := r.event(p, is.status, is.text)
	if was.status != is.status || was.text != is.text {
		for _, stream := range r.streams {
			r.tellTo(stream, p, event)
		}
	}
	if is.differs(was) {
		heard := r.deliver(p, event, is.differsPlainly(was))
		r.presence.config.Observer.Announced(is.status.public(), p.cause, heard)
	}
	p.informed = nil
}

// differs reports whether there is anything new for those who are told how others present themselves.
func (a appearance) differs(from appearance) bool {
	return a.differsPlainly(from) || a.status.public() != from.status.public() || a.status.public() != Offline &&
		a.text != from.text
}

// differsPlainly reports the same for those who are told only who is online and who is not.
func (a appearance) differsPlainly(from appearance) bool {
	online, was := a.status.public() != Offline, from.status.public() != Offline
	return online != was || online && a.profile != from.profile
}

// tellTo delivers an event about a person, unless it says nothing new after what one was told on its own, and reports
// whether it did. It needs the lock.
func (r *roster) tellTo(h hearer, p *person, event *Event) bool {
	if told, already := p.informed[h]; already && !h.tellsApart(told, p.told) {
		return false
	}
	h.hear(event)
	return true
}

// event makes the next event of the app, about a person. It needs the lock.
func (r *roster) event(p *person, status Status, text string) *Event {
	event := &Event{
		App: r.app, User: p.user, Status: status.public(), True: status, Text: text, At: r.presence.dir.Now(),
		Sequence: r.recent.add(mark{subject: p.user.UID}),
	}
	if event.Status == Offline && p.lastActive != 0 {
		event.At = p.lastActive
	}
	return event
}

// setUser takes over what a user looks like, and tells what follows. It needs the lock.
func (r *roster) setUser(p *person, user directory.User, now time.Time) {
	if r.adopt(p, &user) {
		r.reconcile(p, now)
	}
}

// adopt takes over a user, and reports whether anything of it is new. Who listens to what is settled first: an event
// goes to those who may hear it then. It needs the lock.
func (r *roster) adopt(p *person, user *directory.User) bool {
	old := p.user
	if old.UpdatedAt == user.UpdatedAt && old.Role == user.Role && looksLike(old, user) &&
		bytes.Equal(old.Metadata, user.Metadata) {
		return false
	}
	if old.Role != user.Role || !looksLike(old, user) {
		p.profile++ // what others may not see is nothing to be told
		r.notify(user.UID, r.profileNotice(user))
	}
	if old.Role != user.Role {
		r.changeRole(p, user)
	}
	p.user = user
	return true
}

// looksLike reports whether two states of a user are alike in everything that others are told of it, but for its role.
func looksLike(a, b *directory.User) bool {
	return a.Name == b.Name && a.Avatar == b.Avatar && a.Link == b.Link && a.StatusMessage == b.StatusMessage &&
		slices.Equal(a.Tags, b.Tags) && samePublicly(a.Metadata, b.Metadata)
}

func samePublicly(a, b json.RawMessage) bool {
	return bytes.Equal(a, b) || bytes.Equal(directory.PublicMetadata(a), directory.PublicMetadata(b))
}
