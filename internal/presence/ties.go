package presence

import (
	"context"

	"github.com/rollcall/rollcall/internal/directory"
)

// dropTies ends what was between those erased and others, of which the log says nothing by itself. Whoever gets the uid
// of one next is nobody's friend.
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

// setRelation takes over what is between a viewer and another user, and tells the viewer what follows. It needs the
// lock.
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

// readMissingFriends reads the friends of those whose friends did not matter so far. It needs the lock, which it gives
// up while it reads.
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
