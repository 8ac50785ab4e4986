package apitest_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/pgserver"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/storetest"
)

// newPooler starts a PgBouncer in front of a server, until the test ends.
func newPooler(t *testing.T, database *pgserver.Server, settings ...string) *pgserver.PgBouncer {
	t.Helper()
	pooler, err := database.PgBouncer(apitest.Context(t), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pooler.Close(); err != nil {
			t.Error(err)
		}
	})
	return pooler
}

// newDatabase makes an empty database on the server that all tests share.
func newDatabase(t *testing.T) (name, url string) {
	t.Helper()
	url, err := postgres.NewDatabase(apitest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(url, "postgres://postgres@/"), "?")
	return name, url
}

// databaseAway is how the record begins that says so.
const databaseAway = `"msg":"the database does not answer, or another server uses it`

// TestPgBouncerRestarted kills PgBouncer in each of its modes under a running server, again and again, and starts it
// again, while clients write and sockets are open.
func TestPgBouncerRestarted(t *testing.T) {
	t.Parallel()
	for mode, test := range map[string]struct {
		direct bool
		says   string // the log, once for each time that PgBouncer is away
	}{
		"session":     {false, databaseAway},
		"transaction": {true, `"msg":"the pooler in --database does not answer`},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			name, url := newDatabase(t)
			pooler := newPooler(t, postgres, "pool_mode = "+mode, "default_pool_size = 8")
			var log safeBuffer
			var config server.Config
			o := newOutage(t, pooler.URL(name), func(c *server.Config) {
				c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
				if test.direct {
					c.DatabaseDirect = url
				}
				config = *c
			})
			expectDiagnosis(t, config, "ok", "reached through a pooler in "+mode+" mode, at /tmp/")
			if says := o.readiness(); says != "ready; the database is reached through a pooler in "+mode+" mode" {
				t.Errorf("/readyz says %q", says)
			}
			if !strings.Contains(log.String(), `"pooler":"`+mode+`"`) {
				t.Errorf("the log does not say what stands between: %s", log.String())
			}
			watcher := o.watch()
			o.writeInBackground()
			for range 2 {
				o.awaitWrites()
				if err := pooler.Kill(); err != nil {
					t.Fatal(err)
				}
				o.awaitReadiness(false)
				o.awaitRefusals()
				expectMetric(t, o.server, "rollcall_database_up", 0)
				if err := pooler.Restart(apitest.Context(t)); err != nil {
					t.Fatal(err)
				}
				o.awaitReadiness(true)
				expectMetric(t, o.server, "rollcall_database_up", 1)
			}
			o.awaitWrites()
			o.stopWriting()
			o.verify()
			o.expectNothingHeard(watcher)
			if told := strings.Count(log.String(), test.says); told != 2 {
				t.Errorf("the log says %d times that it does not answer", told)
			}
		})
	}
}

// expectDiagnosis demands of doctor that it says something of the database.
func expectDiagnosis(t *testing.T, config server.Config, level, says string) {
	t.Helper()
	for _, finding := range server.Diagnose(apitest.Context(t), config) {
		if finding.Check == "database" && (finding.Level != level || !strings.Contains(finding.Detail, says)) {
			t.Errorf("doctor says: %+v", finding)
		}
	}
}

// watch opens a socket that hears of everybody, and one more whose user is online from then on.
func (o *outage) watch() (watcher *apitest.Socket) {
	o.t.Helper()
	steady := api.CreateUserRequest{UID: "steady", Name: "Steady"}
	if _, err := o.server.Backend(o.t).Users.Create(o.t.Context(), steady); err != nil {
		o.t.Fatal(err)
	}
	watcher = o.server.Login(o.t, apitest.Login{UID: "reader", Device: "phone", Body: everybody})
	o.server.Login(o.t, apitest.Login{UID: "steady", Device: "phone"})
	watcher.Hears("steady online")
	return watcher
}

