package presence

import (
	"github.com/rollcall/rollcall/internal/directory"
)

// Device is a live session, as an operator sees it.
type Device struct {
	// Device is what the device calls itself.
	Device string
	Token  directory.TokenID
	Status Status
	Text   string
	// OpenedAt is when the session was opened, in Unix seconds.
	OpenedAt int64
	// AwayUntil is set, in Unix seconds, for a device whose connection broke and that may come back until then.
	AwayUntil int64
}

// Devices returns the sessions of a user, those lately broken included.
func (p *Presence) Devices(app directory.AppID, uid directory.UID) []Device {
	r := p.known(app)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	person, there := r.people[uid]
	if !there {
		return nil
	}
	var devices []Device
	for _, s := range person.sessions {
		devices = append(devices, Device{Device: s.device, Token: s.token.id, Status: s.shown.status, Text: s.shown.text, OpenedAt: r.presence.stamp(s.openedAt)})
	}
	for _, absence := range person.lingering {
		devices = append(devices, Device{Device: absence.device, Status: absence.shown.status, Text: absence.shown.text, AwayUntil: r.presence.stamp(absence.until)})
	}
	return devices
}

// LiveTokens returns the auth tokens of a user on which a session stands, or stood that may be back.
func (p *Presence) LiveTokens(app directory.AppID, uid directory.UID) map[directory.TokenID]struct{} {
	r := p.known(app)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	person, there := r.people[uid]
	if !there {
		return nil
	}
	live := map[directory.TokenID]struct{}{}
	for _, s := range person.sessions {
		live[s.token.id] = struct{}{}
	}
	for _, absence := range person.lingering {
		live[absence.token.id] = struct{}{}
	}
	return live
}

// Status returns how a user presents itself now, and the text that goes with it. others says as others see it.
func (p *Presence) Status(app directory.AppID, uid directory.UID, others bool) (status Status, text string) {
	r := p.known(app)
	if r == nil {
		return Offline, ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	person, there := r.people[uid]
	if !there {
		return Offline, ""
	}
	is := person.appearance()
	if others && is.status.public() == Offline {
		return Offline, ""
	}
	return is.status, is.text
}

// Disconnect ends the sessions of a user, or those of one of its devices, and returns how many there were.
func (p *Presence) Disconnect(app directory.AppID, uid directory.UID, device string) int {
	r := p.known(app)
	if r == nil {
		return 0
	}
	closed := r.endWhere(uid, Disconnected, func(_ token, of string) bool { return device == "" || of == device })
	if device == "" {
		closed += r.leaveForGood(uid, Disconnected, everySession)
	}
	return closed
}
