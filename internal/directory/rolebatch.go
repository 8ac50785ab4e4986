package directory

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// Trial is a dry run of a batch: it tells what would become of the rows, and keeps nothing.
type Trial struct {
	// Roles and UIDs are taken to be there: what else the import makes that the batch is part of.
	Roles []string
	UIDs  []UID
}

// errTrial ends an update so that nothing of it is kept.
var errTrial = errors.New("dry run")

// writeOrTry makes an update, or with a trial does as if, and returns what fn does.
func writeOrTry[T any](
	ctx context.Context, d *Directory, caller Caller, reads []UID, trial *Trial,
	fn func(tx Writer, log *logbook) (T, error),
) (T, error) {
	var told T
	done, err := write(ctx, d, caller, reads, func(tx Writer, log *logbook) (T, error) {
		result, err := fn(tx, log)
		if err == nil && trial != nil {
			told, err = result, errTrial
		}
		return result, err
	})
	if errors.Is(err, errTrial) {
		return told, nil
	}
	return done, err
}

// RoleRowResult is what became of a row.
type RoleRowResult struct {
	// ID is as the row had it when the row was refused.
	ID      string
	Created bool
	// Changed names what was changed of a role that was there.
	Changed []string
	// Dropped are roles that permissions of the row named and that there are not, by permission.
	Dropped map[string][]string
	Err     *Error `json:",omitempty"`
}

// PutRoles makes many roles in one durable write, or makes those that are there become as they are here. Their order
// does not matter: their permissions may name each other. One that is refused does not hold up the others. What a
// permission says of a role that there is not is left out, as if that role had been deleted later. UpdatedAt is taken
// as it is, and a CreatedAt of zero is now, or that of the role that is there. With a trial, nothing is kept.
// Errors: CodeBadRequest for no or too many rows.
func (d *Directory) PutRoles(
	ctx context.Context, caller Caller, rows []Role, trial *Trial,
) ([]RoleRowResult, error) {
	if err := d.checkBatch("roles", len(rows)); err != nil {
		return nil, err
	}
	return writeOrTry(ctx, d, caller, nil, trial, func(tx Writer, log *logbook) ([]RoleRowResult, error) {
		roles, err := tx.Roles(log.app)
		if err != nil {
			return nil, err
		}
		results := make([]RoleRowResult, len(rows))
		there := map[string]Role{}
		for _, role := range roles {
			there[role.ID] = role
		}
		known := slices.Clone(roles)
		for i := range rows {
			row := &rows[i]
			if err := d.checkRoleRow(row); err != nil {
				results[i] = RoleRowResult{ID: row.ID, Err: refusal(err)}
				continue
			}
			results[i].ID = strings.ToLower(row.ID)
			if slices.ContainsFunc(known, func(role Role) bool { return role.ID == results[i].ID }) {
				continue
			}
			if len(known) >= d.limits.RolesPerApp {
				results[i].Err = errTooManyRoles(d.limits.RolesPerApp)
				continue
			}
			known = append(known, Role{ID: results[i].ID})
		}
		for i := range rows {
			if results[i].Err != nil {
				continue
			}
			if err := putRole(tx, log, there, known, rows[i], &results[i]); err != nil {
				return nil, err
			}
		}
		return results, nil
	})
}

// checkRoleRow checks everything of a row but the roles that its permissions name.
func (d *Directory) checkRoleRow(row *Role) error {
	if err := d.checkRole(row); err != nil {
		return err
	}
	var wrong FieldErrors
	restricted := map[string]int64{}
	for _, sent := range slices.Sorted(maps.Keys(row.Restricted)) {
		feature, known := featureID(sent)
		if !known {
			wrong.Add("restrictedFeatures."+sent, "%s", noSuchFeature(sent))
		}
		restricted[string(feature)] = row.Restricted[sent]
	}
	row.Restricted = restricted
	return wrong.Err()
}

