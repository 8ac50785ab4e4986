package httpapi

import (
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// batchRoles makes many roles at once, with everything that belongs to them.
func batchRoles(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	values := f.list("roles", c.api.dir.Limits().BatchUsers)
	response := api.RolesResponse{Results: make([]api.RoleRowResult, len(values))}
	var good []directory.Role
	var places []int
	for i, value := range values {
		row, err := f.decodeRoleRow("roles."+strconv.Itoa(i)+".", value)
		if err != nil {
			response.Results[i] = api.RoleRowResult{Role: row.ID, Status: "failed", Error: c.showError(asError(err))}
			continue
		}
		good, places = append(good, row), append(places, i)
	}
	q := c.query()
	trial := q.trial(f)
	if err := errors.Join(f.err(), q.err()); err != nil {
		return answer{}, err
	}
	if len(good) == 0 {
		return data(response)
	}
	done, err := c.api.dir.PutRoles(c.ctx(), c.caller, good, trial)
	if err != nil {
		return answer{}, err
	}
	for i, result := range done {
		shown := api.RoleRowResult{Role: result.ID, Fields: result.Changed, Dropped: result.Dropped}
		shown.Status, shown.Error = c.showOutcome(result.Created, result.Changed, result.Err)
		response.Results[places[i]] = shown
	}
	return data(response)
}

// decodeRoleRow reads one role of a batch.
func (f *fields) decodeRoleRow(prefix string, value []byte) (role directory.Role, err error) {
	of, err := decodeFields(value)
	if err != nil {
		return role, err
	}
	role = directory.Role{
		ID: of.text("role"), Name: of.text("name"), Description: of.text("description"), Metadata: of.object("metadata"),
		CreatedAt: of.unixTime("createdAt"), UpdatedAt: of.unixTime("updatedAt"),
	}
	if settings := of.roleSettings(); settings != nil {
		role.Settings = *settings
	}
	if object := of.object("permissions"); object != nil && json.Unmarshal(object, &role.Permissions) != nil {
		of.wrong.Add("permissions", "The permissions must be values by the ids of permissions.")
	}
	role.Restricted = map[string]int64{}
	for _, feature := range of.texts("restrictedFeatures") {
		role.Restricted[feature] = 0
	}
	if object := of.object("restrictedAt"); object != nil {
		since := map[string]int64{}
		if json.Unmarshal(object, &since) != nil {
			of.wrong.Add("restrictedAt", "The restrictedAt must be times in Unix seconds by feature.")
		}
		for feature, at := range since {
			if _, restricted := role.Restricted[feature]; !restricted {
				of.wrong.Add("restrictedAt."+plainName(feature), "The feature is not among the restrictedFeatures.")
			}
			role.Restricted[feature] = at
		}
	}
	f.adopt(of, prefix)
	return role, of.err()
}
