package apitest_test

import (
	"bytes"
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

// TestSilentFailover lets all connections to PostgreSQL die without a word, while new ones work: what waits for an
// answer on one of them holds up nothing for longer than the loss takes to notice.
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

// swallowedTimeout is the time of a request in TestSwallowedReply, much less than the longest that a transaction may
// take without.
const swallowedTimeout = 2 * time.Second

// TestSwallowedReply lets PostgreSQL do what it is asked to, and swallows what it says. Everybody is answered within
// the time that a request has, and told what is known.
func TestSwallowedReply(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// swallow returns what is closed when a reply has been swallowed, and what ends it.
		swallow func(f *freezer) (begun <-chan struct{}, end func())
		unknown bool // whether somebody is told that the outcome is not known
	}{
		"to a commit": {func(f *freezer) (<-chan struct{}, func()) { return f.swallowReplyTo("COMMIT"), func() {} }, true},
		"to a question": {func(f *freezer) (<-chan struct{}, func()) {
			return f.swallowReplyTo("pg_advisory_xact_lock"), func() {}
		}, false},
		"to everything": {func(f *freezer) (<-chan struct{}, func()) {
			begun := make(chan struct{})
			close(begun)
			return begun, f.freeze()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, database := storetest.OwnPostgres(t)
			network := newFreezer(t, database)
			url := network.url + "&default_query_exec_mode=cache_describe" // so that every question is sent as text
			o := newOutage(t, url, func(config *server.Config) { config.RequestTimeout = swallowedTimeout })
			o.direct.Timeout = 8 * swallowedTimeout // what comes later is no answer
			o.writeInBackground()
			o.awaitWrites()
			begun, end := test.swallow(network)
			defer end()
			storetest.Await(t, begun, "a reply to be swallowed")
			if test.unknown {
				o.awaitMore("a write whose outcome is not known", &o.perhaps, 1)
			} else {
				o.awaitMore("a write to be refused", &o.refused, 1)
			}
			end()
			o.awaitWrites()
			o.stopWriting()
			o.awaitReadiness(true)
			o.verify()
		})
	}
}

// TestCommitEndsLate breaks connections while PostgreSQL commits, which it goes on with: the revocation that nobody
// could answer takes effect when it is over, once soon, and once so late that the database counts as lost.
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
	conn, err := pgx.Connect(apitest.Context(t), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	do := func(statement string) {
		if _, err := conn.Exec(apitest.Context(t), statement); err != nil {
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
	// asked is what a question has to hold for its reply to be swallowed, and all that follows it. Guarded by mu
	asked     []byte
	swallowed chan struct{} // closed when that has happened. Guarded by mu
	deaf      map[int]bool  // which connections have it happened to. Guarded by mu
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
	f := &freezer{deaf: map[int]bool{}, url: (&url.URL{
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
		f.running.Go(func() { f.carry(near, far, func(question []byte) bool { return f.hears(number, question) }) })
		f.running.Go(func() { f.carry(far, near, func([]byte) bool { return !f.isDeaf(number) }) })
	}
}

// carry copies what passes from one side to the other while the network is not frozen, and the end of it too.
func (f *freezer) carry(from, to net.Conn, passes func([]byte) bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		f.gate.RLock()
		if !passes(buffer[:n]) {
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

// breakAllButFirst ends all connections on the side of the server but the first, by which it holds the database.
// PostgreSQL finds out when it next has something to say.
func (f *freezer) breakAllButFirst() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 2; i < len(f.conns); i += 2 {
		f.conns[i].Close()
	}
}

// hears reports whether what the server says gets through.
func (f *freezer) hears(number int, question []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) > 0 && bytes.Contains(question, f.asked) {
		f.asked = nil
		f.deaf[number] = true
		close(f.swallowed)
	}
	return number >= f.abandoned
}

// isDeaf reports whether what the database says gets lost.
func (f *freezer) isDeaf(number int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return number < f.abandoned || f.deaf[number]
}

// swallowReplyTo lets the next question through that holds certain words, and nothing that the database says behind it
// on its connection, which stays open. What is returned is closed then.
func (f *freezer) swallowReplyTo(words string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.swallowed = []byte(words), make(chan struct{})
	return f.swallowed
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
