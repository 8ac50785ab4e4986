package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
)

const (
	maxRoles = 25
	maxUIDs  = 10_000
	// maxID is the longest role or uid in bytes, and more than there is.
	maxID = 255
	// maxStatusSeconds is how long a status with an end may stay.
	maxStatusSeconds = 30 * 24 * 3600
	// snapshotPart is how many users one frame of a snapshot holds.
	snapshotPart = 200
)

// readMessage handles a text frame. A reason says why the client is to be sent away.
func (s *socket) readMessage(payload []byte) (code ws.StatusCode, reason string) {
	var frame api.Frame
	if err := json.Unmarshal(payload, &frame); err != nil {
		return ws.StatusInvalidFramePayloadData, "the text is not a JSON object of this protocol"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case frame.Action == api.ActionPing:
		s.pingedAt = s.gateway.now()
		if s.state < closing {
			s.push(pongFrame)
		}
	case s.state == unauthenticated && frame.Type == api.FrameAuth:
		s.state = authenticating
		auth := frame // a frame of its own: others are not kept
		s.auth = &auth
		s.gateway.auths.put(s)
	case s.state == unauthenticated:
		return api.CloseAuthFailed, "the first frame must be auth"
	case s.state == open && frame.Type == api.FrameStatus:
		session := s.session
		if session == nil {
			return 0, ""
		}
		s.mu.Unlock()
		defer s.mu.Lock() //nolint:gocritic // undone by the deferred Unlock above: presence calls back under its own lock
		return s.setStatus(session, frame.Body)
	}
	return 0, ""
}

func (s *socket) setStatus(session *presence.Session, body json.RawMessage) (code ws.StatusCode, reason string) {
	var wish api.StatusBody
	if err := json.Unmarshal(body, &wish); err != nil {
		return ws.StatusInvalidFramePayloadData, "the body of the status frame is malformed"
	}
	status, until, wrong := s.gateway.readStatus(wish)
	if wrong != "" {
		return ws.StatusInvalidFramePayloadData, wrong
	}
	session.SetStatus(status, wish.StatusText, until)
	return 0, ""
}

// readStatus returns the status that a device sets and when it ends, or what is wrong with it.
func (g *Gateway) readStatus(wish api.StatusBody) (status presence.Status, until time.Time, wrong string) {
	status, known := presence.ParseStatus(wish.Status)
	if !known {
		return status, until, "the status must be available, away, busy or invisible"
	}
	if !g.config.Directory.IsStatusText(wish.StatusText) {
		return status, until, "the statusText is too long or holds control characters"
	}
	if wish.ExpiresAt != 0 {
		ends := time.Unix(min(wish.ExpiresAt, g.config.Directory.Now()+maxStatusSeconds), 0)
		until = time.Now().Add(ends.Sub(g.config.Directory.Time()))
	}
	return status, until, ""
}

// authenticate checks auth frames until the gateway is closed.
func (g *Gateway) authenticate() {
	sockets, buffer := make([]*socket, 0, 1), make([]byte, 0, maxWrite)
	for {
		ready := g.auths.take(sockets)
		if len(ready) == 0 {
			return
		}
		s := ready[0]
		ready[0] = nil
		s.mu.Lock()
		frame := s.auth
		s.auth = nil
		s.mu.Unlock()
		if frame == nil {
			continue
		}
		if s.open(*frame); s.held {
			s.held = false
			s.write(buffer)
		}
	}
}

// open opens a session for an auth frame, or refuses it.
func (s *socket) open(frame api.Frame) {
	var body api.AuthBody
	if json.Unmarshal(frame.Body, &body) != nil {
		s.refuse(frame, &directory.Error{Code: directory.CodeBadRequest, Message: "The body of the auth frame is malformed."})
		return
	}
	hello, err := s.gateway.hello(frame, body)
	if err != nil {
		s.refuse(frame, err)
		return
	}
	s.mu.Lock()
	s.app, s.uid, s.device = hello.App, hello.UID, hello.Device
	s.mu.Unlock()
	s.extended = body.Rollcall != nil
	frame.Body = nil
	s.joining = &frame
	ctx, cancel := context.WithTimeout(s.gateway.running, s.gateway.config.AuthTimeout)
	defer cancel()
	if _, err := s.gateway.config.Presence.Open(ctx, hello, s); err != nil {
		if directory.IsCode(err, directory.CodeTokenUnknown) && !errors.Is(err, directory.ErrSuspended) {
			s.gateway.attempts.refuse(hello.App, hello.Token, time.Now())
		}
		s.refuse(frame, err)
	}
}

