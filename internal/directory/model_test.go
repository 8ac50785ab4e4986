package directory_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/searchtext"
)

// model is what a directory should be, as simply as it can be said.
type model struct {
	users                  map[directory.UID]*directory.User
	blocks, friends, asked map[[2]directory.UID]bool
	online, invisible      map[directory.UID]bool
	status                 map[directory.UID]string
	friendsOnlyRole        string
}

// seenOnline reports whether a viewer, or a key, sees that a user is online.
func (m *model) seenOnline(viewer, uid directory.UID) bool {
	if viewer == "" {
		return m.online[uid]
	}
	_, presence := m.sees(viewer, uid)
	return m.online[uid] && !m.invisible[uid] && presence
}

func (m *model) active(uid directory.UID) bool {
	return m.users[uid] != nil && m.users[uid].DeactivatedAt == 0
}

func (m *model) erase(uid directory.UID) {
	delete(m.users, uid)
	for _, pairs := range []map[[2]directory.UID]bool{m.blocks, m.friends, m.asked} {
		for pair := range pairs {
			if slices.Contains(pair[:], uid) {
				delete(pairs, pair)
			}
		}
	}
}

func (m *model) befriend(a, b directory.UID) {
	m.friends[[2]directory.UID{a, b}], m.friends[[2]directory.UID{b, a}] = true, true
	delete(m.asked, [2]directory.UID{a, b})
	delete(m.asked, [2]directory.UID{b, a})
}

// sees reports whether a viewer sees a subject at all, and its presence.
func (m *model) sees(viewer, subject directory.UID) (visible, presence bool) {
	if !m.active(subject) || m.users[viewer].Role == m.friendsOnlyRole && viewer != subject && !m.friends[[2]directory.UID{viewer, subject}] {
		return false, false
	}
	return true, !m.blocks[[2]directory.UID{viewer, subject}] && !m.blocks[[2]directory.UID{subject, viewer}]
}

// list lists users. A walk, which has a cursor, goes by what is stored, whoever is online.
func (m *model) list(viewer directory.UID, f directory.UserFilter) (uids []directory.UID) {
	now := func(u *directory.User) int64 {
		if f.Cursor == "" && m.seenOnline(viewer, u.UID) {
			return math.MaxInt64
		}
		if viewer != "" && (m.blocks[[2]directory.UID{viewer, u.UID}] || m.blocks[[2]directory.UID{u.UID, viewer}]) {
			return math.MinInt64 // their places must not tell
		}
		return u.LastActiveAt
	}
	changed := func(u *directory.User) int64 { return cmp.Or(u.UpdatedAt, u.CreatedAt) }
	var matches []*directory.User
	for uid, user := range m.users {
		visible := f.Activity == directory.ActiveOrDeactivated || (user.DeactivatedAt == 0) == (f.Activity == directory.ActiveOnly)
		if viewer != "" {
			visible, _ = m.sees(viewer, uid)
			_, unblocked := m.sees(viewer, uid)
			visible = visible && uid != viewer && (!f.HideBlockedUsers || unblocked) && (!f.FriendsOnly || m.friends[[2]directory.UID{viewer, uid}])
		}
		name := searchtext.Fold(user.Name)
		found := f.Search == "" || strings.HasPrefix(string(uid), f.Search) || strings.HasPrefix(name, f.Search) || strings.Contains(name, " "+f.Search)
		for word := range strings.FieldsSeq(f.NameContains) {
			found = found && (strings.HasPrefix(name, word) || strings.Contains(name, " "+word))
		}
		anyOf := func(wanted []string, have ...string) bool {
			return len(wanted) == 0 || slices.ContainsFunc(wanted, func(one string) bool { return slices.Contains(have, one) })
		}
		switch f.Status {
		case "":
		case directory.StatusAway, directory.StatusBusy:
			visible = visible && m.seenOnline(viewer, uid) && !m.invisible[uid] && m.status[uid] == f.Status
		default:
			visible = visible && m.seenOnline(viewer, uid) == (f.Status == directory.StatusAvailable)
		}
		if visible && found && anyOf(f.Roles, user.Role) && anyOf(f.Tags, user.Tags...) && anyOf(f.UIDs, string(uid)) &&
			(len(f.Metadata) == 0 || anyOf(f.Metadata[0].Values, citiesOf(user.Metadata)...)) {
			matches = append(matches, user)
		}
	}
	sortBy := cmp.Or(f.SortBy, map[bool]string{true: "status", false: "createdAt"}[viewer != ""])
	slices.SortFunc(matches, func(a, b *directory.User) int {
		order := cmp.Compare(a.UID, b.UID)
		switch sortBy {
		case "status":
			first := map[bool]int{true: -1, false: 0}
			order = cmp.Or(cmp.Compare(first[m.seenOnline(viewer, a.UID)], first[m.seenOnline(viewer, b.UID)]),
				cmp.Compare(searchtext.Fold(a.Name), searchtext.Fold(b.Name)), order)
		case "name":
			order = cmp.Or(cmp.Compare(searchtext.Fold(a.Name), searchtext.Fold(b.Name)), order)
		case "createdAt":
			order = cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), order)
		case "updatedAt":
			order = cmp.Or(cmp.Compare(changed(b), changed(a)), order)
		case "lastActiveAt":
			order = cmp.Or(cmp.Compare(now(b), now(a)), cmp.Compare(b.CreatedAt, a.CreatedAt), order)
		}
		if natural := map[bool]string{true: "asc", false: "desc"}[sortBy == "name" || sortBy == "status"]; cmp.Or(f.SortOrder, natural) != natural {
			return -order
		}
		return order
	})
	for _, user := range matches {
		uids = append(uids, user.UID)
	}
	return uids
}

