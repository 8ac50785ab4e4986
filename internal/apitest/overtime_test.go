package apitest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// TestPingRenewsJWT pings as clients of each generation do while their JWT grows old.
func TestPingRenewsJWT(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sdk   string
		after time.Duration
		want  api.Code
	}{
		{"javascript@4.2.0", 7 * time.Minute, ""},
		{"javascript@4.2.0", 8 * time.Minute, api.CodeNoAuth},
		{"javascript@4.2.0", time.Hour, api.CodeNoAuth},
		{"javascript@3.0.13", 11 * time.Minute, ""},
		{"javascript@3.0.13", 13 * time.Minute, api.CodeSettingsHashOutdated},
		{"ionic@3.0.11", time.Hour, api.CodeSettingsHashOutdated},
		{"reactnative@3.0.12", 14 * time.Minute, api.CodeSettingsHashOutdated},
		{"", 8 * time.Minute, api.CodeNoAuth},
	} {
		t.Run(fmt.Sprint(test.sdk, " after ", test.after), func(t *testing.T) {
			t.Parallel()
			s := startSockets(t, "", nil, "ada")
			jwt, token := s.JWT(t, "ada")
			s.Clock().Advance(test.after)
			header := http.Header{"Authtoken": {token}, "Authorization": {"Bearer " + jwt}, "Sdk": {test.sdk}}
			if got := post(t, s, "/v3.0/ping", header).Error.Code; got != test.want {
				t.Errorf("answered with %q, want %q", got, test.want)
			}
		})
	}
}

// TestClientThatBeginsAnewIsNotMissed tells a client to log in again, which closes its socket as for a goodbye.
func TestClientThatBeginsAnewIsNotMissed(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada", "bob", "cy")
	ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	jwt, token := s.JWT(t, "bob")
	login := apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}}
	bob := s.Login(t, login)
	ada.Hears("bob online")
	s.Clock().Advance(14 * time.Minute)
	header := http.Header{"Authtoken": {token}, "Authorization": {"Bearer " + jwt}, "Sdk": {"javascript@3.0.13"}}
	if got := post(t, s, "/v3.0/ping", header).Error.Code; got != api.CodeSettingsHashOutdated {
		t.Fatalf("answered with %q", got)
	}
	bob.Close(1000, "User logged out")
	awaitDevices(t, s, "bob", func(device api.PresenceDevice) bool { return device.AwayUntil != 0 })
	s.Login(t, login)
	s.Login(t, apitest.Login{UID: "cy", Device: "c"})
	ada.Hears("cy online")
}

// TestOnlineCountOutlastsJWT counts as a client does that opens no socket, and so never gets another JWT.
func TestOnlineCountOutlastsJWT(t *testing.T) {
	t.Parallel()
	s := startSockets(t, "", nil, "ada")
	jwt, token := s.JWT(t, "ada")
	count := func() countReply {
		return post(t, s, "/ws/api/v3.0/online-members", http.Header{"Authorization": {jwt}})
	}
	s.Clock().Advance(24 * time.Hour)
	if reply := count(); reply.Error.Code != "" || reply.Data.OnlineUsersCount != 0 {
		t.Errorf("a day later: %+v", reply)
	}
	if _, err := s.Backend(t).AuthTokens.Revoke(t.Context(), "ada", token); err != nil {
		t.Fatal(err)
	}
	if reply := count(); reply.Error.Code != api.CodeAuthTokenUnknown {
		t.Errorf("after the token was revoked: %+v", reply)
	}
}

type countReply struct {
	Data  api.OnlineCount `json:"data"`
	Error api.Error       `json:"error"`
}

// post makes a call as the SDK does, with an empty body.
func post(t *testing.T, s *apitest.Server, path string, header http.Header) (reply countReply) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	request.Header.Set("appId", s.Credentials.AppID)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

