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

// joined answers with a page of a list whose items have something that the contract's do not.
func joined[T, U any](list directory.List[T], show func(T) (U, api.Addition)) answer {
	var added []api.Addition
	answer := listOf(list, func(item T) U {
		shown, addition := show(item)
		added = append(added, addition)
		return shown
	})
	answer.meta.Items = added
	return answer
}

// withItem answers with an object of the contract's, and beside it what this server adds.
func withItem[T any](shown T, addition api.Addition) (answer, error) {
	return answer{data: shown, meta: &api.Meta{Item: &addition}}, nil
}

// outcomes returns what became of the items of a bulk call: for each of them whether it succeeded, with a message, and
// the codes of those that did not.
func outcomes(done []directory.Outcome, message string) (shown map[string]any, meta *api.Meta) {
	shown = map[string]any{}
	for _, outcome := range done {
		if outcome.Err == nil {
			shown[outcome.ID] = api.ItemResult{Success: true, Message: message}
			continue
		}
		shown[outcome.ID] = api.ItemResult{Message: outcome.Err.Message}
		if meta == nil {
			meta = &api.Meta{Codes: map[string]api.Code{}}
		}
		meta.Codes[outcome.ID] = api.Code(outcome.Err.Code)
	}
	return shown, meta
}

// answerOutcomes answers with what became of the items of a bulk call.
func answerOutcomes(done []directory.Outcome, message string) (answer, error) {
	shown, meta := outcomes(done, message)
	return answer{data: shown, meta: meta}, nil
}

// mask hides the middle of a secret: enough is left to tell two apart, and nothing to use.
func mask(secret string) string {
	const shown = 4
	if len(secret) < 4*shown {
		return "****"
	}
	return secret[:shown] + "****" + secret[len(secret)-shown:]
}
