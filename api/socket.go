package api

import "encoding/json"

// Frame is a text frame of the socket, in either direction (contract sdk-wire.md part C). Members that a type does not
// use are absent. Frames of unknown types are ignored.
type Frame struct {
	// Type is FrameAuth, FramePresence, FrameStatus, FrameSnapshot or FrameChange; it is absent in pings.
	Type string `json:"type,omitempty"`
	// Action is ActionPing or ActionPong.
	Action string `json:"action,omitempty"`
	AppID  string `json:"appId,omitempty"`
	// DeviceID is what the client calls its session.
	DeviceID string `json:"deviceId,omitempty"`
	// Sender is the uid that the frame is about or from.
	Sender string          `json:"sender,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// Types of frames.
const (
	FrameAuth     = "auth"
	FramePresence = "presence"
	// FrameStatus, FrameSnapshot and FrameChange are additions of this server, for clients that ask for them.
	FrameStatus   = "status"
	FrameSnapshot = "presence_snapshot"
	FrameChange   = "change"
)

// Actions of frames without a type. A client pings, with ack "true", and the server answers with a pong.
const (
	ActionPing = "ping"
	ActionPong = "pong"
)

// AuthBody is the body of the first frame that a client sends.
type AuthBody struct {
	// Auth is the JWT that GET or PUT /me returned.
	Auth     string `json:"auth"`
	DeviceID string `json:"deviceId,omitempty"`
	// PresenceSubscription is SubscribeAllUsers, SubscribeRoles, SubscribeFriends, SubscribeUIDs or empty for nobody.
	PresenceSubscription string `json:"presenceSubscription,omitempty"`
	// Roles is for SubscribeRoles.
	Roles []string `json:"roles,omitempty"`
	// UIDs is for SubscribeUIDs, at most 10,000.
	UIDs []string `json:"uids,omitempty"`
	// Rollcall asks for what this server adds to the contract; without it, the contract is all there is.
	Rollcall *SocketExtension `json:"rollcall,omitempty"`
}

// Presence subscriptions. SubscribeUIDs is an addition of this server.
const (
	SubscribeAllUsers = "ALL_USERS"
	SubscribeRoles    = "ROLES"
	SubscribeFriends  = "FRIENDS"
	SubscribeUIDs     = "UIDS"
)

// SocketExtension is what a client asks for beyond the contract.
type SocketExtension struct {
	// Status is how the device presents itself: available, which is the default, away, busy or invisible.
	// Absent means as before, for a device that is back within the grace.
	Status string `json:"status,omitempty"`
	// StatusText and ExpiresAt go with Status, as in StatusBody.
	StatusText string `json:"statusText,omitempty"`
	ExpiresAt  int64  `json:"expiresAt,omitempty"`
	// Then is what the device goes back to at ExpiresAt. Absent means what it was before, for a device that is back within
	// the grace, and else available. Its own ExpiresAt means nothing.
	Then *StatusBody `json:"then,omitempty"`
	// Snapshot asks for a FrameSnapshot with everybody in the subscription who is online.
	Snapshot bool `json:"snapshot,omitempty"`
	// Resume continues where an earlier socket with the same subscription ended.
	Resume *PresencePosition `json:"resume,omitempty"`
}

// PresencePosition is how far a client has come in what it was told.
type PresencePosition struct {
	Epoch    string `json:"epoch"`
	Sequence int64  `json:"sequence"`
}

// AuthReply is the body of the server's answer to AuthBody.
type AuthReply struct {
	// Code is "200", or an HTTP status that says what is wrong; then the socket is closed.
	Code   string `json:"code"`
	Status string `json:"status"`
	// Error and Message say what is wrong.
	Error   string `json:"error,omitempty"`
	Message string `json:"message,omitempty"`
	// Rollcall is there when the client asked for it.
	Rollcall *SocketWelcome `json:"rollcall,omitempty"`
}

// SocketWelcome is where a client of the extension begins.
type SocketWelcome struct {
	PresencePosition
	// Resumed says that the FrameSnapshot that follows, if any, holds only what was missed. Otherwise it holds all.
	Resumed bool `json:"resumed"`
	// HeartbeatSeconds is how long a client may send nothing. It should ping three times as often.
	HeartbeatSeconds int `json:"heartbeatSeconds"`
	// UpdatedAt is when the client's own user was last changed: another time than in what the client has read of it says
	// that it is to be read again. Absent for never.
	UpdatedAt int64 `json:"updatedAt,omitempty"`
}

// PresenceBody is the body of a FramePresence.
type PresenceBody struct {
	// Action is online or offline, and with the extension also away or busy.
	Action string `json:"action"`
	// Timestamp is when the user was last active, in Unix seconds.
	Timestamp int64 `json:"timestamp"`
	User      User  `json:"user"`
	// Sequence is there with the extension: the position behind this event.
	Sequence int64 `json:"sequence,omitempty"`
	// StatusText is what the user has set for now, with the extension.
	StatusText string `json:"statusText,omitempty"`
}

// SnapshotBody is the body of a FrameSnapshot. A long one comes in several frames.
type SnapshotBody struct {
	// Complete says that who is in none of the frames is offline. Otherwise the others are as they were.
	Complete bool `json:"complete"`
	// Last says that no further frame belongs to this snapshot.
	Last  bool             `json:"last"`
	Users []PresenceStatus `json:"users"`
}

// PresenceStatus is how a user presents itself.
type PresenceStatus struct {
	UID string `json:"uid"`
	// Status is available, away, busy or offline; to a fullAccess key also invisible.
	Status string `json:"status"`
	// StatusText is what the user has set for now.
	StatusText string `json:"statusText,omitempty"`
	// LastActiveAt, in Unix seconds, is absent when it is not to be known.
	LastActiveAt int64 `json:"lastActiveAt,omitempty"`
	// User is there in snapshots, for those online.
	User *User `json:"user,omitempty"`
}

// ChangeBody is the body of a FrameChange, which tells a client what became of its own user. What happens while it has
// no socket is not told later.
type ChangeBody struct {
	// Kind is one of the change log's: user.updated when the profile or the role is another now, friend.added,
	// friend.removed, friend.requested, friend.refused or friend.withdrawn.
	Kind string `json:"kind"`
	// Subject is whom it happened to, or who did it, and Object the other one of two. One of them is the client's user.
	Subject string `json:"subject"`
	Object  string `json:"object,omitempty"`
	// User is how the client's user is now, with user.updated.
	User *User `json:"user,omitempty"`
}

// StatusBody is the body of a FrameStatus, with which a device says how it presents itself.
type StatusBody struct {
	// Status is available, away, busy or invisible.
	Status string `json:"status"`
	// StatusText goes with it, at most as long as a status message.
	StatusText string `json:"statusText,omitempty"`
	// ExpiresAt, in Unix seconds, is when status and text go back to what they were before. Zero means never: they stay
	// until the status is set again or the session ends.
	ExpiresAt int64 `json:"expiresAt,omitempty"`
}

// Close codes of the socket beside those of RFC 6455. The reason says more.
const (
	// CloseAuthTimeout: no auth frame came in time.
	CloseAuthTimeout = 4000
	// CloseAuthFailed: the auth frame was refused. Get a new JWT from /me before the next attempt.
	CloseAuthFailed = 4001
	// CloseRevoked: the auth token was revoked, or its user deactivated or deleted. Log in again.
	CloseRevoked = 4003
	// CloseDisconnected: an operator has ended the session.
	CloseDisconnected = 4004
	// CloseTooSlow: the client has not read what was sent. It may connect again and resume.
	CloseTooSlow = 4008
	// CloseTooMany: the user has too many sockets, or they watch too many users.
	CloseTooMany = 4009
	// CloseSilent: nothing has come for too long, not even an answer to a ping.
	CloseSilent = 4010
)
