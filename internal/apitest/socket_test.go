package apitest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

var (
	everybody = api.AuthBody{PresenceSubscription: api.SubscribeAllUsers}
	friends   = api.AuthBody{PresenceSubscription: api.SubscribeFriends}
)

// extended asks for what the contract does not have, on top of a subscription.
func extended(body api.AuthBody, x api.SocketExtension) api.AuthBody {
	body.Rollcall = &x
	return body
}

// startSockets starts a server with users. Its grace is so long that no test waits for its end, unless the test sets
// another.
func startSockets(t *testing.T, database string, configure func(*server.Config), uids ...string) *apitest.Server {
	t.Helper()
	s := apitest.Start(t, database, func(config *server.Config) {
		config.Grace = time.Hour
		if configure != nil {
			configure(config)
		}
	})
	for _, uid := range uids {
		create(t, s, uid)
	}
	return s
}

func create(t *testing.T, s *apitest.Server, uid string) {
	t.Helper()
	if _, err := s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: uid, Name: uid}); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestSocketTellsWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := startSockets(t, database, nil, "ada", "bob", "cy")
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada.Hears("bob online")
		wantBob(t, s, "available")
		// The same user on another device: nothing to tell when one of the two goes.
		second := s.Login(t, apitest.Login{UID: "bob", Device: "c"})
		bob.Close(1000, "User logged out")
		second.Close(1000, "User logged out")
		ada.Hears("bob offline")
		wantBob(t, s, "offline")
		if bob := must[api.User](t)(s.Backend(t).Users.Get(t.Context(), "bob")); bob.LastActiveAt != apitest.Epoch {
			t.Errorf("bob was last active at %d", bob.LastActiveAt)
		}
	})
}

func wantBob(t *testing.T, s *apitest.Server, want string) {
	t.Helper()
	if bob := must[api.User](t)(s.Backend(t).Users.Get(t.Context(), "bob")); bob.Status != want {
		t.Errorf("bob is %s, want %s", bob.Status, want)
	}
}

func TestSocketSubscriptions(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "all", "none", "friend", "roles", "uids", "ada", "bob")
	backend := s.Backend(t)
	must[api.Role](t)(backend.Roles.Create(t.Context(), api.CreateRoleRequest{Role: "star", Name: "Star"}))
	star := "star"
	must[api.User](t)(backend.Users.Update(t.Context(), "ada", api.UpdateUserRequest{Role: &star}))
	if err := befriend(t.Context(), backend, "friend", "ada"); err != nil {
		t.Fatal(err)
	}
	listeners := map[string]*apitest.Socket{
		"all":    s.Login(t, apitest.Login{UID: "all", Device: "1", Body: everybody}),
		"none":   s.Login(t, apitest.Login{UID: "none", Device: "2"}),
		"friend": s.Login(t, apitest.Login{UID: "friend", Device: "3", Body: friends}),
		"roles":  s.Login(t, apitest.Login{UID: "roles", Device: "4", Body: api.AuthBody{PresenceSubscription: api.SubscribeRoles, Roles: []string{"STAR"}}}),
		"uids":   s.Login(t, apitest.Login{UID: "uids", Device: "5", Body: api.AuthBody{PresenceSubscription: api.SubscribeUIDs, UIDs: []string{"ADA", "nobody"}}}),
	}
	listeners["all"].Hears("none online", "friend online", "roles online", "uids online")
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	listeners["all"].Hears("bob online")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a"})
	for _, name := range []string{"all", "friend", "roles", "uids"} {
		listeners[name].Hears("ada online")
	}
	ada.Close(1000, "")
	bob.Close(1000, "")
	for _, name := range []string{"friend", "roles", "uids"} {
		listeners[name].Hears("ada offline")
	}
	heard := []string{listeners["all"].Presence(), listeners["all"].Presence()}
	if slices.Sort(heard); !slices.Equal(heard, []string{"ada offline", "bob offline"}) {
		t.Errorf("heard %v", heard)
	}
}

func TestSocketEventIsTheContracts(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada")
	must[api.User](t)(s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{
		UID: "bob", Name: "Bob", Avatar: "https://example.com/b.png", StatusMessage: "hi", Tags: []string{"x"}, Metadata: json.RawMessage(`{"a":1,"@private":{"b":2}}`),
	}))
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	frame := ada.Next()
	if frame.Type != "presence" || frame.AppID != s.Credentials.AppID || frame.Sender != "bob" || frame.DeviceID == "a" {
		t.Errorf("the frame is %+v", frame)
	}
	want := fmt.Sprintf(`{"action":"online","timestamp":%d,"user":{"uid":"bob","name":"Bob","avatar":"https://example.com/b.png","metadata":{"a":1},"status":"available","role":"default","statusMessage":"hi","tags":["x"]}}`, apitest.Epoch)
	if string(frame.Body) != want {
		t.Errorf("the body is\n%s, want\n%s", frame.Body, want)
	}
}

func TestSocketDeviceThatComesBackIsNotMissed(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	ada.Hears("bob online")
	for _, leave := range []func(){bob.Break, func() { bob.Close(1001, "the page goes") }} {
		leave()
		awaitDevices(t, s, "bob", func(d api.PresenceDevice) bool { return d.AwayUntil != 0 && d.AuthTokenID != "" })
		wantBob(t, s, "available")
		bob = s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		awaitDevices(t, s, "bob", func(d api.PresenceDevice) bool { return d.ConnectedAt != 0 })
	}
	// Nothing was told of all that: the next that ada hears is of cy.
	s.Login(t, apitest.Login{UID: "cy", Device: "c"})
	ada.Hears("cy online")
}

// awaitDevices waits until a user has exactly one device, and that is as wanted.
func awaitDevices(t *testing.T, s *apitest.Server, uid string, want func(api.PresenceDevice) bool) {
	t.Helper()
	await(t, uid+"'s device", func() bool {
		var presence api.UserPresence
		get(t, s, "/v3/users/"+uid+"/presence", &presence)
		return len(presence.Devices) == 1 && want(presence.Devices[0])
	})
}

