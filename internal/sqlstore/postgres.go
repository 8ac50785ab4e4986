package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcall/rollcall/internal/directory"
)

const (
	// ownerLock is the advisory lock that the one server of a database holds: "rollcall" in ASCII.
	ownerLock = 0x726f6c6c63616c6c
	// longestTransaction bounds a transaction that no caller's deadline bounds: a database that hangs is an error, not a
	// queue that never moves.
	longestTransaction = 30 * time.Second
	// leaseGone is how long PostgreSQL may take to notice that the server which held the database is gone.
	leaseGone = 2 * time.Second
	// askLease is how often the connection that holds the database is asked whether it still does, and leaseAnswers how
	// long that may take: a network that swallows everything breaks no connection.
	askLease     = 2 * time.Second
	leaseAnswers = 5 * time.Second
	// lostWithin is how long a transaction may take to end whose connection broke at its commit, before the lease is given
	// up.
	lostWithin = 5 * time.Second
	// maxPending bounds how many statements wait to be sent together.
	maxPending = 512
)

// OpenPostgres opens the PostgreSQL database that url names and migrates it to this version's schema. One server at
// a time may use a database: another one is refused, and when this one loses its lease, it stops reading and writing
// until it has it again.
func OpenPostgres(ctx context.Context, url string, options ...PostgresOption) (*Store, error) {
	engine, config, session, err := newPostgres(ctx, url, options)
	if err != nil {
		return nil, err
	}
	owner, err := awaitLease(ctx, session)
	if err != nil {
		return nil, err
	}
	engine.take(ctx)
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	engine.stopWatching = stop
	engine.watching.Go(func() { engine.keepLease(watching, owner) })
	if err := engine.open(ctx, config); err != nil {
		return nil, errors.Join(err, engine.close())
	}
	return newPostgresStore(engine), nil
}

// newPostgres finds out how the database that url names is reached, and returns its engine, the configuration of its
// pool, and a connection that is a session.
func newPostgres(
	ctx context.Context, url string, options []PostgresOption,
) (*postgres, *pgxpool.Config, *pgx.Conn, error) {
	config, err := parsePostgresURL(url)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read database address: %w", err)
	}
	route := newRoute(options)
	session, err := route.open(ctx, config, int(config.MaxConns))
	if err != nil {
		return nil, nil, nil, err
	}
	engine := &postgres{route: route, unended: map[directory.AppID]struct{}{}}
	engine.pooler.apart = route.directURL != ""
	nothing := func() {}
	engine.follower.Store(&leaseFollower{lost: nothing, regaining: nothing, regained: nothing, waiting: func(error) {}})
	return engine, config, session, nil
}

// newPostgresStore returns a store that forgets what it remembers when the lease is lost.
func newPostgresStore(engine *postgres) *Store {
	store := newStore(engine)
	store.FollowLease(func() {}, func(error) {}, func() {})
	return store
}

// OpenShared opens a PostgreSQL database as OpenPostgres does, for one of many servers. It returns when the others know
// of this one. When the lease is lost, the store stops reading and writing until it has another.
func OpenShared(ctx context.Context, url string, shared Cluster, options ...PostgresOption) (*Store, error) {
	engine, config, session, err := newPostgres(ctx, url, options)
	if err == nil {
		err = session.Close(ctx) // a lease is a row, and needs none
	}
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	engine.stopWatching = stop
	if err := engine.open(ctx, config); err != nil {
		return nil, errors.Join(err, engine.close())
	}
	own := config.Copy()
	own.MaxConns = clusterConns
	engine.cluster = newCluster(shared, engine)
	if engine.cluster.pool, err = pgxpool.NewWithConfig(ctx, own); err != nil {
		return nil, errors.Join(err, engine.close())
	}
	store := newPostgresStore(engine)
	engine.cluster.tell = store.handOn
	unsubscribe, err := engine.cluster.subscribe()
	if err == nil {
		if err = engine.cluster.join(ctx); err != nil {
			unsubscribe()
		}
	}
	if err != nil {
		return nil, errors.Join(err, engine.close())
	}
	engine.watching.Go(func() { engine.cluster.keep(watching) })
	engine.watching.Go(func() {
		defer unsubscribe()
		engine.cluster.follow(watching)
	})
	return store, nil
}

type postgres struct {
	pool  *pgxpool.Pool
	route *route
	texts insertTexts

	// lease is nil while another server may be using the database.
	lease        atomic.Pointer[lease]
	follower     atomic.Pointer[leaseFollower]
	cluster      *cluster // nil for a server that has the database for itself
	pooler       poolerWatch
	stopWatching context.CancelFunc
	watching     sync.WaitGroup

	mu sync.Mutex
	// unended are the apps of transactions of which it is not known whether they are over. Guarded by mu
	unended map[directory.AppID]struct{}
}

// Route returns how PostgreSQL is reached. It reports false on SQLite.
func (s *Store) Route() (Route, bool) {
	if e, ok := s.engine.(*postgres); ok {
		return e.route.reached.Load().Route, true
	}
	return Route{}, false
}

func (e *postgres) open(ctx context.Context, config *pgxpool.Config) error {
	db := stdlib.OpenDB(*e.route.session)
	if err := refuseMovedPostgres(ctx, db); err != nil {
		return errors.Join(err, db.Close())
	}
	err := explainMigration(migrate(ctx, db, postgresDialect), e.route.session.User)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	e.pool = pool
	return nil
}

func (e *postgres) writeQueue(app directory.AppID) string { return string(app) }

