package httpapi

import (
	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// listOf answers with one page of a list.
func listOf[T, U any](list directory.List[T], show func(T) U) answer {
	items := make([]U, len(list.Items))
	for i, item := range list.Items {
		items[i] = show(item)
	}
	return answer{data: items, meta: &api.Meta{Pagination: &api.Pagination{
		Total: list.Total, Count: len(items), PerPage: list.Page.Size, CurrentPage: list.Page.Number,
		TotalPages: (list.Total + list.Page.Size - 1) / list.Page.Size,
	}}}
}

// mask hides the middle of a secret: enough is left to tell two apart, and nothing to use.
func mask(secret string) string {
	const shown = 4
	if len(secret) < 4*shown {
		return "****"
	}
	return secret[:shown] + "****" + secret[len(secret)-shown:]
}
