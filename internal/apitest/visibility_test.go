package apitest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
)

// sight is what a viewer meets at the endpoints that show users.
type sight struct {
	// get and list say whether the subject is shown, hidden whether it is still listed with hideBlockedUsers.
	get, list, hidden bool
	// presence says whether lastActiveAt is shown.
	presence             bool
	blockedByMe, blocked bool
	contact              bool
}

// relations are the rows of the table of who sees what, each with the way to make it so.
var relations = []struct {
	name string
	make func(ctx context.Context, c *client.Client, viewer, subject string) error
	want sight
}{
	{
		"none", func(context.Context, *client.Client, string, string) error { return nil },
		sight{get: true, list: true, hidden: true, presence: true, contact: true},
	},
	{"viewer blocked subject", func(ctx context.Context, c *client.Client, viewer, subject string) error {
		_, err := c.Blocks.Block(ctx, viewer, subject)
		return err
	}, sight{get: true, list: true, blockedByMe: true}},
	{"subject blocked viewer", func(ctx context.Context, c *client.Client, viewer, subject string) error {
		_, err := c.Blocks.Block(ctx, subject, viewer)
		return err
	}, sight{get: true, list: true, blocked: true}},
	{"friend", befriend, sight{get: true, list: true, hidden: true, presence: true, contact: true}},
	{"friend who blocked viewer", func(ctx context.Context, c *client.Client, viewer, subject string) error {
		if err := befriend(ctx, c, viewer, subject); err != nil {
			return err
		}
		_, err := c.Blocks.Block(ctx, subject, viewer)
		return err
	}, sight{get: true, list: true, blocked: true}},
	{"role sees friends only", func(ctx context.Context, c *client.Client, viewer, _ string) error { return makeShy(ctx, c, viewer) }, sight{}},
	{"role sees friends only, and friend", func(ctx context.Context, c *client.Client, viewer, subject string) error {
		if err := befriend(ctx, c, viewer, subject); err != nil {
			return err
		}
		return makeShy(ctx, c, viewer)
	}, sight{get: true, list: true, hidden: true, presence: true, contact: true}},
	{"subject deactivated", func(ctx context.Context, c *client.Client, _, subject string) error {
		_, err := c.Users.Deactivate(ctx, subject)
		return err
	}, sight{}},
}

func befriend(ctx context.Context, c *client.Client, viewer, subject string) error {
	_, err := c.Friends.Add(ctx, viewer, subject)
	return err
}

func makeShy(ctx context.Context, c *client.Client, viewer string) error {
	_, err := c.Users.Update(ctx, viewer, api.UpdateUserRequest{Role: new("shy")})
	return err
}

// TestEmptyOnBehalfOf asks on behalf of nobody: that is not to ask as oneself.
func TestEmptyOnBehalfOf(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for _, uid := range []string{"", " "} {
		if _, err := s.Backend(t).OnBehalfOf(uid).Users.List(t.Context(), client.UserListOptions{}); !client.IsCode(err, api.CodeBadRequest) {
			t.Errorf("onBehalfOf %q: %v", uid, err)
		}
	}
}

