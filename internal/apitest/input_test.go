package apitest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

// raw sends bytes as a body and returns the response.
func raw(t *testing.T, s *apitest.Server, method, path, body string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://page.example.com")
	request.Header.Set("appId", s.Credentials.AppID)
	request.Header.Set("apikey", s.Credentials.RestAPIKey)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, answer
}

func quoted(text string) string { return `"` + text + `"` }

// repeated returns a text of n characters that are not one byte each.
func repeated(n int) string { return strings.Repeat("é", n) }

func list(n int, item func(i int) string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = quoted(item(i))
	}
	return "[" + strings.Join(items, ",") + "]"
}

// badValues are values that a field of a user refuses, and goodValues ones at its limit that it takes.
var badValues = map[string]map[string]string{
	"uid": {
		"missing": "", "null": `null`, "empty": `""`, "blank": `" "`, "one over": quoted(strings.Repeat("a", 101)),
		"fraction": `7.5`, "list": `["a"]`, "dot": `"a.b"`,
		"slash": `"a/b"`, "accent": `"é"`, "control": `"a\u0000"`, "newline": `"a\n"`, "percent": `"%20"`,
	},
	"name": {
		"missing": "", "null": `null`, "empty": `""`, "blank": `"  "`, "invisible": `"\u200b\u3164\ufe0f"`, "one over": quoted(repeated(101)), "number": `7`, "object": `{}`, "control": `"a\u0007"`,
		"delete": `"a\u007f"`, "newline": `"a\nb"`, "next line": `"a\u0085b"`,
	},
	"avatar": {
		"number": `7`, "word": `"picture"`, "relative": `"/a.png"`, "no host": `"https://"`, "script": `"javascript:alert(1)"`, "data": `"data:text/html,x"`,
		"one over": quoted("https://example.com/" + strings.Repeat("a", 2981)), "blank within": `"https://example.com/a b"`, "control": `"https://example.com/\u0001"`, "bad escape": `"https://example.com/%zz"`,
	},
	"link":          {"boolean": `true`, "word": `"here"`, "script with a host": `"JavaScript://example.com/%0aalert(1)"`, "quote": `"https://example.com/\"onload"`},
	"role":          {"number": `7`, "blank": `" "`, "bad form": `"a b"`, "one over": quoted(strings.Repeat("a", 101))},
	"statusMessage": {"number": `7`, "one over": quoted(repeated(1001)), "control": `"\u0000"`},
	"metadata": {
		"list": `[1]`, "number": `7`, "text": `"hello"`, "text with a list": `"[1]"`, "one over": `{"a":` +
			quoted(strings.Repeat("a", 5120-7)) + `}`,
		"number out of range": `{"a":1e999}`, "number out of range deep": `{"a":[{"b":-1e400}]}`, "endless number": `{"a":` + strings.Repeat("9", 400) + `}`,
		"too deep": `{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "too deep as text": quoted(`{\"a\":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`),
	},
	"tags": {
		"text": `"a"`, "object": `{}`, "of numbers": `[1]`, "of null": `[null]`, "empty one": `[""]`, "blank one": `[" "]`, "invisible one": `["\u2060"]`, "twice": `["a","a"]`, "control": `["a\u0001"]`,
		"one too many": list(26, func(i int) string { return fmt.Sprint("t", i) }), "one too long": `[` + quoted(repeated(101)) + `]`,
	},
	"withAuthToken": {"word": `"maybe"`, "number": `2`, "object": `{}`},
}

var goodValues = map[string]map[string]string{
	"uid":           {"at the limit": quoted(strings.Repeat("a", 100)), "number": `7`, "every kind": `"aZ09-_"`},
	"name":          {"at the limit": quoted(repeated(100)), "emoji": quoted(strings.Repeat("😀", 100)), "one": `"x"`},
	"avatar":        {"null": `null`, "empty": `""`, "at the limit": quoted("https://example.com/" + strings.Repeat("a", 2980)), "http": `"http://h/a"`},
	"link":          {"an app's own scheme": `"myapp://profile/1"`, "null": `null`},
	"role":          {"null": `null`, "empty": `""`, "default": `"DEFAULT"`},
	"statusMessage": {"at the limit": quoted(repeated(1000)), "lines": `"a\nb\tc"`},
	"metadata": {
		"null": `null`, "empty": `{}`, "empty list": `[]`, "at the limit": `{"a":` + quoted(strings.Repeat("a", 5120-8)) +
			`}`, "as text": `"{\"a\":1}"`, "zero byte": `{"a\u0000":"\u0000"}`,
		"deep": `{"a":"[[\"[","b":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, "wide": `{"a":` + list(100, func(i int) string { return "[" }) + `}`, "numbers": `{"a":-1.5e300,"b":12345678901234567890}`,
	},
	"tags":          {"null": `null`, "none": `[]`, "at the limit": list(25, func(i int) string { return fmt.Sprint("t", i) }), "long": `[` + quoted(repeated(100)) + `]`},
	"withAuthToken": {"text": `"true"`, "one": `1`, "null": `null`, "false": `false`},
	"unknown":       {"ignored": `{"a":[1]}`},
}

// profileWith returns a creation with one field set to a JSON value; an empty value leaves it out.
func profileWith(uid, field, value string) string {
	members := map[string]string{"uid": quoted(uid), "name": `"Name"`}
	members[field] = value
	var parts []string
	for name, value := range members {
		if value != "" {
			parts = append(parts, quoted(name)+":"+value)
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestEveryUserFieldRefusesBadInput(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	if response, body := raw(t, s, "POST", "/v3/users", profileWith("kept", "name", `"Kept"`)); response.StatusCode != http.StatusOK {
		t.Fatal(string(body))
	}
	for field, values := range badValues {
		for name, value := range values {
			response, body := raw(t, s, "POST", "/v3/users", profileWith("new", field, value))
			refused := envelope(t, field+" "+name, response, body)
			if response.StatusCode != http.StatusBadRequest || refused.Code != api.CodeBadRequest || !hasField(refused.Details, field) {
				t.Errorf("create with %s %s: %d %s", field, name, response.StatusCode, body)
			}
			if field == "uid" || field == "withAuthToken" || value == "" || field == "role" && name == "blank" {
				continue
			}
			response, body = raw(t, s, "PUT", "/v3/users/kept", "{"+quoted(field)+":"+value+"}")
			refused = envelope(t, field+" "+name, response, body)
			if response.StatusCode != http.StatusBadRequest || refused.Code != api.CodeBadRequest || !hasField(refused.Details, field) {
				t.Errorf("update with %s %s: %d %s", field, name, response.StatusCode, body)
			}
		}
	}
	changes, last, err := s.Backend(t).Changes.List(t.Context(), 5, 10)
	if err != nil || last != 5 || len(changes) != 0 {
		t.Errorf("refused input was written: %v %v", changes, err)
	}
}

// hasField reports whether details name a field or a member of it.
func hasField(details map[string][]string, field string) bool {
	for name := range details {
		if name == field || strings.HasPrefix(name, field+".") {
			return true
		}
	}
	return false
}

func TestEveryUserFieldTakesInputAtItsLimit(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := apitest.Start(t, database, func(config *server.Config) { config.BodyLimit = 20 << 10 })
		n := 0
		for field, values := range goodValues {
			for name, value := range values {
				n++
				uid := fmt.Sprint("user-", n)
				response, body := raw(t, s, "POST", "/v3/users", profileWith(uid, field, value))
				if response.StatusCode != http.StatusOK {
					t.Errorf("create with %s %s: %d %s", field, name, response.StatusCode, body)
					continue
				}
				if field == "uid" {
					continue
				}
				_, read := raw(t, s, "GET", "/v3/users/"+uid, "")
				if created := bytes.ReplaceAll(body, authToken(body), nil); !bytes.Equal(created, read) {
					t.Errorf("%s %s reads back as %s, was %s", field, name, read, created)
				}
			}
		}
	})
}

// authToken returns the member that is only in the answer to a creation.
func authToken(body []byte) []byte {
	_, rest, found := bytes.Cut(body, []byte(`,"authToken":"`))
	if !found {
		return []byte("no such member")
	}
	token, _, _ := bytes.Cut(rest, []byte(`"`))
	return []byte(`,"authToken":"` + string(token) + `"`)
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for name, body := range map[string]string{
		"not JSON": `uid=a`, "cut off": `{"uid":"a"`, "trailing": `{"uid":"a","name":"A"} x`, "two objects": `{"uid":"a","name":"A"}{}`, "text": `"a"`, "null": `null`, "list": `[]`,
		"byte order mark": "\ufeff" + `{"uid":"a","name":"A"}`, "invalid UTF-8": "{\"uid\":\"a\",\"name\":\"A\xff\"}", "lone surrogate": `{"uid":"a","name":"\ud800"}`,
		"duplicate names": `{"uid":"a","name":"A","name":"B"}`, "duplicate names within": `{"uid":"a","name":"A","metadata":{"a":1,"a":2}}`, "single quotes": `{'uid':'a','name':'A'}`,
		"comment": `{"uid":"a",/* */"name":"A"}`, "trailing comma": `{"uid":"a","name":"A",}`, "deep": `{"uid":"a","name":"A","metadata":` + strings.Repeat(`{"a":`, 1500) + `1` + strings.Repeat(`}`, 1400) + `}`,
		"NaN": `{"uid":"a","name":"A","metadata":{"a":NaN}}`, "huge number": `{"uid":"a","name":"A","withAuthToken":1e999}`, "raw control": "{\"uid\":\"a\",\"name\":\"A\x01\"}",
		"wrong case": `{"UID":"a","Name":"A"}`,
	} {
		response, answer := raw(t, s, "POST", "/v3/users", body)
		if refused := envelope(t, name, response, answer); response.StatusCode != http.StatusBadRequest || refused.Code != api.CodeBadRequest {
			t.Errorf("%s: %d %s", name, response.StatusCode, answer)
		}
	}
	response, answer := raw(t, s, "POST", "/v3/users", `{"uid":"a","name":"`+strings.Repeat("a", 10<<10)+`"}`)
	if refused := envelope(t, "too large", response, answer); response.StatusCode != http.StatusRequestEntityTooLarge || refused.Code != api.CodeBadRequest {
		t.Errorf("too large: %d %s", response.StatusCode, answer)
	}
	if _, err := s.Backend(t).Users.Get(t.Context(), "a"); !client.IsCode(err, api.CodeUIDNotFound) {
		t.Errorf("a refused body was written: %v", err)
	}
}

func TestBadPathsAndQueries(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for path, want := range map[string]api.Code{
		"/v3/users/a%00b": api.CodeUIDNotFound, "/v3/users/%ff%fe": api.CodeUIDNotFound, "/v3/users/..": api.CodeAPINotFound, "/v3/users/a%2Fb": api.CodeUIDNotFound,
		"/v3/users/" + strings.Repeat("a", 5000): api.CodeUIDNotFound, "/v3/users/%20": api.CodeUIDNotFound, "/v3/users/<script>": api.CodeUIDNotFound,
		"/v3/users/a'%20OR%20'1'='1": api.CodeUIDNotFound, "/v3/roles/%00": api.CodeRoleNotFound, "/v3/apikeys/%00": api.CodeAPIKeyNotFound, "/v3/users/a/b/c/d": api.CodeAPINotFound,
		"/v3/../healthz": api.CodeAPINotFound, "/v99/users": api.CodeInvalidAPIVersion, "/v3.1/users": api.CodeInvalidAPIVersion,
		"/v3/users?page=-1": api.CodeBadRequest, "/v3/users?page=99999999999999999999": api.CodeBadRequest, "/v3/users?perPage=1e3": api.CodeBadRequest, "/v3/users?perPage=1001": api.CodeBadRequest,
		"/v3/users?searchKey=%ff": api.CodeBadRequest, "/v3/users?searchKey=%00": api.CodeBadRequest, "/v3/users?searchKey=%zz": api.CodeBadRequest, "/v3/users?%zz=1": api.CodeBadRequest,
		"/v3/users?searchIn=email": api.CodeBadRequest, "/v3/users?status=asleep": api.CodeBadRequest,
		"/v3/users?withTags=yes":                     api.CodeBadRequest,
		"/v3/users?uids=" + strings.Repeat("a,", 30): api.CodeBadRequest, "/v3/users?searchKey=" + strings.Repeat("a", 101): api.CodeBadRequest,
		"/v3/changes?since=x": api.CodeBadRequest, "/v3/changes?since=-1": api.CodeBadRequest, "/v3/stats?fromDate=2&toDate=1": api.CodeBadRequest, "/v3/stats?fromDate=-1&toDate=1": api.CodeBadRequest,
	} {
		response, body := raw(t, s, "GET", path, "")
		if refused := envelope(t, path, response, body); refused.Code != want {
			t.Errorf("GET %.60s: got %s, want %s", path, refused.Code, want)
		}
	}
}

// TestRowsDoNotHoldUpOthers sends rows that no database can hold among others.
func TestRowsDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := apitest.Start(t, database, nil)
		sent{
			method: "POST", path: "/v3/users/batch",
			body: `{"users":[{"uid":"\u0000","name":"x"},{"uid":"batched","name":"ok"}]}`,
		}.takes(t, s)
		sent{
			method: "POST", path: "/v3/data_import/users",
			body: `{"users":{"\u0000":{"name":"x"},"imported":{"uid":"imported","name":"ok"}}}`,
		}.takes(t, s)
		for _, uid := range []string{"batched", "imported"} {
			if _, err := s.Backend(t).Users.Get(t.Context(), uid); err != nil {
				t.Errorf("a row was held up by a bad one: %v", err)
			}
		}
	})
}

