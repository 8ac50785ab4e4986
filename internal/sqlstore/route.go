package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	applicationName = "application_name"
	// A plan made while a table is small, and kept, reads the whole table when it has grown.
	planCacheMode, customPlans = "plan_cache_mode", "force_custom_plan"
	// MaxClockOffset is how far a server's clock may be from the database's.
	MaxClockOffset = 2 * time.Second
)

// PostgresOption changes how a database on PostgreSQL is opened.
type PostgresOption func(*route)

// WithDirect names the same database without the pooler that its URL leads through. Empty means that there is none.
func WithDirect(url string) PostgresOption { return func(r *route) { r.directURL = url } }

// WithClock sets the clock that is compared with the database's, in place of time.Now.
func WithClock(now func() time.Time) PostgresOption { return func(r *route) { r.now = now } }

// Route is how a server reaches PostgreSQL.
type Route struct {
	Pooling Pooling
	// Host is where PostgreSQL was reached last, the pooler aside: host:port, or the path of a Unix socket.
	Host string
	// ClockOffset is how far the database's clock is ahead of this server's; negative when it is behind.
	ClockOffset time.Duration
}

// String says it in words.
func (r Route) String() string {
	return fmt.Sprintf("reached %s, at %s, %s", r.Pooling.describe(), r.Host, describeOffset(r.ClockOffset))
}

// describeOffset says how far the database's clock is off.
func describeOffset(offset time.Duration) string {
	direction := "ahead of"
	if offset < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("whose clock is %s %s this machine's", offset.Abs().Round(time.Millisecond), direction)
}

// route is what connections to PostgreSQL need.
type route struct {
	pooling   Pooling
	directURL string
	now       func() time.Time
	// session is for connections that are sessions. It leads past a pooler that keeps none.
	session *pgx.ConnConfig
	// settings are the parameters of the URL that a pooler does not let a connection begin with.
	settings []setting
	// reached is where session has led last.
	reached atomic.Pointer[reached]
}

func newRoute(options []PostgresOption) *route {
	r := &route{now: time.Now}
	for _, option := range options {
		option(r)
	}
	return r
}

// reached is a running PostgreSQL that a session has led to.
type reached struct {
	Route
	server string
	// timeline grows with every standby that is promoted. It is empty for a server that is the only one.
	timeline string
}

// backend is what PostgreSQL says of itself and of a connection.
type backend struct {
	pid uint32
	// server tells a database on a running PostgreSQL from all others, and schema is the one that is used.
	server, schema    string
	standby, readOnly bool
	// room is how many connections this user may have.
	room int
	// earliest and latest bound how far the database's clock is ahead of this server's.
	earliest, latest time.Duration
}

func (b backend) clockOffset() time.Duration { return (b.earliest + b.latest) / 2 }

// whichServer tells a running PostgreSQL, and the database, from all others.
const whichServer = `concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), current_database())`

// whichTimeline is eight hexadecimal digits; of a standby it is not known.
const whichTimeline = `CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END`

// askBackend also tells how many connections PostgreSQL has for the user.
const askBackend = `SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
	clock_timestamp(), ` + whichServer + `, coalesce(current_schema(), ''),
	least(nullif(d.datconnlimit, -1), CASE WHEN r.rolsuper THEN NULL ELSE nullif(r.rolconnlimit, -1) END,
		current_setting('max_connections')::int -
		CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int END)
	FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user`

func (r *route) ask(ctx context.Context, conn *pgx.Conn) (b backend, err error) {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	if _, err := pidOf(ctx, conn); err != nil { // first: only what the question itself takes makes clocks uncertain
		return b, connectError(conn.Config(), err)
	}
	var there time.Time
	before := r.now()
	err = conn.QueryRow(ctx, askBackend).Scan(&b.pid, &b.standby, &b.readOnly, &there, &b.server, &b.schema, &b.room)
	after := r.now()
	b.earliest, b.latest = there.Sub(after), there.Sub(before)
	return b, connectError(conn.Config(), err)
}

// ClockError means that a server's clock is not the database's.
type ClockError struct{ Offset time.Duration }

func (e *ClockError) Error() string {
	direction := "behind"
	if e.Offset < 0 {
		direction = "ahead of"
	}
	return fmt.Sprintf(
		"this machine's clock is %s %s the database's, and may be off by %s: have both set by NTP, such as chrony",
		e.Offset.Abs().Round(100*time.Millisecond), direction, MaxClockOffset,
	)
}

// check tells why a server cannot work there with a number of connections of its own.
func (b backend) check(config *pgx.ConnConfig, connections int) error {
	switch {
	case b.standby:
		return fmt.Errorf("PostgreSQL at %s is a standby, which can only be read: name the primary in --database, or all "+
			"of its servers with target_session_attrs=read-write", placeOf(config))
	case b.readOnly:
		return fmt.Errorf("PostgreSQL at %s lets nobody write: default_transaction_read_only is on, for the database, "+
			"the user or all", placeOf(config))
	case b.room < connections:
		return fmt.Errorf("PostgreSQL at %s lets %d connections in, and the server uses %d: raise max_connections, or "+
			"the limit of the user or the database, or use fewer with pool_max_conns in the URL",
			placeOf(config), b.room, connections)
	case b.earliest > MaxClockOffset || b.latest < -MaxClockOffset:
		return &ClockError{b.clockOffset()}
	}
	return nil
}

