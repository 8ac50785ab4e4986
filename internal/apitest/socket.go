package apitest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// patience bounds how long a test waits for what must come. Nothing takes that long, not even on a busy machine.
const patience = time.Minute

// Socket is a client's socket in a test. It collects the frames that come; pongs are not among them.
type Socket struct {
	t      testing.TB
	conn   *websocket.Conn
	frames chan api.Frame
	// Closed is set before frames is closed.
	closed websocket.CloseError
	// Welcome is the answer to the auth frame.
	Welcome api.AuthReply
}

// Login is how a socket authenticates.
type Login struct {
	UID    string
	Device string
	Body   api.AuthBody
}

// JWT logs a user in over HTTP and returns its socket JWT and auth token.
func (s *Server) JWT(t testing.TB, uid string) (jwt, token string) {
	t.Helper()
	minted, err := s.Backend(t).AuthTokens.Create(t.Context(), uid, api.CreateAuthTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	me, err := s.Client(t, client.WithAuthToken(minted.Token)).Me.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return me.JWT, minted.Token
}

// Dial opens a socket without authenticating.
func (s *Server) Dial(t testing.TB) *Socket {
	t.Helper()
	return DialURL(t, "ws"+strings.TrimPrefix(s.URL, "http")+"/ws:443", nil)
}

// DialURL opens a socket at an address.
func DialURL(t testing.TB, url string, through *http.Client) *Socket {
	t.Helper()
	conn, response, err := websocket.Dial(Context(t), url, &websocket.DialOptions{HTTPClient: through})
	if err != nil {
		t.Fatalf("open a socket: %v", err)
	}
	if response.Body != nil {
		response.Body.Close()
	}
	conn.SetReadLimit(10 << 20)
	socket := &Socket{t: t, conn: conn, frames: make(chan api.Frame, 1<<16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		socket.read()
	}()
	t.Cleanup(func() {
		_ = conn.CloseNow()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("the reading of a socket does not end")
		}
	})
	return socket
}

func (s *Socket) read() {
	defer close(s.frames)
	for {
		_, data, err := s.conn.Read(context.Background())
		if err != nil {
			if !errors.As(err, &s.closed) {
				s.closed = websocket.CloseError{Code: -1, Reason: err.Error()}
			}
			return
		}
		var frame api.Frame
		if err := json.Unmarshal(data, &frame); err != nil {
			s.closed = websocket.CloseError{Code: -2, Reason: "not JSON: " + string(data)}
			return
		}
		if frame.Action != api.ActionPong {
			s.frames <- frame
		}
	}
}

// Login opens a socket and authenticates it. The JWT is fetched when the login has none.
func (s *Server) Login(t testing.TB, login Login) *Socket {
	t.Helper()
	socket := s.Dial(t)
	socket.Auth(s, login)
	return socket
}

// Auth sends the auth frame, and waits for its answer, which must be OK.
func (s *Socket) Auth(server *Server, login Login) {
	s.t.Helper()
	if login.Body.Auth == "" {
		login.Body.Auth, _ = server.JWT(s.t, login.UID)
	}
	s.SendAuth(server, login)
	frame := s.Next()
	if frame.Type != api.FrameAuth {
		s.t.Fatalf("the first frame is %+v", frame)
	}
	if err := json.Unmarshal(frame.Body, &s.Welcome); err != nil || s.Welcome.Code != "200" || s.Welcome.Status != "OK" {
		s.t.Fatalf("auth failed: %s", frame.Body)
	}
}

// SendAuth sends the auth frame.
func (s *Socket) SendAuth(server *Server, login Login) {
	s.t.Helper()
	body, err := json.Marshal(login.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Send(
		api.Frame{
			Type: api.FrameAuth, AppID: server.Credentials.AppID, DeviceID: login.Device, Sender: login.UID, Body: body,
		},
	)
}

// Send sends a value as a text frame.
func (s *Socket) Send(value any) {
	s.t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		s.t.Fatal(err)
	}
	s.SendText(string(text))
}

// SendText sends a text frame.
func (s *Socket) SendText(text string) {
	s.t.Helper()
	if err := s.conn.Write(Context(s.t), websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatalf("send on a socket: %v", err)
	}
}

// Next returns the next frame.
func (s *Socket) Next() api.Frame {
	s.t.Helper()
	select {
	case frame, ok := <-s.frames:
		if !ok {
			s.t.Fatalf("the socket was closed: %d %s", s.closed.Code, s.closed.Reason)
		}
		return frame
	case <-time.After(patience):
		s.t.Fatal("no frame came")
	}
	return api.Frame{}
}

// Presence returns the next frame, which must be a presence frame, as "uid action".
func (s *Socket) Presence() string {
	s.t.Helper()
	_, body := s.PresenceBody()
	return body.User.UID + " " + body.Action
}

// PresenceBody returns the next frame, which must be a presence frame, and its body.
func (s *Socket) PresenceBody() (api.Frame, api.PresenceBody) {
	s.t.Helper()
	frame := s.Next()
	var body api.PresenceBody
	if frame.Type != api.FramePresence || json.Unmarshal(frame.Body, &body) != nil {
		s.t.Fatalf("not a presence frame: %+v %s", frame, frame.Body)
	}
	return frame, body
}

// Hears fails unless the next presence frames are these, in this order.
func (s *Socket) Hears(events ...string) {
	s.t.Helper()
	for _, want := range events {
		if got := s.Presence(); got != want {
			s.t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

// Changes fails unless the next frames are these changes, as "kind subject object", in this order.
func (s *Socket) Changes(changes ...string) {
	s.t.Helper()
	for _, want := range changes {
		frame := s.Next()
		var body api.ChangeBody
		if frame.Type != api.FrameChange || json.Unmarshal(frame.Body, &body) != nil {
			s.t.Fatalf("not a change frame: %+v %s", frame, frame.Body)
		}
		if got := body.Kind + " " + body.Subject + " " + body.Object; got != want {
			s.t.Fatalf("told of %q, want %q", got, want)
		}
	}
}

// Close ends the socket with a code, as a client does.
func (s *Socket) Close(code int, reason string) {
	s.t.Helper()
	if err := s.conn.Close(websocket.StatusCode(code), reason); err != nil && websocket.CloseStatus(err) == -1 {
		s.t.Logf("close: %v", err)
	}
}

// Break ends the connection without a word.
func (s *Socket) Break() { _ = s.conn.CloseNow() }

// ClosedWith waits until the server has closed the socket, and returns the code and the reason. Frames before are
// dropped.
func (s *Socket) ClosedWith() (code int, reason string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-s.frames:
			if !ok {
				return int(s.closed.Code), s.closed.Reason
			}
		case <-deadline:
			s.t.Fatal("the socket was not closed")
		}
	}
}
