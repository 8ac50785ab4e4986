package apitest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

// who is a kind of caller in the authorization matrix.
type who string

const (
	nobody        who = "no credential"
	wrongKey      who = "wrong key"
	authOnly      who = "authOnly key"
	fullAccess    who = "fullAccess key"
	user          who = "user's token"
	otherUser     who = "another user's token"
	revokedToken  who = "revoked token"
	otherAppKey   who = "key of another app"
	otherAppToken who = "token of another app"
	operator      who = "operator"
	wrongOperator who = "wrong management secret"
)

// expected is the code that each kind of caller gets from the routes with an access; empty means that the credential is
// accepted, whatever the answer is then.
var expected = map[httpapi.Access]map[who]api.Code{
	httpapi.Public: {},
	httpapi.FullAccessKey: {
		nobody: api.CodeEmptyAPIKey, wrongKey: api.CodeAPIKeyUnknown, authOnly: api.CodeNoAccess, user: api.CodeEmptyAPIKey, otherUser: api.CodeEmptyAPIKey,
		revokedToken: api.CodeEmptyAPIKey, otherAppKey: api.CodeAPIKeyUnknown, otherAppToken: api.CodeEmptyAPIKey, operator: api.CodeEmptyAPIKey, wrongOperator: api.CodeEmptyAPIKey,
	},
	httpapi.FullAccessKeyOrManagement: {
		nobody: api.CodeEmptyAPIKey, wrongKey: api.CodeAPIKeyUnknown, authOnly: api.CodeNoAccess, user: api.CodeEmptyAPIKey, otherUser: api.CodeEmptyAPIKey,
		revokedToken: api.CodeEmptyAPIKey, otherAppKey: api.CodeAPIKeyUnknown, otherAppToken: api.CodeEmptyAPIKey, wrongOperator: api.CodeNoAccess,
	},
	httpapi.AnyKey: {
		nobody: api.CodeEmptyAPIKey, wrongKey: api.CodeAPIKeyUnknown, user: api.CodeEmptyAPIKey, otherUser: api.CodeEmptyAPIKey,
		revokedToken: api.CodeEmptyAPIKey, otherAppKey: api.CodeAPIKeyUnknown, otherAppToken: api.CodeEmptyAPIKey, operator: api.CodeEmptyAPIKey, wrongOperator: api.CodeEmptyAPIKey,
	},
	httpapi.UserToken: {
		nobody: api.CodeEmptyAuthToken, wrongKey: api.CodeEmptyAuthToken, authOnly: api.CodeEmptyAuthToken, fullAccess: api.CodeEmptyAuthToken,
		revokedToken: api.CodeAuthTokenUnknown, otherAppKey: api.CodeEmptyAuthToken, otherAppToken: api.CodeAuthTokenUnknown,
		operator: api.CodeEmptyAuthToken, wrongOperator: api.CodeEmptyAuthToken,
	},
	httpapi.KeyOrToken: {
		nobody: api.CodeEmptyAPIKey, wrongKey: api.CodeAPIKeyUnknown, authOnly: api.CodeNoAccess, revokedToken: api.CodeAuthTokenUnknown,
		otherAppKey: api.CodeAPIKeyUnknown, otherAppToken: api.CodeAuthTokenUnknown, operator: api.CodeEmptyAPIKey, wrongOperator: api.CodeEmptyAPIKey,
	},
	httpapi.MaybeToken: { // the ping: the SDK must be told in its own way
		nobody: api.CodeNoAuth, wrongKey: api.CodeNoAuth, authOnly: api.CodeNoAuth, fullAccess: api.CodeNoAuth, revokedToken: api.CodeNoAuth,
		otherAppKey: api.CodeNoAuth, otherAppToken: api.CodeNoAuth, operator: api.CodeNoAuth, wrongOperator: api.CodeNoAuth,
	},
	httpapi.Management: {
		nobody: api.CodeEmptyAuthHeader, wrongKey: api.CodeEmptyAuthHeader, authOnly: api.CodeEmptyAuthHeader, fullAccess: api.CodeEmptyAuthHeader,
		user: api.CodeEmptyAuthHeader, otherUser: api.CodeEmptyAuthHeader, revokedToken: api.CodeEmptyAuthHeader, otherAppKey: api.CodeEmptyAuthHeader,
		otherAppToken: api.CodeEmptyAuthHeader, wrongOperator: api.CodeNoAccess,
	},
}