// open finds out what stands between this server and PostgreSQL, prepares the pool's configuration for it, and returns
// a connection that is a session. What would fail later is refused. probes is how many connections are tried of a
// pooler.
func (r *route) open(ctx context.Context, pool *pgxpool.Config, probes int) (*pgx.Conn, error) {
	config := safeConfig(pool.ConnConfig)
	conn, settings, err := connectPlainly(ctx, config)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*pgx.Conn, error) {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	r.settings = settings
	found, err := r.ask(ctx, conn)
	if err != nil {
		return fail(err)
	}
	if r.pooling, err = findPooling(ctx, conn, found, probes); err != nil {
		return fail(err)
	}
	if len(settings) > 0 {
		if r.pooling == TransactionPooling {
			return fail(setByRole(config, settings))
		}
		if err := setNow(ctx, conn, settings, false); err != nil {
			return fail(err)
		}
		if found, err = r.ask(ctx, conn); err != nil {
			return fail(err)
		}
	}
	needed := int(pool.MaxConns) + 1
	if r.pooling == TransactionPooling { // what it gives was seen
		needed = leastBackends
	}
	if err := found.check(pool.ConnConfig, needed); err != nil {
		return fail(err)
	}
	switch {
	case r.directURL != "":
		session, err := r.openDirect(ctx, conn, found)
		if err != nil {
			return fail(err)
		}
		if err := conn.Close(ctx); err != nil {
			return nil, errors.Join(err, session.Close(ctx))
		}
		conn = session
	case r.pooling == TransactionPooling:
		return fail(errors.New(giveDirect))
	default:
		r.session = config.Copy()
		r.session.DefaultQueryExecMode = pool.ConnConfig.DefaultQueryExecMode
		setInSession(r.session, settings)
	}
	pool.ConnConfig.RuntimeParams = config.RuntimeParams
	r.suit(pool.ConnConfig)
	if len(hostsOf(pool.ConnConfig)) > 1 {
		pool.ConnConfig.ValidateConnect = r.validate(true)
	}
	if len(hostsOf(r.session)) > 1 {
		r.session.ValidateConnect = r.validate(false)
	}
	if err := r.note(ctx, conn, found); err != nil {
		return fail(err)
	}
	return conn, nil
}

// openDirect connects past the pooler to the database that pooled leads to.
func (r *route) openDirect(ctx context.Context, pooled *pgx.Conn, found backend) (*pgx.Conn, error) {
	config, err := parsePostgresURL(r.directURL)
	if err != nil {
		return nil, fmt.Errorf("--database-direct: %w", err)
	}
	r.session = config.ConnConfig
	conn, err := pgx.ConnectConfig(ctx, safeConfig(r.session))
	if err != nil {
		return nil, connectError(r.session, err)
	}
	fail := func(err error) (*pgx.Conn, error) {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	direct, err := r.ask(ctx, conn)
	if err != nil {
		return fail(err)
	}
	if direct.pid != conn.PgConn().PID() {
		return fail(fmt.Errorf("--database-direct leads through a pooler too, at %s: give it the URL of PostgreSQL itself",
			placeOf(r.session)))
	}
	if err := direct.check(r.session, 1); err != nil {
		return fail(fmt.Errorf("--database-direct: %w", err))
	}
	if direct.server != found.server || direct.schema != found.schema {
		return fail(fmt.Errorf("--database leads to another database, or another schema, than --database-direct: %s and %s",
			placeOf(pooled.Config()), placeOf(r.session)))
	}
	return conn, nil
}

// reopen looks where a new session has got to.
func (r *route) reopen(ctx context.Context, conn *pgx.Conn) error {
	found, err := r.ask(ctx, conn)
	if err == nil {
		err = found.check(r.session, 1)
	}
	if _, off := errors.AsType[*ClockError](err); off { // it is told, and nothing fails of it at once
		err = nil
	}
	if err != nil {
		return err
	}
	return r.note(ctx, conn, found)
}

// note remembers where a session leads. There are relatives of PostgreSQL without timelines, which are asked for only
// where they matter.
func (r *route) note(ctx context.Context, conn *pgx.Conn, found backend) error {
	now := &reached{Route: Route{r.pooling, hostOf(conn), found.clockOffset()}, server: found.server}
	if len(hostsOf(r.session)) > 1 {
		if err := conn.QueryRow(ctx, `SELECT `+whichTimeline).Scan(&now.timeline); err != nil {
			return connectError(r.session, err)
		}
	}
	r.reached.Store(now)
	return nil
}

// What is wrong with one of several servers.
var (
	errReplaced    = errors.New("another one has taken over from it")
	errOtherServer = errors.New("it is not the one that is in use")
)

// validate has connections lead past those of several servers that can only be read, and past one that was the primary
// until another one took over: it may have come back, and let itself be written to. same has them lead nowhere but to
// the server that the session leads to.
func (r *route) validate(same bool) pgconn.ValidateConnectFunc {
	const question = `SELECT current_setting('transaction_read_only'), ` + whichServer + `, ` + whichTimeline
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		results, err := conn.Exec(ctx, question).ReadAll()
		if err != nil {
			return err
		}
		said, now := results[0].Rows[0], r.reached.Load()
		switch {
		case string(said[0]) == "on":
			return pgconn.ErrReadOnlyConnection
		case string(said[2]) < now.timeline:
			return errReplaced
		case same && string(said[1]) != now.server:
			return errOtherServer
		}
		return nil
	}
}

// hostOf returns where a connection leads.
func hostOf(conn *pgx.Conn) string {
	address := conn.PgConn().Conn().RemoteAddr()
	if path, ok := address.(*net.UnixAddr); ok {
		return path.Name
	}
	return address.String()
}

// safeConfig is for connections that ask little: nothing of them stays with a pooler's backend.
func safeConfig(config *pgx.ConnConfig) *pgx.ConnConfig {
	safe := config.Copy()
	safe.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	return safe
}
