package directory_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/internal/directory"
)

// A historyCall is a call of a history: it reads, or writes a value.
type historyCall struct{ write string }

// historyAnswer is what a call answered.
type historyAnswer struct {
	read string
	// failed says that nothing has happened, and unknown that a write may have.
	failed, unknown bool
}

// revoked is what a token that is not good reads as. It never changes again.
const revoked = "revoked"

// historyModel is a value that is written and read.
func historyModel(first string) porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{first} },
		Step: func(state, input, output any) []any {
			call, _ := input.(historyCall)
			answer, _ := output.(historyAnswer)
			switch {
			case answer.failed:
				return []any{state}
			case answer.unknown:
				return []any{state, call.write}
			case call.write != "":
				return []any{call.write}
			case answer.read == state:
				return []any{state}
			}
			return nil
		},
	}
	return model.ToModel()
}

// history records calls of many clients.
type history struct {
	began time.Time
	mu    sync.Mutex
	calls []porcupine.Operation // guarded by mu
}

func (h *history) record(client int, call historyCall, do func() (read string, err error)) {
	from := time.Since(h.began).Nanoseconds()
	read, err := do()
	to := time.Since(h.began).Nanoseconds()
	answer := historyAnswer{read: read, failed: err != nil && call.write == ""}
	if refused, ok := errors.AsType[*directory.Error](err); err != nil && call.write != "" {
		// Nothing was changed when it is worth trying again.
		answer.failed = ok && (refused.RetryAfter > 0 || refused.Code != directory.CodeOperationFailed)
		if answer.unknown = !answer.failed; answer.unknown {
			to = math.MaxInt64 // it may happen later
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, porcupine.Operation{ClientId: client, Input: call, Call: from, Output: answer, Return: to})
}

// check fails unless the calls could have been made one after another, and some of each kind succeeded.
func (h *history) check(t *testing.T, what, first string) {
	t.Helper()
	count := map[string]int{}
	for _, call := range h.calls {
		input, _ := call.Input.(historyCall)
		output, _ := call.Output.(historyAnswer)
		switch {
		case output.failed:
			count["failed"]++
		case output.unknown:
			count["unknown"]++
		case input.write != "":
			count["written"]++
		default:
			count["read"]++
		}
	}
	t.Logf("%s: %v", what, count)
	if count["written"] == 0 || count["read"] == 0 {
		t.Errorf("%s: hardly anything has happened: %v", what, count)
	}
	if got := porcupine.CheckOperationsTimeout(historyModel(first), h.calls, time.Minute); got != porcupine.Ok {
		t.Errorf("%s: the history of %d calls over three servers is %s", what, len(h.calls), got)
	}
}

// TestSharedHistories has clients of three servers read and write a user's name, and use and revoke tokens, while
// PostgreSQL ends connections in the middle.
func TestSharedHistories(t *testing.T) {
	t.Parallel()
	worlds := newSharedWorlds(t)
	ctx := t.Context()
	w := worlds[0]
	if _, err := w.CreateUser(ctx, w.backend, directory.NewUser{UID: "ada", Name: "first"}); err != nil {
		t.Fatal(err)
	}
	const tokens, clients, rounds = 12, 2, 40
	var texts []string
	for range tokens {
		token, err := w.CreateToken(ctx, w.backend, "ada", directory.Device{})
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, token.Text)
	}
	began := time.Now()
	names := &history{began: began}
	ofTokens := make([]*history, tokens)
	for n := range ofTokens {
		ofTokens[n] = &history{began: began}
	}
	ending, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { endConnections(ending, t, w) })
	var calling sync.WaitGroup
	for n, w := range worlds {
		for c := range clients {
			client := n*clients + c
			calling.Go(func() {
				for round := range rounds {
					name := fmt.Sprintf("name-%d-%d", client, round)
					names.record(client, historyCall{name}, func() (string, error) { return name, rename(ctx, w, name) })
					names.record(client, historyCall{}, func() (string, error) { return nameOf(ctx, w) })
					of := (round*5 + client) % tokens
					if round > 5 && (round+client)%17 == 0 {
						ofTokens[of].record(client, historyCall{revoked}, func() (string, error) {
							_, err := w.DeleteToken(ctx, w.backend, "ada", texts[of])
							return revoked, err
						})
					}
					ofTokens[of].record(client, historyCall{}, func() (string, error) { return tokenIs(ctx, w, texts[of]) })
				}
			})
		}
	}
	calling.Wait()
	stop()
	ended.Wait()
	names.check(t, "the name", "first")
	all := &history{}
	for n, h := range ofTokens {
		if got := porcupine.CheckOperationsTimeout(historyModel("good"), h.calls, time.Minute); got != porcupine.Ok {
			t.Errorf("token %d: the history of %d calls over three servers is %s", n, len(h.calls), got)
		}
		all.calls = append(all.calls, h.calls...)
	}
	t.Logf("%d calls about tokens", len(all.calls))
}

func rename(ctx context.Context, w *world, name string) error {
	_, err := w.UpdateUser(ctx, w.backend, "ada", directory.UserPatch{Name: &name})
	return err
}

func nameOf(ctx context.Context, w *world) (string, error) {
	policy, err := w.Policy(ctx, w.app.ID)
	if err != nil {
		return "", err
	}
	seen, err := w.GetUser(ctx, w.backend, policy, directory.User{}, "ada")
	if err != nil {
		return "", err
	}
	return seen.Name, nil
}

func tokenIs(ctx context.Context, w *world, text string) (string, error) {
	policy, err := w.Policy(ctx, w.app.ID)
	if err != nil {
		return "", err
	}
	if _, _, ok := w.LoggedIn(policy, text); ok {
		return "good", nil
	}
	_, _, err = w.Authenticate(ctx, policy, text)
	if refused, ok := errors.AsType[*directory.Error](err); ok && refused.Code != directory.CodeOperationFailed {
		return revoked, nil
	}
	return "good", err
}

// endConnections ends one connection of the servers after another, until ctx ends.
func endConnections(ctx context.Context, t *testing.T, w *world) {
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`)
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
