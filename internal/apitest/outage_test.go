package apitest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/storetest"
)

const (
	// outagePatience bounds how long a test waits for what has to happen.
	outagePatience = time.Minute
	// outageWriters is how many clients write at once.
	outageWriters = 16
	// outageWrites is how many acknowledged writes are enough before an outage and after it.
	outageWrites = 200
)

// TestDatabaseOutage crashes PostgreSQL under a running server, again and again, and starts it again, while clients
// write.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	database, url := storetest.OwnPostgres(t)
	o := newOutage(t, url)
	o.writeInBackground()
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		o.awaitWrites()
		dead := o.mintToken()
		o.expectStatus(http.StatusOK, o.me(dead))
		o.revoke(dead)
		o.expectStatus(http.StatusOK, o.me(o.token)) // which is held in memory from now on
		if err := database.Crash(); err != nil {
			t.Fatal(err)
		}
		o.awaitReadiness(false)
		o.expectNoService()
		o.awaitRefusals()
		if err := database.Restart(apitest.Context(t)); err != nil {
			t.Fatal(err)
		}
		o.awaitReadiness(true)
		o.expectStatus(http.StatusOK, o.me(o.token))
		o.expectStatus(http.StatusUnauthorized, o.me(dead))
	}
	o.awaitWrites()
	o.stopWriting()
	o.verify()
}

// TestDatabaseStopped stops PostgreSQL in order under a running server, as an operator does, and starts it again, while
// clients write and a socket is open. Nobody gets a wrong answer, and nobody has to do anything about it.
func TestDatabaseStopped(t *testing.T) {
	t.Parallel()
	database, url := storetest.OwnPostgres(t)
	var log safeBuffer
	o := newOutage(t, url, func(config *server.Config) {
		config.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	socket := o.server.Login(t, apitest.Login{UID: "reader", Device: "phone", Body: everybody})
	o.writeInBackground()
	for range 2 {
		o.awaitWrites()
		if err := database.Stop(); err != nil {
			t.Fatal(err)
		}
		o.awaitReadiness(false)
		o.expectNoService()
		o.awaitRefusals()
		expectMetric(t, o.server, "rollcall_database_up", 0)
		if failures, _ := metric(t, o.server, `rollcall_database_failures_total{operation="write"}`); failures < 1 {
			t.Errorf("%v failures are counted", failures)
		}
		if err := database.Restart(apitest.Context(t)); err != nil {
			t.Fatal(err)
		}
		o.awaitReadiness(true)
		expectMetric(t, o.server, "rollcall_database_up", 1)
	}
	o.awaitWrites()
	o.stopWriting()
	o.verify()
	o.server.Login(t, apitest.Login{UID: "w0-0", Device: "phone"})
	socket.Hears("w0-0 online")
	for _, says := range []string{
		"the database does not answer, or another server uses it; requests are refused until that is over",
		`"msg":"waiting for the database","database":"PostgreSQL at /`, "does not answer: ",
	} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %q", says)
		}
	}
}

