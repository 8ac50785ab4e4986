package presence

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rollcall/rollcall/internal/directory"
)

// Scope is whose presence a session wants to hear of.
type Scope uint8

// The scopes.
const (
	NoUsers Scope = iota
	AllUsers
	// UsersOfRoles is those with one of Subscription.Roles.
	UsersOfRoles
	Friends
	// TheseUsers is Subscription.UIDs.
	TheseUsers
)

// Subscription is whose presence a session wants to hear of.
type Subscription struct {
	Scope Scope
	Roles []string
	UIDs  []directory.UID
}

func (s Subscription) needsFriends() bool { return s.Scope == Friends }

// listeners are the live sessions that listen, arranged so that those who may hear of somebody are found without asking
// the others. Guarded by the roster's lock.
type listeners struct {
	toAll groups
	// toRole is by the role of the one who is listened to.
	toRole map[string]groups
	// toUser holds sessions with the scopes Friends and TheseUsers.
	toUser map[directory.UID]*group
	// watching is how many users the sessions of each user watch by their uids, and watched how many all do.
	watching map[directory.UID]int
	watched  int
}

// groups are listeners by their own role: the policy decides for each role at once.
type groups map[string]*group

// group is a set of sessions that is quick to go through.
type group struct {
	sessions []*Session
	// uid is whom a group of toUser listens to: the one copy of it that all sessions share which watch it.
	uid directory.UID
}

// place is where a session is in a group.
type place struct {
	group *group
	at    int
}

func newListeners() listeners {
	return listeners{
		toAll: groups{}, toRole: map[string]groups{}, toUser: map[directory.UID]*group{}, watching: map[directory.UID]int{},
	}
}

func (g groups) of(role string) *group {
	members, ok := g[role]
	if !ok {
		members = &group{}
		g[role] = members
	}
	return members
}

func (g *group) add(s *Session) {
	s.places = append(s.places, place{g, len(g.sessions)})
	g.sessions = append(g.sessions, s)
}

// remove takes out the session at a place. The last one moves there.
func (g *group) remove(at int) {
	last := len(g.sessions) - 1
	moved := g.sessions[last]
	g.sessions[at] = moved
	g.sessions[last] = nil
	g.sessions = g.sessions[:last]
	if at == last {
		return
	}
	for i := range moved.places {
		if moved.places[i].group == g {
			moved.places[i].at = at
		}
	}
}

// subscribe makes a live session hear of those it has asked for. It needs the lock.
func (r *roster) subscribe(s *Session) {
	role := s.person.user.Role
	switch s.subscription.Scope {
	case NoUsers:
	case AllUsers:
		r.toAll.of(role).add(s)
	case UsersOfRoles:
		for _, wanted := range s.subscription.Roles {
			if r.toRole[wanted] == nil {
				r.toRole[wanted] = groups{}
			}
			r.toRole[wanted].of(role).add(s)
		}
	case Friends:
		for uid := range s.person.friends {
			r.listenTo(uid, s)
		}
	case TheseUsers:
		shared := make([]directory.UID, len(s.subscription.UIDs))
		for i, uid := range s.subscription.UIDs {
			shared[i] = r.listenTo(uid, s)
		}
		s.subscription.UIDs = shared
	}
}

// listenTo makes a session hear of a user, and returns the copy of its uid that is kept.
func (r *roster) listenTo(uid directory.UID, s *Session) directory.UID {
	g := r.toUser[uid]
	if g == nil {
		g = &group{uid: uid}
		r.toUser[uid] = g
	}
	g.sessions = append(g.sessions, s)
	return g.uid
}

// reserveWatched counts the users whom a session wants to watch against what its user and the app may. releaseWatched
// takes that back. They need the lock. Errors: CodeQuota.
func (r *roster) reserveWatched(s *Session) error {
	config, count := &r.presence.config, len(s.subscription.UIDs)
	switch {
	case count == 0:
		return nil
	case r.watching[s.uid]+count > config.WatchedPerUser:
		return quotaError(
			"The sockets of this user watch %d users already, and may watch %d.", r.watching[s.uid], config.WatchedPerUser,
		)
	case r.watched+count > config.WatchedPerApp:
		return quotaError(
			"The sockets of this app watch %d users already, and may watch %d.", r.watched, config.WatchedPerApp,
		)
	}
	r.watching[s.uid] += count
	r.watched += count
	return nil
}

func (r *roster) releaseWatched(s *Session) {
	count := len(s.subscription.UIDs)
	r.watched -= count
	if r.watching[s.uid] -= count; r.watching[s.uid] <= 0 {
		delete(r.watching, s.uid)
	}
}

func quotaError(format string, args ...any) error {
	return &directory.Error{Code: directory.CodeQuota, Message: fmt.Sprintf(format, args...)}
}

