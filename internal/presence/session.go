package presence

import (
	"context"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// Listener is where a session's events go. Its methods are called in order, under the lock of the app: they must not
// wait and not call back.
type Listener interface {
	// Joined is the first: the session is open. It returns false when the listener has gone meanwhile: then the session
	// has never been, and nothing else is called.
	Joined(*Session, Welcome) bool
	// Deliver hands over what became of another user. Events are shared by all who hear of it.
	Deliver(*Event)
	// Notify tells what became of the session's own user. It is for those that are Extended.
	Notify(Notice)
	// Ended is the last: the session is over, and not by its own End.
	Ended(Cause)
}

// Notice is a change that is about the user of a session: of its profile, or of its friends and friend requests.
type Notice struct {
	App directory.AppID
	// Kind is UserUpdated, FriendAdded, FriendRemoved, FriendRequested, FriendRefused or FriendWithdrawn.
	Kind directory.Kind
	// Subject and Object are those of the change: one of them is the session's user.
	Subject, Object directory.UID
	// User is how the session's user is now, with UserUpdated. It is shared, and must not be changed.
	User *directory.User
}

// Hello is who opens a session, and what it wants to hear.
type Hello struct {
	App directory.AppID
	UID directory.UID
	// Token is the auth token that the session stands on: it ends with it.
	Token directory.TokenID
	// Device names the device, so that it is known again when it comes back. It may be empty.
	Device       string
	Subscription Subscription
	// Status is how the device presents itself, with a Text, until a time: see Session.SetStatus. Zero means as before,
	// for a device that is back before its grace is over, and else Available.
	Status Status
	Text   string
	Until  time.Time
	// Then is what it goes back to at Until, with a ThenText. Zero means what it was before.
	Then     Status
	ThenText string
	// Snapshot asks for everybody in the subscription who is online now.
	Snapshot bool
	// Extended says that it can tell Away and Busy from Available, knows texts, and wants to know its position, from which
	// it can resume later. Others are told who is online and who is not.
	Extended bool
	// Resume continues where an earlier session with the same subscription ended. Nil begins anew.
	Resume *Position
}

// Session is one live connection of a device. Its methods are safe for concurrent use.
type Session struct {
	roster   *roster
	person   *person
	listener Listener
	uid      directory.UID
	device   string
	// subscription is whom it listens to.
	subscription Subscription
	token        token
	// places are where the session is in the lists of those who listen.
	places []place

	extended bool

	// The rest is guarded by the roster's lock.
	state sessionState
	// informed says that it was told after the server's start who is online, and that nobody else is; unsure that it may
	// have been told so, or believe what was true before the start.
	informed, unsure bool
	stale            bool // set while opening, when what was read of the user may be outdated
	shown            deviceStatus
	openedAt         time.Time
	lastMark         int64 // of its last transition, in Unix milliseconds
	// restartsUntil is set when the client was told to begin anew: a goodbye before that time is none.
	restartsUntil time.Time
}

func (s *Session) hear(event *Event) { s.listener.Deliver(event) }

func (s *Session) tellsApart(a, b appearance) bool {
	if s.extended {
		return a.differs(b)
	}
	return a.differsPlainly(b)
}

// token is what of an auth token decides whether a session may go on.
type token struct {
	id        directory.TokenID
	mintedBy  directory.KeyID
	createdAt int64
	revision  int64 // the change that announced it
}

type sessionState uint8

const (
	opening sessionState = iota
	live
	ended
)

// openAttempts bounds how often the user is read again because it changed while a session was opened.
const openAttempts = 5

// Open opens a session: the user is online from then on, and the listener hears what it has subscribed to. Errors:
// CodeInvalidApp, CodeAppArchived, CodeTokenUnknown, CodeQuota for too many sessions of the user or too many users that
// it watches, CodeOperationFailed.
func (p *Presence) Open(ctx context.Context, hello Hello, listener Listener) (*Session, error) {
	r, err := p.roster(ctx, hello.App)
	if err != nil {
		return nil, err
	}
	s := &Session{
		roster: r, listener: listener, uid: hello.UID, device: hello.Device, subscription: hello.Subscription,
		extended: hello.Extended,
	}
	if err := r.admit(s); err != nil {
		return nil, err
	}
	for range openAttempts {
		policy, err := p.dir.Policy(ctx, hello.App)
		var attendee directory.Attendee
		friends := false
		if err == nil {
			friends = hello.Subscription.needsFriends() || policy.HasFriendsOnlyRoles() || r.someHearOnlyFriends()
			attendee, err = p.dir.Attend(ctx, policy, hello.UID, hello.Token, friends)
		}
		if err == nil {
			err = r.catchUp(ctx)
		}
		if err != nil {
			r.dismiss(s)
			return nil, err
		}
		if joined, err := r.join(s, hello, attendee, friends); joined || err != nil {
			return s, err
		}
	}
	r.dismiss(s)
	return nil, &directory.Error{
		Code: directory.CodeOperationFailed, Message: "The user changes too fast to be let in. Try again in a moment.",
	}
}

// admit makes a session known, so that what happens to its user while it is opened is not missed.
func (r *roster) admit(s *Session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed()
	}
	count := len(r.opening[s.uid])
	if p := r.people[s.uid]; p != nil {
		count += len(p.sessions)
	}
	if limit := r.presence.config.SessionsPerUser; count >= limit {
		return quotaError("This user has %d open sessions, and may have %d. Close some first.", count, limit)
	}
	if err := r.reserveWatched(s); err != nil {
		return err
	}
	r.opening[s.uid] = append(r.opening[s.uid], s)
	r.awaitReturns()
	return nil
}

