package presence

import (
	"context"

	"github.com/rollcall/rollcall/internal/directory"
)

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

// audiencesThatDiffer returns the pairs of roles of a listener and of somebody known to be online for which another
// policy says something else, with what they are now and then. It needs the lock.
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
