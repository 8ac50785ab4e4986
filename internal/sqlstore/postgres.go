package sqlstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcall/rollcall/internal/directory"
)

const (
	// ownerLock is the advisory lock that the one server of a database holds: "rollcall" in ASCII.
	ownerLock = 0x726f6c6c63616c6c
	// longestTransaction bounds a transaction that no caller's deadline bounds: a database that hangs is an error, not a queue
	// that never moves.
	longestTransaction = 30 * time.Second
	// leaseGone is how long PostgreSQL may take to notice that the server which held the database is gone.
	leaseGone = 2 * time.Second
	// askLease is how often the connection that holds the database is asked whether it still does, and leaseAnswers how
	// long that may take: a network that swallows everything breaks no connection.
	askLease     = 2 * time.Second
	leaseAnswers = 5 * time.Second
	// lostWithin is how long a transaction may take to end whose connection broke at its commit, before the lease is given up.
	lostWithin = 5 * time.Second
	// maxPending bounds how many statements wait to be sent together.
	maxPending = 512
)

// OpenPostgres opens the PostgreSQL database that url names and migrates it to this version's schema. One server at
// a time may use a database: another one is refused, and when this one loses its lease, it stops reading and writing
// until it has it again.
func OpenPostgres(ctx context.Context, url string) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read database address, which is to be a postgres:// URL: %w", err)
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "rollcall"
	}
	// A plan made while a table is small, and kept, reads the whole table when it has grown.
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	owner, err := takeLease(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	engine := &postgres{connConfig: config.ConnConfig, unended: map[directory.AppID]struct{}{}}
	engine.take(ctx)
	nothing := func() {}
	engine.follower.Store(&leaseFollower{lost: nothing, regaining: nothing, regained: nothing})
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	engine.stopWatching = stop
	engine.watching.Go(func() { engine.keepLease(watching, owner) })
	if err := engine.open(ctx, config); err != nil {
		return nil, errors.Join(err, engine.close())
	}
	store := newStore(engine)
	store.FollowLease(nothing, nothing)
	return store, nil
}

type postgres struct {
	pool       *pgxpool.Pool
	connConfig *pgx.ConnConfig
	texts      insertTexts

	// lease is nil while another server may be using the database.
	lease        atomic.Pointer[lease]
	follower     atomic.Pointer[leaseFollower]
	stopWatching context.CancelFunc
	watching     sync.WaitGroup

	mu sync.Mutex
	// unended are the apps of transactions of which it is not known whether they are over. Guarded by mu
	unended map[directory.AppID]struct{}
}

// lease is the time during which the database is this server's: its context ends with it.
type lease struct {
	ctx context.Context //nolint:containedctx // it is what a lease is
	end context.CancelCauseFunc
}

// leaseFollower is told when the database stops being this server's, and when it is about to be and is again.
type leaseFollower struct{ lost, regaining, regained func() }

func (e *postgres) open(ctx context.Context, config *pgxpool.Config) error {
	db := stdlib.OpenDB(*config.ConnConfig)
	if err := errors.Join(migrate(ctx, db, postgresDialect), db.Close()); err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	e.pool = pool
	return nil
}

func takeLease(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	for tried := time.Now(); ; {
		var owned bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(ownerLock)).Scan(&owned); err != nil {
			return nil, errors.Join(fmt.Errorf("lock database: %w", err), conn.Close(ctx))
		}
		if owned {
			return conn, nil
		}
		if time.Since(tried) > leaseGone {
			return nil, errors.Join(fmt.Errorf("the database is in use by another rollcall server%s; stop it first", describeHolder(ctx, conn)), conn.Close(ctx))
		}
		select {
		case <-time.After(leaseGone / 40):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), conn.Close(context.WithoutCancel(ctx)))
		}
	}
}

// describeHolder tells which connection holds the database, as far as can be seen.
func describeHolder(ctx context.Context, conn *pgx.Conn) string {
	var pid int
	var address string
	err := conn.QueryRow(ctx, `SELECT a.pid, coalesce(host(a.client_addr), 'this machine') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND (l.classid::bigint << 32 | l.objid::bigint) = $1`, int64(ownerLock)).Scan(&pid, &address)
	if err != nil {
		return "" // only words are missing from a message that says enough
	}
	return fmt.Sprintf(" (connected from %s, backend pid %d)", address, pid)
}

// take begins a lease.
func (e *postgres) take(ctx context.Context) {
	h := &lease{}
	h.ctx, h.end = context.WithCancelCause(context.WithoutCancel(ctx))
	e.lease.Store(h)
}

