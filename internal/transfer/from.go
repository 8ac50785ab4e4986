package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// sourcePage is how many users are asked of another server at once: the most that the contract allows.
const sourcePage = 1000

// From reads the users of another server that speaks this API, page by page and no faster than it allows. Deactivated
// users and tags are asked for; a server that does not give them leaves them out. It goes on until a page is empty,
// whatever the server says of totals. Without cursors, users come to other pages while the list is read when others
// are deleted: then the pages are read once more, from the last to the first, which nobody can slip through. A user
// that cannot be understood has an error of its own.
func From(ctx context.Context, source *client.Client, ignoreUnknown bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		pull := &pull{
			source: source, reading: reading{File: &File{IgnoreUnknown: ignoreUnknown}, yield: yield},
			seed: maphash.MakeSeed(), seen: map[uint64]struct{}{},
		}
		if err := pull.all(ctx); err != nil && err != errStopped { //nolint:errorlint // nobody wraps it
			yield(Entry{}, fmt.Errorf("read users of the other server: %w", err))
		}
	}
}

// pull reads all users of another server.
type pull struct {
	reading
	source *client.Client
	seed   maphash.Seed
	// seen are hashes of the uids that have been handed out.
	seen map[uint64]struct{}
}

func (p *pull) all(ctx context.Context) error {
	page, err := p.page(ctx, client.UserListOptions{Cursor: client.CursorStart})
	for ; err == nil && page.NextCursor != ""; page, err = p.page(ctx, client.UserListOptions{Cursor: page.NextCursor}) {
		if _, err := p.take(page.Items); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if _, err := p.take(page.Items); err != nil {
		return err
	}
	// A server that knows cursors has given everybody, and answers what follows with what is known.
	last := 1
	for barren := 0; barren < 2; last++ {
		page, err := p.page(ctx, client.UserListOptions{PageOptions: client.PageOptions{Page: last + 1}})
		if err != nil {
			return err
		}
		if len(page.Items) == 0 {
			break
		}
		fresh, err := p.take(page.Items)
		if err != nil {
			return err
		}
		if barren++; fresh {
			barren = 0
		}
	}
	for number := last; number >= 1; number-- {
		page, err := p.page(ctx, client.UserListOptions{PageOptions: client.PageOptions{Page: number}})
		if err != nil {
			return err
		}
		if _, err := p.take(page.Items); err != nil {
			return err
		}
	}
	return nil
}

func (p *pull) page(ctx context.Context, options client.UserListOptions) (client.Page[json.RawMessage], error) {
	options.PerPage, options.WithTags, options.WithDeactivated = sourcePage, true, true
	return p.source.Users.ListRaw(ctx, options)
}

// take hands out those users of a page who have not been, and returns whether there were any.
func (p *pull) take(items []json.RawMessage) (fresh bool, err error) {
	for _, item := range items {
		var row *api.UserRow
		at := place{line: 1, column: 1}
		members, problem := membersOf(item, at)
		if problem == nil {
			row, problem = p.user(members, item, at)
		}
		known := string(item) // who cannot be understood is known by all that was said of it
		if row != nil && row.UID != "" {
			known = strings.ToLower(row.UID)
		}
		hash := maphash.String(p.seed, known)
		if _, seen := p.seen[hash]; seen {
			continue
		}
		p.seen[hash] = struct{}{}
		fresh = true
		if err := p.emit(item, place{}, api.ExportLine{Type: "user", User: row}, problem); err != nil {
			return fresh, err
		}
	}
	return fresh, nil
}
