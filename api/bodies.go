package api

import "encoding/json"

// Body is the envelope of every success.
type Body[T any] struct {
	Data T     `json:"data"`
	Meta *Meta `json:"meta,omitempty"`
}

// Meta goes with lists, and holds what this server tells beyond the contract: data has the contract's members alone, so
// that clients which refuse any other can read it.
type Meta struct {
	Pagination *Pagination `json:"pagination,omitempty"`
	Cursor     *Cursor     `json:"cursor,omitempty"`
	// NextCursor is what to send as cursor for the next page of a walk. It is absent on the last page.
	NextCursor string `json:"nextCursor,omitempty"`
	// Revision is the app's last revision when a list of changes was read.
	Revision *int64 `json:"revision,omitempty"`
	// Item is what this server adds to the object in data, and Items what it adds to each of those in data, in their
	// order.
	Item  *Addition  `json:"item,omitempty"`
	Items []Addition `json:"items,omitempty"`
	// Codes are why items of a bulk call were refused, by the names that the items have in data.
	Codes map[string]Code `json:"codes,omitempty"`
	// Permissions are those that the role sets, beside the definitions of all.
	Permissions map[string]json.RawMessage `json:"permissions,omitempty"`
	// RevokedTokens is how many auth tokens are no longer accepted, and ClosedSockets how many live connections were
	// closed.
	RevokedTokens *int `json:"revokedTokens,omitempty"`
	ClosedSockets *int `json:"closedSockets,omitempty"`
}

// Addition is what this server adds to an auth token, an API key or an app. The client library puts it where it
// belongs.
type Addition struct {
	ID        string `json:"id,omitempty"`
	DeviceID  string `json:"deviceId,omitempty"`
	CreatedBy string `json:"createdBy,omitempty"`
	// ExpiresAt, LastUsedAt and Replaces are an API key's.
	ExpiresAt  int64        `json:"expiresAt,omitempty"`
	LastUsedAt int64        `json:"lastUsedAt,omitempty"`
	Replaces   *ReplacedKey `json:"replaces,omitempty"`
	// Settings and ScheduledToDeleteAt are an app's.
	Settings            *AppSettings `json:"settings,omitempty"`
	ScheduledToDeleteAt int64        `json:"scheduledToDeleteAt,omitempty"`
}

// Pagination tells where in a list a page is. Total is the true number of items.
type Pagination struct {
	Total       int `json:"total"`
	Count       int `json:"count"`
	PerPage     int `json:"per_page"`
	CurrentPage int `json:"current_page"`
	TotalPages  int `json:"total_pages"`
}

// Cursor is the position behind the last item of a page, in the contract's form.
type Cursor struct {
	UpdatedAt int64  `json:"updatedAt"`
	Affix     string `json:"affix"`
}

// Success is the answer of calls that have nothing to return.
type Success struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
}

// ItemResult is what became of one item of a bulk call.
type ItemResult struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	// Code is there only for an item that was refused. It comes in Meta.Codes, but for relations in a batch.
	Code Code `json:"code,omitempty"`
	// Unchanged says, of a relation in a batch, that it was there already.
	Unchanged bool `json:"unchanged,omitempty"`
}

// BlockRequest is the body of POST and DELETE /users/{uid}/blockedusers. The answer has an ItemResult for each uid.
type BlockRequest struct {
	UIDs []string `json:"blockedUids"`
}

// AddFriendsRequest is the body of POST /users/{uid}/friends.
type AddFriendsRequest struct {
	Accepted []string `json:"accepted"`
}

// AddFriendsResponse has an ItemResult for each uid.
type AddFriendsResponse struct {
	Accepted map[string]ItemResult `json:"accepted"`
}

// RemoveFriendsRequest is the body of DELETE /users/{uid}/friends.
type RemoveFriendsRequest struct {
	Friends []string `json:"friends"`
}

// FriendRequestsRequest is the body of POST /users/{uid}/friend_requests, with UIDs, and of PUT, with the others.
type FriendRequestsRequest struct {
	UIDs     []string `json:"uids,omitempty"`
	Accept   []string `json:"accept,omitempty"`
	Refuse   []string `json:"refuse,omitempty"`
	Withdraw []string `json:"withdraw,omitempty"`
}

