package directory

import (
	"context"
	"slices"
)

// Transition is something that happened to the presence of one device.
type Transition struct {
	Device string
	// At is when, in Unix milliseconds. It grows with each transition of a device.
	At int64
	// Status is the device's from then on: available, away, busy, invisible or offline.
	Status string
	// Cause says why.
	Cause string
}

// TransitionsKept is how many transitions of a device are shown. More may be stored for a while.
const TransitionsKept = 100

const (
	transitionsFor = 30 * secondsPerDay * 1000
	// trimEvery is after how many transitions on average a timeline is trimmed: that costs more than to write them.
	trimEvery = 32
)

// PresenceUpdate is what has become of users' presence since it was last stored.
type PresenceUpdate struct {
	// Came are the users who are online now and were not, Left those who are not any more, with when they were last active
	// in Unix seconds.
	Came []UID
	Left map[UID]int64
	// Transitions are in order for each user.
	Transitions map[UID][]Transition
}

// SavePresence stores what became of presence in one write. Users who do not exist any more are left out. It makes no
// revision: presence is not a change of the app's data.
func (d *Directory) SavePresence(ctx context.Context, app AppID, batch PresenceUpdate) error {
	left := make([]UID, 0, len(batch.Left))
	for uid := range batch.Left {
		left = append(left, uid)
	}
	slices.Sort(left)
	err := d.store.Update(ctx, app, left, func(tx Writer) error {
		// All questions come first: one after a write makes the store write out what it gathers.
		users, err := existing(tx, app, left)
		if err != nil {
			return err
		}
		known := map[UID]bool{}
		for _, user := range users {
			known[user.UID] = true
		}
		for uid := range batch.Transitions {
			if known[uid] {
				continue
			}
			if _, known[uid], err = tx.User(app, uid); err != nil {
				return err
			}
		}
		for _, user := range users {
			if at := batch.Left[user.UID]; at > user.LastActiveAt {
				if err := tx.PutLastActive(app, user.UID, at); err != nil {
					return err
				}
			}
		}
		for _, uid := range left {
			if err := tx.DeleteOnline(app, uid); err != nil {
				return err
			}
		}
		for _, uid := range batch.Came {
			if err := tx.PutOnline(app, uid); err != nil {
				return err
			}
		}
		for uid, transitions := range batch.Transitions {
			if !known[uid] {
				continue
			}
			if err := tx.AddTransitions(app, uid, transitions); err != nil {
				return err
			}
		}
		for uid, transitions := range batch.Transitions {
			for _, transition := range transitions {
				if !known[uid] || transition.At%trimEvery != 0 {
					continue
				}
				if err := tx.TrimTransitions(
					app, uid, transition.Device, TransitionsKept, d.now().UnixMilli()-transitionsFor,
				); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil {
		d.online.of(app).stored(batch.Left)
	}
	return err
}

// existing returns those of the users that exist.
func existing(tx Reader, app AppID, uids []UID) ([]User, error) {
	users := make([]User, 0, len(uids))
	for _, uid := range uids {
		user, found, err := tx.User(app, uid)
		if err != nil {
			return nil, err
		}
		if found {
			users = append(users, user)
		}
	}
	return users, nil
}

// NoteAlive stores that the server lives, at most as often as presence must be right after a crash.
func (d *Directory) NoteAlive(ctx context.Context, app AppID) error {
	return d.store.Update(ctx, app, nil, func(tx Writer) error { return tx.PutAlive(app, d.Now()) })
}

// SettlePresence ends what a server that was killed has left behind: whoever was online then was last active when it
// last noted that it lives. It returns them, by app. Call it before the first session is opened.
func (d *Directory) SettlePresence(ctx context.Context) (map[AppID][]User, error) {
	apps, err := d.allApps(ctx)
	if err != nil {
		return nil, err
	}
	were := map[AppID][]User{}
	for _, app := range apps {
		for {
			batch := PresenceUpdate{Left: map[UID]int64{}}
			var users []User
			err := d.store.View(ctx, func(tx Reader) error {
				alive, err := tx.Alive(app.ID)
				if err != nil {
					return err
				}
				uids, err := tx.Online(app.ID, sweepBatch)
				if err != nil {
					return err
				}
				for _, uid := range uids {
					batch.Left[uid] = alive
				}
				users, err = existing(tx, app.ID, uids)
				return err
			})
			if err != nil {
				return nil, err
			}
			if len(batch.Left) == 0 {
				break
			}
			if err := d.SavePresence(ctx, app.ID, batch); err != nil {
				return nil, err
			}
			for _, user := range users {
				user.LastActiveAt = max(user.LastActiveAt, batch.Left[user.UID])
				if user.DeactivatedAt == 0 {
					were[app.ID] = append(were[app.ID], user)
				}
			}
		}
	}
	return were, nil
}

// Timeline returns what happened to the presence of the devices of a user, who may be deactivated, latest first, at
// most TransitionsKept for each device. Errors: CodeUserNotFound.
func (d *Directory) Timeline(ctx context.Context, caller Caller, rawUID string) (transitions []Transition, err error) {
	uid := FoldUID(rawUID)
	err = d.store.View(ctx, func(tx Reader) error {
		if _, found, err := tx.User(caller.App, uid); err != nil || !found {
			return orNotFound(err, uid)
		}
		transitions, err = tx.Transitions(caller.App, uid)
		return err
	})
	count := map[string]int{}
	transitions = slices.DeleteFunc(transitions, func(t Transition) bool {
		count[t.Device]++
		return count[t.Device] > TransitionsKept
	})
	return transitions, err
}

// IsStatusText reports whether a text can stand beside a status: it is bound like a status message.
func (d *Directory) IsStatusText(text string) bool {
	var wrong FieldErrors
	checkText(&wrong, "statusText", text, d.limits.StatusMessage, "\n\r\t")
	return len(wrong) == 0
}

// maxDeviceID is the longest device id, in characters.
const maxDeviceID = 255

// IsDeviceID reports whether a text can be a device's id: it is not too long and holds no control characters.
func IsDeviceID(text string) bool {
	var wrong FieldErrors
	checkText(&wrong, "deviceId", text, maxDeviceID, "")
	return len(wrong) == 0
}
