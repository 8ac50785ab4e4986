package httpapi

import (
	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// showToken returns an auth token. Its text is masked unless the caller has it already or the app reveals secrets.
func (c *call) showToken(token directory.Token, known bool) api.AuthToken {
	shown := api.AuthToken{
		UID: string(token.UID), Token: token.Text, ID: string(token.ID), CreatedAt: token.CreatedAt,
		Platform: token.Device.Platform, UserAgent: token.Device.UserAgent, DeviceID: token.Device.DeviceID,
		AppInfo: token.Device.AppInfo,
	}
	if !known && !c.policy.App.Settings.RevealSecrets {
		shown.Token = mask(token.Text)
	}
	return shown
}

// joinedToken is showToken for the calls of the contract, which knows less of a token.
func (c *call) joinedToken(token directory.Token, known bool) (api.AuthToken, api.Addition) {
	shown := c.showToken(token, known)
	addition := api.Addition{ID: shown.ID, DeviceID: shown.DeviceID}
	shown.ID, shown.DeviceID = "", ""
	return shown, addition
}

func createAuthToken(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	f.boolean("force") // every call mints a new token
	device := directory.Device{
		Platform: f.text("platform"), UserAgent: f.text("userAgent"), DeviceID: f.text("deviceId"),
		AppInfo: f.object("appInfo"),
	}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	token, err := c.api.dir.CreateToken(c.ctx(), c.caller, c.pathID("uid"), device)
	if err != nil {
		return answer{}, err
	}
	return withItem(c.joinedToken(token, true))
}

func listAuthTokens(c *call) (answer, error) {
	q := c.query()
	page := q.page()
	if err := q.err(); err != nil {
		return answer{}, err
	}
	list, err := c.api.dir.ListTokens(c.ctx(), c.caller, c.pathID("uid"), page)
	if err != nil {
		return answer{}, err
	}
	return joined(list, func(token directory.Token) (api.AuthToken, api.Addition) {
		return c.joinedToken(token, false)
	}), nil
}

func getAuthToken(c *call) (answer, error) {
	token, err := c.api.dir.GetToken(c.ctx(), c.caller, c.pathID("uid"), c.path("authToken"))
	if err != nil {
		return answer{}, err
	}
	return withItem(c.joinedToken(token, token.Text == c.path("authToken")))
}

func updateAuthToken(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	patch := f.decodeDevice()
	if err := f.err(); err != nil {
		return answer{}, err
	}
	token, err := c.api.dir.UpdateToken(c.ctx(), c.caller, c.pathID("uid"), c.path("authToken"), patch)
	if err != nil {
		return answer{}, err
	}
	return withItem(c.joinedToken(token, token.Text == c.path("authToken")))
}

func (f *fields) decodeDevice() directory.DevicePatch {
	return directory.DevicePatch{
		Platform: f.maybeText("platform"), UserAgent: f.maybeText("userAgent"), DeviceID: f.maybeText("deviceId"),
		AppInfo: f.maybeObject("appInfo"),
	}
}

func revoked(done directory.Revoked, message string) (answer, error) {
	meta := &api.Meta{RevokedTokens: &done.Tokens, ClosedSockets: &done.Sockets}
	return answer{data: api.Success{Success: true, Message: message}, meta: meta}, nil
}

func deleteAuthToken(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.DeleteToken(c.ctx(), c.caller, c.pathID("uid"), c.path("authToken"))
	if err != nil {
		return answer{}, err
	}
	return revoked(done, "The auth token has been revoked.")
}

func deleteAuthTokens(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	before := f.unixTime("issuedBefore")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.DeleteTokens(c.ctx(), c.caller, c.pathID("uid"), before)
	if err != nil {
		return answer{}, err
	}
	return revoked(done, "The auth tokens of the user have been revoked.")
}

// revokeAuthTokens revokes every auth token of the app that was issued before a time.
func revokeAuthTokens(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	before := f.unixTime("issuedBefore")
	if before == 0 {
		f.required("issuedBefore")
	}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.RevokeTokens(c.ctx(), c.caller, before)
	if err != nil {
		return answer{}, err
	}
	return revoked(done, "The auth tokens issued before that time have been revoked.")
}
