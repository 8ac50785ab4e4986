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
func (p *Presence) Devices(app directory.AppID, uid directory.UID) (devices []Device) {
	p.withPerson(app, uid, func(person *person) {
		for _, s := range person.sessions {
			devices = append(devices, Device{
				Device: s.device, Token: s.token.id, Status: s.shown.status, Text: s.shown.text, OpenedAt: p.stamp(s.openedAt),
			})
		}
		for _, grace := range person.lingering {
			devices = append(devices, Device{
				Device: grace.device, Token: grace.token.id, Status: grace.shown.status, Text: grace.shown.text,
				AwayUntil: p.stamp(grace.until),
			})
		}
	})
	return devices
}

// LiveTokens returns the auth tokens of a user on which a session stands, or stood that may be back.
func (p *Presence) LiveTokens(app directory.AppID, uid directory.UID) map[directory.TokenID]struct{} {
	live := map[directory.TokenID]struct{}{}
	p.withPerson(app, uid, func(person *person) {
		for _, s := range person.sessions {
			live[s.token.id] = struct{}{}
		}
		for _, grace := range person.lingering {
			live[grace.token.id] = struct{}{}
		}
	})
	return live
}

// Status returns how a user presents itself now, and the text that goes with it. others says as others see it.
func (p *Presence) Status(app directory.AppID, uid directory.UID, others bool) (status Status, text string) {
	p.withPerson(app, uid, func(person *person) {
		if is := person.appearance(); !others || is.status.public() != Offline {
			status, text = is.status, is.text
		}
	})
	return status, text
}

// withPerson calls do for a person who is there, under the lock of the app. It must not wait and not call back.
func (p *Presence) withPerson(app directory.AppID, uid directory.UID, do func(*person)) {
	r := p.known(app)
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if person, there := r.people[uid]; there {
		do(person)
	}
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
