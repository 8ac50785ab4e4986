package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rollcall/rollcall/api"
)

// Page is one page of a list.
type Page[T any] struct {
	Items      []T
	Pagination api.Pagination
	// NextCursor is what to send as cursor for the next page of a walk. It is empty on the last page, and outside a walk.
	NextCursor string
}

// PageOptions choose a page. Zero means the first page of 100 items.
type PageOptions struct {
	Page    int
	PerPage int
}

func (o PageOptions) query() url.Values {
	query := url.Values{}
	if o.Page > 0 {
		query.Set("page", strconv.Itoa(o.Page))
	}
	if o.PerPage > 0 {
		query.Set("perPage", strconv.Itoa(o.PerPage))
	}
	return query
}

func list[T any](ctx context.Context, s service, path string, query url.Values) (Page[T], error) {
	answer, err := call[[]T](ctx, s, http.MethodGet, path, query, nil)
	page := Page[T]{Items: answer.Data}
	if err == nil && answer.Meta != nil {
		page.NextCursor = answer.Meta.NextCursor
		if answer.Meta.Pagination != nil {
			page.Pagination = *answer.Meta.Pagination
		}
	}
	return page, err
}

// pagesFrom iterates over the items of all pages from a number on, fetching each page when it is reached.
func pagesFrom[T any](
	ctx context.Context, s service, path string, query url.Values, number int, yield func(T, error) bool,
) {
	for ; ; number++ {
		query.Set("page", strconv.Itoa(number))
		page, err := list[T](ctx, s, path, query)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, item := range page.Items {
			if !yield(item, nil) {
				return
			}
		}
		if len(page.Items) == 0 { // what a server says of totals may be wrong
			return
		}
	}
}

// walk iterates over the items of a list that has cursors. A server that does not know them is asked page by page.
func walk[T any](ctx context.Context, s service, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query.Set("cursor", CursorStart)
		for first := true; ; first = false {
			answer, err := call[[]T](ctx, s, http.MethodGet, path, query, nil)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range answer.Data {
				if !yield(item, nil) {
					return
				}
			}
			if answer.Meta == nil {
				return
			}
			if answer.Meta.NextCursor == "" {
				pagination := answer.Meta.Pagination
				if first && len(answer.Data) > 0 && (pagination == nil || pagination.TotalPages != 1) {
					query.Del("cursor")
					pagesFrom(ctx, s, path, query, 2, yield)
				}
				return
			}
			query.Set("cursor", answer.Meta.NextCursor)
		}
	}
}
