package main

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// TestPausedServerBlamesNobody stops a server for longer than anybody may be silent, while clients go on sending pings,
// and one of them gives up and comes back. When it runs again, all of them are there, and who watches them has heard
// nothing.
func TestPausedServerBlamesNobody(t *testing.T) {
	t.Parallel()
	const pause = 22 * time.Second // more than presence.Silence
	data := filepath.Join(t.TempDir(), "data")
	p := startServer(t, "--data", data, "--auth-timeout", "1s")
	credentials, err := server.ReadCredentials(filepath.Join(data, server.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	backend := p.client(t, nil)
	s := &apitest.Server{Server: &server.Server{Credentials: credentials}, URL: p.base}
	login := func(uid string, body api.AuthBody) (again func() *apitest.Socket) {
		if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: uid, Name: uid}); err != nil {
			t.Fatal(err)
		}
		body.Auth, _ = s.JWT(t, uid)
		return func() *apitest.Socket {
			return s.Login(t, apitest.Login{UID: uid, Device: "device of " + uid, Body: body})
		}
	}
	watcher := login("watcher", api.AuthBody{PresenceSubscription: api.SubscribeAllUsers})()
	var clients []*apitest.Socket
	var uids []string
	for i := range 20 {
		uids = append(uids, fmt.Sprint("user", i))
		clients = append(clients, login(uids[i], api.AuthBody{})())
		watcher.Hears(uids[i] + " online")
	}
	comesBack := login("impatient", api.AuthBody{})
	impatient := comesBack()
	watcher.Hears("impatient online")

	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const ping = `{"action":"ping","ack":"true"}`
	impatient.SendText(ping)
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	stopped := time.After(pause)
	for running := false; !running; {
		select {
		case <-ticker.C:
			for _, c := range clients {
				c.SendText(ping)
			}
		case <-p.exited:
			t.Fatalf("the server ended: %v", p.err)
		case <-stopped:
			running = true
		}
	}
	go impatient.Close(1000, "User logged out") // it waits for an answer
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	comesBack()
	// When a socket is closed that has not authenticated in time, all sockets have been looked at.
	if code, _ := s.Dial(t).ClosedWith(); code != api.CloseAuthTimeout {
		t.Errorf("closed with %d", code)
	}
	for _, uid := range append(uids, "impatient", "watcher") {
		presence, err := backend.Presence.Devices(t.Context(), uid)
		if err != nil {
			t.Fatal(err)
		}
		if len(presence.Devices) != 1 || presence.Devices[0].AwayUntil != 0 {
			t.Errorf("%s has the devices %+v", uid, presence.Devices)
		}
	}
	login("marker", api.AuthBody{})()
	watcher.Hears("marker online")
	var user api.User
	if user, err = backend.Users.Get(t.Context(), "user0"); err != nil || user.Status != "available" {
		t.Errorf("user0 is %s: %v", user.Status, err)
	}
}
