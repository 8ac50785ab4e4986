package apitest_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// sent is a request as some other client sends it.
type sent struct {
	method, path, body string
	headers            map[string]string
}

func (c sent) String() string { return c.method + " " + c.path + " " + c.body }

// do sends a request with the fullAccess key and returns the answer, whose envelope is the contract's either way.
func (c sent) do(t *testing.T, s *apitest.Server) (response *http.Response, body []byte, refused api.Error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"appId": s.Credentials.AppID, "apikey": s.Credentials.RestAPIKey,
		"Origin": "https://page.example.com",
	} {
		request.Header.Set(name, value)
	}
	for name, value := range c.headers {
		request.Header.Set(name, value)
	}
	response, err = http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		refused = envelope(t, c.String(), response, body)
	}
	return response, body, refused
}

// takes demands that a request succeeds, and returns what it answers.
func (c sent) takes(t *testing.T, s *apitest.Server) []byte {
	t.Helper()
	response, body, _ := c.do(t, s)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", c, response.StatusCode, body)
	}
	return body
}

// TestEmptyListsAreEmptyObjects sends what PHP makes of an empty map wherever an object is expected.
func TestEmptyListsAreEmptyObjects(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for _, uid := range []string{"ada", "bob", "cy"} {
		create(t, s, uid)
	}
	sent{
		method: "POST",
		path:   "/v3/roles",
		body:   `{"role":"guest","name":"Guest","metadata":[],"settings":[]}`,
	}.takes(
		t,
		s,
	)
	for _, c := range []struct{ method, path string }{
		{"POST", "/v3/users/ada/auth_tokens"},
		{"DELETE", "/v3/users/ada/auth_tokens"},
		{"PUT", "/v3/roles/guest"},
		{"PUT", "/v3/users/ada"},
		{"DELETE", "/v3/users/cy"},
		{"DELETE", "/v3/roles/guest"},
	} {
		for _, body := range []string{"[]", " [ \n ] "} {
			if c.method == http.MethodDelete && body != "[]" {
				continue
			}
			sent{method: c.method, path: c.path, body: body}.takes(t, s)
		}
	}
	if _, _, refused := (sent{method: "POST", path: "/v3/users", body: "[]"}).do(t, s); !hasField(refused.Details, "uid") {
		t.Errorf("a user of nothing: %+v", refused)
	}
	for i, empty := range []string{`[]`, `""`, `"[]"`, `"{}"`, `" "`, `{}`} {
		uid := fmt.Sprint("user-", i)
		sent{method: "POST", path: "/v3/users", body: `{"uid":"` + uid + `","name":"U","metadata":` + empty + `}`}.takes(t, s)
		sent{
			method: "POST",
			path:   "/v3/users/batch",
			body:   `{"users":[{"uid":"batch-` + uid + `","name":"U","metadata":` + empty + `}]}`,
		}.takes(
			t,
			s,
		)
		sent{
			method: "POST",
			path:   "/v3/data_import/users",
			body:   `{"users":{"import-` + uid + `":{"name":"U","metadata":` + empty + `}}}`,
		}.takes(
			t,
			s,
		)
		sent{method: "PUT", path: "/v3/users/bob", body: `{"metadata":{"a":1}}`}.takes(t, s)
		sent{method: "PUT", path: "/v3/users/bob", body: `{"metadata":` + empty + `}`}.takes(t, s)
		sent{method: "POST", path: "/v3/users/bob/auth_tokens", body: `{"appInfo":` + empty + `}`}.takes(t, s)
		for _, uid := range []string{uid, "batch-" + uid, "import-" + uid, "bob"} {
			if read := (sent{method: "GET", path: "/v3/users/" + uid}).takes(t, s); !bytes.Contains(
				read,
				[]byte(`"metadata":{}`),
			) {
				t.Errorf("metadata %s of %s reads back as %s", empty, uid, read)
			}
		}
		role := fmt.Sprint("role-", i)
		sent{
			method: "POST",
			path:   "/v3/roles",
			body:   `{"role":"` + role + `","name":"R","metadata":` + empty + `}`,
		}.takes(
			t,
			s,
		)
		sent{method: "PUT", path: "/v3/roles/" + role, body: `{"metadata":{"a":1}}`}.takes(t, s)
		sent{method: "PUT", path: "/v3/roles/" + role, body: `{"metadata":` + empty + `}`}.takes(t, s)
		if read := (sent{method: "GET", path: "/v3/roles/" + role}).takes(t, s); !bytes.Contains(
			read,
			[]byte(`"metadata":{}`),
		) {
			t.Errorf("metadata %s of a role reads back as %s", empty, read)
		}
	}
}

