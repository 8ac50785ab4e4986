package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func check(t *testing.T, what string, holds bool) {
	t.Helper()
	if !holds {
		t.Error(what)
	}
}

//go:fix inline
func TestClient_Users(t *testing.T) {
	t.Parallel()
	c := apitest.Start(t, "", nil).Backend(t)
	ctx := t.Context()
	for i := range 5 {
		user, err := c.Users.Create(
			ctx, api.CreateUserRequest{UID: fmt.Sprint("U", i), Name: fmt.Sprint("Name ", i), Tags: []string{"a,b"}},
		)
		check(t, "created", must(t, user, err).UID == fmt.Sprint("u", i))
	}
	updated, err := c.Users.Update(ctx, "u1", api.UpdateUserRequest{Name: new("New"), StatusMessage: new("Hi")})
	check(t, "updated", must(t, updated, err).Name == "New")
	got, err := c.Users.Get(ctx, "u1")
	check(t, "read back", must(t, got, err).StatusMessage == "Hi")
	var walked []string
	for user, err := range c.Users.All(ctx, client.UserListOptions{
		PageOptions: client.PageOptions{PerPage: 2}, WithTags: true, Tags: []string{"a,b"}, UIDs: []string{"u0", "u1", "u2"},
		SearchIn: []string{"uid", "name"},
	}) {
		walked = append(walked, must(t, user, err).UID)
	}
	check(t, "walked "+strings.Join(walked, " "), len(walked) == 3)
	off, err := c.Users.Deactivate(ctx, "u1", "nobody")
	check(t, "deactivated", len(must(t, off, err).Deactivated) == 1 && len(off.NotFound) == 1)
	on, err := c.Users.Reactivate(ctx, "u1", "u2")
	check(t, "reactivated", len(must(t, on, err).Reactivated) == 1 && len(on.NonDeactivated) == 1)
	if err := c.Users.Erase(ctx, "u1"); err != nil {
		t.Fatal(err)
	}
	_, err = c.Users.Get(ctx, "u1")
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeUIDNotFound || refused.Status != http.StatusNotFound ||
		refused.RequestID == "" {
		t.Errorf("a deleted user: %#v", err)
	}
	_, err = c.Users.Create(ctx, api.CreateUserRequest{UID: "no good"})
	if !errors.As(err, &refused) || refused.Details["uid"] == nil || refused.Details["name"] == nil {
		t.Errorf("bad input: %#v", err)
	}
}

func TestClient_Relations(t *testing.T) {
	t.Parallel()
	c := apitest.Start(t, "", nil).Backend(t)
	ctx := t.Context()
	rows := []api.UserRow{
		{UID: "ada", UpdateUserRequest: api.UpdateUserRequest{Name: new("Ada")}},
		{UID: "bob", UpdateUserRequest: api.UpdateUserRequest{Name: new("Bob")}},
		{UID: "cy"},
	}
	results, err := c.Users.Batch(ctx, rows)
	check(t, "batch", must(t, results, err)[0].Status == "created" && results[2].Status == "failed")
	user, err := c.Users.Upsert(ctx, "cy", api.UpdateUserRequest{Name: new("Cy")})
	check(t, "upsert", must(t, user, err).Name == "Cy")
	found, err := c.Users.Lookup(ctx, "cy", "nobody")
	check(t, "lookup", len(must(t, found, err).Users) == 1 && len(found.NotFound) == 1)
	there, err := c.Users.Exists(ctx, "nobody")
	check(t, "exists", !must(t, there, err))

	blocked, err := c.Blocks.Block(ctx, "ada", "bob")
	check(t, "blocked", must(t, blocked, err)["bob"].Success)
	seen, err := c.OnBehalfOf("bob").Users.Get(ctx, "ada")
	check(t, "flag", must(t, seen, err).HasBlockedMe)
	contact, err := c.Visibility.CanContact(ctx, "bob", "ada")
	check(t, "contact", must(t, contact, err).Code == api.CodeBlockedSender)
	explained, err := c.Visibility.Explain(ctx, "ada", "bob")
	check(t, "explained", must(t, explained, err).Rule == "viewer blocked subject")
	check(
		t, "blocked list",
		walked(t, c.Blocks.All(ctx, "ada", "")) == "bob" && walked(t, c.Blocks.All(ctx, "bob", "hasBlockedMe")) == "ada",
	)
	unblocked, err := c.Blocks.Unblock(ctx, "ada", "bob")
	check(t, "unblocked", must(t, unblocked, err)["bob"].Success && walked(t, c.Blocks.All(ctx, "ada", "both")) == "")

	asked, err := c.Friends.Ask(ctx, "ada", "bob", "cy")
	check(
		t, "asked",
		must(t, asked, err)["cy"].Success && walked(t, c.Friends.Requests(ctx, "ada", true)) == "bob cy" &&
			walked(t, c.Friends.Requests(ctx, "bob", false)) == "ada",
	)
	answered, err := c.Friends.Answer(ctx, "bob", api.FriendRequestsRequest{Accept: []string{"ada"}})
	check(t, "answered", must(t, answered, err)["ada"].Success)
	added, err := c.Friends.Add(ctx, "cy", "ada")
	check(t, "added", must(t, added, err)["ada"].Success && walked(t, c.Friends.All(ctx, "ada")) == "bob cy")
	if err := c.Friends.Remove(ctx, "ada", "bob"); err != nil {
		t.Fatal(err)
	}
	check(
		t, "friends only", walked(t, c.OnBehalfOf("ada").Users.All(ctx, client.UserListOptions{FriendsOnly: true})) == "cy",
	)
}