// await polls for what no event announces.
func await(t *testing.T, what string, check func() bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < outagePatience; time.Sleep(10 * time.Millisecond) {
		if check() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// get makes a REST call as the backend and decodes its data.
func get(t *testing.T, s *apitest.Server, path string, into any) {
	t.Helper()
	call(t, s, http.MethodGet, path, "", into)
}

func call(t *testing.T, s *apitest.Server, method, path, body string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(apitest.Context(t), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("appId", s.Credentials.AppID)
	request.Header.Set("apikey", s.Credentials.RestAPIKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&api.Body[any]{Data: into}); err != nil {
		t.Fatal(err)
	}
}

func TestSocketGraceEnds(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", func(config *server.Config) { config.Grace = 50 * time.Millisecond }, "ada", "bob")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	bob.Break()
	ada.Hears("bob online", "bob offline")
}

func TestSocketsDieWithTheirToken(t *testing.T) {
	t.Parallel()
	revoke := map[string]struct {
		do      func(ctx context.Context, c *client.Client, token string) (closed int, err error)
		offline bool
	}{
		"the token": {func(ctx context.Context, c *client.Client, token string) (int, error) {
			revoked, err := c.AuthTokens.Revoke(ctx, "bob", token)
			return revoked.ClosedSockets, err
		}, true},
		"all of the user": {func(ctx context.Context, c *client.Client, _ string) (int, error) {
			revoked, err := c.AuthTokens.RevokeOfUser(ctx, "bob", 0)
			return revoked.ClosedSockets, err
		}, true},
		"all of the app": {func(ctx context.Context, c *client.Client, _ string) (int, error) {
			revoked, err := c.AuthTokens.RevokeOfApp(ctx, apitest.Epoch+10)
			return revoked.ClosedSockets, err
		}, false},
		"the user is deactivated": {func(ctx context.Context, c *client.Client, _ string) (int, error) {
			done, err := c.Users.Deactivate(ctx, "bob")
			return done.ClosedSockets, err
		}, true},
		"the user is deleted": {func(ctx context.Context, c *client.Client, _ string) (int, error) {
			return 1, c.Users.Erase(ctx, "bob")
		}, true},
	}
	for name, way := range revoke {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSockets(t, "", nil, "ada", "bob")
			ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
			jwt, token := s.JWT(t, "bob")
			bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
			ada.Hears("bob online")
			if !way.offline {
				s.Clock().Advance(10 * time.Second)
			}
			if closed := must[int](t)(way.do(t.Context(), s.Backend(t), token)); closed == 0 {
				t.Error("no socket was said to be closed")
			}
			if code, reason := bob.ClosedWith(); code != api.CloseRevoked {
				t.Errorf("closed with %d %s", code, reason)
			}
			if way.offline {
				ada.Hears("bob offline")
			}
			// The JWT is good for a while, and opens nothing any more.
			again := s.Dial(t)
			again.SendAuth(s, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
			if frame := again.Next(); !strings.Contains(string(frame.Body), `"code":"401"`) {
				t.Errorf("the answer is %s", frame.Body)
			}
			if code, _ := again.ClosedWith(); code != api.CloseAuthFailed {
				t.Errorf("closed with %d", code)
			}
		})
	}
}

func TestSocketFollowsBlocks(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := startSockets(t, database, nil, "ada", "bob", "cy")
		backend := s.Backend(t)
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: everybody})
		ada.Hears("bob online")
		must[map[string]api.ItemResult](t)(backend.Blocks.Block(t.Context(), "ada", "bob"))
		ada.Hears("bob offline")
		bob.Hears("ada offline")
		// Neither hears of the other, and both of cy.
		more := s.Login(t, apitest.Login{UID: "bob", Device: "b2"})
		more.Close(1000, "")
		cy := s.Login(t, apitest.Login{UID: "cy", Device: "c"})
		ada.Hears("cy online")
		bob.Hears("cy online")
		must[map[string]api.ItemResult](t)(backend.Blocks.Unblock(t.Context(), "ada", "bob"))
		ada.Hears("bob online")
		bob.Hears("ada online")
		// Blocked from before.
		must[map[string]api.ItemResult](t)(backend.Blocks.Block(t.Context(), "cy", "ada"))
		ada.Hears("cy offline")
		cy.Close(1000, "")
		bob.Hears("cy offline")
		s.Login(t, apitest.Login{UID: "cy", Device: "c"})
		bob.Hears("cy online")
		bob.Close(1000, "")
		ada.Hears("bob offline")
	})
}

func TestSocketFollowsFriends(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy")
	backend := s.Backend(t)
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: friends})
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	if err := befriend(t.Context(), backend, "ada", "bob"); err != nil {
		t.Fatal(err)
	}
	ada.Hears("bob online")
	bob.Close(1000, "")
	ada.Hears("bob offline")
	s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	ada.Hears("bob online")
	if err := backend.Friends.Remove(t.Context(), "bob", "ada"); err != nil {
		t.Fatal(err)
	}
	ada.Hears("bob offline")
}

