package directory

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// UID identifies a user within an app. It is folded to lower case wherever it comes in.
type UID string

// FoldUID returns the uid that a text names.
func FoldUID(text string) UID { return UID(strings.ToLower(text)) }

// validUID reports whether text is 1 to limit letters, digits, hyphens and underscores of ASCII.
func validUID(text string, limit int) bool {
	if text == "" || len(text) > limit {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// User is a user of an app. Times are Unix seconds, 0 for never.
type User struct {
	UID           UID
	Name          string
	Avatar        string
	Link          string
	Role          string
	StatusMessage string
	// Metadata is a compact JSON object. Empty means none.
	Metadata json.RawMessage `json:",omitempty"`
	Tags     []string

	CreatedAt     int64
	UpdatedAt     int64
	LastActiveAt  int64
	DeactivatedAt int64
}

// NewUser is what CreateUser needs. UID and Name are required.
type NewUser struct {
	UID           string
	Name          string
	Avatar        string
	Link          string
	Role          string // empty means DefaultRole
	StatusMessage string
	Metadata      json.RawMessage
	Tags          []string
	// WithAuthToken also mints a first auth token.
	WithAuthToken bool
}

// CreatedUser is a new user, with a first token when one was asked for.
type CreatedUser struct {
	User  User
	Token Token
}

// UserPatch holds the fields to change. Nil fields stay as they are; a pointer to an empty value clears avatar, link,
// status message, metadata and tags.
type UserPatch struct {
	Name          *string
	Avatar        *string
	Link          *string
	Role          *string
	StatusMessage *string
	Metadata      *json.RawMessage
	Tags          *[]string
}

// mayCreateUsers tells whether a caller may create users. Errors: CodeNoAccess.
func (d *Directory) mayCreateUsers(ctx context.Context, caller Caller) error {
	if !caller.hasAuthOnlyKey() {
		return nil
	}
	policy, err := d.Policy(ctx, caller.App)
	if err == nil && policy.App.Settings.DenyUserCreationByAuthOnlyKeys {
		err = fail(CodeNoAccess, "This app's authOnly keys may not create users. Use a fullAccess key.")
	}
	return err
}

// CreateUser adds a user. A caller that may not see private metadata does not write any. Errors: CodeBadRequest,
// CodeUserExists (also for a deactivated user's uid), CodeRoleNotFound, CodeNoAccess for a caller that may not create
// users, or not give the role.
func (d *Directory) CreateUser(ctx context.Context, caller Caller, wanted NewUser) (CreatedUser, error) {
	if err := d.mayCreateUsers(ctx, caller); err != nil {
		return CreatedUser{}, err
	}
	user := User{
		UID: FoldUID(wanted.UID), Name: wanted.Name, Avatar: wanted.Avatar, Link: wanted.Link, Role: wanted.Role,
		StatusMessage: wanted.StatusMessage, Metadata: wanted.Metadata, Tags: wanted.Tags,
	}
	user = caller.show(user)
	if err := d.checkNewUser(wanted.UID, &user); err != nil {
		return CreatedUser{}, err
	}
	created, err := write(ctx, d, caller, []UID{user.UID}, func(tx Writer, log *logbook) (CreatedUser, error) {
		if _, exists, err := tx.User(caller.App, user.UID); err != nil {
			return CreatedUser{}, err
		} else if exists {
			return CreatedUser{}, errUserExists(user.UID)
		}
		if err := requireRole(tx, caller.App, user.Role); err != nil {
			return CreatedUser{}, err
		}
		if err := maySetRole(tx, caller, DefaultRole, user.Role); err != nil {
			return CreatedUser{}, err
		}
		created := CreatedUser{User: user}
		created.User.CreatedAt = log.at
		if err := d.addUser(tx, log, created.User); err != nil || !wanted.WithAuthToken {
			return created, err
		}
		var err error
		created.Token, err = d.mint(tx, log, caller, user.UID, Device{})
		return created, err
	})
	created.User = caller.show(created.User)
	return created, err
}

// maySetRole tells whether a caller may give a user, who has a role, another one. Errors: CodeNoAccess.
func maySetRole(tx Writer, caller Caller, has, wanted string) error {
	if wanted == has || !caller.hasAuthOnlyKey() {
		return nil
	}
	app, err := requireApp(tx, caller.App)
	if err == nil && app.Settings.DenyRolesByAuthOnlyKeys {
		err = fail(CodeNoAccess, "This app's authOnly keys may not give users a role. Use a fullAccess key.")
	}
	return err
}

// checkNewUser checks everything of a user to be made, whose uid is spelled rawUID, and gives it the default role if it
// has none.
func (d *Directory) checkNewUser(rawUID string, user *User) error {
	user.Role = strings.ToLower(user.Role)
	if user.Role == "" {
		user.Role = DefaultRole
	}
	var wrong FieldErrors
	switch {
	case strings.TrimSpace(rawUID) == "":
		wrong.Add("uid", "The uid field is required.")
	case !validUID(rawUID, d.limits.UID):
		wrong.Add("uid", "The uid may hold letters, digits, - and _, at most %d of them.", d.limits.UID)
	}
	d.checkUser(&wrong, user)
	return wrong.Err()
}

func (d *Directory) addUser(tx Writer, log *logbook, user User) error {
	if err := tx.PutUser(log.app, user); err != nil {
		return err
	}
	return log.append(UserCreated, string(user.UID))
}

// checkUser checks everything of a user but the uid, and compacts the metadata.
func (d *Directory) checkUser(wrong *FieldErrors, user *User) {
	d.checkName(wrong, user.Name)
	if user.Avatar != "" {
		d.checkURL(wrong, "avatar", user.Avatar)
	}
	if user.Link != "" {
		d.checkURL(wrong, "link", user.Link)
	}
	if !validUID(user.Role, d.limits.UID) {
		wrong.Add("role", "The role must be the id of a role of this app.")
	}
	checkText(wrong, "statusMessage", user.StatusMessage, d.limits.StatusMessage, "\n\r\t")
	if len(user.Metadata) > 0 {
		user.Metadata = d.checkMetadata(wrong, "metadata", user.Metadata)
	}
	d.checkTags(wrong, user.Tags)
}

func (d *Directory) checkTags(wrong *FieldErrors, tags []string) {
	if len(tags) > d.limits.Tags {
		wrong.Add("tags", "The tags may not be more than %d.", d.limits.Tags)
		return
	}
	for i, tag := range tags {
		field := "tags." + strconv.Itoa(i)
		switch {
		case IsBlank(tag):
			wrong.Add(field, "The %s field must have a value.", field)
		case slices.Contains(tags[:i], tag):
			wrong.Add(field, "The %s field is given twice.", field)
		default:
			checkText(wrong, field, tag, d.limits.Tag, "")
		}
	}
}

// requireUser returns an active user. sent is the uid as the caller spelled it.
func requireUser(tx Reader, app AppID, uid UID, sent string) (User, error) {
	user, found, err := tx.User(app, uid)
	switch {
	case err != nil:
	case !found:
		err = ErrUserNotFound(strings.ToLower(sent))
	case user.DeactivatedAt != 0:
		err = errDeactivated(user, strings.ToLower(sent))
	}
	return user, err
}

// UpdateUser changes the fields that patch sets, and returns the user as the caller may see it. A patch that changes
// nothing adds no revision and leaves UpdatedAt. A caller that may not see private metadata does not change it either.
// Errors: CodeUserNotFound, CodeRoleNotFound, CodeBadRequest, CodeNoAccess for a role that the caller may not give.
func (d *Directory) UpdateUser(ctx context.Context, caller Caller, rawUID string, patch UserPatch) (User, error) {
	uid := FoldUID(rawUID)
	user, err := write(ctx, d, caller, []UID{uid}, func(tx Writer, log *logbook) (User, error) {
		user, err := requireUser(tx, caller.App, uid, rawUID)
		if err != nil {
			return User{}, err
		}
		if !caller.Private {
			patch = patch.keepingPrivate(user)
		}
		if patch.Role != nil {
			if err := maySetRole(tx, caller, user.Role, strings.ToLower(*patch.Role)); err != nil {
				return User{}, err
			}
		}
		return d.patchUser(tx, log, user, patch)
	})
	return caller.show(user), err
}

func (d *Directory) patchUser(tx Writer, log *logbook, user User, patch UserPatch) (User, error) {
	return d.changeUser(tx, log, user, func(user *User) []string {
		changed := patch.apply(user)
		if len(changed) > 0 {
			user.UpdatedAt = log.at
		}
		return changed
	})
}

// changeUser applies a change, which returns the names of the fields it changed, and stores the user if there are any.
func (d *Directory) changeUser(tx Writer, log *logbook, user User, change func(*User) []string) (User, error) {
	changed := change(&user)
	if len(changed) == 0 {
		return user, nil
	}
	var wrong FieldErrors
	d.checkUser(&wrong, &user)
	if err := wrong.Err(); err != nil {
		return User{}, err
	}
	if slices.Contains(changed, "role") {
		if err := requireRole(tx, log.app, user.Role); err != nil {
			return User{}, err
		}
	}
	if err := tx.PutUser(log.app, user); err != nil {
		return User{}, err
	}
	return user, log.append(UserUpdated, string(user.UID), changed...)
}

func (p UserPatch) apply(user *User) (changed []string) {
	for _, field := range []struct {
		name   string
		stored *string
		value  *string
	}{
		{"name", &user.Name, p.Name},
		{"avatar", &user.Avatar, p.Avatar},
		{"link", &user.Link, p.Link},
		{"statusMessage", &user.StatusMessage, p.StatusMessage},
	} {
		if field.value != nil {
			setField(&changed, field.name, field.stored, *field.value)
		}
	}
	if p.Role != nil {
		setField(&changed, "role", &user.Role, strings.ToLower(*p.Role))
	}
	if p.Metadata != nil && !sameJSON(*p.Metadata, user.Metadata) {
		user.Metadata = *p.Metadata
		changed = append(changed, "metadata")
	}
	if p.Tags != nil && !slices.Equal(*p.Tags, user.Tags) {
		user.Tags = *p.Tags
		changed = append(changed, "tags")
	}
	return changed
}

// GetUser returns an active user as the caller may see it. viewer is the acting user, if there is one.
// Errors: CodeUserNotFound, CodePermissionDenied.
func (d *Directory) GetUser(
	ctx context.Context, caller Caller, policy *Policy, viewer User, rawUID string,
) (Seen, error) {
	if err := policy.mayUse(caller, viewer, FeatureGetUser); err != nil {
		return Seen{}, err
	}
	uid := FoldUID(rawUID)
	var user User
	found := Seen{User: &user, Present: true}
	err := d.store.View(ctx, func(tx Reader) (err error) {
		if user, err = requireUser(tx, caller.App, uid, rawUID); err == nil && caller.User != "" && caller.User != uid {
			found.Relation, err = relationTo(tx, caller.App, caller.User, uid)
		}
		return err
	})
	if err != nil {
		return Seen{}, err
	}
	user = caller.show(user)
	if caller.User == "" {
		return found, nil
	}
	visibility := policy.see(viewer, user, found.Relation)
	if !visibility.Detailed {
		return Seen{}, ErrUserNotFound(strings.ToLower(rawUID)) // as if there were none
	}
	found.Present = visibility.Presence
	return found, nil
}

// GetUserOrDeactivated is GetUser, but gives who may know everything of a user a deactivated one too.
func (d *Directory) GetUserOrDeactivated(
	ctx context.Context, caller Caller, policy *Policy, viewer User, rawUID string,
) (Seen, error) {
	found, err := d.GetUser(ctx, caller, policy, viewer, rawUID)
	if !caller.Private || !IsCode(err, CodeUserNotFound) {
		return found, err
	}
	user, err := d.anyUser(ctx, caller, rawUID)
	return Seen{User: &user, Present: true}, err
}

// anyUser returns a user, active or deactivated. Errors: CodeUserNotFound.
func (d *Directory) anyUser(ctx context.Context, caller Caller, rawUID string) (user User, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		var found bool
		if user, found, err = tx.User(caller.App, FoldUID(rawUID)); err != nil || !found {
			return orNotFound(err, FoldUID(rawUID))
		}
		return nil
	})
	return caller.show(user), err
}

