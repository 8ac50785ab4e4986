package httpapi

import (
	"github.com/rollcall/rollcall/internal/directory"
)

// ownUID returns the user whom a call is about: the one in the path, or without one, the caller itself.
func (c *call) ownUID() string {
	if uid := c.pathID("uid"); uid != "" || c.caller.User == "" {
		return uid
	}
	return string(c.caller.User)
}

func blockUsers(c *call) (answer, error) {
	return c.changeBlocks("The user has been blocked.", func(uid string, uids []string) ([]directory.Outcome, error) {
		return c.api.dir.BlockUsers(c.ctx(), c.caller, c.policy, uid, uids)
	})
}

func unblockUsers(c *call) (answer, error) {
	return c.changeBlocks("The user has been unblocked.", func(uid string, uids []string) ([]directory.Outcome, error) {
		return c.api.dir.UnblockUsers(c.ctx(), c.caller, c.policy, uid, uids)
	})
}

func (c *call) changeBlocks(
	message string, change func(uid string, uids []string) ([]directory.Outcome, error),
) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	uids := f.ids("blockedUids")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := change(c.ownUID(), uids)
	if err != nil {
		return answer{}, err
	}
	return answerOutcomes(done, message)
}

// listBlockedUsers shows both directions to a logged-in user and those blocked by the user to a key, unless the call
// says otherwise (contract rest.md section 12, A15; sdk-wire.md section G).
func listBlockedUsers(c *call) (answer, error) {
	q := c.query()
	direction := directory.BlockDirection(q.text("direction"))
	if direction == "" {
		direction = directory.BlockedByMe
		if c.caller.User != "" {
			direction = directory.BlockedBoth
		}
	}
	return c.listRelated(q, func(uid string, filter directory.UserFilter) (directory.List[directory.Seen], error) {
		return c.api.dir.ListBlockedUsers(c.ctx(), c.caller, c.policy, c.user, uid, direction, filter)
	})
}

// listRelated answers with the users who are related to the one the call is about, as that one sees them.
func (c *call) listRelated(
	q *query, list func(uid string, filter directory.UserFilter) (directory.List[directory.Seen], error),
) (answer, error) {
	filter := directory.UserFilter{Search: q.text("searchKey"), Cursor: q.text("cursor"), Page: q.page()}
	withTags := q.boolean("withTags")
	if err := q.err(); err != nil {
		return answer{}, err
	}
	uid := c.ownUID()
	found, err := list(uid, filter)
	if err != nil {
		return answer{}, err
	}
	c.caller.User, c.caller.Private = directory.FoldUID(uid), false // what follows is what that user sees
	return c.userList(found, "", withTags), nil
}