// TestStartWithoutDatabase starts servers while PostgreSQL is down: one fails at once and in words, another waits and says
// for what.
func TestStartWithoutDatabase(t *testing.T) {
	t.Parallel()
	database, url := storetest.OwnPostgres(t)
	if err := database.Stop(); err != nil {
		t.Fatal(err)
	}
	var log safeBuffer
	config := server.Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", Database: url, Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	}
	_, err := server.Start(t.Context(), config)
	if err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "--database-wait") {
		t.Errorf("without a database: %v", err)
	}
	config.DatabaseWait = outagePatience
	started := make(chan *server.Server, 1)
	go func() {
		s, err := server.Start(apitest.Context(t), config)
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	await(t, "the log to say what is waited for", func() bool {
		return strings.Contains(log.String(), `"msg":"waiting for the database","database":"PostgreSQL at /`)
	})
	if err := database.Restart(apitest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if s := storetest.Await(t, started, "the server"); s != nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := database.Stop(); err != nil {
		t.Fatal(err)
	}
	interrupted, interrupt := context.WithCancel(apitest.Context(t))
	go func() { interrupt() }()
	if _, err := server.Start(interrupted, config); err == nil {
		t.Error("it started without a database")
	}
}

// TestDatabaseWithoutRights starts a server as a PostgreSQL user that may make no tables, and doctor beside it.
func TestDatabaseWithoutRights(t *testing.T) {
	t.Parallel()
	admin, err := postgres.NewDatabase(apitest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	role := fmt.Sprintf("weak-%d", time.Now().UnixNano())
	run := func(statement string) {
		t.Helper()
		conn, err := pgx.Connect(apitest.Context(t), admin)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		if _, err := conn.Exec(apitest.Context(t), statement); err != nil {
			t.Fatal(err)
		}
	}
	run(`CREATE ROLE "` + role + `" LOGIN PASSWORD 'hunter2'`)
	config := server.Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", Database: strings.Replace(admin, "postgres@", role+":hunter2@", 1),
	}
	grant := `GRANT USAGE, CREATE ON SCHEMA public TO "` + role + `";`
	_, err = server.Start(t.Context(), config)
	if err == nil || !strings.Contains(err.Error(), grant) || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("without rights: %v", err)
	}
	found := false
	for _, finding := range server.Diagnose(t.Context(), config) {
		found = found || finding.Check == "database" && finding.Level == "problem" && strings.Contains(finding.Detail, grant)
	}
	if !found {
		t.Error("doctor does not find it")
	}
	run(grant)
	s, err := server.Start(t.Context(), config)
	if err != nil {
		t.Fatalf("after the grant: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	run(`DROP OWNED BY "` + role + `"`)
	run(`DROP ROLE "` + role + `"`)
}

// TestLostLease takes the database from a running server whose connections work: the one that holds the database is
// terminated, and another server is quicker to take it.
func TestLostLease(t *testing.T) {
	t.Parallel()
	_, url := storetest.OwnPostgres(t)
	o := newOutage(t, url)
	o.writeInBackground()
	o.awaitWrites()

	other, err := pgx.Connect(apitest.Context(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.WithoutCancel(t.Context()))
	dead := o.mintToken()
	o.expectStatus(http.StatusOK, o.me(o.token))
	o.expectStatus(http.StatusOK, o.me(dead)) // both are held in memory from now on
	o.takeLease(other)
	o.awaitReadiness(false)
	o.expectNoService()
	if _, err := other.Exec(apitest.Context(t), `DELETE FROM auth_tokens WHERE id = $1`, dead.ID); err != nil {
		t.Fatal(err)
	}
	o.expectNoService()
	if _, err := other.Exec(apitest.Context(t), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
	o.awaitReadiness(true)
	o.expectStatus(http.StatusUnauthorized, o.me(dead))
	o.expectStatus(http.StatusOK, o.me(o.token))

	o.awaitWrites()
	o.terminateHolder(other)
	o.awaitWrites() // whether anybody noticed or not
	o.awaitReadiness(true)
	o.stopWriting()
	o.verify()
}

// TestCommitWithoutAnswer crashes PostgreSQL when it has committed and not yet said so.
func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel()
	database, url := storetest.OwnPostgres(t)
	o := newOutage(t, url)
	jwt, dead := o.server.JWT(t, "reader")
	o.expectStatus(http.StatusOK, o.me(api.AuthToken{Token: dead}))
	socket := o.server.Login(t, apitest.Login{UID: "reader", Device: "phone", Body: api.AuthBody{Auth: jwt}})

	waitForStandby(t, url, "nobody")
	var calls sync.WaitGroup
	calls.Go(func() {
		r := o.backend(http.MethodDelete, "/v3/users/reader/auth_tokens/"+dead, "")
		if r.status < 500 || r.err.Code != api.CodeOperationFailed || strings.Contains(r.err.Message, "Nothing was changed") {
			t.Errorf("%s: want to be told that it is not known whether it happened, got %d %+v", r.what, r.status, r.err)
		}
	})
	o.await("a commit that waits for the standby", func() bool {
		return ask[bool](t, url, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')`)
	})
	if err := database.Crash(); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	if err := database.Restart(apitest.Context(t)); err != nil {
		t.Fatal(err)
	}
	waitForStandby(t, url, "")
	o.awaitReadiness(true)
	o.expectStatus(http.StatusUnauthorized, o.me(api.AuthToken{Token: dead}))
	if code, reason := socket.ClosedWith(); code != api.CloseRevoked {
		t.Errorf("the socket was closed with %d %s", code, reason)
	}
	o.verify()
}

// waitForStandby makes every commit wait for a standby of that name, or for none.
func waitForStandby(t *testing.T, url, name string) {
	t.Helper()
	conn, err := pgx.Connect(apitest.Context(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range []string{`ALTER SYSTEM SET synchronous_standby_names = '` + name + `'`, `SELECT pg_reload_conf()`} {
		if _, err := conn.Exec(apitest.Context(t), statement); err != nil {
			t.Fatal(err)
		}
	}
	if name != "" {
		awaitStandby(t, conn, url)
	}
}

// awaitStandby returns when commits wait for the standby: PostgreSQL tells its processes of a setting one by one.
func awaitStandby(t *testing.T, conn *pgx.Conn, url string) {
	t.Helper()
	pid := conn.PgConn().PID()
	var probing sync.WaitGroup
	defer probing.Wait()
	waits := make(chan struct{})
	probing.Go(func() {
		for {
			if _, err := conn.Exec(apitest.Context(t), `SELECT pg_logical_emit_message(true, 'probe', '')`); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-waits: // and was canceled, which is only a warning
				return
			default:
			}
		}
	})
	await(t, "a probe that waits for the standby", func() bool {
		return ask[bool](t, url, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')`, int64(pid))
	})
	close(waits)
	ask[bool](t, url, `SELECT pg_cancel_backend($1)`, int64(pid))
}

// ask asks a database one question, on a connection of its own.
func ask[T any](t *testing.T, url, question string, args ...any) (answer T) {
	t.Helper()
	conn, err := pgx.Connect(apitest.Context(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(apitest.Context(t), question, args...).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// outage is a server whose database goes away and comes back, clients that write meanwhile, and what they were told.
type outage struct {
	t      *testing.T
	server *apitest.Server
	direct *http.Client
	token  api.AuthToken // stays good

	stop    chan struct{}
	writing sync.WaitGroup
	written atomic.Int64 // how many users were created
	refused atomic.Int64
	perhaps atomic.Int64

	mu       sync.Mutex
	answered map[string]outcome // guarded by mu; by uid
}

// outcome is what a client was told about its write.
type outcome int

const (
	created outcome = iota
	notCreated
	perhapsCreated
)

func newOutage(t *testing.T, url string, configure ...func(*server.Config)) *outage {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: outageWriters}
	o := &outage{
		t: t, direct: &http.Client{Transport: transport, Timeout: outagePatience}, stop: make(chan struct{}), answered: map[string]outcome{},
		server: apitest.Start(t, url, func(config *server.Config) {
			config.RateLimits.Core, config.RateLimits.Standard = -1, -1
			for _, also := range configure {
				also(config)
			}
		}),
	}
	t.Cleanup(transport.CloseIdleConnections)
	t.Cleanup(o.stopWriting)
	if _, err := o.server.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: "reader", Name: "Reader"}); err != nil {
		t.Fatal(err)
	}
	o.token = o.mintToken()
	o.expectStatus(http.StatusOK, o.me(o.token))
	return o
}

func (o *outage) mintToken() api.AuthToken {
	o.t.Helper()
	token, err := o.server.Backend(o.t).AuthTokens.Create(o.t.Context(), "reader", api.CreateAuthTokenRequest{})
	if err != nil {
		o.t.Fatal(err)
	}
	return token
}

func (o *outage) revoke(token api.AuthToken) {
	o.t.Helper()
	if _, err := o.server.Backend(o.t).AuthTokens.Revoke(o.t.Context(), "reader", token.Token); err != nil {
		o.t.Fatal(err)
	}
}

// reply is an answer of the server.
type reply struct {
	what   string
	status int
	err    api.Error // of a status that is not 200
	// retryAfter is the header of this name.
	retryAfter string
}

// call makes a request as it is and demands that an error comes in the contract's envelope.
func (o *outage) call(method, path, body string, headers map[string]string) reply {
	o.t.Helper()
	r := reply{what: method + " " + path}
	request, err := http.NewRequestWithContext(context.WithoutCancel(o.t.Context()), method, o.server.URL+path, strings.NewReader(body))
	if err != nil {
		o.t.Error(err)
		return r
	}
	request.Header.Set("appId", o.server.Credentials.AppID)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := o.direct.Do(request)
	if err != nil {
		o.t.Errorf("%s was not answered: %v", r.what, err)
		return r
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		o.t.Errorf("%s was not answered to the end: %v", r.what, err)
	}
	r.retryAfter = response.Header.Get("Retry-After")
	if r.status = response.StatusCode; r.status != http.StatusOK {
		r.err = o.envelope(r.what, response, text)
	}
	return r
}

// envelope demands that an answer is the contract's error (contract rest.md section 10.1).
func (o *outage) envelope(what string, response *http.Response, text []byte) api.Error {
	o.t.Helper()
	var body api.ErrorBody
	if err := json.Unmarshal(text, &body); err != nil || body.Error.Code == "" || body.Error.Message == "" || body.Error.Source != api.Source {
		o.t.Errorf("%s: %d is not the contract's envelope (%v): %s", what, response.StatusCode, err, text)
	}
	if kind := response.Header.Get("Content-Type"); kind != "application/json; charset=utf-8" {
		o.t.Errorf("%s: %d has content type %q", what, response.StatusCode, kind)
	}
	if strings.Contains(strings.ToLower(string(text)), "postgres") {
		o.t.Errorf("%s: the answer tells callers about the inside: %s", what, text)
	}
	return body.Error
}

func (o *outage) me(token api.AuthToken) reply {
	o.t.Helper()
	return o.call(http.MethodGet, "/v3/me", "", map[string]string{"authToken": token.Token})
}

func (o *outage) backend(method, path, body string) reply {
	o.t.Helper()
	return o.call(method, path, body, map[string]string{"apikey": o.server.Credentials.RestAPIKey})
}

func (o *outage) expectStatus(want int, r reply) {
	o.t.Helper()
	if r.status != want {
		o.t.Errorf("%s: want %d, got %d %+v", r.what, want, r.status, r.err)
	}
}

// expectNoService demands that calls of every kind are refused as a fault of the server, those included that could be
// answered from memory: what is held there may not be so any more.
func (o *outage) expectNoService() {
	o.t.Helper()
	for _, r := range []reply{
		o.me(o.token),
		o.backend(http.MethodGet, "/v3/users/reader", ""),
		o.backend(http.MethodGet, "/v3/users", ""),
		o.backend(http.MethodGet, "/v3/changes", ""),
		o.backend(http.MethodPut, "/v3/users/reader", `{"name":"Renamed in the outage"}`),
		o.backend(http.MethodDelete, "/v3/users/reader", `{"permanent":true}`),
		o.backend(http.MethodPost, "/v3/users/reader/auth_tokens", `{}`),
		o.backend(http.MethodGet, "/v3/apikeys", ""),
		o.call(http.MethodPost, "/v3/me/jwt", "", map[string]string{"authToken": o.token.Token}),
	} {
		o.expectUnavailable(r)
	}
	o.expectStatus(http.StatusOK, o.call(http.MethodGet, "/healthz", "", nil))
}

// expectUnavailable demands that a call is refused for now, and that the caller is told when to come back.
func (o *outage) expectUnavailable(r reply) {
	o.t.Helper()
	if r.status != http.StatusServiceUnavailable || r.err.Code != api.CodeOperationFailed || r.retryAfter == "" || r.retryAfter == "0" {
		o.t.Errorf("%s: want a refusal with %s and Retry-After, got %d %q %+v", r.what, api.CodeOperationFailed, r.status, r.retryAfter, r.err)
	}
}

func (o *outage) awaitReadiness(ready bool) {
	o.t.Helper()
	o.await(fmt.Sprintf("/readyz to say %v", ready), func() bool {
		r := o.call(http.MethodGet, "/readyz", "", nil)
		if r.status != http.StatusOK && r.status != http.StatusServiceUnavailable {
			o.expectStatus(http.StatusServiceUnavailable, r)
		}
		return (r.status == http.StatusOK) == ready
	})
}

// await asks again and again until something is so.
func (o *outage) await(what string, is func() bool) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), outagePatience)
	defer cancel()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for !is() {
		select {
		case <-pause.C:
		case <-ctx.Done():
			o.t.Fatalf("waited for %s in vain", what)
		}
	}
}

// writeInBackground creates users from many clients until stopWriting.
func (o *outage) writeInBackground() {
	for writer := range outageWriters {
		o.writing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-o.stop:
					return
				default:
				}
				o.create(fmt.Sprintf("w%d-%d", writer, i))
			}
		})
	}
}