// LookupRequest is the body of POST /users/lookup.
type LookupRequest struct {
	UIDs []string `json:"uids"`
}

// LookupResponse holds the users in the order in which they were asked for, and the uids that nobody has.
type LookupResponse struct {
	Users    []User   `json:"users"`
	NotFound []string `json:"notFound,omitempty"`
}

// UserRow is a row of POST /users/batch: a user to make, or to change where fields are there. Times are Unix seconds.
type UserRow struct {
	UID string `json:"uid"`
	UpdateUserRequest
	// MergeMetadata are members to put into the metadata, the row's or else those that are there; null takes one out.
	MergeMetadata json.RawMessage `json:"mergeMetadata,omitempty"`
	CreatedAt     *int64          `json:"createdAt,omitempty"`
	UpdatedAt     *int64          `json:"updatedAt,omitempty"`
	LastActiveAt  *int64          `json:"lastActiveAt,omitempty"`
	DeactivatedAt *int64          `json:"deactivatedAt,omitempty"`
}

// BatchRequest is the body of POST /users/batch. A dry run takes AssumedRoles to be there.
type BatchRequest struct {
	Users        []UserRow `json:"users"`
	AssumedRoles []string  `json:"assumedRoles,omitempty"`
}

// BatchResponse has a result for each row, in their order.
type BatchResponse struct {
	Results []UserRowResult `json:"results"`
}

// UserRowResult is what became of a row: Status is created, updated, unchanged or failed.
type UserRowResult struct {
	UID    string `json:"uid"`
	Status string `json:"status"`
	// Fields names what was changed of a user that is updated.
	Fields []string `json:"fields,omitempty"`
	Error  *Error   `json:"error,omitempty"`
}

// RelationRow is a relation of two users: Type is block, friend or friendRequest. At is in Unix seconds, zero for now.
type RelationRow struct {
	Type  string `json:"type,omitempty"`
	UID   string `json:"uid"`
	Other string `json:"other"`
	At    int64  `json:"at,omitempty"`
}

// RelationsRequest is the body of POST /relations/batch. A dry run takes AssumedUIDs to be there.
type RelationsRequest struct {
	Relations   []RelationRow `json:"relations"`
	AssumedUIDs []string      `json:"assumedUids,omitempty"`
}

// RelationsResponse has a result for each relation, in their order.
type RelationsResponse struct {
	Results []ItemResult `json:"results"`
}

// RoleRow is a row of POST /roles/batch: all there is to a role. RestrictedAt says since when features are restricted,
// in Unix seconds, by feature.
type RoleRow struct {
	Role
	Permissions        map[string]json.RawMessage `json:"permissions,omitempty"`
	RestrictedFeatures []string                   `json:"restrictedFeatures,omitempty"`
	RestrictedAt       map[string]int64           `json:"restrictedAt,omitempty"`
}

// RolesRequest is the body of POST /roles/batch.
type RolesRequest struct {
	Roles []RoleRow `json:"roles"`
}

// RolesResponse has a result for each role, in their order.
type RolesResponse struct {
	Results []RoleRowResult `json:"results"`
}

// RoleRowResult is what became of a role: Status is created, updated, unchanged or failed.
type RoleRowResult struct {
	Role   string `json:"role"`
	Status string `json:"status"`
	// Fields names what was changed of a role that is updated.
	Fields []string `json:"fields,omitempty"`
	// Dropped are roles that there are not and that permissions of the row named, by permission. They were left out.
	Dropped map[string][]string `json:"dropped,omitempty"`
	Error   *Error              `json:"error,omitempty"`
}

// ExportLine is a line of GET /export: a role, a user, or a relation, whose type is that of the line. The last line has
// the type end, and tells how many there are before it.
type ExportLine struct {
	Type               string                     `json:"type"`
	Role               *Role                      `json:"role,omitempty"`
	Permissions        map[string]json.RawMessage `json:"permissions,omitempty"`
	RestrictedFeatures []string                   `json:"restrictedFeatures,omitempty"`
	RestrictedAt       map[string]int64           `json:"restrictedAt,omitempty"`
	User               *UserRow                   `json:"user,omitempty"`
	Relation           *RelationRow               `json:"relation,omitempty"`
	Lines              int                        `json:"lines,omitempty"`
}

