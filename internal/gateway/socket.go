package gateway

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/poller"
	"github.com/rollcall/rollcall/internal/presence"
)

const (
	// maxAuth is the longest auth frame in bytes, one with 10,000 uids, and maxMessage the longest message after it.
	maxAuth    = 1_200_000
	maxMessage = 16 << 10
	// gatherTimeout is how long a client may take to complete a message.
	gatherTimeout = 10 * time.Second
	// maxGathering bounds what all clients together make the server keep of messages that are not complete.
	maxGathering = 64 << 20
	// freeGathering is what a client may make the server keep however much all others do: nobody can keep out those whose
	// messages come in pieces, but for long ones.
	freeGathering = 4 << 10
	// A client may send this many frames at once, and that many each second on average.
	frameBurst  = 120
	framesEvery = 20
	// maxWaitingBytes is how much may wait for a client that does not read, a snapshot included.
	maxWaitingBytes = 16 << 20
	// maxWrite is how much goes out in one write.
	maxWrite = 64 << 10
)

type state uint8

const (
	unauthenticated state = iota
	authenticating
	open
	closing
	gone
)

// socket is one WebSocket connection.
//
// What comes is handled by one goroutine at a time, that of the poller. What goes out waits in pending until a worker
// takes it. No lock is held while calling into package presence, which calls back under its own.
type socket struct {
	gateway *Gateway
	from    From
	link    poller.Link
	index   int          // in Gateway.sockets; guarded by Gateway.mu
	heard   atomic.Int64 // when the last frame came, by Gateway.now
	limit   atomic.Int64 // how long a message may be, in bytes
	// gathers is since when a message is not complete, by Gateway.now; 0 when none is.
	gathers atomic.Int64

	// These belong to the poller's goroutine.
	inbox     []byte // a frame, or several of a message, that are not complete
	message   []byte // the fragments of a message so far
	fragments bool
	deaf      bool  // whatever else the client sends is not read any more
	allowance int32 // how many frames may come now
	refilled  int64
	openedAt  int64
	pingedAt  int64 // when the client last pinged; 0 when it never did
	extended  bool  // the client asked for the extension; set before the session is opened
	// joining is the auth frame while the session is opened.
	joining *api.Frame
	// held says that the worker which opens the session has it, and writes when it is open.
	held bool

	mu        sync.Mutex
	state     state             // guarded by mu
	auth      *api.Frame        // the auth frame to check. Guarded by mu
	session   *presence.Session // guarded by mu
	prelude   func() [][]byte   // makes the frames that go before pending. Guarded by mu
	pending   [][]byte          // guarded by mu
	waiting   int               // bytes in pending. Guarded by mu
	since     int64             // when the first of pending came. Guarded by mu
	queued    bool              // a worker or the pacer has it. Guarded by mu
	blocked   int64             // since when the network takes nothing; 0 when it does. Guarded by mu
	wroteAt   int64             // guarded by mu
	closingAt int64             // guarded by mu
	asked     int64             // the heard at which it was asked whether it is there. Guarded by mu
	farewell  bool              // the close frame has been put into pending. Guarded by mu
	heardOut  bool              // the client has sent its close frame. Guarded by mu
	cause     presence.Cause    // why the server closes it. Guarded by mu
	// code and reason are those of the close frame that the server has sent. Guarded by mu
	code   ws.StatusCode
	reason string
	// app, uid and device are those of the session that was asked for. Guarded by mu
	app    directory.AppID
	uid    directory.UID
	device string
}