func TestSocketFollowsRoles(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy")
	backend := s.Backend(t)
	must[api.Role](t)(backend.Roles.Create(t.Context(), api.CreateRoleRequest{Role: "star", Name: "Star"}))
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: api.AuthBody{PresenceSubscription: api.SubscribeRoles, Roles: []string{"star"}}})
	all := s.Login(t, apitest.Login{UID: "cy", Device: "c", Body: everybody})
	s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	all.Hears("bob online")
	setRole := func(uid, role string) {
		must[api.User](t)(backend.Users.Update(t.Context(), uid, api.UpdateUserRequest{Role: &role}))
	}
	setRole("bob", "star")
	ada.Hears("bob online")
	if _, body := all.PresenceBody(); body.User.Role != "star" || body.Action != "online" {
		t.Errorf("told of %+v", body)
	}
	setRole("bob", "default")
	ada.Hears("bob offline")
	all.Hears("bob online")

	must[api.Role](t)(backend.Roles.Create(t.Context(), api.CreateRoleRequest{Role: "shy", Name: "Shy"}))
	call(t, s, http.MethodPut, "/v3/roles/shy", `{"settings":{"listUsers":"friendsOnly"}}`, nil)
	// A role that sees only friends, for a listener and for all listeners with it.
	if err := makeShy(t.Context(), backend, "cy"); err != nil {
		t.Fatal(err)
	}
	heard := []string{all.Presence(), all.Presence()}
	if slices.Sort(heard); !slices.Equal(heard, []string{"ada offline", "bob offline"}) {
		t.Errorf("heard %v", heard)
	}
	if err := befriend(t.Context(), backend, "cy", "bob"); err != nil {
		t.Fatal(err)
	}
	all.Hears("bob online")
	call(t, s, http.MethodPut, "/v3/roles/shy", `{"settings":{"listUsers":"all"}}`, nil)
	all.Hears("ada online")
	call(t, s, http.MethodPut, "/v3/roles/shy", `{"settings":{"listUsers":"friendsOnly"}}`, nil)
	all.Hears("ada offline")
}

func TestSocketTellsNewNames(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	ada.Hears("bob online")
	name := "Robert"
	must[api.User](t)(s.Backend(t).Users.Update(t.Context(), "bob", api.UpdateUserRequest{Name: &name}))
	if _, body := ada.PresenceBody(); body.User.Name != name || body.Action != "online" {
		t.Errorf("told of %+v", body)
	}
}

// TestSocketTellsOfOneself: a client that asks for more than the contract is told when somebody else has changed its
// user, and what others do about being friends. A client of the contract is told nothing of it.
func TestSocketTellsOfOneself(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy")
	backend := s.Backend(t)
	plain := s.Login(t, apitest.Login{UID: "ada", Device: "plain", Body: everybody})
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: extended(api.AuthBody{}, api.SocketExtension{})})
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: extended(api.AuthBody{}, api.SocketExtension{})})
	answer := func(uid string, request api.FriendRequestsRequest) {
		must[map[string]api.ItemResult](t)(backend.Friends.Answer(t.Context(), uid, request))
	}
	name, private := "Ada Lovelace", json.RawMessage(`{"@private":{"crm":1}}`) // which nobody may see
	must[api.User](t)(backend.Users.Update(t.Context(), "ada", api.UpdateUserRequest{Metadata: &private}))
	must[api.User](t)(backend.Users.Update(t.Context(), "ada", api.UpdateUserRequest{Name: &name}))
	ada.Changes("user.updated ada ")
	must[map[string]api.ItemResult](t)(backend.Friends.Ask(t.Context(), "bob", "ada", "cy"))
	bob.Changes("friend.requested bob ada", "friend.requested bob cy")
	ada.Changes("friend.requested bob ada")
	answer("ada", api.FriendRequestsRequest{Accept: []string{"bob"}})
	answer("cy", api.FriendRequestsRequest{Refuse: []string{"bob"}})
	bob.Changes("friend.added ada bob", "friend.refused cy bob")
	if err := backend.Friends.Remove(t.Context(), "bob", "ada"); err != nil {
		t.Fatal(err)
	}
	must[map[string]api.ItemResult](t)(backend.Friends.Ask(t.Context(), "ada", "bob"))
	answer("ada", api.FriendRequestsRequest{Withdraw: []string{"bob"}})
	ada.Changes("friend.added ada bob", "friend.removed bob ada", "friend.requested ada bob", "friend.withdrawn ada bob")
	bob.Changes("friend.removed bob ada", "friend.requested ada bob", "friend.withdrawn ada bob")
	plain.Hears("bob online")
	bob.Close(1000, "")
	plain.Hears("bob offline")

	// What was missed is noticed by the time of the last change. In that second, there may have been more than one.
	stored := must[api.User](t)(backend.Users.Get(t.Context(), "ada"))
	login := apitest.Login{UID: "ada", Device: "later", Body: extended(api.AuthBody{}, api.SocketExtension{})}
	soon := s.Login(t, login)
	soon.Changes("user.updated ada ")
	s.Clock().Advance(time.Minute)
	login.Device = "late"
	late := s.Login(t, login)
	if got := late.Welcome.Rollcall.UpdatedAt; got == 0 || got != stored.UpdatedAt {
		t.Errorf("welcomed with updatedAt %d, want %d", got, stored.UpdatedAt)
	}
	must[map[string]api.ItemResult](t)(backend.Friends.Ask(t.Context(), "cy", "ada"))
	late.Changes("friend.requested cy ada")
}

func TestSocketStatuses(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "old", "bob")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: extended(everybody, api.SocketExtension{})})
	old := s.Login(t, apitest.Login{UID: "old", Device: "o", Body: everybody})
	ada.Hears("old online")
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: extended(api.AuthBody{}, api.SocketExtension{Status: "away"})})
	ada.Hears("bob away")
	old.Hears("bob online")
	status := func(socket *apitest.Socket, body string) {
		socket.SendText(`{"type":"status","body":` + body + `}`)
	}
	status(bob, `{"status":"busy","statusText":"In a meeting"}`)
	if _, body := ada.PresenceBody(); body.Action != "busy" || body.StatusText != "In a meeting" || body.User.Status != "available" || body.Sequence == 0 {
		t.Errorf("told of %+v", body)
	}
	// Another device that is only available does not outvote it. Whoever knows only online and offline hears nothing of
	// it.
	second := s.Login(t, apitest.Login{UID: "bob", Device: "c"})
	var presence api.UserPresence
	if get(t, s, "/v3/users/bob/presence", &presence); presence.Status != "busy" || len(presence.Devices) != 2 {
		t.Errorf("bob's presence is %+v", presence)
	}
	status(bob, `{"status":"invisible"}`)
	ada.Hears("bob offline")
	old.Hears("bob offline")
	var seen struct {
		Users []api.PresenceStatus `json:"users"`
	}
	call(t, s, http.MethodPost, "/v3/presence/query", `{"uids":["bob"]}`, &seen)
	if len(seen.Users) != 1 || seen.Users[0].Status != "invisible" {
		t.Errorf("the operator sees %+v", seen)
	}
	viewer := s.Client(t, client.WithAuthToken(mint(t, s.Backend(t), "ada")))
	if user := must[api.User](t)(viewer.Users.Get(t.Context(), "bob")); user.Status != "offline" {
		t.Errorf("ada sees bob as %s", user.Status)
	}
	status(bob, `{"status":"available","statusText":"ended long ago","expiresAt":1}`)
	status(bob, `{"status":"available","statusText":"Here"}`)
	if _, body := ada.PresenceBody(); body.Action != "online" || body.StatusText != "Here" {
		t.Errorf("told of %+v", body)
	}
	old.Hears("bob online")
	second.Close(1000, "")
	status(bob, `{"status":"nonsense"}`)
	if code, _ := bob.ClosedWith(); code != 1007 {
		t.Errorf("closed with %d", code)
	}
}

