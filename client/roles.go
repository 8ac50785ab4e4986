package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/rollcall/rollcall/api"
)

// RolesService calls /roles.
type RolesService struct{ service }

func rolePath(role string) string { return "/roles/" + segment(role) }

// Create adds a role.
func (s *RolesService) Create(ctx context.Context, request api.CreateRoleRequest) (api.Role, error) {
	return post[api.Role](ctx, s.service, "/roles", request)
}

// List returns one page of roles, oldest first.
func (s *RolesService) List(ctx context.Context, options PageOptions) (Page[api.Role], error) {
	return list[api.Role](ctx, s.service, "/roles", options.query())
}

// Get returns a role. Code: ERR_ROLE_NOT_FOUND.
func (s *RolesService) Get(ctx context.Context, role string) (api.Role, error) {
	return get[api.Role](ctx, s.service, rolePath(role), nil)
}

// Update changes the fields of a role that request sets.
func (s *RolesService) Update(ctx context.Context, role string, request api.UpdateRoleRequest) (api.Role, error) {
	return put[api.Role](ctx, s.service, rolePath(role), request)
}

// Delete removes a role; its users get the default role.
func (s *RolesService) Delete(ctx context.Context, role string) error {
	_, err := remove[api.Success](ctx, s.service, rolePath(role), nil)
	return err
}

// Permissions returns the definitions of all permissions with what the role sets.
func (s *RolesService) Permissions(ctx context.Context, role string) ([]api.Permission, error) {
	return get[[]api.Permission](ctx, s.service, rolePath(role)+"/permissions", nil)
}

// SetPermissions sets permissions by id and returns all that the role sets then. It fails when one was refused; the
// others are set all the same.
func (s *RolesService) SetPermissions(
	ctx context.Context, role string, request api.UpdatePermissionsRequest,
) (map[string]json.RawMessage, error) {
	answer, err := put[map[string]json.RawMessage](ctx, s.service, rolePath(role)+"/permissions", request)
	if err != nil {
		return nil, err
	}
	var set map[string]json.RawMessage
	if err := json.Unmarshal(answer["permissions"], &set); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	delete(answer, "permissions")
	return set, refusedItem(answer)
}

// refusedItem returns an error for the first item of a bulk answer that was refused.
func refusedItem(answer map[string]json.RawMessage) error {
	for id, raw := range answer {
		var outcome api.Success
		if err := json.Unmarshal(raw, &outcome); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if !outcome.Success {
			return fmt.Errorf("%s: %s", id, outcome.Message)
		}
	}
	return nil
}

// DeletePermission puts a permission back to its default and returns what the role still sets.
func (s *RolesService) DeletePermission(
	ctx context.Context, role, permission string,
) (map[string]json.RawMessage, error) {
	answer, err := remove[api.PermissionsResponse](ctx, s.service, rolePath(role)+"/permissions/"+segment(permission), nil)
	return answer.Permissions, err
}

// RestrictFeatures keeps users with the role from using features. It fails when one was refused.
func (s *RolesService) RestrictFeatures(ctx context.Context, role string, features ...string) error {
	answer, err := post[map[string]json.RawMessage](
		ctx, s.service, rolePath(role)+"/restrictedfeatures", api.RestrictFeaturesRequest{Features: features},
	)
	if err != nil {
		return err
	}
	return refusedItem(answer)
}

// RestrictedFeatures returns one page of the features that users with the role may not use.
func (s *RolesService) RestrictedFeatures(
	ctx context.Context, role string, options PageOptions,
) (Page[api.RestrictedFeature], error) {
	return list[api.RestrictedFeature](ctx, s.service, rolePath(role)+"/restrictedfeatures", options.query())
}

// AllowFeatures takes back RestrictFeatures.
func (s *RolesService) AllowFeatures(ctx context.Context, role string, request api.AllowFeaturesRequest) error {
	_, err := remove[api.Success](ctx, s.service, rolePath(role)+"/restrictedfeatures", request)
	return err
}

// Batch makes up to 1,000 roles in one durable write, or makes those that are there become as the rows say, and
// returns what became of each. Their order does not matter.
func (s *RolesService) Batch(ctx context.Context, rows []api.RoleRow) ([]api.RoleRowResult, error) {
	answer, err := post[api.RolesResponse](ctx, s.service, "/roles/batch", api.RolesRequest{Roles: rows})
	return answer.Results, err
}

// BatchDryRun returns what would become of the rows of a batch, and writes nothing.
func (s *RolesService) BatchDryRun(ctx context.Context, rows []api.RoleRow) ([]api.RoleRowResult, error) {
	answer, err := call[api.RolesResponse](
		ctx, s.service, http.MethodPost, "/roles/batch", url.Values{"dryRun": {"true"}}, api.RolesRequest{Roles: rows},
	)
	return answer.Data.Results, err
}