// hello checks an auth frame and returns what it asks for.
func (g *Gateway) hello(frame api.Frame, body api.AuthBody) (hello presence.Hello, err error) {
	now := time.Now()
	claims, err := g.config.Signer.Verify(body.Auth, g.config.Directory.Time())
	switch {
	case err != nil:
		return hello, unauthorized("The JWT is not valid, or not any more. Get a new one from /me.")
	case !strings.EqualFold(frame.AppID, claims.App) || directory.FoldUID(frame.Sender) != directory.UID(claims.UID):
		return hello, unauthorized("The JWT is for another app or user.")
	case !directory.IsDeviceID(frame.DeviceID):
		return hello, unauthorized("The deviceId is too long or holds control characters.")
	}
	hello = presence.Hello{
		App: directory.AppID(claims.App), UID: directory.UID(claims.UID), Token: directory.TokenID(claims.Token),
		Device: frame.DeviceID,
	}
	if g.attempts.wasRefused(hello.App, hello.Token, now) {
		return hello, &directory.Error{
			Code: directory.CodeTokenUnknown, Message: "This auth token is not valid any more. Log in again.",
		}
	}
	if hello.Subscription, err = subscription(body); err != nil {
		return hello, err
	}
	if x := body.Rollcall; x != nil {
		hello.Snapshot, hello.Extended = x.Snapshot, true
		if x.Resume != nil {
			hello.Resume = &presence.Position{Epoch: x.Resume.Epoch, Sequence: x.Resume.Sequence}
		}
		if x.Status != "" {
			var wrong string
			wish := api.StatusBody{Status: x.Status, StatusText: x.StatusText, ExpiresAt: x.ExpiresAt}
			if hello.Status, hello.Until, wrong = g.readStatus(wish); wrong != "" {
				return hello, badRequest("In the auth frame, " + wrong + ".")
			}
			hello.Text = x.StatusText
			if x.Then != nil {
				then, _, wrong := g.readStatus(api.StatusBody{Status: x.Then.Status, StatusText: x.Then.StatusText})
				if wrong != "" {
					return hello, badRequest("In then of the auth frame, " + wrong + ".")
				}
				hello.Then, hello.ThenText = then, x.Then.StatusText
			}
		}
	}
	return hello, nil
}

func unauthorized(message string) error {
	return &directory.Error{Code: directory.Code(api.CodeNoAuth), Message: message}
}

func badRequest(message string) error {
	return &directory.Error{Code: directory.CodeBadRequest, Message: message}
}

func subscription(body api.AuthBody) (wanted presence.Subscription, err error) {
	switch body.PresenceSubscription {
	case "", "NONE":
	case api.SubscribeAllUsers:
		wanted.Scope = presence.AllUsers
	case api.SubscribeFriends:
		wanted.Scope = presence.Friends
	case api.SubscribeRoles:
		if len(body.Roles) > maxRoles {
			return wanted, badRequest("The roles may not be more than " + strconv.Itoa(maxRoles) + ".")
		}
		wanted.Scope = presence.UsersOfRoles
		for _, role := range body.Roles {
			if len(role) > maxID || !directory.IsText(role) {
				continue // there is no such role
			}
			wanted.Roles = append(wanted.Roles, strings.ToLower(role))
		}
		slices.Sort(wanted.Roles)
		wanted.Roles = slices.Compact(wanted.Roles)
	case api.SubscribeUIDs:
		if len(body.UIDs) > maxUIDs {
			return wanted, badRequest("The uids may not be more than " + strconv.Itoa(maxUIDs) + ".")
		}
		wanted.Scope = presence.TheseUsers
		wanted.UIDs = make([]directory.UID, 0, len(body.UIDs))
		for _, uid := range body.UIDs {
			if len(uid) > maxID || !directory.IsText(uid) {
				continue // there is no such user
			}
			wanted.UIDs = append(wanted.UIDs, directory.FoldUID(uid))
		}
		slices.Sort(wanted.UIDs)
		wanted.UIDs = slices.Compact(wanted.UIDs)
	default:
		return wanted, badRequest("The presenceSubscription must be ALL_USERS, ROLES, FRIENDS or UIDS.")
	}
	return wanted, nil
}

