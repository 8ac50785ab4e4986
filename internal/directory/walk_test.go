package directory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

// TestWalkWhileOthersWrite walks 50,000 users by cursor, in two orders at once, while 64 clients create, change, move
// and erase others. Those that nobody touches come exactly once.
func TestWalkWhileOthersWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const users, clients = 50_000, 64
	name := func(n int) *string {
		text := fmt.Sprintf("Name %d", n*7919%users)
		return &text
	}
	for from := 0; from < users; from += 1000 {
		rows := make([]directory.UserRow, 1000)
		for i := range rows {
			created := int64(1_600_000_000 + (from+i)/100)
			rows[i] = directory.UserRow{UID: fmt.Sprintf("u%d", from+i), Patch: directory.UserPatch{Name: name(from + i)}, CreatedAt: &created}
		}
		if _, err := w.UpsertUsers(t.Context(), w.backend, rows, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers, walkers sync.WaitGroup
	for client := range clients {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(client), 7))
			for round := 0; ctx.Err() == nil; round++ {
				disturb(ctx, w, fmt.Sprintf("u%d", random.IntN(users/2)*2+1), fmt.Sprintf("new-%d-%d", client, round), name(random.IntN(users)), round)
			}
		})
	}
	if err := w.AwaitIndex(t.Context(), w.backend.App); err != nil {
		t.Error(err)
	}
	for _, sortBy := range []string{"name", "createdAt"} {
		walkers.Go(func() {
			met := map[directory.UID]int{}
			filter := directory.UserFilter{SortBy: sortBy, Cursor: directory.CursorStart, Page: directory.Page{Size: 1000}}
			for filter.Cursor != "" {
				page, err := w.ListUsers(t.Context(), w.backend, nil, directory.User{}, filter)
				if err != nil {
					t.Error(err)
					return
				}
				for _, user := range page.Items {
					met[user.UID]++
				}
				filter.Cursor = page.Next
			}
			for n := 0; n < users; n += 2 {
				if times := met[directory.UID(fmt.Sprintf("u%d", n))]; times != 1 {
					t.Errorf("by %s, the untouched user u%d came %d times", sortBy, n, times)
					return
				}
			}
		})
	}
	walkers.Wait()
	stop()
	writers.Wait()
}

// disturb makes one of many kinds of write. What it writes does not matter, nor that it may be refused.
func disturb(ctx context.Context, w *world, uid, fresh string, name *string, round int) {
	switch round % 5 {
	case 0, 1:
		_, _ = w.UpdateUser(ctx, w.backend, uid, directory.UserPatch{Name: name})
	case 2:
		_, _ = w.CreateUser(ctx, w.backend, directory.NewUser{UID: fresh, Name: *name})
	case 3:
		_, _ = w.DeactivateUsers(ctx, w.backend, []string{uid})
	default:
		_, _ = w.EraseUser(ctx, w.backend, uid)
	}
}
