package httpapi

import "net/http"

// Access says which credentials a route accepts.
type Access int

// The kinds of access.
const (
	// Public needs no credentials and no app.
	Public Access = iota
	// FullAccessKey needs an API key of scope fullAccess.
	FullAccessKey
	// FullAccessKeyOrManagement needs one of the two, so that an app whose keys are lost can get new ones.
	FullAccessKeyOrManagement
	// AnyKey needs an API key of either scope.
	AnyKey
	// UserToken needs the auth token of a logged-in user.
	UserToken
	// KeyOrToken needs a fullAccess key or an auth token.
	KeyOrToken
	// MaybeToken needs an app; an auth token is looked at by the handler.
	MaybeToken
	// Management needs the key and secret of the server's operator.
	Management
)

// Class is the rate limit that a route counts against (contract rest.md section 10.3).
type Class int

// The classes of routes.
const (
	// Standard is everything that is not Core.
	Standard Class = iota
	// Core is logging in, and creating and deleting users.
	Core
	// Import is the import of users in bulk.
	Import
	// Unlimited routes are not counted.
	Unlimited
)

// Route is a row of the route table: the documentation of what this server serves, and to whom.
type Route struct {
	Method, Path string
	Access       Access
	Class        Class
	handle       func(*call) (answer, error)
}

// inVersion2 are the paths whose calls are the same in version 2 of the API that this one is compatible with, whose
// clients are still about: they are served under /v2 and /v2.0 too.
var inVersion2 = map[string]bool{
	"/users": true, "/users/{uid}": true, "/users/{uid}/auth_tokens": true, "/users/{uid}/auth_tokens/{authToken}": true,
	"/users/{uid}/blockedusers": true, "/users/{uid}/friends": true,
}

// isForOperators reports whether a path is not for clients. Such a path is served in one spelling alone, so that a
// proxy keeps it from outside with one rule.
func isForOperators(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics"
}

// readsLists are the calls that read many users: few of one caller run at a time.
var readsLists = map[string]bool{
	"GET /users": true, "POST /users/lookup": true, "POST /presence/query": true, "GET /presence/online-count": true,
	"GET /users/{uid}/blockedusers": true, "GET /blockedusers": true, "GET /users/{uid}/friends": true,
	"GET /friends": true, "GET /users/{uid}/friend_requests": true, "GET /friend_requests": true,
	"GET /users/{uid}/export": true,
}

