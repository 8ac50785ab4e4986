package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"

	"github.com/rollcall/rollcall/api"
)

// PresenceService tells who is online. Session takes part in presence as a user.
type PresenceService struct{ service }

// Query returns how users present themselves, at most 1,000: those that the caller may see, and the uids of the others.
func (s *PresenceService) Query(ctx context.Context, uids ...string) (api.PresenceQueryResponse, error) {
	return post[api.PresenceQueryResponse](ctx, s.service, "/presence/query", api.PresenceQuery{UIDs: uids})
}

// OnlineCount returns how many users are online and do not hide it; for a user, of how many of them it may know that.
func (s *PresenceService) OnlineCount(ctx context.Context) (int, error) {
	answer, err := get[api.OnlineCount](ctx, s.service, "/presence/online-count", nil)
	return answer.OnlineUsersCount, err
}

// Devices returns the presence of a user with its devices. It needs a fullAccess key.
func (s *PresenceService) Devices(ctx context.Context, uid string) (api.UserPresence, error) {
	return get[api.UserPresence](ctx, s.service, presenceOf(uid), nil)
}

// Timeline returns what happened to the presence of a user and why, latest first, the last 100 for each device. It
// needs a fullAccess key.
func (s *PresenceService) Timeline(ctx context.Context, uid string) ([]api.PresenceTransition, error) {
	return get[[]api.PresenceTransition](ctx, s.service, presenceOf(uid)+"/timeline", nil)
}

// Disconnect ends the session of a user's device, or with an empty deviceID all of its sessions. The auth tokens stay
// good: clients connect again. It needs a fullAccess key.
func (s *PresenceService) Disconnect(ctx context.Context, uid, deviceID string) (api.DisconnectResponse, error) {
	path := presenceOf(uid)
	if deviceID != "" {
		path += "/" + segment(deviceID)
	}
	return remove[api.DisconnectResponse](ctx, s.service, path, nil)
}

func presenceOf(uid string) string { return "/users/" + segment(uid) + "/presence" }

// Follow iterates over what becomes of everybody's presence, as it happens: first those who are online, and from then
// on each change. When the connection breaks, it connects again and catches up. Users come without their profiles. It
// ends when ctx does, or with the server's refusal. It needs a fullAccess key.
func (s *PresenceService) Follow(ctx context.Context) iter.Seq2[api.PresenceStatus, error] {
	return func(yield func(api.PresenceStatus, error) bool) {
		seen := newRoll()
		position := ""
		from := func() (url.Values, string) { return nil, position }
		err := s.client.follow(ctx, "/presence/events", from, func(event serverEvent) (bool, error) {
			var told []api.PresenceStatus
			switch event.name {
			case "snapshot":
				var snapshot api.SnapshotBody
				if err := json.Unmarshal([]byte(event.data), &snapshot); err != nil {
					return false, fmt.Errorf("read presence snapshot: %w", err)
				}
				told = seen.snapshot(snapshot)
			case "presence":
				var status api.PresenceStatus
				if err := json.Unmarshal([]byte(event.data), &status); err != nil {
					return false, fmt.Errorf("read presence: %w", err)
				}
				if seen.news(status) {
					told = append(told, status)
				}
			}
			for _, status := range told {
				if !yield(status, nil) {
					return false, nil
				}
			}
			position = event.id
			return true, nil
		})
		if err != nil && ctx.Err() == nil {
			yield(api.PresenceStatus{}, err)
		}
	}
}

// statusOffline is the status of who is not online.
const statusOffline = "offline"

// roll remembers how those who are online look, to tell what is new.
type roll struct {
	looks map[string]string
	// named are those in the frames so far of a complete snapshot.
	named map[string]bool
}

func newRoll() *roll { return &roll{looks: map[string]string{}} }

// news notes how a user presents itself now, and returns whether that is new. When it was last active does not count:
// while it is online, that is now.
func (r *roll) news(status api.PresenceStatus) bool {
	before, online := r.looks[status.UID]
	if status.Status == statusOffline {
		delete(r.looks, status.UID)
		return online
	}
	look := status.Status + "\x00" + status.StatusText
	if status.User != nil {
		profile := *status.User
		profile.Status, profile.LastActiveAt = "", 0
		text, err := json.Marshal(profile) //nolint:gosec // it is only compared
		if err != nil {
			return true // a profile that was decoded can be encoded
		}
		look += "\x00" + string(text)
	}
	r.looks[status.UID] = look
	return !online || before != look
}

// snapshot notes a frame of a snapshot and returns what is new in it. Who is in no frame of a complete one has gone
// offline.
func (r *roll) snapshot(frame api.SnapshotBody) (told []api.PresenceStatus) {
	if frame.Complete && r.named == nil {
		r.named = map[string]bool{}
	}
	for _, status := range frame.Users {
		if frame.Complete {
			r.named[status.UID] = true
		}
		if r.news(status) {
			told = append(told, status)
		}
	}
	if !frame.Complete || !frame.Last {
		return told
	}
	for uid := range r.looks {
		if !r.named[uid] {
			told = append(told, api.PresenceStatus{UID: uid, Status: statusOffline})
			delete(r.looks, uid)
		}
	}
	r.named = nil
	return told
}
