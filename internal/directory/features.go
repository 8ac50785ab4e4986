package directory

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Feature is something a role may be kept from using (contract rest.md section 4.2).
type Feature string

// The features that this server's calls ask for.
const (
	FeatureListUsers    Feature = "u.listUsers"
	FeatureGetUser      Feature = "u.getUser"
	FeatureGetMe        Feature = "u.getMyDetails"
	FeatureUpdateMe     Feature = "u.updateAuthToken"
	FeatureLogout       Feature = "u.logout"
	FeatureListSettings Feature = "u.listSettings"
	FeatureBlock        Feature = "u.blockUser"
	FeatureUnblock      Feature = "u.unblockUser"
	FeatureListBlocked  Feature = "u.getBlockedUsers"
)

// knownFeature is a feature that a role may be kept from using.
type knownFeature struct {
	ID                 Feature
	Title, Description string
}

// userFeatures are those that this server's calls ask for.
var userFeatures = []knownFeature{
	{FeatureListUsers, "List users", "List and search the users of the app."},
	{FeatureGetUser, "Get a user", "Get the details of another user."},
	{FeatureGetMe, "Get my details", "Get one's own details."},
	{FeatureBlock, "Block users", "Block other users."},
	{FeatureUnblock, "Unblock users", "Unblock blocked users."},
	{FeatureListBlocked, "List blocked users", "List the users one has blocked."},
	{FeatureUpdateMe, "Update my details", "Update one's own profile."},
	{FeatureLogout, "Log out", "End one's own session."},
	{FeatureListSettings, "List settings", "Get the settings of the app."},
}

// knownFeatures are all that there are: those of messages, groups and calls are kept for the app's own messaging layer
// to ask for.
var knownFeatures = defineFeatures()

func defineFeatures() []knownFeature {
	known := slices.Clone(userFeatures)
	for _, other := range [][2]string{
		{"createMessage", "Send messages"},
		{"createMessageThread", "Reply to messages"},
		{"updateMessage", "Edit messages"},
		{"deleteMessage", "Delete messages"},
		{"getMessage", "Get a message"},
		{"listMessages", "List messages"},
		{"getUserMessages", "List messages with a user"},
		{"getGroupMessages", "List messages of a group"},
		{"deleteGroupMessages", "Delete messages of a group"},
		{"listThreadedMessages", "List replies"},
		{"getConversation", "Get a conversation"},
		{"listConversations", "List conversations"},
		{"deleteConversationForUser", "Delete one's own side of a conversation"},
		{"createGroup", "Create groups"},
		{"getGroup", "Get a group"},
		{"listGroups", "List groups"},
		{"updateGroup", "Edit groups"},
		{"deleteGroup", "Delete groups"},
		{"joinGroup", "Join groups"},
		{"leaveGroup", "Leave groups"},
		{"patchOwner", "Hand a group over"},
		{"addMember", "Add members to a group"},
		{"getMember", "Get a member of a group"},
		{"listGroupMembers", "List members of a group"},
		{"kickMember", "Kick members of a group"},
		{"changeScope", "Change the scope of a member"},
		{"massMemberOperate", "Manage many members at once"},
		{"ban", "Ban users from a group"},
		{"unban", "Unban users"},
		{"listBannedUsers", "List banned users"},
		{"createCall", "Call"},
		{"getCall", "Get a call"},
		{"listCalls", "List calls"},
		{"updateCall", "Change a call"},
		{"deleteCall", "Delete calls"},
		// What permissions call three of them.
		{"sendMessage", "Send messages"},
		{"editMessage", "Edit messages"},
		{"initiateCall", "Call"},
	} {
		known = append(known, knownFeature{
			Feature(userScope + other[0]), other[1], "Not enforced here: it is for your messaging layer to ask for.",
		})
	}
	return known
}

// userScope begins the names of features; they may be sent without it.
const userScope = "u."

// featureID returns the feature that a text names, in any capitals and with or without its scope.
func featureID(text string) (Feature, bool) {
	for _, feature := range knownFeatures {
		if strings.EqualFold(string(feature.ID), text) || strings.EqualFold(string(feature.ID), userScope+text) {
			return feature.ID, true
		}
	}
	return "", false
}

// IsEnforced reports whether this server keeps users from a feature that is restricted, by the id of the feature.
func IsEnforced(id string) bool {
	return slices.ContainsFunc(userFeatures, func(feature knownFeature) bool { return string(feature.ID) == id })
}

// DescribeFeature returns a feature's title and description for people.
func DescribeFeature(id string) (title, description string) {
	for _, feature := range knownFeatures {
		if string(feature.ID) == id {
			return feature.Title, feature.Description
		}
	}
	return id, ""
}

// noSuchFeature says that a text names no feature, and which one may be meant.
func noSuchFeature(text string) string {
	nearest, least := "", len(text)/3+1
	sent := strings.ToLower(strings.TrimPrefix(text, userScope))
	for _, feature := range knownFeatures {
		name := strings.TrimPrefix(string(feature.ID), userScope)
		for _, way := range []string{name, strings.ReplaceAll(feature.Title, " ", "")} {
			if distance := editDistance(sent, strings.ToLower(way)); distance < least {
				nearest, least = string(feature.ID), distance
			}
		}
	}
	if nearest == "" {
		return "There is no feature of this name."
	}
	return "There is no feature of this name. Is it " + nearest + "?"
}

