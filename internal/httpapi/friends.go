package httpapi

import (
	"github.com/rollcall/rollcall/internal/directory"
)

func addFriends(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	uids := f.ids("accepted")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.AddFriends(c.ctx(), c.caller, c.ownUID(), uids)
	if err != nil {
		return answer{}, err
	}
	shown, meta := outcomes(done, "The user has been added as a friend.")
	return answer{data: map[string]any{"accepted": shown}, meta: meta}, nil
}

func removeFriends(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	uids := f.ids("friends")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	if err := c.api.dir.RemoveFriends(c.ctx(), c.caller, c.ownUID(), uids); err != nil {
		return answer{}, err
	}
	return success("The users are no longer friends.")
}

func listFriends(c *call) (answer, error) {
	return c.listRelated(c.query(), func(uid string, filter directory.UserFilter) (directory.List[directory.Seen], error) {
		return c.api.dir.ListFriends(c.ctx(), c.caller, uid, filter)
	})
}

func askFriends(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	uids := f.ids("uids")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.AskFriends(c.ctx(), c.caller, c.policy, c.ownUID(), uids)
	if err != nil {
		return answer{}, err
	}
	return answerOutcomes(done, "The user has been asked, or has accepted by having asked before.")
}

func answerFriends(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	answers := directory.FriendAnswers{Accept: f.ids("accept"), Refuse: f.ids("refuse"), Withdraw: f.ids("withdraw")}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.AnswerFriends(c.ctx(), c.caller, c.ownUID(), answers)
	if err != nil {
		return answer{}, err
	}
	return answerOutcomes(done, "The friend request has been settled.")
}

func listFriendRequests(c *call) (answer, error) {
	q := c.query()
	direction := q.text("direction")
	if direction != "" && direction != "sent" && direction != "received" {
		q.wrong.Add("direction", "The direction must be sent or received.")
	}
	return c.listRelated(q, func(uid string, filter directory.UserFilter) (directory.List[directory.Seen], error) {
		return c.api.dir.ListFriendRequests(c.ctx(), c.caller, uid, direction == "sent", filter)
	})
}
