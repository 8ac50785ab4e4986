package directory

import "context"

// AddFriends makes a user and others friends of each other; requests between them are settled by it. Each uid has an
// outcome of its own: CodeUserNotFound, CodeSelfRelation, CodeAlreadyFriend, CodeQuota when either has too many.
// Errors: CodeUserNotFound for the user itself, CodeBadRequest.
func (d *Directory) AddFriends(ctx context.Context, caller Caller, rawUID string, uids []string) ([]Outcome, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		return d.forEachOther(tx, log, rawUID, "accepted", uids, func(user User, other UID) error {
			if _, err := requireUser(tx, log.app, other, string(other)); err != nil {
				return err
			}
			if _, err := d.requireNoFriend(tx, log, user.UID, other); err != nil {
				return err
			}
			return d.befriend(tx, log, user.UID, other)
		})
	})
}

func (d *Directory) requireNoFriend(tx Writer, log *logbook, uid, other UID) (Relation, error) {
	if uid == other {
		return Relation{}, fail(CodeSelfRelation, "A user cannot be a friend of itself.")
	}
	relation, err := relationTo(tx, log.app, uid, other)
	if err == nil && relation.FriendsSince != 0 {
		err = errAlreadyFriends(uid, other)
	}
	return relation, err
}

func (d *Directory) befriend(tx Writer, log *logbook, uid, other UID) error {
	for _, one := range []UID{uid, other} {
		count, err := tx.CountFriends(log.app, one)
		if err != nil {
			return err
		}
		if count >= d.limits.FriendsPerUser {
			return fail(CodeQuota, "The user %s has %d friends, and may not have more.", one, d.limits.FriendsPerUser)
		}
	}
	if err := settleRequests(tx, log.app, uid, other); err != nil {
		return err
	}
	if err := tx.PutFriends(log.app, uid, other, log.at); err != nil {
		return err
	}
	return log.appendPair(FriendAdded, uid, other)
}

// settleRequests removes what either has asked the other.
func settleRequests(tx Writer, app AppID, a, b UID) error {
	if err := tx.DeleteFriendRequest(app, a, b); err != nil {
		return err
	}
	return tx.DeleteFriendRequest(app, b, a)
}

// RemoveFriends ends friendships of a user. Those who are not friends are left as they are.
// Errors: CodeUserNotFound for the user itself, CodeBadRequest.
func (d *Directory) RemoveFriends(ctx context.Context, caller Caller, rawUID string, uids []string) error {
	_, err := write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		return d.forEachOther(tx, log, rawUID, "friends", uids, func(user User, other UID) error {
			relation, err := relationTo(tx, log.app, user.UID, other)
			if err != nil || relation.FriendsSince == 0 {
				return err
			}
			if err := tx.DeleteFriends(log.app, user.UID, other); err != nil {
				return err
			}
			return log.appendPair(FriendRemoved, user.UID, other)
		})
	})
	return err
}

// ListFriends lists the friends of a user by name, as the user sees them. Errors: CodeUserNotFound, CodeBadRequest.
func (d *Directory) ListFriends(
	ctx context.Context, caller Caller, rawUID string, filter UserFilter,
) (List[Seen], error) {
	return d.listRelated(ctx, caller, rawUID, Related{Friends: true}, filter)
}

// AskFriends asks others to be friends. Asking somebody who has asked already makes the two friends. Each uid has an
// outcome of its own: CodeUserNotFound, CodeSelfRelation, CodeAlreadyFriend, CodeQuota, and CodeBlockedReceiver or
// CodeBlockedSender when one has blocked the other. Errors: CodeUserNotFound for the user itself, CodeBadRequest.
func (d *Directory) AskFriends(
	ctx context.Context, caller Caller, policy *Policy, rawUID string, uids []string,
) ([]Outcome, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		return d.forEachOther(tx, log, rawUID, "uids", uids, func(user User, other UID) error {
			relation, err := d.requireNoFriend(tx, log, user.UID, other)
			if err != nil {
				return err
			}
			if _, err := d.requireOther(tx, caller, policy, user, other); err != nil {
				return err
			}
			if err := requireNoBlock(relation, user.UID, other); err != nil {
				return err
			}
			return d.ask(tx, log, user.UID, other)
		})
	})
}

