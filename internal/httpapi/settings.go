package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

const apiVersion = "v3.0"

// host returns the host[:port] under which clients reach this server.
func (c *call) host() string {
	if c.api.config.PublicHost != "" {
		return c.api.config.PublicHost
	}
	return c.r.Host
}

// The SDK makes wss://{chat host}:{port} of them and https://{chat host}/api/…, without the port: with a path in the
// host and any text for a port, both reach this server on whatever port it listens (contract sdk-wire.md section C8).
const (
	chatHostPath = "/ws"
	chatPort     = "443"
)

// settings returns the map of sdk-wire.md section A2 for an app.
func (c *call) settings(app directory.App) api.Settings {
	host := c.host()
	return api.Settings{
		AdminAPIHost: host, ClientAPIHost: host, ChatAPIVersion: apiVersion, WSAPIVersion: apiVersion,
		ChatHost: host + chatHostPath, ChatWSSPort: chatPort,
		AnalyticsHost: host, AnalyticsVersion: apiVersion, AnalyticsUseSSL: true, AppVersion: 4, Mode: "DEFAULT",
		Region: app.Region, ExtensionDomain: host, Extensions: []string{},
		SettingsHash: settingsHash(host, app), SettingsHashReceivedAt: c.api.dir.Now(),
	}
}

// settingsHash changes when a client must fetch its settings again.
func settingsHash(host string, app directory.App) string {
	sum := sha256.Sum256([]byte(host + chatHostPath + "\x00" + apiVersion + "\x00" + app.Region))
	return hex.EncodeToString(sum[:16])
}

func getSettings(c *call) (answer, error) {
	app, err := c.api.dir.GetSettings(c.caller, c.policy, c.user)
	if err != nil {
		return answer{}, err
	}
	return data(c.settings(app))
}

// keepsJWT reports whether the client is of a version whose socket goes on using the JWT of its login when it has got
// another (sdk-wire.md section F): only logging in again gives it a new one.
func (c *call) keepsJWT() bool {
	_, version, _ := strings.Cut(headerValue(c.r, headerSDK), "@")
	return strings.HasPrefix(version, "3.")
}

// ping is the SDK's only periodic call, every 60 s. It is how a client learns, without a socket, that its settings or
// its JWT are outdated, or that its token was revoked (sdk-wire.md section A5).
func ping(c *call) (answer, error) {
	if err := c.authenticateToken(); err != nil {
		if directory.IsCode(err, directory.CodeTokenUnknown) ||
			directory.IsCode(err, directory.Code(api.CodeEmptyAuthToken)) {
			return answer{}, errorf(api.CodeNoAuth, "The auth token or the JWT is not valid any more: get /me.")
		}
		return answer{}, err
	}
	if err := c.api.limiter.take(c); err != nil {
		return answer{}, err
	}
	if sent := headerValue(c.r, http.CanonicalHeaderKey("settingsHash")); sent != "" &&
		sent != settingsHash(c.host(), c.policy.App) {
		return answer{}, errorf(api.CodeSettingsHashOutdated, "The settings have changed: log in again with the same token.")
	}
	lifetime := c.api.config.JWTLifetime
	switch {
	case c.keepsJWT() && !c.api.jwtOutlasts(c, lifetime/5): // logging in costs such a client its socket
		c.api.config.Presence.LetRestart(c.caller.App, c.caller.User, c.caller.Token)
		return answer{}, errorf(api.CodeSettingsHashOutdated, "The JWT is about to expire: log in again with the same token.")
	case !c.keepsJWT() && !c.api.jwtOutlasts(c, lifetime/2):
		return answer{}, errorf(api.CodeNoAuth, "The JWT is about to expire: get /me.")
	}
	return data(api.Success{Success: true, Message: "pong"})
}
