package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/internal/directory"
)

// lease is the time during which the database is this server's: its context ends with it.
type lease struct {
	ctx context.Context //nolint:containedctx // it is what a lease is
	end context.CancelCauseFunc
	// until is when it ends unless it is extended. Nil for one that ends with a connection.
	until atomic.Pointer[time.Time]
}

// holds reports whether the lease is still good, also when nobody has come to end it: this server may not have run.
func (h *lease) holds() bool {
	until := h.until.Load()
	return until == nil || time.Now().Before(*until)
}

func (h *lease) endsAt() time.Time      { return *h.until.Load() }
func (h *lease) extend(until time.Time) { h.until.Store(&until) }

// held returns the lease if it is good.
func (e *postgres) held() *lease {
	if h := e.lease.Load(); h != nil && h.holds() {
		return h
	}
	return nil
}

// leaseFollower is told when the database stops being this server's, why it cannot be had again, and when it is about
// to be and is again.
type leaseFollower struct {
	lost, regaining, regained func()
	waiting                   func(error)
}

// tellWaiting is how often it is told why the database cannot be had again.
const tellWaiting = 30 * time.Second

func takeLease(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectError(config, err)
	}
	return awaitLease(ctx, conn)
}

// awaitLease takes the lease for a connection, which it closes when it cannot.
func awaitLease(ctx context.Context, conn *pgx.Conn) (*pgx.Conn, error) {
	for tried := time.Now(); ; {
		var owned bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(ownerLock)).Scan(&owned); err != nil {
			return nil, errors.Join(fmt.Errorf("lock database: %w", err), conn.Close(ctx))
		}
		if owned {
			return conn, nil
		}
		if time.Since(tried) > leaseGone {
			return nil, errors.Join(
				fmt.Errorf("the database is in use by another rollcall server%s; stop it first", describeHolder(ctx, conn)),
				conn.Close(ctx),
			)
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

// takeUntil begins a lease that ends at a time, unless it is extended.
func (e *postgres) takeUntil(ctx context.Context, until time.Time) {
	h := &lease{}
	h.ctx, h.end = context.WithCancelCause(context.WithoutCancel(ctx))
	h.extend(until)
	e.lease.Store(h)
}

// lose ends the lease and says so, if there is one.
func (e *postgres) lose() {
	if e.endLease() {
		e.follower.Load().lost()
	}
}

// endLease ends the lease, if there is one, and with it what is being written: it could be committed when another
// server writes already.
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

// watchLease returns when the connection does not hold the database any more, when the lease was given up, or when ctx
// ends.
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
	var told time.Time
	for {
		trying, cancel := context.WithTimeout(ctx, leaseGone+leaseAnswers)
		owner, err := takeLease(trying, e.route.session)
		if err == nil {
			if err = e.route.reopen(trying, owner); err == nil {
				err = e.awaitUnended(trying, owner)
			}
			if err == nil {
				cancel()
				return owner
			}
			_ = owner.Close(trying) // it is tried anew
		}
		cancel()
		if ctx.Err() == nil && time.Since(told) >= tellWaiting {
			told = time.Now()
			e.follower.Load().waiting(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// awaitEnd returns when a transaction is over whose connection broke, or gives up the lease after a while. As long as
// it may still be committed, what is read is outdated at a moment that nobody is told of.
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

var errNoLease = &engineError{
	err: errors.New("postgres: another server may be using the database; waiting to have it back"),
}

// FollowLease sets functions that are called when the database stops being this server's alone, and when it is again:
// whatever is held in memory may be stale from the first call on. Reads and writes fail in between, in which waiting is
// told now and then why the database cannot be had.
func (s *Store) FollowLease(lost func(), waiting func(error), regained func()) {
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
			lost() // first: what the rules hold in memory is used without asking the store, and what the store holds is not
			forget()
		},
		regaining: func() {
			forget() // what had begun before may have ended meanwhile
			e.pool.Reset()
		},
		regained: regained,
		waiting:  waiting,
	})
}