// credentialCodes are the codes that refuse a credential.
var credentialCodes = map[api.Code]bool{
	api.CodeEmptyAPIKey: true, api.CodeAPIKeyUnknown: true, api.CodeNoAccess: true, api.CodeEmptyAuthToken: true, api.CodeAuthTokenUnknown: true,
	api.CodeEmptyAuthHeader: true, api.CodeEmptyAppID: true, api.CodeInvalidAppID: true,
}

// TestAuthorizationMatrix calls every route as every kind of caller. The accepted ones are called on things that do not
// exist, so that no call spoils the next; logging out would, and each caller of it has a token of its own.
func TestAuthorizationMatrix(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.RateLimits = httpapi.RateLimits{Core: -1, Standard: -1, Token: -1} })
	headers := everyCaller(t, s)
	for _, route := range httpapi.Routes() {
		for caller, set := range headers {
			if route.Method+" "+route.Path == "DELETE /me" && (caller == user || caller == otherUser) {
				set = map[string]string{"appId": s.Credentials.AppID, "authToken": mint(t, s.Backend(t), string(caller[:4]))}
			}
			path := route.Path
			for name, value := range map[string]string{"{uid}": "someone", "{authToken}": "tok_x", "{apiKey}": "key_x", "{role}": "nothing", "{permission}": "none", "{version}": "v3.0", "{deviceId}": "x", "{appId}": "none", "{email}": "x@example.com", "{$}": ""} {
				path = strings.ReplaceAll(path, name, value)
			}
			code := callCode(t, s.URL, route.Method, path, set)
			want := expected[route.Access][caller]
			switch {
			case want != "" && code != want:
				t.Errorf("%s %s as %s: got %q, want %q", route.Method, route.Path, caller, code, want)
			case want == "" && credentialCodes[code]:
				t.Errorf("%s %s as %s: refused with %q", route.Method, route.Path, caller, code)
			}
		}
	}
}

// everyCaller returns the headers of each kind of caller.
func everyCaller(t *testing.T, s *apitest.Server) map[who]map[string]string {
	t.Helper()
	backend, c := s.Backend(t), s.Credentials
	for _, uid := range []string{"user", "anot", "gone"} {
		if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: uid, Name: uid}); err != nil {
			t.Fatal(err)
		}
	}
	revoked := mint(t, backend, "gone")
	if _, err := backend.AuthTokens.Revoke(t.Context(), "gone", revoked); err != nil {
		t.Fatal(err)
	}
	other, err := s.Operator(t).Apps.Create(t.Context(), api.CreateAppRequest{Name: "Other", ID: "other"})
	if err != nil {
		t.Fatal(err)
	}
	otherKey := ""
	for _, key := range other.APIKeys {
		if key.Scope == "fullAccess" {
			otherKey = key.Key
		}
	}
	elsewhere, err := client.New(s.URL, client.WithApp("other"), client.WithAPIKey(otherKey))
	if err != nil {
		t.Fatal(err)
	}
	app := func(name, value string) map[string]string {
		return map[string]string{"appId": c.AppID, name: value}
	}
	return map[who]map[string]string{
		nobody: {"appId": c.AppID}, wrongKey: app("apikey", strings.Repeat("0", 40)), authOnly: app("apikey", c.AuthKey), fullAccess: app("apikey", c.RestAPIKey),
		user: app("authToken", mint(t, backend, "user")), otherUser: app("authToken", mint(t, backend, "anot")), revokedToken: app("authToken", revoked),
		otherAppKey: app("apikey", otherKey), otherAppToken: app("authToken", mint(t, elsewhere, "cometchat-uid-1")),
		operator:      {"appId": c.AppID, "key": c.ManagementKey, "secret": c.ManagementSecret},
		wrongOperator: {"appId": c.AppID, "key": c.ManagementKey, "secret": "wrong"},
	}
}

