package directory

import (
	"context"
	"encoding/json"
	"strings"
)

// UserRow is one user of a batch: made when it does not exist, else changed where fields are set.
type UserRow struct {
	// UID names the user. A new user needs a name as well.
	UID   string
	Patch UserPatch
	// MergeMetadata are members that are put into the metadata, the patch's or else those that are there, each in place of
	// the one with its name; null takes that one out. Nil leaves the metadata alone.
	MergeMetadata json.RawMessage
	// CreatedAt, UpdatedAt, LastActiveAt and DeactivatedAt are times in Unix seconds. Nil leaves them to the server.
	CreatedAt, UpdatedAt, LastActiveAt, DeactivatedAt *int64
}

// UserRowResult is what became of a row.
type UserRowResult struct {
	// UID is as the row had it when the row was refused.
	UID     string
	Created bool
	// Changed names the fields of an existing user that were changed.
	Changed []string
	User    User
	Err     *Error `json:",omitempty"`
}

// UpsertUser makes a user or changes it. Errors: CodeBadRequest, CodeRoleNotFound, CodeUserNotFound for a deactivated
// one, CodeNoAccess for a caller that may not create users, or not give the role.
func (d *Directory) UpsertUser(ctx context.Context, caller Caller, row UserRow) (UserRowResult, error) {
	if err := d.mayCreateUsers(ctx, caller); err != nil {
		return UserRowResult{}, err
	}
	result, err := write(ctx, d, caller, []UID{FoldUID(row.UID)}, func(tx Writer, log *logbook) (UserRowResult, error) {
		return d.upsert(tx, log, caller, row)
	})
	result.User = caller.show(result.User)
	return result, err
}

// UpsertUsers makes or changes many users in one durable write. A row that is refused has an error of its own and does
// not hold up the others; a uid that comes twice is changed twice. With a trial, nothing is kept.
// Errors: CodeBadRequest for no or too many rows, CodeNoAccess for a caller that may not create users.
func (d *Directory) UpsertUsers(
	ctx context.Context, caller Caller, rows []UserRow, trial *Trial,
) ([]UserRowResult, error) {
	if err := d.mayCreateUsers(ctx, caller); err != nil {
		return nil, err
	}
	if err := d.checkBatch("users", len(rows)); err != nil {
		return nil, err
	}
	reads := make([]UID, 0, len(rows))
	for _, row := range rows {
		if IsText(row.UID) { // else its row is refused
			reads = append(reads, FoldUID(row.UID))
		}
	}
	done, err := writeOrTry(ctx, d, caller, reads, trial, func(tx Writer, log *logbook) ([]UserRowResult, error) {
		results := make([]UserRowResult, len(rows))
		memory := &batchTx{Writer: tx, users: map[UID]*User{}, roles: map[string]Role{}}
		if trial != nil {
			for _, role := range trial.Roles {
				memory.roles[strings.ToLower(role)] = Role{ID: strings.ToLower(role)}
			}
		}
		if err := memory.fetch(log.app, reads); err != nil {
			return nil, err
		}
		for i, row := range rows {
			result, err := d.upsert(memory, log, caller, row)
			if refused := refusal(err); refused != nil {
				result = UserRowResult{UID: row.UID, Err: refused}
			} else if err != nil {
				return nil, err
			}
			results[i] = result
		}
		return results, nil
	})
	for i := range done {
		done[i].User = caller.show(done[i].User)
	}
	return done, err
}

// batchTx answers from memory what was asked before, as the update has left it: a question to the store behind a write
// makes it write out what it gathers.
type batchTx struct {
	Writer
	users map[UID]*User // nil for those who do not exist
	roles map[string]Role
}

// fetch asks for the users before anything is written.
func (t *batchTx) fetch(app AppID, uids []UID) error {
	for _, uid := range uids {
		if _, asked := t.users[uid]; asked {
			continue
		}
		user, found, err := t.Writer.User(app, uid)
		if err != nil {
			return err
		}
		t.users[uid] = nil
		if found {
			t.users[uid] = &user
		}
	}
	return nil
}

func (t *batchTx) User(app AppID, uid UID) (User, bool, error) {
	if err := t.fetch(app, []UID{uid}); err != nil {
		return User{}, false, err
	}
	if user := t.users[uid]; user != nil {
		return *user, true, nil
	}
	return User{}, false, nil
}