// lose ends the lease and says so, if there is one.
func (e *postgres) lose() {
	if e.endLease() {
		e.follower.Load().lost()
	}
}

// endLease ends the lease, if there is one, and with it what is being written: it could be committed when another server writes
// already.
func (e *postgres) endLease() (ended bool) {
	h := e.lease.Swap(nil)
	if h != nil {
		h.end(errNoLease)
	}
	return h != nil
}

// keepLease notices when the connection that holds the database breaks or does not answer any more, and takes the
// lease again.
func (e *postgres) keepLease(ctx context.Context, owner *pgx.Conn) {
	defer e.endLease()
	for {
		e.watchLease(ctx, owner)
		if ctx.Err() != nil {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseAnswers)
			defer cancel()
			_, _ = owner.Exec(closing, `SELECT pg_advisory_unlock($1)`, int64(ownerLock)) // else it goes with the connection
			_ = owner.Close(closing)
			return
		}
		e.lose()
		_ = owner.Close(ctx) // it is broken: nothing can be done about it
		if owner = e.retakeLease(ctx); owner == nil {
			return
		}
		e.follower.Load().regaining()
		e.take(ctx)
		e.follower.Load().regained()
	}
}

// watchLease returns when the connection does not lease the database any more, when the lease was given up, or when ctx ends.
func (e *postgres) watchLease(ctx context.Context, owner *pgx.Conn) {
	for e.lease.Load() != nil {
		waiting, cancel := context.WithTimeout(ctx, askLease)
		_, err := owner.WaitForNotification(waiting) // nothing is ever sent: it returns when the connection breaks
		timedOut := waiting.Err() != nil
		cancel()
		if err != nil && !timedOut {
			return
		}
		asking, cancel := context.WithTimeout(ctx, leaseAnswers)
		err = owner.Ping(asking)
		cancel()
		if err != nil {
			return
		}
	}
}

