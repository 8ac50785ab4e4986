package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Pooling is what stands between a server and PostgreSQL, and what of a connection it keeps.
type Pooling string

// What may stand between.
const (
	// NoPooler means that connections are PostgreSQL's own.
	NoPooler Pooling = "none"
	// SessionPooling gives a connection one backend for as long as it is open.
	SessionPooling Pooling = "session"
	// TransactionPooling gives a connection a backend for each transaction.
	TransactionPooling Pooling = "transaction"
)

// describe says it in words.
func (p Pooling) describe() string {
	if p == NoPooler {
		return "directly"
	}
	return "through a pooler in " + string(p) + " mode"
}

const (
	// backendWithin is how long a pooler may take to give a connection a backend that nobody else wants.
	backendWithin = 3 * time.Second
	// leastBackends are how many transactions have to be open at a time: a long read may not keep writes waiting.
	leastBackends = 2
)

// giveDirect is what to do about a pooler that keeps no sessions.
const giveDirect = "the pooler in --database is in transaction mode, and keeps no session, which holding the " +
	"database and migrating it need: give --database-direct (ROLLCALL_DATABASE_DIRECT) the URL of the same database " +
	"without the pooler, such as postgres://user:password@host:5432/database, or set pool_mode = session"

// findPooling tells what stands between a connection and PostgreSQL. It refuses a pooler that gives less than a server
// needs that uses connections at a time, besides the one it has. first is what conn was found to be.
func findPooling(ctx context.Context, conn *pgx.Conn, first backend, connections int) (Pooling, error) {
	if conn.PgConn().PID() == first.pid {
		return NoPooler, nil
	}
	probe := &poolerProbe{conn: conn, before: first.pid}
	defer probe.end(ctx)
	for opened := range connections {
		shared, err := probe.hold(ctx, opened < leastBackends || !probe.shares)
		switch {
		case err == nil:
			probe.shares = probe.shares || shared
		case ctx.Err() != nil:
			return "", err
		case probe.shares:
			return "", tooFew(opened, connections, err,
				fmt.Sprintf("max_client_conn to at least %d and default_pool_size to at least %d", connections, leastBackends))
		default: // the first connection has a backend too
			return "", tooFew(opened+1, connections+1, err,
				fmt.Sprintf("max_client_conn and default_pool_size to at least %d", connections+1))
		}
	}
	if probe.shares {
		return TransactionPooling, nil
	}
	return SessionPooling, nil
}

// TooFewError means that a pooler gives less connections than a server needs.
type TooFewError struct{ what string }

func (e *TooFewError) Error() string { return e.what }

func tooFew(got, needed int, err error, raise string) error {
	why := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		why = fmt.Sprintf("no backend in %s", backendWithin)
	}
	return &TooFewError{fmt.Sprintf("the pooler in --database gives %d of the %d connections that the server uses (%s): "+
		"raise %s, or use fewer with pool_max_conns in the URL", got, needed, why, raise)}
}

// poolerProbe holds backends to see whether a connection's own is given to others between its transactions.
type poolerProbe struct {
	conn   *pgx.Conn
	before uint32 // the backend that conn had last
	held   []*pgx.Conn
	// shares says that a connection's backend is given to others.
	shares bool
}

// hold opens one more connection, and when it is to, a transaction on it, which holds a backend. It reports whether
// conn has lost its backend to somebody, which only happens where it has none between its transactions.
func (p *poolerProbe) hold(ctx context.Context, begin bool) (shared bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, backendWithin)
	defer cancel()
	holder, err := pgx.ConnectConfig(ctx, p.conn.Config())
	if err != nil {
		return false, explainProbe(ctx, err)
	}
	p.held = append(p.held, holder)
	if !begin {
		return false, nil
	}
	if _, err := holder.Exec(ctx, `BEGIN`); err != nil {
		return false, explainProbe(ctx, err)
	}
	taken, err := pidOf(ctx, holder)
	if err != nil || taken == p.before {
		return taken == p.before, explainProbe(ctx, err)
	}
	if p.shares { // it would wait for a backend that is held here
		return false, nil
	}
	now, err := pidOf(ctx, p.conn)
	if err != nil {
		return false, explainProbe(ctx, err)
	}
	changed := now != p.before
	p.before = now
	return changed, nil
}

// explainProbe leaves of an error what a pooler says.
func explainProbe(ctx context.Context, err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("it says: %s", refused.Message)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// end gives back what is held. A connection that is closed in a transaction costs the pooler a backend.
func (p *poolerProbe) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backendWithin)
	defer cancel()
	for _, holder := range p.held {
		if holder.PgConn().TxStatus() != 'I' {
			_, _ = holder.Exec(ctx, `ROLLBACK`) // else it goes with the connection
		}
		_ = holder.Close(ctx) // it was only a probe
	}
}