func (t *batchTx) PutUser(app AppID, user User) error {
	t.users[user.UID] = &user
	return t.Writer.PutUser(app, user)
}

// Role answers for the roles of a batch, which are few.
func (t *batchTx) Role(app AppID, id string) (Role, bool, error) {
	if role, ok := t.roles[id]; ok {
		return role, true, nil
	}
	role, found, err := t.Writer.Role(app, id)
	if found {
		t.roles[id] = role
	}
	return role, found, err
}

func (d *Directory) upsert(tx Writer, log *logbook, caller Caller, row UserRow) (UserRowResult, error) {
	if !IsText(row.UID) {
		return d.createFromRow(tx, log, caller, row) // which says what is wrong with it
	}
	user, exists, err := tx.User(log.app, FoldUID(row.UID))
	if err != nil {
		return UserRowResult{}, err
	}
	if !exists {
		return d.createFromRow(tx, log, caller, row)
	}
	if user.DeactivatedAt != 0 && row.DeactivatedAt == nil {
		return UserRowResult{}, errDeactivated(user, string(user.UID))
	}
	if err := row.mergeMetadata(user.Metadata); err != nil {
		return UserRowResult{}, err
	}
	if !caller.Private {
		row.Patch = row.Patch.keepingPrivate(user)
	}
	if row.Patch.Role != nil {
		if err := maySetRole(tx, caller, user.Role, strings.ToLower(*row.Patch.Role)); err != nil {
			return UserRowResult{}, err
		}
	}
	wasActive := user.DeactivatedAt == 0
	var changed []string
	user, err = d.changeUser(tx, log, user, func(user *User) []string {
		changed = append(row.Patch.apply(user), row.applyTimes(user)...)
		if len(changed) > 0 && row.UpdatedAt == nil {
			user.UpdatedAt = log.at
		}
		return changed
	})
	if err == nil && wasActive != (user.DeactivatedAt == 0) {
		kind := UserDeactivated
		if !wasActive {
			kind = UserReactivated
		}
		err = log.append(kind, string(user.UID), "deactivatedAt")
	}
	return UserRowResult{UID: string(user.UID), Changed: changed, User: user}, err
}

func (d *Directory) createFromRow(tx Writer, log *logbook, caller Caller, row UserRow) (UserRowResult, error) {
	user := User{UID: FoldUID(row.UID)}
	if err := row.mergeMetadata(nil); err != nil {
		return UserRowResult{}, err
	}
	row.Patch.apply(&user)
	if err := d.checkNewUser(row.UID, &user); err != nil {
		return UserRowResult{}, err
	}
	if !caller.Private {
		user.Metadata = PublicMetadata(user.Metadata)
	}
	if err := requireRole(tx, log.app, user.Role); err != nil {
		return UserRowResult{}, err
	}
	if err := maySetRole(tx, caller, DefaultRole, user.Role); err != nil {
		return UserRowResult{}, err
	}
	user.CreatedAt = log.at
	row.applyTimes(&user)
	if err := d.addUser(tx, log, user); err != nil {
		return UserRowResult{}, err
	}
	return UserRowResult{UID: string(user.UID), Created: true, User: user}, nil
}

// mergeMetadata makes the patch say what the row wants of metadata, of which the user has some.
func (r *UserRow) mergeMetadata(has json.RawMessage) error {
	if r.MergeMetadata == nil {
		return nil
	}
	if r.Patch.Metadata != nil {
		has = *r.Patch.Metadata
	}
	merged, err := mergeMembers(has, r.MergeMetadata)
	if err != nil {
		return FieldErrors{"mergeMetadata": {"The mergeMetadata and the metadata must be JSON objects."}}.Err()
	}
	r.Patch.Metadata = &merged
	return nil
}

func (r UserRow) applyTimes(user *User) (changed []string) {
	for _, field := range []struct {
		name   string
		stored *int64
		value  *int64
	}{{"createdAt", &user.CreatedAt, r.CreatedAt}, {"updatedAt", &user.UpdatedAt, r.UpdatedAt}, {"lastActiveAt", &user.LastActiveAt, r.LastActiveAt}, {"deactivatedAt", &user.DeactivatedAt, r.DeactivatedAt}} {
		if field.value != nil && *field.value != *field.stored {
			*field.stored = *field.value
			changed = append(changed, field.name)
		}
	}
	return changed
}