// retakeLease tries until it has the database again. It returns nil when ctx ends.
func (e *postgres) retakeLease(ctx context.Context) *pgx.Conn {
	for {
		trying, cancel := context.WithTimeout(ctx, leaseGone+leaseAnswers)
		owner, err := takeLease(trying, e.connConfig)
		if err == nil {
			if err = e.awaitUnended(trying, owner); err == nil {
				cancel()
				return owner
			}
			_ = owner.Close(trying) // it is tried anew
		}
		cancel()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// awaitEnd returns when a transaction is over whose connection broke, or gives up the lease after a while. As long as it may still be committed,
// what is read is outdated at a moment that nobody is told of.
func (e *postgres) awaitEnd(apps []directory.AppID, within time.Duration) {
	e.mu.Lock()
	for _, app := range apps {
		e.unended[app] = struct{}{}
	}
	e.mu.Unlock()
	h := e.lease.Load()
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, within)
	defer cancel()
	for ctx.Err() == nil {
		conn, err := e.pool.Acquire(ctx)
		if err == nil {
			err = e.awaitUnended(ctx, conn.Conn())
			conn.Release()
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(within / 100):
		}
	}
	e.lose()
}

// awaitUnended returns when none of the transactions is under way any more of which that was not known.
func (e *postgres) awaitUnended(ctx context.Context, conn *pgx.Conn) error {
	e.mu.Lock()
	apps := slices.Collect(maps.Keys(e.unended))
	e.mu.Unlock()
	for _, app := range apps {
		if _, err := conn.Exec(ctx, lockOfApp, string(app), int64(ownerLock)); err != nil { // it ends with the statement
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, app := range apps {
		delete(e.unended, app)
	}
	return nil
}

// errNoAnswer ends a transaction that takes too long.
var errNoAnswer = errors.New("no answer in time")

var errNoLease = &engineError{err: errors.New("postgres: another server may be using the database; waiting to have it back")}

// FollowLease sets functions that are called when the database stops being this server's alone, and when it is again:
// whatever is held in memory may be stale from the first call on. Reads and writes fail in between.
func (s *Store) FollowLease(lost, regained func()) {
	e, ok := s.engine.(*postgres)
	if !ok {
		return
	}
	forget := func() {
		s.writer.generation.Add(1)
		s.hot.forgetAll()
	}
	e.follower.Store(&leaseFollower{
		lost: func() {
			lost() // first: what the rules lease in memory is used without asking the store, and what the store holds is not
			forget()
		},
		regaining: func() {
			forget() // what had begun before may have ended meanwhile
			e.pool.Reset()
		},
		regained: regained,
	})
}

func (e *postgres) writeQueue(app directory.AppID) string { return string(app) }

func (e *postgres) close() error {
	if e.pool != nil {
		e.pool.Close()
	}
	e.stopWatching()
	e.watching.Wait()
	return nil
}

func (e *postgres) session(ctx context.Context, begin string) (*pgSession, error) {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, postgresError(ctx, "connect", err)
	}
	session := &pgSession{ctx: ctx, conn: conn, texts: &e.texts}
	if begin != "" {
		session.pending = []heldStatement{{sql: begin}}
	}
	return session, nil
}

func (e *postgres) pace() pace { return pace{overlapFrom: 1, refill: 0.5} }

func (e *postgres) begin(_ context.Context, before *batch, within limits) (transaction, error) {
	h := e.lease.Load()
	if h == nil {
		return nil, errNoLease
	}
	ctx, cancel := context.WithCancelCause(h.ctx)
	t := &pgTransaction{engine: e, cancel: cancel, within: limits{time.Now().Add(longestTransaction), lostWithin}}
	t.timer = time.AfterFunc(longestTransaction, func() { cancel(errNoAnswer) })
	t.narrow(within)
	session, err := e.session(ctx, `BEGIN`) //nolint:contextcheck // a write ends with the lease, not with its caller
	if err != nil {
		t.timer.Stop()
		cancel(nil)
		return nil, err
	}
	if before != nil {
		session.behind = before.awaitCommit
	}
	t.pgSession = session
	return t, nil
}

func (e *postgres) view(ctx context.Context, fn func(session) error) error {
	h := e.lease.Load()
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
	s, err := e.session(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
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
	return s.end(`COMMIT`)
}

// pgSession sends statements to PostgreSQL. Those that return nothing wait until there is a question to ask or the
// transaction ends, and then go out together, rows for the same table in one statement: one round trip for all.
type pgSession struct {
	ctx     context.Context
	conn    *pgxpool.Conn
	texts   *insertTexts
	pending []heldStatement
	// behind, when it is not nil, must succeed before anything is sent.
	behind func() error
	// asked says that something has been sent.
	asked bool
}

func (s *pgSession) exec(sql string, args ...any) error {
	s.pending = append(s.pending, heldStatement{sql, args})
	if len(s.pending) >= maxPending {
		return s.flush("", nil, nil)
	}
	return nil
}

func (s *pgSession) query(sql string, args []any, each func(row) error) error {
	return s.flush(sql, args, each)
}

// flush sends what is pending, and behind it a question whose rows each gets, when there is one.
func (s *pgSession) flush(question string, args []any, each func(row) error) (err error) {
	if s.behind != nil {
		if err := s.behind(); err != nil {
			return err
		}
		s.behind = nil
	}
	s.asked = true
	var batch pgx.Batch
	for _, statement := range s.texts.groupInserts(s.pending) {
		batch.Queue(statement.sql, statement.args...)
	}
	s.pending = nil
	commands := batch.Len()
	if question != "" {
		batch.Queue(question, args...)
	}
	results := s.conn.SendBatch(s.ctx, &batch)
	defer func() {
		if closeErr := results.Close(); closeErr != nil && err == nil {
			err = postgresError(s.ctx, "execute", closeErr)
		}
	}()
	for range commands {
		if _, err := results.Exec(); err != nil {
			return postgresError(s.ctx, "execute", err)
		}
	}
	if question == "" {
		return nil
	}
	rows, err := results.Query()
	if err != nil {
		return postgresError(s.ctx, "query", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(pgRow{rows.FieldDescriptions(), rows.RawValues()}); err != nil {
			return err
		}
	}
	return postgresError(s.ctx, "query", rows.Err())
}

// end ends the transaction.
func (s *pgSession) end(statement string) error {
	s.pending = append(s.pending, heldStatement{sql: statement})
	return s.flush("", nil, nil)
}

type pgTransaction struct {
	*pgSession
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

// lockOfApp takes a lock that ends with the transaction. A row lock would not do: the first update of an app has no row.
const lockOfApp = `SELECT pg_advisory_xact_lock(hashtextextended($1, $2))`

// expectHead fails, by a division by zero, when an app's log is somewhere else.
const expectHead = `SELECT 1 / (CASE WHEN coalesce(max(version), 0) = $2 THEN 1 ELSE 0 END) FROM revisions WHERE app = $1`

func (t *pgTransaction) lockApp(app directory.AppID, expected *head) (head, error) {
	t.apps = append(t.apps, app)
	if err := t.exec(lockOfApp, string(app), int64(ownerLock)); err != nil {
		return head{}, err
	}
	if expected == nil {
		return (&tx{session: t.pgSession}).head(app)
	}
	return *expected, t.exec(expectHead, string(app), expected.version)
}

func (t *pgTransaction) fetchUsers(app directory.AppID, uids []directory.UID) ([]directory.User, error) {
	texts := make([]string, len(uids))
	for i, uid := range uids {
		texts[i] = string(uid)
	}
	session := t.pgSession
	if t.behind != nil { // this transaction has to wait; whoever asks knows what the one before it writes
		aside, err := t.engine.session(t.ctx, "")
		if err != nil {
			return nil, err
		}
		defer aside.conn.Release()
		session = aside
	}
	return all(&tx{session: session}, `SELECT `+userColumns+` FROM users WHERE app = $1 AND uid = ANY($2)`, []any{string(app), texts}, readUser)
}

func (t *pgTransaction) commit(func()) (uncertain bool, err error) {
	err = t.end(`COMMIT`)
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

// pgRow reads the columns of one row in the format they came in.
type pgRow struct {
	fields []pgconn.FieldDescription
	values [][]byte
}

func (r pgRow) text(column int) string { return string(r.values[column]) }

func (r pgRow) texts(into []string) {
	var joined []byte
	for i := range into {
		joined = append(joined, r.values[i]...)
	}
	share(string(joined), into, func(i int) int { return len(r.values[i]) })
}

func (r pgRow) blob(column int) []byte { return append([]byte(nil), r.values[column]...) }

func (r pgRow) integer(column int) int64 {
	value := r.values[column]
	if r.fields[column].Format == pgtype.BinaryFormatCode {
		switch len(value) {
		case 8:
			return int64(binary.BigEndian.Uint64(value))
		case 4:
			return int64(int32(binary.BigEndian.Uint32(value)))
		}
	}
	number, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		panic("column is not an integer: " + err.Error()) // the schema says that it is
	}
	return number
}

func postgresError(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	// When the transaction was ended from here, that its context was canceled says nothing about the caller.
	failure := &engineError{unsent: pgconn.SafeToRetry(err)}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errNoLease):
		failure.err = fmt.Errorf("postgres: %s: the database is not this server's any more", doing)
	case errors.Is(cause, errNoAnswer):
		failure.err = fmt.Errorf("postgres: %s: %w", doing, errNoAnswer)
	default:
		failure.err = fmt.Errorf("postgres: %s: %w", doing, err)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "53100" || refused.Code == "25006") { // disk full, read-only
		failure.message = diskFull
	}
	return failure
}

// PostgresCondition is what an inspection of a PostgreSQL database found.
type PostgresCondition struct {
	// Server is the version of PostgreSQL in words.
	Server string
	// Version is the schema version, 0 for none, and LatestVersion the one this program needs.
	Version, LatestVersion int64
	// Owner tells in words which connection holds the database for a server; empty when none does.
	Owner string
}

// InspectPostgres looks at the database that url names, also while a server is using it.
func InspectPostgres(ctx context.Context, url string) (condition PostgresCondition, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return condition, fmt.Errorf("connect to database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	condition.LatestVersion, condition.Owner = latestVersion, strings.Trim(describeHolder(ctx, conn), " ()")
	var used bool
	err = conn.QueryRow(ctx, `SELECT 'PostgreSQL ' || current_setting('server_version'), to_regclass('goose_db_version') IS NOT NULL`).
		Scan(&condition.Server, &used)
	if err == nil && used {
		err = conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&condition.Version)
	}
	return condition, err
}

// SealedKeysInPostgres is SealedKeysInSQLite for the database that url names.
func SealedKeysInPostgres(ctx context.Context, url string) ([][]byte, error) {
	return columnInPostgres(ctx, url, readSealed, pgx.RowTo[[]byte])
}

// AppsInPostgres is AppsInSQLite for the database that url names.
func AppsInPostgres(ctx context.Context, url string) ([]string, error) {
	return columnInPostgres(ctx, url, readAppIDs, pgx.RowTo[string])
}

// columnInPostgres reads one column of a database. One without a schema has none.
func columnInPostgres[T any](ctx context.Context, url, question string, read pgx.RowToFunc[T]) (column []T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var used bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('api_keys') IS NOT NULL`).Scan(&used); err != nil || !used {
		return nil, err
	}
	rows, err := conn.Query(ctx, question)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, read)
}