// Dossier is the answer of GET /users/{uid}/export: everything stored about one person. Auth tokens are without their
// texts. Relations are by their type.
type Dossier struct {
	User      UserRow                  `json:"user"`
	Tokens    []AuthToken              `json:"authTokens"`
	Relations map[string][]RelationRow `json:"relations"`
	Changes   []Change                 `json:"changes"`
	// Presence is what happened to the presence of the user's devices, latest first.
	Presence []PresenceTransition `json:"presence"`
}

// Explanation is the answer of GET /visibility/explain: what the viewer may see of the subject, and the rule that
// decided.
type Explanation struct {
	Viewer   string   `json:"viewer"`
	Subject  string   `json:"subject"`
	Relation Relation `json:"relation"`
	Listed   bool     `json:"listed"`
	Detailed bool     `json:"detailed"`
	Presence bool     `json:"presence"`
	Contact  bool     `json:"contact"`
	Rule     string   `json:"rule"`
}

// Relation is what is between two users, seen from the first. Times are Unix seconds; absent is never.
type Relation struct {
	BlockedByMeAt  int64 `json:"blockedByMeAt,omitempty"`
	HasBlockedMeAt int64 `json:"hasBlockedMeAt,omitempty"`
	FriendsSince   int64 `json:"friendsSince,omitempty"`
}

// ContactResponse is the answer of GET /users/{uid}/can-contact/{other}.
type ContactResponse struct {
	CanContact bool `json:"canContact"`
	// Code is the contract's code for a message that is refused.
	Code Code   `json:"code,omitempty"`
	Rule string `json:"rule"`
}

// RevokedResponse is the answer of calls that revoke keys and auth tokens. The numbers come in Meta.
type RevokedResponse struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	// RevokedTokens is how many auth tokens are no longer accepted.
	RevokedTokens int `json:"revokedTokens"`
	// ClosedSockets is how many live connections were closed.
	ClosedSockets int `json:"closedSockets"`
}

// User is a user. Times are Unix seconds; absent fields are omitted.
type User struct {
	UID           string          `json:"uid"`
	Name          string          `json:"name"`
	Avatar        string          `json:"avatar,omitempty"`
	Link          string          `json:"link,omitempty"`
	Metadata      json.RawMessage `json:"metadata,omitempty"`
	Status        string          `json:"status"`
	Role          string          `json:"role"`
	StatusMessage string          `json:"statusMessage,omitempty"`
	Tags          []string        `json:"tags,omitempty"`
	LastActiveAt  int64           `json:"lastActiveAt,omitempty"`
	CreatedAt     int64           `json:"createdAt,omitempty"` // absent in presence frames
	UpdatedAt     int64           `json:"updatedAt,omitempty"`
	DeactivatedAt int64           `json:"deactivatedAt,omitempty"`
	// ConversationID and what follows about blocks are there only for an acting user.
	ConversationID string `json:"conversationId,omitempty"`
	BlockedByMe    bool   `json:"blockedByMe,omitempty"`
	BlockedByMeAt  int64  `json:"blockedByMeAt,omitempty"`
	HasBlockedMe   bool   `json:"hasBlockedMe,omitempty"`
	HasBlockedMeAt int64  `json:"hasBlockedMeAt,omitempty"`
	// BlockedAt is when the first of the two blocked the other.
	BlockedAt int64 `json:"blockedAt,omitempty"`
	// AuthToken is there only when a created user was asked for with one.
	AuthToken string `json:"authToken,omitempty"`
}

// CreateUserRequest is the body of POST /users. UID and Name are required.
type CreateUserRequest struct {
	UID           string          `json:"uid"`
	Name          string          `json:"name"`
	Avatar        string          `json:"avatar,omitempty"`
	Link          string          `json:"link,omitempty"`
	Role          string          `json:"role,omitempty"`
	StatusMessage string          `json:"statusMessage,omitempty"`
	Metadata      json.RawMessage `json:"metadata,omitempty"`
	Tags          []string        `json:"tags,omitempty"`
	WithAuthToken bool            `json:"withAuthToken,omitempty"`
}

