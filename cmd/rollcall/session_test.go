package main

import (
	"context"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcall/rollcall/client"
)

type scriptSessionsKey struct{}

// scriptSessions are the devices that a script has put online, by their names.
type scriptSessions map[string]func()

func (s scriptSessions) endAll() {
	for _, end := range s {
		end()
	}
}

// sessionCommand is
//
//	session start DEVICE TOKEN [STATUS]
//	session end DEVICE
//
// start puts a device of the token's user online at the server that was started last, and waits until it is. end logs
// nobody out: the socket is closed.
func sessionCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: session start DEVICE TOKEN [STATUS] | session end DEVICE")
	}
	sessions := ts.Value(scriptSessionsKey{}).(scriptSessions)
	device := args[1]
	if args[0] == "end" {
		sessions[device]()
		delete(sessions, device)
		return
	}
	c, err := client.New(ts.Getenv("URL"), client.WithApp(ts.Getenv("APP_ID")), client.WithAuthToken(args[2]))
	ts.Check(err)
	options := client.SessionOptions{DeviceID: device}
	if len(args) > 3 {
		options.Status = args[3]
	}
	states := make(chan error, 1)
	options.OnState = func(state client.ConnectionState, err error) {
		if state == client.Connected || err != nil {
			select {
			case states <- err:
			default:
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for range c.Presence.Session(options).Events(ctx) {
		}
	})
	sessions[device] = func() {
		cancel()
		running.Wait()
	}
	waiting, done := context.WithTimeout(ctx, patience)
	defer done()
	select {
	case err := <-states:
		ts.Check(err)
	case <-waiting.Done():
		ts.Fatalf("%s is not online", device)
	}
}