// TestNumbersAreUIDs sends numbers where uids are expected: the uid is their text, as it was sent.
func TestNumbersAreUIDs(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	const large = "12345678901234567890123" // no floating-point number is this one
	for _, uid := range []string{"42", "7", "8", large} {
		sent{method: "POST", path: "/v3/users", body: `{"uid":` + uid + `,"name":"U"}`}.takes(t, s)
	}
	sent{method: "POST", path: "/v3/users/batch", body: `{"users":[{"uid":9,"name":"U"}]}`}.takes(t, s)
	sent{method: "POST", path: "/v3/data_import/users", body: `{"users":[{"uid":10,"name":"U"}]}`}.takes(t, s)
	for _, c := range []struct{ method, path, body, says string }{
		{"GET", "/v3/users/42", "", `"uid":"42"`},
		{"POST", "/v3/users/lookup", `{"uids":[42,"7",` + large + `,9,10]}`, `"uid":"` + large + `"`},
		{"POST", "/v3/presence/query", `{"uids":[42,11]}`, `"notFound":["11"]`},
		{"POST", "/v3/users/42/blockedusers", `{"blockedUids":[7]}`, `"7":{"success":true`},
		{"DELETE", "/v3/users/42/blockedusers", `{"blockedUids":[7]}`, `"7":{"success":true`},
		{"POST", "/v3/users/42/friends", `{"accepted":[7]}`, `"7":{"success":true`},
		{"DELETE", "/v3/users/42/friends", `{"friends":[7]}`, `"success":true`},
		{"POST", "/v3/users/42/friend_requests", `{"uids":[7]}`, `"7":{"success":true`},
		{"PUT", "/v3/users/7/friend_requests", `{"accept":[42]}`, `"42":{"success":true`},
		{"POST", "/v3/relations/batch", `{"relations":[{"type":"block","uid":42,"other":8}]}`, `"success":true`},
		{"DELETE", "/v3/users", `{"uidsToDeactivate":[8]}`, `"deactivatedUids":["8"]`},
		{"PUT", "/v3/users", `{"uidsToActivate":[8,12]}`, `"notFound":["12"]`},
	} {
		if body := (sent{method: c.method, path: c.path, body: c.body}).takes(t, s); !bytes.Contains(body, []byte(c.says)) {
			t.Errorf("%s %s %s: %s", c.method, c.path, c.body, body)
		}
	}
	for _, number := range []string{"4.2", "1e2", "true", "null"} {
		for _, c := range []sent{
			{method: "POST", path: "/v3/users", body: `{"uid":` + number + `,"name":"U"}`},
			{method: "POST", path: "/v3/users/42/blockedusers", body: `{"blockedUids":[` + number + `]}`},
		} {
			if response, body, refused := c.do(t, s); response.StatusCode != http.StatusBadRequest ||
				refused.Code != api.CodeBadRequest {
				t.Errorf("%s: %s", c, body)
			}
		}
	}
}