// UpdateUserRequest is the body of PUT /users/{uid} and, but for the role, of PUT /me. Nil fields stay as they are.
type UpdateUserRequest struct {
	Name          *string          `json:"name,omitempty"`
	Avatar        *string          `json:"avatar,omitempty"`
	Link          *string          `json:"link,omitempty"`
	Role          *string          `json:"role,omitempty"`
	StatusMessage *string          `json:"statusMessage,omitempty"`
	Metadata      *json.RawMessage `json:"metadata,omitempty"`
	Tags          *[]string        `json:"tags,omitempty"`
	// Unset clears fields: avatar, link, metadata.
	Unset []string `json:"unset,omitempty"`
}

// DeleteUserRequest is the body of DELETE /users/{uid}. Without Permanent the user is deactivated.
type DeleteUserRequest struct {
	Permanent bool `json:"permanent,omitempty"`
}

// DeactivateUsersRequest is the body of DELETE /users.
type DeactivateUsersRequest struct {
	UIDs []string `json:"uidsToDeactivate"`
}

// DeactivateUsersResponse tells what became of each uid. Only lists that hold something are sent.
type DeactivateUsersResponse struct {
	Deactivated        []string `json:"deactivatedUids,omitempty"`
	AlreadyDeactivated []string `json:"alreadyDeactivatedUids,omitempty"`
	NotFound           []string `json:"notFound,omitempty"`
	// ClosedSockets is how many live connections of the users were closed. It comes in Meta.
	ClosedSockets int `json:"closedSockets,omitempty"`
}

// ReactivateUsersRequest is the body of PUT /users.
type ReactivateUsersRequest struct {
	UIDs []string `json:"uidsToActivate"`
}

// ReactivateUsersResponse tells what became of each uid. Only lists that hold something are sent.
type ReactivateUsersResponse struct {
	Reactivated    []string `json:"reactivatedUids,omitempty"`
	NonDeactivated []string `json:"nonDeactivatedUids,omitempty"`
	NotFound       []string `json:"notFound,omitempty"`
}

// AuthToken is an auth token. In lists Token is masked unless the app reveals secrets; ID names it either way. ID and
// DeviceID come in Meta.Item, or Meta.Items.
type AuthToken struct {
	UID       string          `json:"uid"`
	Token     string          `json:"authToken,omitempty"`
	ID        string          `json:"id,omitempty"`
	CreatedAt int64           `json:"createdAt"`
	Platform  string          `json:"platform,omitempty"`
	UserAgent string          `json:"userAgent,omitempty"`
	DeviceID  string          `json:"deviceId,omitempty"`
	AppInfo   json.RawMessage `json:"appInfo,omitempty"`
}

// CreateAuthTokenRequest is the body of POST /users/{uid}/auth_tokens; it may be left out.
type CreateAuthTokenRequest struct {
	// Force is accepted for compatibility: every call mints a new token.
	Force     bool            `json:"force,omitempty"`
	Platform  string          `json:"platform,omitempty"`
	UserAgent string          `json:"userAgent,omitempty"`
	DeviceID  string          `json:"deviceId,omitempty"`
	AppInfo   json.RawMessage `json:"appInfo,omitempty"`
}

// UpdateAuthTokenRequest is the body of PUT /users/{uid}/auth_tokens/{authToken}. Nil fields stay as they are.
type UpdateAuthTokenRequest struct {
	Platform  *string          `json:"platform,omitempty"`
	UserAgent *string          `json:"userAgent,omitempty"`
	DeviceID  *string          `json:"deviceId,omitempty"`
	AppInfo   *json.RawMessage `json:"appInfo,omitempty"`
}

// DeleteAuthTokensRequest is the body of DELETE /users/{uid}/auth_tokens; it may be left out.
type DeleteAuthTokensRequest struct {
	// IssuedBefore, in Unix seconds, limits the call to older tokens. Zero means all.
	IssuedBefore int64 `json:"issuedBefore,omitempty"`
}