func (e *postgres) close() error {
	if e.pool != nil {
		e.pool.Close()
	}
	e.stopWatching()
	e.watching.Wait()
	if e.cluster != nil && e.cluster.pool != nil {
		e.cluster.pool.Close()
	}
	return nil
}

func (e *postgres) querier(ctx context.Context, begin string) (*pgQuerier, error) {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		e.pooler.failed(ctx, err)
		return nil, postgresError(ctx, "connect", err)
	}
	querier := &pgQuerier{ctx: ctx, conn: conn, texts: &e.texts}
	if begin != "" {
		querier.pending = []heldStatement{{sql: begin}}
	}
	return querier, nil
}

func (e *postgres) begin(_ context.Context, within limits) (transaction, error) {
	h := e.held()
	if h == nil {
		return nil, errNoLease
	}
	ctx, cancel := context.WithCancelCause(h.ctx)
	t := &pgTransaction{engine: e, cancel: cancel, within: limits{time.Now().Add(longestTransaction), lostWithin}}
	t.timer = time.AfterFunc(longestTransaction, func() { cancel(errNoAnswer) })
	t.narrow(within)
	querier, err := e.querier(ctx, `BEGIN`) //nolint:contextcheck // a write ends with the lease, not with its caller
	if err != nil {
		t.timer.Stop()
		cancel(nil)
		return nil, err
	}
	t.pgQuerier = querier
	return t, nil
}

func (e *postgres) view(ctx context.Context, fn func(querier) error) error {
	h := e.held()
	if h == nil {
		return errNoLease
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if _, bounded := ctx.Deadline(); !bounded {
		defer time.AfterFunc(longestTransaction, func() { cancel(errNoAnswer) }).Stop()
	}
	// A connection that has died without a word ends with the lease, and not when the network gives up.
	defer context.AfterFunc(h.ctx, func() { cancel(context.Cause(h.ctx)) })() //nolint:contextcheck // a second thing that ends it
	s, err := e.querier(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	if err != nil {
		return err
	}
	defer s.conn.Release() // a connection still in a transaction is thrown away
	err = fn(s)
	switch {
	case !s.asked: // everything was in memory: there is no transaction to end
		return err
	case err != nil:
		return errors.Join(err, s.end(`ROLLBACK`))
	}
	err = s.end(`COMMIT`)
	e.pooler.answered(err)
	return err
}

type pgTransaction struct {
	*pgQuerier
	engine *postgres
	apps   []directory.AppID // that it has locked
	cancel context.CancelCauseFunc
	ended  bool
	// timer ends it.
	timer *time.Timer

	mu sync.Mutex
	// within says when the timer does, and how long the outcome may be looked for then. Guarded by mu
	within limits
}

func (t *pgTransaction) narrow(within limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !within.endBy.IsZero() && within.endBy.Before(t.within.endBy) {
		t.within = within
		t.timer.Reset(time.Until(within.endBy))
	}
}

// reserve is how long the outcome of a commit may be looked for.
func (t *pgTransaction) reserve() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(lostWithin, t.within.reserve)
}

// lockOfApp takes a lock that ends with the transaction. A row lock would not do: the first update of an app has no
// row.
const lockOfApp = `SELECT pg_advisory_xact_lock(hashtextextended($1, $2))`

// expectHead fails, by a division by zero, when an app's log is somewhere else.
const expectHead = `SELECT 1 / (CASE WHEN coalesce(max(version), 0) = $2 THEN 1 ELSE 0 END) FROM revisions WHERE app = $1`

func (t *pgTransaction) lockApp(app directory.AppID, expected *head) (head, error) {
	t.apps = append(t.apps, app)
	if err := t.exec(lockOfApp, string(app), int64(ownerLock)); err != nil {
		return head{}, err
	}
	if expected == nil {
		return (&tx{querier: t.pgQuerier}).head(app)
	}
	return *expected, t.exec(expectHead, string(app), expected.version)
}

func (t *pgTransaction) fetchUsers(app directory.AppID, uids []directory.UID) ([]directory.User, error) {
	texts := make([]string, len(uids))
	for i, uid := range uids {
		texts[i] = string(uid)
	}
	return all(
		&tx{querier: t.pgQuerier}, `SELECT `+userColumns+` FROM users WHERE app = $1 AND uid = ANY($2)`,
		[]any{string(app), texts}, readUser,
	)
}

func (t *pgTransaction) commit() (uncertain bool, err error) {
	err = t.end(`COMMIT`)
	t.engine.pooler.answered(err)
	if err == nil {
		t.release()
		return false, nil
	}
	if isUnsent(err) || wasRefused(err) {
		return false, err
	}
	t.engine.awaitEnd(t.apps, t.reserve())
	return true, &engineError{err: err, uncertain: true}
}

// isUnsent reports whether PostgreSQL has heard nothing of what failed.
func isUnsent(err error) bool {
	var e *engineError
	return errors.As(err, &e) && e.unsent
}

// wasRefused reports whether PostgreSQL has not done what it was asked to. One that ends a connection may have done it.
func wasRefused(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR"
}

func (t *pgTransaction) rollback() {
	if t.ended {
		return
	}
	t.pending = nil
	if !t.asked { // there is nothing to roll back
		t.release()
		return
	}
	_ = t.end(`ROLLBACK`) // when it fails the connection is broken, and the transaction gone with it
	t.release()
}

func (t *pgTransaction) release() {
	t.ended = true
	t.timer.Stop()
	t.cancel(nil)
	t.conn.Release()
}