var pongFrame = ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"action":"pong"}`)))

// sdkPing is what the contract's SDK sends, to the byte.
var sdkPing = []byte(`{"action":"ping","ack":"true"}`)

// Receive takes what has come from the client.
func (s *socket) Receive(received []byte) {
	if s.deaf {
		return
	}
	data := received
	if len(s.inbox) > 0 {
		s.gateway.gathering.Add(int64(len(received)))
		s.inbox = append(s.inbox, received...)
		data = s.inbox
	}
	rest, code, reason := s.readFrames(data)
	if reason != "" {
		s.deaf = true
		s.forgetInbox()
		s.end(presence.Misbehaved, code, reason)
		return
	}
	kept := len(s.inbox)
	switch {
	case len(rest) == 0:
		s.inbox = nil
	case len(rest) < len(data) || kept == 0:
		s.inbox = append([]byte(nil), rest...)
	}
	s.noteGathering()
	if s.gateway.gathering.Add(int64(len(s.inbox)-kept)) > maxGathering && len(s.inbox)+len(s.message) > freeGathering {
		s.deaf = true
		s.forgetInbox()
		s.end(presence.Misbehaved, ws.StatusCode(1013), "too much is being sent to this server at once")
	}
}

// noteGathering notes since when a message is not complete.
func (s *socket) noteGathering() {
	switch {
	case len(s.inbox)+len(s.message) == 0:
		s.gathers.Store(0)
	case s.gathers.Load() == 0:
		s.gathers.Store(s.gateway.now())
	}
}

func (s *socket) forgetInbox() {
	s.gathers.Store(0)
	s.gateway.gathering.Add(int64(-len(s.inbox) - len(s.message)))
	s.inbox, s.message = nil, nil
}

// readFrames handles the complete frames in data and returns what is left. A reason says why the client is to be sent
// away.
func (s *socket) readFrames(data []byte) (rest []byte, code ws.StatusCode, reason string) {
	for len(data) > 0 {
		header, size, ok := parseHeader(data)
		if !ok {
			return data, 0, ""
		}
		switch {
		case !header.Masked || header.Rsv != 0 || header.OpCode.IsReserved():
			return nil, ws.StatusProtocolError, "the frame is not one of RFC 6455 from a client"
		case header.OpCode.IsControl() && (header.Length > ws.MaxControlFramePayloadSize || !header.Fin):
			return nil, ws.StatusProtocolError, "a control frame is too long or in pieces"
		case header.Length > s.limit.Load()-int64(len(s.message)):
			return nil, ws.StatusMessageTooBig, "the message is too long"
		case int64(len(data)-size) < header.Length:
			return data, 0, ""
		}
		payload := data[size : size+int(header.Length)]
		ws.Cipher(payload, header.Mask, 0)
		data = data[size+int(header.Length):]
		now := s.gateway.now()
		s.heard.Store(now)
		if !s.allow(now) {
			return nil, ws.StatusPolicyViolation, "too many frames"
		}
		if code, reason = s.readFrame(header, payload); reason != "" {
			return nil, code, reason
		}
	}
	return nil, 0, ""
}

// parseHeader reads the header of a frame and its size, when it is complete.
func parseHeader(data []byte) (header ws.Header, size int, ok bool) {
	reader := bytes.NewReader(data)
	header, err := ws.ReadHeader(reader)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return header, 0, false
	case err != nil:
		return ws.Header{Rsv: 1}, 0, true // refused as any other that is malformed
	}
	return header, len(data) - reader.Len(), true
}

// allow counts a frame against what the client may send.
func (s *socket) allow(now int64) bool {
	const perFrame = int64(time.Second) / framesEvery
	if more := (now - s.refilled) / perFrame; more > 0 {
		s.allowance = int32(min(frameBurst, int64(s.allowance)+more))
		s.refilled = now
	}
	s.allowance--
	return s.allowance >= 0
}

func (s *socket) readFrame(header ws.Header, payload []byte) (code ws.StatusCode, reason string) {
	switch header.OpCode {
	case ws.OpPing:
		s.pingedAt = s.gateway.now()
		s.answer(ws.MustCompileFrame(ws.NewPongFrame(payload)))
		return 0, ""
	case ws.OpPong:
		return 0, ""
	case ws.OpClose:
		s.goodbye(payload)
		return 0, ""
	case ws.OpContinuation:
		if !s.fragments {
			return ws.StatusProtocolError, "there is no message to continue"
		}
	case ws.OpText, ws.OpBinary:
		if s.fragments {
			return ws.StatusProtocolError, "the message before is not complete"
		}
	}
	if !header.Fin || s.fragments {
		if !s.fragments && header.OpCode != ws.OpText {
			return ws.StatusUnsupportedData, "only text is understood"
		}
		s.gateway.gathering.Add(int64(len(payload)))
		s.message = append(s.message, payload...)
		s.fragments = !header.Fin
		if s.fragments {
			return 0, ""
		}
		payload = s.message
		s.gateway.gathering.Add(int64(-len(payload)))
		s.message = nil
	} else if header.OpCode == ws.OpBinary {
		return 0, "" // the contract's client ignores it too
	}
	if bytes.Equal(payload, sdkPing) {
		s.pingedAt = s.gateway.now()
		s.answer(pongFrame)
		return 0, ""
	}
	if !utf8.Valid(payload) {
		return ws.StatusInvalidFramePayloadData, "the text is not UTF-8"
	}
	return s.readMessage(payload)
}

// goodbye answers the client's close frame.
func (s *socket) goodbye(payload []byte) {
	s.deaf = true
	s.mu.Lock()
	s.heardOut = true
	own := s.state == open && s.extended // clients of the extension say goodbye only when they mean it
	done := s.state == closing && s.farewell && len(s.pending) == 0
	s.mu.Unlock()
	if done {
		s.link.Close()
		return
	}
	code, cause := ws.StatusNoStatusRcvd, presence.Reset
	if len(payload) > 0 {
		code, reason := ws.ParseCloseFrameData(payload)
		if ws.CheckCloseFrameData(code, reason) != nil {
			code = ws.StatusProtocolError
		}
		switch {
		case code != ws.StatusNormalClosure:
		case !own && s.awaitsPong():
			cause = presence.PongMissed
		default:
			cause = presence.Closed
		}
		s.end(cause, code, "")
		return
	}
	s.end(cause, code, "")
}

// pongWithin is how long before a close its sender may have pinged that gave up waiting for the pong. The contract's
// clients do so after 3 s (sdk-wire.md section C4); their ping and their close may both have been held up.
const pongWithin = 5 * time.Second

// awaitsPong reports whether the client may not have had the pong to its last ping. It closes then with the code of a
// goodbye (sdk-wire.md section C4), and will be back.
func (s *socket) awaitsPong() bool {
	return s.pingedAt != 0 && time.Duration(s.gateway.now()-s.pingedAt) < pongWithin
}

// end ends the session, if there is one, and closes the socket with a code and a reason.
func (s *socket) end(cause presence.Cause, code ws.StatusCode, reason string) {
	s.mu.Lock()
	session := s.session
	s.session = nil
	if s.cause == "" {
		s.cause = cause
	}
	s.mu.Unlock()
	if session != nil {
		session.End(cause, s.gateway.at(s.heard.Load()))
	}
	s.shut(code, reason)
}

// shut sends a close frame and closes the connection when it has left.
func (s *socket) shut(code ws.StatusCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= closing {
		return
	}
	s.state, s.code, s.reason = closing, code, reason
	s.closingAt = s.gateway.now()
	body := ws.NewCloseFrameBody(code, reason)
	if code == ws.StatusNoStatusRcvd {
		body = nil
	}
	s.push(ws.MustCompileFrame(ws.NewCloseFrame(body)))
	s.farewell = true
}

// send queues a frame for the client.
func (s *socket) send(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state < closing {
		s.push(frame)
	}
}

// answer sends a frame that the client waits for: at once when nothing else is to be sent, without waking a worker.
func (s *socket) answer(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state >= closing:
	case s.queued || s.blocked != 0 || len(s.pending) > 0 || s.prelude != nil:
		s.push(frame)
	default:
		waiting, err := s.link.Write(frame)
		if waiting {
			s.blocked = s.gateway.now()
		}
		if err != nil { // the poller finds the connection broken too
			s.state, s.pending = gone, nil
		}
	}
}

// push queues a frame. It needs mu.
func (s *socket) push(frame []byte) {
	if len(s.pending) == 0 {
		s.since = s.gateway.now()
	}
	s.pending = append(s.pending, frame)
	s.waiting += len(frame)
	s.schedule()
}

// schedule makes sure that a worker comes by, not too soon after the last time. It needs mu.
func (s *socket) schedule() {
	if s.queued || s.blocked != 0 {
		return
	}
	s.queued = true
	if s.wroteAt != 0 && s.state < closing {
		pacer := s.gateway.paced
		if wait := pacer.pace() - time.Duration(s.gateway.now()-s.wroteAt); wait > 0 {
			pacer.hold(s, wait)
			return
		}
	}
	s.gateway.dirty.put(s)
}

// flush writes what waits to be sent, until the gateway is closed and nothing waits any more.
func (g *Gateway) flush() {
	buffer := make([]byte, 0, maxWrite)
	sockets := make([]*socket, 0, taken)
	for {
		ready := g.dirty.take(sockets)
		if len(ready) == 0 {
			return
		}
		for i, s := range ready {
			s.write(buffer)
			ready[i] = nil
		}
	}
}

// write gives the network what waits, as much as it takes.
func (s *socket) write(buffer []byte) {
	s.mu.Lock()
	if prelude := s.prelude; prelude != nil {
		s.prelude = nil
		s.mu.Unlock() // it is still queued: no other worker comes by
		first := prelude()
		s.mu.Lock()
		s.pending = append(first, s.pending...)
		for _, frame := range first {
			s.waiting += len(frame)
		}
	}
	s.queued = false
	for s.state != gone && len(s.pending) > 0 && s.blocked == 0 {
		out, frames := buffer[:0], 0
		single := len(s.pending) == 1 || len(s.pending[0]) >= maxWrite
		if single {
			out, frames = s.pending[0], 1 // shared by all who get it, and not copied
		} else {
			for _, frame := range s.pending {
				if len(out)+len(frame) > maxWrite {
					break
				}
				out = append(out, frame...)
				frames++
			}
		}
		s.wroteAt = s.gateway.now()
		waited := time.Duration(s.wroteAt - s.since)
		// The lock is held: the network does not wait, and frames must not overtake each other.
		waiting, err := s.link.Write(out)
		if err != nil {
			s.state, s.pending, s.waiting = gone, nil, 0
			break
		}
		s.waiting -= len(out)
		left := copy(s.pending, s.pending[frames:])
		clear(s.pending[left:])
		if s.pending = s.pending[:left]; left == 0 && cap(s.pending) > 4 {
			s.pending = nil
		}
		if waiting {
			s.blocked = s.wroteAt
		}
		s.gateway.config.Observer.Delivered(frames, waited)
	}
	failed := s.state == gone
	done := s.farewell && len(s.pending) == 0 && s.blocked == 0
	heardOut := s.heardOut
	s.mu.Unlock()
	switch {
	case failed || done && heardOut:
		s.link.Close()
	case done:
		s.link.CloseWrite()
	}
}

// Writable goes on writing when the network takes more.
func (s *socket) Writable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = 0
	if (len(s.pending) > 0 || s.farewell) && !s.queued {
		s.queued = true
		s.gateway.dirty.put(s)
	}
}

// Closed ends what hangs on the connection.
func (s *socket) Closed(error) {
	s.forgetInbox()
	s.mu.Lock()
	session := s.session
	s.session, s.state, s.pending, s.auth, s.prelude, s.waiting = nil, gone, nil, nil, nil, 0
	if s.cause == "" {
		s.cause = presence.Reset
	}
	cause := s.cause
	s.logLocked()
	s.mu.Unlock()
	if session != nil {
		session.End(cause, s.gateway.at(s.heard.Load()))
	}
	s.gateway.remove(s)
}

// logLocked writes down what became of the socket, beside the records of requests.
func (s *socket) logLocked() {
	handler := s.gateway.config.Logger.Handler()
	if !handler.Enabled(s.gateway.running, slog.LevelInfo) {
		return
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "socket", 0)
	record.AddAttrs(
		slog.Int64("duration_ms", (s.gateway.now()-s.openedAt)/int64(time.Millisecond)),
		slog.String("remote", s.from.Remote), slog.Bool("secure", s.from.Secure),
	)
	if s.uid != "" {
		record.AddAttrs(slog.String("app", string(s.app)), slog.String("actor", "user:"+string(s.uid)))
	}
	if s.device != "" {
		record.AddAttrs(slog.String("device", s.device))
	}
	record.AddAttrs(slog.String("cause", string(s.cause)))
	if s.code != 0 {
		record.AddAttrs(slog.Int("code", int(s.code)))
	}
	if s.reason != "" {
		record.AddAttrs(slog.String("reason", s.reason))
	}
	_ = handler.Handle(s.gateway.running, record) // nowhere to tell that nothing can be told
}

// isDue reports whether the time of something is up. It takes no lock but for a moment.
func (s *socket) isDue(now int64) bool {
	if now-s.heard.Load() >= int64(pingAfter) || s.gathersTooLong(now) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != open || s.blocked != 0
}

func (s *socket) gathersTooLong(now int64) bool {
	since := s.gathers.Load()
	return since != 0 && time.Duration(now-since) > gatherTimeout
}

// look does what the time has come for: it asks a silent client whether it is there, and closes what takes too long.
func (s *socket) look(now int64) {
	heard := s.heard.Load()
	silent := time.Duration(now - heard)
	s.mu.Lock()
	state, ask := s.state, false
	stuck := s.blocked != 0 && time.Duration(now-s.blocked) > blockedTimeout
	late := state == closing && time.Duration(now-s.closingAt) > closeTimeout
	if state == open && silent >= pingAfter && silent < presence.Silence {
		ask = s.asked != heard // once in each span of silence
		s.asked = heard
	}
	s.mu.Unlock()
	switch {
	case late || stuck:
		s.link.Close()
	case (state == unauthenticated || state == authenticating) && time.Duration(now-s.openedAt) > s.gateway.config.AuthTimeout:
		s.end(presence.Misbehaved, api.CloseAuthTimeout, "no auth frame came in time")
	case s.gathersTooLong(now):
		s.end(presence.Misbehaved, ws.StatusPolicyViolation, "a message was not completed in time")
	case state == open && silent >= presence.Silence && !s.link.HasUnread(): // what has come is read first
		s.end(presence.Silent, api.CloseSilent, "nothing was heard for too long")
	case ask:
		s.send(ws.MustCompileFrame(ws.NewPingFrame(nil)))
	}
}