// APIKey is an API key. In lists Key is masked unless the app reveals secrets; ID names it either way. ID comes in
// Meta.Item, or Meta.Items, as do the times but CreatedAt; so does CreatedBy but for the keys of a new app, which have
// no ID and no time.
type APIKey struct { //nolint:revive // it is the contract's word, and a Key could be anything
	Key       string `json:"apiKey"`
	ID        string `json:"id,omitempty"`
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	CreatedBy string `json:"createdBy,omitempty"`
	CreatedAt int64  `json:"createdAt,omitempty"`
	// ExpiresAt is when a key that was replaced is not accepted any more, in Unix seconds; absent is never.
	ExpiresAt int64 `json:"expiresAt,omitempty"`
	// LastUsedAt is when a call was last made with the key, in Unix seconds; absent is not yet. After a crash of the
	// server it may be ten minutes too early.
	LastUsedAt int64 `json:"lastUsedAt,omitempty"`
	// Replaces is there only for a key just made by a rotation: the key whose place it takes.
	Replaces *ReplacedKey `json:"replaces,omitempty"`
}

// ReplacedKey is an API key that another takes the place of.
type ReplacedKey struct {
	ID string `json:"id"`
	// ExpiresAt is until when the key is still accepted, in Unix seconds.
	ExpiresAt int64 `json:"expiresAt"`
}

// RotateAPIKeyRequest is the body of POST /apikeys/{apiKey}/rotate; it may be left out.
type RotateAPIKeyRequest struct {
	// GraceSeconds is how long the key that is replaced is still accepted. Nil means a day, zero not any more.
	GraceSeconds *int64 `json:"graceSeconds,omitempty"`
}

// CreateAPIKeyRequest is the body of POST /apikeys. Scope defaults to authOnly.
type CreateAPIKeyRequest struct {
	Name  string `json:"name"`
	Scope string `json:"scope,omitempty"`
}

// UpdateAPIKeyRequest is the body of PUT /apikeys/{apiKey}. Nil fields stay as they are.
type UpdateAPIKeyRequest struct {
	Name  *string `json:"name,omitempty"`
	Scope *string `json:"scope,omitempty"`
}

// DeleteAPIKeyRequest is the body of DELETE /apikeys/{apiKey}; it may be left out.
type DeleteAPIKeyRequest struct {
	// RevokeTokens also revokes the auth tokens that the key minted.
	RevokeTokens bool `json:"revokeTokens,omitempty"`
}

// Role is a role.
type Role struct {
	Role        string          `json:"role"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	Settings    *RoleSettings   `json:"settings,omitempty"`
	CreatedAt   int64           `json:"createdAt"`
	UpdatedAt   int64           `json:"updatedAt,omitempty"`
}

// RoleSettings are the settings of a role: each "all" or "friendsOnly".
type RoleSettings struct {
	ListUsers      string `json:"listUsers,omitempty"`
	SendMessagesTo string `json:"sendMessagesTo,omitempty"`
}

// CreateRoleRequest is the body of POST /roles. Role and Name are required.
type CreateRoleRequest struct {
	Role        string          `json:"role"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	Settings    *RoleSettings   `json:"settings,omitempty"`
}

// UpdateRoleRequest is the body of PUT /roles/{role}. Nil fields stay as they are.
type UpdateRoleRequest struct {
	Name        *string          `json:"name,omitempty"`
	Description *string          `json:"description,omitempty"`
	Metadata    *json.RawMessage `json:"metadata,omitempty"`
	Settings    *RoleSettings    `json:"settings,omitempty"`
	// Unset clears fields: settings, description, metadata.
	Unset []string `json:"unset,omitempty"`
}

// Permission defines a permission. Value is what the role sets, absent when it sets none; it comes in Meta.Permissions.
type Permission struct {
	ID              string          `json:"id"`
	Type            string          `json:"type"`
	Title           string          `json:"title"`
	Description     string          `json:"description"`
	DataType        string          `json:"dataType"`
	AvailableValues []string        `json:"availableValues"`
	DefaultValue    *string         `json:"defaultValue"`
	Value           json.RawMessage `json:"value,omitempty"`
	CreatedAt       int64           `json:"createdAt"`
	UpdatedAt       int64           `json:"updatedAt"`
}

// UpdatePermissionsRequest is the body of PUT /roles/{role}/permissions: a value for each permission id.
type UpdatePermissionsRequest struct {
	Permissions map[string]json.RawMessage `json:"permissions"`
}

