package sqlstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// Observer is told how long the database takes. Its methods must not wait, and are called from many goroutines.
type Observer interface {
	// Read tells of a view. failed says that the database has failed, not that the rules have refused something.
	Read(took time.Duration, failed bool)
	// Wrote tells of updates that were committed together.
	Wrote(updates int, took time.Duration, failed bool)
}

// Observe sets who is told. It is to be called before anybody else uses the store.
func (s *Store) Observe(observer Observer) { s.observer, s.writer.observer = observer, observer }

// Load is how busy a database is.
type Load struct {
	// Waiting is how many updates wait for those before them to be committed.
	Waiting int
	// InUse of the connections are working, and Idle are open and do nothing. More than Max are never opened.
	InUse, Idle, Max int
}

// Load returns how busy the database is now.
func (s *Store) Load() Load {
	load := s.engine.load()
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	for _, queue := range s.writer.queues {
		queue.mu.Lock()
		load.Waiting += len(queue.waiting)
		queue.mu.Unlock()
	}
	return load
}

func (e *sqlite) load() Load {
	e.readers.mu.Lock()
	defer e.readers.mu.Unlock()
	opened := 0
	for _, r := range e.readers.idle {
		if r.connection != nil {
			opened++
		}
	}
	load := Load{InUse: cap(e.readers.free) - len(e.readers.idle), Idle: opened, Max: cap(e.readers.free) + 1}
	if len(e.writing) == 0 {
		load.InUse++
	} else {
		load.Idle++
	}
	return load
}

func (e *postgres) load() Load {
	stat := e.pool.Stat()
	return Load{InUse: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Max: int(stat.MaxConns())}
}

// Available reports whether the database can be used, as far as is known without asking it: it is this server's, and
// its files are in their place.
func (s *Store) Available() bool {
	if engine, ok := s.engine.(*postgres); ok {
		return engine.lease.Load() != nil && !engine.pooler.away.Load()
	}
	return s.LostFiles() == nil
}

// Extent is what is in a database.
type Extent struct {
	// Bytes is what it takes on the disk.
	Bytes int64
	// Apps and Users count rows: those that are archived, and those that are deactivated, are among them.
	Apps, Users int64
}

// Measure returns what is in the database. It reads an index of all users, which takes some 50 ms for a million.
func (s *Store) Measure(ctx context.Context) (extent Extent, err error) {
	err = s.engine.view(ctx, func(q querier) error {
		for _, question := range []struct {
			sql  string
			into *int64
		}{{`SELECT count(*) FROM apps`, &extent.Apps}, {countUsers, &extent.Users}} {
			err := q.query(question.sql, nil, func(r row) error {
				*question.into = r.integer(0)
				return nil
			})
			if err != nil {
				return err
			}
		}
		var err error
		extent.Bytes, err = s.engine.size(q)
		return err
	})
	return extent, explain(err)
}

func (e *sqlite) size(querier) (bytes int64, err error) {
	for _, path := range []string{e.path, e.path + "-wal"} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		bytes += info.Size()
	}
	return bytes, nil
}

func (e *postgres) size(q querier) (bytes int64, err error) {
	err = q.query(`SELECT pg_database_size(current_database())`, nil, func(r row) error {
		bytes = r.integer(0)
		return nil
	})
	return bytes, err
}