func mint(t *testing.T, c *client.Client, uid string) string {
	t.Helper()
	token, err := c.AuthTokens.Create(t.Context(), uid, api.CreateAuthTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

// callCode makes a call and returns the code of its error, empty for a success. Any other answer fails the test.
func callCode(t *testing.T, address, method, path string, headers map[string]string) api.Code {
	t.Helper()
	request, err := http.NewRequestWithContext(apitest.Context(t), method, address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://page.example.com")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode == http.StatusOK {
		return ""
	}
	return envelope(t, method+" "+path, response, body).Code
}

// envelope checks that a response is the contract's error envelope and returns what is in it.
func envelope(t *testing.T, what string, response *http.Response, body []byte) api.Error {
	t.Helper()
	var decoded map[string]json.RawMessage
	var e api.ErrorBody
	if json.Unmarshal(body, &decoded) != nil || len(decoded) != 1 || json.Unmarshal(body, &e) != nil || e.Error.Code == "" || e.Error.Message == "" || e.Error.Source != api.Source {
		t.Fatalf("%s: status %d with something else than the error envelope: %q", what, response.StatusCode, body)
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		t.Errorf("%s: an error of type %q", what, response.Header.Get("Content-Type"))
	}
	if response.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%s: an error that a browser may not read", what)
	}
	if response.StatusCode < 400 {
		t.Errorf("%s: an error with status %d", what, response.StatusCode)
	}
	return e.Error
}

func TestAppsAreSeparate(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := apitest.Start(t, database, nil)
		other, err := s.Operator(t).Apps.Create(t.Context(), api.CreateAppRequest{Name: "Other", SkipSampleData: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
		for _, key := range other.APIKeys {
			if key.Scope != "fullAccess" {
				continue
			}
			elsewhere, err := client.New(s.URL, client.WithApp(other.ID), client.WithAPIKey(key.Key))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := elsewhere.Users.Get(t.Context(), "ada"); !client.IsCode(err, api.CodeUIDNotFound) {
				t.Errorf("another app sees the user: %v", err)
			}
			if user, err := elsewhere.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Another"}); err != nil || user.Name != "Another" {
				t.Errorf("another app cannot use the uid: %v", err)
			}
		}
	})
}

