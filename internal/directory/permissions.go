package directory

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// DataType is the form of a permission's value.
type DataType string

// The data types of contract rest.md section 4.3.
const (
	TypeString           DataType = "string"
	TypeStringArray      DataType = "stringArray"
	TypeRolesStringArray DataType = "rolesStringArray"
	TypeCustomArray      DataType = "customStringArray"
)

// Permission defines one permission that a role may set.
type Permission struct {
	ID          string
	Title       string
	Description string
	DataType    DataType
	// Available lists the values allowed; empty means any.
	Available []string
	// Default is the value in force when the role sets none: a string, or nothing for an unrestricted list.
	Default string
}

// The permissions that the calls of this server ask for.
const (
	permListUsers           = "listUsers"
	permListUsersMode       = "listUsers.mode"
	permListUsersRoles      = "listUsers.allowedRoles"
	permUserDetailsMode     = "getUserDetails.mode"
	permUserDetailsRoles    = "getUserDetails.allowedRoles"
	permSendMessage         = "sendMessage"
	permSendMessageMode     = "sendMessage.mode"
	permSendMessageRoles    = "sendMessage.allowedReceiverRoles"
	denied                  = "deny"
	modeFriends             = "friends"
	maxPermissionListLength = 100
)

// permissions are the definitions of contract rest.md section 4.3. Those about messages, groups and calls are kept
// for the app's own messaging layer to ask for; this server enforces the ones about users.
var permissions = definePermissions()

func definePermissions() []Permission {
	allowDeny := func(id, title, what string) Permission {
		return Permission{
			ID: id, Title: title, Description: "Whether users with this role may " + what + ".", DataType: TypeString,
			Available: []string{"allow", denied}, Default: "allow",
		}
	}
	mode := func(id, title, what string) Permission {
		return Permission{
			ID: id, Title: title, Description: "Whether users with this role may " + what + " everybody or friends only.",
			DataType: TypeString, Available: []string{"all", modeFriends}, Default: "all",
		}
	}
	list := func(id, title, what string, dataType DataType, available ...string) Permission {
		return Permission{
			ID: id, Title: title, Description: "Limits users with this role to " + what + ". An empty list is no limit.",
			DataType: dataType, Available: available,
		}
	}
	groupTypes := []string{"public", "private", "password"}
	scopes := []string{"admin", "moderator", "participant"}
	categories := []string{"message", "custom", "action", "call", "interactive"}
	types := []string{"text", "image", "video", "audio", "file"}
	return []Permission{
		allowDeny(permListUsers, "List users", "list users"),
		mode(permListUsersMode, "List users: whom", "list"),
		list(permListUsersRoles, "List users: roles", "listing users with these roles", TypeRolesStringArray),
		mode(permUserDetailsMode, "User details: whom", "get the details of"),
		list(permUserDetailsRoles, "User details: roles", "the details of users with these roles", TypeRolesStringArray),
		allowDeny(permSendMessage, "Send messages", "send messages"),
		mode(permSendMessageMode, "Send messages: whom", "send messages to"),
		list(
			"sendMessage.allowedReceiverTypes", "Send messages: receiver types", "these receiver types", TypeStringArray, "user",
			"group",
		),
		list(permSendMessageRoles, "Send messages: receiver roles", "receivers with these roles", TypeRolesStringArray),
		list("sendMessage.allowedMessageTypes", "Send messages: types", "messages of these types", TypeStringArray, types...),
		list(
			"sendMessage.allowedMessageCategories", "Send messages: categories", "messages of these categories", TypeStringArray,
			categories...,
		),
		list("sendMessage.allowedCustomTypes", "Send messages: custom types", "these custom message types", TypeCustomArray),
		list("sendMessage.allowedMimeTypes", "Send messages: MIME types", "files of these MIME types", TypeCustomArray),
		allowDeny("editMessage", "Edit messages", "edit messages"),
		list(
			"editMessage.denyForScopes", "Edit messages: denied scopes", "scopes other than these", TypeStringArray, scopes...,
		),
		allowDeny("deleteMessage", "Delete messages", "delete messages"),
		list(
			"deleteMessage.denyForScopes", "Delete messages: denied scopes", "scopes other than these", TypeStringArray,
			scopes...,
		),
		allowDeny("initiateCall", "Call", "call"),
		mode("initiateCall.mode", "Call: whom", "call"),
		list(
			"initiateCall.allowedReceiverRoles", "Call: receiver roles", "calling users with these roles", TypeRolesStringArray,
		),
		allowDeny("createGroup", "Create groups", "create groups"),
		list(
			"createGroup.allowedGroupTypes", "Create groups: types", "groups of these types", TypeStringArray, groupTypes...,
		),
		allowDeny("listGroups", "List groups", "list groups"),
		list("listGroups.allowedGroupTypes", "List groups: types", "groups of these types", TypeStringArray, groupTypes...),
		allowDeny("joinGroup", "Join groups", "join groups"),
		list("joinGroup.allowedGroupTypes", "Join groups: types", "groups of these types", TypeStringArray, groupTypes...),
		list(
			"listMessages.allowedMessageCategories", "List messages: categories", "messages of these categories",
			TypeStringArray, categories...,
		),
		list(
			"listMessages.allowedMessageTypes", "List messages: types", "messages of these types", TypeStringArray, types...,
		),
	}
}