// PermissionsResponse holds the permissions that a role sets.
type PermissionsResponse struct {
	Permissions map[string]json.RawMessage `json:"permissions"`
}

// RestrictedFeature is a feature that users with a role may not use.
type RestrictedFeature struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	Key         string `json:"key"`
	Path        string `json:"path"`
	CreatedAt   int64  `json:"createdAt"`
}

// RestrictFeaturesRequest is the body of POST /roles/{role}/restrictedfeatures.
type RestrictFeaturesRequest struct {
	Features []string `json:"featuresToRestrict"`
}

// AllowFeaturesRequest is the body of DELETE /roles/{role}/restrictedfeatures.
type AllowFeaturesRequest struct {
	Features []string `json:"featuresToAllow,omitempty"`
	All      bool     `json:"allowAll,omitempty"`
}

// Change is one row of the change log.
type Change struct {
	Revision int64  `json:"revision"`
	At       int64  `json:"at"`
	Actor    string `json:"actor"`
	Kind     string `json:"kind"`
	Subject  string `json:"subject"`
	// Object is the other user of a change that is about two.
	Object string   `json:"object,omitempty"`
	Fields []string `json:"fields,omitempty"`
}

// Stats are the figures of GET /stats. TimeRange is in Unix milliseconds.
type Stats struct {
	Metrics   StatsMetrics   `json:"metrics"`
	TimeRange StatsTimeRange `json:"time_range"`
}

// StatsMetrics counts. The minutes are always 0: this server makes no calls.
type StatsMetrics struct {
	AudioMinutes    int `json:"audio_minutes"`
	VideoMinutes    int `json:"video_minutes"`
	RecordedMinutes int `json:"recorded_minutes"`
	ActiveUsers     int `json:"active_users"`
	ConcurrentUsers int `json:"concurrent_users"`
}

// StatsTimeRange is the range that was asked for, in Unix milliseconds.
type StatsTimeRange struct {
	FromDate int64 `json:"fromDate"`
	ToDate   int64 `json:"toDate"`
}

// App is an app as the management calls show it. Settings and ScheduledToDeleteAt come in Meta.Item, or Meta.Items.
type App struct {
	ID                  string            `json:"id"`
	Name                string            `json:"name"`
	Plan                string            `json:"plan"`
	State               string            `json:"state"` // active or archived
	Owner               string            `json:"owner,omitempty"`
	Region              string            `json:"region"`
	CreatedAt           int64             `json:"createdAt"`
	ScheduledToDeleteAt int64             `json:"scheduledToDeleteAt,omitempty"`
	Settings            AppSettings       `json:"settings,omitzero"`
	AppRegion           AppRegion         `json:"appRegion"`
	AppOwner            *AppOwner         `json:"appOwner,omitempty"`
	APIKeys             map[string]APIKey `json:"apiKeys,omitempty"`
}

// AppOwner is whom an app was made for.
type AppOwner struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// AppRegion describes a region.
type AppRegion struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// AppSettings are the settings of an app.
type AppSettings struct {
	RevealSecrets                  bool  `json:"revealSecrets"`
	DenyUserCreationByAuthOnlyKeys bool  `json:"denyUserCreationByAuthOnlyKeys"`
	DenyRolesByAuthOnlyKeys        bool  `json:"denyRolesByAuthOnlyKeys"`
	DenyEvictionByAuthOnlyKeys     bool  `json:"denyEvictionByAuthOnlyKeys"`
	TokensValidFrom                int64 `json:"tokensValidFrom"`
	// MetadataKeys are the members of users' metadata by whose values lists can be filtered. MetadataKeysIndexing were
	// declared a moment ago: lists can be filtered by them soon.
	MetadataKeys         []string `json:"metadataKeys,omitempty"`
	MetadataKeysIndexing []string `json:"metadataKeysIndexing,omitempty"`
}

// CreateAppRequest is the body of POST /apps. Name is required.
type CreateAppRequest struct {
	Name           string `json:"name"`
	Region         string `json:"region,omitempty"`
	Version        string `json:"version,omitempty"`
	SkipSampleData bool   `json:"skipSampleData,omitempty"`
	Owner          string `json:"owner,omitempty"`
	// ID is the app id to use. Empty means a random one.
	ID string `json:"id,omitempty"`
}

