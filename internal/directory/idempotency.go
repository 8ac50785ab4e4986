package directory

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Answer is what was first answered under an idempotency key.
type Answer struct {
	// Key is the hash of the idempotency key.
	Key []byte
	// Sealed is the encrypted result: it may hold an auth token.
	Sealed []byte
	At     int64
}

type idempotencyKey struct{}

type idempotency struct{ key, request string }

// WithIdempotencyKey makes the one write done under the returned context repeatable: its result is kept with the write
// in the same transaction, and when the same key comes again for the same request, that result is returned without
// writing again. The key used with another request is refused with CodeBadRequest. A write that failed was not done
// and is tried again. request identifies the request and its caller.
func WithIdempotencyKey(ctx context.Context, key, request string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, idempotency{key: key, request: request})
}

func idempotencyOf(ctx context.Context) (idempotency, bool) {
	used, ok := ctx.Value(idempotencyKey{}).(idempotency)
	return used, ok
}

func (d *Directory) replay(ctx context.Context, tx Writer, app AppID, result any) (bool, error) {
	used, ok := idempotencyOf(ctx)
	if !ok {
		return false, nil
	}
	answer, found, err := tx.Answer(app, used.hash(app))
	if err != nil || !found {
		return false, err
	}
	opened, err := d.secrets.Open(answer.Sealed, answerContext(app))
	if err != nil {
		return false, fmt.Errorf("open answer: %w", err)
	}
	var kept keptAnswer
	if err := json.Unmarshal([]byte(opened), &kept); err != nil {
		return false, fmt.Errorf("decode answer: %w", err)
	}
	if kept.Request != used.request {
		return false, fail(
			CodeBadRequest, "This Idempotency-Key was used with another request. Use a new key for each request.",
		)
	}
	return true, json.Unmarshal(kept.Result, result)
}

func answerContext(app AppID) string { return "answer:" + string(app) }

// hash returns what an answer is found by. It is no secret, so it is not keyed and outlives the master key.
func (i idempotency) hash(app AppID) []byte {
	sum := sha256.Sum256([]byte(string(app) + "\x00" + i.key))
	return sum[:16]
}

type keptAnswer struct {
	Request string
	Result  json.RawMessage
}

func (d *Directory) remember(ctx context.Context, tx Writer, app AppID, result any, about []UID) error {
	used, ok := idempotencyOf(ctx)
	if !ok {
		return nil
	}
	encoded, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	kept, err := json.Marshal(keptAnswer{Request: used.request, Result: encoded})
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return tx.PutAnswer(app, Answer{
		Key:    used.hash(app),
		Sealed: d.secrets.Seal(string(kept), answerContext(app)),
		At:     d.Now(),
	}, about)
}
