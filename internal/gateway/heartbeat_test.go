package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/socketjwt"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// TestHeartbeat plays clients of every habit against the virtual clock, and looks at what somebody hears who watches
// them.
func TestHeartbeat(t *testing.T) {
	const ping = `{"action":"ping","ack":"true"}`
	for _, test := range []struct {
		name  string
		play  func(h *house)
		heard []string
	}{
		{"a client that only answers pings lives for hours", func(h *house) {
			h.connect()
			time.Sleep(2 * time.Hour)
		}, []string{"online"}},
		{"a client that only pings lives for hours", func(h *house) {
			bob := h.connect()
			bob.deaf.Store(true)
			for range 4 * 60 {
				time.Sleep(15 * time.Second)
				bob.say(ping)
			}
		}, []string{"online"}},
		{"a client that says nothing at all is gone after 25 s", func(h *house) {
			h.connect().deaf.Store(true)
			time.Sleep(25*time.Second - time.Millisecond)
			h.hasHeard("online")
			time.Sleep(time.Second) // sockets are looked at twice a second
		}, []string{"online", "offline"}},
		{"a client that falls silent after an hour is gone after 25 s", func(h *house) {
			bob := h.connect()
			time.Sleep(time.Hour)
			bob.deaf.Store(true)
			time.Sleep(46 * time.Second) // it may just have answered
		}, []string{"online", "offline"}},
		{"a goodbye", func(h *house) {
			bob := h.connect()
			time.Sleep(time.Second) // events of one user are spaced
			bob.leave(ws.StatusNormalClosure)
		}, []string{"online", "offline"}},
		{"a goodbye long after a ping", func(h *house) {
			bob := h.connect()
			bob.say(ping)
			time.Sleep(6 * time.Second)
			bob.leave(ws.StatusNormalClosure)
		}, []string{"online", "offline"}},
		{"a goodbye right after a ping, of a client that says it when it means it", func(h *house) {
			bob := h.connectWith(`,"rollcall":{}`)
			time.Sleep(time.Second)
			bob.say(ping)
			time.Sleep(2 * time.Second)
			bob.leave(ws.StatusNormalClosure)
		}, []string{"online", "offline"}},
		{"a client that has missed a pong, and is back 5 s later", func(h *house) {
			bob := h.connect()
			bob.say(ping)
			time.Sleep(3 * time.Second)
			bob.leave(ws.StatusNormalClosure)
			time.Sleep(5 * time.Second)
			h.connect()
			time.Sleep(time.Minute)
		}, []string{"online"}},
		{"a client whose ping and close were held up together", func(h *house) {
			bob := h.connect()
			bob.say(ping)
			bob.leave(ws.StatusNormalClosure)
			time.Sleep(5 * time.Second)
			h.connect()
			time.Sleep(time.Minute)
		}, []string{"online"}},
		{"a client that has missed a pong, and does not come back", func(h *house) {
			bob := h.connect()
			bob.say(ping)
			time.Sleep(3 * time.Second)
			bob.leave(ws.StatusNormalClosure)
			time.Sleep(8*time.Second - time.Millisecond)
			h.hasHeard("online")
			time.Sleep(time.Millisecond)
		}, []string{"online", "offline"}},
		{"a library that gives up on a ping of WebSocket itself", func(h *house) {
			bob := h.connect()
			bob.write(ws.NewPingFrame([]byte("there?")))
			time.Sleep(3 * time.Second)
			bob.leave(ws.StatusNormalClosure)
			time.Sleep(5 * time.Second)
			h.connect()
		}, []string{"online"}},
		{"a page that is closed, and opened again", func(h *house) {
			h.connect().leave(ws.StatusGoingAway)
			time.Sleep(7 * time.Second)
			h.connect()
			time.Sleep(time.Minute)
		}, []string{"online"}},
		{"a client that was told to begin anew", func(h *house) {
			bob := h.connect()
			h.presence.LetRestart(h.app, "bob", h.tokens["bob"])
			bob.leave(ws.StatusNormalClosure)
			time.Sleep(time.Second)
			h.connect()
			time.Sleep(time.Minute)
		}, []string{"online"}},
		{"a client that was told to begin anew, and says goodbye a minute later", func(h *house) {
			bob := h.connect()
			h.presence.LetRestart(h.app, "bob", h.tokens["bob"])
			time.Sleep(time.Minute)
			bob.leave(ws.StatusNormalClosure)
		}, []string{"online", "offline"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				test.play(h)
				h.hasHeard(test.heard...)
			})
		})
	}
}

// house is a gateway with a presence and a store beneath, and somebody who watches everybody in it.
type house struct {
	*testing.T
	gateway  *Gateway
	presence *presence.Presence
	signer   *socketjwt.Signer
	dir      *directory.Directory
	app      directory.AppID
	tokens   map[directory.UID]directory.TokenID
	watcher  *watcher
}

