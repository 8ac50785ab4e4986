package presence

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

const (
	followBatch = 500
	followRetry = time.Second
)

// follow acts on the change log from a revision on, until ctx ends. What a change says is read again from the store, so
// that it matters in what order things become known, but not that anything is seen twice.
func (r *roster) follow(ctx context.Context, revision int64) {
	for ctx.Err() == nil {
		appended := r.presence.dir.ChangesAppended(r.app)
		changes, _, err := r.presence.dir.ListChanges(ctx, directory.System(r.app, "presence"), revision, followBatch)
		if err == nil {
			err = r.apply(ctx, changes)
		}
		if err != nil {
			if ctx.Err() == nil {
				r.presence.config.Logger.Error("presence cannot follow the change log; it tries again", slog.String("app", string(r.app)), slog.Any("error", err))
			}
			appended = nil
		} else if len(changes) > 0 {
			revision = changes[len(changes)-1].Revision
			continue
		}
		retry := time.NewTimer(followRetry)
		if err == nil {
			retry.Stop()
		}
		select {
		case <-appended:
		case <-retry.C:
		case <-ctx.Done():
		}
		retry.Stop()
	}
}

func (r *roster) apply(ctx context.Context, changes []directory.Change) error {
	if forbidding := slices.DeleteFunc(slices.Clone(changes), func(c directory.Change) bool { return !c.ForbidsSessions() }); len(forbidding) > 0 {
		r.endForbidden(ctx, forbidding)
	}
	users := map[directory.UID]bool{}
	pairs := map[[2]directory.UID]bool{}
	policy := false
	for _, change := range changes {
		subject, object := directory.UID(change.Subject), directory.UID(change.Object)
		switch change.Kind {
		case directory.UserCreated, directory.UserUpdated, directory.UserReactivated, directory.UserDeactivated, directory.UserDeleted:
			users[subject] = true
		case directory.UserBlocked, directory.UserUnblocked, directory.FriendAdded, directory.FriendRemoved:
			pairs[[2]directory.UID{subject, object}] = true
		case directory.RoleUpdated, directory.RoleDeleted, directory.AppUpdated, directory.AppRestored:
			policy = true
		default: // the others change nothing that presence depends on
		}
	}
	if policy {
		if err := r.reloadPolicy(ctx); err != nil {
			return err
		}
	}
	for uid := range users {
		if err := r.reloadUser(ctx, uid); err != nil {
			return err
		}
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
	for _, s := range r.opening[uid] {
		s.stale = true
	}
	_, known := r.people[uid]
	return known
}

func (r *roster) reloadUser(ctx context.Context, uid directory.UID) error {
	if !r.touch(uid) {
		return nil
	}
	user, active, err := r.presence.dir.ActiveUser(ctx, r.app, uid)
	if err != nil || !active {
		return err // the sessions of those who are gone have ended with the change itself
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, known := r.people[uid]; known {
		r.setUser(p, user, time.Now())
	}
	return nil
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
		event := r.event(subject, Offline, "")
		event.At = r.presence.dir.Now()
		s.listener.Deliver(event)
	case hears && !heard:
		s.listener.Deliver(r.event(subject, subject.told.status, subject.told.text))
		if subject.told.profile != subject.profile {
			if subject.informed == nil {
				subject.informed = map[*Session]appearance{}
			}
			subject.informed[s] = appearance{status: subject.told.status, text: subject.told.text, profile: subject.profile}
		}
	}
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
	if len(p.sessions) == 0 {
		p.blocked = blocked
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

// view is whom a session has been told to be online.
type view map[*person]bool

// heardBy returns the view of each session of a person. It needs the lock.
func (r *roster) heardBy(p *person) []view {
	views := make([]view, len(p.sessions))
	for i, s := range p.sessions {
		views[i] = r.view(s)
	}
	return views
}

func (r *roster) view(s *Session) view {
	seen := view{}
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

// tellDifference tells the sessions of a person how their views differ from what they were. It needs the lock.
func (r *roster) tellDifference(p *person, before []view) {
	for i, s := range p.sessions {
		after := r.view(s)
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
	ties, err := r.missingFriends(ctx, policy)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sessions := range r.opening {
		for _, s := range sessions {
			s.stale = true
		}
	}
	for uid, read := range ties {
		if p, there := r.people[uid]; there && !p.friendsKnown {
			p.friends, p.friendsKnown = setOf(read.Friends), true
		}
	}
	if !r.audiencesDiffer(policy) {
		r.policy = policy
		return nil
	}
	before := map[*person][]view{}
	for _, p := range r.people {
		if len(p.sessions) > 0 {
			before[p] = r.heardBy(p)
		}
	}
	r.policy = policy
	clear(r.audiences)
	r.recent.add(mark{})
	for p, views := range before {
		r.tellDifference(p, views)
	}
	return nil
}

func (r *roster) audiencesDiffer(policy *directory.Policy) bool {
	for pair, known := range r.audiences {
		if audienceOf(policy, pair) != known {
			return true
		}
	}
	return false
}

// missingFriends reads the friends of those whose friends matter under a policy and are not known yet.
func (r *roster) missingFriends(ctx context.Context, policy *directory.Policy) (map[directory.UID]directory.Ties, error) {
	if !policy.HasFriendsOnlyRoles() {
		return nil, nil
	}
	r.mu.Lock()
	var missing []directory.UID
	for uid, p := range r.people {
		if !p.friendsKnown {
			missing = append(missing, uid)
		}
	}
	r.mu.Unlock()
	ties := make(map[directory.UID]directory.Ties, len(missing))
	for _, uid := range missing {
		read, err := r.presence.dir.Ties(ctx, r.app, uid, true)
		if err != nil {
			return nil, err
		}
		ties[uid] = read
	}
	return ties, nil
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
	all := func(*Session) bool { return true }
	for _, change := range changes {
		uid := directory.UID(change.Subject)
		switch change.Kind {
		case directory.TokenRevoked:
			closed += r.endWhere(uid, LoggedOut, func(s *Session) bool { return slices.Contains(change.Fields, string(s.token.id)) })
		case directory.UserDeactivated:
			closed += r.leaveForGood(uid, Deactivated)
		case directory.UserDeleted:
			closed += r.leaveForGood(uid, Deleted)
		case directory.KeyDeleted:
			closed += r.endWhere("", LoggedOut, func(s *Session) bool { return s.token.mintedBy == directory.KeyID(change.Subject) })
		case directory.AppArchived:
			closed += r.endWhere("", AppClosed, all)
		case directory.AppUpdated:
			if policy, err := r.presence.dir.Policy(ctx, r.app); err == nil {
				from := policy.App.Settings.TokensValidFrom
				closed += r.endWhere("", LoggedOut, func(s *Session) bool { return s.token.createdAt < from })
			}
		default: // Change.ForbidsSessions knows no others
		}
	}
	return closed
}

// leaveForGood ends the sessions of a user, and lets none of its devices linger.
func (r *roster) leaveForGood(uid directory.UID, cause Cause) (closed int) {
	closed = r.endWhere(uid, cause, func(*Session) bool { return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, there := r.people[uid]; there && len(p.sessions) == 0 {
		p.lingering = nil
		p.cause = cause
		r.look(p, time.Now())
	}
	return closed
}
