package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
)

// showPresence returns how a user presents itself to the caller.
func (c *call) showPresence(seen directory.Seen) api.PresenceStatus {
	shown := api.PresenceStatus{UID: string(seen.UID), Status: presence.Offline.String()}
	if c.caller.User != "" {
		c.api.config.Presence.NoteReader(c.caller.App, c.caller.User)
	}
	if !seen.Present {
		return shown
	}
	status, text := c.api.config.Presence.Status(c.caller.App, seen.UID, !c.caller.Private && c.caller.User != seen.UID)
	shown.Status, shown.StatusText, shown.LastActiveAt = status.String(), text, seen.LastActiveAt
	if _, lastActiveAt := c.api.dir.PresenceOf(c.caller, seen.UID); lastActiveAt != 0 {
		shown.LastActiveAt = lastActiveAt
	}
	return shown
}

// queryPresence tells how many users present themselves, in one round trip.
func queryPresence(c *call) (answer, error) {
	uids, err := c.askedUIDs()
	if err != nil {
		return answer{}, err
	}
	found, missing, err := c.api.dir.QueryPresence(c.ctx(), c.caller, c.policy, c.user, uids)
	if err != nil {
		return answer{}, err
	}
	response := api.PresenceQueryResponse{
		Users: make([]api.PresenceStatus, len(found)), NotFound: append([]string{}, missing...),
	}
	for i, seen := range found {
		response.Users[i] = c.showPresence(seen)
	}
	return data(response)
}

// countOnline counts whom the caller may know as online: a number that others are part of would tell of them.
func countOnline(c *call) (answer, error) {
	if c.caller.User == "" {
		return data(api.OnlineCount{OnlineUsersCount: c.api.dir.CountOnline(c.caller.App)})
	}
	count, err := c.api.dir.CountOnlineAs(c.ctx(), c.caller, c.policy, c.user)
	if err != nil {
		return answer{}, err
	}
	return data(api.OnlineCount{OnlineUsersCount: count})
}

// countOnlineMembers is countOnline for the SDK, which authenticates with its socket JWT (contract sdk-wire.md section
// B12). Without a socket it gets no new one: an expired JWT is as good as the auth token that it was issued for.
func countOnlineMembers(c *call) (answer, error) {
	text := strings.TrimPrefix(headerValue(c.r, "Authorization"), "Bearer ")
	claims, err := c.api.config.SocketSigner.VerifyOrigin(text)
	if err != nil || claims.App != string(c.policy.App.ID) {
		return answer{}, errorf(api.CodeNoAuth, "Send the JWT of /me in the Authorization header.")
	}
	attendee, err := c.api.dir.Attend(c.ctx(), c.policy, directory.UID(claims.UID), directory.TokenID(claims.Token), false)
	if err != nil {
		return answer{}, err
	}
	c.user = attendee.User
	c.setCaller(directory.Caller{
		App: c.policy.App.ID, Actor: directory.Actor("user:" + claims.UID), User: directory.UID(claims.UID),
		Token: directory.TokenID(claims.Token),
	})
	if err := c.api.limiter.take(c); err != nil {
		return answer{}, err
	}
	return c.handleList(countOnline)
}

// getPresence shows a user's devices to an operator.
func getPresence(c *call) (answer, error) {
	seen, err := c.api.dir.GetUser(c.ctx(), c.caller, c.policy, c.user, c.pathID("uid"))
	if err != nil {
		return answer{}, err
	}
	shown := api.UserPresence{PresenceStatus: c.showPresence(seen), Devices: []api.PresenceDevice{}}
	for _, device := range c.api.config.Presence.Devices(c.caller.App, seen.UID) {
		shown.Devices = append(shown.Devices, api.PresenceDevice{
			DeviceID: device.Device, Status: device.Status.String(), StatusText: device.Text, AuthTokenID: string(device.Token),
			ConnectedAt: device.OpenedAt, AwayUntil: device.AwayUntil,
		})
	}
	return data(shown)
}