func TestLongIDs(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.Limits.UID = 200 })
	long := strings.Repeat("a", 200)
	if _, err := s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: long, Name: "Long"}); err != nil {
		t.Fatal(err)
	}
	if user, err := s.Backend(t).Users.Get(t.Context(), long); err != nil || user.UID != long {
		t.Errorf("a uid at a limit that was raised: %v", err)
	}
}

// TestTokensOfTwoAppsHaveTheirOwnLimits uses up the limit of a token whose id another app has too.
func TestTokensOfTwoAppsHaveTheirOwnLimits(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.RateLimits = httpapi.RateLimits{Token: 2} })
	var tokens []api.AuthToken
	var users []*client.Client
	for _, name := range []string{"One", "Two"} {
		app, err := s.Operator(t).Apps.Create(t.Context(), api.CreateAppRequest{Name: name, SkipSampleData: true})
		if err != nil {
			t.Fatal(err)
		}
		key := ""
		for text, of := range app.APIKeys {
			if of.Scope == "fullAccess" {
				key = text
			}
		}
		backend := s.Client(t, client.WithApp(app.ID), client.WithAPIKey(key))
		if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
		token, err := backend.AuthTokens.Create(t.Context(), "ada", api.CreateAuthTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
		users = append(users, s.Client(t, client.WithApp(app.ID), client.WithAuthToken(token.Token), client.WithTries(1)))
	}
	if tokens[0].ID != tokens[1].ID {
		t.Fatalf("the tokens are %s and %s", tokens[0].ID, tokens[1].ID)
	}
	for i, want := range []api.Code{"", "", api.CodeTooManyRequests} {
		if _, err := users[0].Users.Get(t.Context(), "ada"); client.IsCode(err, want) != (want != "") || want == "" && err != nil {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	if _, err := users[1].Users.Get(t.Context(), "ada"); err != nil {
		t.Errorf("the other app's token is refused: %v", err)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.RateLimits = httpapi.RateLimits{Core: 3, Standard: 2, Token: 2} })
	remaining := func(response *http.Response) string {
		if a, b := response.Header.Get("X-Rate-Limit-Remaining"), response.Header.Get("X-RateLimit-Remaining"); a != b {
			t.Errorf("the two spellings differ: %s and %s", a, b)
		}
		return response.Header.Get("X-Rate-Limit") + "/" + response.Header.Get("X-Rate-Limit-Remaining")
	}
	for i, want := range []string{"3/2", "3/1", "3/0"} {
		response, body := raw(t, s, "POST", "/v3/users", fmt.Sprintf(`{"uid":"u%d","name":"U"}`, i))
		if got := remaining(response); response.StatusCode != http.StatusOK || got != want {
			t.Errorf("creation %d: %d, limit %s, want %s: %s", i+1, response.StatusCode, got, want, body)
		}
	}
	response, body := raw(t, s, "POST", "/v3/users", `{"uid":"u9","name":"U"}`)
	refused := envelope(t, "fourth creation", response, body)
	if response.StatusCode != http.StatusTooManyRequests || refused.Code != api.CodeTooManyRequests || response.Header.Get("Retry-After") == "" || response.Header.Get("X-RateLimit-Reset") == "" {
		t.Errorf("over the limit: %d %v %s", response.StatusCode, response.Header, body)
	}
	if response, _ := raw(t, s, "GET", "/v3/users/u1", ""); response.StatusCode != http.StatusOK {
		t.Error("reads are refused because creations are used up")
	}
	if _, err := s.Client(t, client.WithAPIKey(s.Credentials.AuthKey), client.WithTries(1)).Users.Create(t.Context(), api.CreateUserRequest{UID: "u4", Name: "U"}); err != nil {
		t.Errorf("another key is refused because this one is used up: %v", err)
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for _, path := range []string{"/users", "/v3.0/me", "/v3/users/ada/auth_tokens", "/nothing"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Origin", "https://page.example.com")
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			t.Errorf("OPTIONS %s: %d", path, response.StatusCode)
		}
		for name := range strings.SplitSeq("appid apikey authtoken resource sdk content-type accept authorization onbehalfof onbehalfofuser chatapiversion settingshash settingshashreceivedat", " ") {
			if !strings.Contains(response.Header.Get("Access-Control-Allow-Headers"), name) {
				t.Errorf("OPTIONS %s does not allow the header %s", path, name)
			}
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if !strings.Contains(response.Header.Get("Access-Control-Allow-Methods"), method) {
				t.Errorf("OPTIONS %s does not allow %s", path, method)
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	raw(t, s, "GET", "/v3/users/nobody", "")
	_, body := raw(t, s, "GET", "/metrics", "")
	for _, want := range []string{`rollcall_http_requests_total{route="GET /users/{uid}",status="404"} 1`, "rollcall_http_request_duration_seconds_bucket", "go_goroutines", "process_resident_memory_bytes"} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if bytes.Contains(body, []byte("nobody")) {
		t.Error("/metrics tells a uid")
	}
}

// TestChangeStreamRefusesPlacesThatAreNotInTheLog asks for what comes after an event that cannot have been one.
func TestChangeStreamRefusesPlacesThatAreNotInTheLog(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for _, id := range []string{"abc", "-1", "1e3", "999999"} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v3/changes", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"appId": s.Credentials.AppID, "apikey": s.Credentials.RestAPIKey, "Accept": "text/event-stream", "Last-Event-ID": id} {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("after %s: %d", id, response.StatusCode)
		}
		response.Body.Close()
	}
}

func TestChangeStreamEndsWithItsKey(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(context.Context, *client.Client, api.APIKey) error
		want api.Code
	}{
		"deleted": {func(ctx context.Context, backend *client.Client, key api.APIKey) error {
			_, err := backend.APIKeys.Delete(ctx, key.ID, api.DeleteAPIKeyRequest{})
			return err
		}, api.CodeAPIKeyUnknown},
		"of another scope": {func(ctx context.Context, backend *client.Client, key api.APIKey) error {
			scope := "authOnly"
			_, err := backend.APIKeys.Update(ctx, key.ID, api.UpdateAPIKeyRequest{Scope: &scope})
			return err
		}, api.CodeNoAccess},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changeStreamEnds(t, c.end, c.want)
		})
	}
}

func changeStreamEnds(t *testing.T, end func(context.Context, *client.Client, api.APIKey) error, want api.Code) {
	t.Helper()
	s := apitest.Start(t, "", nil)
	backend := s.Backend(t)
	key, err := backend.APIKeys.Create(t.Context(), api.CreateAPIKeyRequest{Name: "Reader", Scope: "fullAccess"})
	if err != nil {
		t.Fatal(err)
	}
	var followed []string
	for change, err := range s.Client(t, client.WithAPIKey(key.Key)).Changes.Follow(t.Context(), 0) {
		if err != nil {
			if !client.IsCode(err, want) {
				t.Errorf("the stream ends with %v", err)
			}
			break
		}
		followed = append(followed, change.Kind)
		if change.Kind == "key.created" && change.Subject == key.ID {
			if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
				t.Fatal(err)
			}
		}
		if change.Kind == "user.created" {
			if err := end(t.Context(), backend, key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := strings.Join(followed, " "); got != "app.created role.created key.created key.created key.created user.created" {
		t.Errorf("followed %s", got)
	}
}
