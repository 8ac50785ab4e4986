package api

// PresenceQuery asks for the presence of users, at most 1,000.
type PresenceQuery struct {
	UIDs []string `json:"uids"`
}

// PresenceQueryResponse is the answer: the users that the caller may see, in the order asked for and once each.
type PresenceQueryResponse struct {
	Users []PresenceStatus `json:"users"`
	// NotFound are the uids of the others, as they were sent.
	NotFound []string `json:"notFound"`
}

// OnlineCount is how many users are online and do not hide it.
type OnlineCount struct {
	OnlineUsersCount int `json:"onlineUsersCount"`
}

// UserPresence is the presence of a user with its devices, for an operator.
type UserPresence struct {
	PresenceStatus
	Devices []PresenceDevice `json:"devices"`
}

// PresenceDevice is a live session of a user, or one whose connection broke a moment ago.
type PresenceDevice struct {
	// DeviceID is what the device calls its session.
	DeviceID string `json:"deviceId"`
	// Status is available, away, busy or invisible.
	Status     string `json:"status"`
	StatusText string `json:"statusText,omitempty"`
	// AuthTokenID names the auth token that the session stands on.
	AuthTokenID string `json:"authTokenId,omitempty"`
	// ConnectedAt, in Unix seconds, is absent for a device whose connection broke; AwayUntil is when it counts as gone.
	ConnectedAt int64 `json:"connectedAt,omitempty"`
	AwayUntil   int64 `json:"awayUntil,omitempty"`
}

// PresenceTransition is something that happened to the presence of a device.
type PresenceTransition struct {
	DeviceID string `json:"deviceId"`
	// At is when, in Unix milliseconds.
	At int64 `json:"at"`
	// Status is the device's from then on: available, away, busy, invisible or offline.
	Status string `json:"status"`
	// Cause says why, in words.
	Cause string `json:"cause"`
}

// DisconnectResponse is the answer of calls that end sessions.
type DisconnectResponse struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	// ClosedSockets is how many sockets were closed.
	ClosedSockets int `json:"closedSockets"`
}