// TestRevocation takes access away in every way there is; the very next request must feel it.
func TestRevocation(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		for name, revoke := range map[string]func(t *testing.T, s *apitest.Server, token string) error{
			"token": func(t *testing.T, s *apitest.Server, token string) error {
				_, err := s.Backend(t).AuthTokens.Revoke(t.Context(), "ada", token)
				return err
			},
			"all of the user": func(t *testing.T, s *apitest.Server, _ string) error {
				done, err := s.Backend(t).AuthTokens.RevokeOfUser(t.Context(), "ada", 0)
				if done.RevokedTokens != 1 {
					t.Errorf("%d tokens revoked", done.RevokedTokens)
				}
				return err
			},
			"issue time": func(t *testing.T, s *apitest.Server, _ string) error {
				_, err := s.Backend(t).AuthTokens.RevokeOfUser(t.Context(), "ada", apitest.Epoch+1)
				return err
			},
			"issue time in the app": func(t *testing.T, s *apitest.Server, _ string) error {
				s.Clock().Advance(1e9)
				done, err := s.Backend(t).AuthTokens.RevokeOfApp(t.Context(), apitest.Epoch+1)
				if done.RevokedTokens != 1 {
					t.Errorf("%d tokens revoked", done.RevokedTokens)
				}
				return err
			},
			"key that minted it": func(t *testing.T, s *apitest.Server, _ string) error {
				_, err := s.Backend(t).APIKeys.Delete(t.Context(), s.Credentials.AuthKey, api.DeleteAPIKeyRequest{RevokeTokens: true})
				return err
			},
			"deactivation": func(t *testing.T, s *apitest.Server, _ string) error {
				_, err := s.Backend(t).Users.Deactivate(t.Context(), "ada")
				return err
			},
			"deletion": func(t *testing.T, s *apitest.Server, _ string) error {
				return s.Backend(t).Users.Erase(t.Context(), "ada")
			},
			"log out": func(t *testing.T, s *apitest.Server, token string) error {
				return s.Client(t, client.WithAuthToken(token)).Me.LogOut(t.Context())
			},
			"app": func(t *testing.T, s *apitest.Server, _ string) error {
				_, err := s.Operator(t).Apps.Delete(t.Context(), s.Credentials.AppID)
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				s := apitest.Start(t, freshDatabase(t, database), nil)
				frontend := s.Client(t, client.WithAPIKey(s.Credentials.AuthKey))
				if _, err := frontend.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
					t.Fatal(err)
				}
				token := mint(t, frontend, "ada")
				ada := s.Client(t, client.WithAuthToken(token))
				if _, err := ada.Me.Get(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := revoke(t, s, token); err != nil {
					t.Fatal(err)
				}
				_, err := ada.Me.Get(t.Context())
				if !client.IsCode(err, api.CodeAuthTokenUnknown) && (name != "app" || !client.IsCode(err, api.CodeAppArchived)) {
					t.Errorf("the token still works: %v", err)
				}
				if name == "deactivation" {
					if _, err := s.Backend(t).Users.Reactivate(t.Context(), "ada"); err != nil {
						t.Fatal(err)
					}
					if _, err := ada.Me.Get(t.Context()); err != nil {
						t.Errorf("the token does not work again: %v", err)
					}
				}
			})
		}
	})
}

// freshDatabase returns another database on the same engine.
func freshDatabase(t *testing.T, database string) string {
	t.Helper()
	if database == "" {
		return ""
	}
	url, err := postgres.NewDatabase(apitest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// TestSpareTokensAreRevoked mints more tokens than a user may have, on either engine.
func TestSpareTokensAreRevoked(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		works := func(t *testing.T, s *apitest.Server, token string) bool {
			t.Helper()
			_, err := s.Client(t, client.WithAuthToken(token)).Me.Get(t.Context())
			if err != nil && !client.IsCode(err, api.CodeAuthTokenUnknown) {
				t.Fatal(err)
			}
			return err == nil
		}
		start := func(t *testing.T) *apitest.Server {
			return startSockets(t, freshDatabase(t, database), func(config *server.Config) { config.Limits.TokensPerUser = 3 }, "ada")
		}
		t.Run("of unused tokens the oldest", func(t *testing.T) {
			s := start(t)
			var tokens []string
			for range 5 { // all in the same second
				tokens = append(tokens, mint(t, s.Backend(t), "ada"))
			}
			for i, token := range tokens {
				if works := works(t, s, token); works != (i >= 2) {
					t.Errorf("token %d of 5 works: %t", i+1, works)
				}
			}
		})
		t.Run("not those with a live socket, and not those used lately", func(t *testing.T) {
			s := start(t)
			jwt, online := s.JWT(t, "ada")
			phone := s.Login(t, apitest.Login{UID: "ada", Device: "phone", Body: api.AuthBody{Auth: jwt}})
			s.Clock().Advance(time.Hour)
			used := mint(t, s.Backend(t), "ada")
			s.Clock().Advance(time.Hour)
			unused := mint(t, s.Backend(t), "ada")
			s.Clock().Advance(time.Hour)
			if !works(t, s, used) {
				t.Fatal("a token does not work that was just minted")
			}
			for range 100 { // as many as a script that is wrong about it may mint
				s.Clock().Advance(-time.Second) // what was used stays the last that was
				mint(t, s.Backend(t), "ada")
			}
			if !works(t, s, online) || !works(t, s, used) || works(t, s, unused) {
				t.Errorf("live: %t, used: %t, unused: %t", works(t, s, online), works(t, s, used), works(t, s, unused))
			}
			phone.SendText(`{"action":"ping","ack":"true"}`)
			phone.Close(1000, "")
		})
		t.Run("those with a live socket when there are no others", func(t *testing.T) {
			s := start(t)
			first := s.Login(t, apitest.Login{UID: "ada", Device: "1"})
			for _, device := range []string{"2", "3", "4"} {
				s.Login(t, apitest.Login{UID: "ada", Device: device})
			}
			if code, _ := first.ClosedWith(); code != api.CloseRevoked {
				t.Errorf("closed with %d", code)
			}
		})
	})
}

