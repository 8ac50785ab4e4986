package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/api"
)

// UsersService calls /users.
type UsersService struct{ service }

// Create adds a user. An authOnly key suffices. Codes: ERR_UID_ALREADY_EXISTS, ERR_ROLE_NOT_FOUND, ERR_BAD_REQUEST.
func (s *UsersService) Create(ctx context.Context, request api.CreateUserRequest) (api.User, error) {
	return post[api.User](ctx, s.service, "/users", request)
}

// Get returns a user. Code: ERR_UID_NOT_FOUND, also for a deactivated one.
func (s *UsersService) Get(ctx context.Context, uid string) (api.User, error) {
	return get[api.User](ctx, s.service, "/users/"+segment(uid), nil)
}

// GetWithDeactivated is Get, and returns a deactivated user too, whose DeactivatedAt says since when it is. It needs a
// fullAccess key.
func (s *UsersService) GetWithDeactivated(ctx context.Context, uid string) (api.User, error) {
	return get[api.User](ctx, s.service, "/users/"+segment(uid), url.Values{"withDeactivated": {"true"}})
}

// Update changes the fields of a user that request sets. An authOnly key suffices.
func (s *UsersService) Update(ctx context.Context, uid string, request api.UpdateUserRequest) (api.User, error) {
	return put[api.User](ctx, s.service, "/users/"+segment(uid), request)
}

// UserListOptions select users. Zero fields do not restrict.
type UserListOptions struct {
	PageOptions
	// SearchKey is a prefix of the uid, or of the name from any of its words on.
	SearchKey string
	SearchIn  []string
	// NameContains holds words that the name must have, each by its beginning, at most 8.
	NameContains string
	Roles        []string
	Tags         []string
	UIDs         []string
	// Metadata selects users by values of metadata keys that the app declares: each key, any of its values.
	Metadata map[string][]string
	// Status is online, for which the contract says available, or offline; or of those online, busy or away.
	Status   string
	WithTags bool
	// FriendsOnly and HideBlockedUsers are for calls as a user, or on behalf of one.
	FriendsOnly      bool
	HideBlockedUsers bool
	// SortBy is name, status, createdAt, updatedAt or lastActiveAt, and SortOrder asc or desc.
	SortBy, SortOrder string
	// UpdatedAt, in Unix seconds, selects users changed after it.
	UpdatedAt       int64
	OnlyDeactivated bool
	WithDeactivated bool
	// Cursor continues a walk behind the page it came with, whatever Page says; CursorStart begins one.
	Cursor string
}

// CursorStart is the cursor that begins a walk.
const CursorStart = "start"

