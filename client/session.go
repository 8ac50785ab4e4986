package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcall/rollcall/api"
)

// SessionOptions say how a device takes part in presence.
type SessionOptions struct {
	// Subscribe says whom the session hears of; its zero value is nobody.
	Subscribe Subscription
	// DeviceID tells the devices of a user apart. Empty means a new one.
	DeviceID string
	// Status is how the device presents itself: available, away, busy or invisible. Empty means available.
	Status string
	// OnState is told when the connection changes, with what ended it. It is called from within Events, and must not block.
	OnState func(ConnectionState, error)
}

// Subscription says whom a session hears of. One of its fields may be set.
type Subscription struct {
	// All is everybody, Friends the user's friends.
	All, Friends bool
	// Roles is the users with any of these roles.
	Roles []string
	// UIDs is these users, at most 10,000.
	UIDs []string
}

// ConnectionState is whether a session is connected.
type ConnectionState string

// The states of a connection.
const (
	Connecting   ConnectionState = "connecting"
	Connected    ConnectionState = "connected"
	Disconnected ConnectionState = "disconnected"
)

// Session is a device of the user whose token the client has. While its Events are read, the user is online and the session
// hears of others. Its methods may be called from any goroutine.
type Session struct {
	client  *Client
	options SessionOptions
	running atomic.Bool

	mu     sync.Mutex
	status api.StatusBody  // guarded by mu: how the device is to present itself
	conn   *websocket.Conn // guarded by mu: nil unless connected
}

// Session returns a session that connects when its Events are read.
func (s *PresenceService) Session(options SessionOptions) *Session {
	if options.DeviceID == "" {
		options.DeviceID = "go-" + rand.Text()
	}
	if options.OnState == nil {
		options.OnState = func(ConnectionState, error) {}
	}
	return &Session{client: s.client, options: options, status: api.StatusBody{Status: options.Status}}
}

// SetStatus changes how the device presents itself, now and whenever it connects again. Errors are those of the connection;
// the status is kept all the same.
func (s *Session) SetStatus(ctx context.Context, status api.StatusBody) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
	if s.conn == nil {
		return nil
	}
	return sendStatus(ctx, s.conn, status)
}

// ErrSessionInUse means that the Events of a session are being read already.
var ErrSessionInUse = errors.New("the events of this session are being read already")

// Events connects, and iterates over how others present themselves: first those who are online, and from then on each
// change, in order for each user. It may be read once at a time, and again later.
//
// When the connection breaks, it connects again after a pause that grows to 20 s, and goes on where it was: a user whose
// status has changed meanwhile is told once. It ends when ctx does, which takes the device offline at once, and with an
// error when connecting again is of no use: an *Error when the token was revoked or the user deactivated, else what the
// server said when it closed the socket.
func (s *Session) Events(ctx context.Context) iter.Seq2[api.PresenceStatus, error] {
	return func(yield func(api.PresenceStatus, error) bool) {
		if !s.running.CompareAndSwap(false, true) {
			yield(api.PresenceStatus{}, ErrSessionInUse)
			return
		}
		defer s.running.Store(false)
		run := &sessionRun{Session: s, yield: yield, seen: newRoll()}
		for failures := 0; ; failures++ {
			s.options.OnState(Connecting, nil)
			err := run.connect(ctx)
			if run.stopped || ctx.Err() != nil {
				s.options.OnState(Disconnected, nil)
				return
			}
			s.options.OnState(Disconnected, err)
			if final(err) {
				yield(api.PresenceStatus{}, err)
				return
			}
			if run.welcomed {
				failures, run.welcomed = 0, false
			}
			select {
			case <-time.After(backOff(failures)):
			case <-ctx.Done():
				return
			}
		}
	}
}

const (
	firstBackOff = 500 * time.Millisecond
	maxBackOff   = 20 * time.Second
)

// backOff is how long to wait after so many failures in a row: at random, so that many clients do not come back at once.
func backOff(failures int) time.Duration {
	most := min(firstBackOff<<min(failures, 10), maxBackOff)
	return most/2 + mathrand.N(most/2)
}