// TestDirectoryAgreesWithModel makes random changes and compares everything that can be asked.
func TestDirectoryAgreesWithModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apps := 0
	rapid.Check(t, func(rt *rapid.T) {
		apps++
		created, err := w.CreateApp(context.Background(), "operator", directory.NewApp{ID: directory.AppID(fmt.Sprintf("app%d", apps)), Name: "Model"})
		if err != nil {
			rt.Fatal(err)
		}
		c := &comparison{T: rt, w: w, caller: directory.Caller{App: created.App.ID, Actor: "key:test", Private: true}, m: model{
			users: map[directory.UID]*directory.User{}, blocks: map[[2]directory.UID]bool{}, friends: map[[2]directory.UID]bool{}, asked: map[[2]directory.UID]bool{},
			online:          map[directory.UID]bool{},
			invisible:       map[directory.UID]bool{},
			status:          map[directory.UID]string{},
			friendsOnlyRole: "shy",
		}}
		_, err = w.CreateRole(context.Background(), c.caller, directory.Role{ID: "shy", Name: "Shy", Settings: directory.RoleSettings{ListUsers: "friendsOnly"}})
		c.is(err, "")
		c.addVIP()
		c.declare("city")
		rt.Repeat(map[string]func(*rapid.T){
			"create": c.create, "update": c.update, "batch": c.batch, "deactivate": c.deactivate, "reactivate": c.reactivate, "delete": c.erase,
			"block": c.block, "unblock": c.unblock, "befriend": c.befriend, "part": c.part, "ask": c.ask, "accept": c.accept, "delete role": c.deleteRole,
			"come or go": c.comeOrGo, "declare": c.declareAnew,
			"": func(rt *rapid.T) {
				c.compare(rt)
				c.is(w.CheckIndex(context.Background(), c.caller.App), "")
			},
		})
	})
}

// comparison is one run: the same changes to the directory and to the model.
type comparison struct {
	*rapid.T
	w      *world
	caller directory.Caller
	m      model
	vip    bool
}

var (
	someUIDs  = rapid.SampledFrom([]string{"ann", "bob", "cy", "dan", "smith", "van", "zoe"})
	someNames = rapid.SampledFrom([]string{"Ann", "Ánn Van Smith", "bob  smith", "Smith", "Zoé van Ann", "Van", "ANN"})
	someTexts = rapid.SampledFrom([]string{"", "ann", "van", "s", "smith", "van s", "zo"})
	someRoles = rapid.SampledFrom([]string{"default", "shy", "vip"})
	someTags  = rapid.SampledFrom([][]string{nil, {"x"}, {"x", "y"}, {"y"}})
	someCity  = rapid.SampledFrom([]string{"", `{"city":"Oslo"}`, `{"city":["Lima","Oslo"],"x":1}`, `{"city":17}`, `{"city":{}}`})
)