func TestAuthOnlyKeysCanBeKeptFromCreatingUsers(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	deny := true
	if _, err := s.Operator(t).Apps.UpdateSettings(t.Context(), s.Credentials.AppID, api.UpdateAppSettingsRequest{DenyUserCreationByAuthOnlyKeys: &deny}); err != nil {
		t.Fatal(err)
	}
	frontend := s.Client(t, client.WithAPIKey(s.Credentials.AuthKey))
	if _, err := frontend.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); !client.IsCode(err, api.CodeNoAccess) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
		t.Error(err)
	}
}

// TestAuthOnlyKeysCanBeKeptFromRoles gives users roles with a key that may, and may not.
func TestAuthOnlyKeysCanBeKeptFromRoles(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	frontend, backend := s.Client(t, client.WithAPIKey(s.Credentials.AuthKey)), s.Backend(t)
	if _, err := backend.Roles.Create(t.Context(), api.CreateRoleRequest{Role: "admin", Name: "Admin"}); err != nil {
		t.Fatal(err)
	}
	for i, denied := range []bool{false, true} {
		settings := api.UpdateAppSettingsRequest{DenyRolesByAuthOnlyKeys: &denied}
		if shown, err := s.Operator(t).Apps.UpdateSettings(t.Context(), s.Credentials.AppID, settings); err != nil ||
			shown.DenyRolesByAuthOnlyKeys != denied {
			t.Fatal(shown, err)
		}
		uid := func(name string) string { return fmt.Sprint(name, i) }
		for name, try := range map[string]struct {
			do      func(c *client.Client) error
			allowed bool // also when roles are denied
		}{
			"creates an admin": {func(c *client.Client) error {
				_, err := c.Users.Create(t.Context(), api.CreateUserRequest{UID: uid("a"), Name: "A", Role: "Admin"})
				return err
			}, false},
			"creates one of the default role": {func(c *client.Client) error {
				_, err := c.Users.Create(t.Context(), api.CreateUserRequest{UID: uid("b"), Name: "B", Role: "default"})
				return err
			}, true},
			"creates an admin by upsert": {func(c *client.Client) error {
				_, err := c.Users.Upsert(t.Context(), uid("c"), api.UpdateUserRequest{Name: new("C"), Role: new("admin")})
				return err
			}, false},
			"makes one an admin": {func(c *client.Client) error {
				create(t, s, uid("d"))
				_, err := c.Users.Update(t.Context(), uid("d"), api.UpdateUserRequest{Role: new("admin")})
				return err
			}, false},
			"makes one an admin by upsert": {func(c *client.Client) error {
				create(t, s, uid("e"))
				_, err := c.Users.Upsert(t.Context(), uid("e"), api.UpdateUserRequest{Role: new("admin")})
				return err
			}, false},
			"sends the role back that an admin has": {func(c *client.Client) error {
				if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{
					UID: uid("f"), Name: "F",
					Role: "admin",
				}); err != nil {
					t.Fatal(err)
				}
				_, err := c.Users.Update(t.Context(), uid("f"), api.UpdateUserRequest{Name: new("F."), Role: new("Admin")})
				return err
			}, true},
		} {
			if err := try.do(frontend); (err == nil) != (try.allowed || !denied) || err != nil && !client.IsCode(err,
				api.CodeNoAccess) {
				t.Errorf("an authOnly key, denied is %v, %s: %v", denied, name, err)
			}
		}
	}
	if _, err := backend.Users.Update(t.Context(), "d1", api.UpdateUserRequest{Role: new("admin")}); err != nil {
		t.Errorf("a fullAccess key: %v", err)
	}
}

