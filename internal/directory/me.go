package directory

import "context"

// Me is what a logged-in user sends about itself: a profile to change, the device it is on, or both. Its role is not
// among it: users never choose their own role.
type Me struct {
	Profile UserPatch
	Device  DevicePatch
}

func (p UserPatch) empty() bool {
	return p.Name == nil && p.Avatar == nil && p.Link == nil && p.Role == nil && p.StatusMessage == nil &&
		p.Metadata == nil && p.Tags == nil
}

// GetMe returns the logged-in user, as Authenticate returned it. Errors: CodePermissionDenied.
func (d *Directory) GetMe(caller Caller, policy *Policy, current User) (User, error) {
	if err := policy.mayUse(caller, current, FeatureGetMe); err != nil {
		return User{}, err
	}
	return current, nil
}

// GetSettings returns the app of the logged-in user, for what its client must know of it. Errors: CodePermissionDenied.
func (d *Directory) GetSettings(caller Caller, policy *Policy, current User) (App, error) {
	if err := policy.mayUse(caller, current, FeatureListSettings); err != nil {
		return App{}, err
	}
	return policy.App, nil
}

// UpdateMe opens a session and changes the profile of the logged-in user (contract sdk-wire.md, fact 3): it records
// the device on the caller's auth token and the day as one the user was active on, and applies the profile but for
// the role. Private metadata stays as it is, since users do not see it.
// Errors: CodeTokenUnknown, CodePermissionDenied, CodeBadRequest.
func (d *Directory) UpdateMe(ctx context.Context, caller Caller, policy *Policy, current User, me Me) (User, error) {
	me.Profile.Role = nil
	if !me.Profile.empty() {
		if err := policy.mayUse(caller, current, FeatureUpdateMe); err != nil {
			return User{}, err
		}
	}
	if needed, err := d.meNeedsWrite(ctx, caller, current, me); err != nil || !needed {
		return current, err
	}
	user, err := write(ctx, d, caller, []UID{caller.User}, func(tx Writer, log *logbook) (User, error) {
		token, found, err := tx.TokenByID(caller.App, caller.Token)
		if err != nil {
			return User{}, err
		}
		user, active, err := tx.User(caller.App, caller.User)
		if err != nil {
			return User{}, err
		}
		if !found || !active || user.DeactivatedAt != 0 {
			return User{}, errTokenUnknown()
		}
		if err := d.changeDevice(tx, log, &token, me.Device); err != nil {
			return User{}, err
		}
		if err := tx.PutActive(caller.App, dayOf(log.at), caller.User); err != nil {
			return User{}, err
		}
		return d.patchUser(tx, log, user, me.Profile.keepingPrivate(user))
	})
	return caller.show(user), err
}

// meNeedsWrite spares a write, and its wait for the disk, when a login brings nothing new.
func (d *Directory) meNeedsWrite(ctx context.Context, caller Caller, current User, me Me) (needed bool, err error) {
	profile := me.Profile.keepingPrivate(current)
	if len(profile.apply(&current)) > 0 {
		return true, nil
	}
	err = d.store.View(ctx, func(tx Reader) error {
		token, found, err := tx.TokenByID(caller.App, caller.Token)
		if err != nil {
			return err
		}
		if !found || len(me.Device.apply(&token.Device)) > 0 {
			needed = true
			return nil
		}
		active, err := tx.Active(caller.App, dayOf(d.Now()), caller.User)
		needed = !active
		return err
	})
	return needed, err
}

const secondsPerDay = 24 * 3600

// dayOf counts days of UTC since 1970.
func dayOf(unix int64) int64 { return unix / secondsPerDay }

// Stats are the figures of contract rest.md section 9.2.
type Stats struct {
	// ActiveUsers is how many distinct users logged in on a day of the range.
	ActiveUsers int
}

// Stats returns the figures of the days that [from, to], in Unix seconds, touches. Errors: CodeBadRequest.
func (d *Directory) Stats(ctx context.Context, caller Caller, from, to int64) (stats Stats, err error) {
	var wrong FieldErrors
	if to < from {
		wrong.Add("toDate", "The toDate must not be before the fromDate.")
	}
	if err := wrong.Err(); err != nil {
		return Stats{}, err
	}
	err = d.store.View(ctx, func(tx Reader) error {
		stats.ActiveUsers, err = tx.CountActive(caller.App, dayOf(from), dayOf(to))
		return err
	})
	return stats, err
}

// Usage counts what an app used in a span of time.
type Usage struct {
	// Users is how many users there are now, deactivated ones included.
	Users int
	// ActiveUsers is how many distinct users logged in.
	ActiveUsers int
}

// Usage returns the usage of the days that [from, to], in Unix seconds, touches. Errors: CodeAppNotFound.
func (d *Directory) Usage(ctx context.Context, caller Caller, from, to int64) (usage Usage, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		if _, err := requireApp(tx, caller.App); err != nil {
			return err
		}
		usage.ActiveUsers, err = tx.CountActive(caller.App, dayOf(from), dayOf(to))
		return err
	})
	if err != nil {
		return usage, err
	}
	index, err := d.indexes.get(ctx, caller.App)
	if err == nil {
		usage.Users = index.Len()
	}
	return usage, err
}