// TestVisibilityMatrix looks at every endpoint that shows users, as every kind of viewer, with the viewer's token and
// on its behalf: what they show follows from the one policy.
func TestVisibilityMatrix(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	c := s.Backend(t)
	if _, err := c.Roles.Create(t.Context(), api.CreateRoleRequest{Role: "shy", Name: "Shy", Settings: &api.RoleSettings{ListUsers: "friendsOnly", SendMessagesTo: "friendsOnly"}}); err != nil {
		t.Fatal(err)
	}
	for i, relation := range relations {
		t.Run(relation.name, func(t *testing.T) {
			viewer, subject := fmt.Sprint("viewer", i), fmt.Sprint("subject", i)
			rows := []api.UserRow{
				{UID: viewer, UpdateUserRequest: api.UpdateUserRequest{Name: new("Viewer")}},
				{UID: subject, UpdateUserRequest: api.UpdateUserRequest{Name: new(fmt.Sprint("Name ", i))}, LastActiveAt: new(int64(1_700_000_000))},
			}
			if _, err := c.Users.Batch(t.Context(), rows); err != nil {
				t.Fatal(err)
			}
			token, err := c.AuthTokens.Create(t.Context(), viewer, api.CreateAuthTokenRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if err := relation.make(t.Context(), c, viewer, subject); err != nil {
				t.Fatal(err)
			}
			for name, as := range map[string]*client.Client{"with its token": s.Client(t, client.WithAuthToken(token.Token)), "on its behalf": c.OnBehalfOf(viewer)} {
				t.Run(name, func(t *testing.T) { look(t, as, subject, relation.want) })
			}
			contact, err := c.Visibility.CanContact(t.Context(), viewer, subject)
			if err != nil || contact.CanContact != relation.want.contact {
				t.Errorf("can-contact says %+v, %v", contact, err)
			}
			explained, err := c.Visibility.Explain(t.Context(), viewer, subject)
			if err != nil || explained.Listed != relation.want.list || explained.Detailed != relation.want.get || explained.Presence != relation.want.presence {
				t.Errorf("explain says %+v, %v", explained, err)
			}
		})
	}
}

// look compares what every endpoint shows of the subject.
func look(t *testing.T, as *client.Client, subject string, want sight) {
	t.Helper()
	ctx := t.Context()
	check := func(where string, shown bool, user api.User, expected bool) {
		t.Helper()
		if shown != expected {
			t.Errorf("%s: shown is %v", where, shown)
		}
		if shown && ((user.LastActiveAt != 0) != want.presence || user.BlockedByMe != want.blockedByMe || user.HasBlockedMe != want.blocked || user.Status != "offline") {
			t.Errorf("%s: shown as %+v", where, user)
		}
	}
	user, err := as.Users.Get(ctx, subject)
	if err != nil && !client.IsCode(err, api.CodeUIDNotFound) {
		t.Fatal(err)
	}
	check("get", err == nil, user, want.get)
	found, err := as.Users.Lookup(ctx, subject)
	if err != nil {
		t.Fatal(err)
	}
	check("lookup", len(found.Users) == 1, append(found.Users, api.User{})[0], want.get)
	for where, list := range map[string]struct {
		options  client.UserListOptions
		expected bool
	}{
		"list":                       {client.UserListOptions{}, want.list},
		"list by uids":               {client.UserListOptions{UIDs: []string{subject}}, want.list},
		"list, last active first":    {client.UserListOptions{SortBy: "lastActiveAt"}, want.list},
		"search":                     {client.UserListOptions{SearchKey: subject}, want.list},
		"search by word":             {client.UserListOptions{NameContains: "name"}, want.list},
		"list without blocked users": {client.UserListOptions{HideBlockedUsers: true}, want.hidden},
		"list with deactivated":      {client.UserListOptions{WithDeactivated: true}, want.list},
	} {
		list.options.PerPage = 1000
		page, err := as.Users.List(ctx, list.options)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(page.Items, func(user api.User) bool { return user.UID == subject })
		check(where, i >= 0, append(page.Items, api.User{})[max(i, 0)], list.expected)
	}
}

// TestUnblockingTellsNothing unblocks those whom a user may not see: they are as one who does not exist, unless it has
// blocked them.
func TestUnblockingTellsNothing(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	c := s.Backend(t)
	for _, uid := range []string{"ada", "seen", "hidden", "gone", "blocked", "lost"} {
		create(t, s, uid)
	}
	if _, err := c.Roles.Create(t.Context(), api.CreateRoleRequest{
		Role: "shy", Name: "Shy",
		Settings: &api.RoleSettings{ListUsers: "friendsOnly"},
	}); err != nil {
		t.Fatal(err)
	}
	must[map[string]api.ItemResult](t)(c.Blocks.Block(t.Context(), "ada", "blocked", "lost"))
	must[api.DeactivateUsersResponse](t)(c.Users.Deactivate(t.Context(), "gone", "lost"))
	ada := s.Client(t, client.WithAuthToken(mint(t, c, "ada")))
	outcomes := func(of *client.Client, uid string) map[string]api.ItemResult {
		return must[map[string]api.ItemResult](t)(of.Blocks.Unblock(t.Context(), uid, "seen", "hidden", "gone", "blocked",
			"lost", "nobody"))
	}
	expect := func(what string, got map[string]api.ItemResult, found ...string) {
		t.Helper()
		for uid, result := range got {
			unknown := result.Code == api.CodeUIDNotFound && result.Message == strings.ReplaceAll(got["nobody"].Message,
				"nobody", uid)
			if result.Success != slices.Contains(found, uid) || !result.Success && !unknown {
				t.Errorf("%s, %s: %+v", what, uid, result)
			}
		}
	}
	befriend := func(uid string) { must[map[string]api.ItemResult](t)(c.Friends.Add(t.Context(), "ada", uid)) }
	befriend("seen")
	if err := makeShy(t.Context(), c, "ada"); err != nil {
		t.Fatal(err)
	}
	blocked := []string{}
	for user, err := range ada.Blocks.All(t.Context(), "", "blockedByMe") {
		if err != nil {
			t.Fatal(err)
		}
		blocked = append(blocked, user.UID)
	}
	if !slices.Equal(blocked, []string{"blocked"}) {
		t.Errorf("ada finds that she has blocked %v", blocked)
	}
	expect("as ada", outcomes(ada, ""), "seen", "blocked", "lost")
	expect("as ada again", outcomes(ada, ""), "seen")
	expect("with a key", outcomes(c, "ada"), "seen", "hidden", "blocked")
}

// TestOnlineCountIsTheViewers counts those online as everybody who is told: nobody learns from a number of somebody
// else.
func TestOnlineCountIsTheViewers(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy", "dan", "eve")
	c := s.Backend(t)
	for _, uid := range []string{"bob", "cy", "dan"} {
		s.Login(t, apitest.Login{UID: uid, Device: uid})
	}
	s.Login(t, apitest.Login{UID: "eve", Device: "eve", Body: extended(api.AuthBody{},
		api.SocketExtension{Status: "invisible"})})
	jwt, token := s.JWT(t, "ada")
	ada := s.Client(t, client.WithAuthToken(token))
	expect := func(what string, want int) {
		t.Helper()
		list, err := ada.Users.List(t.Context(), client.UserListOptions{Status: "available"})
		if err != nil && !client.IsCode(err, api.CodePermissionDenied) {
			t.Fatal(err)
		}
		counts := map[string]int{"listed": list.Pagination.Total}
		for how, as := range map[string]*client.Client{"with her token": ada, "on her behalf": c.OnBehalfOf("ada")} {
			if counts[how], err = as.Presence.OnlineCount(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var online api.Body[api.OnlineCount]
		body := sent{
			method: "POST", path: "/ws/api/v3.0/online-members",
			headers: map[string]string{"Authorization": jwt},
		}.takes(t, s)
		if err := json.Unmarshal(body, &online); err != nil {
			t.Fatal(err)
		}
		counts["as the SDK asks"] = online.Data.OnlineUsersCount
		for how, count := range counts {
			if count != want {
				t.Errorf("%s: %s, %d are online, not %d", what, how, count, want)
			}
		}
		if count, err := c.Presence.OnlineCount(t.Context()); err != nil || count != 3 {
			t.Errorf("%s: the key counts %d: %v", what, count, err)
		}
	}
	expect("nothing hides anybody but one who is invisible", 3)
	must[map[string]api.ItemResult](t)(c.Blocks.Block(t.Context(), "bob", "ada"))
	expect("bob has blocked her", 2)
	must[map[string]api.ItemResult](t)(c.Blocks.Block(t.Context(), "ada", "cy"))
	expect("and she has blocked cy", 1)
	sent{
		method: "POST", path: "/v3/roles",
		body: `{"role":"shy","name":"Shy","settings":{"listUsers":"friendsOnly"}}`,
	}.takes(t, s)
	if err := makeShy(t.Context(), c, "ada"); err != nil {
		t.Fatal(err)
	}
	expect("and sees friends only", 0)
	must[map[string]api.ItemResult](t)(c.Friends.Add(t.Context(), "ada", "dan"))
	expect("and dan is one", 1)
	sent{method: "PUT", path: "/v3/roles/shy/permissions", body: `{"permissions":{"listUsers":"deny"}}`}.takes(t, s)
	expect("and may not list users", 0)
	s.Login(t, apitest.Login{UID: "ada", Device: "ada"})
	if count, err := ada.Presence.OnlineCount(t.Context()); err != nil || count != 1 {
		t.Errorf("ada, who is online now, counts %d: %v", count, err)
	}
}
