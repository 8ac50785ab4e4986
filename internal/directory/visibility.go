package directory

import (
	"encoding/json"
	"slices"
)

// reach is how far the role of a viewer lets it see: the part of the one policy that does not depend on the subject.
type reach struct {
	// listDenied: the viewer may not ask for lists at all.
	listDenied bool
	// friendsOnly: only friends exist for the viewer.
	friendsOnly bool
	// detailsOfFriendsOnly: only friends may be looked up one by one.
	detailsOfFriendsOnly bool
	// listed and detailed are the roles of the users that may be listed and looked up; empty is all.
	listed, detailed []string
}

func (p *Policy) reachOf(viewer User) reach {
	role := p.roles[viewer.Role]
	return reach{
		listDenied:           role.text(permListUsers) == denied,
		friendsOnly:          role.Settings.ListUsers == friendsOnly || role.text(permListUsersMode) == modeFriends,
		detailsOfFriendsOnly: role.text(permUserDetailsMode) == modeFriends,
		listed:               role.list(permListUsersRoles),
		detailed:             role.list(permUserDetailsRoles),
	}
}

// mayGet answers a logged-in user's wish to see another. What may not be seen does not exist for the viewer.
func (p *Policy) mayGet(viewer, subject User) error {
	reach := p.reachOf(viewer)
	visible := subject.DeactivatedAt == 0 && !reach.friendsOnly && !reach.detailsOfFriendsOnly &&
		(len(reach.detailed) == 0 || slices.Contains(reach.detailed, subject.Role))
	if !visible {
		return ErrUserNotFound(string(subject.UID))
	}
	return nil
}

// narrow limits a query to what the viewer may list. It returns false when that is nobody.
// Errors: CodePermissionDenied.
func (p *Policy) narrow(viewer User, query *UserQuery) (bool, error) {
	reach := p.reachOf(viewer)
	if reach.listDenied {
		return false, fail(CodePermissionDenied, "Users with your role may not list users.")
	}
	query.Order, query.NotUID, query.Activity = ByName, viewer.UID, ActiveOnly
	switch {
	case len(reach.listed) == 0:
	case len(query.Roles) == 0:
		query.Roles = reach.listed
	default:
		query.Roles = slices.DeleteFunc(query.Roles, func(role string) bool { return !slices.Contains(reach.listed, role) })
		if len(query.Roles) == 0 {
			return false, nil
		}
	}
	return !reach.friendsOnly, nil
}

// text returns the value of a permission of type string, empty when the role does not set it.
func (r Role) text(permission string) (value string) {
	if set, ok := r.Permissions[permission]; !ok || json.Unmarshal(set, &value) != nil {
		return ""
	}
	return value
}

// list returns the value of a permission that is a list; empty is no limit.
func (r Role) list(permission string) (values []string) {
	if set, ok := r.Permissions[permission]; !ok || json.Unmarshal(set, &values) != nil {
		return nil
	}
	return values
}