// Permissions returns the definitions of all permissions.
func Permissions() []Permission { return slices.Clone(permissions) }

func permissionByID(id string) (Permission, bool) {
	i := slices.IndexFunc(permissions, func(p Permission) bool { return p.ID == id })
	if i < 0 {
		return Permission{}, false
	}
	return permissions[i], true
}

// SetPermissions sets permissions of a role by id. A null or empty list removes a restriction. Unknown ids and wrong
// values are reported per id; the others are set. Errors: CodeRoleNotFound.
func (d *Directory) SetPermissions(
	ctx context.Context, caller Caller, id string, values map[string]json.RawMessage,
) ([]Outcome, Role, error) {
	type result struct {
		Outcomes []Outcome
		Role     Role
	}
	done, err := write(ctx, d, caller, nil, func(tx Writer, log *logbook) (result, error) {
		var outcomes []Outcome
		roles, err := tx.Roles(caller.App)
		if err != nil {
			return result{}, err
		}
		role, err := d.changeRoleIn(tx, log, id, func(role *Role) (changed []string) {
			for _, permissionID := range slices.Sorted(maps.Keys(values)) {
				value, reason := checkPermission(permissionID, values[permissionID], roles)
				outcomes = append(outcomes, outcome(permissionID, reason))
				if reason != "" || sameJSON(role.Permissions[permissionID], value) {
					continue
				}
				if role.Permissions == nil {
					role.Permissions = map[string]json.RawMessage{}
				}
				role.Permissions[permissionID] = value
				changed = append(changed, "permissions."+permissionID)
			}
			return changed
		})
		return result{outcomes, role}, err
	})
	return done.Outcomes, done.Role, err
}

// outcome is a success without a reason and a bad request with one.
func outcome(id, reason string) Outcome {
	if reason == "" {
		return Outcome{ID: id}
	}
	return Outcome{ID: id, Err: fail(CodeBadRequest, "%s", reason)}
}

// checkPermission returns the value to keep, or why it is refused.
func checkPermission(id string, value json.RawMessage, roles []Role) (json.RawMessage, string) {
	permission, known := permissionByID(id)
	if !known {
		return nil, "There is no permission with this id."
	}
	if permission.DataType == TypeString {
		var text string
		if json.Unmarshal(value, &text) != nil || !slices.Contains(permission.Available, text) {
			return nil, "The value must be one of: " + strings.Join(permission.Available, ", ") + "."
		}
		return value, ""
	}
	if string(value) == "null" {
		return json.RawMessage("[]"), ""
	}
	var list []string
	if json.Unmarshal(value, &list) != nil || len(list) > maxPermissionListLength {
		return nil, "The value must be a list of at most 100 texts."
	}
	for _, item := range list {
		switch {
		case permission.DataType == TypeRolesStringArray && !slices.ContainsFunc(roles, func(r Role) bool { return r.ID == strings.ToLower(item) }):
			return nil, "There is no role " + item + "."
		case permission.DataType == TypeStringArray && !slices.Contains(permission.Available, item):
			return nil, "The values must be among: " + strings.Join(permission.Available, ", ") + "."
		case item == "" || len(item) > 100 || hasControl(item, ""):
			return nil, "The values must be texts of 1 to 100 characters."
		}
	}
	if permission.DataType == TypeRolesStringArray {
		for i := range list {
			list[i] = strings.ToLower(list[i])
		}
	}
	kept, err := json.Marshal(list)
	if err != nil {
		return nil, "The value must be a list of texts."
	}
	return kept, ""
}

// changeRoleIn is changeRole within an update that does more.
func (d *Directory) changeRoleIn(tx Writer, log *logbook, id string, change func(role *Role) []string) (Role, error) {
	role, err := getRole(tx, log.app, id)
	if err != nil {
		return Role{}, err
	}
	role.Permissions, role.Restricted = maps.Clone(role.Permissions), maps.Clone(role.Restricted)
	changed := change(&role)
	if len(changed) == 0 {
		return role, nil
	}
	role.UpdatedAt = log.at
	if err := tx.PutRole(log.app, role); err != nil {
		return Role{}, err
	}
	return role, log.append(RoleUpdated, role.ID, changed...)
}

// DeletePermission puts a permission of a role back to its default. Errors: CodeRoleNotFound, CodeBadRequest.
func (d *Directory) DeletePermission(ctx context.Context, caller Caller, id, permission string) (Role, error) {
	if _, known := permissionByID(permission); !known {
		return Role{}, FieldErrors{"permission": {"There is no permission with this id."}}.Err()
	}
	return d.changeRole(ctx, caller, id, func(role *Role, _ int64) ([]string, error) {
		if _, set := role.Permissions[permission]; !set {
			return nil, nil
		}
		delete(role.Permissions, permission)
		return []string{"permissions." + permission}, nil
	})
}
