package sqlstore

import "github.com/rollcall/rollcall/internal/directory"

// draft gathers what an update does to users, for the census. A nil draft gathers nothing.
type draft struct {
	// known holds users as the update has seen or left them.
	known []draftUser
	// index tells where in known a user is. Nil while there are so few that a look at each costs less.
	index map[userKey]int
	moves []draftMove
	gone  []directory.AppID
}

// draftUser is a user, nil for one who does not exist.
type draftUser struct {
	key  userKey
	user *directory.User
}

type draftMove struct {
	app directory.AppID
	move
}

// fewDrafted is how many users are looked at one by one.
const fewDrafted = 8

// find returns what is known of a user, nil when nothing is.
func (d *draft) find(key userKey) *draftUser {
	if d.index != nil {
		if at, known := d.index[key]; known {
			return &d.known[at]
		}
		return nil
	}
	for i := range d.known {
		if d.known[i].key == key {
			return &d.known[i]
		}
	}
	return nil
}

// know notes how the update has found a user.
func (d *draft) know(app directory.AppID, uid directory.UID, user directory.User, found bool) {
	if d == nil {
		return
	}
	var stored *directory.User
	if found {
		stored = &user
	}
	d.note(userKey{app, uid}, stored)
}

func (d *draft) note(key userKey, user *directory.User) {
	if known := d.find(key); known != nil {
		known.user = user
		return
	}
	d.known = append(d.known, draftUser{key, user})
	switch {
	case d.index != nil:
		d.index[key] = len(d.known) - 1
	case len(d.known) > fewDrafted:
		d.index = make(map[userKey]int, 2*len(d.known))
		for i := range d.known {
			d.index[d.known[i].key] = i
		}
	}
}

// noteMove notes what becomes of a user, and returns whether it was there: after is nil when it is erased. A user that the
// update has not looked at is looked at first.
func (t *tx) noteMove(app directory.AppID, uid directory.UID, after *directory.User) (exists bool, err error) {
	key := userKey{app, uid}
	known := t.draft.find(key)
	if known == nil {
		if _, _, err := t.User(app, uid); err != nil {
			return false, err
		}
		known = t.draft.find(key)
	}
	before := known.user
	known.user = after
	t.draft.moves = append(t.draft.moves, draftMove{app, move{before: before, after: after}})
	return before != nil, nil
}

// addTo adds the draft to what a batch does. revisions are those that the batch has come to, and raised says that this update
// has made one.
func (d *draft) addTo(tallies map[directory.AppID]tally, revisions map[directory.AppID]int64, raised bool) {
	for _, m := range d.moves {
		sum := tallies[m.app]
		sum.moves = append(sum.moves, m.move)
		sum.revision = revisions[m.app]
		sum.raised = sum.raised || raised
		tallies[m.app] = sum
	}
	for _, app := range d.gone {
		tallies[app] = tally{forget: true}
	}
}
