package httpapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

func listPermissions(c *call) (answer, error) {
	role, err := c.api.dir.GetRole(c.ctx(), c.caller, c.pathID("role"))
	if err != nil {
		return answer{}, err
	}
	var shown []api.Permission
	for _, permission := range directory.Permissions() {
		item := api.Permission{
			ID: permission.ID, Type: "role", Title: permission.Title, Description: permission.Description,
			DataType: string(permission.DataType), AvailableValues: permission.Available, CreatedAt: role.CreatedAt,
			UpdatedAt: max(role.CreatedAt, role.UpdatedAt),
		}
		if item.AvailableValues == nil {
			item.AvailableValues = []string{}
		}
		if permission.Default != "" {
			item.DefaultValue = &permission.Default
		}
		shown = append(shown, item)
	}
	return answer{data: shown, meta: &api.Meta{Permissions: role.Permissions}}, nil
}

// permissionsOf returns the permissions that a role sets, never nil.
func permissionsOf(role directory.Role) map[string]json.RawMessage {
	if role.Permissions == nil {
		return map[string]json.RawMessage{}
	}
	return role.Permissions
}

func updatePermissions(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	object := f.object("permissions")
	if object == nil {
		f.required("permissions")
	}
	if err := f.err(); err != nil {
		return answer{}, err
	}
	inner, err := decodeFields(object)
	if err != nil {
		return answer{}, err
	}
	values := map[string]json.RawMessage{}
	for _, permission := range inner.members {
		values[permission.name] = json.RawMessage(permission.value)
	}
	done, role, err := c.api.dir.SetPermissions(c.ctx(), c.caller, c.pathID("role"), values)
	if err != nil {
		return answer{}, err
	}
	shown, meta := outcomes(done, "The permission has been set.")
	shown["permissions"] = permissionsOf(role)
	return answer{data: shown, meta: meta}, nil
}

func deletePermission(c *call) (answer, error) {
	if err := c.nothing(); err != nil {
		return answer{}, err
	}
	role, err := c.api.dir.DeletePermission(c.ctx(), c.caller, c.pathID("role"), c.pathID("permission"))
	if err != nil {
		return answer{}, err
	}
	return data(api.PermissionsResponse{Permissions: permissionsOf(role)})
}

func restrictFeatures(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	features := f.texts("featuresToRestrict")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.RestrictFeatures(c.ctx(), c.caller, c.pathID("role"), features)
	if err != nil {
		return answer{}, err
	}
	shown, meta := outcomes(done, "The feature has been restricted.")
	for _, outcome := range done {
		if outcome.Err == nil && !directory.IsEnforced(outcome.ID) {
			const kept = "The restriction is kept for your messaging layer. It is not enforced here."
			shown[outcome.ID] = api.ItemResult{Success: true, Message: kept}
		}
	}
	return answer{data: shown, meta: meta}, nil
}

func listRestrictedFeatures(c *call) (answer, error) {
	q := c.query()
	page := q.page()
	if err := q.err(); err != nil {
		return answer{}, err
	}
	role, err := c.api.dir.GetRole(c.ctx(), c.caller, c.pathID("role"))
	if err != nil {
		return answer{}, err
	}
	keys := slices.SortedFunc(maps.Keys(role.Restricted), func(a, b string) int {
		return cmp.Or(cmp.Compare(role.Restricted[a], role.Restricted[b]), cmp.Compare(a, b))
	})
	return listOf(directory.PageOf(keys, page), func(key string) api.RestrictedFeature {
		title, description := directory.DescribeFeature(key)
		return api.RestrictedFeature{
			Title: title, Description: description, Key: key, Path: key, CreatedAt: role.Restricted[key],
		}
	}), nil
}

func allowFeatures(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	features, all := f.texts("featuresToAllow"), f.boolean("allowAll")
	if err := f.err(); err != nil {
		return answer{}, err
	}
	if err := c.api.dir.AllowFeatures(c.ctx(), c.caller, c.pathID("role"), features, all); err != nil {
		return answer{}, err
	}
	return success("The features have been allowed.")
}