// UpdateAppRequest is the body of PUT /apps/{appId}.
type UpdateAppRequest struct {
	Name string `json:"name"`
}

// UpdateAppSettingsRequest is the body of POST /apps/{appId}/settings. Nil fields stay as they are.
type UpdateAppSettingsRequest struct {
	RevealSecrets                  *bool  `json:"revealSecrets,omitempty"`
	DenyUserCreationByAuthOnlyKeys *bool  `json:"denyUserCreationByAuthOnlyKeys,omitempty"`
	DenyRolesByAuthOnlyKeys        *bool  `json:"denyRolesByAuthOnlyKeys,omitempty"`
	DenyEvictionByAuthOnlyKeys     *bool  `json:"denyEvictionByAuthOnlyKeys,omitempty"`
	TokensValidFrom                *int64 `json:"tokensValidFrom,omitempty"`
	// MetadataKeys takes the place of those declared before.
	MetadataKeys *[]string `json:"metadataKeys,omitempty"`
}

// DeleteAppResponse tells when a deleted app is purged, in Unix seconds.
type DeleteAppResponse struct {
	Success             bool  `json:"success"`
	ScheduledToDeleteAt int64 `json:"scheduledToDeleteAt"`
}

// Usage is the answer of POST /apps/{appId}/usage.
type Usage struct {
	Users       int   `json:"users"`
	ActiveUsers int   `json:"activeUsers"`
	FromDate    int64 `json:"fromDate"`
	ToDate      int64 `json:"toDate"`
}

// UsageRequest is the body of POST /apps/{appId}/usage; it may be left out.
type UsageRequest struct {
	UsePreviousBillingCycle bool `json:"usePreviousBillingCycle,omitempty"`
}

// Collaborator is somebody who manages an app.
type Collaborator struct {
	Email     string `json:"email"`
	Name      string `json:"name,omitempty"`
	Role      string `json:"role"`
	CreatedAt int64  `json:"createdAt,omitempty"`
}

// Me is the answer of GET /me and PUT /me: the user with what the client needs to go on (sdk-wire.md, fact 3).
type Me struct {
	User
	// AuthToken is the very token that the call was made with.
	AuthToken string `json:"authToken"`
	// JWT authenticates the socket. It is short-lived.
	JWT       string    `json:"jwt"`
	WSChannel WSChannel `json:"wsChannel"`
	Settings  Settings  `json:"settings"`
}

// Settings are what a chat client works with (sdk-wire.md section A2).
type Settings struct {
	AdminAPIHost   string `json:"ADMIN_API_HOST"`
	ClientAPIHost  string `json:"CLIENT_API_HOST"`
	ChatAPIVersion string `json:"CHAT_API_VERSION"`
	WSAPIVersion   string `json:"WS_API_VERSION"`
	// ChatHost and ChatWSSPort make the address of the socket: wss://{ChatHost}:{ChatWSSPort}.
	ChatHost               string   `json:"CHAT_HOST"`
	ChatWSSPort            string   `json:"CHAT_WSS_PORT"`
	AnalyticsHost          string   `json:"ANALYTICS_HOST"`
	AnalyticsVersion       string   `json:"ANALYTICS_VERSION"`
	AnalyticsUseSSL        bool     `json:"ANALYTICS_USE_SSL"`
	AppVersion             int      `json:"APP_VERSION"`
	Mode                   string   `json:"MODE"`
	Region                 string   `json:"REGION"`
	ExtensionDomain        string   `json:"EXTENSION_DOMAIN"`
	Extensions             []string `json:"extensions"`
	Parameters             struct{} `json:"parameters"`
	SettingsHash           string   `json:"settingsHash"`
	SettingsHashReceivedAt int64    `json:"settingsHashReceivedAt"`
}

// WSChannel names the user on the socket.
type WSChannel struct {
	Identity string `json:"identity"`
	Service  string `json:"service"`
}

// JWT is the answer of POST /me/jwt.
type JWT struct {
	JWT string `json:"jwt"`
}

// UserSession is the answer of POST /user_sessions.
type UserSession struct {
	SessionID string `json:"sessionId"`
}