// TestAuthOnlyKeysCanBeKeptFromEvictingTokens mints more auth tokens than a user may have.
func TestAuthOnlyKeysCanBeKeptFromEvictingTokens(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.Limits.TokensPerUser = 2 })
	frontend, backend := s.Client(t, client.WithAPIKey(s.Credentials.AuthKey)), s.Backend(t)
	create(t, s, "ada")
	minted := func(c *client.Client) error {
		_, err := c.AuthTokens.Create(t.Context(), "ada", api.CreateAuthTokenRequest{})
		return err
	}
	works := func(token string) bool {
		_, err := s.Client(t, client.WithAuthToken(token)).Me.Get(t.Context())
		return err == nil
	}
	first := mint(t, backend, "ada")
	if err := minted(frontend); err != nil {
		t.Fatal(err)
	}
	settings := api.UpdateAppSettingsRequest{DenyEvictionByAuthOnlyKeys: new(true)}
	if _, err := s.Operator(t).Apps.UpdateSettings(t.Context(), s.Credentials.AppID, settings); err != nil {
		t.Fatal(err)
	}
	if err := minted(frontend); !client.IsCode(err, api.CodeQuota) || !works(first) {
		t.Errorf("an authOnly key mints one more: %v, the first works: %v", err, works(first))
	}
	if err := minted(backend); err != nil {
		t.Errorf("a fullAccess key mints one more: %v", err)
	}
	if list, err := backend.AuthTokens.List(t.Context(), "ada", client.PageOptions{}); err != nil ||
		list.Pagination.Total != 2 {
		t.Errorf("she has %d tokens then: %v", list.Pagination.Total, err)
	}
	if _, err := backend.AuthTokens.RevokeOfUser(t.Context(), "ada", 0); err != nil {
		t.Fatal(err)
	}
	if err := minted(frontend); err != nil {
		t.Errorf("an authOnly key, with room again: %v", err)
	}
}