func walked(t *testing.T, users iter.Seq2[api.User, error]) string {
	t.Helper()
	var uids []string
	for user, err := range users {
		uids = append(uids, must(t, user, err).UID)
	}
	return strings.Join(uids, " ")
}

func TestClient_TokensAndMe(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	c, ctx := s.Backend(t), t.Context()
	_, err := c.Users.Create(ctx, api.CreateUserRequest{UID: "ada", Name: "Ada"})
	must(t, 0, err)
	token, err := c.AuthTokens.Create(ctx, "ada", api.CreateAuthTokenRequest{Platform: "WEB"})
	must(t, token, err)
	bound, err := c.AuthTokens.Update(
		ctx, "ada", token.ID, api.UpdateAuthTokenRequest{Platform: new("IOS"), DeviceID: new("d")},
	)
	check(t, "bound", must(t, bound, err).Platform == "IOS")
	read, err := c.AuthTokens.Get(ctx, "ada", token.Token)
	check(t, "read by its text", must(t, read, err).DeviceID == "d" && read.Token == token.Token)
	listed, err := c.AuthTokens.List(ctx, "ada", client.PageOptions{})
	check(t, "listed, masked", must(t, listed, err).Pagination.Total == 1 && listed.Items[0].Token != token.Token)

	me := s.Client(t, client.WithAuthToken(token.Token))
	profile, err := me.Me.Update(ctx, api.UpdateUserRequest{Name: new("Ada L."), Role: new("admin")})
	check(
		t, "own profile",
		must(t, profile, err).Name == "Ada L." && profile.Role == "default" && profile.AuthToken == token.Token &&
			profile.JWT != "",
	)
	again, err := me.Me.Get(ctx)
	check(t, "read back", must(t, again, err).Name == "Ada L.")
	settings, err := me.Me.Settings(ctx)
	check(t, "settings", must(t, settings, err).ChatAPIVersion == "v3.0" && settings.AppVersion == 4)
	jwt, err := me.Me.JWT(ctx, map[string]int{"a": 1})
	check(t, "JWT", strings.Count(must(t, jwt, err), ".") == 2)
	if err := me.Me.LogOut(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = me.Me.Get(ctx)
	check(t, "logged out", client.IsCode(err, api.CodeAuthTokenUnknown))

	stats, err := c.Stats.Get(ctx, apitest.Epoch, apitest.Epoch+1)
	check(t, "active users", must(t, stats, err).Metrics.ActiveUsers == 1)
}

func TestClient_KeysAndRoles(t *testing.T) {
	t.Parallel()
	c := apitest.Start(t, "", nil).Backend(t)
	ctx := t.Context()
	key, err := c.APIKeys.Create(ctx, api.CreateAPIKeyRequest{Name: "K"})
	check(t, "key", must(t, key, err).Scope == "authOnly")
	renamed, err := c.APIKeys.Update(ctx, key.ID, api.UpdateAPIKeyRequest{Name: new("L")})
	check(t, "renamed", must(t, renamed, err).Name == "L")
	found, err := c.APIKeys.Get(ctx, key.Key)
	check(t, "found", must(t, found, err).ID == key.ID)
	keys, err := c.APIKeys.List(ctx, client.APIKeyListOptions{SearchKey: "l", Scope: "authOnly"})
	check(t, "listed", must(t, keys, err).Pagination.Total == 1)
	_, err = c.APIKeys.Delete(ctx, key.ID, api.DeleteAPIKeyRequest{})
	must(t, 0, err)

	role, err := c.Roles.Create(
		ctx, api.CreateRoleRequest{Role: "vip", Name: "VIP", Settings: &api.RoleSettings{ListUsers: "friendsOnly"}},
	)
	check(t, "role", must(t, role, err).Settings.ListUsers == "friendsOnly")
	_, err = c.Roles.Update(ctx, "vip", api.UpdateRoleRequest{Unset: []string{"settings"}, Description: new("d")})
	must(t, 0, err)
	role, err = c.Roles.Get(ctx, "vip")
	check(t, "updated", must(t, role, err).Settings == nil && role.Description == "d")
	set, err := c.Roles.SetPermissions(ctx, "vip", api.UpdatePermissionsRequest{
		Permissions: map[string]json.RawMessage{"listUsers": json.RawMessage(`"deny"`)},
	})
	check(t, "permission", string(must(t, set, err)["listUsers"]) == `"deny"`)
	_, err = c.Roles.SetPermissions(ctx, "vip", api.UpdatePermissionsRequest{
		Permissions: map[string]json.RawMessage{"fly": json.RawMessage(`"deny"`)},
	})
	check(t, "unknown permission", err != nil)
	definitions, err := c.Roles.Permissions(ctx, "vip")
	check(t, "28 definitions", len(must(t, definitions, err)) == 28)
	left, err := c.Roles.DeletePermission(ctx, "vip", "listUsers")
	check(t, "permission deleted", len(must(t, left, err)) == 0)
	allow := func(feature string) error {
		return c.Roles.AllowFeatures(ctx, "vip", api.AllowFeaturesRequest{Features: []string{feature}})
	}
	if err := errors.Join(c.Roles.RestrictFeatures(ctx, "vip", "getUser"), allow("blockUser")); err != nil {
		t.Fatal(err)
	}
	check(t, "a feature that there is not", client.IsCode(allow("nothing"), api.CodeBadRequest))
	restricted, err := c.Roles.RestrictedFeatures(ctx, "vip", client.PageOptions{})
	check(t, "restricted", must(t, restricted, err).Items[0].Key == "u.getUser")
	if err := c.Roles.Delete(ctx, "vip"); err != nil {
		t.Fatal(err)
	}
	roles, err := c.Roles.List(ctx, client.PageOptions{})
	check(t, "one role left", must(t, roles, err).Pagination.Total == 1)
	changes, last, err := c.Changes.List(ctx, 0, 3)
	check(t, "changes", len(must(t, changes, err)) == 3 && last > 3)
}

func TestClient_Apps(t *testing.T) {
	t.Parallel()
	c := apitest.Start(t, "", nil).Operator(t)
	ctx := t.Context()
	app, err := c.Apps.Create(ctx, api.CreateAppRequest{Name: "Second", SkipSampleData: true})
	check(t, "two keys", len(must(t, app, err).APIKeys) == 2)
	_, err = c.Apps.Update(ctx, app.ID, api.UpdateAppRequest{Name: "Renamed"})
	must(t, 0, err)
	page, err := c.Apps.List(ctx, "renam", client.PageOptions{})
	check(t, "found", must(t, page, err).Pagination.Total == 1)
	reveal := true
	_, err = c.Apps.UpdateSettings(ctx, app.ID, api.UpdateAppSettingsRequest{RevealSecrets: &reveal})
	must(t, 0, err)
	settings, err := c.Apps.Settings(ctx, app.ID)
	check(t, "settings", must(t, settings, err).RevealSecrets)
	usage, err := c.Apps.Usage(ctx, app.ID, api.UsageRequest{})
	check(t, "usage", must(t, usage, err).Users == 0)
	_, err = c.Apps.AddCollaborator(ctx, app.ID, api.Collaborator{Email: "a@example.com", Role: "admin"})
	must(t, 0, err)
	people, err := c.Apps.Collaborators(ctx, app.ID, client.PageOptions{})
	check(t, "collaborators", must(t, people, err).Pagination.Total == 1)
	if err := c.Apps.RemoveCollaborator(ctx, app.ID, "a@example.com"); err != nil {
		t.Fatal(err)
	}
	deleted, err := c.Apps.Delete(ctx, app.ID)
	check(t, "deleted", must(t, deleted, err).ScheduledToDeleteAt > 0)
	restored, err := c.Apps.Restore(ctx, app.ID)
	check(t, "restored", must(t, restored, err).State == "active")
	got, err := c.Apps.Get(ctx, app.ID)
	check(t, "read back", must(t, got, err).Name == "Renamed")
}

func TestClient_IdempotencyKey(t *testing.T) {
	t.Parallel()
	c := apitest.Start(t, "", nil).Backend(t)
	ctx := client.WithIdempotencyKey(t.Context(), "a key")
	first, err := c.Users.Create(ctx, api.CreateUserRequest{UID: "ada", Name: "Ada", WithAuthToken: true})
	must(t, first, err)
	second, err := c.Users.Create(ctx, api.CreateUserRequest{UID: "ada", Name: "Ada", WithAuthToken: true})
	check(t, "the first answer again", must(t, second, err).AuthToken == first.AuthToken)
}

// counting counts requests on their way.
type counting struct{ requests atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

func TestClient_TriesAgainOnlyWhereThatIsSafe(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) {
		config.RateLimits = httpapi.RateLimits{Core: 60_000, Standard: 60_000, Token: 60_000}
	})
	transport := &counting{}
	c := s.Client(
		t, client.WithAPIKey(s.Credentials.RestAPIKey), client.WithHTTPClient(&http.Client{Transport: transport}),
	)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		call func(context.Context) error
		want int64
	}{
		"a read": {func(ctx context.Context) error { _, err := c.Users.Get(ctx, "ada"); return err }, 3},
		"a write": {func(ctx context.Context) error {
			_, err := c.Users.Update(ctx, "ada", api.UpdateUserRequest{})
			return err
		}, 1},
		"a write with an idempotency key": {func(ctx context.Context) error {
			_, err := c.Users.Update(client.WithIdempotencyKey(ctx, "k"), "ada", api.UpdateUserRequest{})
			return err
		}, 3},
	} {
		transport.requests.Store(0)
		if err := test.call(t.Context()); err == nil {
			t.Errorf("%s: a stopped server answered", what)
		}
		if got := transport.requests.Load(); got != test.want {
			t.Errorf("%s: tried %d times, want %d", what, got, test.want)
		}
	}
}

