package apitest_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// TestRotatedKeyOnEveryEdge replaces a key that is used for calls and a stream, and lets its time pass, with a restart
// in between.
func TestRotatedKeyOnEveryEdge(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		data := t.TempDir()
		start := func() *apitest.Server {
			return apitest.Start(t, database, func(config *server.Config) { config.DataDir = data })
		}
		s := start()
		old := s.Credentials.RestAPIKey
		create(t, s, "ada")
		token := must[api.AuthToken](t)(s.Backend(t).AuthTokens.Create(t.Context(), "ada", api.CreateAuthTokenRequest{}))
		made := must[api.APIKey](t)(s.Backend(t).APIKeys.Rotate(t.Context(), old, time.Hour))
		if made.Replaces == nil || made.Replaces.ExpiresAt != apitest.Epoch+3600 || made.Scope != "fullAccess" {
			t.Fatalf("the new key is %+v", made)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s = start()
		before, after := s.Backend(t), s.Client(t, client.WithAPIKey(made.Key))
		keys := must[client.Page[api.APIKey]](t)(after.APIKeys.List(t.Context(), client.APIKeyListOptions{}))
		for _, key := range keys.Items {
			switch key.ID {
			case made.ID:
				if key.ExpiresAt != 0 {
					t.Errorf("the new key expires: %+v", key)
				}
			case made.Replaces.ID:
				if key.ExpiresAt != made.Replaces.ExpiresAt || key.LastUsedAt != apitest.Epoch {
					t.Errorf("after a restart, the old key is %+v", key)
				}
			}
		}
		ended := make(chan error, 1)
		seen := make(chan string, 100)
		go func() {
			var last error
			for change, err := range before.Changes.Follow(apitest.Context(t), 0) {
				if last = err; err == nil {
					seen <- change.Kind
				}
			}
			ended <- last
		}()
		for kind := ""; kind != "token.created"; {
			select {
			case kind = <-seen:
			case err := <-ended:
				t.Fatalf("the stream ended: %v", err)
			}
		}
		s.Clock().Advance(time.Hour)
		must[api.User](t)(after.Users.Create(t.Context(), api.CreateUserRequest{UID: "bob", Name: "Bob"}))
		if err := <-ended; !client.IsCode(err, api.CodeAPIKeyUnknown) {
			t.Errorf("the stream of the expired key ended with %v", err)
		}
		if _, err := before.Users.Get(t.Context(), "ada"); !client.IsCode(err, api.CodeAPIKeyUnknown) {
			t.Errorf("a call with the expired key: %v", err)
		}
		// What it minted for people stays good.
		must[api.Me](t)(s.Client(t, client.WithAuthToken(token.Token)).Me.Get(t.Context()))
	})
}

// TestCredentialsWithLostKeys revokes the keys of credentials.json, and asks the doctor and the next start about them.
func TestCredentialsWithLostKeys(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		var used server.Config
		data := t.TempDir()
		start := func() *apitest.Server {
			return apitest.Start(t, database, func(config *server.Config) {
				config.DataDir = data
				used = *config
			})
		}
		s := start()
		diagnosis := func() server.Finding {
			t.Helper()
			for _, finding := range server.Diagnose(t.Context(), used) {
				if finding.Check == "credentials" {
					return finding
				}
			}
			t.Fatal("the doctor does not look at the credentials")
			return server.Finding{}
		}
		if finding := diagnosis(); finding.Level != "ok" || s.LostKeys != "" {
			t.Errorf("at first: %+v, %q", finding, s.LostKeys)
		}
		made := must[api.APIKey](t)(s.Backend(t).APIKeys.Rotate(t.Context(), s.Credentials.RestAPIKey, time.Hour))
		_, err := s.Backend(t).APIKeys.Delete(t.Context(), s.Credentials.AuthKey, api.DeleteAPIKeyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		const authLost = "authKey of "
		if finding := diagnosis(); finding.Level != "warning" || !strings.HasPrefix(finding.Detail, authLost) ||
			!strings.Contains(finding.Advice, "rollcall keys rotate --scope authOnly --data "+data) {
			t.Errorf("without the auth key: %+v", finding)
		}
		s.Clock().Advance(time.Hour)
		const bothLost = "restApiKey and authKey of "
		if finding := diagnosis(); !strings.HasPrefix(finding.Detail, bothLost) {
			t.Errorf("without both: %+v", finding)
		}
		credentials := filepath.Join(data, server.CredentialsFile)
		if replaced, err := server.ReplaceKey(credentials, s.Credentials.RestAPIKey, made.Key); err != nil || !replaced {
			t.Fatal(replaced, err)
		}
		if replaced, err := server.ReplaceKey(credentials, s.Credentials.RestAPIKey, made.Key); err != nil || replaced {
			t.Fatal(replaced, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s = start(); !strings.HasPrefix(s.LostKeys, authLost) || s.Credentials.RestAPIKey != made.Key {
			t.Errorf("the next start: %q", s.LostKeys)
		}
	})
}