// citiesOf are the cities in the metadata of someCity.
func citiesOf(metadata json.RawMessage) (cities []string) {
	for _, city := range []string{"Oslo", "Lima", "17"} {
		if strings.Contains(string(metadata), city) {
			cities = append(cities, city)
		}
	}
	return cities
}

// declare declares metadata keys, and indexes them.
func (c *comparison) declare(keys ...string) {
	_, err := c.w.UpdateAppSettings(context.Background(), c.caller, directory.AppSettingsPatch{MetadataKeys: &keys})
	c.is(err, "")
	c.is(c.w.AwaitIndex(context.Background(), c.caller.App), "")
}

// declareAnew takes the declaration back and makes it again, before or after the index has been cleared.
func (c *comparison) declareAnew(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "cleared") {
		c.declare()
	} else {
		_, err := c.w.UpdateAppSettings(rt.Context(), c.caller, directory.AppSettingsPatch{MetadataKeys: &[]string{}})
		c.is(err, "")
	}
	if rapid.Bool().Draw(rt, "changed meanwhile") {
		c.update(rt)
	}
	c.declare("city")
}

// is checks the outcome of a change: with code empty it must have succeeded.
func (c *comparison) is(err error, code directory.Code) {
	c.Helper()
	if code == "" && err != nil || code != "" && !directory.IsCode(err, code) {
		c.Fatalf("got %v, want %q", err, code)
	}
}

func (c *comparison) tick(rt *rapid.T) int64 {
	*c.w.clock = c.w.clock.Add(time.Duration(rapid.IntRange(0, 2).Draw(rt, "seconds")) * time.Second)
	return c.w.clock.Unix()
}

func (c *comparison) addVIP() {
	_, err := c.w.CreateRole(context.Background(), c.caller, directory.Role{ID: "vip", Name: "VIP"})
	c.is(err, "")
	c.vip = true
}

func (c *comparison) create(rt *rapid.T) {
	at := c.tick(rt)
	uid, role, metadata := someUIDs.Draw(rt, "uid"), someRoles.Draw(rt, "role"), json.RawMessage(someCity.Draw(rt, "metadata"))
	user := directory.User{UID: directory.UID(uid), Name: someNames.Draw(rt, "name"), Role: role, Metadata: metadata, Tags: someTags.Draw(rt, "tags"), CreatedAt: at}
	_, err := c.w.CreateUser(rt.Context(), c.caller, directory.NewUser{UID: strings.ToUpper(uid), Name: user.Name, Role: role, Metadata: metadata, Tags: user.Tags})
	switch {
	case c.m.users[user.UID] != nil:
		c.is(err, directory.CodeUserExists)
	case role == "vip" && !c.vip:
		c.is(err, directory.CodeRoleNotFound)
	default:
		c.is(err, "")
		c.m.users[user.UID] = &user
	}
}

func (c *comparison) update(rt *rapid.T) {
	at := c.tick(rt)
	uid, name, role := directory.UID(someUIDs.Draw(rt, "uid")), someNames.Draw(rt, "name"), someRoles.Draw(rt, "role")
	metadata := json.RawMessage(someCity.Draw(rt, "metadata"))
	_, err := c.w.UpdateUser(rt.Context(), c.caller, string(uid), directory.UserPatch{Name: &name, Role: &role, Metadata: &metadata})
	user := c.m.users[uid]
	switch {
	case !c.m.active(uid):
		c.is(err, directory.CodeUserNotFound)
	case role == "vip" && !c.vip:
		c.is(err, directory.CodeRoleNotFound)
	default:
		c.is(err, "")
		if user.Name != name || user.Role != role || string(user.Metadata) != string(metadata) {
			user.Name, user.Role, user.Metadata, user.UpdatedAt = name, role, metadata, at
		}
	}
}

