package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/directory"
)

// Cluster says how a server shares its database with others. A server that shares holds a lease, a row of the table
// servers, and gives what others commit to its followers as if it had committed it itself.
type Cluster struct {
	// Server names this server. No two of a cluster have the same name; a server that is started again keeps its own.
	Server string
	// Address is where the server is found, and Release which version it is, for people.
	Address, Release string
	// Bus carries hints between servers. Without one, everything comes true at the pace of Beat. The store does not close
	// it.
	Bus bus.Bus
	// Beat is how often the lease is renewed and the others' commits are looked for, 1 s unless it is given. Lease is how
	// long a lease is good, 6 s unless it is given: so long others wait for a server that has died.
	Beat, Lease time.Duration
}

const (
	defaultBeat  = time.Second
	defaultLease = 6 * time.Second
	// leaseMargin is how much earlier than the database a server takes its lease for ended: clocks run differently fast.
	leaseMargin = 500 * time.Millisecond
	// clusterConns is how many connections of its own a server has for its lease and for the others' commits.
	clusterConns = 3
)

// Peer is another server of the cluster.
type Peer struct {
	Server, Address, Release string
	// Epoch is of one life of it: a lease that was lost is not taken again, but another one is.
	Epoch int64
}

// cluster keeps this server's lease, knows the others, and hands their commits on.
type cluster struct {
	Cluster
	engine *postgres
	pool   *pgxpool.Pool
	// tell hands a commit on, after the users that it changes were taken out of memory.
	tell func(directory.Commit)

	// epoch is that of the lease. It belongs to keep.
	epoch int64
	// peers are the others whose leases are good, as of the last beat.
	peers atomic.Pointer[[]Peer]
	// seen is the highest epoch that is known, and applied the moment, by the database's clock, before which everything
	// that was committed is in memory.
	seen    atomic.Int64
	applied atomic.Pointer[time.Time]

	mu    sync.Mutex
	apps  map[directory.AppID]*appHead // guarded by mu
	dirty map[directory.AppID]struct{} // apps of which others have said that they committed. Guarded by mu
	asked []string                     // those who wait for everything to be applied. Guarded by mu
	// look says that the heads of all apps are to be compared. Guarded by mu
	look bool
	// answers takes the names of those who have applied what somebody waits for, by question. Guarded by mu
	answers map[string]chan string
	// wake wakes follow, and beatNow the lease's renewal.
	wake, beatNow chan struct{}
}

func newCluster(config Cluster, engine *postgres) *cluster {
	config.Beat, config.Lease = cmp.Or(config.Beat, defaultBeat), cmp.Or(config.Lease, defaultLease)
	c := &cluster{
		Cluster: config, engine: engine, apps: map[directory.AppID]*appHead{}, dirty: map[directory.AppID]struct{}{},
		wake: make(chan struct{}, 1), beatNow: make(chan struct{}, 1), answers: map[string]chan string{},
	}
	c.peers.Store(new([]Peer))
	c.applied.Store(new(time.Time))
	return c
}

// isAlone reports whether no other server uses the database.
func (c *cluster) isAlone() bool { return c == nil || len(*c.peers.Load()) == 0 }

// join takes a lease, and returns when every other server knows of this one. The heads of the apps are where the
// commits of others are handed on from.
func (c *cluster) join(ctx context.Context) error {
	sent := time.Now()
	err := c.pool.QueryRow(ctx, `INSERT INTO servers
		(server, epoch, address, release, started_at, lease_until, applied_at, seen_epoch)
		VALUES ($1, nextval('server_epochs'), $2, $3, statement_timestamp(), statement_timestamp() + $4, 'epoch', 0)
		ON CONFLICT (server) DO UPDATE SET epoch = excluded.epoch, address = excluded.address, release = excluded.release,
			started_at = excluded.started_at, lease_until = excluded.lease_until, applied_at = 'epoch', seen_epoch = 0
		WHERE servers.lease_until < statement_timestamp()
		RETURNING epoch`, c.Server, c.Address, c.Release, c.Lease).Scan(&c.epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("another server of the database is called %s, and runs", c.Server)
	}
	if err != nil {
		return fmt.Errorf("take a lease: %w", err)
	}
	c.publish(subjectJoined, "")
	until := sent.Add(c.Lease - leaseMargin)
	c.seen.Store(0)
	for {
		known, err := c.beat(ctx, &until)
		if err != nil {
			return err
		}
		if known {
			break
		}
		if err := c.pause(ctx, min(c.Beat, defaultBeat)/4); err != nil {
			return err
		}
	}
	// Whatever was committed before is read when it is asked for; what comes from here on is handed on.
	if _, err := c.compare(ctx, true); err != nil {
		return err
	}
	c.engine.takeUntil(ctx, until)
	return nil
}

