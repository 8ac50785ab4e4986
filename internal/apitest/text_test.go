package apitest_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

// TestNoInputHoldsWhatNoDatabaseHolds sends U+0000, and bytes that are no UTF-8, in every place of every call that the
// description names: whatever is in the path, the query string, a header or the body, it blames the caller, on either
// engine.
func TestNoInputHoldsWhatNoDatabaseHolds(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	onEveryEngine(t, func(t *testing.T, database string) {
		s := apitest.Start(t, database, func(config *server.Config) {
			config.RateLimits = httpapi.RateLimits{Core: -1, Standard: -1, Token: -1, Import: -1}
		})
		create(t, s, "ada")
		create(t, s, "bob")
		c := s.Backend(t)
		key := map[string]string{"appId": s.Credentials.AppID, "apikey": s.Credentials.RestAPIKey}
		user := map[string]string{"appId": s.Credentials.AppID, "authToken": mint(t, c, "ada")}
		operator := map[string]string{
			"appId":  s.Credentials.AppID,
			"key":    s.Credentials.ManagementKey,
			"secret": s.Credentials.ManagementSecret,
		}
		credentials := map[httpapi.Access]map[string]string{
			httpapi.Public: {}, httpapi.UserToken: user, httpapi.MaybeToken: user, httpapi.Management: operator,
			httpapi.FullAccessKey:             key,
			httpapi.FullAccessKeyOrManagement: key, httpapi.AnyKey: key, httpapi.KeyOrToken: key,
		}
		names := map[string]string{
			"uid": "ada", "other": "bob", "authToken": "tok_x", "apiKey": "key_x", "role": "default", "permission": "listUsers",
			"version":  "v3.0",
			"deviceId": "x", "appId": "none", "email": "x@example.com",
		}
		sent := 0
		for _, route := range httpapi.Routes() {
			path := strings.ReplaceAll(route.Path, "{$}", "")
			if route.Method+" "+path == "DELETE /me" || path == "/metrics" {
				continue // it takes nothing; and what it does would spoil the rest
			}
			filled := func(place, text string) string {
				address := path
				for name, value := range names {
					if name == place {
						value = text
					}
					address = strings.ReplaceAll(address, "{"+name+"}", value)
				}
				return address
			}
			send := func(what, address, body string, headers map[string]string) int {
				t.Helper()
				sent++
				all := map[string]string{}
				maps.Copy(all, credentials[route.Access])
				maps.Copy(all, headers)
				status, answer := plainCall(t, route.Method, s.URL+address, body, all)
				if status >= 500 {
					t.Errorf("%s %s, %s: %d %s", route.Method, route.Path, what, status, answer)
				}
				return status
			}
			for name := range names {
				if strings.Contains(path, "{"+name+"}") {
					send("in the path: "+name, filled(name, "a%00b"), "", nil)
					send("in the path: "+name, filled(name, "a%ffb"), "", nil)
				}
			}
			for _, name := range []string{
				"appId", "apikey", "authToken", "key", "secret", "onBehalfOf", "Last-Event-ID",
				"Idempotency-Key", "Prefer",
			} {
				send("in the header: "+name, nowhere.ReplaceAllString(path, "nobody"), "{}", map[string]string{name: "a\xffb"})
			}
			item := document.Paths.Find(path)
			operation := item.GetOperation(route.Method)
			for _, parameter := range slices.Concat(item.Parameters, operation.Parameters) {
				name := parameter.Value.Name
				if parameter.Value.In == openapi3.ParameterInQuery {
					if name == "metadata" {
						name = "metadata[city]"
					}
					for _, text := range []string{"a%00b", "a%ffb"} {
						if status := send("in the query: "+name, filled("", "")+"?"+url.QueryEscape(name)+"="+text, "",
							nil); status != http.StatusBadRequest {
							t.Errorf("%s %s?%s=%s: %d", route.Method, path, name, text, status)
						}
					}
					if name == "cursor" {
						for _, cursor := range badCursors() {
							if status := send("a cursor", filled("", "")+"?cursor="+cursor.text+cursor.query, "",
								nil); status != http.StatusBadRequest {
								t.Errorf("%s %s with a cursor of %s: %d", route.Method, path, cursor.what, status)
							}
						}
					}
				}
			}
			if operation.RequestBody == nil {
				continue
			}
			for name := range membersOf(operation.RequestBody.Value.Content.Get("application/json").Schema.Value) {
				for _, value := range []string{
					`"a\u0000b"`, `["a\u0000b"]`, `{"a\u0000b":"a\u0000b"}`,
					`[{"uid":"a\u0000b","name":"a\u0000b","type":"block","other":"a\u0000b"}]`, `{"a\u0000b":{"name":"N"}}`,
				} {
					send(
						"in the body: "+name,
						filled("", ""),
						`{"name":"N","uid":"n`+fmt.Sprint(sent)+`","role":"r`+fmt.Sprint(sent)+`","`+name+`":`+value+`}`,
						nil,
					)
					send(
						"in the body: "+name,
						filled("", ""),
						`{"`+name+`":`+value+`}`,
						map[string]string{"Idempotency-Key": fmt.Sprintf("%d \xff", sent)},
					)
				}
			}
		}
		if sent < 500 {
			t.Errorf("only %d requests were sent", sent)
		}
		if list, err := c.Users.List(t.Context(), client.UserListOptions{}); err != nil || len(list.Items) < 2 {
			t.Errorf("the directory does not read any more: %d %v", len(list.Items), err)
		}
	})
}

func plainCall(t *testing.T, method, address, body string, headers map[string]string) (status int, answer []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return response.StatusCode, nil // it has no end
	}
	if answer, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// nowhere finds what of a path is to be filled in.
var nowhere = regexp.MustCompile(`\{[^}]+\}`)

// membersOf returns the members that a body may have.
func membersOf(schema *openapi3.Schema) map[string]bool {
	names := map[string]bool{}
	for name := range schema.Properties {
		names[name] = true
	}
	for _, of := range slices.Concat(schema.AllOf, schema.AnyOf, schema.OneOf) {
		for name := range membersOf(of.Value) {
			names[name] = true
		}
	}
	return names
}

type badCursor struct{ what, text, query string }

// badCursors are cursors in the server's own form, of every order, in which a text holds what no database can hold.
func badCursors() []badCursor {
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	return []badCursor{
		{"a name", encode(`{"o":1,"a":{"n":"a\u0000b","u":"ada"}}`), "&sortBy=name"},
		{"a uid by name", encode(`{"o":1,"a":{"n":"a","u":"a\u0000b"}}`), "&sortBy=name"},
		{"a uid by age", encode(`{"o":0,"a":{"t":[1],"u":"a\u0000b"}}`), "&sortBy=createdAt"},
		{"a uid by change", encode(`{"o":2,"a":{"t":[1],"u":"\u0000"}}`), "&sortBy=updatedAt"},
		{"a uid by activity", encode(`{"o":3,"a":{"t":[1,2],"u":"\u0000"}}`), "&sortBy=lastActiveAt"},
		{"no order", encode(`{"o":9,"a":{"u":"a"}}`), ""},
		{"nothing", encode(`[]`), ""},
		{"no JSON", encode("\x00"), ""},
	}
}
