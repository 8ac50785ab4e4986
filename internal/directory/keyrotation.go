package directory

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultKeyGrace is how long a key that is replaced is still accepted when nobody says otherwise, and MaxKeyGrace the
// longest that anybody can ask for.
const (
	DefaultKeyGrace = 24 * time.Hour
	MaxKeyGrace     = 90 * 24 * time.Hour
)

// RotatedKey is a new API key, and the one that it takes the place of.
type RotatedKey struct {
	Key Key
	// Replaced is accepted until its ExpiresAt.
	Replaced Key
}

// RotateKey makes a key of the same name and scope as the one that text names, by its text or its id, and has that one
// expire after the grace; without one it is gone at once. A key may rotate itself. One that is to expire already is
// replaced once more, and expires when it would have, or earlier. The auth tokens that it minted stay good.
// Errors: CodeKeyNotFound, CodeBadRequest for a grace that is too long, CodeQuota when too many keys are to expire.
func (d *Directory) RotateKey(
	ctx context.Context, caller Caller, text string, grace time.Duration,
) (RotatedKey, error) {
	if grace < 0 || grace > MaxKeyGrace {
		return RotatedKey{}, FieldErrors{
			"graceSeconds": {"The graceSeconds must be between 0 and 7776000, which is 90 days."},
		}.Err()
	}
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (RotatedKey, error) {
		old, err := d.findKey(tx, caller.App, text)
		if err != nil {
			return RotatedKey{}, err
		}
		keys, err := tx.Keys(caller.App)
		if err != nil {
			return RotatedKey{}, err
		}
		if len(keys) >= 2*d.limits.KeysPerApp {
			return RotatedKey{}, fail(
				CodeQuota, "Too many replaced keys of this app are still accepted. Delete those that are no longer used.",
			)
		}
		made, err := d.addKey(tx, log, old.Name, old.Scope, "")
		if err != nil {
			return RotatedKey{}, err
		}
		if expiry := log.at + int64(grace/time.Second); old.ExpiresAt == 0 || expiry < old.ExpiresAt {
			old.ExpiresAt = expiry
			if err := d.putExpiry(tx, log, old); err != nil {
				return RotatedKey{}, err
			}
		}
		return RotatedKey{Key: made, Replaced: old}, nil
	})
}

// putExpiry stores a key that is to expire, or removes it when it has.
func (d *Directory) putExpiry(tx Writer, log *logbook, key Key) error {
	if key.expired(log.at) {
		if err := tx.DeleteKey(log.app, key.ID); err != nil {
			return err
		}
		return log.append(KeyDeleted, string(key.ID))
	}
	if err := tx.PutKey(log.app, key); err != nil {
		return err
	}
	return log.append(KeyUpdated, string(key.ID), "expiresAt")
}

// sweepKeys removes the keys of an app that have expired, and stores when the others were last used.
func (d *Directory) sweepKeys(ctx context.Context, app AppID) error {
	var keys []Key
	err := d.store.View(ctx, func(tx Reader) (err error) {
		keys, err = tx.Keys(app)
		return err
	})
	due := false
	for _, key := range keys {
		due = due || key.expired(d.Now()) || d.keyUses.last(app, key.ID) > key.LastUsedAt
	}
	if err != nil || !due {
		return err
	}
	_, err = write(ctx, d, System(app, "key-expiry"), nil, func(tx Writer, log *logbook) (struct{}, error) {
		keys, err := tx.Keys(app)
		if err != nil {
			return struct{}{}, err
		}
		for _, key := range keys {
			used := d.keyUses.last(app, key.ID)
			switch {
			case key.expired(log.at):
				err = d.putExpiry(tx, log, key)
			case used > key.LastUsedAt:
				key.LastUsedAt = used
				err = tx.PutKey(app, key)
			}
			if err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err
}

// storeKeyUses stores when the keys of all apps were last used.
func (d *Directory) storeKeyUses(ctx context.Context) error {
	var failures []error
	for _, app := range d.keyUses.apps() {
		failures = append(failures, d.sweepKeys(ctx, app))
	}
	return errors.Join(failures...)
}

// keyUse is when a key was last used, in Unix seconds.
type keyUse struct{ at atomic.Int64 }

// note says that the key is used now. Many callers use one key at once, and within a second there is nothing to write.
func (u *keyUse) note(now int64) {
	for at := u.at.Load(); at < now; at = u.at.Load() {
		if u.at.CompareAndSwap(at, now) {
			return
		}
	}
}

// keyUses are when keys were last used that have been used since the start.
type keyUses struct{ known sync.Map } // from keyName to *keyUse

type keyName struct {
	app AppID
	id  KeyID
}

// of returns the note about a key.
func (u *keyUses) of(app AppID, id KeyID) *keyUse {
	name := keyName{app, id}
	if known, ok := u.known.Load(name); ok {
		return known.(*keyUse) //nolint:forcetypeassert // nothing else is in it
	}
	known, _ := u.known.LoadOrStore(name, new(keyUse))
	return known.(*keyUse) //nolint:forcetypeassert // nothing else is in it
}

// last returns when a key was last used since the start, 0 for not yet.
func (u *keyUses) last(app AppID, id KeyID) int64 {
	known, ok := u.known.Load(keyName{app, id})
	if !ok {
		return 0
	}
	return known.(*keyUse).at.Load() //nolint:forcetypeassert // nothing else is in it
}

// apps returns the apps whose keys there are notes about.
func (u *keyUses) apps() []AppID {
	seen := map[AppID]struct{}{}
	u.known.Range(func(name, _ any) bool {
		seen[name.(keyName).app] = struct{}{} //nolint:forcetypeassert // nothing else is in it
		return true
	})
	apps := make([]AppID, 0, len(seen))
	for app := range seen {
		apps = append(apps, app)
	}
	return apps
}