func TestSocketResumes(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy", "dan", "eve")
	backend := s.Backend(t)
	snapshot := func(socket *apitest.Socket) (users []string, complete bool) {
		t.Helper()
		frame := socket.Next()
		var body api.SnapshotBody
		if frame.Type != api.FrameSnapshot || json.Unmarshal(frame.Body, &body) != nil || !body.Last {
			t.Fatalf("not a snapshot: %+v %s", frame, frame.Body)
		}
		for _, user := range body.Users {
			users = append(users, user.UID+" "+user.Status)
		}
		slices.Sort(users)
		return users, body.Complete
	}
	want := func(socket *apitest.Socket, complete bool, users ...string) {
		t.Helper()
		if got, all := snapshot(socket); all != complete || !slices.Equal(got, users) {
			t.Fatalf("the snapshot is %v, complete %v", got, all)
		}
	}
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
	s.Login(t, apitest.Login{UID: "eve", Device: "e"})
	jwt, _ := s.JWT(t, "ada")
	login := func(x api.SocketExtension) *apitest.Socket {
		t.Helper()
		body := extended(everybody, x)
		body.Auth = jwt
		return s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: body})
	}
	ada := login(api.SocketExtension{Snapshot: true})
	want(ada, true, "bob available", "eve available")
	if other := login(api.SocketExtension{}); other.Welcome.Rollcall.Epoch == "" || other.Welcome.Rollcall.Epoch != ada.Welcome.Rollcall.Epoch {
		t.Errorf("who asks for nothing is at %+v", other.Welcome.Rollcall)
	}
	s.Login(t, apitest.Login{UID: "cy", Device: "c"})
	_, body := ada.PresenceBody()
	at := api.PresencePosition{Epoch: ada.Welcome.Rollcall.Epoch, Sequence: body.Sequence}
	ada.Break()

	// Meanwhile one leaves, one comes, and one is blocked.
	operator := s.Login(t, apitest.Login{UID: "dan", Device: "d", Body: everybody})
	bob.Close(1000, "")
	operator.Hears("bob offline")
	must[map[string]api.ItemResult](t)(backend.Blocks.Block(t.Context(), "eve", "ada"))
	must[map[string]api.ItemResult](t)(backend.Blocks.Block(t.Context(), "eve", "dan"))
	operator.Hears("eve offline") // the log has been followed to here

	ada = login(api.SocketExtension{Resume: &at})
	if !ada.Welcome.Rollcall.Resumed || ada.Welcome.Rollcall.Epoch != at.Epoch {
		t.Errorf("welcomed with %+v", ada.Welcome.Rollcall)
	}
	want(ada, false, "bob offline", "dan available", "eve offline")

	// Of another subscription, or of another life of the server, nothing is known.
	for _, unknown := range []api.PresencePosition{{Epoch: "other", Sequence: 1}, {Epoch: at.Epoch, Sequence: 1 << 40}} {
		socket := login(api.SocketExtension{Resume: &unknown})
		if socket.Welcome.Rollcall.Resumed {
			t.Error("resumed from nowhere")
		}
		want(socket, true, "cy available", "dan available")
	}
}

// TestSocketResumesWithoutStrangers resumes a session that hears of friends alone, and one of somebody who is blocked.
// Neither learns that others came and went meanwhile.
func TestSocketResumesWithoutStrangers(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "friend", "stranger", "watcher")
	must[map[string]api.ItemResult](t)(s.Backend(t).Friends.Add(t.Context(), "ada", "friend"))
	must[map[string]api.ItemResult](t)(s.Backend(t).Blocks.Block(t.Context(), "stranger", "bob"))
	watcher := s.Login(t, apitest.Login{UID: "watcher", Device: "w", Body: everybody})
	bodies := map[string]api.AuthBody{"ada": {PresenceSubscription: api.SubscribeFriends}, "bob": everybody}
	at := map[string]api.PresencePosition{}
	for uid, body := range bodies {
		socket := s.Login(t, apitest.Login{UID: uid, Device: uid, Body: extended(body, api.SocketExtension{Snapshot: true})})
		socket.Next() // the snapshot
		at[uid] = socket.Welcome.Rollcall.PresencePosition
		watcher.Hears(uid + " online")
		socket.Break()
	}
	for _, uid := range []string{"stranger", "friend"} {
		s.Login(t, apitest.Login{UID: uid, Device: uid})
		watcher.Hears(uid + " online")
	}
	for uid, body := range bodies {
		position := at[uid]
		socket := s.Login(t, apitest.Login{UID: uid, Device: uid, Body: extended(body, api.SocketExtension{Resume: &position})})
		var snapshot api.SnapshotBody
		if frame := socket.Next(); !socket.Welcome.Rollcall.Resumed || json.Unmarshal(frame.Body, &snapshot) != nil {
			t.Fatalf("%s: not a snapshot: %s", uid, frame.Body)
		}
		for _, told := range snapshot.Users {
			if told.UID == "stranger" {
				t.Errorf("%s is told of a stranger: %+v", uid, told)
			}
		}
	}
}

