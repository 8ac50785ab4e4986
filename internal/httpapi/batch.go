package httpapi

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// decodeRow reads one user of a batch.
func (f *fields) decodeRow() directory.UserRow {
	return directory.UserRow{
		UID: f.id("uid"), Patch: f.decodePatch(), MergeMetadata: f.object("mergeMetadata"),
		CreatedAt: f.maybeTime("createdAt"), UpdatedAt: f.maybeTime("updatedAt"), LastActiveAt: f.maybeTime("lastActiveAt"),
		DeactivatedAt: f.maybeTime("deactivatedAt"),
	}
}

// decodeRows reads a list of users, which have names, or without them their index. Rows that are not well-formed have
// their errors in refused, by their index.
func (f *fields) decodeRows(
	values []jsontext.Value, names []string,
) (rows []directory.UserRow, refused map[int]*directory.Error) {
	refused = map[int]*directory.Error{}
	for i, value := range values {
		of, err := decodeFields(value)
		var row directory.UserRow
		if err == nil {
			row = of.decodeRow()
			err = of.err()
			name := strconv.Itoa(i)
			if names != nil {
				name = plainName(names[i])
			}
			f.adopt(of, "users."+name+".")
		}
		if err != nil {
			refused[i] = asError(err)
		}
		rows = append(rows, row)
	}
	return rows, refused
}

func asError(err error) *directory.Error {
	if refused, ok := err.(*directory.Error); ok { //nolint:errorlint // what decoding answers is not wrapped
		return refused
	}
	return errorf(api.CodeBadRequest, "The row is not well-formed.")
}

// upsertRows makes or changes the users of the rows that are well-formed, and returns a result for each.
func (c *call) upsertRows(
	rows []directory.UserRow, refused map[int]*directory.Error, trial *directory.Trial,
) ([]directory.UserRowResult, error) {
	results := make([]directory.UserRowResult, len(rows))
	var good []directory.UserRow
	var places []int
	for i, row := range rows {
		if err := refused[i]; err != nil {
			results[i] = directory.UserRowResult{UID: row.UID, Err: err}
			continue
		}
		good, places = append(good, row), append(places, i)
	}
	if len(good) == 0 {
		return results, nil
	}
	done, err := c.api.dir.UpsertUsers(c.ctx(), c.caller, good, trial)
	for i, result := range done {
		results[places[i]] = result
	}
	return results, err
}

func batchUsers(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	values := f.list("users", c.api.dir.Limits().BatchUsers)
	rows, refused := f.decodeRows(values, nil)
	q := c.query()
	trial := q.trial(f)
	if err := errors.Join(f.err(), q.err()); err != nil {
		return answer{}, err
	}
	results, err := c.upsertRows(rows, refused, trial)
	if err != nil {
		return answer{}, err
	}
	response := api.BatchResponse{Results: make([]api.UserRowResult, len(results))}
	for i, result := range results {
		shown := api.UserRowResult{UID: result.UID, Fields: result.Changed}
		shown.Status, shown.Error = c.showOutcome(result.Created, result.Changed, result.Err)
		response.Results[i] = shown
	}
	return data(response)
}

// trial returns what a dry run takes to be there, when the request asks for one; else nil.
func (q *query) trial(f *fields) *directory.Trial {
	trial := &directory.Trial{Roles: f.texts("assumedRoles")}
	for _, uid := range f.ids("assumedUids") {
		trial.UIDs = append(trial.UIDs, directory.UID(uid))
	}
	if !q.boolean("dryRun") {
		if len(trial.Roles)+len(trial.UIDs) > 0 {
			q.wrong.Add("dryRun", "Only a dry run takes roles and users to be there that are not.")
		}
		return nil
	}
	return trial
}

// showOutcome tells in a word what became of a row.
func (c *call) showOutcome(
	created bool, changed []string, refused *directory.Error,
) (status string, problem *api.Error) {
	switch {
	case refused != nil:
		return "failed", c.showError(refused)
	case created:
		return "created", nil
	case len(changed) > 0:
		return "updated", nil
	}
	return "unchanged", nil
}

// showError tells what the caller may know of an error.
func (c *call) showError(err *directory.Error) *api.Error {
	err = c.caller.Told(err)
	return &api.Error{
		Code: api.Code(err.Code), Message: err.Message, DevMessage: err.Message, Source: api.Source, Details: err.Details,
	}
}

// list reads a member that is a list of 1 to most values.
func (f *fields) list(name string, most int) []jsontext.Value {
	var values []jsontext.Value
	if f.has(name) && json.Unmarshal(f.value(name), &values) != nil {
		f.wrong.Add(name, "The %s must be a list.", name)
		return nil
	}
	if len(values) == 0 {
		f.required(name)
	} else if len(values) > most {
		f.wrong.Add(name, "The %s may not be more than %d.", name, most)
	}
	return values
}

// importUsers is the contract's data import (rest.md section 9.4): users by their uid, or as a list.
func importUsers(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	var values []jsontext.Value
	var names []string
	if f.has("users") && f.value("users").Kind() == '{' {
		byUID, err := decodeFields(f.value("users"))
		if err != nil {
			return answer{}, err
		}
		slices.SortFunc(byUID.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
		for _, user := range byUID.members {
			names, values = append(names, user.name), append(values, user.value)
		}
	} else {
		values = f.list("users", c.api.dir.Limits().ImportUsers)
	}
	if len(values) == 0 || len(values) > c.api.dir.Limits().ImportUsers {
		f.wrong.Add("users", "The users must be 1 to %d.", c.api.dir.Limits().ImportUsers)
	}
	rows, refused := f.decodeRows(values, names)
	if err := f.err(); err != nil {
		return answer{}, err
	}
	for i := range rows {
		switch {
		case names == nil:
		case rows[i].UID == "":
			rows[i].UID = names[i]
		case directory.FoldUID(rows[i].UID) != directory.FoldUID(names[i]):
			refused[i] = errorf(api.CodeImportFormat, "The uid must be the one under which the user is given.")
		}
	}
	results, err := c.upsertRows(rows, refused, nil)
	if err != nil {
		return answer{}, err
	}
	shown := map[string]any{}
	for i, result := range results {
		name := result.UID
		if names != nil {
			name = names[i]
		} else if name == "" {
			name = strconv.Itoa(i)
		}
		name = strings.ToLower(name)
		if result.Err != nil {
			shown[name] = map[string]any{"success": false, "error": c.showError(result.Err)}
			continue
		}
		shown[name] = map[string]any{"success": true, "data": c.showUser(&result.User)}
	}
	return data(shown)
}