func (c *comparison) batch(rt *rapid.T) {
	at := c.tick(rt)
	var rows []directory.UserRow
	for range rapid.IntRange(1, 3).Draw(rt, "rows") {
		name, tags, active := someNames.Draw(rt, "name"), someTags.Draw(rt, "tags"), rapid.Int64Range(0, 3).Draw(rt, "active")
		rows = append(rows, directory.UserRow{UID: someUIDs.Draw(rt, "uid"), Patch: directory.UserPatch{Name: &name, Tags: &tags}, LastActiveAt: &active})
	}
	results, err := c.w.UpsertUsers(rt.Context(), c.caller, rows, nil)
	c.is(err, "")
	for i, row := range rows {
		uid := directory.UID(row.UID)
		user := c.m.users[uid]
		switch {
		case user == nil:
			c.m.users[uid] = &directory.User{UID: uid, Name: *row.Patch.Name, Role: "default", Tags: *row.Patch.Tags, CreatedAt: at, LastActiveAt: *row.LastActiveAt}
		case user.DeactivatedAt != 0:
			if results[i].Err == nil {
				c.Fatalf("row %d changed a deactivated user", i)
			}
		case user.Name != *row.Patch.Name || !slices.Equal(user.Tags, *row.Patch.Tags) || user.LastActiveAt != *row.LastActiveAt:
			user.Name, user.Tags, user.LastActiveAt, user.UpdatedAt = *row.Patch.Name, *row.Patch.Tags, *row.LastActiveAt, at
		}
	}
}

func (c *comparison) deactivate(rt *rapid.T) { c.setActive(rt, false) }
func (c *comparison) reactivate(rt *rapid.T) { c.setActive(rt, true) }

func (c *comparison) setActive(rt *rapid.T, active bool) {
	at := c.tick(rt)
	uid := directory.UID(someUIDs.Draw(rt, "uid"))
	change, deactivatedAt := c.w.DeactivateUsers, at
	if active {
		change, deactivatedAt = c.w.ReactivateUsers, 0
	}
	_, err := change(rt.Context(), c.caller, []string{string(uid)})
	c.is(err, "")
	if user := c.m.users[uid]; user != nil && c.m.active(uid) != active {
		user.DeactivatedAt = deactivatedAt
	}
}

func (c *comparison) erase(rt *rapid.T) {
	uid := directory.UID(someUIDs.Draw(rt, "uid"))
	_, err := c.w.EraseUser(rt.Context(), c.caller, string(uid))
	if c.m.users[uid] == nil {
		c.is(err, directory.CodeUserNotFound)
		return
	}
	c.is(err, "")
	c.m.erase(uid)
}

func (c *comparison) deleteRole(rt *rapid.T) {
	at := c.tick(rt)
	c.is(c.w.DeleteRole(rt.Context(), c.caller, "vip"), "")
	for _, user := range c.m.users {
		if user.Role == "vip" {
			user.Role, user.UpdatedAt = "default", at
		}
	}
	c.addVIP()
}

// pair changes what is between two users. want returns the code of the outcome for the other one, and makes the change.
func (c *comparison) pair(rt *rapid.T, change func(uid, other string) ([]directory.Outcome, error), want func(pair [2]directory.UID) directory.Code) {
	uid, other := someUIDs.Draw(rt, "uid"), someUIDs.Draw(rt, "other")
	outcomes, err := change(uid, other)
	pair := [2]directory.UID{directory.UID(uid), directory.UID(other)}
	if !c.m.active(pair[0]) {
		c.is(err, directory.CodeUserNotFound)
		return
	}
	c.is(err, "")
	var refused error
	if len(outcomes) == 1 && outcomes[0].Err != nil {
		refused = outcomes[0].Err
	}
	c.is(refused, want(pair))
}

func (c *comparison) block(rt *rapid.T) {
	c.pair(rt, func(uid, other string) ([]directory.Outcome, error) {
		return c.w.BlockUsers(rt.Context(), c.caller, c.policy(), uid, []string{other})
	}, func(pair [2]directory.UID) directory.Code {
		switch {
		case pair[0] == pair[1]:
			return directory.CodeCannotBlockSelf
		case !c.m.active(pair[1]):
			return directory.CodeUserNotFound
		}
		c.m.blocks[pair] = true
		delete(c.m.asked, pair)
		delete(c.m.asked, [2]directory.UID{pair[1], pair[0]})
		return ""
	})
}