// LookUpUsers returns the active users among uids as the caller may see them, in the order asked for and once each,
// and the uids of the others as they were sent. viewer is the acting user, if there is one.
// Errors: CodeBadRequest for too many, CodePermissionDenied.
func (d *Directory) LookUpUsers(
	ctx context.Context, caller Caller, policy *Policy, viewer User, uids []string,
) (found []Seen, missing []string, err error) {
	if err := policy.mayUse(caller, viewer, FeatureGetUser); err != nil {
		return nil, nil, err
	}
	return d.lookUp(ctx, caller, policy, viewer, uids)
}

// QueryPresence is LookUpUsers for who wants to know whether the users are online, which is part of listing users.
func (d *Directory) QueryPresence(
	ctx context.Context, caller Caller, policy *Policy, viewer User, uids []string,
) (found []Seen, missing []string, err error) {
	if err := policy.mayUse(caller, viewer, FeatureListUsers); err != nil {
		return nil, nil, err
	}
	return d.lookUp(ctx, caller, policy, viewer, uids)
}

func (d *Directory) lookUp(
	ctx context.Context, caller Caller, policy *Policy, viewer User, uids []string,
) (found []Seen, missing []string, err error) {
	if err := d.checkBatch("uids", len(uids)); err != nil {
		return nil, nil, err
	}
	err = d.store.View(ctx, func(tx Reader) error {
		found, missing = nil, nil
		asked := map[UID]string{} // as they were sent
		var users []User
		for _, sent := range uids {
			uid := FoldUID(sent)
			if _, again := asked[uid]; again {
				continue
			}
			asked[uid] = sent
			user, exists, err := tx.User(caller.App, uid)
			if err != nil {
				return err
			}
			if !exists || user.DeactivatedAt != 0 {
				missing = append(missing, sent)
				continue
			}
			users = append(users, caller.show(user))
		}
		relations, err := relationsTo(tx, caller.App, caller.User, users)
		for _, item := range seen(caller.User, users, relations) {
			if caller.User != "" && !policy.see(viewer, *item.User, item.Relation).Detailed {
				missing = append(missing, asked[item.UID])
				continue
			}
			found = append(found, item)
		}
		return err
	})
	return found, missing, err
}