func listTransitions(c *call) (answer, error) {
	transitions, err := c.api.dir.Timeline(c.ctx(), c.caller, c.pathID("uid"))
	if err != nil {
		return answer{}, err
	}
	return data(showTransitions(transitions))
}

func showTransitions(transitions []directory.Transition) []api.PresenceTransition {
	shown := make([]api.PresenceTransition, len(transitions))
	for i, transition := range transitions {
		shown[i] = api.PresenceTransition{
			DeviceID: transition.Device, At: transition.At, Status: transition.Status, Cause: transition.Cause,
		}
	}
	return shown
}

// disconnect ends the sessions of a user, or of one of its devices. Their auth tokens stay good.
func disconnect(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	seen, err := c.api.dir.GetUser(c.ctx(), c.caller, c.policy, c.user, c.pathID("uid"))
	if err != nil {
		return answer{}, err
	}
	closed := c.api.config.Presence.Disconnect(c.caller.App, seen.UID, c.path("deviceId"))
	return data(api.DisconnectResponse{Success: true, Message: "The sessions have been ended.", ClosedSockets: closed})
}

// streamPresence tells who is online, or, asked for text/event-stream, sends what becomes of everybody's presence as
// server-sent events, until the client goes away, the server stops or the key is not good any more. An id is where to
// go on from; after one that is not known any more, and at first, a snapshot event has everybody online.
func streamPresence(c *call) (answer, error) {
	var from *presence.Position
	if epoch, sequence, ok := strings.Cut(headerValue(c.r, "Last-Event-Id"), ":"); ok {
		if number, err := strconv.ParseInt(sequence, 10, 64); err == nil {
			from = &presence.Position{Epoch: epoch, Sequence: number}
		}
	}
	stream, people, position, complete, err := c.api.config.Presence.Watch(c.ctx(), c.caller.App, from)
	if err != nil {
		return answer{}, err
	}
	defer stream.Close()
	snapshot := api.SnapshotBody{Complete: complete, Last: true, Users: make([]api.PresenceStatus, len(people))}
	for i, known := range people {
		snapshot.Users[i] = api.PresenceStatus{
			UID: string(known.UID), Status: known.Status.String(), StatusText: known.Text, LastActiveAt: known.At,
		}
	}
	if !c.wantsEvents() {
		return data(snapshot)
	}
	if c.beginEvents() {
		return written, nil
	}
	return written, c.sendPresence(stream, snapshot, position)
}

func (c *call) sendPresence(stream *presence.Stream, snapshot api.SnapshotBody, position presence.Position) error {
	control := http.NewResponseController(c.w)
	send := func(event string, id string, body any) error {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode presence: %w", err)
		}
		if id != "" {
			fmt.Fprintf(c.w, "id: %s\n", id)
		}
		fmt.Fprintf(c.w, "event: %s\ndata: %s\n\n", event, text)
		return nil
	}
	if err := send("snapshot", position.String(), snapshot); err != nil {
		return err
	}
	heartbeat := time.NewTicker(streamHeartbeat)
	defer heartbeat.Stop()
	for {
		events, ok := stream.Take()
		if !c.keyIsGood() {
			return nil // the next attempt is told why
		}
		for _, event := range events {
			status := api.PresenceStatus{
				UID: string(event.User.UID), Status: event.True.String(), StatusText: event.Text, LastActiveAt: event.At,
			}
			if err := send("presence", stream.Position(event).String(), status); err != nil {
				return err
			}
		}
		_ = control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // not every connection has deadlines
		if err := control.Flush(); err != nil || !ok {
			return nil // the client went away, or was too slow: it comes back with the last id
		}
		select {
		case <-stream.Grown():
		case <-heartbeat.C:
			fmt.Fprint(c.w, ": still here\n\n")
		case <-c.r.Context().Done():
			return nil
		case <-c.api.running.Done():
			return nil
		}
	}
}