// TestBodiesInOtherForms sends bodies as clients do that do not send JSON, or say that it is something else.
func TestBodiesInOtherForms(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	const form, multipart = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
	for i, kind := range []string{form, "Application/JSON", "text/plain", "text/plain;charset=UTF-8", "nonsense", ""} {
		user := fmt.Sprintf(`{"uid":"user-%d","name":"U"}`, i)
		sent{method: "POST", path: "/v3/users", body: user, headers: map[string]string{"Content-Type": kind}}.takes(t, s)
	}
	for kind, body := range map[string]string{
		form: "uid=ada&name=Ada", form + "; charset=utf-8": "force=1",
		multipart: "--x\r\nContent-Disposition: form-data; name=\"uid\"\r\n\r\nada\r\n--x--\r\n",
	} {
		for _, path := range []string{"/v3/users", "/v3/users/user-1/auth_tokens"} {
			_, _, refused := sent{
				method:  "POST",
				path:    path,
				body:    body,
				headers: map[string]string{"Content-Type": kind},
			}.do(
				t,
				s,
			)
			if refused.Code != api.CodeBadRequest || !strings.Contains(refused.Message, "Send a JSON object") {
				t.Errorf("%s to %s: %+v", kind, path, refused)
			}
		}
	}
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// TestPackedBodies sends bodies compressed: they are bounded by what is in them.
func TestPackedBodies(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	user := func(uid string, bytes int) string {
		empty := `{"uid":"` + uid + `","name":"U","unknown":""}`
		return strings.Replace(empty, `""`, `"`+strings.Repeat("x", bytes-len(empty))+`"`, 1)
	}
	post := func(body, encoding string) (*http.Response, []byte, api.Error) {
		return sent{
			method: "POST",
			path:   "/v3/users",
			body:   body,
			headers: map[string]string{
				"Content-Encoding": encoding,
				"Idempotency-Key":  fmt.Sprintf("%s %x", encoding, sha256.Sum256([]byte(body))),
			},
		}.do(
			t,
			s,
		)
	}
	for uid, encoding := range map[string]string{"a": "gzip", "b": "GZIP", "c": "x-gzip"} {
		if response, body, _ := post(packed(t, user(uid, 10<<10)), encoding); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", encoding, response.StatusCode, body)
		}
	}
	if response, body, _ := post(user("d", 100), "identity"); response.StatusCode != http.StatusOK {
		t.Errorf("identity: %d %s", response.StatusCode, body)
	}
	sent{
		method:  "POST",
		path:    "/v3/users/a/auth_tokens",
		body:    packed(t, ""),
		headers: map[string]string{"Content-Encoding": "gzip"},
	}.takes(
		t,
		s,
	)
	sent{
		method:  "POST",
		path:    "/v3/users/a/auth_tokens",
		headers: map[string]string{"Content-Encoding": "gzip"},
	}.takes(
		t,
		s,
	)
	bomb := packed(t, user("bomb", 20<<20))
	for name, c := range map[string]struct {
		body, encoding string
		status         int
	}{
		"one byte over":      {packed(t, user("over", 10<<10+1)), "gzip", http.StatusRequestEntityTooLarge},
		"a bomb":             {bomb, "gzip", http.StatusRequestEntityTooLarge},
		"a bomb in the mail": {packed(t, user("bomb", 8<<20)), "gzip", http.StatusRequestEntityTooLarge},
		"not gzip":           {user("plain", 100), "gzip", http.StatusBadRequest},
		"cut off":            {packed(t, user("cut", 5000))[:40], "gzip", http.StatusBadRequest},
		"deflate":            {"x", "deflate", http.StatusUnsupportedMediaType},
		"br":                 {"x", "br", http.StatusUnsupportedMediaType},
		"twice":              {packed(t, packed(t, user("twice", 100))), "gzip, gzip", http.StatusUnsupportedMediaType},
	} {
		response, body, refused := post(c.body, c.encoding)
		if response.StatusCode != c.status || refused.Code != api.CodeBadRequest {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
	if list, err := s.Backend(t).Users.List(t.Context(), client.UserListOptions{}); err != nil ||
		list.Pagination.Total != 4 {
		t.Errorf("there are %d users: %v", list.Pagination.Total, err)
	}
}

// TestVersion2 calls under the prefix that older clients use.
func TestVersion2(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for _, prefix := range []string{"/v2.0", "/v2"} {
		uid := "ada" + strings.ReplaceAll(prefix[1:], ".", "")
		for _, c := range []sent{
			{method: "POST", path: "/users", body: `{"uid":"` + uid + `","name":"Ada"}`},
			{method: "POST", path: "/users", body: `{"uid":"` + uid + `-friend","name":"Friend"}`},
			{method: "PUT", path: "/users/" + uid, body: `{"name":"Ada A."}`},
			{method: "GET", path: "/users"},
			{method: "GET", path: "/users/" + uid + "/"},
			{method: "POST", path: "/users/" + uid + "/auth_tokens"},
			{method: "GET", path: "/users/" + uid + "/auth_tokens"},
			{method: "DELETE", path: "/users/" + uid + "/auth_tokens"},
			{method: "POST", path: "/users/" + uid + "/friends", body: `{"accepted":["` + uid + `-friend"]}`},
			{method: "GET", path: "/users/" + uid + "/friends"},
			{method: "DELETE", path: "/users/" + uid + "/friends", body: `{"friends":["` + uid + `-friend"]}`},
			{method: "POST", path: "/users/" + uid + "/blockedusers", body: `{"blockedUids":["` + uid + `-friend"]}`},
			{method: "GET", path: "/users/" + uid + "/blockedusers"},
			{method: "DELETE", path: "/users/" + uid, body: `{"permanent":true}`},
		} {
			c.path = prefix + c.path
			c.takes(t, s)
		}
	}
	for path, want := range map[string]api.Code{
		"/v2.0/roles": api.CodeInvalidAPIVersion, "/v2.0/apikeys": api.CodeInvalidAPIVersion,
		"/v2/me": api.CodeInvalidAPIVersion, "/v2/healthz": api.CodeAPINotFound,
		"/v2.0/users/ada/presence": api.CodeInvalidAPIVersion, "/v2.0/nothing": api.CodeAPINotFound,
		"/v2.1/users": api.CodeInvalidAPIVersion, "/v1/users": api.CodeInvalidAPIVersion,
	} {
		if _, _, refused := (sent{method: "GET", path: path}).do(t, s); refused.Code != want {
			t.Errorf("GET %s: %+v", path, refused)
		}
	}
}

// TestQueryAndBody says in the query string what belongs in the body, alone and beside it.
func TestQueryAndBody(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.FirstApp.Settings.RevealSecrets = true })
	backend := s.Backend(t)
	exists := func(uid string) (deactivated, there bool) {
		list, err := backend.Users.List(t.Context(), client.UserListOptions{UIDs: []string{uid}, WithDeactivated: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items) > 0 && list.Items[0].DeactivatedAt != 0, len(list.Items) > 0
	}
	for _, c := range []struct {
		query, body string
		becomes     string
	}{
		{"?permanent=true", "", "erased"},
		{"?permanent=1", "{}", "erased"},
		{"?permanent=true", `{"permanent":"true"}`, "erased"},
		{"?permanent=true", `{"permanent":null}`, "erased"},
		{"", `{"permanent":true}`, "erased"},
		{"?permanent=false", "", "deactivated"},
		{"?permanent", "", "deactivated"},
		{"", "", "deactivated"},
		{"?permanent=true", `{"permanent":false}`, "as before"},
		{"?permanent=false", `{"permanent":true}`, "as before"},
		{"?permanent=yes", "", "as before"},
	} {
		create(t, s, "ada")
		response, body, refused := sent{method: "DELETE", path: "/v3/users/ada" + c.query, body: c.body}.do(t, s)
		deactivated, there := exists("ada")
		became := map[bool]string{false: "erased", true: map[bool]string{
			true:  "deactivated",
			false: "as before",
		}[deactivated]}[there]
		if became != c.becomes ||
			(became == "as before") != (response.StatusCode == http.StatusBadRequest && hasField(refused.Details, "permanent")) {
			t.Errorf("DELETE %s %s: %s, %d %s", c.query, c.body, became, response.StatusCode, body)
		}
		if there {
			if err := backend.Users.Erase(t.Context(), "ada"); err != nil {
				t.Fatal(err)
			}
		}
	}

	create(t, s, "bob")
	tokens := func() int {
		list, err := backend.AuthTokens.List(t.Context(), "bob", client.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return list.Pagination.Total
	}
	for _, c := range []struct {
		path, body string
		left       int
		status     int
	}{
		{"/users/bob/auth_tokens?issuedBefore=1000", "", 1, 200},
		{"/users/bob/auth_tokens?issuedBefore=1000", `{"issuedBefore":1001}`, 1, 400},
		{"/users/bob/auth_tokens?issuedBefore=1000", `{"issuedBefore":"1000"}`, 1, 200},
		{"/users/bob/auth_tokens?issuedBefore=soon", "", 1, 400},
		{"/auth_tokens?issuedBefore=1000", "", 1, 200},
		{"/auth_tokens?issuedBefore=1000", `{"issuedBefore":2000}`, 1, 400},
		{"/users/bob/auth_tokens?issuedBefore=4000000000", "", 0, 200},
	} {
		mint(t, backend, "bob")
		response, body, _ := sent{method: "DELETE", path: "/v3" + c.path, body: c.body}.do(t, s)
		if left := tokens(); left != c.left || response.StatusCode != c.status {
			t.Errorf("DELETE %s %s: %d, %d tokens are left: %s", c.path, c.body, response.StatusCode, left, body)
		}
		if _, err := backend.AuthTokens.RevokeOfUser(t.Context(), "bob", 0); err != nil {
			t.Fatal(err)
		}
	}
	// What is neither a flag nor a time belongs in the body.
	for _, c := range []sent{
		{method: "DELETE", path: "/v3/users?uidsToDeactivate=bob"},
		{method: "DELETE", path: "/v3/users?uidsToDeactivate[]=bob", body: `{"uidsToDeactivate":["nobody"]}`},
		{method: "PUT", path: "/v3/users/bob?name=Robert"},
		{method: "POST", path: "/v3/users?uid=cy&name=Cy"},
		{method: "DELETE", path: "/v3/users/bob/blockedusers?blockedUids=ada", body: `{"blockedUids":["x"]}`},
		{method: "DELETE", path: "/v3/roles/default/restrictedfeatures?featuresToAllow=getUser", body: `{"allowAll":true}`},
		{method: "DELETE", path: "/v3/roles/default/restrictedfeatures?allowAll=true", body: `{"allowAll":false}`},
	} {
		if response, body, _ := c.do(t, s); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", c, response.StatusCode, body)
		}
	}
	if user, err := backend.Users.Get(t.Context(), "bob"); err != nil || user.Name != "bob" {
		t.Errorf("bob is %+v %v", user, err)
	}
	sent{method: "DELETE", path: "/v3/roles/default/restrictedfeatures?allowAll=true"}.takes(t, s)
}

// TestIgnoredMembersAreNamed sends members and parameters that a call does not know.
func TestIgnoredMembersAreNamed(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	create(t, s, "ada")
	jwt := mint(t, s.Backend(t), "ada")
	asAda := map[string]string{"apikey": "", "authToken": jwt}
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf(`"m%d":1`, i)
	}
	for _, c := range []struct {
		sent
		ignored string
	}{
		{sent{method: "PUT", path: "/v3/users/ada", body: `{"nam":"Ada","name":"ada"}`}, "nam"},
		{
			sent{method: "POST", path: "/v3/users", body: `{"uid":"u1","name":"U","createdAt":1,"Name":"x"}`},
			"createdAt, Name",
		},
		{sent{
			method: "POST", path: "/v3/users",
			body: `{"uid":"u2","name":"U","hasBlockedMe":false,"blockedByMe":false,"deactivatedAt":0,"status":"offline"}`,
		}, ""},
		{sent{
			method: "PUT", path: "/v3/users/ada",
			body: `{"uid":"ada","name":"ada","status":"offline","createdAt":1,"updatedAt":2,"lastActiveAt":3,` +
				`"deactivatedAt":0,"conversationId":"x","blockedByMe":false,"blockedByMeAt":1,"hasBlockedMe":false,` +
				`"hasBlockedMeAt":1,"blockedAt":1,"authToken":"x"}`,
		}, ""},
		{sent{
			method: "PUT", path: "/v3/me",
			body: `{"uid":"ada","name":"ada","role":"default","platform":"WEB","deviceId":"d","appInfo":{"any":1},"jwt":"x",` +
				`"wsChannel":{},"settings":{},"fat":"x"}`, headers: asAda,
		}, ""},
		{sent{method: "PUT", path: "/v3/me", body: `{"statusMesage":"x"}`, headers: asAda}, "statusMesage"},
		{sent{
			method: "POST", path: "/v3/user_sessions", body: `{"sessionId":"x","data":{"a":1},"generatedAt":1}`,
			headers: asAda,
		}, ""},
		{sent{method: "POST", path: "/v3/me/jwt", body: `{"passthru":{}}`, headers: asAda}, "passthru"},
		{
			sent{method: "POST", path: "/v3/roles", body: `{"role":"r","name":"R","settings":{"listUser":"friendsOnly"}}`},
			"settings.listUser",
		},
		{sent{method: "PUT", path: "/v3/roles/r", body: `{"role":"r","name":"R","createdAt":1,"updatedAt":1}`}, ""},
		{sent{
			method: "POST", path: "/v3/users/batch",
			body: `{"users":[{"uid":"b1","name":"B"},{"uid":"b2","name":"B","nam":1}],"dryrun":true}`,
		}, "users.1.nam, dryrun"},
		{
			sent{method: "POST", path: "/v3/data_import/users", body: `{"users":{"i1":{"name":"I","mtadata":{}}}}`},
			"users.i1.mtadata",
		},
		{sent{
			method: "POST", path: "/v3/relations/batch",
			body: `{"relations":[{"type":"block","uid":"ada","other":"u1","when":1}]}`,
		}, "relations.0.when"},
		{sent{method: "POST", path: "/v3/users/ada/auth_tokens", body: `{"forse":true}`}, "forse"},
		{sent{method: "DELETE", path: "/v3/users/b1?permenent=true", body: `{}`}, "?permenent"},
		{sent{method: "GET", path: "/v3/users?perpage=1&limit=2&page=1"}, "?perpage, ?limit"},
		{sent{method: "GET", path: "/v3/users?metadata%5Bcity=x&roles[]=default&withTags=1&count=true"}, "?metadata[city"},
		{sent{method: "GET", path: "/v3/users/ada?withTags=1"}, "?withTags"},
		{sent{method: "GET", path: "/v3/roles/r?a=1"}, "?a"},
		{sent{method: "DELETE", path: "/v3/roles/r?force=1", body: `{"force":true}`}, "force, ?force"},
		{
			sent{method: "PUT", path: "/v3/users/ada", body: `{"a\r\nSet-Cookie: x":1,"é":2,"a,b":3,"` + strings.Repeat("x",
				300) + `":4}`},
			"a%0D%0ASet-Cookie%3A+x, %C3%A9, a%2Cb, " + strings.Repeat("x", 64) + "...",
		},
		{
			sent{method: "PUT", path: "/v3/users/ada", body: `{` + strings.Join(many, ",") + `}`},
			"m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, ...",
		},
		{sent{method: "PUT", path: "/v3/users/ada", body: `{"nam":"Ada","avatar":7}`}, "nam"},
	} {
		response, body, _ := c.do(t, s)
		if got := response.Header.Get("Rollcall-Ignored"); got != c.ignored {
			t.Errorf("%s: Rollcall-Ignored is %q, want %q: %s", c.sent, got, c.ignored, body)
		}
		if !strings.Contains(response.Header.Get("Access-Control-Expose-Headers"), "rollcall-ignored") {
			t.Error("pages cannot read the header")
		}
	}
}

