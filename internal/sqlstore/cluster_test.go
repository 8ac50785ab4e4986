package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
	"github.com/rollcall/rollcall/internal/storetest"
)

// openShared opens one database from many servers.
func openShared(t *testing.T, servers int, with func(n int, shared *sqlstore.Cluster)) []*sqlstore.Store {
	t.Helper()
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return openSharedAt(t, url, servers, with)
}

func openSharedAt(t *testing.T, url string, servers int, with func(n int, shared *sqlstore.Cluster)) []*sqlstore.Store {
	t.Helper()
	stores := make([]*sqlstore.Store, servers)
	exchange := bus.NewExchange()
	for n := range stores {
		stores[n] = open(t, func(ctx context.Context) (*sqlstore.Store, error) {
			shared := sqlstore.Cluster{Server: fmt.Sprintf("server-%d", n), Bus: exchange.Join(), Beat: 50 * time.Millisecond}
			if with != nil {
				with(n, &shared)
			}
			return sqlstore.OpenShared(ctx, url, shared)
		})
	}
	return stores
}

// takingTurns is a store whose calls go to one server after another.
type takingTurns struct {
	*sqlstore.Store
	stores []*sqlstore.Store
	turn   *atomic.Int64
	// pinned sends updates to the first, where they are followed.
	pinned *atomic.Bool
}

func (s takingTurns) next() *sqlstore.Store { return s.stores[int(s.turn.Add(1))%len(s.stores)] }

func (s takingTurns) View(ctx context.Context, fn func(directory.Reader) error) error {
	return s.next().View(ctx, fn)
}

func (s takingTurns) Update(
	ctx context.Context, app directory.AppID, reads []directory.UID, fn func(directory.Writer) error,
) error {
	if s.pinned.Load() {
		return s.Store.Update(ctx, app, reads, fn)
	}
	return s.next().Update(ctx, app, reads, fn)
}

func (s takingTurns) Follow(fn func(directory.Commit)) {
	s.pinned.Store(true)
	s.Store.Follow(fn)
}

// TestSharedPostgres keeps every promise of a store with each call sent to another server.
func TestSharedPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) directory.Store {
		stores := openShared(t, 3, nil)
		return takingTurns{stores[0], stores, new(atomic.Int64), new(atomic.Bool)}
	})
}

// followed is what one server was told of an app.
type followed struct {
	mu       sync.Mutex
	revision int64 // guarded by mu
	names    map[directory.UID]string
	gaps     []string
	reached  chan int64
}

func follow(store *sqlstore.Store) *followed {
	f := &followed{names: map[directory.UID]string{}, reached: make(chan int64, 1<<16)}
	store.Follow(func(commit directory.Commit) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, change := range commit.Changes {
			if f.revision++; change.Revision != f.revision {
				f.gaps = append(f.gaps, fmt.Sprintf("revision %d where %d is next", change.Revision, f.revision))
			}
		}
		for _, change := range commit.Users {
			if change.User != nil {
				f.names[change.UID] = change.User.Name
			}
		}
		f.reached <- f.revision
	})
	return f
}

// awaits waits until a revision was told.
func (f *followed) awaits(t *testing.T, revision int64) {
	t.Helper()
	for {
		if storetest.Await(t, f.reached, fmt.Sprint("revision ", revision)) >= revision {
			return
		}
	}
}

// TestSharedCommitsReachEverybody writes on three servers at once, with buses and without.
func TestSharedCommitsReachEverybody(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]func(int, *sqlstore.Cluster){
		"notices of PostgreSQL": func(_ int, shared *sqlstore.Cluster) {
			b := bus.OpenPostgres(config, bus.Options{Log: slog.New(slog.DiscardHandler)})
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
			shared.Bus = b
		},
		"a bus":                              nil,
		"buses that do not reach each other": func(_ int, shared *sqlstore.Cluster) { shared.Bus = bus.NewExchange().Join() },
		"no bus":                             func(_ int, shared *sqlstore.Cluster) { shared.Bus = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const writers, writes = 4, 40
			stores := openShared(t, 3, with)
			var follows []*followed
			for _, store := range stores {
				follows = append(follows, follow(store))
			}
			var writing sync.WaitGroup
			for n, store := range stores {
				for w := range writers {
					writing.Go(func() {
						for i := range writes {
							uid := directory.UID(fmt.Sprintf("u%d-%d-%d", n, w, i))
							if err := register(t.Context(), store, uid, "Name of "+string(uid)); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
			}
			writing.Wait()
			const total = int64(3 * writers * writes)
			for n, f := range follows {
				f.awaits(t, total)
				if len(f.gaps) > 0 || len(f.names) != int(total) {
					t.Errorf("server %d was told of %d users, and %v", n, len(f.names), f.gaps)
				}
			}
			checkCreations(t, stores[0], int(total))
		})
	}
}

// TestSharedEverywhere asks after each write whether all others act on it.
func TestSharedEverywhere(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]func(int, *sqlstore.Cluster){
		"a bus": nil, "no bus": func(_ int, shared *sqlstore.Cluster) { shared.Bus = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stores := openShared(t, 3, with)
			var follows []*followed
			for _, store := range stores {
				follows = append(follows, follow(store))
			}
			for i := range 12 {
				writer := stores[i%3]
				uid := directory.UID(fmt.Sprintf("u%d", i))
				if err := errors.Join(register(t.Context(), writer, uid, "Name"), writer.Everywhere(t.Context())); err != nil {
					t.Fatal(err)
				}
				for n, f := range follows {
					f.mu.Lock()
					if f.names[uid] == "" {
						t.Errorf("server %d does not know of write %d", n, i)
					}
					f.mu.Unlock()
				}
			}
		})
	}
}