// refuse answers an auth frame with what is wrong, and closes the socket.
func (s *socket) refuse(frame api.Frame, err error) {
	reply := api.AuthReply{Code: "401", Status: "ERROR"}
	code, reason := ws.StatusCode(api.CloseAuthFailed), "auth failed"
	var refused *directory.Error
	switch {
	case !errors.As(err, &refused):
		s.gateway.config.Logger.Error("a socket could not be opened", slog.Any("error", err))
		reply.Code, reply.Error, reply.Message = "500", string(directory.CodeOperationFailed), "Something went wrong here. Try again."
		code, reason = ws.StatusInternalServerError, "try again"
	default:
		reply.Error, reply.Message = string(refused.Code), refused.Message
		switch refused.Code {
		case directory.CodeQuota:
			reply.Code, code, reason = "429", api.CloseTooMany, "too many sockets of this user, or too many users that they watch"
		case directory.CodeBadRequest:
			reply.Code = "400"
		case directory.CodeOperationFailed:
			reply.Code, code, reason = "503", ws.StatusCode(1013), "try again"
		default: // the auth frame itself is refused
		}
	}
	s.send(authFrame(frame, reply))
	s.end(presence.Misbehaved, code, reason)
}

func authFrame(sent api.Frame, reply api.AuthReply) []byte {
	return textFrame(
		api.Frame{Type: api.FrameAuth, AppID: sent.AppID, DeviceID: sent.DeviceID, Sender: sent.Sender}, reply,
	)
}

// textFrame writes a frame with a body, which stands in the place of the frame's own.
func textFrame(frame api.Frame, body any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(struct {
		api.Frame
		Body any `json:"body"`
	}{frame, body}); err != nil {
		panic(err) // what is sent is made here, and always JSON
	}
	return ws.MustCompileFrame(ws.NewTextFrame(bytes.TrimSuffix(text.Bytes(), []byte("\n"))))
}

// Joined answers the auth frame. The answer is held back until the session is open to its end, and then goes out with
// what the session is told of itself: who has it finds itself online.
func (s *socket) Joined(session *presence.Session, welcome presence.Welcome) bool {
	reply := api.AuthReply{Code: "200", Status: "OK"}
	if s.extended {
		reply.Rollcall = &api.SocketWelcome{
			PresencePosition: api.PresencePosition{Epoch: welcome.Position.Epoch, Sequence: welcome.Position.Sequence},
			Resumed:          welcome.Resumed, HeartbeatSeconds: int(presence.Silence / time.Second),
			UpdatedAt: welcome.UpdatedAt,
		}
	}
	sent := *s.joining
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != authenticating {
		return false
	}
	s.joining, s.session, s.state = nil, session, open
	s.limit.Store(maxMessage)
	s.prelude = func() [][]byte {
		frames := [][]byte{authFrame(sent, reply)}
		if welcome.Snapshot || len(welcome.People) > 0 {
			frames = append(frames, snapshot(sent.AppID, welcome)...)
		}
		return frames
	}
	s.held = !s.queued
	s.queued = true
	return true
}

func snapshot(app string, welcome presence.Welcome) (frames [][]byte) {
	people := welcome.People
	for {
		part := people[:min(snapshotPart, len(people))]
		people = people[len(part):]
		body := api.SnapshotBody{
			Complete: welcome.Snapshot, Last: len(people) == 0, Users: make([]api.PresenceStatus, len(part)),
		}
		for i, known := range part {
			status := api.PresenceStatus{
				UID: string(known.UID), Status: known.Status.String(), StatusText: known.Text, LastActiveAt: known.At,
			}
			if known.User != nil {
				user := showUser(known.User, known.Status)
				status.User = &user
			}
			body.Users[i] = status
		}
		frames = append(frames, textFrame(api.Frame{Type: api.FrameSnapshot, AppID: app}, body))
		if body.Last {
			return frames
		}
	}
}

