package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/storetest"
)

// blockQueue begins an update that goes on until end is called, and returns its write queue.
func blockQueue(t *testing.T, store *Store) (l *writeQueue, end func()) {
	t.Helper()
	running, ending, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- store.Update(t.Context(), "app", nil, func(directory.Writer) error {
			close(running)
			<-ending
			return nil
		})
	}()
	storetest.Await(t, running, "an update to begin")
	store.writer.mu.Lock()
	defer store.writer.mu.Unlock()
	return store.writer.queues[""], func() {
		close(ending)
		if err := storetest.Await(t, ended, "an update to end"); err != nil {
			t.Error(err)
		}
	}
}

func TestMoreUpdatesThanABatchHolds(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	l, end := blockQueue(t, store)
	const count = 4*maxBatch + 10
	var ran [count]atomic.Int64
	var callers sync.WaitGroup
	for i := range count {
		callers.Go(func() {
			err := store.Update(t.Context(), "app", nil, func(tx directory.Writer) error {
				ran[i].Add(1)
				return tx.PutUser("app", directory.User{UID: directory.UID(fmt.Sprint("u", i)), Name: "N", Role: "default"})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	waiting := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting)
	}
	for late := time.Now().Add(storetest.Patience); waiting() < count; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatalf("%d of %d updates wait", waiting(), count)
		}
	}
	end()
	storetest.AwaitReturn(t, callers.Wait, "all updates to be answered")
	for i := range ran {
		if times := ran[i].Load(); times != 1 {
			t.Errorf("update %d ran %d times", i, times)
		}
	}
}

// TestTooLateToBegin keeps updates waiting for one that does not end. Those whose callers cannot wait are answered
// meanwhile, and never happen.
func TestTooLateToBegin(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	_, end := blockQueue(t, store)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var ran atomic.Bool
	answers := make(chan error, 10)
	for range cap(answers) {
		go func() {
			answers <- store.Update(ctx, "app", nil, func(directory.Writer) error {
				ran.Store(true)
				return nil
			})
		}()
	}
	patient := make(chan error, 1)
	go func() { patient <- store.Update(t.Context(), "app", nil, func(directory.Writer) error { return nil }) }()
	for range cap(answers) {
		err := storetest.Await(t, answers, "an update that waits for another to be answered")
		var refused *directory.Error
		if !errors.As(err, &refused) || refused.Code != directory.CodeOperationFailed || !strings.Contains(refused.Message, "Nothing was changed") {
			t.Errorf("answered %v", err)
		}
	}
	end()
	if err := storetest.Await(t, patient, "an update that can wait"); err != nil {
		t.Error(err)
	}
	if ran.Load() {
		t.Error("it was too late, and an update ran all the same")
	}
}