func TestSocketOperator(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := startSockets(t, database, nil, "ada", "bob")
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		s.Login(t, apitest.Login{UID: "ada", Device: "a"})
		var count api.OnlineCount
		if get(t, s, "/v3/presence/online-count", &count); count.OnlineUsersCount != 2 {
			t.Errorf("%d are online", count.OnlineUsersCount)
		}
		var done api.DisconnectResponse
		if call(t, s, http.MethodDelete, "/v3/users/bob/presence/b", "", &done); done.ClosedSockets != 1 {
			t.Errorf("disconnected: %+v", done)
		}
		if code, _ := bob.ClosedWith(); code != api.CloseDisconnected {
			t.Errorf("closed with %d", code)
		}
		wantBob(t, s, "offline")
		var transitions []api.PresenceTransition
		await(t, "the timeline", func() bool {
			get(t, s, "/v3/users/bob/presence/timeline", &transitions)
			return len(transitions) == 2
		})
		if first, last := transitions[1], transitions[0]; first.Status != "available" || first.Cause != "connected" || last.Status != "offline" || last.Cause != "disconnected by operator" || first.DeviceID != "b" {
			t.Errorf("the timeline is %+v", transitions)
		}
	})
}

func TestPresenceStream(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob")
	s.Login(t, apitest.Login{UID: "ada", Device: "a"})
	read, stop := streamPresence(t, s, "")
	if id, event, data := read(); event != "snapshot" || id == "" || data != fmt.Sprintf(`{"complete":true,"last":true,"users":[{"uid":"ada","status":"available","lastActiveAt":%d}]}`, apitest.Epoch) {
		t.Errorf("%s %s %s", id, event, data)
	}
	bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: extended(api.AuthBody{}, api.SocketExtension{Status: "invisible"})})
	id, event, data := read()
	if event != "presence" || !strings.HasPrefix(data, `{"uid":"bob","status":"invisible"`) {
		t.Errorf("%s %s", event, data)
	}
	stop()
	bob.Close(1000, "")
	awaitStatus(t, s, "bob", "offline")
	read, stop = streamPresence(t, s, id)
	_, event, data = read()
	if event != "snapshot" || !strings.HasPrefix(data, `{"complete":false,"last":true,"users":[`) {
		t.Errorf("%s %s", event, data)
	}
	if strings.HasSuffix(data, "[]}") { // it may not have been told yet
		_, _, data = read()
	}
	if !strings.Contains(data, `{"uid":"bob","status":"offline"`) {
		t.Errorf("missed: %s", data)
	}
	stop()
}

func awaitStatus(t *testing.T, s *apitest.Server, uid, status string) {
	t.Helper()
	await(t, uid+" to be "+status, func() bool {
		return must[api.User](t)(s.Backend(t).Users.Get(t.Context(), uid)).Status == status
	})
}

// streamPresence opens the stream of presence events behind an id. stop closes it.
func streamPresence(t *testing.T, s *apitest.Server, after string) (read func() (id, event, data string), stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), outagePatience)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/v3/presence/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"appId": s.Credentials.AppID, "apikey": s.Credentials.RestAPIKey, "Accept": "text/event-stream", "Last-Event-ID": after} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(response.Body)
	read = func() (id, event, data string) {
		t.Helper()
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				id = value
			case "event":
				event = value
			case "data":
				data = value
			case "":
				if event != "" {
					return id, event, data
				}
			}
		}
		t.Fatal("the stream ended", lines.Err())
		return "", "", ""
	}
	return read, func() { cancel(); response.Body.Close() }
}

func TestSocketRefusesStrangers(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob")
	jwt, token := s.JWT(t, "ada")
	for name, login := range map[string]apitest.Login{
		"no JWT":               {UID: "ada", Device: "a", Body: api.AuthBody{Auth: "x"}},
		"the auth token":       {UID: "ada", Device: "a", Body: api.AuthBody{Auth: token}},
		"a forged JWT":         {UID: "ada", Device: "a", Body: api.AuthBody{Auth: jwt[:len(jwt)-4] + "AAAA"}},
		"another's JWT":        {UID: "bob", Device: "a", Body: api.AuthBody{Auth: jwt}},
		"unknown subscription": {UID: "ada", Device: "a", Body: api.AuthBody{Auth: jwt, PresenceSubscription: "SOME"}},
		"unprintable device":   {UID: "ada", Device: "a\x00b", Body: api.AuthBody{Auth: jwt}},
		"unknown status":       {UID: "ada", Device: "a", Body: extended(api.AuthBody{Auth: jwt}, api.SocketExtension{Status: "asleep"})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := s.Dial(t)
			socket.SendAuth(s, login)
			var reply api.AuthReply
			if frame := socket.Next(); frame.Type != api.FrameAuth || json.Unmarshal(frame.Body, &reply) != nil || reply.Code == "200" || reply.Message == "" {
				t.Errorf("the answer is %+v %s", frame, frame.Body)
			}
			if code, reason := socket.ClosedWith(); code != api.CloseAuthFailed || reason == "" {
				t.Errorf("closed with %d %s", code, reason)
			}
		})
	}
	t.Run("a JWT that has expired", func(t *testing.T) {
		s := startSockets(t, "", nil, "ada")
		jwt, _ := s.JWT(t, "ada")
		s.Clock().Advance(time.Hour)
		socket := s.Dial(t)
		socket.SendAuth(s, apitest.Login{UID: "ada", Body: api.AuthBody{Auth: jwt}})
		if code, _ := socket.ClosedWith(); code != api.CloseAuthFailed {
			t.Errorf("closed with %d", code)
		}
	})
}

// hostile opens a socket with another library than the other tests, which lets more pass.
func hostile(t *testing.T, s *apitest.Server) *websocket.Conn {
	t.Helper()
	conn, response, err := (&websocket.Dialer{WriteBufferSize: 128 << 10}).DialContext(apitest.Context(t), "ws"+strings.TrimPrefix(s.URL, "http")+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wantClose reads until the socket is closed, which must be with the code.
func wantClose(t *testing.T, conn *websocket.Conn, code int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(outagePatience))
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, code) {
				t.Errorf("closed with %v, want %d", err, code)
			}
			return
		}
	}
}