func (r *roster) stopListeningTo(uid directory.UID, s *Session) {
	g := r.toUser[uid]
	if g == nil {
		return
	}
	if at := slices.Index(g.sessions, s); at >= 0 {
		last := len(g.sessions) - 1
		g.sessions[at], g.sessions[last] = g.sessions[last], nil
		g.sessions = g.sessions[:last]
	}
	if len(g.sessions) == 0 {
		delete(r.toUser, uid)
	}
}

// unsubscribe takes subscribe back. It needs the lock.
func (r *roster) unsubscribe(s *Session) {
	for _, place := range s.places {
		place.group.remove(place.at)
	}
	s.places = nil
	for _, role := range s.subscription.Roles {
		if listening := r.toRole[role]; listening != nil {
			maps.DeleteFunc(listening, func(_ string, g *group) bool { return len(g.sessions) == 0 })
			if len(listening) == 0 {
				delete(r.toRole, role)
			}
		}
	}
	switch s.subscription.Scope {
	case Friends:
		for uid := range s.person.friends {
			r.stopListeningTo(uid, s)
		}
	case TheseUsers:
		for _, uid := range s.subscription.UIDs {
			r.stopListeningTo(uid, s)
		}
	case NoUsers, AllUsers, UsersOfRoles:
	}
}

// selects reports whether the session has asked to hear of a person.
func (s *Session) selects(p *person) bool {
	switch s.subscription.Scope {
	case AllUsers:
		return true
	case UsersOfRoles:
		return slices.Contains(s.subscription.Roles, p.user.Role)
	case Friends:
		return s.person.isFriend(p.user.UID)
	case TheseUsers:
		_, asked := slices.BinarySearch(s.subscription.UIDs, p.user.UID)
		return asked
	case NoUsers:
	}
	return false
}

type rolePair struct{ viewer, subject string }

// audience is whom of the viewers with one role the policy lets hear of users with another.
type audience struct{ strangers, friends bool }

// audience asks the policy, once for each pair of roles. It needs the lock.
func (r *roster) audience(viewerRole, subjectRole string) audience {
	pair := rolePair{viewerRole, subjectRole}
	known, ok := r.audiences[pair]
	if !ok {
		known = audienceOf(r.policy, pair)
		r.audiences[pair] = known
	}
	return known
}

func audienceOf(policy *directory.Policy, pair rolePair) audience {
	return audience{
		strangers: policy.Hears(pair.viewer, pair.subject, directory.Relation{}),
		friends:   policy.Hears(pair.viewer, pair.subject, directory.Relation{FriendsSince: 1}),
	}
}

// lets reports whether a viewer hears of a person, given what the policy says of their roles. Users do not hear of
// themselves, and those between whom a block stands not of each other.
func (a audience) lets(viewer, p *person) bool {
	if viewer == p {
		return false
	}
	if len(viewer.blocked) > 0 {
		if _, blocked := viewer.blocked[p.user.UID]; blocked {
			return false
		}
	}
	return a.strangers || a.friends && viewer.isFriend(p.user.UID)
}

func (p *person) isFriend(uid directory.UID) bool {
	_, friends := p.friends[uid]
	return friends
}

// hears reports whether a session hears of a person: it has asked, and it may. It needs the lock.
func (r *roster) hears(s *Session, p *person) bool {
	return s.selects(p) && r.audience(s.person.user.Role, p.user.Role).lets(s.person, p)
}

// eachListener visits the sessions that hear of a person. It needs the lock.
func (r *roster) eachListener(p *person, visit func(*Session)) {
	for _, listening := range []groups{r.toAll, r.toRole[p.user.Role]} {
		for role, group := range listening {
			audience := r.audience(role, p.user.Role)
			if !audience.strangers && !audience.friends {
				continue
			}
			for _, s := range group.sessions {
				if audience.lets(s.person, p) {
					visit(s)
				}
			}
		}
	}
	if group := r.toUser[p.user.UID]; group != nil {
		role, audience := "", r.audience("", p.user.Role)
		for _, s := range group.sessions {
			if s.person.user.Role != role { // most have the same
				role = s.person.user.Role
				audience = r.audience(role, p.user.Role)
			}
			if audience.lets(s.person, p) {
				visit(s)
			}
		}
	}
}

// deliver delivers an event about a person to all who hear of it, and returns how many they are. plainly says that it
// is news also to those who are told only who is online. It needs the lock.
func (r *roster) deliver(p *person, event *Event, plainly bool) (heard int) {
	r.eachListener(p, func(s *Session) {
		if (plainly || s.extended) && r.tellTo(s, p, event) {
			heard++
		}
	})
	return heard
}
