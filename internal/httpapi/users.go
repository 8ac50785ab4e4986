package httpapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"iter"
	"net/url"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// showUser returns a user, as the directory shows it to the caller, with its presence.
func (c *call) showUser(user *directory.User) api.User {
	shown := api.User{
		UID: string(user.UID), Name: user.Name, Avatar: user.Avatar, Link: user.Link, Metadata: user.Metadata,
		Status: directory.StatusOffline, Role: user.Role, StatusMessage: user.StatusMessage, Tags: user.Tags,
		LastActiveAt: user.LastActiveAt, CreatedAt: user.CreatedAt, UpdatedAt: user.UpdatedAt,
		DeactivatedAt: user.DeactivatedAt,
	}
	online, lastActiveAt := c.api.dir.PresenceOf(c.caller, user.UID)
	if online {
		shown.Status = directory.StatusAvailable
	}
	if lastActiveAt != 0 {
		shown.LastActiveAt = lastActiveAt
	}
	if c.caller.User != "" && c.caller.User != user.UID {
		c.api.config.Presence.NoteReader(c.caller.App, c.caller.User)
		shown.ConversationID = conversationID(c.caller.User, user.UID)
	}
	return shown
}

// showSeen returns a user as the viewer may see it, with what is between the two.
func (c *call) showSeen(seen *directory.Seen) api.User {
	shown := c.showUser(seen.User)
	if !seen.Present {
		shown.Status, shown.LastActiveAt = directory.StatusOffline, 0
	}
	relation := &seen.Relation
	shown.BlockedByMe, shown.BlockedByMeAt = relation.BlockedByMeAt != 0, relation.BlockedByMeAt
	shown.HasBlockedMe, shown.HasBlockedMeAt = relation.HasBlockedMeAt != 0, relation.HasBlockedMeAt
	shown.BlockedAt = relation.BlockedByMeAt
	if shown.BlockedAt == 0 || relation.HasBlockedMeAt != 0 && relation.HasBlockedMeAt < shown.BlockedAt {
		shown.BlockedAt = relation.HasBlockedMeAt
	}
	return shown
}

// conversationID names the conversation of two users (contract rest.md section 1.1).
func conversationID(a, b directory.UID) string {
	return string(min(a, b)) + "_user_" + string(max(a, b))
}

func createUser(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	wanted := directory.NewUser{
		UID: f.id("uid"), Name: f.text("name"), Avatar: f.text("avatar"), Link: f.text("link"), Role: f.text("role"),
		StatusMessage: f.text("statusMessage"), Metadata: f.object("metadata"), Tags: f.texts("tags"),
		WithAuthToken: f.boolean("withAuthToken"),
	}
	f.pass(sentBySDKs...)
	if err := f.err(); err != nil {
		return answer{}, err
	}
	created, err := c.api.dir.CreateUser(c.ctx(), c.caller, wanted)
	if err != nil {
		return answer{}, err
	}
	shown := c.showUser(&created.User)
	shown.AuthToken = created.Token.Text
	return data(shown)
}

func listUsers(c *call) (answer, error) {
	q := c.query()
	filter := q.userFilter()
	withTags := q.boolean("withTags")
	if err := q.err(); err != nil {
		return answer{}, err
	}
	list, err := c.api.dir.ListUsers(c.ctx(), c.caller, c.policy, c.user, filter)
	if err != nil {
		return answer{}, err
	}
	return c.userList(list, filter.Affix, withTags), nil
}

// userFilter reads what lists of users can be asked for (contract rest.md section 1.3, sdk-wire.md section B10).
func (q *query) userFilter() directory.UserFilter {
	filter := directory.UserFilter{
		Search: q.text("searchKey"), SearchIn: q.ids("searchIn"), NameContains: q.text("nameContains"),
		Roles: q.ids("roles", "role"), Tags: q.texts("tags"), UIDs: q.ids("uids"),
		Metadata: q.metadata(), FriendsOnly: q.boolean("friendsOnly"), HideBlockedUsers: q.boolean("hideBlockedUsers"),
		Status: q.text("status"), SortBy: q.text("sortBy"), SortOrder: q.text("sortOrder"),
		UpdatedAt: q.integer(latestTime, "updatedAt"), Affix: q.text("affix"), Cursor: q.text("cursor"), Page: q.page(),
	}
	if filter.Status == "online" {
		filter.Status = directory.StatusAvailable
	}
	switch {
	case q.boolean("onlyDeactivated"):
		filter.Activity = directory.DeactivatedOnly
	case q.boolean("withDeactivated"):
		filter.Activity = directory.ActiveOrDeactivated
	}
	q.boolean("count") // the total is always there
	return filter
}

// userList answers with a page of users as the acting user sees them.
func (c *call) userList(list directory.List[directory.Seen], affix string, withTags bool) answer {
	shown := func(yield func(*api.User) bool) {
		for i := range list.Items {
			user := c.showSeen(&list.Items[i])
			if !withTags {
				user.Tags = nil
			}
			if !yield(&user) {
				return
			}
		}
	}
	answer := answer{
		data: iter.Seq[*api.User](shown), meta: &api.Meta{Pagination: paginationOf(list), NextCursor: list.Next},
	}
	if len(list.Items) > 0 {
		last := list.Items[len(list.Items)-1]
		answer.meta.Cursor = &api.Cursor{UpdatedAt: max(last.CreatedAt, last.UpdatedAt), Affix: cmp.Or(affix, "append")}
	}
	return answer
}

