package apitest_test

import (
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// everybody listens to all users, and nobody to none.
var everybody = api.AuthBody{PresenceSubscription: api.SubscribeAllUsers}

func startWithUsers(t *testing.T, database string, configure func(*server.Config), uids ...string) *apitest.Server {
	t.Helper()
	s := apitest.Start(t, database, func(config *server.Config) {
		config.Grace = 300 * time.Millisecond
		if configure != nil {
			configure(config)
		}
	})
	backend := s.Backend(t)
	for _, uid := range uids {
		if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: uid, Name: uid}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestSocketTellsWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := startWithUsers(t, database, nil, "ada", "bob", "cy")
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada.Hears("bob online")
		if user, err := s.Backend(t).Users.Get(t.Context(), "bob"); err != nil || user.Status != "available" || user.LastActiveAt != apitest.Epoch {
			t.Errorf("bob is %+v, %v", user, err)
		}
		bob.Close(1000, "User logged out")
		ada.Hears("bob offline")
		if user, err := s.Backend(t).Users.Get(t.Context(), "bob"); err != nil || user.Status != "offline" || user.LastActiveAt != apitest.Epoch {
			t.Errorf("bob is %+v, %v", user, err)
		}
	})
}