// TestWatchedUsersAreBounded opens sockets that watch many users by their uids.
func TestWatchedUsersAreBounded(t *testing.T) {
	t.Parallel()
	watch := func(uids ...string) api.AuthBody {
		return api.AuthBody{PresenceSubscription: api.SubscribeUIDs, UIDs: uids}
	}
	s := startSockets(t, "", func(config *server.Config) { config.WatchedPerUser, config.WatchedPerApp = 4, 6 }, "ada", "bob", "cy")
	refused := func(uid, device string, body api.AuthBody) {
		t.Helper()
		body.Auth, _ = s.JWT(t, uid)
		socket := s.Dial(t)
		socket.SendAuth(s, apitest.Login{UID: uid, Device: device, Body: body})
		var reply api.AuthReply
		if frame := socket.Next(); json.Unmarshal(frame.Body, &reply) != nil || reply.Code != "429" || reply.Error != string(api.CodeQuota) {
			t.Errorf("answered with %s", frame.Body)
		}
		if code, _ := socket.ClosedWith(); code != api.CloseTooMany {
			t.Errorf("closed with %d", code)
		}
	}
	first := s.Login(t, apitest.Login{UID: "ada", Device: "1", Body: watch("bob", "cy")})
	second := s.Login(t, apitest.Login{UID: "ada", Device: "2", Body: watch("bob", "nobody")})
	refused("ada", "3", watch("cy"))
	s.Login(t, apitest.Login{UID: "ada", Device: "3", Body: everybody})
	third := s.Login(t, apitest.Login{UID: "bob", Device: "1", Body: watch("ada", "cy")})
	refused("cy", "1", watch("ada"))
	first.Hears("bob online")
	second.Hears("bob online")
	second.Close(1000, "")
	await(t, "room for another", func() bool {
		var presence api.UserPresence
		get(t, s, "/v3/users/ada/presence", &presence)
		return len(presence.Devices) == 2
	})
	s.Login(t, apitest.Login{UID: "cy", Device: "1", Body: watch("ada", "bob")})
	first.Hears("cy online")
	third.Hears("cy online")
}

// TestStreamAfterRestart follows presence over a restart, as a backend and as the Go client do.
func TestStreamAfterRestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	configure := func(config *server.Config) { config.DataDir, config.ReturnWithin = folder, time.Hour }
	s := startSockets(t, "", configure, "ada", "bob")
	jwt, _ := s.JWT(t, "bob")
	s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
	awaitTimelines(t, s, "bob")
	read, stop := streamPresence(t, s, "")
	id, _, snapshot := read()
	if stop(); !strings.Contains(snapshot, `"uid":"bob","status":"available"`) {
		t.Fatalf("the snapshot is %s", snapshot)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := apitest.Start(t, "", func(config *server.Config) {
		configure(config)
		config.Now = s.Clock().Now
	})
	read, stop = streamPresence(t, again, id)
	defer stop()
	if _, _, snapshot = read(); !strings.Contains(snapshot, `"complete":true`) || !strings.Contains(snapshot, `"uid":"bob","status":"available"`) {
		t.Errorf("who goes on begins with %s", snapshot)
	}
	anew, stopAnew := streamPresence(t, again, "")
	defer stopAnew()
	if _, _, snapshot = anew(); strings.Contains(snapshot, "bob") {
		t.Errorf("who begins anew begins with %s", snapshot)
	}
	again.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
	if _, event, told := anew(); event != "presence" || !strings.Contains(told, `"uid":"bob","status":"available"`) {
		t.Errorf("who began anew is told %s %s", event, told)
	}
	again.Login(t, apitest.Login{UID: "ada", Device: "a"})
	if _, _, told := read(); !strings.Contains(told, `"uid":"ada","status":"available"`) {
		t.Errorf("who went on is told %s", told)
	}
}

// TestReaderAfterRestart looks at somebody who is not back yet after a restart, and hears of it who has looked.
func TestReaderAfterRestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	configure := func(config *server.Config) { config.DataDir, config.ReturnWithin = folder, time.Hour }
	s := startSockets(t, "", configure, "ada", "bob", "cy", "dan")
	jwt, _ := s.JWT(t, "bob")
	s.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
	awaitTimelines(t, s, "bob")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := apitest.Start(t, "", func(config *server.Config) {
		configure(config)
		config.Now = s.Clock().Now
	})
	looks := again.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
	stays := again.Login(t, apitest.Login{UID: "cy", Device: "c", Body: everybody})
	looks.Hears("cy online")
	_, token := again.JWT(t, "ada")
	viewer := again.Client(t, client.WithAuthToken(token))
	if user := must[api.User](t)(viewer.Users.Get(t.Context(), "bob")); user.Status != "offline" {
		t.Fatalf("bob is %s", user.Status)
	}
	again.Login(t, apitest.Login{UID: "bob", Device: "b", Body: api.AuthBody{Auth: jwt}})
	looks.Hears("bob online")
	again.Login(t, apitest.Login{UID: "dan", Device: "d"})
	looks.Hears("dan online")
	stays.Hears("dan online")
}
