package httpapi

import (
	"context"
	"sync"
	"time"
)

// deadlineContext is a context with a deadline whose timer starts only when somebody wants to wait for its end: most
// requests are answered before anybody does.
type deadlineContext struct {
	context.Context //nolint:containedctx // it is the parent
	deadline        time.Time

	mu      sync.Mutex
	waiting context.Context    //nolint:containedctx // guarded by mu: nil until Done is called
	cancel  context.CancelFunc // guarded by mu
}

func withDeadline(parent context.Context, deadline time.Time) *deadlineContext {
	return &deadlineContext{Context: parent, deadline: deadline}
}

// Deadline implements context.Context.
func (c *deadlineContext) Deadline() (time.Time, bool) {
	if earlier, ok := c.Context.Deadline(); ok && earlier.Before(c.deadline) {
		return earlier, true
	}
	return c.deadline, true
}

// Done implements context.Context.
func (c *deadlineContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting, c.cancel = context.WithDeadline(c.Context, c.deadline)
	}
	return c.waiting.Done()
}

// Err implements context.Context.
func (c *deadlineContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != nil {
		return c.waiting.Err()
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	if !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// end releases what waiting for the context's end takes: whoever waits is told that it is canceled.
func (c *deadlineContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}
