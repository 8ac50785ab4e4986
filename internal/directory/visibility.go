package directory

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/rollcall/rollcall/internal/userindex"
)

// Visibility is what a viewer may see of a subject, and do about it.
type Visibility struct {
	// Listed says that the subject appears in lists and searches, Detailed that it may be looked up.
	Listed, Detailed bool
	// Presence says that the viewer sees whether the subject is online and when it was last active, and hears of it.
	Presence bool
	// Contact says that the viewer may write to the subject or call it.
	Contact bool
	// Rule names what decided, for people.
	Rule string
}

// Visible reports whether the subject is there at all for the viewer.
func (s Visibility) Visible() bool { return s.Listed || s.Detailed }

// The rules that decide about a Visibility.
const (
	RuleViewerGone   = "viewer deactivated"
	RuleSelf         = "self"
	RuleDeactivated  = "subject deactivated"
	RuleUnknownRole  = "viewer's role is not known"
	RuleFriendsOnly  = "role sees friends only"
	RuleAllowedRoles = "role sees other roles only"
	RuleBlockedByMe  = "viewer blocked subject"
	RuleHasBlockedMe = "subject blocked viewer"
	RuleContact      = "role may not contact"
	RuleFriend       = "friend"
	RuleNone         = "nothing in the way"
)

// see is the one policy of who sees whom (lists apply it by narrow, in the form of a query).
func (p *Policy) see(viewer, subject User, relation Relation) Visibility {
	if viewer.DeactivatedAt != 0 {
		return Visibility{Rule: RuleViewerGone}
	}
	if viewer.UID == subject.UID {
		return Visibility{Listed: true, Detailed: true, Presence: true, Contact: true, Rule: RuleSelf}
	}
	if subject.DeactivatedAt != 0 {
		return Visibility{Rule: RuleDeactivated}
	}
	reach := p.reachOf(viewer)
	friend := relation.FriendsSince != 0
	listed := allows(reach.listed, subject.Role) && !reach.listDenied
	detailed := allows(reach.detailed, subject.Role) && !reach.detailsDenied && (friend || !reach.detailsOfFriendsOnly)
	visibility := Visibility{Listed: listed, Detailed: detailed, Presence: true, Contact: true, Rule: RuleNone}
	switch {
	case reach.unknown:
		return Visibility{Rule: RuleUnknownRole}
	case reach.friendsOnly && !friend:
		return Visibility{Rule: RuleFriendsOnly}
	case !listed && !detailed:
		return Visibility{Rule: RuleAllowedRoles}
	case relation.BlockedByMeAt != 0:
		visibility.Presence, visibility.Contact, visibility.Rule = false, false, RuleBlockedByMe
	case relation.HasBlockedMeAt != 0:
		visibility.Presence, visibility.Contact, visibility.Rule = false, false, RuleHasBlockedMe
	case reach.contactDenied, reach.contactFriendsOnly && !friend, !allows(reach.contacted, subject.Role):
		visibility.Contact, visibility.Rule = false, RuleContact
	case friend:
		visibility.Rule = RuleFriend
	}
	return visibility
}

func allows(roles []string, role string) bool { return len(roles) == 0 || slices.Contains(roles, role) }

// reach is how far the role of a viewer lets it see and act: the part of the policy that does not depend on the
// subject.
type reach struct {
	// unknown: there is no such role, so nobody knows what it may see.
	unknown bool
	// listDenied and detailsDenied: the viewer may not ask for lists, or not look up anybody, at all.
	listDenied, detailsDenied bool
	// friendsOnly: only friends exist for the viewer.
	friendsOnly bool
	// detailsOfFriendsOnly: only friends may be looked up one by one.
	detailsOfFriendsOnly bool
	// contactDenied and contactFriendsOnly: nobody, or only friends, may be written to.
	contactDenied, contactFriendsOnly bool
	// listed, detailed and contacted are the roles of the users that may be listed, looked up and written to; empty is
	// all.
	listed, detailed, contacted []string
}