func (c *comparison) unblock(rt *rapid.T) {
	asUser := rapid.Bool().Draw(rt, "as the user")
	c.pair(rt, func(uid, other string) ([]directory.Outcome, error) {
		caller := c.caller
		if asUser {
			caller = directory.Caller{App: caller.App, Actor: directory.Actor("user:" + uid), User: directory.UID(uid)}
		}
		return c.w.UnblockUsers(rt.Context(), caller, c.policy(), uid, []string{other})
	}, func(pair [2]directory.UID) directory.Code {
		found := c.m.active(pair[1])
		if asUser && found {
			found, _ = c.m.sees(pair[0], pair[1])
		}
		if !found && !c.m.blocks[pair] {
			return directory.CodeUserNotFound
		}
		delete(c.m.blocks, pair)
		return ""
	})
}

func (c *comparison) befriend(rt *rapid.T) {
	c.pair(rt, func(uid, other string) ([]directory.Outcome, error) {
		return c.w.AddFriends(rt.Context(), c.caller, uid, []string{other})
	}, func(pair [2]directory.UID) directory.Code {
		switch {
		case !c.m.active(pair[1]):
			return directory.CodeUserNotFound
		case pair[0] == pair[1]:
			return directory.CodeSelfRelation
		case c.m.friends[pair]:
			return directory.CodeAlreadyFriend
		}
		c.m.befriend(pair[0], pair[1])
		return ""
	})
}

func (c *comparison) part(rt *rapid.T) {
	c.pair(rt, func(uid, other string) ([]directory.Outcome, error) {
		return nil, c.w.RemoveFriends(rt.Context(), c.caller, uid, []string{other})
	}, func(pair [2]directory.UID) directory.Code {
		delete(c.m.friends, pair)
		delete(c.m.friends, [2]directory.UID{pair[1], pair[0]})
		return ""
	})
}

func (c *comparison) ask(rt *rapid.T) {
	c.pair(rt, func(uid, other string) ([]directory.Outcome, error) {
		return c.w.AskFriends(rt.Context(), c.caller, c.policy(), uid, []string{other})
	}, func(pair [2]directory.UID) directory.Code {
		reverse := [2]directory.UID{pair[1], pair[0]}
		switch {
		case pair[0] == pair[1]:
			return directory.CodeSelfRelation
		case c.m.friends[pair]:
			return directory.CodeAlreadyFriend
		case !c.m.active(pair[1]):
			return directory.CodeUserNotFound
		case c.m.blocks[pair]:
			return directory.CodeBlockedReceiver
		case c.m.blocks[reverse]:
			return directory.CodeBlockedSender
		case c.m.asked[reverse]:
			c.m.befriend(pair[0], pair[1])
		default:
			c.m.asked[pair] = true
		}
		return ""
	})
}

func (c *comparison) accept(rt *rapid.T) {
	c.pair(rt, func(uid, other string) ([]directory.Outcome, error) {
		return c.w.AnswerFriends(rt.Context(), c.caller, uid, directory.FriendAnswers{Accept: []string{other}})
	}, func(pair [2]directory.UID) directory.Code {
		switch {
		case !c.m.asked[[2]directory.UID{pair[1], pair[0]}]:
			return directory.CodeNoFriendRequest
		case !c.m.active(pair[1]):
			return directory.CodeUserNotFound
		}
		c.m.befriend(pair[0], pair[1])
		return ""
	})
}

// comeOrGo makes a user online or offline.
func (c *comparison) comeOrGo(rt *rapid.T) {
	uid := directory.UID(someUIDs.Draw(rt, "uid"))
	c.m.online[uid] = !c.m.online[uid] && c.m.active(uid)
	c.m.invisible[uid] = rapid.Bool().Draw(rt, "invisible")
	c.m.status[uid] = rapid.SampledFrom(onlineStatuses).Draw(rt, "status")
}

var onlineStatuses = []string{directory.StatusAvailable, directory.StatusAway, directory.StatusBusy}

