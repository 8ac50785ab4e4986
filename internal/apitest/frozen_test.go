package apitest_test

import (
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/storetest"
)

// TestFrozenNetwork swallows everything between a running server and PostgreSQL, so that no connection breaks and none
// answers.
func TestFrozenNetwork(t *testing.T) {
	t.Parallel()
	_, database := storetest.OwnPostgres(t)
	network := newFreezer(t, database)
	o := newOutage(t, network.url, func(config *server.Config) { config.RequestTimeout = 10 * time.Second })
	o.writeInBackground()
	o.awaitWrites()
	o.expectStatus(http.StatusOK, o.me(o.token)) // which is held in memory from now on
	thaw := network.freeze()
	defer thaw()
	o.awaitReadiness(false)
	o.awaitRefusals()
	o.expectNoService()
	thaw()
	o.awaitReadiness(true)
	o.awaitWrites()
	o.stopWriting()
	o.verify()
}

// freezer is a network between a server and its database that can be frozen.
type freezer struct {
	url  string // the database through it
	gate sync.RWMutex

	network, address string
	running          sync.WaitGroup
	mu               sync.Mutex
	conns            []net.Conn // guarded by mu
	closed           bool       // guarded by mu
}

func newFreezer(t *testing.T, database string) *freezer {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{url: (&url.URL{
		Scheme: "postgres", User: url.User(config.User), Host: listener.Addr().String(), Path: config.Database, RawQuery: "sslmode=disable",
	}).String()}
	f.network, f.address = pgconn.NetworkAddress(config.Host, config.Port)
	f.running.Go(func() { f.serve(t, listener) })
	t.Cleanup(func() {
		listener.Close()
		f.mu.Lock()
		f.closed = true
		for _, conn := range f.conns {
			conn.Close()
		}
		f.mu.Unlock()
		f.running.Wait()
	})
	return f
}

func (f *freezer) serve(t *testing.T, listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial(f.network, f.address)
		if err != nil {
			t.Errorf("reach the database: %v", err)
			near.Close()
			continue
		}
		f.mu.Lock()
		if f.closed {
			near.Close()
			far.Close()
		}
		f.conns = append(f.conns, near, far)
		f.mu.Unlock()
		f.running.Go(func() { f.carry(near, far) })
		f.running.Go(func() { f.carry(far, near) })
	}
}

// carry copies what comes from one side to the other while the network is not frozen, and the end of it too.
func (f *freezer) carry(from, to net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		f.gate.RLock()
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
		}
		f.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// freeze lets nothing through until thaw is called.
func (f *freezer) freeze() (thaw func()) {
	f.gate.Lock()
	return sync.OnceFunc(f.gate.Unlock)
}