// TestStrictHandling refuses what would be ignored, before anything is done.
func TestStrictHandling(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	create(t, s, "ada")
	_, before, err := s.Backend(t).Changes.List(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sent
		field string
	}{
		{sent{method: "PUT", path: "/v3/users/ada", body: `{"nam":"Ada","name":"New"}`}, "nam"},
		{sent{method: "POST", path: "/v3/users", body: `{"uid":"u1","name":"U","foo":1}`}, "foo"},
		{
			sent{method: "POST", path: "/v3/roles", body: `{"role":"r","name":"R","settings":{"listUser":"friendsOnly"}}`},
			"settings.listUser",
		},
		{sent{method: "POST", path: "/v3/users/batch", body: `{"users":[{"uid":"b2","name":"B","nam":1}]}`}, "users.0.nam"},
		{sent{method: "DELETE", path: "/v3/users/ada?force=true"}, "?force"},
		{sent{method: "DELETE", path: "/v3/roles/default?x=1"}, "?x"},
		{sent{method: "DELETE", path: "/v3/roles/default", body: `{"x":1}`}, "x"},
		{sent{method: "GET", path: "/v3/users?limit=1"}, "?limit"},
		{sent{method: "GET", path: "/v3/users/ada?fields=uid"}, "?fields"},
	} {
		for _, prefer := range []string{
			"handling=strict", `return=minimal, Handling = "strict"`,
			"respond-async; handling=strict",
		} {
			c.headers = map[string]string{"Prefer": prefer}
			response, body, refused := c.do(t, s)
			if response.StatusCode != http.StatusBadRequest || refused.Code != api.CodeBadRequest ||
				len(refused.Details[c.field]) == 0 {
				t.Errorf("%s, %s: %d %s", c.sent, prefer, response.StatusCode, body)
			}
		}
	}
	if _, after, err := s.Backend(t).Changes.List(t.Context(), 0, 1); err != nil || after != before {
		t.Errorf("something was written: %d, then %d: %v", before, after, err)
	}
	for _, c := range []sent{
		{
			method: "PUT", path: "/v3/users/ada", body: `{"nam":"Ada"}`,
			headers: map[string]string{"Prefer": "handling=lenient"},
		},
		{
			method: "PUT", path: "/v3/users/ada", body: `{"uid":"ada","name":"Ada","status":"offline"}`,
			headers: map[string]string{"Prefer": "handling=strict"},
		},
		{method: "DELETE", path: "/v3/users/ada?permanent=true", headers: map[string]string{"Prefer": "handling=strict"}},
	} {
		c.takes(t, s)
	}
}