// final reports whether connecting again is of no use.
func final(err error) bool {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.final()
	}
	switch websocket.CloseStatus(err) { //nolint:exhaustive // the others are passing
	case websocket.StatusProtocolError, websocket.StatusInvalidFramePayloadData, websocket.StatusPolicyViolation, websocket.StatusMessageTooBig:
		return true
	}
	return false
}

// sessionRun is what one reading of a session's events knows.
type sessionRun struct {
	*Session
	yield    func(api.PresenceStatus, error) bool
	stopped  bool // yield wants no more
	welcomed bool // the last connection got as far as that
	seen     *roll
	// next is where the session goes on from when the snapshot under way is complete.
	next     *api.PresencePosition
	position *api.PresencePosition
	me       api.Me
	meAt     time.Time
}

// jwtAge is for how long a JWT is used to connect. The server takes it for 15 minutes.
const jwtAge = 10 * time.Minute

// connect serves one connection until it ends, and returns why it did.
func (r *sessionRun) connect(ctx context.Context) error {
	if r.me.JWT == "" || time.Since(r.meAt) > jwtAge {
		me, err := r.client.Me.Get(ctx)
		if err != nil {
			return err
		}
		r.me, r.meAt = me, time.Now()
	}
	conn, err := r.dial(ctx)
	if err != nil {
		return err
	}
	// A context that ends a read would break the connection, and the server would wait for the device to come back. It is
	// closed properly instead, which ends the read as well.
	reading := context.WithoutCancel(ctx)
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close(websocket.StatusNormalClosure, "") })
	defer unhook()
	err = r.serve(reading, conn)
	if r.stopped {
		_ = conn.Close(websocket.StatusNormalClosure, "") // the server knows in any case
		return nil
	}
	_ = conn.CloseNow()
	return r.explain(ctx, err)
}

// explain finds out what a close code leaves open.
func (r *sessionRun) explain(ctx context.Context, err error) error {
	switch websocket.CloseStatus(err) { //nolint:exhaustive // the others need no explanation
	case api.CloseAuthFailed, api.CloseRevoked:
		r.me.JWT = "" // the next attempt begins with /me, which says what is wrong with the token
		if _, refused := r.client.Me.Get(ctx); refused != nil {
			return refused
		}
	}
	return err
}

func (r *sessionRun) dial(ctx context.Context) (*websocket.Conn, error) {
	address := "ws" + strings.TrimPrefix(strings.TrimSuffix(r.client.base, "/v3"), "http") + "/ws:443"
	patient := *r.client.http
	patient.Timeout = 0 // a socket has no end; ctx bounds the handshake
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, response, err := websocket.Dial(dialing, address, &websocket.DialOptions{HTTPClient: &patient})
	if response != nil && response.Body != nil {
		_ = response.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	conn.SetReadLimit(maxFrame)
	return conn, nil
}

// maxFrame bounds a frame from the server, in bytes. Long snapshots come in several.
const maxFrame = 16 << 20

// serve authenticates and reads frames until the connection ends.
func (r *sessionRun) serve(ctx context.Context, conn *websocket.Conn) error {
	if err := r.authenticate(ctx, conn); err != nil {
		return err
	}
	heart := &heartbeat{conn: conn}
	defer func() {
		r.mu.Lock()
		r.conn = nil
		r.mu.Unlock()
		heart.stop()
	}()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		heart.heard.Store(true)
		var frame api.Frame
		if err := json.Unmarshal(text, &frame); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		if err := r.take(ctx, conn, heart, frame); err != nil || r.stopped {
			return err
		}
	}
}

func (r *sessionRun) authenticate(ctx context.Context, conn *websocket.Conn) error {
	r.mu.Lock()
	status := r.status.Status
	r.mu.Unlock()
	auth := api.AuthBody{
		Auth: r.me.JWT, DeviceID: r.options.DeviceID,
		Rollcall: &api.SocketExtension{Status: status, Snapshot: r.position == nil, Resume: r.position},
	}
	subscribe := r.options.Subscribe
	switch {
	case subscribe.All:
		auth.PresenceSubscription = api.SubscribeAllUsers
	case subscribe.Friends:
		auth.PresenceSubscription = api.SubscribeFriends
	case len(subscribe.Roles) > 0:
		auth.PresenceSubscription, auth.Roles = api.SubscribeRoles, subscribe.Roles
	case len(subscribe.UIDs) > 0:
		auth.PresenceSubscription, auth.UIDs = api.SubscribeUIDs, subscribe.UIDs
	}
	body, err := json.Marshal(auth)
	if err != nil {
		return fmt.Errorf("encode auth frame: %w", err)
	}
	return send(ctx, conn, api.Frame{
		Type: api.FrameAuth, AppID: r.client.headers.Get("appId"), DeviceID: r.options.DeviceID, Sender: r.me.UID, Body: body,
	})
}