// Deliver sends a presence frame.
func (s *socket) Deliver(event *presence.Event) {
	form, encode := presence.FirstForm, contractEvent
	if s.extended {
		form, encode = presence.SecondForm, extendedEvent
	}
	s.deliver(event.Encoded(form, encode))
}

// Notify sends a change frame.
func (s *socket) Notify(notice presence.Notice) {
	body := api.ChangeBody{Kind: string(notice.Kind), Subject: string(notice.Subject), Object: string(notice.Object)}
	if notice.User != nil {
		user := showUser(notice.User, presence.Available)
		user.CreatedAt, user.UpdatedAt = notice.User.CreatedAt, notice.User.UpdatedAt
		body.User = &user
	}
	s.deliver(textFrame(api.Frame{Type: api.FrameChange, AppID: string(notice.App)}, body))
}

// deliver queues a frame, or gives up a client that does not read.
func (s *socket) deliver(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != open {
		return
	}
	if len(s.pending) >= s.gateway.config.MaxWaiting || s.waiting > maxWaitingBytes {
		s.state, s.cause = closing, presence.TooSlow
		s.closingAt = s.gateway.now()
		s.prelude, s.waiting = nil, 0
		s.pending = [][]byte{
			ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(api.CloseTooSlow, "the client does not read"))),
		}
		s.farewell = true
		s.gateway.config.Observer.Dropped()
		if !s.queued && s.blocked == 0 {
			s.queued = true
			s.gateway.dirty.put(s)
		}
		return
	}
	s.push(frame)
}

// Ended closes the socket of a session that the server has ended.
func (s *socket) Ended(cause presence.Cause) {
	s.mu.Lock()
	s.session, s.cause = nil, cause
	s.mu.Unlock()
	switch cause {
	case presence.Disconnected:
		s.shut(api.CloseDisconnected, string(cause))
	case presence.ServerStops:
		s.shut(ws.StatusGoingAway, string(cause))
	default:
		s.shut(api.CloseRevoked, string(cause))
	}
}

// contractEvent writes an event as the contract has it (sdk-wire.md section C5).
func contractEvent(event *presence.Event) []byte {
	action := "online"
	if event.Status == presence.Offline {
		action = "offline"
	}
	return presenceFrame(
		event, api.PresenceBody{Action: action, Timestamp: event.At, User: showUser(event.User, event.Status)},
	)
}

// extendedEvent writes an event with what this server adds.
func extendedEvent(event *presence.Event) []byte {
	action := event.Status.String()
	if event.Status == presence.Available {
		action = "online"
	}
	return presenceFrame(event, api.PresenceBody{
		Action: action, Timestamp: event.At, User: showUser(event.User, event.Status), Sequence: event.Sequence,
		StatusText: textOf(event),
	})
}

// textOf returns the text beside a status, which those who are seen as offline do not have.
func textOf(event *presence.Event) string {
	if event.Status == presence.Offline {
		return ""
	}
	return event.Text
}

func presenceFrame(event *presence.Event, body api.PresenceBody) []byte {
	return textFrame(api.Frame{Type: api.FramePresence, AppID: string(event.App), Sender: string(event.User.UID)}, body)
}

// showUser shows a user as others may see it.
func showUser(user *directory.User, status presence.Status) api.User {
	shown := api.User{
		UID: string(user.UID), Name: user.Name, Avatar: user.Avatar, Link: user.Link, Role: user.Role,
		StatusMessage: user.StatusMessage,
		Metadata:      directory.PublicMetadata(user.Metadata), Tags: user.Tags, Status: directory.StatusAvailable,
	}
	if status == presence.Offline {
		shown.Status = directory.StatusOffline
	}
	return shown
}