func pidOf(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	return pid, err
}

// setting is a parameter of PostgreSQL and its value.
type setting struct{ name, value string }

// parameterRefused reports whether a pooler does not let a connection begin with a parameter, and which.
func parameterRefused(err error) (name string, refused bool) {
	said, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return "", false
	}
	_, name, refused = strings.Cut(said.Message, "unsupported startup parameter: ")
	return name, refused
}

// connectPlainly connects. What a pooler refuses to begin with is taken out of config and returned: it can be set by
// SQL.
func connectPlainly(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, []setting, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	name, refused := parameterRefused(err)
	if !refused {
		return conn, nil, connectError(config, err)
	}
	if name == "options" {
		return nil, nil, errors.New("the pooler in --database refuses the parameter options: " +
			"write what is in it as parameters of their own, such as ?search_path=chat, or ALTER ROLE … SET")
	}
	var settings []setting
	for name, value := range config.RuntimeParams {
		if name != applicationName {
			settings = append(settings, setting{name, value})
			delete(config.RuntimeParams, name)
		}
	}
	if len(settings) == 0 {
		return nil, nil, connectError(config, err)
	}
	conn, err = pgx.ConnectConfig(ctx, config)
	return conn, settings, connectError(config, err)
}

// setInSession has every new connection set its parameters by SQL.
func setInSession(config *pgx.ConnConfig, settings []setting) {
	if len(settings) == 0 {
		return
	}
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		for _, s := range settings {
			args := [][]byte{[]byte(s.name), []byte(s.value)}
			if err := conn.ExecParams(ctx, `SELECT set_config($1, $2, false)`, args, nil, nil, nil).Read().Err; err != nil {
				return fmt.Errorf("set %s: %w", s.name, err)
			}
		}
		return nil
	}
}

// setNow sets parameters by SQL: for the transaction, or for the session.
func setNow(ctx context.Context, conn *pgx.Conn, settings []setting, forTransaction bool) error {
	for _, s := range settings {
		if _, err := conn.Exec(ctx, `SELECT set_config($1, $2, $3)`, s.name, s.value, forTransaction); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

// setByRole says what to do about parameters in the URL where nothing outlives a transaction.
func setByRole(config *pgx.ConnConfig, settings []setting) error {
	var names, statements []string
	for _, s := range settings {
		names = append(names, s.name)
		statements = append(statements, fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s = %s;",
			pgx.Identifier{config.User}.Sanitize(), pgx.Identifier{config.Database}.Sanitize(), s.name, s.value))
	}
	return fmt.Errorf("the pooler in --database refuses the parameters %s, and is in transaction mode, in which they "+
		"cannot be set for a session: take them out of the URL, run %s and have the pooler connect anew (RECONNECT)",
		strings.Join(names, ", "), strings.Join(statements, " "))
}

// suit prepares the configuration of the pool for what stands between.
func (r *route) suit(pool *pgx.ConnConfig) {
	switch {
	case r.pooling == TransactionPooling:
		// What is prepared under a name stays with a backend. A statement without a name is planned anew each time.
		pool.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	case r.pooling == SessionPooling || len(r.settings) > 0:
		setInSession(pool, append(r.settings, setting{planCacheMode, customPlans}))
	default:
		pool.RuntimeParams[planCacheMode] = customPlans
	}
}

// poolerWatch notices when a pooler is away while the sessions that lead past it are not.
type poolerWatch struct {
	// apart says that there are such sessions.
	apart    bool
	away     atomic.Bool
	follower atomic.Pointer[poolerFollower]
}

type poolerFollower struct {
	lost     func(error)
	regained func()
}

// failed notes that there was no connection to be had.
func (w *poolerWatch) failed(ctx context.Context, err error) {
	if w.apart && ctx.Err() == nil && w.away.CompareAndSwap(false, true) {
		if f := w.follower.Load(); f != nil {
			f.lost(err)
		}
	}
}

// answered notes how a transaction has ended.
func (w *poolerWatch) answered(err error) {
	if err == nil && w.away.Load() && w.away.CompareAndSwap(true, false) {
		if f := w.follower.Load(); f != nil {
			f.regained()
		}
	}
}

// FollowPooler sets functions that are called when a pooler does not answer, by itself, and when it does again.
func (s *Store) FollowPooler(lost func(error), regained func()) {
	if e, ok := s.engine.(*postgres); ok {
		e.pooler.follower.Store(&poolerFollower{lost, regained})
	}
}