// TestSharedServers looks at who shares a database as servers come, go, and die.
func TestSharedServers(t *testing.T) {
	t.Parallel()
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const lease = 2 * time.Second
	stores := openSharedAt(t, url, 2, func(_ int, shared *sqlstore.Cluster) { shared.Lease = lease })
	if peers := stores[1].Peers(); len(peers) != 1 || peers[0].Server != "server-0" {
		t.Fatalf("the second server knows of %+v", peers)
	}
	if peers := stores[0].Peers(); len(peers) != 1 || peers[0].Server != "server-1" {
		t.Fatalf("the second server may write, and the first knows of %+v", peers)
	}
	_, err = sqlstore.OpenShared(t.Context(), url, sqlstore.Cluster{Server: "server-1"})
	if err == nil || !strings.Contains(err.Error(), "is called server-1") {
		t.Fatalf("a second server of one name: %v", err)
	}
	if err := stores[1].Close(); err != nil {
		t.Fatal(err)
	}
	again, err := sqlstore.OpenShared(t.Context(), url, sqlstore.Cluster{Server: "server-1", Beat: time.Hour, Lease: lease})
	if err != nil {
		t.Fatalf("the name of a server that has stopped: %v", err)
	}
	// It does not renew its lease: it knows by itself that it may not trust its memory any more, and nobody waits for it.
	if err := errors.Join(again.Current(), register(t.Context(), stores[0], "u", "Name")); err != nil {
		t.Fatal(err)
	}
	if err := stores[0].Everywhere(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := again.Current(); err == nil {
		t.Error("it was taken for dead, and still trusts its memory")
	}
	err = again.View(t.Context(), func(directory.Reader) error { return nil })
	if err == nil {
		t.Error("it was taken for dead, and reads")
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestSharedOutage stops PostgreSQL under three servers that write, and starts it again.
func TestSharedOutage(t *testing.T) {
	t.Parallel()
	server, url := storetest.OwnPostgres(t)
	stores := openSharedAt(t, url, 3, func(_ int, shared *sqlstore.Cluster) { shared.Lease = time.Second })
	var made sync.Map
	regained := make(chan int, 100)
	for n, store := range stores {
		store.FollowLease(func() {}, func(error) {}, func() { regained <- n })
	}
	var stopped atomic.Bool
	var writing sync.WaitGroup
	var acknowledged atomic.Int64
	progress := make(chan int64, 1<<16)
	for n, store := range stores {
		writing.Go(func() {
			for i := 0; !stopped.Load(); i++ {
				uid := directory.UID(fmt.Sprintf("u%d-%d", n, i))
				if register(t.Context(), store, uid, "Name") == nil {
					made.Store(uid, true)
					progress <- acknowledged.Add(1)
				}
			}
		})
	}
	written := func(more int64) {
		t.Helper()
		for goal := acknowledged.Load() + more; storetest.Await(t, progress, "writes") < goal; {
			continue
		}
	}
	written(100)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, store := range stores {
		for store.Current() == nil {
			if t.Context().Err() != nil {
				t.Fatal("a server does not notice that its lease has run out")
			}
			time.Sleep(10 * time.Millisecond) // it is a clock that runs out
		}
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for seen := map[int]bool{}; len(seen) < len(stores); {
		seen[storetest.Await(t, regained, "leases")] = true
	}
	written(100)
	stopped.Store(true)
	writing.Wait()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `SELECT uid FROM users`)
	if err != nil {
		t.Fatal(err)
	}
	uids, err := pgx.CollectRows(rows, pgx.RowTo[directory.UID])
	if err != nil {
		t.Fatal(err)
	}
	made.Range(func(uid, _ any) bool {
		if !slices.Contains(uids, uid.(directory.UID)) { //nolint:forcetypeassert // nothing else is stored
			t.Errorf("%v was acknowledged, and is not there", uid)
		}
		return true
	})
	checkCreations(t, stores[1], len(uids))
}
