package httpapi

import (
	"net"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// header names of the contract, in net/http's canonical spelling.
const (
	headerAppID      = "Appid"
	headerAPIKey     = "Apikey"
	headerAuthToken  = "Authtoken"
	headerOnBehalfOf = "Onbehalfof"
	headerManagement = "Key"
	headerSDK        = "Sdk"
	headerSecret     = "Secret"
)

// headerValue returns the first value of a header, in UTF-8.
func headerValue(r *http.Request, name string) string {
	values := r.Header[name]
	if len(values) == 0 {
		return ""
	}
	if !utf8.ValidString(values[0]) {
		return strings.ToValidUTF8(strings.TrimSpace(values[0]), "\ufffd")
	}
	return strings.TrimSpace(values[0])
}

// authenticate finds out who calls and whether the route is open to them. The app is checked before the credentials,
// and the credentials before anything in the path (contract rest.md section 10.2).
func (c *call) authenticate() error {
	switch c.route.Access {
	case Public:
		return nil
	case Management:
		return c.authenticateOperator(directory.AppID(strings.ToLower(c.path("appId"))))
	case FullAccessKey, FullAccessKeyOrManagement, AnyKey, UserToken, KeyOrToken, MaybeToken:
	}
	if err := c.findApp(); err != nil {
		return err
	}
	switch c.route.Access {
	case MaybeToken:
		return nil
	case UserToken:
		return c.authenticateToken()
	case KeyOrToken:
		if headerValue(c.r, headerAPIKey) == "" && headerValue(c.r, headerAuthToken) != "" {
			return c.authenticateToken()
		}
	case FullAccessKeyOrManagement:
		if headerValue(c.r, headerAPIKey) == "" && headerValue(c.r, headerManagement) != "" {
			return c.authenticateOperator(c.policy.App.ID)
		}
	case Public, FullAccessKey, AnyKey, Management:
	}
	return c.authenticateKey()
}

func (c *call) findApp() error {
	id := strings.ToLower(headerValue(c.r, headerAppID))
	if id == "" {
		id = strings.ToValidUTF8(appOfHost(c.r.Host), "\ufffd")
	}
	if id == "" {
		return errorf(api.CodeEmptyAppID, "Say which app this is for: send its id in the appId header.")
	}
	if !c.api.dir.RemembersApp(directory.AppID(id)) {
		if err := c.api.limiter.mayGuess(c, "app"); err != nil {
			return err
		}
	}
	policy, err := c.api.dir.Policy(c.ctx(), directory.AppID(id))
	if err != nil {
		return c.ifWrong("app", directory.CodeInvalidApp, err)
	}
	c.policy = policy
	c.w.app = id
	return nil
}

// appOfHost returns the app that a host such as {appId}.api-us.example.com names (contract rest.md section 0), empty
// for any other host.
func appOfHost(host string) string {
	first, rest, _ := strings.Cut(host, ".")
	if first == "" || !strings.Contains(rest, ".") || net.ParseIP(strings.Trim(host, "[]")) != nil {
		return ""
	}
	family, _, _ := strings.Cut(rest, ".")
	family, _, _ = strings.Cut(family, "-")
	if family != "api" && family != "apiclient" {
		return ""
	}
	return strings.ToLower(first)
}

// ifWrong counts a credential that was refused with a code as wrong, and returns what to answer.
func (c *call) ifWrong(credential string, code directory.Code, err error) error {
	if !directory.IsCode(err, code) {
		return err
	}
	return c.api.limiter.wrong(c, credential, err)
}

func (c *call) authenticateKey() error {
	text := headerValue(c.r, headerAPIKey)
	if text == "" {
		return errorf(api.CodeEmptyAPIKey, "Send an API key of this app in the apikey header.")
	}
	key, err := c.api.dir.Key(c.policy, text)
	if err != nil {
		return c.ifWrong("key", directory.CodeKeyUnknown, err)
	}
	if c.route.Access != AnyKey && key.Scope != directory.FullAccess {
		return errorf(api.CodeNoAccess, "This call needs an API key of scope fullAccess; this key has %s.", key.Scope)
	}
	c.key = key
	c.setCaller(directory.Caller{
		App: c.policy.App.ID, Actor: directory.Actor("key:" + key.ID), Key: key.ID,
		Private: key.Scope == directory.FullAccess,
	})
	return c.actOnBehalf()
}

// keyIsGood reports whether the API key of the call still is what it was when the call began: not deleted, and of its
// scope.
func (c *call) keyIsGood() bool {
	policy, err := c.api.dir.Policy(c.r.Context(), c.caller.App)
	if err != nil {
		return false
	}
	key, err := c.api.dir.Key(policy, headerValue(c.r, headerAPIKey))
	return err == nil && key.ID == c.key.ID && key.Scope == c.key.Scope
}

// actOnBehalf makes a call with a key that names an acting user give exactly what that user would see. It matters to
// the calls that a user can make itself; the others ignore the header (contract rest.md section 0).
func (c *call) actOnBehalf() error {
	if _, sent := c.r.Header[headerOnBehalfOf]; !sent || c.route.Access != KeyOrToken {
		return nil
	}
	name := headerValue(c.r, headerOnBehalfOf)
	if name == "" { // a backend that has lost the uid would see everybody
		return errorf(api.CodeBadRequest, "The onBehalfOf header is empty. Send a uid, or no such header.")
	}
	acting, err := c.api.dir.GetUser(c.ctx(), c.caller, c.policy, directory.User{}, c.shownID(name))
	if directory.IsCode(err, directory.CodeUserNotFound) {
		return errorf(api.CodeOnBehalfOfUIDNotFound,
			"The UID %s in the onBehalfOf header does not exist, or is deactivated: nobody can act for it.",
			strings.ToLower(c.shownID(name)))
	}
	if err != nil {
		return err
	}
	c.user = *acting.User
	c.caller.User, c.caller.Private = acting.UID, false
	return nil
}

func (c *call) authenticateToken() error {
	text := headerValue(c.r, headerAuthToken)
	if text == "" {
		return errorf(api.CodeEmptyAuthToken, "Send the auth token of a logged-in user in the authToken header.")
	}
	user, token, ok := c.api.dir.LoggedIn(c.policy, text)
	if !ok {
		remembered := c.api.dir.RemembersToken(c.policy, text)
		if !remembered {
			if err := c.api.limiter.mayGuess(c, "token"); err != nil {
				return err
			}
		}
		var err error
		switch user, token, err = c.api.dir.Authenticate(c.ctx(), c.policy, text); {
		case err == nil:
		case remembered: // it was good: a client must hear that it is not any more, however many do
			return err
		default:
			return c.ifWrong("token", directory.CodeTokenUnknown, err)
		}
	}
	c.user, c.token = user, token
	c.setCaller(directory.Caller{
		App: c.policy.App.ID, Actor: directory.Actor("user:" + user.UID), User: user.UID, Token: token.ID,
	})
	return nil
}

func (c *call) authenticateOperator(app directory.AppID) error {
	key, secret := headerValue(c.r, headerManagement), headerValue(c.r, headerSecret)
	if key == "" || secret == "" {
		return errorf(api.CodeEmptyAuthHeader, "Send the management key and secret in the key and secret headers.")
	}
	if !c.api.config.OpensManagement(key, secret) {
		wrong := &statusError{errorf(api.CodeNoAccess, "The management key or secret is wrong."), http.StatusUnauthorized}
		return c.api.limiter.wrong(c, "management", wrong)
	}
	c.setCaller(directory.Operator(app))
	return nil
}

func (c *call) setCaller(caller directory.Caller) {
	c.caller = caller
	c.w.actor = string(caller.Actor)
	c.w.app = string(caller.App)
}
