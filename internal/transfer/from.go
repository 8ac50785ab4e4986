package transfer

import (
	"context"
	"fmt"
	"iter"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// From reads the users of another server that speaks this API, page by page and no faster than it allows. Deactivated
// users and tags are asked for; a server that does not give them leaves them out.
func From(ctx context.Context, source *client.Client) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		number := 0
		for user, err := range source.Users.All(ctx, client.UserListOptions{PageOptions: client.PageOptions{PerPage: 1000}, WithTags: true, WithDeactivated: true}) {
			if err != nil {
				yield(Line{}, fmt.Errorf("read users of the other server: %w", err))
				return
			}
			number++
			if !yield(Line{Number: number, Entry: api.ExportLine{Type: "user", User: rowOf(user)}}, nil) {
				return
			}
		}
	}
}

// rowOf returns the row that makes a user as it was read.
func rowOf(user api.User) *api.UserRow {
	row := &api.UserRow{UID: user.UID}
	for _, field := range []struct {
		value string
		into  **string
	}{{user.Name, &row.Name}, {user.Avatar, &row.Avatar}, {user.Link, &row.Link}, {user.Role, &row.Role}, {user.StatusMessage, &row.StatusMessage}} {
		if field.value != "" {
			*field.into = &field.value
		}
	}
	if len(user.Metadata) > 0 {
		row.Metadata = &user.Metadata
	}
	if len(user.Tags) > 0 {
		row.Tags = &user.Tags
	}
	for _, field := range []struct {
		value int64
		into  **int64
	}{{user.CreatedAt, &row.CreatedAt}, {user.UpdatedAt, &row.UpdatedAt}, {user.LastActiveAt, &row.LastActiveAt}, {user.DeactivatedAt, &row.DeactivatedAt}} {
		if field.value != 0 {
			*field.into = &field.value
		}
	}
	return row
}