func TestNew_refusesWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:8080", "ftp://example.com", "http://", "%"} {
		if _, err := client.New(address); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
}

// TestUnixSocketAddress calls a server that listens on a Unix socket alone, in every way in which the library does.
func TestUnixSocketAddress(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "rc") //nolint:usetesting // whose path is too long for a Unix socket
	must(t, folder, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	address := "unix:" + filepath.Join(folder, "rollcall.sock")
	s := apitest.Start(t, "", func(config *server.Config) { config.HTTP = address })
	s.URL = address
	c := s.Backend(t)
	_, err = c.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"})
	must(t, c, err)
	token, err := c.AuthTokens.Create(t.Context(), "ada", api.CreateAuthTokenRequest{})
	must(t, token, err)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	connected := false
	ada := s.Client(t, client.WithAuthToken(token.Token), client.WithHTTPClient(&http.Client{}))
	for _, err := range ada.Presence.Session(client.SessionOptions{OnState: func(state client.ConnectionState, err error) {
		connected = connected || state == client.Connected
		if connected || err != nil {
			leave()
		}
	}}).Events(ctx) {
		t.Error(err)
	}
	check(t, "a session connects", connected)
	for said, address := range map[string]string{
		"nothing listens there": address + "-", "is not the address of a server": "unix:",
	} {
		c, err := client.New(address)
		if err == nil {
			_, err = c.Users.Get(t.Context(), "ada")
		}
		if err == nil || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestManagementCredentials looks at which calls the management credentials are sent with.
func TestManagementCredentials(t *testing.T) {
	t.Parallel()
	var sent atomic.Bool
	s := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		sent.Store(r.Header.Get("key") == "the-management-key" && r.Header.Get("secret") == "its-secret")
		if !sent.Load() && (r.Header["Key"] != nil || r.Header["Secret"] != nil) {
			t.Errorf("it is called with %v", r.Header)
		}
		fmt.Fprint(w, `{"data":{}}`)
	})
	management := client.WithManagement("the-management-key", "its-secret")
	both := newClient(t, s.URL, management)
	alone, err := client.New(s.URL, management)
	must(t, alone, err)
	for what, call := range map[string]struct {
		of   *client.Client
		make func(c *client.Client) error
		want bool
	}{
		"apps": {both, func(c *client.Client) error { _, err := c.Apps.Get(t.Context(), "a"); return err }, true},
		"keys": {both, func(c *client.Client) error { _, err := c.APIKeys.Get(t.Context(), "a"); return err }, false},
		"keys without a key": {
			alone, func(c *client.Client) error { _, err := c.APIKeys.Get(t.Context(), "a"); return err }, true,
		},
		"users": {both, func(c *client.Client) error { _, err := c.Users.Get(t.Context(), "apps"); return err }, false},
	} {
		if err := call.make(call.of); err != nil || sent.Load() != call.want {
			t.Errorf("%s: the management credentials are sent: %v (%v)", what, sent.Load(), err)
		}
	}
}
