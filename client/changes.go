package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rollcall/rollcall/api"
)

// ChangesService reads the change log of an app.
type ChangesService struct{ service }

// List returns at most limit changes with a revision above since, in order, and the app's last revision. Zero limit
// means 100.
func (s *ChangesService) List(
	ctx context.Context, since int64, limit int,
) (changes []api.Change, last int64, err error) {
	return s.list(ctx, url.Values{}, since, limit)
}

func (s *ChangesService) list(
	ctx context.Context, query url.Values, since int64, limit int,
) (changes []api.Change, last int64, err error) {
	query.Set("since", strconv.FormatInt(since, 10))
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	answer, err := call[[]api.Change](ctx, s.service, http.MethodGet, "/changes", query, nil)
	if err == nil && answer.Meta != nil && answer.Meta.Revision != nil {
		last = *answer.Meta.Revision
	}
	return answer.Data, last, err
}

// ListAbout is List of the changes that are about one user, who may be gone, also as the other one of two.
func (s *ChangesService) ListAbout(
	ctx context.Context, uid string, since int64, limit int,
) (changes []api.Change, last int64, err error) {
	return s.list(ctx, url.Values{"uid": {uid}}, since, limit)
}

// Follow iterates over the changes above since as they happen, each exactly once, in order. When the connection
// breaks, it connects again and goes on where it was. It ends when ctx does, or with the server's refusal.
func (s *ChangesService) Follow(ctx context.Context, since int64) iter.Seq2[api.Change, error] {
	return func(yield func(api.Change, error) bool) {
		from := func() (url.Values, string) { return url.Values{"since": {strconv.FormatInt(since, 10)}}, "" }
		err := s.client.follow(ctx, "/changes", from, func(event serverEvent) (bool, error) {
			var change api.Change
			if err := json.Unmarshal([]byte(event.data), &change); err != nil {
				return false, fmt.Errorf("read change: %w", err)
			}
			since = change.Revision
			return yield(change, nil), nil
		})
		if err != nil && ctx.Err() == nil {
			yield(api.Change{}, err)
		}
	}
}