func newHouse(t *testing.T) *house {
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		T: t, dir: directory.New(directory.Config{Store: store, Secrets: keyring}), signer: socketjwt.NewSigner(keyring),
		tokens: map[directory.UID]directory.TokenID{}, watcher: &watcher{},
	}
	created, err := h.dir.CreateApp(t.Context(), "operator", directory.NewApp{Name: "House"})
	if err != nil {
		t.Fatal(err)
	}
	h.app = created.App.ID
	caller := directory.Caller{App: h.app, Actor: "key:test", Private: true}
	for _, uid := range []directory.UID{"ada", "bob"} {
		if _, err := h.dir.CreateUser(t.Context(), caller, directory.NewUser{UID: string(uid), Name: string(uid)}); err != nil {
			t.Fatal(err)
		}
		token, err := h.dir.CreateToken(t.Context(), caller, string(uid), directory.Device{})
		if err != nil {
			t.Fatal(err)
		}
		h.tokens[uid] = token.ID
	}
	h.presence = presence.New(presence.Config{Directory: h.dir})
	h.dir.UseSessions(h.presence)
	h.gateway = New(Config{Directory: h.dir, Presence: h.presence, Signer: h.signer})
	t.Cleanup(func() {
		h.presence.Drain()
		if err := h.gateway.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		h.presence.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	hello := presence.Hello{
		App: h.app, UID: "ada", Token: h.tokens["ada"], Subscription: presence.Subscription{Scope: presence.AllUsers}, Extended: true,
	}
	if _, err := h.presence.Open(t.Context(), hello, h.watcher); err != nil {
		t.Fatal(err)
	}
	return h
}

// watcher keeps what it is told.
type watcher struct {
	mu    sync.Mutex
	heard []string // guarded by mu
}

func (*watcher) Joined(*presence.Session, presence.Welcome) bool { return true }
func (*watcher) Notify(presence.Notice)                          {}
func (*watcher) Ended(presence.Cause)                            {}

func (w *watcher) Deliver(event *presence.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := strings.Replace(event.Status.String(), "available", "online", 1)
	w.heard = append(w.heard, strings.TrimSpace(heard+" "+event.Text))
}

func (h *house) hasHeard(want ...string) {
	h.Helper()
	synctest.Wait()
	h.watcher.mu.Lock()
	defer h.watcher.mu.Unlock()
	if !slices.Equal(h.watcher.heard, want) {
		h.Errorf("heard %q, want %q", h.watcher.heard, want)
	}
}

// visitor is a client of the gateway, which answers pings.
type visitor struct {
	house  *house
	conn   net.Conn
	frames chan api.Frame
	// deaf visitors answer no pings.
	deaf atomic.Bool
}

// connect opens a socket of bob's, and waits until it is in.
func (h *house) connect() *visitor {
	h.Helper()
	return h.connectWith("")
}

// connectWith is connect with more in the body of the auth frame.
func (h *house) connectWith(more string) *visitor {
	h.Helper()
	near, far := net.Pipe()
	v := &visitor{house: h, conn: near, frames: make(chan api.Frame, 1000)}
	h.gateway.adopt(far, bufio.NewReader(strings.NewReader("")), From{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(v.frames)
		v.read()
	}()
	h.Cleanup(func() {
		near.Close()
		<-done
	})
	now := h.dir.Now()
	jwt := h.signer.Sign(socketjwt.Claims{
		App: string(h.app), UID: "bob", Token: string(h.tokens["bob"]), IssuedAt: now, ExpiresAt: now + 900,
	})
	v.say(fmt.Sprintf(`{"type":"auth","appId":%q,"deviceId":"phone","sender":"bob","body":{"auth":%q%s}}`, h.app, jwt, more))
	if reply := <-v.frames; reply.Type != api.FrameAuth || !strings.Contains(string(reply.Body), `"200"`) {
		h.Fatalf("the auth frame is answered with %+v %s", reply, reply.Body)
	}
	synctest.Wait()
	return v
}

func (v *visitor) read() {
	for {
		header, err := ws.ReadHeader(v.conn)
		if err != nil {
			return
		}
		payload := make([]byte, header.Length)
		if _, err := io.ReadFull(v.conn, payload); err != nil {
			return
		}
		switch header.OpCode {
		case ws.OpPing:
			if !v.deaf.Load() {
				go v.write(ws.NewPongFrame(payload)) // a pipe has room for nothing
			}
		case ws.OpText:
			var frame api.Frame
			if json.Unmarshal(payload, &frame) == nil && frame.Action == "" {
				v.frames <- frame
			}
		case ws.OpClose:
			v.conn.Close()
			return
		default: // there is nothing else
		}
	}
}

func (v *visitor) write(frame ws.Frame) {
	_ = ws.WriteFrame(v.conn, ws.MaskFrameInPlace(frame)) // the server may have gone
}

func (v *visitor) say(text string) { _ = wsutil.WriteClientText(v.conn, []byte(text)) }

// leave closes the socket with a code.
func (v *visitor) leave(code ws.StatusCode) {
	v.write(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "User logged out")))
	synctest.Wait()
}