func (c *cluster) pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.beatNow:
		return nil
	case <-timer.C:
		return nil
	}
}

// errLeaseGone means that others take this server for dead.
var errLeaseGone = errors.New("the lease has run out")

// beat renews the lease and looks who else has one. known says whether all of them know of this server.
func (c *cluster) beat(ctx context.Context, until *time.Time) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Lease/3)
	defer cancel()
	sent := time.Now()
	var batch pgx.Batch
	batch.Queue(`UPDATE servers SET lease_until = statement_timestamp() + $3, applied_at = $4, seen_epoch = $5
		WHERE server = $1 AND epoch = $2 AND lease_until > statement_timestamp()`,
		c.Server, c.epoch, c.Lease, *c.applied.Load(), c.seen.Load())
	batch.Queue(
		`SELECT server, epoch, address, release, seen_epoch FROM servers WHERE lease_until > statement_timestamp()`,
	)
	results := c.pool.SendBatch(ctx, &batch)
	defer func() { err = errors.Join(err, results.Close()) }()
	renewed, err := results.Exec()
	if err != nil {
		return false, err
	}
	if renewed.RowsAffected() == 0 {
		return false, errLeaseGone
	}
	rows, err := results.Query()
	if err != nil {
		return false, err
	}
	peers, seen := []Peer{}, c.epoch
	known = true
	var peer Peer
	var sees int64
	_, err = pgx.ForEachRow(rows, []any{&peer.Server, &peer.Epoch, &peer.Address, &peer.Release, &sees}, func() error {
		if peer.Server != c.Server {
			peers = append(peers, peer)
			seen = max(seen, peer.Epoch)
			known = known && sees >= c.epoch
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	c.peers.Store(&peers) // before it is told that they are seen
	c.seen.Store(seen)
	*until = sent.Add(c.Lease - leaseMargin)
	return known, nil
}

// keep renews the lease until ctx ends, and joins anew when it was lost.
func (c *cluster) keep(ctx context.Context) {
	defer c.engine.endLease()
	for {
		c.renew(ctx)
		if ctx.Err() != nil {
			c.leave(ctx)
			return
		}
		c.engine.lose()
		if !c.rejoin(ctx) {
			return
		}
	}
}

// renew returns when the lease is lost, or ctx ends.
func (c *cluster) renew(ctx context.Context) {
	for {
		held := c.engine.lease.Load()
		if held == nil || ctx.Err() != nil {
			return
		}
		until := held.endsAt()
		if !time.Now().Before(until) {
			return
		}
		seen := c.seen.Load()
		_, err := c.beat(ctx, &until)
		switch {
		case errors.Is(err, errLeaseGone):
			return
		case err == nil:
			held.extend(until)
			c.lookAtAll("")
			if c.seen.Load() > seen {
				continue // whoever has come waits to be known
			}
		}
		if c.pause(ctx, c.Beat) != nil {
			return
		}
	}
}

// rejoin tries until it has a lease again. It returns false when ctx ends.
func (c *cluster) rejoin(ctx context.Context) bool {
	var told time.Time
	for {
		trying, cancel := context.WithTimeout(ctx, c.Lease+leaseAnswers)
		c.engine.follower.Load().regaining()
		c.pool.Reset()
		err := c.join(trying)
		cancel()
		if err == nil {
			c.engine.follower.Load().regained()
			return true
		}
		if ctx.Err() == nil && time.Since(told) >= tellWaiting {
			told = time.Now()
			c.engine.follower.Load().waiting(err)
		}
		if c.pause(ctx, c.Beat) != nil {
			return false
		}
	}
}

// leave gives the lease back, so that nobody waits for this server.
func (c *cluster) leave(ctx context.Context) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseAnswers)
	defer cancel()
	_, _ = c.pool.Exec(closing, `DELETE FROM servers WHERE server = $1 AND epoch = $2`, c.Server, c.epoch) // else it runs out
}

// Peers returns the other servers that use the database: none on SQLite, and none for a server that is alone.
func (s *Store) Peers() []Peer {
	if e, ok := s.engine.(*postgres); ok && e.cluster != nil {
		return *e.cluster.peers.Load()
	}
	return nil
}