// tellPresence tells the directory what whoever keeps the sessions does: who is online, as they are now.
func (c *comparison) tellPresence() {
	for uid, online := range c.m.online {
		if online && c.m.active(uid) {
			c.w.SetOnline(c.caller.App, directory.OnlineUser{
				UID: uid, Invisible: c.m.invisible[uid], Status: c.m.status[uid],
			})
			continue
		}
		c.m.online[uid] = false
		c.w.SetOffline(c.caller.App, uid, 0)
	}
}

func (c *comparison) policy() *directory.Policy {
	policy, err := c.w.Policy(context.Background(), c.caller.App)
	c.is(err, "")
	return policy
}

// compare asks for a list as somebody, for what that one sees of another, and for its relations.
func (c *comparison) compare(rt *rapid.T) {
	filter := directory.UserFilter{
		Search: someTexts.Draw(rt, "search"), NameContains: someTexts.Draw(rt, "words"),
		SortBy:    rapid.SampledFrom([]string{"", "name", "status", "createdAt", "updatedAt", "lastActiveAt"}).Draw(rt, "sortBy"),
		SortOrder: rapid.SampledFrom([]string{"", "asc", "desc"}).Draw(rt, "sortOrder"),
		Page:      directory.Page{Number: rapid.IntRange(1, 3).Draw(rt, "page"), Size: rapid.IntRange(1, 4).Draw(rt, "size")},
	}
	if rapid.Bool().Draw(rt, "plain") {
		filter.Search, filter.NameContains = "", ""
	} else if rapid.Bool().Draw(rt, "filtered") {
		filter.Roles, filter.Tags = []string{someRoles.Draw(rt, "role")}, someTags.Draw(rt, "tags")
		filter.UIDs = []string{someUIDs.Draw(rt, "uid"), someUIDs.Draw(rt, "uid")}
	}
	if rapid.Bool().Draw(rt, "by metadata") {
		filter.Metadata = []directory.MetadataFilter{{Key: "city", Values: rapid.SampledFrom([][]string{{"Oslo"}, {"Lima", "17"}, {"17"}}).Draw(rt, "cities")}}
	}
	caller, viewer := c.caller, directory.UID("")
	if uid := directory.UID(someUIDs.Draw(rt, "viewer")); c.m.active(uid) {
		caller.User, caller.Private, viewer = uid, false, uid
		filter.HideBlockedUsers, filter.FriendsOnly = rapid.Bool().Draw(rt, "hide"), rapid.Bool().Draw(rt, "friends")
	} else {
		filter.Activity = rapid.SampledFrom([]directory.Activity{directory.ActiveOnly, directory.DeactivatedOnly, directory.ActiveOrDeactivated}).Draw(rt, "activity")
	}
	filter.Status = rapid.SampledFrom(append([]string{"", "", directory.StatusOffline}, onlineStatuses...)).Draw(rt,
		"status")
	c.tellPresence()
	var acting directory.User
	if viewer != "" {
		acting = *c.m.users[viewer]
	}
	list, err := c.w.ListUsers(rt.Context(), caller, c.policy(), acting, filter)
	c.is(err, "")
	want := c.m.list(viewer, filter)
	from, to := min(len(want), (filter.Page.Number-1)*filter.Page.Size), min(len(want), filter.Page.Number*filter.Page.Size)
	if got := uidsSeen(list.Items); list.Total != len(want) || !slices.Equal(got, want[from:to]) {
		rt.Fatalf("%+v as %q: got %v of %d, want %v of %v", filter, viewer, got, list.Total, want[from:to], want)
	}
	if filter.Status == "" {
		filter.Cursor = directory.CursorStart
		if filter.SortBy == "status" || filter.SortBy == "" && viewer != "" {
			filter.SortBy = "name" // a walk is not in the order of what changes meanwhile
		}
		c.compareWalk(rt, caller, acting, filter, c.m.list(viewer, filter))
	}
	if viewer != "" {
		c.compareRelations(rt, caller, acting)
		known := c.m.list(viewer, directory.UserFilter{Status: directory.StatusAvailable})
		if c.m.online[viewer] && !c.m.invisible[viewer] {
			known = append(known, viewer)
		}
		count, err := c.w.CountOnlineAs(rt.Context(), caller, c.policy(), acting)
		c.is(err, "")
		if count != len(known) {
			rt.Fatalf("%s counts %d online, and may know of %v", viewer, count, known)
		}
	}
}

