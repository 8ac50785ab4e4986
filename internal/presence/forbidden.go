package presence

import (
	"context"
	"slices"

	"github.com/rollcall/rollcall/internal/directory"
)

// EndForbidden ends the sessions that changes of an app do not allow any more, and returns how many sockets that
// closed.
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

// countClosed adds to how many sockets a change has closed, and returns how many that are: the change is acted on when
// it is written and when the log is followed, in no order, and the answer to the write says all of them.
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
		return r.endWhere(
			uid, LoggedOut, func(t token, _ string) bool { return slices.Contains(change.Fields, string(t.id)) },
		)
	case directory.KeyDeleted:
		return r.endWhere(
			"", LoggedOut, func(t token, _ string) bool { return t.mintedBy == directory.KeyID(change.Subject) },
		)
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