func (p *Policy) reachOf(viewer User) reach {
	role, known := p.roles[viewer.Role]
	return reach{
		unknown:              !known,
		listDenied:           role.text(permListUsers) == denied || p.restricts(viewer.Role, FeatureListUsers),
		detailsDenied:        p.restricts(viewer.Role, FeatureGetUser),
		friendsOnly:          role.Settings.ListUsers == friendsOnly || role.text(permListUsersMode) == modeFriends,
		detailsOfFriendsOnly: role.text(permUserDetailsMode) == modeFriends,
		contactDenied:        role.text(permSendMessage) == denied,
		contactFriendsOnly:   role.Settings.SendMessagesTo == friendsOnly || role.text(permSendMessageMode) == modeFriends,
		listed:               role.list(permListUsersRoles),
		detailed:             role.list(permUserDetailsRoles),
		contacted:            role.list(permSendMessageRoles),
	}
}

// narrow limits a query to what the viewer may list. It returns false when that is nobody.
// Errors: CodePermissionDenied.
func (p *Policy) narrow(viewer User, query *userQuery) (bool, error) {
	reach := p.reachOf(viewer)
	if reach.listDenied || reach.unknown {
		return false, fail(CodePermissionDenied, "Users with your role may not list users.")
	}
	query.Without, query.Activity = append(query.Without, string(viewer.UID)), userindex.ActiveOnly
	if reach.friendsOnly {
		query.related = append(query.related, Related{To: viewer.UID, Friends: true})
	}
	switch {
	case len(reach.listed) == 0:
	case query.roles == nil:
		query.roles = reach.listed
	default:
		query.roles = slices.DeleteFunc(query.roles, func(role string) bool { return !slices.Contains(reach.listed, role) })
		return len(query.roles) > 0, nil
	}
	return true, nil
}

// narrowBlockers is narrow for those who have blocked the viewer.
func (p *Policy) narrowBlockers(viewer User, related Related) Related {
	reach := p.reachOf(viewer)
	related.Blockers = related.Blockers && !reach.listDenied && !reach.unknown
	related.BlockersAmongFriends, related.BlockersOfRoles = reach.friendsOnly, reach.listed
	return related
}

// Explanation is how the policy decided about a viewer and a subject.
type Explanation struct {
	Viewer, Subject User
	Relation        Relation
	Visibility      Visibility
}

// ExplainVisibility tells what a user may see of another, and why. Errors: CodeUserNotFound for either; one who is
// deactivated is explained.
func (d *Directory) ExplainVisibility(
	ctx context.Context, caller Caller, policy *Policy, rawViewer, rawSubject string,
) (Explanation, error) {
	var e Explanation
	err := d.store.View(ctx, func(tx Reader) (err error) {
		var found bool
		if e.Viewer, found, err = tx.User(caller.App, FoldUID(rawViewer)); err != nil || !found {
			return orNotFound(err, FoldUID(rawViewer))
		}
		if e.Subject, found, err = tx.User(caller.App, FoldUID(rawSubject)); err != nil || !found {
			return orNotFound(err, FoldUID(rawSubject))
		}
		e.Relation, err = relationTo(tx, caller.App, e.Viewer.UID, e.Subject.UID)
		return err
	})
	e.Visibility = policy.see(e.Viewer, e.Subject, e.Relation)
	e.Viewer, e.Subject = caller.show(e.Viewer), caller.show(e.Subject)
	return e, err
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

// HasFriendsOnlyRoles reports whether somebody of the app sees friends only, or more of them than of others.
func (p *Policy) HasFriendsOnlyRoles() bool {
	for _, role := range p.roles {
		if reach := p.reachOf(User{Role: role.ID}); reach.friendsOnly || reach.detailsOfFriendsOnly {
			return true
		}
	}
	return false
}