// compareWalk walks by cursor through the same list.
func (c *comparison) compareWalk(
	rt *rapid.T, caller directory.Caller, viewer directory.User, filter directory.UserFilter, want []directory.UID,
) {
	var walked []directory.UID
	for filter.Cursor = directory.CursorStart; filter.Cursor != ""; {
		page, err := c.w.ListUsers(rt.Context(), caller, c.policy(), viewer, filter)
		c.is(err, "")
		walked = append(walked, uidsSeen(page.Items)...)
		filter.Cursor = page.Next
	}
	if !slices.Equal(walked, want) {
		rt.Fatalf("walking %+v: got %v, want %v", filter, walked, want)
	}
}

func (c *comparison) compareRelations(rt *rapid.T, caller directory.Caller, viewer directory.User) {
	subject := directory.UID(someUIDs.Draw(rt, "subject"))
	visible, presence := c.m.sees(viewer.UID, subject)
	seen, err := c.w.GetUser(rt.Context(), caller, c.policy(), viewer, string(subject))
	if !visible {
		c.is(err, directory.CodeUserNotFound)
	} else {
		c.is(err, "")
		pair, reverse := [2]directory.UID{viewer.UID, subject}, [2]directory.UID{subject, viewer.UID}
		if seen.Present != presence || (seen.Relation.BlockedByMeAt != 0) != c.m.blocks[pair] || (seen.Relation.HasBlockedMeAt != 0) != c.m.blocks[reverse] ||
			(seen.Relation.FriendsSince != 0) != c.m.friends[pair] {
			rt.Fatalf("%s sees %+v of %s", viewer.UID, seen, subject)
		}
	}
	related := func(pairs map[[2]directory.UID]bool, forward, backward bool) (uids []directory.UID) {
		for uid := range c.m.users {
			if c.m.active(uid) && (forward && pairs[[2]directory.UID{viewer.UID, uid}] || backward && pairs[[2]directory.UID{uid, viewer.UID}]) {
				uids = append(uids, uid)
			}
		}
		slices.Sort(uids)
		return uids
	}
	for _, list := range []struct {
		name string
		read func() (directory.List[directory.Seen], error)
		want []directory.UID
	}{
		{"blocked", func() (directory.List[directory.Seen], error) {
			return c.w.ListBlockedUsers(rt.Context(), caller, c.policy(), viewer, string(viewer.UID), directory.BlockedByMe, directory.UserFilter{})
		}, related(c.m.blocks, true, false)},
		{"blocked in both directions", func() (directory.List[directory.Seen], error) {
			return c.w.ListBlockedUsers(rt.Context(), caller, c.policy(), viewer, string(viewer.UID), directory.BlockedBoth, directory.UserFilter{})
		}, slices.DeleteFunc(related(c.m.blocks, true, true), func(uid directory.UID) bool {
			visible, _ := c.m.sees(viewer.UID, uid)
			return !visible && !c.m.blocks[[2]directory.UID{viewer.UID, uid}]
		})},
		{"friends", func() (directory.List[directory.Seen], error) {
			return c.w.ListFriends(rt.Context(), caller, string(viewer.UID), directory.UserFilter{})
		}, related(c.m.friends, true, false)},
		{"requests sent", func() (directory.List[directory.Seen], error) {
			return c.w.ListFriendRequests(rt.Context(), caller, string(viewer.UID), true, directory.UserFilter{})
		}, related(c.m.asked, true, false)},
		{"requests received", func() (directory.List[directory.Seen], error) {
			return c.w.ListFriendRequests(rt.Context(), caller, string(viewer.UID), false, directory.UserFilter{})
		}, related(c.m.asked, false, true)},
	} {
		got, err := list.read()
		c.is(err, "")
		uids := uidsSeen(got.Items)
		slices.Sort(uids)
		if got.Total != len(list.want) || !slices.Equal(uids, list.want) {
			rt.Fatalf("%s of %s: got %v of %d, want %v", list.name, viewer.UID, uids, got.Total, list.want)
		}
	}
}

func uidsSeen(items []directory.Seen) (uids []directory.UID) {
	for _, item := range items {
		uids = append(uids, item.UID)
	}
	return uids
}