func getUser(c *call) (answer, error) {
	get := c.api.dir.GetUser
	if c.r.URL.RawQuery != "" {
		q := c.query()
		if q.boolean("withDeactivated") {
			get = c.api.dir.GetUserOrDeactivated
		}
		if err := q.err(); err != nil {
			return answer{}, err
		}
	}
	user, err := get(c.ctx(), c.caller, c.policy, c.user, c.pathID("uid"))
	if err != nil {
		return answer{}, err
	}
	return data(c.showSeen(&user))
}

// askedUIDs returns the uids that the body asks for.
func (c *call) askedUIDs() ([]string, error) {
	f, err := c.decode()
	if err != nil {
		return nil, err
	}
	uids := f.ids("uids")
	return uids, f.err()
}

func lookUpUsers(c *call) (answer, error) {
	uids, err := c.askedUIDs()
	if err != nil {
		return answer{}, err
	}
	found, missing, err := c.api.dir.LookUpUsers(c.ctx(), c.caller, c.policy, c.user, uids)
	if err != nil {
		return answer{}, err
	}
	response := api.LookupResponse{Users: make([]api.User, len(found)), NotFound: missing}
	for i := range found {
		response.Users[i] = c.showSeen(&found[i])
	}
	return data(response)
}

// pathID returns an id from the path in the form in which errors repeat it: with whatever cannot be part of an id
// still escaped (contract rest.md section 0).
func (c *call) pathID(name string) string {
	id := c.r.PathValue(name)
	for i := range len(id) {
		if b := id[i]; b <= ' ' || b >= 0x7f || b == '%' || b == '/' {
			id = url.PathEscape(id)
			break
		}
	}
	return c.shownID(id)
}

// shownID bounds an id, which errors repeat, by what one may be.
func (c *call) shownID(id string) string { return shorten(id, max(maxPrinted, c.api.dir.Limits().UID)) }

// sentBySDKs are members that client SDKs send with every user they create or change (sdk-wire.md section B6), and
// readOnly the others of a user that cannot be written: whoever changes a user that it has read sends them back.
var (
	sentBySDKs = []string{"hasBlockedMe", "blockedByMe", "deactivatedAt", "status"}
	readOnly   = []string{
		"uid", "lastActiveAt", "createdAt", "updatedAt", "conversationId", "blockedByMeAt", "hasBlockedMeAt", "blockedAt",
		"authToken", "jwt", "wsChannel", "settings", "fat",
	}
)

// decodePatch reads the profile fields of a body.
func (f *fields) decodePatch() directory.UserPatch {
	patch := directory.UserPatch{
		Name: f.maybeText("name"), Avatar: f.maybeText("avatar"), Link: f.maybeText("link"), Role: f.maybeText("role"),
		StatusMessage: f.maybeText("statusMessage"), Metadata: f.maybeObject("metadata"), Tags: f.maybeTexts("tags"),
	}
	f.pass(sentBySDKs...)
	f.pass(readOnly...)
	if f.isNull("role") { // there is no user without a role
		patch.Role = nil
	}
	empty, none := "", json.RawMessage(nil)
	f.unset(map[string]func(){
		"avatar":   func() { patch.Avatar = &empty },
		"link":     func() { patch.Link = &empty },
		"metadata": func() { patch.Metadata = &none },
	})
	if patch.Name != nil && directory.IsBlank(*patch.Name) && !f.wrongField("name") {
		f.wrong.Add("name", "The name field must have a value.")
	}
	return patch
}

func updateUser(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	patch := f.decodePatch()
	q := c.query()
	upsert := q.boolean("upsert")
	if err := errors.Join(f.err(), q.err()); err != nil {
		return answer{}, err
	}
	if upsert {
		result, err := c.api.dir.UpsertUser(c.ctx(), c.caller, directory.UserRow{UID: c.pathID("uid"), Patch: patch})
		if err != nil {
			return answer{}, err
		}
		return data(c.showUser(&result.User))
	}
	user, err := c.api.dir.UpdateUser(c.ctx(), c.caller, c.pathID("uid"), patch)
	if err != nil {
		return answer{}, err
	}
	return data(c.showUser(&user))
}

func deleteUser(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	permanent := f.boolean("permanent")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	if permanent {
		erased, err := c.api.dir.EraseUser(c.ctx(), c.caller, c.pathID("uid"))
		if err != nil {
			return answer{}, err
		}
		return closed(api.Success{Success: true, Message: "The user has been deleted permanently."}, erased.Sockets)
	}
	done, err := c.api.dir.DeactivateUser(c.ctx(), c.caller, c.pathID("uid"))
	if err != nil {
		return answer{}, err
	}
	return closed(api.DeactivateUsersResponse{Deactivated: done.Changed}, done.Sockets)
}

// closed answers what became of users, with how many sockets of theirs were closed.
func closed(shown any, sockets int) (answer, error) {
	return answer{data: shown, meta: &api.Meta{ClosedSockets: &sockets}}, nil
}

func deactivateUsers(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	uids := f.ids("uidsToDeactivate")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.DeactivateUsers(c.ctx(), c.caller, uids)
	if err != nil {
		return answer{}, err
	}
	return closed(api.DeactivateUsersResponse{
		Deactivated: done.Changed, AlreadyDeactivated: done.Already, NotFound: done.NotFound,
	}, done.Sockets)
}

func reactivateUsers(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	uids := f.ids("uidsToActivate")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.ReactivateUsers(c.ctx(), c.caller, uids)
	if err != nil {
		return answer{}, err
	}
	return data(api.ReactivateUsersResponse{
		Reactivated: done.Changed, NonDeactivated: done.Already, NotFound: done.NotFound,
	})
}
