package client

import (
	"context"

	"github.com/rollcall/rollcall/api"
)

// MeService makes the calls of a logged-in user. It needs WithAuthToken.
type MeService struct{ service }

// Get returns the user whose token the client has, with a fresh socket JWT and the settings.
func (s *MeService) Get(ctx context.Context) (api.Me, error) {
	return get[api.Me](ctx, s.service, "/me", nil)
}

// Update changes the user's own profile. A role in it is ignored.
func (s *MeService) Update(ctx context.Context, request api.UpdateUserRequest) (api.Me, error) {
	return put[api.Me](ctx, s.service, "/me", request)
}

// LogOut revokes the token that the client has.
func (s *MeService) LogOut(ctx context.Context) error {
	_, err := remove[api.Success](ctx, s.service, "/me", nil)
	return err
}

// JWT returns a short-lived JWT that tells others who the user is. passthrough is put into it as it is.
func (s *MeService) JWT(ctx context.Context, passthrough any) (string, error) {
	answer, err := post[api.JWT](ctx, s.service, "/me/jwt", map[string]any{"passthrough": passthrough})
	return answer.JWT, err
}

// Settings returns the settings that chat clients work with.
func (s *MeService) Settings(ctx context.Context) (api.Settings, error) {
	return get[api.Settings](ctx, s.service, "/settings", nil)
}