// expectNothingHeard demands that a watcher's socket is open and has heard of nobody who came or went.
func (o *outage) expectNothingHeard(watcher *apitest.Socket) {
	o.t.Helper()
	o.server.Login(o.t, apitest.Login{UID: "w0-0", Device: "phone"})
	watcher.Hears("w0-0 online")
}

// readiness returns what /readyz says.
func (o *outage) readiness() string {
	o.t.Helper()
	_, text := raw(o.t, o.server, http.MethodGet, "/readyz", "")
	_, rest, _ := strings.Cut(string(text), `"message":"`)
	says, _, _ := strings.Cut(rest, `"`)
	return says
}

// ownStandby starts a PostgreSQL with a synchronous standby, and returns them with the URL and the name of a database.
func ownStandby(t *testing.T) (primary, standby *pgserver.Server, url, name string) {
	t.Helper()
	primary, url = storetest.OwnPostgres(t)
	standby, err := primary.Standby(apitest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Close(); err != nil {
			t.Error(err)
		}
	})
	name, _, _ = strings.Cut(strings.TrimPrefix(url, "postgres://postgres@/"), "?")
	return primary, standby, url, name
}

// TestFailover kills the primary of a synchronous standby under a running server, and promotes the standby, while
// clients write and sockets are open.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby, url, name := ownStandby(t)
	var log safeBuffer
	o := newOutage(t, primary.URLOfBoth(standby, name), func(config *server.Config) {
		config.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	dead := o.mintToken()
	o.expectStatus(http.StatusOK, o.me(dead))
	watcher := o.watch()
	o.writeInBackground()
	o.awaitWrites()
	o.revoke(dead)
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	o.awaitReadiness(false)
	o.expectNoService()
	o.awaitRefusals()
	if err := standby.Promote(apitest.Context(t)); err != nil {
		t.Fatal(err)
	}
	o.awaitReadiness(true)
	o.expectStatus(http.StatusUnauthorized, o.me(dead))
	o.awaitWrites()

	// The one that was the primary is back, as a server that can be written to: nobody goes there.
	if told := strings.Count(log.String(), databaseAway); told != 1 {
		t.Errorf("the log says %d times that the database does not answer", told)
	}
	if err := primary.Restart(apitest.Context(t)); err != nil {
		t.Fatal(err)
	}
	waitForStandby(t, url, "")
	refused := o.refused.Load()
	if broken := ask[int](t, standby.URL(name), terminateServer); broken < 2 {
		t.Errorf("%d connections were broken", broken)
	}
	o.await("the broken connections to be noticed", func() bool { return o.refused.Load() > refused })
	o.awaitReadiness(true)
	o.awaitWrites()
	o.stopWriting()
	o.verify()
	o.expectNothingHeard(watcher)
	told := log.String()
	for _, host := range []string{primary.Socket(), standby.Socket()} {
		if !strings.Contains(told, `"host":"`+host+`"`) {
			t.Errorf("the log does not say that %s is in use", host)
		}
	}
}

// terminateServer breaks all connections of a server, and tells how many there were.
const terminateServer = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
	WHERE application_name = 'rollcall' AND pid <> pg_backend_pid()`

// TestStartBehindPooler starts a server while PostgreSQL is down behind PgBouncer: it counts as a database that does not
// answer, for which a start can wait.
func TestStartBehindPooler(t *testing.T) {
	t.Parallel()
	database, url := storetest.OwnPostgres(t)
	name, _, _ := strings.Cut(strings.TrimPrefix(url, "postgres://postgres@/"), "?")
	pooler := newPooler(t, database, "pool_mode = transaction")
	if err := database.Stop(); err != nil {
		t.Fatal(err)
	}
	var log safeBuffer
	config := server.Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", Database: pooler.URL(name), DatabaseDirect: url,
		DatabaseWait: outagePatience, Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	}
	started := make(chan *server.Server, 1)
	go func() {
		s, err := server.Start(apitest.Context(t), config)
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	await(t, "the log to say what is waited for", func() bool {
		return strings.Contains(log.String(), `"msg":"waiting for the database"`) &&
			strings.Contains(log.String(), "does not answer")
	})
	if err := database.Restart(apitest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if s := storetest.Await(t, started, "the server"); s != nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestStartRefused starts servers on what would fail later. Each is refused in words, and doctor says the same.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	primary, standby, url, name := ownStandby(t)
	other, err := primary.NewDatabase(apitest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	transaction := newPooler(t, primary, "pool_mode = transaction")
	roundRobin := newPooler(t, primary, "pool_mode = transaction", "server_round_robin = 1", "min_pool_size = 4")
	clock := func(offset time.Duration) func() time.Time {
		return func() time.Time { return time.Now().Add(offset) }
	}
	for what, test := range map[string]struct {
		database, direct string
		clock            func() time.Time
		says             string
	}{
		"transaction mode alone": {
			database: transaction.URL(name),
			says: "the pooler in --database is in transaction mode, and keeps no session, which holding the database and " +
				"migrating it need: give --database-direct (ROLLCALL_DATABASE_DIRECT) the URL of the same database without " +
				"the pooler",
		},
		"transaction mode, backends in turn": {
			database: roundRobin.URL(name), says: "the pooler in --database is in transaction mode",
		},
		"statement mode": {
			database: newPooler(t, primary, "pool_mode = statement").URL(name), says: "statement pooling",
		},
		"direct is a pooler": {
			database: transaction.URL(name), direct: transaction.URL(name), says: "--database-direct leads through a pooler too",
		},
		"direct is another database": {
			database: transaction.URL(name), direct: other,
			says: "--database leads to another database, or another schema, than --database-direct",
		},
		"direct is another schema": {
			database: transaction.URL(name), direct: url + "&search_path=pg_catalog",
			says: "or another schema, than --database-direct",
		},
		"few backends for sessions": {
			database: newPooler(t, primary, "pool_mode = session", "default_pool_size = 3").URL(name) + "&pool_max_conns=4",
			says: "the pooler in --database gives 3 of the 5 connections that the server uses (no backend in 3s): " +
				"raise max_client_conn and default_pool_size to at least 5, or use fewer with pool_max_conns in the URL",
		},
		"one backend for transactions": {
			database: newPooler(t, primary, "pool_mode = transaction", "default_pool_size = 1").URL(name), direct: url,
			says: "default_pool_size to at least 2",
		},
		"few clients": {
			database: newPooler(t, primary, "pool_mode = transaction", "max_client_conn = 3").URL(name), direct: url,
			says: "no more connections allowed",
		},
		"few connections": {
			database: url + "&pool_max_conns=200", says: "lets 200 connections in, and the server uses 201",
		},
		"a standby alone": {
			database: standby.URL(name),
			says: "is a standby, which can only be read: name the primary in --database, or all of its servers with " +
				"target_session_attrs=read-write",
		},
		"a standby is wanted": {
			database: url + "&target_session_attrs=standby",
			says:     "target_session_attrs=standby leads to a server that can only be read",
		},
		"nobody may write": {
			database: url + "&default_transaction_read_only=on", says: "default_transaction_read_only is on",
		},
		"a clock ahead": {
			database: url, clock: clock(3 * time.Second), says: " ahead of the database's, and may be off by 2s",
		},
		"a clock behind": {
			database: url, clock: clock(-time.Minute),
			says: "this machine's clock is 1m0s behind the database's, and may be off by 2s",
		},
		"options behind a pooler": {
			database: transaction.URL(name) + "&options=-csearch_path%3Dchat", says: "refuses the parameter options",
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			config := server.Config{
				DataDir: t.TempDir(), HTTP: "127.0.0.1:0", Database: test.database, DatabaseDirect: test.direct,
				MachineClock: test.clock,
			}
			running, err := server.Start(apitest.Context(t), config)
			if err == nil {
				t.Fatal("it starts", running.Close())
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says: %v", err)
			}
			if what != "few clients" && what != "few backends for sessions" { // of which doctor uses less
				expectDiagnosis(t, config, "problem", test.says)
			}
		})
	}
}
