package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ncruces/go-sqlite3"

	"github.com/rollcall/rollcall/internal/pgserver"
)

// sqliteFloor inserts rows into SQLite with one synced commit each.
type sqliteFloor struct {
	conn   *sqlite3.Conn
	insert *sqlite3.Stmt
	rows   int64
}

func openSQLiteFloor(path string) (*sqliteFloor, error) {
	conn, err := sqlite3.Open("file:" + path + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, err
	}
	if err := conn.Exec(`CREATE TABLE users (uid TEXT PRIMARY KEY, profile TEXT NOT NULL) WITHOUT ROWID`); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	insert, _, err := conn.Prepare(`INSERT INTO users (uid, profile) VALUES (?1, ?2)`)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &sqliteFloor{conn: conn, insert: insert}, nil
}

func (f *sqliteFloor) measure(ctx context.Context, duration time.Duration) (result, error) {
	started := time.Now()
	var inserted int64
	for time.Since(started) < duration && ctx.Err() == nil {
		err := errors.Join(
			f.insert.BindText(1, fmt.Sprintf("user-%d", f.rows)), f.insert.BindText(2, profile(f.rows)), f.insert.Exec(),
		)
		if err != nil {
			return result{}, err
		}
		f.rows++
		inserted++
	}
	return result{ops: inserted, elapsed: time.Since(started)}, ctx.Err()
}

func (f *sqliteFloor) close() error { return errors.Join(f.insert.Close(), f.conn.Close()) }

const postgresFloorConcurrency = 64

// postgresFloor inserts rows into PostgreSQL through pgx with one commit each.
type postgresFloor struct {
	pool *pgxpool.Pool
	rows [postgresFloorConcurrency]int64
}

func openPostgresFloor(ctx context.Context, url string) (*postgresFloor, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = postgresFloorConcurrency
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, `CREATE TABLE users (uid TEXT PRIMARY KEY, profile TEXT NOT NULL)`); err != nil {
		pool.Close()
		return nil, err
	}
	return &postgresFloor{pool: pool}, nil
}

func (f *postgresFloor) measure(ctx context.Context, duration time.Duration) (result, error) {
	var workers sync.WaitGroup
	var inserted [postgresFloorConcurrency]int64
	var failures [postgresFloorConcurrency]error
	started := time.Now()
	for i := range postgresFloorConcurrency {
		workers.Go(func() {
			for time.Since(started) < duration && failures[i] == nil {
				_, failures[i] = f.pool.Exec(
					ctx, `INSERT INTO users (uid, profile) VALUES ($1, $2)`, fmt.Sprintf("user-%d-%d", i, f.rows[i]),
					profile(f.rows[i]),
				)
				f.rows[i]++
				inserted[i]++
			}
		})
	}
	workers.Wait()
	total := result{elapsed: time.Since(started)}
	for _, count := range inserted {
		total.ops += count
	}
	return total, errors.Join(failures[:]...)
}

func (r *run) measurePostgres(ctx context.Context) (err error) {
	if err := r.stop(ctx); err != nil {
		return err
	}
	r.say("starting PostgreSQL")
	postgres, err := pgserver.Start(ctx, true)
	if errors.Is(err, pgserver.ErrNotInstalled) {
		r.say("skipped: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Close()) }()
	floorURL, err := postgres.NewDatabase(ctx)
	if err != nil {
		return err
	}
	floor, err := openPostgresFloor(ctx, floorURL)
	if err != nil {
		return fmt.Errorf("insert into PostgreSQL: %w", err)
	}
	defer floor.pool.Close()
	url, err := postgres.NewDatabase(ctx)
	if err != nil {
		return err
	}
	if r.server, err = r.startServer(ctx, "postgres", "--database", url); err != nil {
		return err
	}
	if err := r.prepareApp(ctx); err != nil {
		return fmt.Errorf("prepare the app: %w", err)
	}
	r.say("measuring creations on PostgreSQL")
	inserts, measured, err := compare(ctx, r.Duration, floor.measure, r.create(128, 0).against(r.server))
	if err != nil {
		return fmt.Errorf("create on PostgreSQL: %w", err)
	}
	r.rows = append(
		r.rows,
		Row{Operation: "floor: PostgreSQL insert per commit", Concurrency: postgresFloorConcurrency, Rate: inserts.rate()},
	)
	row := r.addLoad("create, durable, PostgreSQL", 128, measured)
	share := measured.rate() / inserts.rate()
	row.Ratio = fmt.Sprintf("%.2fx of bare inserts", share)
	row.goal(">= 0.80x", share >= 0.8)
	return r.stop(ctx)
}
