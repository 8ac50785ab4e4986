package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/rollcall/rollcall/api"
)

// own returns the path of a collection of a user's; an empty uid means the logged-in user.
func own(uid, collection string) string {
	if uid == "" {
		return "/" + collection
	}
	return "/users/" + segment(uid) + "/" + collection
}

// BlocksService calls /users/{uid}/blockedusers, or with an empty uid, /blockedusers for the logged-in user.
type BlocksService struct{ service }

// Block makes a user block others, and returns what became of each.
func (s *BlocksService) Block(ctx context.Context, uid string, others ...string) (map[string]api.ItemResult, error) {
	return post[map[string]api.ItemResult](ctx, s.service, own(uid, "blockedusers"), api.BlockRequest{UIDs: others})
}

// Unblock takes back Block.
func (s *BlocksService) Unblock(ctx context.Context, uid string, others ...string) (map[string]api.ItemResult, error) {
	return remove[map[string]api.ItemResult](ctx, s.service, own(uid, "blockedusers"), api.BlockRequest{UIDs: others})
}

// All walks over the users who are blocked, by name. direction is blockedByMe, hasBlockedMe, both, or empty for the
// server's default.
func (s *BlocksService) All(ctx context.Context, uid, direction string) iter.Seq2[api.User, error] {
	query := url.Values{}
	if direction != "" {
		query.Set("direction", direction)
	}
	return walk[api.User](ctx, s.service, own(uid, "blockedusers"), query)
}

// FriendsService calls /users/{uid}/friends and /users/{uid}/friend_requests, or with an empty uid, those of the
// logged-in user.
type FriendsService struct{ service }

// Add makes a user and others friends. It needs an API key.
func (s *FriendsService) Add(ctx context.Context, uid string, others ...string) (map[string]api.ItemResult, error) {
	answer, err := post[api.AddFriendsResponse](
		ctx, s.service, own(uid, "friends"), api.AddFriendsRequest{Accepted: others},
	)
	return answer.Accepted, err
}

// Remove ends friendships.
func (s *FriendsService) Remove(ctx context.Context, uid string, others ...string) error {
	_, err := remove[api.Success](ctx, s.service, own(uid, "friends"), api.RemoveFriendsRequest{Friends: others})
	return err
}

// All walks over the friends of a user, by name.
func (s *FriendsService) All(ctx context.Context, uid string) iter.Seq2[api.User, error] {
	return walk[api.User](ctx, s.service, own(uid, "friends"), url.Values{})
}

// Ask asks others to be friends.
func (s *FriendsService) Ask(ctx context.Context, uid string, others ...string) (map[string]api.ItemResult, error) {
	return post[map[string]api.ItemResult](
		ctx, s.service, own(uid, "friend_requests"), api.FriendRequestsRequest{UIDs: others},
	)
}

// Answer accepts, refuses and withdraws friend requests.
func (s *FriendsService) Answer(
	ctx context.Context, uid string, request api.FriendRequestsRequest,
) (map[string]api.ItemResult, error) {
	return put[map[string]api.ItemResult](ctx, s.service, own(uid, "friend_requests"), request)
}

// Requests walks over those who wait for an answer of the user, or with sent, those whose answer it waits for.
func (s *FriendsService) Requests(ctx context.Context, uid string, sent bool) iter.Seq2[api.User, error] {
	query := url.Values{}
	if sent {
		query.Set("direction", "sent")
	}
	return walk[api.User](ctx, s.service, own(uid, "friend_requests"), query)
}

// VisibilityService asks who sees whom.
type VisibilityService struct{ service }

// Explain tells what a user may see of another, and the rule that decided.
func (s *VisibilityService) Explain(ctx context.Context, viewer, subject string) (api.Explanation, error) {
	return get[api.Explanation](
		ctx, s.service, "/visibility/explain", url.Values{"viewer": {viewer}, "subject": {subject}},
	)
}

// CanContact tells whether a user may write to another: for your own messaging backend.
func (s *VisibilityService) CanContact(ctx context.Context, uid, other string) (api.ContactResponse, error) {
	return get[api.ContactResponse](ctx, s.service, "/users/"+segment(uid)+"/can-contact/"+segment(other), nil)
}

// PutRelations makes up to 1,000 blocks, friendships and friend requests in one durable write, with their times, and
// returns what became of each.
func (s *VisibilityService) PutRelations(ctx context.Context, relations []api.RelationRow) ([]api.ItemResult, error) {
	answer, err := post[api.RelationsResponse](
		ctx, s.service, "/relations/batch", api.RelationsRequest{Relations: relations},
	)
	return answer.Results, err
}

// PutRelationsDryRun returns what would become of relations, and writes nothing. Users with the given uids are taken to
// be there.
func (s *VisibilityService) PutRelationsDryRun(
	ctx context.Context, relations []api.RelationRow, uids ...string,
) ([]api.ItemResult, error) {
	answer, err := call[api.RelationsResponse](
		ctx, s.service, http.MethodPost, "/relations/batch", url.Values{"dryRun": {"true"}},
		api.RelationsRequest{Relations: relations, AssumedUIDs: uids},
	)
	return answer.Data.Results, err
}
