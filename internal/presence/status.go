package presence

import "time"

// Status is how a device, or a user, presents itself.
type Status uint8

// The statuses, in the order in which the devices of a user outvote each other: the highest is the user's.
const (
	Offline Status = iota
	Away
	Available
	Busy
	// Invisible is shown as Offline to everybody but an operator.
	Invisible
)

var statusNames = [...]string{
	Offline: "offline", Away: "away", Available: "available", Busy: "busy", Invisible: "invisible",
}

func (s Status) String() string { return statusNames[s] }

// ParseStatus returns the status of a name, which a device may set: any but Offline.
func ParseStatus(name string) (Status, bool) {
	for status, known := range statusNames {
		if name == known && Status(status) != Offline {
			return Status(status), true
		}
	}
	return Offline, false
}

// public is what others are told.
func (s Status) public() Status {
	if s == Invisible {
		return Offline
	}
	return s
}

// setting is what a device has set.
type setting struct {
	status Status
	text   string
}

// deviceStatus is how a device presents itself, and what it goes back to when that has an end.
type deviceStatus struct {
	setting
	until  time.Time // when it ends, by the time of day and not by the clock of presence; zero is never
	before setting   // what it was before one with an end was set
}

// set replaces the setting. One with an end goes back to the last that had none.
func (d *deviceStatus) set(now setting, until time.Time) {
	before := d.setting
	if !d.until.IsZero() {
		before = d.before
	}
	*d = deviceStatus{setting: now, until: until}
	if !until.IsZero() {
		d.before = before
	}
}

// expire goes back to what was before, when it is time, and reports whether it was.
func (d *deviceStatus) expire(now time.Time) bool {
	if d.until.IsZero() || d.until.After(now) {
		return false
	}
	*d = deviceStatus{setting: d.before}
	return true
}

// Cause is why a session began, changed or ended.
type Cause string

// The causes, as they stand in the timeline.
const (
	Connected    Cause = "connected"
	Reconnected  Cause = "reconnected"
	SetByDevice  Cause = "set by device"
	Expired      Cause = "status expired"
	Closed       Cause = "closed"
	Reset        Cause = "connection lost"
	PongMissed   Cause = "pong missed"
	Restarts     Cause = "client restarts"
	Silent       Cause = "silent"
	TooSlow      Cause = "too slow"
	Misbehaved   Cause = "protocol violated"
	LoggedOut    Cause = "auth token revoked"
	Deactivated  Cause = "user deactivated"
	Deleted      Cause = "user deleted"
	Disconnected Cause = "disconnected by operator"
	AppClosed    Cause = "app archived"
	ServerStops  Cause = "server stopped"
)

// grace is how long a device may be away after its session ended for a cause.
func (p *Presence) grace(cause Cause) time.Duration {
	switch cause {
	case Reset, PongMissed, Restarts, TooSlow, Misbehaved:
		return p.config.Grace
	case Silent:
		return p.config.SilenceGrace
	default:
		return 0
	}
}