func (o UserListOptions) query() url.Values {
	query := o.PageOptions.query()
	for name, value := range map[string]string{
		"searchKey": o.SearchKey, "nameContains": o.NameContains, "status": o.Status, "sortBy": o.SortBy,
		"sortOrder": o.SortOrder, "cursor": o.Cursor,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, values := range map[string][]string{"searchIn": o.SearchIn, "roles": o.Roles, "uids": o.UIDs} {
		if len(values) > 0 {
			query.Set(name, strings.Join(values, ","))
		}
	}
	for _, tag := range o.Tags {
		query.Add("tags", tag)
	}
	for key, values := range o.Metadata {
		for _, value := range values {
			query.Add("metadata["+key+"]", value)
		}
	}
	if o.UpdatedAt != 0 {
		query.Set("updatedAt", strconv.FormatInt(o.UpdatedAt, 10))
	}
	for name, value := range map[string]bool{
		"withTags": o.WithTags, "onlyDeactivated": o.OnlyDeactivated, "withDeactivated": o.WithDeactivated,
		"friendsOnly": o.FriendsOnly, "hideBlockedUsers": o.HideBlockedUsers,
	} {
		if value {
			query.Set(name, "true")
		}
	}
	return query
}

// List returns one page of users.
func (s *UsersService) List(ctx context.Context, options UserListOptions) (Page[api.User], error) {
	return list[api.User](ctx, s.service, "/users", options.query())
}

// ListRaw is List, with each user as the server wrote it.
func (s *UsersService) ListRaw(ctx context.Context, options UserListOptions) (Page[json.RawMessage], error) {
	return list[json.RawMessage](ctx, s.service, "/users", options.query())
}

// All walks over all users that match, from the page that options name on. Whatever is written meanwhile, a user that
// exists and does not change comes exactly once. It ends after the first error.
func (s *UsersService) All(ctx context.Context, options UserListOptions) iter.Seq2[api.User, error] {
	return walk[api.User](ctx, s.service, "/users", options.query())
}

// Export returns everything that is stored about a user.
func (s *UsersService) Export(ctx context.Context, uid string) (api.Dossier, error) {
	return get[api.Dossier](ctx, s.service, "/users/"+segment(uid)+"/export", nil)
}

// Lookup returns up to 1,000 users at once, in the order of uids, and those that there are not.
func (s *UsersService) Lookup(ctx context.Context, uids ...string) (api.LookupResponse, error) {
	return post[api.LookupResponse](ctx, s.service, "/users/lookup", api.LookupRequest{UIDs: uids})
}

// Upsert creates a user, or changes the fields that request sets. An authOnly key suffices.
func (s *UsersService) Upsert(ctx context.Context, uid string, request api.UpdateUserRequest) (api.User, error) {
	answer, err := call[api.User](
		ctx, s.service, http.MethodPut, "/users/"+segment(uid), url.Values{"upsert": {"true"}}, request,
	)
	return answer.Data, err
}

// Batch creates and changes up to 1,000 users in one durable write, and returns what became of each row.
func (s *UsersService) Batch(ctx context.Context, rows []api.UserRow) ([]api.UserRowResult, error) {
	answer, err := post[api.BatchResponse](ctx, s.service, "/users/batch", api.BatchRequest{Users: rows})
	return answer.Results, err
}

// BatchDryRun returns what would become of the rows of a batch, and writes nothing. The given roles are taken to be
// there.
func (s *UsersService) BatchDryRun(
	ctx context.Context, rows []api.UserRow, roles ...string,
) ([]api.UserRowResult, error) {
	answer, err := call[api.BatchResponse](
		ctx, s.service, http.MethodPost, "/users/batch", url.Values{"dryRun": {"true"}},
		api.BatchRequest{Users: rows, AssumedRoles: roles},
	)
	return answer.Data.Results, err
}

// Exists reports whether there is an active user with a uid that the caller may see.
func (s *UsersService) Exists(ctx context.Context, uid string) (bool, error) {
	_, err := s.Get(ctx, uid)
	if IsCode(err, api.CodeUIDNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Deactivate hides up to 25 users and suspends their auth tokens. Reactivate takes it back.
func (s *UsersService) Deactivate(ctx context.Context, uids ...string) (api.DeactivateUsersResponse, error) {
	return remove[api.DeactivateUsersResponse](ctx, s.service, "/users", api.DeactivateUsersRequest{UIDs: uids})
}

// Reactivate makes up to 25 deactivated users and their auth tokens work again.
func (s *UsersService) Reactivate(ctx context.Context, uids ...string) (api.ReactivateUsersResponse, error) {
	return put[api.ReactivateUsersResponse](ctx, s.service, "/users", api.ReactivateUsersRequest{UIDs: uids})
}

// Erase deletes a user for good, deactivated or not, with all that is known of it. Deactivate is what can be taken
// back.
func (s *UsersService) Erase(ctx context.Context, uid string) error {
	_, err := remove[api.Success](ctx, s.service, "/users/"+segment(uid), api.DeleteUserRequest{Permanent: true})
	return err
}

// AuthTokensService calls /users/{uid}/auth_tokens.
type AuthTokensService struct{ service }

func tokensOf(uid string) string { return "/users/" + segment(uid) + "/auth_tokens" }

// Create mints an auth token for a user: what the user's client logs in with. An authOnly key suffices.
func (s *AuthTokensService) Create(
	ctx context.Context, uid string, request api.CreateAuthTokenRequest,
) (api.AuthToken, error) {
	return post[api.AuthToken](ctx, s.service, tokensOf(uid), request)
}

// List returns one page of a user's auth tokens, newest first.
func (s *AuthTokensService) List(ctx context.Context, uid string, options PageOptions) (Page[api.AuthToken], error) {
	return list[api.AuthToken](ctx, s.service, tokensOf(uid), options.query())
}

// Get returns an auth token by its text or its id.
func (s *AuthTokensService) Get(ctx context.Context, uid, token string) (api.AuthToken, error) {
	return get[api.AuthToken](ctx, s.service, tokensOf(uid)+"/"+segment(token), nil)
}

// Update records the device that an auth token is used on.
func (s *AuthTokensService) Update(
	ctx context.Context, uid, token string, request api.UpdateAuthTokenRequest,
) (api.AuthToken, error) {
	return put[api.AuthToken](ctx, s.service, tokensOf(uid)+"/"+segment(token), request)
}

// Revoke ends one auth token.
func (s *AuthTokensService) Revoke(ctx context.Context, uid, token string) (api.RevokedResponse, error) {
	return remove[api.RevokedResponse](ctx, s.service, tokensOf(uid)+"/"+segment(token), nil)
}

// RevokeOfUser ends a user's auth tokens that were issued before a time in Unix seconds; zero means all.
func (s *AuthTokensService) RevokeOfUser(
	ctx context.Context, uid string, issuedBefore int64,
) (api.RevokedResponse, error) {
	return remove[api.RevokedResponse](
		ctx, s.service, tokensOf(uid), api.DeleteAuthTokensRequest{IssuedBefore: issuedBefore},
	)
}

// RevokeOfApp ends all auth tokens of the app that were issued before a time in Unix seconds.
func (s *AuthTokensService) RevokeOfApp(ctx context.Context, issuedBefore int64) (api.RevokedResponse, error) {
	return remove[api.RevokedResponse](
		ctx, s.service, "/auth_tokens", api.DeleteAuthTokensRequest{IssuedBefore: issuedBefore},
	)
}
