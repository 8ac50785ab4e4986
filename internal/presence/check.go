package presence

import (
	"log/slog"
	"slices"
	"time"
)

// checkEvery is how often what was announced is compared with the sessions there are.
const checkEvery = 10 * time.Second

// statusHasEnded reports whether a device of a person has a status whose end was not noticed.
func (p *person) statusHasEnded(now time.Time) bool {
	return slices.ContainsFunc(p.sessions, func(s *Session) bool {
		return !s.shown.until.IsZero() && !s.shown.until.After(now)
	})
}

// check looks for users whose announced status contradicts their sessions, counts and mends them. There should be none.
func (r *roster) check(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if readers := r.presence.readers[r.app]; readers != nil && !r.returnUntil.IsZero() && now.After(r.returnUntil) {
		readers.end()
	}
	overdue := now.Add(-2 * r.presence.config.Quiet)
	timeOfDay := time.Now()
	for uid, p := range r.people {
		if p.statusHasEnded(timeOfDay) { // while the server did not run
			r.reconcile(p, now)
		}
		is := p.appearance().status.public()
		told := p.told.status.public()
		if is == told || !p.wakeAt.IsZero() && p.wakeAt.After(overdue) {
			continue
		}
		switch {
		case told == Offline:
			r.presence.config.Observer.FalselyOffline()
		case is == Offline:
			r.presence.config.Observer.Stuck()
		default:
			continue
		}
		r.presence.config.Logger.Error("the announced presence of a user contradicts its sessions; it is announced anew",
			slog.String("app", string(r.app)), slog.String("uid", string(uid)), slog.String(
				"announced", told.String(),
			), slog.String("is", is.String()))
		r.reconcile(p, now)
	}
}