func TestSocketHostileClients(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", func(config *server.Config) { config.AuthTimeout, config.SessionsPerUser = time.Hour, 3 }, "ada", "bob")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	for name, attack := range map[string]struct {
		do   func(conn *websocket.Conn) error
		code int
	}{
		"wrong JSON":    {func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte(`{"type":`)) }, 1007},
		"not an object": {func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte(`[1]`)) }, 1007},
		"not UTF-8": {func(c *websocket.Conn) error {
			return c.WriteMessage(websocket.TextMessage, []byte("{\"a\":\"\xff\"}"))
		}, 1007},
		"something else": {func(c *websocket.Conn) error {
			return c.WriteMessage(websocket.TextMessage, []byte(`{"type":"message"}`))
		}, api.CloseAuthFailed},
		"a giant frame": {func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, make([]byte, 2<<20)) }, 1009},
		"a giant to come": {func(c *websocket.Conn) error {
			return writeRaw(c, []byte{0x81, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4})
		}, 1009},
		"unmasked":         {func(c *websocket.Conn) error { return writeRaw(c, []byte{0x81, 2, '{', '}'}) }, 1002},
		"reserved bits":    {func(c *websocket.Conn) error { return writeRaw(c, []byte{0xf1, 0x80, 0, 0, 0, 0}) }, 1002},
		"reserved opcode":  {func(c *websocket.Conn) error { return writeRaw(c, []byte{0x83, 0x80, 0, 0, 0, 0}) }, 1002},
		"a stray fragment": {func(c *websocket.Conn) error { return writeRaw(c, []byte{0x80, 0x80, 0, 0, 0, 0}) }, 1002},
		"a ping in pieces": {func(c *websocket.Conn) error { return writeRaw(c, []byte{0x09, 0x80, 0, 0, 0, 0}) }, 1002},
		"a flood": {func(c *websocket.Conn) error {
			for range 1000 {
				_ = c.WriteMessage(websocket.TextMessage, []byte(`{"action":"ping","ack":"true"}`)) // it is closed in the middle of it
			}
			return nil
		}, 1008},
	} {
		t.Run(name, func(t *testing.T) {
			conn := hostile(t, s)
			if err := attack.do(conn); err != nil {
				t.Fatal(err)
			}
			wantClose(t, conn, attack.code)
		})
	}
	t.Run("no auth", func(t *testing.T) {
		impatient := startSockets(t, "", func(config *server.Config) { config.AuthTimeout = 100 * time.Millisecond })
		wantClose(t, hostile(t, impatient), api.CloseAuthTimeout)
	})
	t.Run("a giant in fragments", func(t *testing.T) {
		conn := hostile(t, s)
		writer, err := conn.NextWriter(websocket.TextMessage)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			if _, err := writer.Write(make([]byte, 64<<10)); err != nil {
				break // closed in the middle of it
			}
		}
		wantClose(t, conn, 1009)
	})
	t.Run("too many sockets", func(t *testing.T) {
		jwt, _ := s.JWT(t, "bob")
		for i := range 3 {
			s.Login(t, apitest.Login{UID: "bob", Device: fmt.Sprint(i), Body: api.AuthBody{Auth: jwt}})
		}
		fourth := s.Dial(t)
		fourth.SendAuth(s, apitest.Login{UID: "bob", Device: "4", Body: api.AuthBody{Auth: jwt}})
		if code, _ := fourth.ClosedWith(); code != api.CloseTooMany {
			t.Errorf("closed with %d", code)
		}
	})
	ada.Hears("bob online") // she was not disturbed
}

func writeRaw(conn *websocket.Conn, frame []byte) error {
	_, err := conn.NetConn().Write(frame)
	return err
}