// TestMissingActor acts for users who do not exist: the answer is not the one for a subject that does not.
func TestMissingActor(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	create(t, s, "ada")
	create(t, s, "gone")
	if _, err := s.Backend(t).Users.Deactivate(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	for actor, want := range map[string]api.Code{
		"Nobody": api.CodeOnBehalfOfUIDNotFound,
		"gone":   api.CodeOnBehalfOfUIDNotFound, "ada": api.CodeUIDNotFound,
	} {
		response, _, refused := sent{
			method:  "GET",
			path:    "/v3/users/missing",
			headers: map[string]string{"onBehalfOf": actor},
		}.do(
			t,
			s,
		)
		if response.StatusCode != http.StatusNotFound || refused.Code != want ||
			want == api.CodeOnBehalfOfUIDNotFound && !strings.Contains(refused.Message, strings.ToLower(actor)) {
			t.Errorf("on behalf of %s: %d %+v", actor, response.StatusCode, refused)
		}
	}
}

// TestListsByStatus asks for those who present themselves as busy and away, as somebody who may know and as some who
// may not.
func TestListsByStatus(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "amy", "bob", "cy", "dan", "eve")
	statuses := map[string]string{"amy": "available", "bob": "busy", "cy": "away", "dan": "invisible"}
	for uid, status := range statuses {
		s.Login(t, apitest.Login{UID: uid, Device: uid, Body: extended(api.AuthBody{}, api.SocketExtension{Status: status})})
	}
	ada := s.Client(t, client.WithAuthToken(mint(t, s.Backend(t), "ada")))
	ask := func(c *client.Client, status string) string {
		t.Helper()
		list, err := c.Users.List(t.Context(), client.UserListOptions{Status: status})
		if err != nil {
			t.Fatal(err)
		}
		found := []string{}
		for _, user := range list.Items {
			if status != "offline" && user.Status != "available" {
				t.Errorf("in the list of status %s, %s is %s", status, user.UID, user.Status)
			}
			found = append(found, user.UID)
		}
		if list.Pagination.Total != len(found) {
			t.Errorf("status %s: %v, and a total of %d", status, found, list.Pagination.Total)
		}
		return strings.Join(found, " ")
	}
	expect := func(what string, c *client.Client, want map[string]string) {
		t.Helper()
		for status, uids := range want {
			if got := ask(c, status); got != uids {
				t.Errorf("%s: of status %s are %q, want %q", what, status, got, uids)
			}
		}
	}
	expect(
		"as a user",
		ada,
		map[string]string{
			"busy":      "bob",
			"away":      "cy",
			"available": "amy bob cy",
			"online":    "amy bob cy",
			"offline":   "dan eve",
		},
	)
	expect("with a key", s.Backend(t), map[string]string{"busy": "bob", "away": "cy"})
	for _, pair := range [][2]string{{"ada", "bob"}, {"cy", "ada"}} {
		if _, err := s.Backend(t).Blocks.Block(t.Context(), pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	expect(
		"across blocks",
		ada,
		map[string]string{"busy": "", "away": "", "available": "amy", "offline": "bob cy dan eve"},
	)
	role := sent{
		method: "POST",
		path:   "/v3/roles",
		body:   `{"role":"shy","name":"Shy","settings":{"listUsers":"friendsOnly"}}`,
	}
	role.takes(t, s)
	sent{method: "PUT", path: "/v3/users/eve", body: `{"role":"shy"}`}.takes(t, s)
	eve := s.Client(t, client.WithAuthToken(mint(t, s.Backend(t), "eve")))
	expect("as one who sees friends only", eve, map[string]string{"busy": "", "away": "", "available": ""})
	sent{method: "POST", path: "/v3/users/eve/friends", body: `{"accepted":["bob"]}`}.takes(t, s)
	expect("as a friend", eve, map[string]string{"busy": "bob", "away": "", "available": "bob"})
	_, _, refused := sent{method: "GET", path: "/v3/users?status=asleep"}.do(t, s)
	if text, _ := json.Marshal(refused.Details); !strings.Contains(string(text), "busy") {
		t.Errorf("another status: %s", text)
	}
}