func (o *outage) create(uid string) {
	r := o.backend(http.MethodPost, "/v3/users", fmt.Sprintf(`{"uid":%q,"name":"Somebody"}`, uid))
	told := created
	switch {
	case r.status == http.StatusOK:
		o.written.Add(1)
	case r.status < 500 || r.err.Code != api.CodeOperationFailed:
		o.t.Errorf("create %s: want success or %s, got %d %+v", uid, api.CodeOperationFailed, r.status, r.err)
		return
	case strings.Contains(r.err.Message, "Nothing was changed"):
		told = notCreated
		o.refused.Add(1)
		o.expectUnavailable(r)
	default:
		told = perhapsCreated
		o.perhaps.Add(1)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered[uid] = told
}

func (o *outage) awaitWrites()   { o.awaitMore("writes to be acknowledged", &o.written, outageWrites) }
func (o *outage) awaitRefusals() { o.awaitMore("writes to be refused", &o.refused, outageWriters) }

func (o *outage) awaitMore(what string, counter *atomic.Int64, more int64) {
	o.t.Helper()
	from := counter.Load()
	o.await(what, func() bool { return counter.Load() >= from+more })
}

func (o *outage) stopWriting() {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.writing.Wait()
}

// takeLease makes a connection hold the database in the place of the server.
func (o *outage) takeLease(other *pgx.Conn) {
	o.t.Helper()
	holder := holderOf(o.t, other)
	waits := make(chan error, 1)
	pid, url := other.PgConn().PID(), other.Config().ConnString()
	go func() {
		_, err := other.Exec(apitest.Context(o.t), `SELECT pg_advisory_lock(x'726f6c6c63616c6c'::bigint)`)
		waits <- err
	}()
	o.await("another server to wait for the database", func() bool {
		return ask[bool](o.t, url, `SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)`, pid)
	})
	ask[bool](o.t, url, `SELECT pg_terminate_backend($1)`, holder)
	if err := storetest.Await(o.t, waits, "the lock of the database"); err != nil {
		o.t.Fatal(err)
	}
}

// terminateHolder terminates the connection that holds the database, and waits until another one does.
func (o *outage) terminateHolder(control *pgx.Conn) {
	o.t.Helper()
	before := holderOf(o.t, control)
	if _, err := control.Exec(apitest.Context(o.t), `SELECT pg_terminate_backend($1)`, before); err != nil {
		o.t.Fatal(err)
	}
	o.await("the server to hold the database again", func() bool {
		holder := holderOf(o.t, control)
		return holder != 0 && holder != before
	})
}

// holderOf returns the backend that holds the database, 0 for none.
func holderOf(t *testing.T, control *pgx.Conn) (pid int) {
	t.Helper()
	err := control.QueryRow(apitest.Context(t), `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
		AND classid = x'726f6c6c'::bigint::oid AND objid = x'63616c6c'::bigint::oid`).Scan(&pid)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// verify compares everything that the server shows with what the writers were told.
func (o *outage) verify() {
	o.t.Helper()
	backend := o.server.Backend(o.t)
	there := map[string]bool{}
	options := client.UserListOptions{}
	options.PerPage = 1000
	for user, err := range backend.Users.All(o.t.Context(), options) {
		if err != nil {
			o.t.Fatal(err)
		}
		there[user.UID] = true
	}
	logged := o.verifyChanges(backend)
	perhaps := 0
	for uid, told := range o.answered {
		switch {
		case told == created && !there[uid]:
			o.t.Errorf("%s is gone, whose creation was acknowledged", uid)
		case told == notCreated && there[uid]:
			o.t.Errorf("%s is there, of whom it was said that nothing was changed", uid)
		case told == perhapsCreated:
			perhaps++
		}
	}
	for uid := range there {
		if logged[uid] != 1 {
			o.t.Errorf("the change log says %d times that %s was created", logged[uid], uid)
		}
		delete(logged, uid)
	}
	for uid := range logged {
		o.t.Errorf("the change log says that %s was created, who is not there", uid)
	}
	o.t.Logf("%d writes were acknowledged, %d refused, and of %d it was not known", o.written.Load(), o.refused.Load(), perhaps)
}

// verifyChanges demands that the change log has every revision once, and returns how often each user was created.
func (o *outage) verifyChanges(backend *client.Client) (created map[string]int) {
	o.t.Helper()
	created = map[string]int{}
	for since := int64(0); ; {
		changes, last, err := backend.Changes.List(o.t.Context(), since, 1000)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, change := range changes {
			if change.Revision != since+1 {
				o.t.Fatalf("revision %d comes behind %d", change.Revision, since)
			}
			since = change.Revision
			if change.Kind == "user.created" {
				created[change.Subject]++
			}
		}
		if len(changes) == 0 {
			if since != last {
				o.t.Fatalf("the change log ends with revision %d, the last one is %d", since, last)
			}
			return created
		}
	}
}
