package directory

import (
	"context"

	"github.com/rollcall/rollcall/internal/userindex"
)

// BlockUsers makes a user block others: from then on neither sees the other's presence, nor may contact the other, and
// what either has asked the other to be friends is over. Those blocked already stay as they are. Each uid has an
// outcome of its own: CodeUserNotFound, CodeCannotBlockSelf, CodeQuota. Errors: CodeUserNotFound for the user itself,
// CodeBadRequest, CodePermissionDenied.
func (d *Directory) BlockUsers(
	ctx context.Context, caller Caller, policy *Policy, rawUID string, uids []string,
) ([]Outcome, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		if err := policy.mayUseNow(tx, caller, FeatureBlock); err != nil {
			return nil, err
		}
		return d.forEachOther(tx, log, rawUID, "blockedUids", uids, func(user User, other UID) error {
			if other == user.UID {
				return fail(CodeCannotBlockSelf, "A user cannot block itself.")
			}
			relation, err := d.requireOther(tx, caller, policy, user, other)
			if err != nil || relation.BlockedByMeAt != 0 {
				return err
			}
			count, err := tx.CountBlocks(log.app, user.UID)
			if err != nil {
				return err
			}
			if count >= d.limits.BlocksPerUser {
				return fail(CodeQuota, "A user may block at most %d others.", d.limits.BlocksPerUser)
			}
			if err := settleRequests(tx, log.app, user.UID, other); err != nil {
				return err
			}
			if err := tx.PutBlock(log.app, user.UID, other, log.at); err != nil {
				return err
			}
			return log.appendPair(UserBlocked, user.UID, other)
		})
	})
}

// requireOther returns what is between a user and another one, who must be active and, when the user itself calls,
// visible to it. Errors: CodeUserNotFound.
func (d *Directory) requireOther(tx Writer, caller Caller, policy *Policy, user User, other UID) (Relation, error) {
	subject, err := requireUser(tx, caller.App, other, string(other))
	if err != nil {
		return Relation{}, err
	}
	relation, err := relationTo(tx, caller.App, user.UID, other)
	if err == nil && caller.User != "" && !policy.see(user, subject, relation).Visible() {
		err = ErrUserNotFound(string(other))
	}
	return relation, err
}

// UnblockUsers takes back BlockUsers: whom a user has blocked it can always unblock, whether it may see that one or
// not. Unblocking somebody who is not blocked changes nothing. Each uid has an outcome of its own: CodeUserNotFound for
// one who is not blocked and whom BlockUsers would not find. Errors: CodeUserNotFound for the user itself,
// CodeBadRequest, CodePermissionDenied.
func (d *Directory) UnblockUsers(
	ctx context.Context, caller Caller, policy *Policy, rawUID string, uids []string,
) ([]Outcome, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		if err := policy.mayUseNow(tx, caller, FeatureUnblock); err != nil {
			return nil, err
		}
		return d.forEachOther(tx, log, rawUID, "blockedUids", uids, func(user User, other UID) error {
			relation, err := relationTo(tx, log.app, user.UID, other)
			if err != nil {
				return err
			}
			if relation.BlockedByMeAt == 0 {
				_, err := d.requireOther(tx, caller, policy, user, other)
				return err
			}
			if err := tx.DeleteBlock(log.app, user.UID, other); err != nil {
				return err
			}
			return log.appendPair(UserUnblocked, user.UID, other)
		})
	})
}

func orNotFound(err error, uid UID) error {
	if err != nil {
		return err
	}
	return ErrUserNotFound(string(uid))
}

// BlockDirection selects whom a list of blocked users holds.
type BlockDirection string

// The directions of contract rest.md section 5.
const (
	BlockedByMe  BlockDirection = "blockedByMe"
	HasBlockedMe BlockDirection = "hasBlockedMe"
	BlockedBoth  BlockDirection = "both"
)

// ListBlockedUsers lists the users that a user has blocked, that have blocked it, or both, by name. A caller who is a
// user, whom viewer is then, always finds those it has blocked, and of the others those whom it may list. Errors:
// CodeUserNotFound, CodeBadRequest, CodePermissionDenied.
func (d *Directory) ListBlockedUsers(
	ctx context.Context, caller Caller, policy *Policy, viewer User, rawUID string, direction BlockDirection,
	filter UserFilter,
) (List[Seen], error) {
	if err := policy.mayUse(caller, viewer, FeatureListBlocked); err != nil {
		return List[Seen]{}, err
	}
	var wrong FieldErrors
	checkOneOf(
		&wrong, "direction", string(direction), []string{string(BlockedByMe), string(HasBlockedMe), string(BlockedBoth)},
	)
	if err := wrong.Err(); err != nil {
		return List[Seen]{}, err
	}
	related := Related{Blocked: direction != HasBlockedMe, Blockers: direction != BlockedByMe}
	if caller.User != "" {
		if related = policy.narrowBlockers(viewer, related); !related.Blocked && !related.Blockers {
			return List[Seen]{Page: filter.Page.orDefault()}, nil
		}
	}
	return d.listRelated(ctx, caller, rawUID, related, filter)
}

// listRelated lists the users who are related to one, as that one sees them.
func (d *Directory) listRelated(
	ctx context.Context, caller Caller, rawUID string, related Related, filter UserFilter,
) (List[Seen], error) {
	related.To = FoldUID(rawUID)
	list := List[Seen]{Page: filter.Page.orDefault()}
	filter.SortBy = "name"
	query, err := d.userQuery(caller, filter, list.Page)
	if err != nil {
		return list, err
	}
	query.related = []Related{related}
	none := query.nobody
	query.nobody = false // it is to be told first when there is no such user
	err = d.list(ctx, caller.App, related.To, &query, &list, func(tx Reader, asked *userindex.Query, _ []string) error {
		if none {
			asked.Among = append(asked.Among, []userindex.Group{})
		}
		_, err := requireUser(tx, caller.App, related.To, rawUID)
		return err
	})
	filter.endWalk(&list)
	return list, err
}
