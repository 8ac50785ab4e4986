package sqlstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/storetest"
)

// blockLane begins an update that goes on until end is called, and returns its lane.
func blockLane(t *testing.T, store *Store) (l *lane, end func()) {
	t.Helper()
	running, ending, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- store.Update(t.Context(), "app", nil, func(directory.Tx) error {
			close(running)
			<-ending
			return nil
		})
	}()
	storetest.Await(t, running, "an update to begin")
	store.writer.mu.Lock()
	defer store.writer.mu.Unlock()
	return store.writer.lanes[""], func() {
		close(ending)
		if err := storetest.Await(t, ended, "an update to end"); err != nil {
			t.Error(err)
		}
	}
}

func TestMoreUpdatesThanABatchHolds(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	l, end := blockLane(t, store)
	const count = 4*maxBatch + 10
	var ran [count]atomic.Int64
	var callers sync.WaitGroup
	for i := range count {
		callers.Go(func() {
			err := store.Update(t.Context(), "app", nil, func(tx directory.Tx) error {
				ran[i].Add(1)
				return tx.PutUser("app", directory.User{UID: directory.UID(fmt.Sprint("u", i)), Name: "N", Role: "default"})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	late := make(chan struct{})
	defer time.AfterFunc(storetest.Patience, func() { close(late) }).Stop()
	l.await(count, late)
	end()
	storetest.AwaitReturn(t, callers.Wait, "all updates to be answered")
	for i := range ran {
		if times := ran[i].Load(); times != 1 {
			t.Errorf("update %d ran %d times", i, times)
		}
	}
}
