package httpapi

import (
	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// showMe returns the logged-in user with everything that the SDK must find in this answer every time (sdk-wire.md,
// fact 3).
func (c *call) showMe(user directory.User) (answer, error) {
	return data(api.Me{
		User: c.showUser(&user), AuthToken: c.token.Text, JWT: c.api.signSocketJWT(c),
		WSChannel: api.WSChannel{Identity: string(c.caller.App) + "_" + string(user.UID), Service: "rollcall"},
		Settings:  c.settings(c.policy.App),
	})
}

func getMe(c *call) (answer, error) {
	user, err := c.api.dir.GetMe(c.caller, c.policy, c.user)
	if err != nil {
		return answer{}, err
	}
	return c.showMe(user)
}

func updateMe(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	me := directory.Me{Profile: f.decodePatch(), Device: f.decodeDevice()}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	user, err := c.api.dir.UpdateMe(c.ctx(), c.caller, c.policy, c.user, me)
	if err != nil {
		return answer{}, err
	}
	return c.showMe(user)
}

func logOut(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	if err := c.api.dir.LogOut(c.ctx(), c.caller, c.policy, c.user); err != nil {
		return answer{}, err
	}
	return success("The user has been logged out.")
}

// createUserSession takes the SDK's report about its device. Nothing of it is kept: what the product needs of a device
// is on its auth token.
func createUserSession(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	id := f.text("sessionId")
	if id == "" {
		f.required("sessionId")
	} else if len(id) > 255 {
		f.wrong.Add("sessionId", "The sessionId may not be longer than 255 bytes.")
	}
	f.pass("data", "generatedAt")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	return data(api.UserSession{SessionID: id})
}
