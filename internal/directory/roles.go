package directory

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/userindex"
)

// DefaultRole is the role of users that were given none. It always exists.
const DefaultRole = "default"

// Role is a role that users of an app may have; each has exactly one.
type Role struct {
	ID          string
	Name        string
	Description string
	Metadata    json.RawMessage `json:",omitempty"`
	Settings    RoleSettings
	// Permissions holds the explicitly set permissions by id, as JSON values.
	Permissions map[string]json.RawMessage
	// Restricted holds the features that users with the role may not use, with the time that was said.
	Restricted map[string]int64
	CreatedAt  int64
	UpdatedAt  int64
}

// RoleSettings are the settings of contract rest.md section 4.1. Each is "all", "friendsOnly", or empty for "all".
type RoleSettings struct {
	ListUsers      string `json:"listUsers,omitempty"`
	SendMessagesTo string `json:"sendMessagesTo,omitempty"`
}

const friendsOnly = "friendsOnly"

var roleSettingValues = []string{"", "all", friendsOnly}

// RolePatch holds the fields to change. Nil fields stay as they are; a pointer to an empty value clears description,
// metadata and settings.
type RolePatch struct {
	Name        *string
	Description *string
	Metadata    *json.RawMessage
	Settings    *RoleSettings
}

func (d *Directory) checkRole(role *Role) error {
	var wrong FieldErrors
	switch {
	case strings.TrimSpace(role.ID) == "":
		wrong.Add("role", "The role field is required.")
	case !validUID(role.ID, d.limits.UID):
		wrong.Add("role", "The role may hold letters, digits, - and _, at most %d of them.", d.limits.UID)
	}
	d.checkName(&wrong, role.Name)
	checkText(&wrong, "description", role.Description, d.limits.RoleDescription, "\n\r\t")
	if len(role.Metadata) > 0 {
		role.Metadata = d.checkMetadata(&wrong, "metadata", role.Metadata)
	}
	checkOneOf(&wrong, "settings.listUsers", role.Settings.ListUsers, roleSettingValues)
	checkOneOf(&wrong, "settings.sendMessagesTo", role.Settings.SendMessagesTo, roleSettingValues)
	return wrong.Err()
}

func requireRole(tx Writer, app AppID, id string) error {
	if id == DefaultRole {
		return nil
	}
	_, err := getRole(tx, app, id)
	return err
}

func getRole(tx Reader, app AppID, id string) (Role, error) {
	role, found, err := tx.Role(app, strings.ToLower(id))
	if err == nil && !found {
		err = errRoleNotFound(id)
	}
	return role, err
}

// CreateRole adds a role. Errors: CodeBadRequest, CodeRoleExists, CodeQuota.
func (d *Directory) CreateRole(ctx context.Context, caller Caller, role Role) (Role, error) {
	if err := d.checkRole(&role); err != nil {
		return Role{}, err
	}
	role.ID = strings.ToLower(role.ID)
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (Role, error) {
		roles, err := tx.Roles(caller.App)
		if err != nil {
			return Role{}, err
		}
		for _, other := range roles {
			if other.ID == role.ID {
				return Role{}, &Error{
					Code:    CodeRoleExists,
					Message: "A role with the id " + role.ID + " exists already. Update it, or choose another id.",
					Details: map[string][]string{"role": {"The role has already been taken."}},
				}
			}
		}
		if len(roles) >= d.limits.RolesPerApp {
			return Role{}, errTooManyRoles(d.limits.RolesPerApp)
		}
		if err := dropReferences(tx, log, roles, role.ID); err != nil { // some of a time when deleted roles left theirs
			return Role{}, err
		}
		created := role
		created.CreatedAt = log.at
		if err := tx.PutRole(caller.App, created); err != nil {
			return Role{}, err
		}
		return created, log.append(RoleCreated, created.ID)
	})
}

func errTooManyRoles(most int) *Error {
	return fail(CodeQuota, "An app has at most %d roles. Delete one that is no longer used.", most)
}

// ListRoles lists the roles of the caller's app, oldest first.
func (d *Directory) ListRoles(ctx context.Context, caller Caller, page Page) (list List[Role], err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		roles, err := tx.Roles(caller.App)
		list = PageOf(roles, page)
		return err
	})
	return list, err
}

// GetRole returns a role. Errors: CodeRoleNotFound.
func (d *Directory) GetRole(ctx context.Context, caller Caller, id string) (role Role, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		role, err = getRole(tx, caller.App, id)
		return err
	})
	return role, err
}

// UpdateRole changes the fields that patch sets. Errors: CodeRoleNotFound, CodeBadRequest.
func (d *Directory) UpdateRole(ctx context.Context, caller Caller, id string, patch RolePatch) (Role, error) {
	return d.changeRole(ctx, caller, id, func(role *Role, _ int64) ([]string, error) {
		var changed []string
		if patch.Name != nil {
			setField(&changed, "name", &role.Name, *patch.Name)
		}
		if patch.Description != nil {
			setField(&changed, "description", &role.Description, *patch.Description)
		}
		if patch.Metadata != nil && !sameJSON(*patch.Metadata, role.Metadata) {
			role.Metadata = *patch.Metadata
			changed = append(changed, "metadata")
		}
		if patch.Settings != nil {
			setField(&changed, "settings", &role.Settings, *patch.Settings)
		}
		return changed, d.checkRole(role)
	})
}

