package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

var ndjsonContentType = []string{"application/x-ndjson"}

// exportApp streams everything of the app that another directory can be made of, a JSON object a line. An export that
// ends without its last line, of type end, is not complete.
func exportApp(c *call) (answer, error) {
	control := http.NewResponseController(c.w)
	c.w.Header()["Content-Type"] = ndjsonContentType
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(http.StatusOK)
		return written, nil
	}
	lines := 0
	for record, err := range c.api.dir.Export(c.r.Context(), c.caller.App) {
		if err != nil {
			return written, err
		}
		if err := encodeLine(c.w, showRecord(record)); err != nil {
			return written, nil // the client went away
		}
		if lines++; lines%1000 == 0 {
			// A deadline is not to be had on every connection; those without one are closed when the server stops.
			_ = control.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
		}
	}
	_ = encodeLine(c.w, api.ExportLine{Type: "end", Lines: lines}) // a client that went away does not need it
	return written, nil
}

func showRecord(record directory.Record) api.ExportLine {
	switch {
	case record.Role != nil:
		role := showRole(*record.Role)
		return api.ExportLine{
			Type: "role", Role: &role, Permissions: record.Role.Permissions,
			RestrictedFeatures: slices.Sorted(maps.Keys(record.Role.Restricted)), RestrictedAt: record.Role.Restricted,
		}
	case record.User != nil:
		row := showRow(*record.User)
		return api.ExportLine{Type: "user", User: &row}
	default:
		pair := showPair(*record.Pair)
		return api.ExportLine{Type: string(record.Kind), Relation: &pair}
	}
}

// showRow returns a user as a row that makes the same user.
func showRow(user directory.User) api.UserRow {
	row := api.UserRow{UID: string(user.UID), CreatedAt: &user.CreatedAt}
	row.Name = &user.Name
	for _, field := range []struct {
		value *string
		into  **string
	}{
		{&user.Avatar, &row.Avatar},
		{&user.Link, &row.Link},
		{&user.Role, &row.Role},
		{&user.StatusMessage, &row.StatusMessage},
	} {
		if *field.value != "" {
			*field.into = field.value
		}
	}
	if len(user.Metadata) > 0 {
		row.Metadata = &user.Metadata
	}
	if len(user.Tags) > 0 {
		row.Tags = &user.Tags
	}
	for _, field := range []struct {
		value *int64
		into  **int64
	}{
		{&user.UpdatedAt, &row.UpdatedAt},
		{&user.LastActiveAt, &row.LastActiveAt},
		{&user.DeactivatedAt, &row.DeactivatedAt},
	} {
		if *field.value != 0 {
			*field.into = field.value
		}
	}
	return row
}

func showPair(pair directory.Pair) api.RelationRow {
	return api.RelationRow{UID: string(pair.UID), Other: string(pair.Other), At: pair.At}
}

// exportUser returns everything stored about one person.
func exportUser(c *call) (answer, error) {
	dossier, err := c.api.dir.ExportUser(c.ctx(), c.caller, c.pathID("uid"))
	if err != nil {
		return answer{}, err
	}
	shown := api.Dossier{
		User: showRow(dossier.User), Tokens: []api.AuthToken{}, Changes: []api.Change{},
		Relations: map[string][]api.RelationRow{},
	}
	for _, token := range dossier.Tokens {
		token := c.showToken(token, true)
		token.Token = ""
		shown.Tokens = append(shown.Tokens, token)
	}
	for kind, pairs := range dossier.Pairs {
		for _, pair := range pairs {
			shown.Relations[string(kind)] = append(shown.Relations[string(kind)], showPair(pair))
		}
	}
	for _, change := range dossier.Changes {
		shown.Changes = append(shown.Changes, showChange(change))
	}
	shown.Presence = showTransitions(dossier.Transitions)
	return data(shown)
}

// batchRelations makes many blocks, friendships and friend requests at once.
func batchRelations(c *call) (answer, error) {
	f, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	values := f.list("relations", c.api.dir.Limits().BatchUsers)
	rows, refused := f.decodeRelations(values)
	if len(refused) > 0 {
		f.wrong.Add("relations", "Each of the relations needs a type (block, friend or friendRequest), a uid and an other.")
	}
	q := c.query()
	trial := q.trial(f)
	if err := errors.Join(f.err(), q.err()); err != nil {
		return answer{}, err
	}
	done, err := c.api.dir.PutRelations(c.ctx(), c.caller, rows, trial)
	if err != nil {
		return answer{}, err
	}
	response := api.RelationsResponse{Results: make([]api.ItemResult, len(done))}
	for i, outcome := range done {
		response.Results[i] = api.ItemResult{Success: true, Message: "The relation is there."}
		if outcome.Unchanged {
			response.Results[i] = api.ItemResult{Success: true, Message: "The relation was there already.", Unchanged: true}
		}
		if outcome.Err != nil {
			response.Results[i] = api.ItemResult{Message: outcome.Err.Message, Code: api.Code(outcome.Err.Code)}
		}
	}
	return data(response)
}

func (f *fields) decodeRelations(values []jsontext.Value) (rows []directory.RelationRow, refused []int) {
	for i, value := range values {
		of, err := decodeFields(value)
		if err != nil {
			return nil, append(refused, i)
		}
		row := directory.RelationRow{Kind: directory.PairKind(of.text("type")), Pair: directory.Pair{
			UID: directory.FoldUID(of.id("uid")), Other: directory.FoldUID(of.id("other")), At: of.unixTime("at"),
		}}
		known := row.Kind == directory.Blocks || row.Kind == directory.Friendships || row.Kind == directory.FriendRequests
		if of.err() != nil || !known || row.UID == "" || row.Other == "" {
			refused = append(refused, i)
		}
		f.adopt(of, fmt.Sprintf("relations.%d.", i))
		rows = append(rows, row)
	}
	return rows, refused
}
