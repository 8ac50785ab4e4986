package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
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
	// OnState is told when the connection changes, with what ended it: one call at a time, from a goroutine of the
	// session.
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

// Session is a device of the user whose token the client has. While its Events are read, the user is online and the
// session hears of others. Its methods may be called from any goroutine.
type Session struct {
	client  *Client
	options SessionOptions
	running atomic.Bool

	// sending is held while a status is sent, so that the last one set is the last one sent.
	sending sync.Mutex
	mu      sync.Mutex
	status  api.StatusBody  // guarded by mu: how the device is to present itself
	lasting api.StatusBody  // guarded by mu: the last such that had no end
	sent    api.StatusBody  // guarded by mu: what the server was told last
	conn    *websocket.Conn // guarded by mu: nil unless connected
}

// Session returns a session that connects when its Events are read.
func (s *PresenceService) Session(options SessionOptions) *Session {
	if options.DeviceID == "" {
		options.DeviceID = "go-" + rand.Text()
	}
	if options.OnState == nil {
		options.OnState = func(ConnectionState, error) {}
	}
	status := api.StatusBody{Status: options.Status}
	return &Session{client: s.client, options: options, status: status, lasting: status}
}

// SetStatus changes how the device presents itself, now and whenever it connects again, until it ends: then it is again
// what it was when it had no end. Errors are those of the connection; the status is kept all the same.
func (s *Session) SetStatus(ctx context.Context, status api.StatusBody) error {
	if status.Status == "" {
		status.Status = "available"
	}
	s.mu.Lock()
	if s.status = status; status.ExpiresAt == 0 {
		s.lasting = status
	}
	s.mu.Unlock()
	return s.sendStatus(ctx)
}

// statusToSend returns how the device presents itself, which is taken for sent. It needs mu.
func (s *Session) statusToSend() api.StatusBody {
	if s.status.ExpiresAt != 0 && s.status.ExpiresAt <= time.Now().Unix() {
		s.status = s.lasting
	}
	s.sent = s.status
	return s.sent
}

// sendStatus sends the status that was set last, if there is a connection whose other side does not know it.
func (s *Session) sendStatus(ctx context.Context) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.mu.Lock()
	conn, known := s.conn, s.sent
	if conn == nil || s.statusToSend() == known {
		s.mu.Unlock()
		return nil
	}
	status := s.sent
	s.mu.Unlock()
	if status.Status == "" { // what was set has ended, and nothing was before it
		status.Status = "available"
	}
	body, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return send(ctx, conn, api.Frame{Type: api.FrameStatus, Body: body})
}

func (s *Session) setConn(conn *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
}

// ErrSessionInUse means that the Events of a session are being read already.
var ErrSessionInUse = errors.New("the events of this session are being read already")

// Events connects, and iterates over how others present themselves: first those who are online, and from then on each
// change, in order for each user. It may be read once at a time, and again later.
//
// The connection does not wait for the loop: of a user who changes while the loop is busy, only the last status is
// told. When the connection breaks, it is made again after a pause that grows to 20 s, and goes on where it was: a user
// whose status has changed meanwhile is told once.
//
// It ends when ctx does or the loop is left, which takes the device offline at once, and with an error when connecting
// again is of no use: an *Error when the token was revoked, the user deactivated or the subscription refused, else what
// the server said when it closed the socket.
func (s *Session) Events(ctx context.Context) iter.Seq2[api.PresenceStatus, error] {
	return func(yield func(api.PresenceStatus, error) bool) {
		if !s.running.CompareAndSwap(false, true) {
			yield(api.PresenceStatus{}, ErrSessionInUse)
			return
		}
		defer s.running.Store(false)
		ctx, stop := context.WithCancel(ctx)
		run := &sessionRun{Session: s, seen: newRoll(), told: newInbox()}
		var running sync.WaitGroup
		var ended error
		running.Go(func() {
			ended = run.stay(ctx)
			run.told.close()
		})
		defer running.Wait()
		defer stop()
		for status := range run.told.all(ctx) {
			if !yield(status, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		running.Wait()
		if ended != nil {
			yield(api.PresenceStatus{}, ended)
		}
	}
}

// stay connects again and again until ctx ends, or until that is of no use: then it returns why.
func (r *sessionRun) stay(ctx context.Context) error {
	for failures := 0; ; failures++ {
		r.options.OnState(Connecting, nil)
		err := r.connect(ctx)
		if ctx.Err() != nil {
			r.options.OnState(Disconnected, nil)
			return nil //nolint:nilerr // whoever reads the events has ended them
		}
		r.options.OnState(Disconnected, err)
		if final(err) {
			return err
		}
		if !r.welcomedAt.IsZero() && time.Since(r.welcomedAt) > steadyAfter {
			failures = 0
		}
		r.welcomedAt = time.Time{}
		select {
		case <-time.After(backOff(failures)):
		case <-ctx.Done():
			return nil
		}
	}
}

// steadyAfter is how long a connection must have lasted for the next attempt to come soon.
const steadyAfter = 5 * time.Second

const (
	firstBackOff = 500 * time.Millisecond
	maxBackOff   = 20 * time.Second
)

// backOff is how long to wait after so many failures in a row: at random, so that many clients do not come back at
// once.
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
	case websocket.StatusProtocolError, websocket.StatusInvalidFramePayloadData, websocket.StatusPolicyViolation,
		websocket.StatusMessageTooBig:
		return true
	}
	return false
}

