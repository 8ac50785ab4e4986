package client

import (
	"context"
	"time"

	"github.com/rollcall/rollcall/api"
)

// APIKeysService calls /apikeys. Keys go by their text or their id.
type APIKeysService struct{ service }

// APIKeyListOptions select API keys. Zero fields do not restrict.
type APIKeyListOptions struct {
	PageOptions
	Scope     string
	SearchKey string
}

// Create makes an API key. Code: ERR_PLAN_QUOTA_RESTRICTION when the app has too many.
func (s *APIKeysService) Create(ctx context.Context, request api.CreateAPIKeyRequest) (api.APIKey, error) {
	return post[api.APIKey](ctx, s.service, "/apikeys", request)
}

// List returns one page of API keys, newest first, masked unless the app reveals secrets.
func (s *APIKeysService) List(ctx context.Context, options APIKeyListOptions) (Page[api.APIKey], error) {
	query := options.query()
	if options.Scope != "" {
		query.Set("scope", options.Scope)
	}
	if options.SearchKey != "" {
		query.Set("searchKey", options.SearchKey)
	}
	return list[api.APIKey](ctx, s.service, "/apikeys", query)
}

// Get returns an API key. Code: ERR_APIKEY_NOT_FOUND.
func (s *APIKeysService) Get(ctx context.Context, key string) (api.APIKey, error) {
	return get[api.APIKey](ctx, s.service, "/apikeys/"+segment(key), nil)
}

// Update changes the name or scope of another API key than the client's own.
func (s *APIKeysService) Update(ctx context.Context, key string, request api.UpdateAPIKeyRequest) (api.APIKey, error) {
	return put[api.APIKey](ctx, s.service, "/apikeys/"+segment(key), request)
}

// Rotate makes a key of the same name and scope in the place of another, which may be the client's own, and which is
// still accepted for a time of whole seconds. The client goes on with the key that it has.
func (s *APIKeysService) Rotate(ctx context.Context, key string, grace time.Duration) (api.APIKey, error) {
	seconds := int64(grace / time.Second)
	return post[api.APIKey](
		ctx, s.service, "/apikeys/"+segment(key)+"/rotate", api.RotateAPIKeyRequest{GraceSeconds: &seconds},
	)
}

// Delete revokes another API key than the client's own, and with RevokeTokens the auth tokens it minted.
func (s *APIKeysService) Delete(
	ctx context.Context, key string, request api.DeleteAPIKeyRequest,
) (api.RevokedResponse, error) {
	return remove[api.RevokedResponse](ctx, s.service, "/apikeys/"+segment(key), request)
}
