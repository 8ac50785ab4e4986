package storetest

import (
	"runtime"
	"testing"
	"time"
)

// Patience bounds how long a test waits for what must come. Nothing takes that long, not even on a busy machine.
const Patience = time.Minute

// Await returns what comes from a channel. A test that waits in vain fails, with what it has waited for and where every
// goroutine is.
func Await[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	select {
	case got := <-from:
		return got
	case <-late.C:
		t.Fatalf("waited for %s in vain\n%s", what, stacks())
		panic("not reached")
	}
}

// AwaitReturn waits until a function has returned, such as the Wait of a group. It is left behind when it does not.
func AwaitReturn(t testing.TB, fn func(), what string) {
	t.Helper()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		fn()
	}()
	Await(t, returned, what)
}

// stacks tells where every goroutine is.
func stacks() []byte {
	text := make([]byte, 1<<20)
	return text[:runtime.Stack(text, true)]
}