// dismiss takes admit back.
func (r *roster) dismiss(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetOpening(s)
	r.releaseWatched(s)
	s.state = ended
}

func (r *roster) forgetOpening(s *Session) {
	uid := s.uid
	r.opening[uid] = without(r.opening[uid], s)
	if len(r.opening[uid]) == 0 {
		delete(r.opening, uid)
	}
}

// join makes a session live. It returns false when the user must be read again.
func (r *roster) join(s *Session, hello Hello, attendee directory.Attendee, friends bool) (joined bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.stale && !r.closed {
		s.stale = false
		return false, nil
	}
	r.forgetOpening(s)
	if r.closed {
		r.releaseWatched(s)
		s.state = ended
		return false, errClosed()
	}
	now := r.presence.now()
	p := r.person(attendee.User)
	r.setTies(p, attendee.Ties, friends)
	r.adopt(p, &attendee.User)
	s.person, s.openedAt, s.state = p, now, live
	s.shown = p.statusOf(s.device)
	if hello.Then != Offline {
		s.shown = deviceStatus{setting: setting{hello.Then, hello.ThenText}}
	}
	if hello.Status != Offline {
		s.shown.set(setting{hello.Status, hello.Text}, hello.Until)
	}
	s.token = token{
		id: attendee.Token.ID, mintedBy: attendee.Token.MintedBy, createdAt: attendee.Token.CreatedAt,
		revision: attendee.Token.Revision,
	}
	p.sessions = append(p.sessions, s)
	r.subscribe(s)
	// Until here nobody was told anything.
	if !s.listener.Joined(s, r.welcome(s, hello)) {
		s.state = ended
		p.sessions = without(p.sessions, s)
		r.unsubscribe(s)
		r.releaseWatched(s)
		r.reconcile(p, now)
		return true, nil
	}
	if s.extended && p.user.UpdatedAt >= r.presence.dir.Now()-1 {
		// A change that was read in the same second may not have been the last.
		s.listener.Notify(r.profileNotice(p.user))
	}
	r.presence.config.Observer.SessionOpened()
	p.cause = Connected
	if p.dropGraces(func(gone gracePeriod) bool { return s.device != "" && gone.device == s.device }) {
		p.cause = Reconnected
	}
	r.record(s, s.shown.status, p.cause)
	r.welcomeBack(p)
	r.reconcile(p, now)
	return true, nil
}

// End ends the session from its own side. lastHeard is when the device was last known to be there.
func (s *Session) End(cause Cause, lastHeard time.Time) {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	if s.state == live {
		s.roster.end(s, cause, lastHeard)
	}
}