// TestSocketInterop speaks with another library than the other tests: fragments, control frames between them, and a
// message in binary, which is ignored.
func TestSocketInterop(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada")
	jwt, _ := s.JWT(t, "ada")
	conn := hostile(t, s)
	pongs := 0
	conn.SetPongHandler(func(text string) error {
		if text == "between" {
			pongs++
		}
		return nil
	})
	auth := fmt.Sprintf(`{"type":"auth","appId":%q,"sender":"ADA","deviceId":"a","body":{"auth":%q}}`, s.Credentials.AppID, jwt)
	frames := []byte{}
	frames = append(frames, masked(0x01, auth[:20])...)
	frames = append(frames, masked(0x89, "between")...)
	frames = append(frames, masked(0x00, auth[20:40])...)
	frames = append(frames, masked(0x80, auth[40:])...)
	for _, b := range frames { // one byte at a time
		if err := writeRaw(conn, []byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	_, answer, err := conn.ReadMessage()
	if err != nil || !strings.Contains(string(answer), `"code":"200"`) {
		t.Fatalf("the answer is %s, %v", answer, err)
	}
	if err := conn.WriteMessage(websocket.BinaryMessage, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"typing_indicator","body":{}}`)); err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"ack":"true", "action":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if _, answer, err = conn.ReadMessage(); err != nil || string(answer) != `{"action":"pong"}` {
		t.Fatalf("the answer is %s, %v", answer, err)
	}
	if pongs != 1 {
		t.Errorf("%d pongs", pongs)
	}
	if err := conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(3000, "bye")); err != nil {
		t.Fatal(err)
	}
	wantClose(t, conn, 3000)
}

// masked makes a client's frame with a short payload or one of up to 64 KiB.
func masked(first byte, payload string) []byte {
	frame := []byte{first}
	if len(payload) < 126 {
		frame = append(frame, 0x80|byte(len(payload)))
	} else {
		frame = append(frame, 0x80|126, byte(len(payload)>>8), byte(len(payload)))
	}
	key := []byte{1, 2, 3, 4}
	frame = append(frame, key...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^key[i%4])
	}
	return frame
}

func TestSocketOverTLS(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", func(config *server.Config) { config.HTTPS = "127.0.0.1:0" }, "ada", "bob", "cy")
	through := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(through.CloseIdleConnections)
	ada := apitest.DialURL(t, "wss://"+s.HTTPSAddr+"/", through)
	ada.Auth(s, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	bob := apitest.DialURL(t, "wss://"+s.HTTPSAddr+"/ws:443", through)
	bob.Auth(s, apitest.Login{UID: "bob", Device: "b"})
	ada.Hears("bob online")
	bob.Close(1000, "")
	ada.Hears("bob offline")
	// A message of many records, both ways.
	uids := make([]string, 10_000)
	for i := range uids {
		uids[i] = fmt.Sprintf("user-with-a-rather-long-uid-%032d", i)
	}
	cy := apitest.DialURL(t, "wss://"+s.HTTPSAddr+"/", through)
	cy.Auth(s, apitest.Login{UID: "cy", Device: "c", Body: api.AuthBody{PresenceSubscription: api.SubscribeUIDs, UIDs: append(uids, "bob")[1:]}})
	ada.Hears("cy online")
	// Who goes without the farewell of TLS is away, and may come back.
	cy.Break()
	awaitDevices(t, s, "cy", func(d api.PresenceDevice) bool { return d.AwayUntil != 0 })
}

func TestSocketUpgradeIsBounded(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", func(config *server.Config) { config.HeaderTimeout = time.Second }, "ada")
	conn, err := net.Dial("tcp", s.HTTPAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX-Slow: ")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(outagePatience))
	if n, err := conn.Read(make([]byte, 100)); err == nil {
		_, err = conn.Read(make([]byte, 100))
		if err == nil {
			t.Errorf("the connection is still open after %d bytes", n)
		}
	}
}

func TestRestartIsNotTold(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	configure := func(config *server.Config) { config.DataDir, config.ReturnWithin = folder, 5*time.Second }
	s := startSockets(t, "", configure, "ada", "bob", "cy")
	jwts := map[string]string{}
	for _, uid := range []string{"ada", "bob", "cy"} {
		jwts[uid], _ = s.JWT(t, uid)
	}
	login := func(s *apitest.Server, uid string) *apitest.Socket {
		t.Helper()
		body := everybody
		body.Auth = jwts[uid]
		return s.Login(t, apitest.Login{UID: uid, Device: uid, Body: body})
	}
	ada := login(s, "ada")
	login(s, "bob")
	login(s, "cy")
	ada.Hears("bob online", "cy online")
	awaitTimelines(t, s, "ada", "bob", "cy")
	s.Clock().Advance(100 * time.Second)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _ := ada.ClosedWith(); code != 1001 {
		t.Errorf("closed with %d", code)
	}
	again := apitest.Start(t, "", func(config *server.Config) {
		config.Grace = time.Hour
		configure(config)
		config.Now = s.Clock().Now
	})
	for _, uid := range []string{"ada", "bob", "cy"} {
		if user := must[api.User](t)(again.Backend(t).Users.Get(t.Context(), uid)); user.Status != "offline" || user.LastActiveAt != apitest.Epoch+100 {
			t.Errorf("after the restart %s is %s, last active at %d", uid, user.Status, user.LastActiveAt)
		}
	}
	ada = login(again, "ada")
	login(again, "bob") // is expected, and not worth a word
	ada.Hears("cy offline")
}

// awaitTimelines waits until what is known of users is stored.
func awaitTimelines(t *testing.T, s *apitest.Server, uids ...string) {
	t.Helper()
	for _, uid := range uids {
		await(t, "the timeline of "+uid, func() bool {
			var transitions []api.PresenceTransition
			get(t, s, "/v3/users/"+uid+"/presence/timeline", &transitions)
			return len(transitions) > 0
		})
	}
}

// TestSocketAfterMuchHappened goes through what once went wrong.
func TestSocketAfterMuchHappened(t *testing.T) {
	t.Parallel()
	t.Run("a device comes back after its user changed", func(t *testing.T) {
		t.Parallel()
		s := startSockets(t, "", nil, "ada", "bob", "cy")
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada.Hears("bob online")
		jwt, _ := s.JWT(t, "bob")
		bob.Break()
		awaitDevices(t, s, "bob", func(d api.PresenceDevice) bool { return d.AwayUntil != 0 })
		name := "Robert"
		must[api.User](t)(s.Backend(t).Users.Update(t.Context(), "bob", api.UpdateUserRequest{Name: &name}))
		s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
		if _, body := ada.PresenceBody(); body.Action != "online" || body.User.Name != name {
			t.Errorf("told of %+v", body)
		}
		s.Login(t, apitest.Login{UID: "cy", Device: "c"})
		ada.Hears("cy online")
	})
	t.Run("a user is deactivated, reactivated and back at once", func(t *testing.T) {
		t.Parallel()
		s := startSockets(t, "", nil, "ada", "bob", "cy")
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		jwt, _ := s.JWT(t, "bob")
		for range 10 {
			bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
			ada.Hears("bob online")
			must[api.DeactivateUsersResponse](t)(s.Backend(t).Users.Deactivate(t.Context(), "bob"))
			bob.ClosedWith()
			ada.Hears("bob offline")
			must[api.ReactivateUsersResponse](t)(s.Backend(t).Users.Reactivate(t.Context(), "bob"))
		}
		s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
		ada.Hears("bob online")
		s.Login(t, apitest.Login{UID: "cy", Device: "c"})
		ada.Hears("cy online")
	})
	t.Run("a role is changed for a listener who never heard of the other", func(t *testing.T) {
		t.Parallel()
		s := startSockets(t, "", nil, "ada", "bob")
		backend := s.Backend(t)
		for _, role := range []string{"viewer", "seen"} {
			must[api.Role](t)(backend.Roles.Create(t.Context(), api.CreateRoleRequest{Role: role, Name: role}))
		}
		must[api.User](t)(backend.Users.Update(t.Context(), "ada", api.UpdateUserRequest{Role: new("viewer")}))
		must[api.User](t)(backend.Users.Update(t.Context(), "bob", api.UpdateUserRequest{Role: new("seen")}))
		s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		call(t, s, http.MethodPut, "/v3/roles/viewer/permissions", `{"permissions":{"listUsers.allowedRoles":["viewer"],"getUserDetails.allowedRoles":["viewer"]}}`, nil)
		ada.Hears("bob offline")
	})
	t.Run("a device is away when its token is revoked", func(t *testing.T) {
		t.Parallel()
		s := startSockets(t, "", nil, "ada", "bob")
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		jwt, token := s.JWT(t, "bob")
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
		bob.Break()
		ada.Hears("bob online")
		awaitDevices(t, s, "bob", func(d api.PresenceDevice) bool { return d.AwayUntil != 0 })
		must[api.RevokedResponse](t)(s.Backend(t).AuthTokens.Revoke(t.Context(), "bob", token))
		ada.Hears("bob offline")
	})
	t.Run("who resumes has got another role meanwhile", func(t *testing.T) {
		t.Parallel()
		s := startSockets(t, "", nil, "ada", "bob")
		s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: extended(everybody, api.SocketExtension{Snapshot: true})})
		at := ada.Welcome.Rollcall.PresencePosition
		ada.Close(1000, "")
		awaitStatus(t, s, "ada", "offline")
		must[api.Role](t)(s.Backend(t).Roles.Create(t.Context(), api.CreateRoleRequest{Role: "shy", Name: "Shy", Settings: &api.RoleSettings{ListUsers: "friendsOnly"}}))
		if err := makeShy(t.Context(), s.Backend(t), "ada"); err != nil {
			t.Fatal(err)
		}
		ada = s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: extended(everybody, api.SocketExtension{Resume: &at})})
		if ada.Welcome.Rollcall.Resumed {
			t.Error("resumed what was seen with another role")
		}
	})
	t.Run("the text of somebody who hides", func(t *testing.T) {
		t.Parallel()
		s := startSockets(t, "", nil, "ada", "bob")
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: extended(everybody, api.SocketExtension{})})
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: extended(api.AuthBody{}, api.SocketExtension{})})
		ada.Hears("bob online")
		bob.SendText(`{"type":"status","body":{"status":"invisible","statusText":"secret"}}`)
		if _, body := ada.PresenceBody(); body.Action != "offline" || body.StatusText != "" {
			t.Errorf("told of %+v", body)
		}
	})
}

// gate keeps the readers of connections waiting between shut and open.
type gate struct{ shut, opened chan struct{} }

func newGate() (g gate, shut, open func()) {
	g = gate{make(chan struct{}), make(chan struct{})}
	return g, sync.OnceFunc(func() { close(g.shut) }), sync.OnceFunc(func() { close(g.opened) })
}

// gatedConn is a connection whose reader goes through a gate. What it is already reading it still gets.
type gatedConn struct {
	net.Conn
	gate gate
}

func (c gatedConn) Read(into []byte) (int, error) {
	select {
	case <-c.gate.shut:
		<-c.gate.opened
	default:
	}
	return c.Conn.Read(into)
}

// TestSocketSlowReader lets a client stop reading while much happens. It is closed with a reason and can resume;
// another one hears everything.
func TestSocketSlowReader(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", func(config *server.Config) { config.MaxWaiting = 200 }, "slow", "quick")
	uids := make([]string, 100)
	rename := func(round int) {
		rows := make([]api.UserRow, len(uids))
		for i, uid := range uids {
			name, metadata := fmt.Sprintf("%s in round %d", uid, round), json.RawMessage(`{"bio":"`+strings.Repeat("x", 4900)+`"}`)
			rows[i] = api.UserRow{UID: uid, UpdateUserRequest: api.UpdateUserRequest{Name: &name, Metadata: &metadata}}
		}
		must[[]api.UserRowResult](t)(s.Backend(t).Users.Batch(t.Context(), rows))
	}
	for i := range uids {
		uids[i] = fmt.Sprintf("u%02d", i)
	}
	rename(0)
	for _, uid := range uids {
		s.Login(t, apitest.Login{UID: uid, Device: uid})
	}
	quick := s.Login(t, apitest.Login{UID: "quick", Device: "q", Body: everybody})
	gate, shut, open := newGate()
	through := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return gatedConn{conn, gate}, conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	}}}
	t.Cleanup(through.CloseIdleConnections)
	slow := apitest.DialURL(t, "ws://"+s.HTTPAddr+"/", through)
	t.Cleanup(open) // before the socket is closed, whose reader may be waiting
	slow.Auth(s, apitest.Login{UID: "slow", Device: "s", Body: extended(everybody, api.SocketExtension{})})
	quick.Hears("slow online")

	shut()
	// Every change of a round reaches the quick one, and so it is meant for the slow one too, before the next round
	// begins: else a busy server tells of the last round alone.
	const rounds = 400 // many times what the kernel and the queue hold
	dropped := false
	for round := 1; !dropped && round < rounds; round++ {
		rename(round)
		for heard := map[string]bool{}; len(heard) < len(uids); {
			if _, body := quick.PresenceBody(); strings.HasSuffix(body.User.Name, fmt.Sprintf(" in round %d", round)) {
				heard[body.User.UID] = true
			}
		}
		_, metrics := raw(t, s, "GET", "/metrics", "")
		dropped = strings.Contains(string(metrics), "\nrollcall_presence_queue_drops_total 1\n")
	}
	if !dropped {
		t.Fatalf("who does not read is not dropped in %d rounds", rounds)
	}
	open()
	if code, reason := slow.ClosedWith(); code != api.CloseTooSlow {
		t.Errorf("closed with %d %q", code, reason)
	}
	position := slow.Welcome.Rollcall.PresencePosition
	again := s.Login(t, apitest.Login{UID: "slow", Device: "s", Body: extended(everybody, api.SocketExtension{Resume: &position})})
	if frame := again.Next(); frame.Type != api.FrameSnapshot {
		t.Errorf("after the return came %+v", frame)
	}
}