func TestSecretsAreRevealedOnlyWhenTheAppSaysSo(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	reveal := true
	for _, revealed := range []bool{false, true} {
		page, err := s.Backend(t).APIKeys.List(t.Context(), client.APIKeyListOptions{Scope: "authOnly"})
		if err != nil {
			t.Fatal(err)
		}
		if shown := page.Items[0].Key == s.Credentials.AuthKey; shown != revealed {
			t.Errorf("the key is listed as %q, revealSecrets is %t", page.Items[0].Key, revealed)
		}
		if _, err := s.Operator(t).Apps.UpdateSettings(t.Context(), s.Credentials.AppID, api.UpdateAppSettingsRequest{RevealSecrets: &reveal}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWrongCredentialsAreLimited sends more wrong credentials from an address than it may: what is right goes on to be
// taken from there, and everything from elsewhere.
func TestWrongCredentialsAreLimited(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.RateLimits.WrongCredentials = 4 }) // again in 15 s
	c := s.Backend(t)
	create(t, s, "ada")
	old := mint(t, c, "ada")
	if _, err := s.Client(t, client.WithAuthToken(old)).Me.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	app := func(headers ...string) map[string]string {
		set := map[string]string{"appId": s.Credentials.AppID}
		for i := 0; i < len(headers); i += 2 {
			set[headers[i]] = headers[i+1]
		}
		return set
	}
	wrong := map[string]struct {
		path    string
		headers map[string]string
		code    api.Code
	}{
		"key":        {"/v3/users", app("apikey", strings.Repeat("0", 40)), api.CodeAPIKeyUnknown},
		"token":      {"/v3/me", app("authToken", "ada_"+strings.Repeat("0", 40)), api.CodeAuthTokenUnknown},
		"app":        {"/v3/users", map[string]string{"appId": "none", "apikey": "x"}, api.CodeInvalidAppID},
		"management": {"/v3/apps", app("key", s.Credentials.ManagementKey, "secret", "x"), api.CodeNoAccess},
	}
	for name, try := range wrong {
		if code := callCode(t, s.URL, "GET", try.path, try.headers); code != try.code {
			t.Errorf("the first wrong %s: %s", name, code)
		}
	}
	if _, err := c.AuthTokens.RevokeOfUser(t.Context(), "ada", 0); err != nil {
		t.Fatal(err)
	}
	for name, try := range wrong {
		response, body, refused := sent{method: "GET", path: try.path, headers: withoutKey(try.headers)}.do(t, s)
		if response.StatusCode != http.StatusTooManyRequests || refused.Code != api.CodeTooManyRequests ||
			response.Header.Get("Retry-After") == "" {
			t.Errorf("the second wrong %s: %d %s", name, response.StatusCode, body)
		}
	}
	for name, right := range map[string]struct {
		path    string
		headers map[string]string
	}{
		"key":       {"/v3/users", app("apikey", s.Credentials.RestAPIKey)},
		"new token": {"/v3/me", app("authToken", mint(t, c, "ada"))},
		"management credential": {"/v3/apps", app("key", s.Credentials.ManagementKey, "secret",
			s.Credentials.ManagementSecret)},
	} {
		if code := callCode(t, s.URL, "GET", right.path, right.headers); code != "" {
			t.Errorf("the right %s: %s", name, code)
		}
	}
	if code := callCode(t, s.URL, "GET", "/v3/users/ada", app("apikey", s.Credentials.AuthKey)); code != api.CodeNoAccess {
		t.Errorf("a right key that was not used before, of a scope too small: %s", code)
	}
	// Whose token was good hears that it is not, once.
	for i, want := range []api.Code{api.CodeAuthTokenUnknown, api.CodeTooManyRequests} {
		if code := callCode(t, s.URL, "GET", "/v3/me", app("authToken", old)); code != want {
			t.Errorf("the revoked token, time %d: %s", i+1, code)
		}
	}
	elsewhere := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0,
		2)}}).DialContext}
	defer elsewhere.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v3/users", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range wrong["key"].headers {
		request.Header.Set(name, value)
	}
	response, err := elsewhere.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong key from another address: %d", response.StatusCode)
	}
	metrics := string(sent{method: "GET", path: "/metrics"}.takes(t, s))
	for _, line := range []string{
		`rollcall_wrong_credentials_total{answer="refused",credential="key"} 2`,
		`rollcall_wrong_credentials_total{answer="limited",credential="key"} 1`,
		`rollcall_wrong_credentials_total{answer="limited",credential="app"} 1`,
		`rollcall_wrong_credentials_total{answer="limited",credential="token"} 2`,
		`rollcall_wrong_credentials_total{answer="limited",credential="management"} 1`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

// withoutKey returns headers that say, of the key that requests have by themselves, that there is none.
func withoutKey(headers map[string]string) map[string]string {
	all := map[string]string{"apikey": ""}
	maps.Copy(all, headers)
	return all
}