// SetStatus sets how the device presents itself, and a text that goes with it, until a time; zero means until it is set
// again or the session ends. At that time both are again what they were when they had no end.
func (s *Session) SetStatus(status Status, text string, until time.Time) {
	r := s.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.state != live {
		return
	}
	if s.shown.status != status {
		r.record(s, status, SetByDevice)
	}
	s.shown.set(setting{status, text}, until)
	s.person.cause = SetByDevice
	r.reconcile(s.person, r.presence.now())
}

// restartWithin is how soon a client that was told to begin anew ends its session for that.
const restartWithin = 10 * time.Second

// LetRestart announces that the clients that use an auth token begin anew in a moment, because they were told to: the
// goodbye with which they do so is none, and they are given the grace to come back.
func (p *Presence) LetRestart(app directory.AppID, uid directory.UID, id directory.TokenID) {
	p.withPerson(app, uid, func(person *person) {
		for _, s := range person.sessions {
			if s.token.id == id {
				s.restartsUntil = p.now().Add(restartWithin)
			}
		}
	})
}

// end takes a live session away. It needs the lock.
func (r *roster) end(s *Session, cause Cause, lastHeard time.Time) {
	now := r.presence.now()
	heardAt := r.presence.local(lastHeard)
	p := s.person
	if cause == Closed && now.Before(s.restartsUntil) {
		cause = Restarts
	}
	s.state = ended
	p.sessions = without(p.sessions, s)
	r.unsubscribe(s)
	r.releaseWatched(s)
	r.presence.config.Observer.SessionEnded(cause)
	r.record(s, Offline, cause)
	if len(p.sessions) == 0 && p.listed != Invisible { // who is invisible was last active when it hid
		p.lastActive = r.presence.stamp(heardAt)
	}
	if grace := r.presence.grace(cause); grace > 0 && !isAmong(p.sessions, s.device) {
		from := now
		if cause == Silent {
			// The bound counts from the last sign of life.
			from = heardAt.Add(silence)
		}
		p.lingering = append(
			p.lingering, gracePeriod{device: s.device, token: s.token, shown: s.shown, until: from.Add(grace)},
		)
	}
	p.cause = cause
	r.reconcile(p, now)
}

// silence is how long a device may send nothing at all before its session ends.
const silence = 20 * time.Second

// Silence is how long a device may send nothing at all: whoever watches the connection ends the session then.
const Silence = silence

// expel ends a live session and tells its listener. It needs the lock.
func (r *roster) expel(s *Session, cause Cause) {
	r.end(s, cause, time.Now())
	s.listener.Ended(cause)
}

// endWhere ends the sessions that a condition selects by their auth token and device, and lets the devices not come
// back that it selects among those whose session broke. Those being opened are asked once more whether they may. It
// returns how many were live. An empty uid means all users.
func (r *roster) endWhere(uid directory.UID, cause Cause, selects func(token, string) bool) (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	visit := func(p *person) {
		for _, s := range slices.Clone(p.sessions) {
			if selects(s.token, s.device) {
				r.expel(s, cause)
				count++
			}
		}
		if p.dropGraces(func(gone gracePeriod) bool { return selects(gone.token, gone.device) }) {
			p.cause = cause
			r.reconcile(p, r.presence.now())
		}
	}
	if uid != "" {
		r.reread(uid)
		if p := r.people[uid]; p != nil {
			visit(p)
		}
		return count
	}
	for opening := range r.opening {
		r.reread(opening)
	}
	for _, p := range r.people {
		visit(p)
	}
	return count
}

// reread makes those who open a session for a user read again what they have read of it. It needs the lock.
func (r *roster) reread(uid directory.UID) {
	for _, s := range r.opening[uid] {
		s.stale = true
	}
}

// without returns a list without one of its members. The order is kept.
func without(sessions []*Session, gone *Session) []*Session {
	for i, s := range sessions {
		if s == gone {
			copy(sessions[i:], sessions[i+1:])
			sessions[len(sessions)-1] = nil
			return sessions[:len(sessions)-1]
		}
	}
	return sessions
}