// requireNoBlock refuses what a block between a user and another one forbids. Errors: CodeBlockedReceiver,
// CodeBlockedSender.
func requireNoBlock(relation Relation, uid, other UID) error {
	switch {
	case relation.BlockedByMeAt != 0:
		return fail(CodeBlockedReceiver, "The user %s has blocked %s. Unblock first.", uid, other)
	case relation.HasBlockedMeAt != 0:
		return fail(CodeBlockedSender, "The user %s has blocked %s.", other, uid)
	}
	return nil
}

func (d *Directory) ask(tx Writer, log *logbook, uid, other UID) error {
	if _, asked, err := tx.FriendRequest(log.app, other, uid); err != nil || asked {
		if err != nil {
			return err
		}
		return d.befriend(tx, log, uid, other)
	}
	if _, asked, err := tx.FriendRequest(log.app, uid, other); err != nil || asked {
		return err
	}
	count, err := tx.CountFriendRequests(log.app, uid)
	if err != nil {
		return err
	}
	if count >= d.limits.FriendsPerUser {
		return fail(
			CodeQuota, "The user %s has asked %d others, and may not ask more before they answer.", uid, d.limits.FriendsPerUser,
		)
	}
	if err := tx.PutFriendRequest(log.app, uid, other, log.at); err != nil {
		return err
	}
	return log.appendPair(FriendRequested, uid, other)
}

// FriendAnswers is what a user does with the requests of others, and with its own.
type FriendAnswers struct {
	// Accept makes friends of those who have asked, Refuse turns them away, and Withdraw takes back what the user asked.
	Accept, Refuse, Withdraw []string
}

// AnswerFriends settles friend requests. Each uid has an outcome of its own: CodeNoFriendRequest, CodeQuota, and
// CodeBlockedReceiver or CodeBlockedSender for one to accept when one has blocked the other.
// Errors: CodeUserNotFound for the user itself, CodeBadRequest.
func (d *Directory) AnswerFriends(
	ctx context.Context, caller Caller, rawUID string, answers FriendAnswers,
) ([]Outcome, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		var all []Outcome
		for _, step := range []struct {
			field  string
			uids   []string
			settle func(user User, other UID) error
		}{
			{"accept", answers.Accept, func(user User, other UID) error {
				if err := requireRequest(tx, log.app, other, user.UID); err != nil {
					return err
				}
				relation, err := d.requireNoFriend(tx, log, user.UID, other)
				if err != nil {
					return err
				}
				if _, err := requireUser(tx, log.app, other, string(other)); err != nil {
					return err
				}
				if err := requireNoBlock(relation, user.UID, other); err != nil {
					return err
				}
				return d.befriend(tx, log, user.UID, other)
			}},
			{"refuse", answers.Refuse, func(user User, other UID) error {
				return dropRequest(tx, log, other, user.UID, FriendRefused, user.UID, other)
			}},
			{"withdraw", answers.Withdraw, func(user User, other UID) error {
				return dropRequest(tx, log, user.UID, other, FriendWithdrawn, user.UID, other)
			}},
		} {
			if len(step.uids) == 0 {
				continue
			}
			outcomes, err := d.forEachOther(tx, log, rawUID, step.field, step.uids, step.settle)
			if err != nil {
				return nil, err
			}
			all = append(all, outcomes...)
		}
		if len(all) == 0 {
			return nil, FieldErrors{"accept": {"Say whom to accept or refuse, or what to withdraw."}}.Err()
		}
		return all, nil
	})
}

func requireRequest(tx Writer, app AppID, from, to UID) error {
	_, asked, err := tx.FriendRequest(app, from, to)
	if err == nil && !asked {
		err = fail(CodeNoFriendRequest, "There is no friend request from %s to %s.", from, to)
	}
	return err
}

func dropRequest(tx Writer, log *logbook, from, to UID, kind Kind, subject, object UID) error {
	if err := requireRequest(tx, log.app, from, to); err != nil {
		return err
	}
	if err := tx.DeleteFriendRequest(log.app, from, to); err != nil {
		return err
	}
	return log.appendPair(kind, subject, object)
}

// ListFriendRequests lists by name the users who wait for an answer of the user, or, with sent, those whose answer the
// user waits for. Errors: CodeUserNotFound, CodeBadRequest.
func (d *Directory) ListFriendRequests(
	ctx context.Context, caller Caller, rawUID string, sent bool, filter UserFilter,
) (List[Seen], error) {
	return d.listRelated(ctx, caller, rawUID, Related{Asked: sent, Asking: !sent}, filter)
}
