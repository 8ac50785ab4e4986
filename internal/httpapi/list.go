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
	return answer{data: items, meta: &api.Meta{Pagination: paginationOf(list)}}
}

func paginationOf[T any](list directory.List[T]) *api.Pagination {
	return &api.Pagination{
		Total: list.Total, Count: len(list.Items), PerPage: list.Page.Size, CurrentPage: list.Page.Number,
		TotalPages: (list.Total + list.Page.Size - 1) / list.Page.Size,
	}
}

// outcomes returns, for each item of a bulk call, whether it succeeded, with a message for those that did.
func outcomes(done []directory.Outcome, message string) map[string]any {
	shown := map[string]any{}
	for _, outcome := range done {
		if outcome.Err != nil {
			shown[outcome.ID] = api.ItemResult{Message: outcome.Err.Message, Code: api.Code(outcome.Err.Code)}
			continue
		}
		shown[outcome.ID] = api.ItemResult{Success: true, Message: message}
	}
	return shown
}

// mask hides the middle of a secret: enough is left to tell two apart, and nothing to use.
func mask(secret string) string {
	const shown = 4
	if len(secret) < 4*shown {
		return "****"
	}
	return secret[:shown] + "****" + secret[len(secret)-shown:]
}
