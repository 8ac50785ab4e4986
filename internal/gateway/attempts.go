package gateway

import (
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

const (
	// refusedFor is how long an auth token is not looked up again after it was refused: clients of the contract try every
	// five seconds, with the same JWT, for ever.
	refusedFor = 20 * time.Second
	// maxRefused bounds how many are remembered.
	maxRefused = 100_000
)

// attempts remembers which auth tokens were refused lately.
type attempts struct {
	mu      sync.Mutex
	refused map[refusal]time.Time // until when. Guarded by mu
	swept   time.Time             // guarded by mu
}

type refusal struct {
	app   directory.AppID
	token directory.TokenID
}

func newAttempts() *attempts { return &attempts{refused: map[refusal]time.Time{}} }

func (a *attempts) refuse(app directory.AppID, token directory.TokenID, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.refused) < maxRefused {
		a.refused[refusal{app, token}] = now.Add(refusedFor)
	}
}

func (a *attempts) wasRefused(app directory.AppID, token directory.TokenID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, known := a.refused[refusal{app, token}]
	return known && now.Before(until)
}

// forget lets go of what has had its time.
func (a *attempts) forget(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.swept) < refusedFor {
		return
	}
	a.swept = now
	for key, until := range a.refused {
		if now.After(until) {
			delete(a.refused, key)
		}
	}
}
