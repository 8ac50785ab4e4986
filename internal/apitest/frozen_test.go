package apitest_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
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

// TestSilentFailover lets all connections to PostgreSQL die without a word, while new ones work: what waits for an answer on
// one of them holds up nothing for longer than the loss takes to notice.
func TestSilentFailover(t *testing.T) {
	t.Parallel()
	_, database := storetest.OwnPostgres(t)
	network := newFreezer(t, database)
	o := newOutage(t, network.url)
	jwt, _ := o.server.JWT(t, "reader")
	again := o.mintToken()
	network.abandonAll()
	first := o.server.Dial(t) // of the app, about which presence has to read
	first.SendAuth(o.server, apitest.Login{UID: "reader", Device: "first", Body: api.AuthBody{Auth: jwt}})
	o.awaitReadiness(false)
	o.awaitReadiness(true)
	first.Break()
	o.revoke(again) // which tells presence
	o.expectStatus(http.StatusUnauthorized, o.me(again))
	second := o.server.Dial(t)
	second.Auth(o.server, apitest.Login{UID: "reader", Device: "second", Body: api.AuthBody{Auth: jwt}})
}

// TestCommitEndsLate breaks connections while PostgreSQL commits, which it goes on with: the revocation that nobody could answer
// takes effect when it is over, once soon, and once so late that the database counts as lost.
func TestCommitEndsLate(t *testing.T) {
	t.Parallel()
	_, database := storetest.OwnPostgres(t)
	network := newFreezer(t, database)
	o := newOutage(t, network.url)
	holdUp, letEnd := slowCommits(t, database)
	for _, late := range []bool{false, true} {
		_, dead := o.server.JWT(t, "reader")
		o.expectStatus(http.StatusOK, o.me(api.AuthToken{Token: dead}))
		holdUp()
		var calls sync.WaitGroup
		calls.Go(func() {
			r := o.backend(http.MethodDelete, "/v3/users/reader/auth_tokens/"+dead, "")
			if r.status < 500 || r.err.Code != api.CodeOperationFailed || strings.Contains(r.err.Message, "Nothing was changed") {
				t.Errorf("%s: want to be told that it is not known whether it happened, got %d %+v", r.what, r.status, r.err)
			}
		})
		o.await("a commit that is held up", func() bool { return isHeldUp(t, database) })
		network.breakAllButFirst()
		if late {
			o.awaitReadiness(false)
			calls.Wait()
		} else {
			o.me(api.AuthToken{Token: dead}) // may be held in memory from now on: it is good as long as the commit is held up
		}
		o.await("the commit, which has not ended", func() bool { return isHeldUp(t, database) })
		letEnd()
		calls.Wait()
		o.awaitReadiness(true)
		o.expectStatus(http.StatusUnauthorized, o.me(api.AuthToken{Token: dead}))
	}
}

// slowCommits makes commits that delete auth tokens wait between holdUp and letEnd, whatever becomes of their clients.
func slowCommits(t *testing.T, database string) (holdUp, letEnd func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	do := func(statement string) {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	do(`CREATE FUNCTION wait_to_end() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			LOOP
				BEGIN
					EXIT WHEN pg_try_advisory_xact_lock_shared(1);
					PERFORM pg_sleep(0.02);
				EXCEPTION WHEN query_canceled THEN -- which the client asks for when its connection breaks
				END;
			END LOOP;
			RETURN NULL;
		END $$;
		CREATE CONSTRAINT TRIGGER wait_to_end AFTER DELETE ON auth_tokens DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_to_end()`)
	return func() { do(`SELECT pg_advisory_lock(1)`) }, func() { do(`SELECT pg_advisory_unlock(1)`) }
}

func isHeldUp(t *testing.T, database string) bool {
	t.Helper()
	return ask[bool](t, database, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')`)
}

// freezer is a network between a server and its database that can be frozen.
type freezer struct {
	url  string // the database through it
	gate sync.RWMutex

	network, address string
	running          sync.WaitGroup
	mu               sync.Mutex
	conns            []net.Conn // guarded by mu
	abandoned        int        // how many of conns let nothing through any more. Guarded by mu
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
		number := len(f.conns)
		f.conns = append(f.conns, near, far)
		f.mu.Unlock()
		f.running.Go(func() { f.carry(number, near, far) })
		f.running.Go(func() { f.carry(number, far, near) })
	}
}

// carry copies what comes from one side to the other while the network is not frozen, and the end of it too, unless the
// connection is abandoned.
func (f *freezer) carry(number int, from, to net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		f.gate.RLock()
		if f.isAbandoned(number) {
			n = 0
		}
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
		}
		f.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// breakAllButFirst ends all connections on the side of the server but the first, by which it holds the database. PostgreSQL finds
// out when it next has something to say.
func (f *freezer) breakAllButFirst() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 2; i < len(f.conns); i += 2 {
		f.conns[i].Close()
	}
}

func (f *freezer) isAbandoned(number int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return number < f.abandoned
}

// abandonAll lets nothing through the connections there are, which stay open.
func (f *freezer) abandonAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abandoned = len(f.conns)
}

// freeze lets nothing through until thaw is called.
func (f *freezer) freeze() (thaw func()) {
	f.gate.Lock()
	return sync.OnceFunc(f.gate.Unlock)
}