// take does what a frame says.
func (r *sessionRun) take(ctx context.Context, conn *websocket.Conn, heart *heartbeat, frame api.Frame) error {
	switch frame.Type {
	case api.FrameAuth:
		var reply api.AuthReply
		if err := json.Unmarshal(frame.Body, &reply); err != nil || reply.Rollcall == nil {
			return errors.Join(err, nil) // a refusal: the socket is closed with a code that says more
		}
		return r.welcome(ctx, conn, heart, *reply.Rollcall)
	case api.FramePresence:
		var body api.PresenceBody
		if err := json.Unmarshal(frame.Body, &body); err != nil {
			return fmt.Errorf("read presence: %w", err)
		}
		if r.position != nil {
			r.position.Sequence = body.Sequence
		}
		status := api.PresenceStatus{UID: body.User.UID, Status: body.Action, StatusText: body.StatusText, LastActiveAt: body.Timestamp, User: &body.User}
		if body.Action == "online" {
			status.Status = "available"
		}
		r.seen.note(status)
		r.tell(status)
	case api.FrameSnapshot:
		var body api.SnapshotBody
		if err := json.Unmarshal(frame.Body, &body); err != nil {
			return fmt.Errorf("read presence snapshot: %w", err)
		}
		r.tell(r.seen.snapshot(body)...)
		if body.Last && r.next != nil {
			r.position, r.next = r.next, nil
		}
	}
	return nil
}

// tell yields until the reader wants no more.
func (r *sessionRun) tell(told ...api.PresenceStatus) {
	for _, status := range told {
		if r.stopped = r.stopped || !r.yield(status, nil); r.stopped {
			return
		}
	}
}

// welcome begins what an authenticated connection does. The position stays where it was until the snapshot is complete that
// brings the session up to the new one: who is cut off in the middle of it asks for it again.
func (r *sessionRun) welcome(ctx context.Context, conn *websocket.Conn, heart *heartbeat, welcome api.SocketWelcome) error {
	r.welcomed, r.seen.named = true, nil
	r.next = &api.PresencePosition{Epoch: welcome.Epoch, Sequence: welcome.Sequence}
	heart.start(ctx, time.Duration(welcome.HeartbeatSeconds)*time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = conn
	r.options.OnState(Connected, nil)
	if r.status.StatusText == "" && r.status.Status == "" {
		return nil
	}
	return sendStatus(ctx, conn, r.status)
}

func sendStatus(ctx context.Context, conn *websocket.Conn, status api.StatusBody) error {
	if status.Status == "" {
		status.Status = "available"
	}
	body, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return send(ctx, conn, api.Frame{Type: api.FrameStatus, Body: body})
}

func send(ctx context.Context, conn *websocket.Conn, frame api.Frame) error {
	text, err := json.Marshal(frame)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	return conn.Write(ctx, websocket.MessageText, text)
}

// heartbeat pings, and breaks a connection on which nothing comes back.
type heartbeat struct {
	conn  *websocket.Conn
	heard atomic.Bool
	done  sync.WaitGroup
	end   context.CancelFunc
}

// start begins to ping three times in the time after which the server takes a silent client for gone.
func (h *heartbeat) start(ctx context.Context, patience time.Duration) {
	if h.end != nil || patience <= 0 {
		return
	}
	ctx, h.end = context.WithCancel(ctx)
	h.done.Go(func() {
		ticker := time.NewTicker(patience / 3)
		defer ticker.Stop()
		for {
			h.heard.Store(false)
			if err := send(ctx, h.conn, api.Frame{Action: api.ActionPing}); err != nil {
				return // the read ends as well
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			if !h.heard.Load() {
				_ = h.conn.CloseNow()
				return
			}
		}
	})
}

func (h *heartbeat) stop() {
	if h.end != nil {
		h.end()
	}
	h.done.Wait()
}
