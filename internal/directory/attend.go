package directory

import (
	"context"
	"errors"
)

// Ties are those who stand between a user and what it may see of others.
type Ties struct {
	// Blocked are those whom the user has blocked and those who have blocked it.
	Blocked []UID
	// Friends are set when they were asked for.
	Friends []UID
}

// ErrSuspended is the cause of an Error about an auth token that is good again when its user is reactivated.
var ErrSuspended = errors.New("the user is deactivated")

// Attendee is a user who opens a session, and what decides whose presence it sees.
type Attendee struct {
	User  User
	Token Token
	Ties  Ties
}

// Attend returns what a session of a user needs that is opened with one of its auth tokens. friends says that its
// friends are needed too. Errors: CodeTokenUnknown.
func (d *Directory) Attend(
	ctx context.Context, policy *Policy, uid UID, token TokenID, friends bool,
) (attendee Attendee, err error) {
	app := policy.App.ID
	err = d.store.View(ctx, func(tx Reader) error {
		var found bool
		if attendee.Token, found, err = tx.TokenByID(app, token); err != nil {
			return err
		}
		if !found || attendee.Token.UID != uid || !policy.accepts(attendee.Token) {
			return errTokenUnknown()
		}
		if attendee.User, found, err = tx.User(app, uid); err != nil {
			return err
		}
		if !found {
			return errTokenUnknown()
		}
		if attendee.User.DeactivatedAt != 0 {
			return &Error{
				Code: CodeTokenUnknown, Message: "This auth token is suspended: its user is deactivated.", Cause: ErrSuspended,
			}
		}
		attendee.Ties, err = tiesOf(tx, app, uid, friends)
		return err
	})
	return attendee, err
}

func tiesOf(tx Reader, app AppID, uid UID, friends bool) (ties Ties, err error) {
	if ties.Blocked, err = othersOf(tx, app, Blocks, uid); err == nil && friends {
		ties.Friends, err = othersOf(tx, app, Friendships, uid)
	}
	return ties, err
}

func othersOf(tx Reader, app AppID, kind PairKind, uid UID) ([]UID, error) {
	pairs, err := tx.PairsOf(app, kind, uid)
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	others := make([]UID, len(pairs))
	for i, pair := range pairs {
		if others[i] = pair.Other; pair.Other == uid {
			others[i] = pair.UID
		}
	}
	return others, nil
}

// Ties returns the ties of a user as they are now.
func (d *Directory) Ties(ctx context.Context, app AppID, uid UID, friends bool) (ties Ties, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		ties, err = tiesOf(tx, app, uid, friends)
		return err
	})
	return ties, err
}

// Between returns what is between two users now, seen from the first.
func (d *Directory) Between(ctx context.Context, app AppID, uid, other UID) (relation Relation, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		relation, err = relationTo(tx, app, uid, other)
		return err
	})
	return relation, err
}

// ActiveUser returns a user who is neither deleted nor deactivated, and whether there is one.
func (d *Directory) ActiveUser(ctx context.Context, app AppID, uid UID) (user User, found bool, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		user, found, err = tx.User(app, uid)
		return err
	})
	return user, found && user.DeactivatedAt == 0, err
}

// Hears reports whether a viewer of one role hears of the presence of an active user of another: what the one policy of
// who sees whom says of two roles and a relation.
func (p *Policy) Hears(viewerRole, subjectRole string, relation Relation) bool {
	visibility := p.see(User{UID: "viewer", Role: viewerRole}, User{UID: "subject", Role: subjectRole}, relation)
	return visibility.Presence && visibility.Visible()
}

// Sessions holds the live sessions of users. Implementations are safe for concurrent use.
type Sessions interface {
	// EndForbidden ends the sessions that committed changes of an app do not allow any more, and returns how many sockets
	// were closed for it. It is called before the changes are answered, and not in their order.
	EndForbidden(ctx context.Context, app AppID, changes []Change) (closed int)
	// LiveTokens returns the auth tokens of a user on which a session stands, or stood a moment ago.
	LiveTokens(app AppID, uid UID) map[TokenID]struct{}
}

// UseSessions makes writes end the sessions that they forbid. Call it before the directory is used.
func (d *Directory) UseSessions(sessions Sessions) { d.sessions = sessions }

// noSessions is where nobody has a session.
type noSessions struct{}

func (noSessions) EndForbidden(context.Context, AppID, []Change) int { return 0 }

func (noSessions) LiveTokens(AppID, UID) map[TokenID]struct{} { return nil }