// Routes returns the route table, without the version prefixes under which each row that is not for operators is served
// too.
func Routes() []Route {
	return []Route{
		{"POST", "/users", AnyKey, Core, createUser},
		{"GET", "/users", KeyOrToken, Standard, listUsers},
		{"PUT", "/users", FullAccessKey, Standard, reactivateUsers},
		{"DELETE", "/users", FullAccessKey, Core, deactivateUsers},
		{"GET", "/users/{uid}", KeyOrToken, Standard, getUser},
		{"PUT", "/users/{uid}", AnyKey, Standard, updateUser},
		{"DELETE", "/users/{uid}", FullAccessKey, Core, deleteUser},

		{"POST", "/users/batch", FullAccessKey, Core, batchUsers},
		{"POST", "/users/lookup", KeyOrToken, Standard, lookUpUsers},
		{"POST", "/data_import/users", FullAccessKey, Import, importUsers},

		{"POST", "/relations/batch", FullAccessKey, Core, batchRelations},
		{"GET", "/export", FullAccessKey, Standard, exportApp},
		{"GET", "/users/{uid}/export", FullAccessKey, Standard, exportUser},

		{"POST", "/users/{uid}/blockedusers", FullAccessKey, Standard, blockUsers},
		{"GET", "/users/{uid}/blockedusers", FullAccessKey, Standard, listBlockedUsers},
		{"DELETE", "/users/{uid}/blockedusers", FullAccessKey, Standard, unblockUsers},
		{"POST", "/blockedusers", UserToken, Standard, blockUsers},
		{"GET", "/blockedusers", UserToken, Standard, listBlockedUsers},
		{"DELETE", "/blockedusers", UserToken, Standard, unblockUsers},

		{"POST", "/users/{uid}/friends", FullAccessKey, Standard, addFriends},
		{"GET", "/users/{uid}/friends", FullAccessKey, Standard, listFriends},
		{"DELETE", "/users/{uid}/friends", FullAccessKey, Standard, removeFriends},
		{"GET", "/friends", UserToken, Standard, listFriends},
		{"DELETE", "/friends", UserToken, Standard, removeFriends},
		{"POST", "/users/{uid}/friend_requests", FullAccessKey, Standard, askFriends},
		{"GET", "/users/{uid}/friend_requests", FullAccessKey, Standard, listFriendRequests},
		{"PUT", "/users/{uid}/friend_requests", FullAccessKey, Standard, answerFriends},
		{"POST", "/friend_requests", UserToken, Standard, askFriends},
		{"GET", "/friend_requests", UserToken, Standard, listFriendRequests},
		{"PUT", "/friend_requests", UserToken, Standard, answerFriends},

		{"POST", "/presence/query", KeyOrToken, Standard, queryPresence},
		{"GET", "/presence/online-count", KeyOrToken, Standard, countOnline},
		{"GET", "/presence/events", FullAccessKey, Standard, streamPresence},
		{"GET", "/users/{uid}/presence", FullAccessKey, Standard, getPresence},
		{"DELETE", "/users/{uid}/presence", FullAccessKey, Standard, disconnect},
		{"DELETE", "/users/{uid}/presence/{deviceId}", FullAccessKey, Standard, disconnect},
		{"GET", "/users/{uid}/presence/timeline", FullAccessKey, Standard, listTransitions},
		{"POST", "/ws/api/{version}/online-members", MaybeToken, Standard, countOnlineMembers},

		{"GET", "/visibility/explain", FullAccessKey, Standard, explainVisibility},
		{"GET", "/users/{uid}/can-contact/{other}", FullAccessKey, Standard, canContact},

		{"POST", "/users/{uid}/auth_tokens", AnyKey, Core, createAuthToken},
		{"GET", "/users/{uid}/auth_tokens", FullAccessKey, Standard, listAuthTokens},
		{"DELETE", "/users/{uid}/auth_tokens", FullAccessKey, Standard, deleteAuthTokens},
		{"GET", "/users/{uid}/auth_tokens/{authToken}", FullAccessKey, Standard, getAuthToken},
		{"PUT", "/users/{uid}/auth_tokens/{authToken}", FullAccessKey, Standard, updateAuthToken},
		{"DELETE", "/users/{uid}/auth_tokens/{authToken}", FullAccessKey, Standard, deleteAuthToken},
		{"DELETE", "/auth_tokens", FullAccessKey, Standard, revokeAuthTokens},

		{"POST", "/apikeys", FullAccessKeyOrManagement, Standard, createAPIKey},
		{"GET", "/apikeys", FullAccessKeyOrManagement, Standard, listAPIKeys},
		{"GET", "/apikeys/{apiKey}", FullAccessKeyOrManagement, Standard, getAPIKey},
		{"PUT", "/apikeys/{apiKey}", FullAccessKeyOrManagement, Standard, updateAPIKey},
		{"DELETE", "/apikeys/{apiKey}", FullAccessKeyOrManagement, Standard, deleteAPIKey},
		{"POST", "/apikeys/{apiKey}/rotate", FullAccessKeyOrManagement, Standard, rotateAPIKey},

		{"POST", "/roles", FullAccessKey, Standard, createRole},
		{"POST", "/roles/batch", FullAccessKey, Standard, batchRoles},
		{"GET", "/roles", FullAccessKey, Standard, listRoles},
		{"GET", "/roles/{role}", FullAccessKey, Standard, getRole},
		{"PUT", "/roles/{role}", FullAccessKey, Standard, updateRole},
		{"DELETE", "/roles/{role}", FullAccessKey, Standard, deleteRole},
		{"GET", "/roles/{role}/permissions", FullAccessKey, Standard, listPermissions},
		{"PUT", "/roles/{role}/permissions", FullAccessKey, Standard, updatePermissions},
		{"DELETE", "/roles/{role}/permissions/{permission}", FullAccessKey, Standard, deletePermission},
		{"POST", "/roles/{role}/restrictedfeatures", FullAccessKey, Standard, restrictFeatures},
		{"GET", "/roles/{role}/restrictedfeatures", FullAccessKey, Standard, listRestrictedFeatures},
		{"DELETE", "/roles/{role}/restrictedfeatures", FullAccessKey, Standard, allowFeatures},

		{"GET", "/changes", FullAccessKey, Standard, listChanges},
		{"GET", "/stats", FullAccessKey, Standard, getStats},
		{"GET", "/stats/messages", FullAccessKey, Standard, getMessageStats},

		{"GET", "/settings", UserToken, Standard, getSettings},
		{"GET", "/me", UserToken, Standard, getMe},
		{"PUT", "/me", UserToken, Core, updateMe},
		{"DELETE", "/me", UserToken, Standard, logOut},
		{"POST", "/me/jwt", UserToken, Standard, createJWT},
		{"POST", "/user_sessions", UserToken, Standard, createUserSession},
		{"POST", "/ping", MaybeToken, Standard, ping},

		{"POST", "/apps", Management, Unlimited, createApp},
		{"GET", "/apps", Management, Unlimited, listApps},
		{"GET", "/apps/{appId}", Management, Unlimited, getApp},
		{"PUT", "/apps/{appId}", Management, Unlimited, updateApp},
		{"DELETE", "/apps/{appId}", Management, Unlimited, deleteApp},
		{"POST", "/apps/{appId}/restore", Management, Unlimited, restoreApp},
		{"GET", "/apps/{appId}/settings", Management, Unlimited, getAppSettings},
		{"POST", "/apps/{appId}/settings", Management, Unlimited, updateAppSettings},
		{"POST", "/apps/{appId}/usage", Management, Unlimited, getUsage},
		{"GET", "/apps/{appId}/collaborators", Management, Unlimited, listCollaborators},
		{"POST", "/apps/{appId}/collaborators", Management, Unlimited, addCollaborator},
		{"DELETE", "/apps/{appId}/collaborators/{email}", Management, Unlimited, removeCollaborator},

		{"GET", "/.well-known/jwks.json", Public, Unlimited, getJWKS},
		{"GET", "/healthz", Public, Unlimited, getHealth},
		{"GET", "/readyz", Public, Unlimited, getReadiness},
		{"GET", "/metrics", Public, Unlimited, getMetrics},
		{"GET", "/openapi.json", Public, Unlimited, getOpenAPI},
		{"GET", "/docs", Public, Unlimited, getDocs},
		{"GET", "/{$}", Public, Unlimited, getFrontPage},
	}
}

var _ http.Handler = (*API)(nil)
