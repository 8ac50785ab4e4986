package presence

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// followRetry is how soon following goes on that has failed.
const followRetry = time.Second

// follow acts on what is committed, until ctx ends.
func (r *roster) follow(ctx context.Context) {
	defer r.feed.Close()
	for ctx.Err() == nil {
		commit, err := r.feed.Next(ctx)
		for err == nil && len(commit.Changes) > 0 {
			if err = r.apply(ctx, commit); err == nil {
				r.noteFollowed(commit.Revision)
				break
			}
			r.tellTrouble(ctx, err)
			err = nil
			if !r.pause(ctx) {
				return
			}
		}
		if err != nil && ctx.Err() == nil {
			r.tellTrouble(ctx, err)
			r.pause(ctx)
		}
	}
}

func (r *roster) tellTrouble(ctx context.Context, err error) {
	if ctx.Err() == nil {
		r.presence.config.Logger.Error("presence cannot follow the change log; it tries again",
			slog.String("app", string(r.app)), slog.Any("error", err))
	}
}

// pause waits before following is tried again. It returns false when ctx has ended.
func (r *roster) pause(ctx context.Context) bool {
	retry := time.NewTimer(followRetry)
	defer retry.Stop()
	select {
	case <-retry.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *roster) noteFollowed(revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followed = revision
	close(r.progress)
	r.progress = make(chan struct{})
}

// catchUp waits until all has been acted on that was committed before. Who opens a session has then read nothing that is
// newer than what the roster is going to be told, and who resumes is told all that it has missed.
func (r *roster) catchUp(ctx context.Context) error {
	handed := r.feed.Handed()
	for {
		r.mu.Lock()
		done, progress := r.followed >= handed || r.closed, r.progress
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-progress:
		case <-r.presence.running.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply acts on a commit. It does no harm to do so twice.
func (r *roster) apply(ctx context.Context, commit directory.Commit) error {
	changes := commit.Changes
	if forbidding := slices.DeleteFunc(slices.Clone(changes), func(c directory.Change) bool { return !c.ForbidsSessions() }); len(forbidding) > 0 {
		r.endForbidden(ctx, forbidding)
	}
	pairs := map[[2]directory.UID]bool{}
	erased := map[directory.UID]struct{}{}
	policy := false
	for _, change := range changes {
		subject, object := directory.UID(change.Subject), directory.UID(change.Object)
		switch change.Kind {
		case directory.UserDeleted:
			erased[subject] = struct{}{}
		case directory.UserBlocked, directory.UserUnblocked, directory.FriendAdded, directory.FriendRemoved:
			pairs[[2]directory.UID{subject, object}] = true
		case directory.RoleCreated, directory.RoleUpdated, directory.RoleDeleted, directory.AppUpdated, directory.AppRestored:
			policy = true
		default: // the others change nothing that presence depends on
		}
	}
	if policy {
		if err := r.reloadPolicy(ctx); err != nil {
			return err
		}
	}
	if len(erased) > 0 {
		r.dropTies(erased)
	}
	for i := range commit.Users {
		r.takeUser(&commit.Users[i])
	}
	for pair := range pairs {
		if err := r.reloadPair(ctx, pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// touch notes that what is being read of a user who opens a session may be outdated, and reports whether anybody needs to
// know how the user is now.
func (r *roster) touch(uid directory.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reread(uid)
	_, known := r.people[uid]
	return known
}

// takeUser takes over what a user is now. The sessions of those who are gone have ended with the change itself.
func (r *roster) takeUser(change *directory.UserChange) {
	if !r.touch(change.UID) || change.User == nil || change.User.DeactivatedAt != 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, known := r.people[change.UID]; known {
		r.setUser(p, *change.User, r.presence.now())
	}
}

func (r *roster) reloadPair(ctx context.Context, a, b directory.UID) error {
	knownA, knownB := r.touch(a), r.touch(b)
	if !knownA && !knownB {
		r.markPair(a, b) // somebody who resumes may have been told of the other
		return nil
	}
	relation, err := r.presence.dir.Between(ctx, r.app, a, b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setRelation(a, b, relation)
	r.setRelation(b, a, relation)
	return nil
}

// dropTies ends what was between those erased and others, of which the log says nothing by itself. Whoever gets the uid of one
// next is nobody's friend.
func (r *roster) dropTies(erased map[directory.UID]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid := range r.opening {
		r.reread(uid) // it may have read them before
	}
	for uid, p := range r.people {
		if len(p.friends)+len(p.blocked) == 0 {
			continue
		}
		for gone := range erased {
			_, friend := p.friends[gone]
			_, blocked := p.blocked[gone]
			if friend || blocked {
				r.setRelation(uid, gone, directory.Relation{})
			}
		}
	}
}

func (r *roster) markPair(a, b directory.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent.add(mark{viewer: a, subject: b})
	r.recent.add(mark{viewer: b, subject: a})
}

// setRelation takes over what is between a viewer and another user, and tells the viewer what follows. It needs the lock.
func (r *roster) setRelation(viewer, other directory.UID, relation directory.Relation) {
	v, known := r.people[viewer]
	if !known {
		r.recent.add(mark{viewer: viewer, subject: other})
		return
	}
	subject := r.people[other]
	r.changeView(v, subject, other, func() {
		set(&v.blocked, other, relation.Blocked())
		if !v.friendsKnown {
			return
		}
		befriended := relation.FriendsSince != 0
		if befriended == v.isFriend(other) {
			return
		}
		for _, s := range v.sessions {
			if s.subscription.Scope == Friends {
				if befriended {
					r.listenTo(other, s)
				} else {
					r.stopListeningTo(other, s)
				}
			}
		}
		set(&v.friends, other, befriended)
	})
}

// changeView makes a change to what a viewer may hear of somebody, and tells its sessions whom they see now or do not see
// any more. subject may be nil for somebody who is not there. It needs the lock.
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

// hides makes the event for who may not know any more that a person is online. When the person was last active, it does not
// tell. It needs the lock.
func (r *roster) hides(subject *person) *Event {
	event := r.event(subject, Offline, "")
	event.At = r.presence.dir.Now()
	return event
}

// set puts a uid into a set or takes it out.
func set(members *map[directory.UID]struct{}, uid directory.UID, in bool) {
	switch {
	case !in:
		delete(*members, uid)
	case *members == nil:
		*members = map[directory.UID]struct{}{uid: {}}
	default:
		(*members)[uid] = struct{}{}
	}
}

// setTies takes over all the ties of a person, as they were just read. It needs the lock.
func (r *roster) setTies(p *person, ties directory.Ties, friends bool) {
	blocked := setOf(ties.Blocked)
	if len(p.sessions) == 0 { // who had the uid before may have been somebody else
		p.blocked, p.friends, p.friendsKnown = blocked, nil, false
	}
	for uid := range p.blocked {
		if _, still := blocked[uid]; !still {
			r.changeView(p, r.people[uid], uid, func() { delete(p.blocked, uid) })
		}
	}
	for uid := range blocked {
		if _, already := p.blocked[uid]; !already {
			r.changeView(p, r.people[uid], uid, func() { set(&p.blocked, uid, true) })
		}
	}
	if !friends || p.friendsKnown {
		return // those known are kept up to date
	}
	p.friends, p.friendsKnown = setOf(ties.Friends), true
}

func setOf(uids []directory.UID) map[directory.UID]struct{} {
	if len(uids) == 0 {
		return nil
	}
	members := make(map[directory.UID]struct{}, len(uids))
	for _, uid := range uids {
		members[uid] = struct{}{}
	}
	return members
}

// changeRole gives a person another role, and tells what follows: to those who listened to it, and to itself. It needs
// the lock.
func (r *roster) changeRole(p *person, user *directory.User) {
	heardBy := map[*Session]bool{}
	announced := p.told.status.public() != Offline
	if announced {
		r.eachListener(p, func(s *Session) { heardBy[s] = true })
	}
	heard := r.heardBy(p)
	for _, s := range p.sessions {
		r.unsubscribe(s)
	}
	p.user = user
	for _, s := range p.sessions {
		r.subscribe(s)
	}
	r.recent.add(mark{viewer: user.UID})
	if announced {
		r.eachListener(p, func(s *Session) {
			if !heardBy[s] {
				r.tellOne(s, p, false, true)
			}
			delete(heardBy, s)
		})
		for s := range heardBy {
			r.tellOne(s, p, true, false)
		}
	}
	r.tellDifference(p, heard)
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

// someHearOnlyFriends reports whether the policy lets anybody hear of friends whom it would not let hear of a stranger.
func (r *roster) someHearOnlyFriends() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policy.HasFriendsOnlyRoles()
}

// reloadPolicy takes over the policy of the app as it is now, and tells everybody what follows.
func (r *roster) reloadPolicy(ctx context.Context) error {
	policy, err := r.presence.dir.Policy(ctx, r.app)
	if directory.IsCode(err, directory.CodeAppArchived) || directory.IsCode(err, directory.CodeInvalidApp) {
		return nil // the sessions have ended with the change itself
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid := range r.opening {
		r.reread(uid)
	}
	if policy.HasFriendsOnlyRoles() {
		if err := r.readMissingFriends(ctx); err != nil {
			return err
		}
	}
	r.setPolicy(policy)
	return nil
}

// readMissingFriends reads the friends of those whose friends did not matter so far. It needs the lock, which it gives up
// while it reads.
func (r *roster) readMissingFriends(ctx context.Context) error {
	for {
		var missing []directory.UID
		for uid, p := range r.people {
			if !p.friendsKnown {
				missing = append(missing, uid)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		r.mu.Unlock()
		ties := make(map[directory.UID]directory.Ties, len(missing))
		var err error
		for _, uid := range missing {
			if ties[uid], err = r.presence.dir.Ties(ctx, r.app, uid, true); err != nil {
				break
			}
		}
		r.mu.Lock()
		if err != nil {
			return err
		}
		for uid, read := range ties {
			if p, there := r.people[uid]; there && !p.friendsKnown {
				p.friends, p.friendsKnown = setOf(read.Friends), true
			}
		}
	}
}

// setPolicy takes over a policy, and tells those for whom it makes a difference. It needs the lock.
func (r *roster) setPolicy(policy *directory.Policy) {
	differ := r.audiencesThatDiffer(policy)
	r.policy = policy
	clear(r.audiences)
	if len(differ) == 0 {
		return
	}
	r.recent.add(mark{})
	for _, subject := range r.people {
		if subject.told.status.public() != Offline {
			r.tellDifferent(subject, differ)
		}
	}
}

// tellDifferent tells those who hear of a person now and did not, or did and do not any more. Each of the two events is
// shared by all who get it. It needs the lock.
func (r *roster) tellDifferent(subject *person, differ map[rolePair][2]audience) {
	var shown, hidden *Event
	for _, viewer := range r.people {
		audiences := differ[rolePair{viewer.user.Role, subject.user.Role}]
		before, after := audiences[0].lets(viewer, subject), audiences[1].lets(viewer, subject)
		if before == after {
			continue
		}
		for _, s := range viewer.sessions {
			switch {
			case !s.selects(subject):
			case after:
				if shown == nil {
					shown = r.event(subject, subject.told.status, subject.told.text)
				}
				r.shows(s, subject, shown)
			default:
				if hidden == nil {
					hidden = r.hides(subject)
				}
				s.listener.Deliver(hidden)
			}
		}
	}
}

// audiencesThatDiffer returns the pairs of roles of a listener and of somebody known to be online for which another policy
// says something else, with what they are now and then. It needs the lock.
func (r *roster) audiencesThatDiffer(policy *directory.Policy) map[rolePair][2]audience {
	viewers, subjects := map[string]bool{}, map[string]bool{}
	for _, p := range r.people {
		viewers[p.user.Role] = viewers[p.user.Role] || len(p.sessions) > 0
		subjects[p.user.Role] = subjects[p.user.Role] || p.told.status.public() != Offline
	}
	differ := map[rolePair][2]audience{}
	for viewer, listens := range viewers {
		for subject, online := range subjects {
			pair := rolePair{viewer, subject}
			if now, then := r.audience(viewer, subject), audienceOf(policy, pair); listens && online && now != then {
				differ[pair] = [2]audience{now, then}
			}
		}
	}
	return differ
}

// EndForbidden ends the sessions that changes of an app do not allow any more, and returns how many sockets that closed.
func (p *Presence) EndForbidden(ctx context.Context, app directory.AppID, changes []directory.Change) int {
	r := p.known(app)
	if r == nil {
		return 0
	}
	return r.endForbidden(ctx, changes)
}

func (r *roster) endForbidden(ctx context.Context, changes []directory.Change) (closed int) {
	for _, change := range changes {
		closed += r.countClosed(change.Revision, r.endForbiddenBy(ctx, change))
	}
	return closed
}

// maxCounted bounds for how many changes it is remembered how many sockets they closed.
const maxCounted = 1024

// countClosed adds to how many sockets a change has closed, and returns how many that are: the change is acted on when it is
// written and when the log is followed, in no order, and the answer to the write says all of them.
func (r *roster) countClosed(revision int64, closed int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.closedBy) >= maxCounted {
		clear(r.closedBy)
	}
	r.closedBy[revision] += closed
	return r.closedBy[revision]
}

func (r *roster) endForbiddenBy(ctx context.Context, change directory.Change) int {
	uid := directory.UID(change.Subject)
	switch change.Kind {
	case directory.TokenRevoked:
		return r.endWhere(uid, LoggedOut, func(t token, _ string) bool { return slices.Contains(change.Fields, string(t.id)) })
	case directory.KeyDeleted:
		return r.endWhere("", LoggedOut, func(t token, _ string) bool { return t.mintedBy == directory.KeyID(change.Subject) })
	case directory.UserDeactivated:
		// It may have been taken back meanwhile. When that cannot be told, it is not so.
		if _, active, err := r.presence.dir.ActiveUser(ctx, r.app, uid); err == nil && active {
			return 0
		}
		return r.leaveForGood(uid, Deactivated, everySession)
	case directory.UserDeleted:
		// Somebody else may have the uid by now. Who was deleted has the tokens from before.
		closed := r.leaveForGood(uid, Deleted, func(t token, _ string) bool { return t.revision < change.Revision })
		r.forgetRecord(ctx, uid)
		return closed
	case directory.AppArchived:
		if _, err := r.presence.dir.Policy(ctx, r.app); err != nil {
			return r.endWhere("", AppClosed, everySession)
		}
	case directory.AppUpdated:
		if policy, err := r.presence.dir.Policy(ctx, r.app); err == nil {
			from := policy.App.Settings.TokensValidFrom
			return r.endWhere("", LoggedOut, func(t token, _ string) bool { return t.createdAt < from })
		}
	default: // Change.ForbidsSessions knows no others
	}
	return 0
}

func everySession(token, string) bool { return true }

// leaveForGood ends the sessions of a user who is gone that a condition selects, and does not expect it back.
func (r *roster) leaveForGood(uid directory.UID, cause Cause, selects func(token, string) bool) (closed int) {
	closed = r.endWhere(uid, cause, selects)
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, there := r.people[uid]; there && p.isExpected() {
		p.expected, p.cause = false, cause
		r.reconcile(p, r.presence.now())
	}
	return closed
}