// sessionRun is what one reading of a session's events knows. It belongs to one goroutine.
type sessionRun struct {
	*Session
	told *inbox
	seen *roll
	// position is where the session goes on from, and next where from when the snapshot under way is complete.
	position, next *api.PresencePosition
	welcomedAt     time.Time
	refusal        *Error // what the server said of the last auth frame
	me             api.Me
	meAt           time.Time
	fresh          bool // me was read for this attempt
}

// inbox keeps what is to be told until the loop has time: of each user the last status, in the order in which they
// came.
type inbox struct {
	mu      sync.Mutex
	latest  map[string]api.PresenceStatus // guarded by mu
	order   []string                      // guarded by mu
	closed  bool                          // guarded by mu
	changed chan struct{}
}

func newInbox() *inbox {
	return &inbox{latest: map[string]api.PresenceStatus{}, changed: make(chan struct{}, 1)}
}

func (i *inbox) put(status api.PresenceStatus) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, waiting := i.latest[status.UID]; !waiting {
		i.order = append(i.order, status.UID)
	}
	i.latest[status.UID] = status
	i.wake()
}

func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.wake()
}

func (i *inbox) wake() {
	select {
	case i.changed <- struct{}{}:
	default: // it is awake
	}
}

func (i *inbox) take() (status api.PresenceStatus, there, closed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.order) == 0 {
		i.order = nil // the array goes
		return status, false, i.closed
	}
	uid := i.order[0]
	i.order = i.order[1:]
	status = i.latest[uid]
	delete(i.latest, uid)
	return status, true, false
}

// all yields what comes until the inbox is closed and empty, or ctx ends.
func (i *inbox) all(ctx context.Context) iter.Seq[api.PresenceStatus] {
	return func(yield func(api.PresenceStatus) bool) {
		for ctx.Err() == nil {
			status, there, closed := i.take()
			switch {
			case there:
				if !yield(status) {
					return
				}
			case closed:
				return
			default:
				select {
				case <-i.changed:
				case <-ctx.Done():
				}
			}
		}
	}
}

// jwtAge is for how long a JWT is used to connect. The server takes it for 15 minutes.
const jwtAge = 10 * time.Minute

// connect serves one connection until it ends, and returns why it did.
func (r *sessionRun) connect(ctx context.Context) error {
	r.fresh, r.refusal = false, nil
	if r.me.JWT == "" || time.Since(r.meAt) > jwtAge {
		me, err := r.client.Me.Get(ctx)
		if err != nil {
			return err
		}
		r.me, r.meAt, r.fresh = me, time.Now(), true
	}
	conn, err := r.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	// A context that ends a read would break the connection, and the server would wait for the device to come back. It is
	// closed properly instead, which ends the read as well.
	closed := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close(websocket.StatusNormalClosure, "")
	})
	defer func() {
		if !unhook() {
			<-closed
		}
	}()
	return r.explain(ctx, r.serve(context.WithoutCancel(ctx), conn))
}

