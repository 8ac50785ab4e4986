package presence

import (
	"context"
	"log/slog"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

const (
	// recordEvery is how long what becomes of presence waits to be stored together with more of it.
	recordEvery = time.Second
	// recordBatch bounds how many users one write is about.
	recordBatch = 1000
	// aliveEvery is how wrong the time may be at which those were last active who were online when the server was killed.
	aliveEvery = 15 * time.Second
)

// record is what became of presence and is not stored yet. Guarded by the roster's lock.
type record struct {
	directory.PresenceUpdate
	// cameSet is the set that Came is made of.
	cameSet map[directory.UID]struct{}
	// saving is closed when what is being stored is; nil when nothing is. Those forgotten meanwhile are not put back.
	saving    chan struct{}
	forgotten map[directory.UID]struct{}
}

func newRecord() record {
	return record{
		PresenceUpdate: directory.PresenceUpdate{
			Left: map[directory.UID]int64{}, Transitions: map[directory.UID][]directory.Transition{},
		},
		cameSet:   map[directory.UID]struct{}{},
		forgotten: map[directory.UID]struct{}{},
	}
}

func (u *record) came(uid directory.UID) {
	delete(u.Left, uid)
	u.cameSet[uid] = struct{}{}
}

func (u *record) left(uid directory.UID, lastActive int64) {
	delete(u.cameSet, uid)
	u.Left[uid] = lastActive
}

func (u *record) empty() bool { return len(u.cameSet)+len(u.Left)+len(u.Transitions) == 0 }

// take returns at most recordBatch users' worth of the record.
func (u *record) take() directory.PresenceUpdate {
	batch := directory.PresenceUpdate{
		Left: map[directory.UID]int64{}, Transitions: map[directory.UID][]directory.Transition{},
	}
	for uid := range u.cameSet {
		if len(batch.Came) == recordBatch {
			break
		}
		batch.Came = append(batch.Came, uid)
		delete(u.cameSet, uid)
	}
	for uid, at := range u.Left {
		if len(batch.Left) == recordBatch {
			break
		}
		batch.Left[uid] = at
		delete(u.Left, uid)
	}
	for uid, transitions := range u.Transitions {
		if len(batch.Transitions) == recordBatch {
			break
		}
		batch.Transitions[uid] = transitions
		delete(u.Transitions, uid)
	}
	return batch
}

// putBack takes back what could not be stored, as far as nothing newer is known.
func (u *record) putBack(batch directory.PresenceUpdate) {
	for uid := range u.forgotten {
		delete(batch.Left, uid)
		delete(batch.Transitions, uid)
	}
	for _, uid := range batch.Came {
		_, forgotten := u.forgotten[uid]
		if _, newer := u.Left[uid]; !newer && !forgotten {
			u.cameSet[uid] = struct{}{}
		}
	}
	for uid, at := range batch.Left {
		_, came := u.cameSet[uid]
		if _, newer := u.Left[uid]; !newer && !came {
			u.Left[uid] = at
		}
	}
	for uid, transitions := range batch.Transitions {
		u.Transitions[uid] = append(transitions, u.Transitions[uid]...)
	}
}

// forget drops what is not stored yet of a user who has been erased. It returns what to wait for: until then something
// of it may be on its way to the store.
func (u *record) forget(uid directory.UID) (saving <-chan struct{}) {
	delete(u.cameSet, uid)
	delete(u.Left, uid)
	delete(u.Transitions, uid)
	if u.saving != nil {
		u.forgotten[uid] = struct{}{}
	}
	return u.saving
}

// forgetRecord drops what is not stored yet of a user who has been erased, and waits until nothing of it is on its way
// to the store any more: whoever gets the uid next begins with nothing. It does nothing when somebody has it already.
func (r *roster) forgetRecord(ctx context.Context, uid directory.UID) {
	r.mu.Lock()
	if p := r.people[uid]; p != nil && len(p.sessions) > 0 {
		r.mu.Unlock()
		return
	}
	r.presence.dir.ForgetLastActive(r.app, uid)
	saving := r.unsaved.forget(uid)
	r.mu.Unlock()
	if saving == nil {
		return
	}
	select {
	case <-saving:
	case <-ctx.Done():
	}
}

// record notes a transition of a session's device in the timeline. It needs the lock.
func (r *roster) record(s *Session, status Status, cause Cause) {
	at := max(r.presence.dir.Time().UnixMilli(), s.lastMark+1)
	s.lastMark = at
	uid := s.uid
	transitions := r.unsaved.Transitions[uid]
	if len(transitions) >= directory.TransitionsKept*2 {
		transitions = transitions[len(transitions)-directory.TransitionsKept:]
	}
	r.unsaved.Transitions[uid] = append(
		transitions, directory.Transition{Device: s.device, At: at, Status: status.String(), Cause: string(cause)},
	)
}

// keepRecord stores what becomes of presence until ctx ends, and then what is left.
func (r *roster) keepRecord(ctx context.Context) {
	ticker := time.NewTicker(recordEvery)
	defer ticker.Stop()
	var alive time.Time
	for {
		select {
		case <-ticker.C:
			r.store(ctx)
		case <-ctx.Done():
			final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			r.store(final)
			r.noteAlive(final)
			return
		}
		if now := time.Now(); now.Sub(alive) >= aliveEvery && r.noteAlive(ctx) {
			alive = now
		}
	}
}

// store stores what has not been stored.
func (r *roster) store(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		if r.unsaved.empty() {
			r.mu.Unlock()
			return
		}
		batch, saving := r.unsaved.take(), make(chan struct{})
		r.unsaved.saving = saving
		r.mu.Unlock()
		err := r.presence.dir.SavePresence(ctx, r.app, batch)
		r.mu.Lock()
		if err != nil {
			r.unsaved.putBack(batch)
		}
		r.unsaved.saving = nil
		clear(r.unsaved.forgotten)
		r.mu.Unlock()
		close(saving)
		if err != nil {
			if ctx.Err() == nil {
				r.presence.config.Logger.Error(
					"presence could not be stored; it is tried again", slog.String("app", string(r.app)), slog.Any("error", err),
				)
			}
			return
		}
	}
}

// noteAlive notes that the server lives, if anybody is online, and reports whether it did.
func (r *roster) noteAlive(ctx context.Context) bool {
	r.mu.Lock()
	anybody := r.online > 0
	r.mu.Unlock()
	if !anybody {
		return false
	}
	if err := r.presence.dir.NoteAlive(ctx, r.app); err != nil && ctx.Err() == nil {
		r.presence.config.Logger.Error(
			"presence could not note that the server lives", slog.String("app", string(r.app)), slog.Any("error", err),
		)
		return false
	}
	return true
}
