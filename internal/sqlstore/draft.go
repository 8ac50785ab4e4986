package sqlstore

import "github.com/rollcall/rollcall/internal/directory"

// draft gathers what an update does to users, for the census. A nil draft gathers nothing.
type draft struct {
	// known holds users as the update has seen or left them, nil for those who do not exist.
	known map[userKey]*directory.User
	moves map[directory.AppID][]move
	gone  []directory.AppID
}

func newDraft() *draft {
	return &draft{known: map[userKey]*directory.User{}, moves: map[directory.AppID][]move{}}
}

// know notes how the update has found a user.
func (d *draft) know(app directory.AppID, uid directory.UID, user directory.User, found bool) {
	if d == nil {
		return
	}
	d.known[userKey{app, uid}] = nil
	if found {
		d.known[userKey{app, uid}] = &user
	}
}

// noteMove notes what becomes of a user, and returns whether it was there: after is nil when it is erased. A user that the
// update has not looked at is looked at first.
func (t *tx) noteMove(app directory.AppID, uid directory.UID, after *directory.User) (exists bool, err error) {
	key := userKey{app, uid}
	if _, known := t.draft.known[key]; !known {
		if _, _, err := t.User(app, uid); err != nil {
			return false, err
		}
	}
	before := t.draft.known[key]
	t.draft.moves[app] = append(t.draft.moves[app], move{before: before, after: after})
	t.draft.known[key] = after
	return before != nil, nil
}

// addTo adds the draft to what a batch does. revisions are those that the batch has come to.
func (d *draft) addTo(tallies map[directory.AppID]tally, revisions map[directory.AppID]int64) {
	for app, moves := range d.moves {
		sum := tallies[app]
		sum.moves = append(sum.moves, moves...)
		sum.revision = revisions[app]
		tallies[app] = sum
	}
	for _, app := range d.gone {
		tallies[app] = tally{forget: true}
	}
}
