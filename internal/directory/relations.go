package directory

import (
	"slices"

	"github.com/rollcall/rollcall/internal/userindex"
)

// Relation is what is between a viewer and another user. Times are Unix seconds, 0 for never.
type Relation struct {
	// BlockedByMeAt is when the viewer blocked the other user.
	BlockedByMeAt int64
	// HasBlockedMeAt is when the other user blocked the viewer.
	HasBlockedMeAt int64
	// FriendsSince is when the two became friends.
	FriendsSince int64
}

// Blocked reports whether either has blocked the other.
func (r Relation) Blocked() bool { return r.BlockedByMeAt != 0 || r.HasBlockedMeAt != 0 }

// Related selects the users who are related to one in any of the ways that are set.
type Related struct {
	To UID
	// Blocked are those whom To has blocked, Blockers those who have blocked To.
	Blocked, Blockers bool
	// BlockersAmongFriends leaves only friends of To among the blockers, and BlockersOfRoles, unless it is empty, only
	// those with one of the roles.
	BlockersAmongFriends bool
	BlockersOfRoles      []string
	Friends              bool
	// Asked are those whom To has asked to be friends, Asking those who have asked To.
	Asked, Asking bool
}

// groupsOf returns the users who are related to one, whose ties are given, in any of the ways that related selects.
func groupsOf(tx Reader, app AppID, related Related, ties *knownTies) ([]userindex.Group, error) {
	var blocked, blockers, asked, asking userindex.Group
	for uid, relation := range ties.blocks {
		if related.Blocked && relation.BlockedByMeAt != 0 {
			blocked.UIDs = append(blocked.UIDs, string(uid))
		}
		if !related.Blockers || relation.HasBlockedMeAt == 0 {
			continue
		}
		if _, friend := slices.BinarySearch(ties.friends, string(uid)); friend || !related.BlockersAmongFriends {
			blockers.UIDs = append(blockers.UIDs, string(uid))
		}
	}
	blockers.Terms = roleTerms(related.BlockersOfRoles)
	groups := []userindex.Group{blocked, blockers}
	if related.Friends {
		groups = append(groups, userindex.Group{UIDs: ties.friends})
	}
	if !related.Asked && !related.Asking {
		return groups, nil
	}
	requests, err := tx.PairsOf(app, FriendRequests, related.To)
	for _, request := range requests {
		switch {
		case related.Asked && request.UID == related.To:
			asked.UIDs = append(asked.UIDs, string(request.Other))
		case related.Asking && request.Other == related.To:
			asking.UIDs = append(asking.UIDs, string(request.UID))
		}
	}
	return append(groups, asked, asking), err
}

// Seen is a user as a viewer may see it.
type Seen struct {
	*User
	// Relation is what is between the viewer and the user; empty when there is no viewer.
	Relation Relation
	// Present reports whether the viewer may see the user's presence: whether it is online, and when it was last active.
	Present bool
}

// relationsTo returns what is between a viewer and users.
func relationsTo(tx Reader, app AppID, viewer UID, users []User) (map[UID]Relation, error) {
	if viewer == "" || len(users) == 0 {
		return nil, nil
	}
	uids := make([]UID, len(users))
	for i := range users {
		uids[i] = users[i].UID
	}
	return tx.Relations(app, viewer, uids)
}

// seen joins users with what is between them and the viewer, who does not see private metadata.
func seen(viewer UID, users []User, relations map[UID]Relation) []Seen {
	items := make([]Seen, len(users))
	for i := range users {
		item := &items[i]
		item.User, item.Relation = &users[i], relations[users[i].UID]
		item.Present = !item.Relation.Blocked()
		if viewer != "" {
			item.Metadata = PublicMetadata(item.Metadata)
		}
	}
	return items
}

// relationTo returns what is between a viewer and one other user.
func relationTo(tx Reader, app AppID, viewer, other UID) (Relation, error) {
	relations, err := tx.Relations(app, viewer, []UID{other})
	return relations[other], err
}

// Outcome is what became of one item of a bulk call. A nil Err means success.
type Outcome struct {
	ID  string
	Err *Error `json:",omitempty"`
	// Unchanged says that everything was as wished before.
	Unchanged bool `json:",omitempty"`
}

// forEachOther runs fn for each of the uids sent, once each, as one update for the user uid, and gathers what became
// of them. What fn refuses with an Error is reported for that uid alone. Errors: CodeBadRequest for no or too many
// uids, CodeUserNotFound for the user itself.
func (d *Directory) forEachOther(
	tx Writer, log *logbook, rawUID, field string, sent []string, fn func(user User, other UID) error,
) ([]Outcome, error) {
	if err := d.checkBulk(field, sent); err != nil {
		return nil, err
	}
	user, err := requireUser(tx, log.app, FoldUID(rawUID), rawUID)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, 0, len(sent))
	done := map[UID]bool{}
	for _, text := range sent {
		other := FoldUID(text)
		if done[other] {
			continue
		}
		done[other] = true
		outcome := Outcome{ID: string(other)}
		if err := fn(user, other); err != nil {
			if outcome.Err = refusal(err); outcome.Err == nil {
				return nil, err
			}
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil
}

// refusal returns what the rules have answered, nil for a failure. What they answer is not wrapped.
func refusal(err error) *Error {
	refused, _ := err.(*Error) //nolint:errorlint // see above
	return refused
}

// checkBatch bounds how many items a batch or a look-up holds.
func (d *Directory) checkBatch(field string, items int) error {
	var wrong FieldErrors
	if items == 0 || items > d.limits.BatchUsers {
		wrong.Add(field, "The %s must be 1 to %d.", field, d.limits.BatchUsers)
	}
	return wrong.Err()
}

func (d *Directory) checkBulk(field string, uids []string) error {
	var wrong FieldErrors
	switch {
	case len(uids) == 0:
		wrong.Add(field, "The %s field is required.", field)
	case len(uids) > d.limits.BulkUIDs:
		wrong.Add(field, "The %s may not be more than %d.", field, d.limits.BulkUIDs)
	}
	return wrong.Err()
}