// putRole makes a role as a row has it, and notes what that is. there are the roles by id, and known those that
// permissions may name.
func putRole(
	tx Writer, log *logbook, there map[string]Role, known []Role, role Role, result *RoleRowResult,
) error {
	before, exists := there[result.ID]
	role.ID = result.ID
	var wrong FieldErrors
	role.Permissions, result.Dropped = checkPermissions(&wrong, role.Permissions, known)
	if err := wrong.Err(); err != nil {
		result.Err = refusal(err)
		return nil
	}
	if role.CreatedAt == 0 {
		if role.CreatedAt = before.CreatedAt; !exists {
			role.CreatedAt = log.at
		}
	}
	for feature, at := range role.Restricted {
		if at != 0 {
			continue
		}
		if role.Restricted[feature] = log.at; before.Restricted[feature] != 0 {
			role.Restricted[feature] = before.Restricted[feature]
		}
	}
	if result.Changed = changedOfRole(before, role); exists && len(result.Changed) == 0 {
		return nil
	}
	if err := tx.PutRole(log.app, role); err != nil {
		return err
	}
	there[role.ID] = role
	if !exists {
		result.Created, result.Changed = true, nil
		return log.append(RoleCreated, role.ID)
	}
	return log.append(RoleUpdated, role.ID, result.Changed...)
}

// checkPermissions returns the permissions to keep, and the roles that they named and that there are not.
func checkPermissions(
	wrong *FieldErrors, values map[string]json.RawMessage, known []Role,
) (kept map[string]json.RawMessage, dropped map[string][]string) {
	for _, id := range slices.Sorted(maps.Keys(values)) {
		value := values[id]
		if permission, _ := permissionByID(id); permission.DataType == TypeRolesStringArray {
			var missing []string
			if value, missing = withoutMissing(value, known); len(missing) > 0 {
				if dropped == nil {
					dropped = map[string][]string{}
				}
				dropped[id] = missing
			}
		}
		value, reason := checkPermission(id, value, known)
		if reason != "" {
			wrong.Add("permissions."+id, "%s", reason)
			continue
		}
		if kept == nil {
			kept = map[string]json.RawMessage{}
		}
		kept[id] = value
	}
	return kept, dropped
}

// withoutMissing takes out of a list of roles those that there are not.
func withoutMissing(value json.RawMessage, known []Role) (kept json.RawMessage, missing []string) {
	var named []string
	if json.Unmarshal(value, &named) != nil {
		return value, nil // which is refused
	}
	named = slices.DeleteFunc(named, func(id string) bool {
		gone := !slices.ContainsFunc(known, func(role Role) bool { return role.ID == strings.ToLower(id) })
		if gone {
			missing = append(missing, id)
		}
		return gone
	})
	if len(missing) == 0 {
		return value, nil
	}
	kept, err := json.Marshal(named)
	if err != nil {
		return value, nil // texts are always JSON
	}
	return kept, missing
}

// changedOfRole names what of a role differs.
func changedOfRole(before, after Role) (changed []string) {
	for _, field := range []struct {
		name string
		same bool
	}{
		{"name", before.Name == after.Name},
		{"description", before.Description == after.Description},
		{"metadata", sameJSON(before.Metadata, after.Metadata)},
		{"settings", before.Settings == after.Settings},
		{"restrictedFeatures", maps.Equal(before.Restricted, after.Restricted)},
		{"createdAt", before.CreatedAt == after.CreatedAt},
		{"updatedAt", before.UpdatedAt == after.UpdatedAt},
	} {
		if !field.same {
			changed = append(changed, field.name)
		}
	}
	ids := map[string]bool{}
	for id := range before.Permissions {
		ids[id] = true
	}
	for id := range after.Permissions {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		_, had := before.Permissions[id]
		if _, has := after.Permissions[id]; had != has || !sameJSON(before.Permissions[id], after.Permissions[id]) {
			changed = append(changed, "permissions."+id)
		}
	}
	return changed
}