// explain finds out what a close code leaves open.
func (r *sessionRun) explain(ctx context.Context, err error) error {
	if r.refusal != nil &&
		(r.refusal.Status == http.StatusBadRequest || r.fresh && websocket.CloseStatus(err) == api.CloseAuthFailed) {
		return r.refusal
	}
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
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, response, err := websocket.Dial(dialing, address, &websocket.DialOptions{HTTPClient: r.client.patient()})
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

// welcomeWithin is how long the server may take to answer the auth frame.
const welcomeWithin = 10 * time.Second

// serve authenticates and reads frames until the connection ends.
func (r *sessionRun) serve(ctx context.Context, conn *websocket.Conn) error {
	late := time.AfterFunc(welcomeWithin, func() { _ = conn.CloseNow() })
	defer late.Stop()
	if err := r.authenticate(ctx, conn); err != nil {
		return err
	}
	heart := &heartbeat{conn: conn}
	defer heart.stop()
	defer r.setConn(nil)
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
		if frame.Type == api.FrameAuth {
			late.Stop()
		}
		if err := r.take(ctx, conn, heart, frame); err != nil {
			return err
		}
	}
}

func (r *sessionRun) authenticate(ctx context.Context, conn *websocket.Conn) error {
	r.mu.Lock()
	status, then := r.statusToSend(), (*api.StatusBody)(nil)
	if status.ExpiresAt != 0 && r.lasting.Status != "" {
		lasting := r.lasting
		then = &lasting
	}
	r.mu.Unlock()
	auth := api.AuthBody{
		Auth: r.me.JWT, DeviceID: r.options.DeviceID,
		Rollcall: &api.SocketExtension{
			Status: status.Status, StatusText: status.StatusText, ExpiresAt: status.ExpiresAt, Then: then,
			Snapshot: r.position == nil, Resume: r.position,
		},
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
		if err := json.Unmarshal(frame.Body, &reply); err != nil {
			return fmt.Errorf("read answer to the auth frame: %w", err)
		}
		if reply.Rollcall != nil {
			return r.welcome(ctx, conn, heart, *reply.Rollcall)
		}
		// The server closes the socket, with a code that says what to do.
		status, _ := strconv.Atoi(reply.Code)
		r.refusal = &Error{Code: api.Code(reply.Error), Message: reply.Message, Status: status}
	case api.FramePresence:
		var body api.PresenceBody
		if err := json.Unmarshal(frame.Body, &body); err != nil {
			return fmt.Errorf("read presence: %w", err)
		}
		if r.position != nil {
			r.position.Sequence = body.Sequence
		}
		status := api.PresenceStatus{
			UID: body.User.UID, Status: body.Action, StatusText: body.StatusText, LastActiveAt: body.Timestamp, User: &body.User,
		}
		if body.Action == "online" {
			status.Status = "available"
		}
		if r.seen.news(status) {
			r.told.put(status)
		}
	case api.FrameSnapshot:
		var body api.SnapshotBody
		if err := json.Unmarshal(frame.Body, &body); err != nil {
			return fmt.Errorf("read presence snapshot: %w", err)
		}
		for _, status := range r.seen.snapshot(body) {
			r.told.put(status)
		}
		if body.Last && r.next != nil {
			r.position, r.next = r.next, nil
		}
	}
	return nil
}

// welcome begins what an authenticated connection does. The position stays where it was until the snapshot is complete
// that brings the session up to the new one: who is cut off in the middle of it asks for it again.
func (r *sessionRun) welcome(
	ctx context.Context, conn *websocket.Conn, heart *heartbeat, welcome api.SocketWelcome,
) error {
	r.welcomedAt, r.seen.named = time.Now(), nil
	r.next = &api.PresencePosition{Epoch: welcome.Epoch, Sequence: welcome.Sequence}
	heart.start(ctx, time.Duration(welcome.HeartbeatSeconds)*time.Second)
	r.setConn(conn)
	if err := r.sendStatus(ctx); err != nil {
		return err
	}
	r.options.OnState(Connected, nil)
	return nil
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
