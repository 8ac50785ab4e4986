// In package main, since there is no other way to a command's code. What a visitor sees is tested in a browser: see
// web/e2e/signup.test.js.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
)

// app is the example under test, next to a Rollcall server of its own.
type app struct {
	*site
	rollcall *apitest.Server
	url      string
}

func start(t *testing.T) *app {
	t.Helper()
	rollcall := apitest.Start(t, "", nil)
	folder := t.TempDir()
	o := options{
		rollcall: rollcall.URL, rollcallBrowser: "chat.example.com:8443", credentials: filepath.Join(folder, "credentials.json"),
		database: filepath.Join(folder, "signup.db"), sdk: officialSDK, sdkFile: filepath.Join(folder, "CometChat.js"),
	}
	keys, err := json.Marshal(credentials{AppID: rollcall.Credentials.AppID, RestAPIKey: rollcall.Credentials.RestAPIKey})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.credentials, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := openDatabase(t.Context(), o.database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	site, err := newSite(o, db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(site.handler())
	t.Cleanup(server.Close)
	return &app{site: site, rollcall: rollcall, url: server.URL}
}

// visitor is somebody's browser.
func visitor(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 30 * time.Second}
}

// answer is whatever a call answers.
type answer struct {
	status int
	member
	refusal
}

func (a *app) post(t *testing.T, browser *http.Client, path string, body any, headers ...string) answer {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := answer{status: response.StatusCode}
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(raw, &got.member) != nil || json.Unmarshal(raw, &got.refusal) != nil {
		got.Message = string(raw)
	}
	return got
}

func (a *app) page(t *testing.T, browser *http.Client) (string, http.Header) {
	t.Helper()
	response, err := browser.Get(a.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), response.Header
}

var ada = registration{Email: "ada@example.com", Name: "Ada", Password: "correct horse"}

// pending stores Ada's account as a registration does that finds Rollcall down.
func (a *app) pending(t *testing.T) account {
	t.Helper()
	made, err := a.accounts.create(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// users returns the names of all users in Rollcall by uid.
func (a *app) users(t *testing.T) map[string]string {
	t.Helper()
	users := map[string]string{}
	for user, err := range a.rollcall.Backend(t).Users.All(t.Context(), client.UserListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		users[user.UID] = user.Name
	}
	return users
}

func TestRegistrationsThatCannotBecomeAccounts(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, test := range []struct {
		name, field string
		change      func(*registration)
	}{
		{"no address", "email", func(r *registration) { r.Email = "" }},
		{"not an address", "email", func(r *registration) { r.Email = "ada" }},
		{"an address with a name", "email", func(r *registration) { r.Email = "Ada <ada@example.com>" }},
		{"an address that is too long", "email", func(r *registration) { r.Email = strings.Repeat("a", maxEmail) + "@example.com" }},
		{"no name", "name", func(r *registration) { r.Name = " " }},
		{"a name that Rollcall does not take", "name", func(r *registration) { r.Name = "A\x00da" }},
		{"a name that is too long", "name", func(r *registration) { r.Name = strings.Repeat("ä", maxName+1) }},
		{"a short password", "password", func(r *registration) { r.Password = "1234567" }},
		{"a password that bcrypt would cut", "password", func(r *registration) { r.Password = strings.Repeat("ä", maxPassword/2+1) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			wanted := ada
			test.change(&wanted)
			if got := a.post(t, visitor(t), "/api/register", wanted); got.status != http.StatusBadRequest || got.Field != test.field || got.Message == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
	if users := a.users(t); len(users) != 0 {
		t.Errorf("there are users: %v", users)
	}
}

// The longest name must fit into Rollcall too, or the chat user would be pending for ever.
func TestRegistrationAtItsLimits(t *testing.T) {
	t.Parallel()
	a := start(t)
	wanted := registration{Email: "ada@example.com", Name: strings.Repeat("ä", maxName), Password: strings.Repeat("x", maxPassword)}
	made := a.post(t, visitor(t), "/api/register", wanted)
	if made.status != http.StatusCreated {
		t.Fatalf("got %+v", made)
	}
	if got := a.users(t)[made.UID]; got != wanted.Name {
		t.Errorf("the chat user's name is %q", got)
	}
	if got := a.post(t, visitor(t), "/api/login", wanted); got.status != http.StatusOK || got.ChatToken == "" {
		t.Errorf("logging in: %+v", got)
	}
}

// When Rollcall has created the user but its answer was lost, the account finds its user and takes it.
func TestChatUserWhoseCreationWasNotHeardOf(t *testing.T) {
	t.Parallel()
	a := start(t)
	member := a.pending(t)
	if err := a.chat.ensureUser(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	if _, err := a.accounts.db.ExecContext(t.Context(), "UPDATE accounts SET chat_ready = 0"); err != nil {
		t.Fatal(err)
	}
	if got := a.post(t, visitor(t), "/api/login", ada); got.status != http.StatusOK || got.ChatToken == "" {
		t.Errorf("logging in: %+v", got)
	}
	if found, err := a.accounts.withPassword(t.Context(), ada.Email, ada.Password); err != nil || !found.ChatReady {
		t.Errorf("the account is still pending: %+v, %v", found, err)
	}
}

// An app that starts over with an empty database must not hand its first new member the chat user of an old one.
func TestChatUserOfSomebodyElse(t *testing.T) {
	t.Parallel()
	a := start(t)
	backend := a.rollcall.Backend(t)
	if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: "member-1", Name: "Somebody else"}); err != nil {
		t.Fatal(err)
	}
	browser := visitor(t)
	if got := a.post(t, browser, "/api/register", ada); got.status != http.StatusCreated || got.UID != "member-1" {
		t.Fatalf("registering: %+v", got)
	}
	if got := a.post(t, browser, "/api/login", ada); got.status != http.StatusOK || got.ChatToken != "" {
		t.Errorf("logging in: %+v", got)
	}
	if got := a.post(t, browser, "/api/chat-token", struct{}{}); got.status != http.StatusServiceUnavailable {
		t.Errorf("asking for a token: %+v", got)
	}
	if got := a.users(t)["member-1"]; got != "Somebody else" {
		t.Errorf("the other user is called %q now", got)
	}
	if tokens, err := backend.AuthTokens.List(t.Context(), "member-1", client.PageOptions{}); err != nil || len(tokens.Items) != 0 {
		t.Errorf("the other user has tokens: %+v, %v", tokens.Items, err)
	}
}

func TestPendingChatUserWithManyLogInsAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t)
	member := a.pending(t)
	var logins sync.WaitGroup
	for range 8 {
		logins.Go(func() {
			if got := a.post(t, visitor(t), "/api/login", ada); got.status != http.StatusOK || got.ChatToken == "" {
				t.Errorf("logging in: %+v", got)
			}
		})
	}
	logins.Wait()
	if users := a.users(t); len(users) != 1 || users[member.uid()] != ada.Name {
		t.Errorf("the users are %v", users)
	}
}

func TestCallsFromOtherSites(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, test := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"a form", []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType},
		{"a script", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"an old browser's script", []string{"Origin", "https://evil.example.com"}, http.StatusForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{"/api/register", "/api/login", "/api/chat-token", "/api/logout"} {
				if got := a.post(t, visitor(t), path, ada, test.headers...); got.status != test.status {
					t.Errorf("POST %s: %+v", path, got)
				}
			}
		})
	}
	if users := a.users(t); len(users) != 0 {
		t.Errorf("there are users: %v", users)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.pending(t)
	browser := visitor(t)
	if page, _ := a.page(t, browser); !strings.Contains(page, `data-uid=""`) {
		t.Error("somebody is logged in before logging in")
	}
	if got := a.post(t, browser, "/api/chat-token", struct{}{}); got.status != http.StatusUnauthorized {
		t.Errorf("a token without a session: %+v", got)
	}
	a.post(t, browser, "/api/login", ada)
	if page, _ := a.page(t, browser); !strings.Contains(page, `data-uid="member-1"`) {
		t.Error("nobody is logged in after logging in")
	}
	if got := a.post(t, browser, "/api/chat-token", struct{}{}); got.status != http.StatusOK || got.ChatToken == "" {
		t.Errorf("a token with a session: %+v", got)
	}
	if _, err := a.accounts.db.ExecContext(t.Context(), "UPDATE sessions SET expires_at = ?", time.Now().Unix()); err != nil {
		t.Fatal(err)
	}
	if page, _ := a.page(t, browser); !strings.Contains(page, `data-uid=""`) {
		t.Error("somebody is logged in after the session has expired")
	}
}

func TestDatabaseIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	db, err := openDatabase(t.Context(), filepath.Join(folder, "a b#?.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, name := range []string{"a b#?.db", "a b#?.db-wal"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestPageWithAndWithoutSDK(t *testing.T) {
	t.Parallel()
	a := start(t)
	page, header := a.page(t, visitor(t))
	if !strings.Contains(page, "make signup") || strings.Contains(page, "<script") {
		t.Error("without the SDK, the page does not say how to install it")
	}
	for _, part := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self' https://chat.example.com:8443 wss://chat.example.com:8443;"} {
		if policy := header.Get("Content-Security-Policy"); !strings.Contains(policy, part) {
			t.Errorf("the policy %q has no %q", policy, part)
		}
	}
	if err := os.WriteFile(a.sdkFile, []byte("window.CometChat = {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	page, _ = a.page(t, visitor(t))
	if strings.Contains(page, "make signup") || !strings.Contains(page, `<script src="/sdk.js"`) {
		t.Error("with the SDK, the page does not load it")
	}
	response, err := visitor(t).Get(a.url + "/sdk.js")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "window.CometChat = {}" {
		t.Errorf("the SDK is %q, %v", text, err)
	}
}
