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

// sqliteInserts returns how many rows a second SQLite takes with one synced commit each.
func sqliteInserts(path string, duration time.Duration) (rate float64, err error) {
	conn, err := sqlite3.Open("file:" + path + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.Exec(`CREATE TABLE users (uid TEXT PRIMARY KEY, profile TEXT NOT NULL) WITHOUT ROWID`); err != nil {
		return 0, err
	}
	insert, _, err := conn.Prepare(`INSERT INTO users (uid, profile) VALUES (?1, ?2)`)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	started := time.Now()
	rows := 0
	for ; time.Since(started) < duration; rows++ {
		err := errors.Join(insert.BindText(1, fmt.Sprintf("user-%d", rows)), insert.BindText(2, profile(int64(rows))), insert.Exec())
		if err != nil {
			return 0, err
		}
	}
	return float64(rows) / time.Since(started).Seconds(), nil
}

const postgresFloorConcurrency = 64

// postgresInserts returns how many rows a second PostgreSQL takes through pgx with one commit each.
func postgresInserts(ctx context.Context, url string, duration time.Duration) (float64, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return 0, err
	}
	config.MaxConns = postgresFloorConcurrency
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `CREATE TABLE users (uid TEXT PRIMARY KEY, profile TEXT NOT NULL)`); err != nil {
		return 0, err
	}
	var workers sync.WaitGroup
	rows := make([]int, postgresFloorConcurrency)
	failures := make([]error, postgresFloorConcurrency)
	started := time.Now()
	for i := range postgresFloorConcurrency {
		workers.Go(func() {
			for time.Since(started) < duration && failures[i] == nil {
				_, failures[i] = pool.Exec(ctx, `INSERT INTO users (uid, profile) VALUES ($1, $2)`, fmt.Sprintf("user-%d-%d", i, rows[i]), profile(int64(rows[i])))
				rows[i]++
			}
		})
	}
	workers.Wait()
	total := 0
	for _, count := range rows {
		total += count
	}
	return float64(total) / time.Since(started).Seconds(), errors.Join(failures...)
}

func (r *run) measurePostgres(ctx context.Context) (err error) {
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
	inserts, err := postgresInserts(ctx, floorURL, r.Duration)
	if err != nil {
		return fmt.Errorf("insert into PostgreSQL: %w", err)
	}
	r.rows = append(r.rows, Row{Operation: "floor: PostgreSQL insert per commit", Concurrency: postgresFloorConcurrency, Rate: inserts})
	url, err := postgres.NewDatabase(ctx)
	if err != nil {
		return err
	}
	if r.server, err = r.startServer(ctx, "postgres", "--database", url); err != nil {
		return err
	}
	measured, err := r.create(r.server, 128, 0).run(ctx, r.server.cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("create on PostgreSQL: %w", err)
	}
	row := r.addLoad("create, durable, PostgreSQL", 128, measured)
	share := measured.rate() / inserts
	row.Ratio = fmt.Sprintf("%.2fx of bare inserts", share)
	row.goal(">= 0.60x", share >= 0.6)
	err = r.server.stop()
	r.server = nil
	return err
}
