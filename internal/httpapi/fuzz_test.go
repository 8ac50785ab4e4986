package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/socketjwt"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// served is an API over a real database with one app and one user.
type served struct {
	handler  http.Handler
	app, key string
}

func serve(t testing.TB) served {
	t.Helper()
	return serveWith(t, httpapi.RateLimits{Core: -1, Standard: -1, Token: -1, WrongCredentials: -1})
}

func serveWith(t testing.TB, limits httpapi.RateLimits) served {
	t.Helper()
	return serveOver(t, httpapi.Config{RateLimits: limits}, func(store *sqlstore.Store) directory.Store { return store })
}

// serveOver is serve with what is between the directory and the database.
func serveOver(t testing.TB, config httpapi.Config, over func(*sqlstore.Store) directory.Store) served {
	t.Helper()
	store, err := sqlstore.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "fuzz.db"))
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	d := directory.New(directory.Config{Store: over(store), Secrets: keyring})
	config.Directory, config.Signer, config.SocketSigner = d, keyring, socketjwt.NewSigner(keyring)
	config.Feed = changefeed.New(d)
	config.Presence = presence.New(presence.Config{Directory: d, Feed: config.Feed})
	a, err := httpapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		config.Presence.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	created, err := d.CreateApp(context.Background(), "operator", directory.NewApp{Name: "Fuzz", SampleUsers: true})
	if err != nil {
		t.Fatal(err)
	}
	return served{a, string(created.App.ID), created.FullAccess.Text}
}

// call sends a request and fails the test unless the answer is a success or the envelope, and blames the caller.
func (s served) call(t *testing.T, method, path, query, body string) (status int, answer []byte) {
	t.Helper()
	request := &http.Request{
		Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Appid": {s.app}, "Apikey": {s.key}},
		Host: "fuzz",
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: 1,
	}
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, request.WithContext(t.Context()))
	answer = recorder.Body.Bytes()
	if recorder.Code == http.StatusOK || recorder.Code == http.StatusNoContent {
		return recorder.Code, answer
	}
	var envelope api.ErrorBody
	if err := json.Unmarshal(answer, &envelope); err != nil || envelope.Error.Code == "" {
		t.Errorf("%s %q?%q with %q: status %d without the envelope: %q", method, path, query, body, recorder.Code, answer)
	}
	if recorder.Code >= 500 {
		t.Errorf("%s %q?%q with %q: status %d: %s", method, path, query, body, recorder.Code, answer)
	}
	return recorder.Code, answer
}

func FuzzBody(f *testing.F) {
	s := serve(f)
	for _, seed := range []string{
		`{"uid":"a","name":"A"}`, `{"uid":"a","name":"A","metadata":{"a":[1,2e3]},"tags":["x"],"withAuthToken":"true"}`,
		`{"name":null,"unset":["avatar"]}`,
		`{"metadata":"{\"a\":1}"}`, "\ufeff{}", `{"a":1,"a":2}`, `[`, `{"uidsToDeactivate":["a"]}`,
		`{"permissions":{"listUsers":"deny"}}`, `{"settings":{"listUsers":"all"}}`,
		`{"issuedBefore":"1"}`, `{"featuresToRestrict":["getUser"],"featuresToAllow":["u.x"],"allowAll":1}`,
		`{"passthrough":{"a":{}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, target := range [][2]string{
			{"POST", "/users"},
			{"PUT", "/users/cometchat-uid-1"},
			{"PUT", "/users"},
			{"DELETE", "/users"},
			{"POST", "/users/cometchat-uid-1/auth_tokens"},
			{"POST", "/roles"},
			{"PUT", "/roles/default"},
			{"PUT", "/roles/default/permissions"},
			{"POST", "/roles/default/restrictedfeatures"},
			{"DELETE", "/roles/default/restrictedfeatures"},
			{"POST", "/apikeys"},
			{"DELETE", "/auth_tokens"},
		} {
			s.call(t, target[0], target[1], "", body)
		}
		status, answer := s.call(t, "GET", "/users/cometchat-uid-1", "", "")
		if status == http.StatusOK && !json.Valid(answer) {
			t.Errorf("after %q a user reads back as %q", body, answer)
		}
	})
}

func FuzzPath(f *testing.F) {
	s := serve(f)
	for _, seed := range []string{
		"/v3/users/a", "/v3.0//users/%20/", "/users/../users", "/v3/users/a/auth_tokens/tok_x", "/v9/x", "//", "/users/\x00",
		"/roles/é", "/apikeys/%2F",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		for _, method := range []string{"GET", "PUT", "DELETE", "POST", "PATCH", "HEAD"} {
			if strings.Contains(path, "docs") || strings.Contains(path, "json") {
				return // pages, not calls
			}
			s.call(t, method, "/"+path, "", "")
		}
	})
}

func FuzzQuery(f *testing.F) {
	s := serve(f)
	for _, seed := range []string{
		"page=1&perPage=10", "searchKey=%41&searchIn=uid,name", "tags=a%2Cb,c&tags[]=d", "roles=default&role=x", "uids=a,b",
		"status=online", "withTags=1&onlyDeactivated=t",
		"since=5&limit=2", "fromDate=1&toDate=2", "%zz", "a=%00", "page=99999999999999999999", "&&&=", "perPage=-1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{
			"/users", "/roles", "/apikeys", "/changes", "/stats", "/users/cometchat-uid-1/auth_tokens",
		} {
			s.call(t, "GET", path, query, "")
		}
	})
}