// maxFeatureName bounds what is compared with the names of features, in bytes.
const maxFeatureName = 60

// editDistance returns how many bytes must be put in, taken out or changed to make one text of another.
func editDistance(a, b string) int {
	if len(a) > maxFeatureName {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := before
			if a[i] != b[j] {
				changed++
			}
			before = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// RestrictFeatures keeps users with a role from using features. Features of messages, groups and calls are kept for
// the app's own messaging layer: see IsEnforced. Each feature has an outcome of its own: CodeBadRequest for one that
// there is not.
// Errors: CodeRoleNotFound, CodeBadRequest for an empty list.
func (d *Directory) RestrictFeatures(
	ctx context.Context, caller Caller, id string, features []string,
) ([]Outcome, error) {
	if err := checkFeatureList("featuresToRestrict", features); err != nil {
		return nil, err
	}
	return write(ctx, d, caller, nil, func(tx Writer, log *logbook) ([]Outcome, error) {
		var outcomes []Outcome
		_, err := d.changeRoleIn(tx, log, id, func(role *Role) (changed []string) {
			for _, sent := range features {
				feature, valid := featureID(sent)
				if !valid {
					outcomes = append(outcomes, outcome(sent, noSuchFeature(sent)))
					continue
				}
				outcomes = append(outcomes, Outcome{ID: string(feature)})
				if _, restricted := role.Restricted[string(feature)]; restricted {
					continue
				}
				if role.Restricted == nil {
					role.Restricted = map[string]int64{}
				}
				role.Restricted[string(feature)] = log.at
				changed = append(changed, "restrictedFeatures."+string(feature))
			}
			return changed
		})
		return outcomes, err
	})
}

func checkFeatureList(field string, features []string) error {
	var wrong FieldErrors
	if len(features) == 0 {
		wrong.Add(field, "The %s field is required.", field)
	} else if len(features) > 100 {
		wrong.Add(field, "The %s may not be more than 100.", field)
	}
	return wrong.Err()
}

// AllowFeatures takes back RestrictFeatures, for the features given or for all. Errors: CodeRoleNotFound,
// CodeBadRequest for an empty list without all, and for a feature that there is not: nothing is allowed then.
func (d *Directory) AllowFeatures(ctx context.Context, caller Caller, id string, features []string, all bool) error {
	if !all {
		if err := checkFeatureList("featuresToAllow", features); err != nil {
			return err
		}
	}
	_, err := d.changeRole(ctx, caller, id, func(role *Role, _ int64) (changed []string, _ error) {
		if all {
			features = slices.Sorted(maps.Keys(role.Restricted))
		}
		var wrong FieldErrors
		for i, sent := range features {
			feature, known := featureID(sent)
			for _, name := range []string{sent, string(feature)} { // what was restricted long ago stands as it was sent
				if _, restricted := role.Restricted[name]; restricted {
					delete(role.Restricted, name)
					changed = append(changed, "restrictedFeatures."+name)
					known = true
				}
			}
			if !known {
				wrong.Add("featuresToAllow."+strconv.Itoa(i), "%s", noSuchFeature(sent))
			}
		}
		return changed, wrong.Err()
	})
	return err
}

func errRestricted(feature Feature) *Error {
	return fail(CodePermissionDenied, "Users with your role may not use %s.", feature)
}

func (p *Policy) restricts(role string, feature Feature) bool {
	_, restricted := p.roles[role].Restricted[string(feature)]
	return restricted
}

// mayUse tells whether a caller may use a feature: nobody is kept from one but users, by their roles. acting is the
// acting user, if there is one. Errors: CodePermissionDenied.
func (p *Policy) mayUse(caller Caller, acting User, feature Feature) error {
	if caller.User != "" && p.restricts(acting.Role, feature) {
		return errRestricted(feature)
	}
	return nil
}

// mayUseNow is mayUse for an update, which reads the acting user. Errors: CodePermissionDenied, CodeUserNotFound for an
// acting user who is gone.
func (p *Policy) mayUseNow(tx Reader, caller Caller, feature Feature) error {
	if caller.User == "" {
		return nil
	}
	acting, err := requireUser(tx, caller.App, caller.User, string(caller.User))
	if err != nil {
		return err
	}
	return p.mayUse(caller, acting, feature)
}

// mayListUsers tells whether a caller may list users: users whose role allows it may, and those who may see everything
// of everybody. Errors: CodePermissionDenied, CodeNoAccess.
func (p *Policy) mayListUsers(caller Caller, acting User) error {
	if caller.User == "" && !caller.Private {
		return fail(CodeNoAccess, "Users are listed for a logged-in user, or with a fullAccess key.")
	}
	return p.mayUse(caller, acting, FeatureListUsers)
}