// changeRole applies change to a role, and logs it when it names changed fields.
func (d *Directory) changeRole(
	ctx context.Context, caller Caller, id string, change func(role *Role, now int64) ([]string, error),
) (Role, error) {
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) (Role, error) {
		role, err := getRole(tx, caller.App, id)
		if err != nil {
			return Role{}, err
		}
		role.Permissions, role.Restricted = maps.Clone(role.Permissions), maps.Clone(role.Restricted)
		changed, err := change(&role, log.at)
		if err != nil || len(changed) == 0 {
			return role, err
		}
		role.UpdatedAt = log.at
		if err := tx.PutRole(caller.App, role); err != nil {
			return Role{}, err
		}
		return role, log.append(RoleUpdated, role.ID, changed...)
	})
}

// DeleteRole removes a role, gives its users the default role, and takes it out of the permissions of other roles, in
// one transaction. Errors: CodeRoleNotFound, CodeRoleDeleteDenied for the default role.
func (d *Directory) DeleteRole(ctx context.Context, caller Caller, id string) error {
	index, err := d.indexes.get(ctx, caller.App)
	if err != nil {
		return err
	}
	_, err = write(ctx, d, caller, nil, func(tx Writer, log *logbook) (struct{}, error) {
		role, err := getRole(tx, caller.App, id)
		if err != nil {
			return struct{}{}, err
		}
		if role.ID == DefaultRole {
			return struct{}{}, fail(
				CodeRoleDeleteDenied, "The default role cannot be deleted: users without another role have it.",
			)
		}
		if err := moveUsersToDefault(tx, log, index, role.ID); err != nil {
			return struct{}{}, err
		}
		roles, err := tx.Roles(caller.App)
		if err != nil {
			return struct{}{}, err
		}
		if err := dropReferences(tx, log, roles, role.ID); err != nil {
			return struct{}{}, err
		}
		if err := tx.DeleteRole(caller.App, role.ID); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, log.append(RoleDeleted, role.ID)
	})
	return err
}

// dropReferences takes a role that goes out of the permissions of the others, so that a later role of the same name is
// granted nothing. Where it was the only one that a permission names, the default role, which its users have from then
// on, takes its place: a list without any role would be no limit at all.
func dropReferences(tx Writer, log *logbook, roles []Role, gone string) error {
	for _, role := range roles {
		permissions, changed := withoutRole(role.Permissions, gone)
		if role.ID == gone || len(changed) == 0 {
			continue
		}
		role.Permissions, role.UpdatedAt = permissions, log.at
		if err := tx.PutRole(log.app, role); err != nil {
			return err
		}
		if err := log.append(RoleUpdated, role.ID, changed...); err != nil {
			return err
		}
	}
	return nil
}

// withoutRole returns permissions that do not name a role, and the fields in which that makes a difference.
func withoutRole(
	permissions map[string]json.RawMessage, gone string,
) (kept map[string]json.RawMessage, changed []string) {
	kept = maps.Clone(permissions)
	for _, id := range slices.Sorted(maps.Keys(permissions)) {
		permission, known := permissionByID(id)
		var named []string
		if !known || permission.DataType != TypeRolesStringArray || json.Unmarshal(permissions[id], &named) != nil ||
			!slices.Contains(named, gone) {
			continue
		}
		named = slices.DeleteFunc(named, func(role string) bool { return role == gone })
		if len(named) == 0 {
			named = []string{DefaultRole}
		}
		kept[id], _ = json.Marshal(named) // texts can always be encoded
		changed = append(changed, "permissions."+id)
	}
	return kept, changed
}

// moveUsersToDefault gives the default role to those who have a role: those whom the index finds, and those who were
// changed since the commit up to which it has come.
func moveUsersToDefault(tx Writer, log *logbook, index *builtIndex, role string) error {
	found, revision := index.With(userindex.Term{Kind: roleTerm, Value: role})
	uids := make([]UID, 0, len(found))
	for _, uid := range found {
		uids = append(uids, UID(uid))
	}
	for more := true; more; {
		changes, err := tx.Changes(log.app, revision, changesAtOnce)
		if err != nil {
			return err
		}
		for _, change := range changes {
			if user, _ := change.about(); user != "" {
				uids = append(uids, user)
			}
			revision = change.Revision
		}
		more = len(changes) == changesAtOnce
	}
	slices.Sort(uids)
	users, err := tx.UsersNamed(log.app, slices.Compact(uids))
	if err != nil {
		return err
	}
	for _, user := range users {
		if user.Role != role {
			continue
		}
		user.Role, user.UpdatedAt = DefaultRole, log.at
		if err := tx.PutUser(log.app, user); err != nil {
			return err
		}
		if err := log.append(UserUpdated, string(user.UID), "role"); err != nil {
			return err
		}
	}
	return nil
}

// changesAtOnce is how many changes are read together.
const changesAtOnce = 1000