// Activation says what a bulk deactivation or reactivation did. Unknown uids are spelled as they were sent.
type Activation struct {
	Changed  []string
	Already  []string
	NotFound []string
	// Sockets is how many live sockets were closed.
	Sockets int
}

// DeactivateUsers hides users everywhere and suspends their auth tokens, keeping everything they have.
// Errors: CodeBadRequest for too many uids. Unknown and deactivated ones are reported, not refused.
func (d *Directory) DeactivateUsers(ctx context.Context, caller Caller, uids []string) (Activation, error) {
	return d.setActive(ctx, caller, "uidsToDeactivate", uids, UserDeactivated)
}

// ReactivateUsers takes back DeactivateUsers: the users and their auth tokens work again. Errors: CodeBadRequest.
func (d *Directory) ReactivateUsers(ctx context.Context, caller Caller, uids []string) (Activation, error) {
	return d.setActive(ctx, caller, "uidsToActivate", uids, UserReactivated)
}

func (d *Directory) setActive(
	ctx context.Context, caller Caller, field string, uids []string, kind Kind,
) (Activation, error) {
	if err := d.checkBulk(field, uids); err != nil {
		return Activation{}, err
	}
	return activate(ctx, d, caller, func(tx Writer, log *logbook) (Activation, error) {
		var done Activation
		for _, sent := range uids {
			user, found, err := tx.User(caller.App, FoldUID(sent))
			if err != nil {
				return done, err
			}
			if !found {
				done.NotFound = append(done.NotFound, sent)
				continue
			}
			uid := string(user.UID)
			if slices.Contains(done.Changed, uid) {
				continue
			}
			if (user.DeactivatedAt != 0) == (kind == UserDeactivated) {
				done.Already = append(done.Already, uid)
				continue
			}
			user.DeactivatedAt = 0
			if kind == UserDeactivated {
				user.DeactivatedAt = log.at
			}
			if err := tx.PutUser(caller.App, user); err != nil {
				return done, err
			}
			if err := log.append(kind, uid, "deactivatedAt"); err != nil {
				return done, err
			}
			done.Changed = append(done.Changed, uid)
		}
		return done, nil
	})
}

// activate makes a change of who is active, and counts the sockets that it closed.
func activate(
	ctx context.Context, d *Directory, caller Caller, fn func(tx Writer, log *logbook) (Activation, error),
) (Activation, error) {
	done, sockets, err := writeCounting(ctx, d, caller, nil, fn)
	done.Sockets = sockets
	return done, err
}

// DeactivateUser deactivates one user. Errors: CodeUserNotFound, also for one that is deactivated already.
func (d *Directory) DeactivateUser(ctx context.Context, caller Caller, rawUID string) (Activation, error) {
	return activate(ctx, d, caller, func(tx Writer, log *logbook) (Activation, error) {
		user, err := requireUser(tx, caller.App, FoldUID(rawUID), rawUID)
		if err != nil {
			return Activation{}, err
		}
		user.DeactivatedAt = log.at
		if err := tx.PutUser(caller.App, user); err != nil {
			return Activation{}, err
		}
		return Activation{Changed: []string{string(user.UID)}}, log.append(UserDeactivated, string(user.UID), "deactivatedAt")
	})
}
