package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
)

// Readers returns how many views can read at a time; on PostgreSQL, writes are among them.
func (s *Store) Readers() int {
	switch engine := s.engine.(type) {
	case *sqlite:
		return cap(engine.readers.free)
	case *postgres:
		return int(engine.pool.Config().MaxConns)
	default:
		return math.MaxInt
	}
}

// reader is a connection that reads. Its connection is nil until it is first used.
type reader struct {
	*connection
	// open says that a read transaction is open, and seen how many commits it sees, at least.
	open bool
	seen uint64
}

func (e *sqlite) view(ctx context.Context, fn func(querier) error) error {
	select {
	case <-e.readers.free:
	default:
		select {
		case <-e.readers.free:
		case <-e.closing:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r := e.readers.pop()
	defer func() { e.readers.push(r) }()
	if err := e.refresh(r); err != nil {
		return err
	}
	err := fn(r)
	if isEngineError(err) {
		return errors.Join(err, r.end())
	}
	return err
}

// refresh lets a reader see everything that was committed before.
func (e *sqlite) refresh(r *reader) (err error) {
	if r.connection == nil {
		if lost := e.files.place(); lost != nil { // it would open another file, and its end could take the log with it
			return &engineError{err: lost, message: filesLost}
		}
		if r.connection, err = openConnection(e.path, readerPragmas); err != nil {
			return orOutOfFiles(err)
		}
	}
	commits := e.commits.Load()
	if r.open && r.seen == commits {
		return nil
	}
	if err := r.end(); err != nil {
		return err
	}
	if err := r.exec(`BEGIN`); err != nil {
		return err
	}
	r.open, r.seen = true, commits
	return nil
}

// orOutOfFiles returns why a connection could not be opened: SQLite says that of a disk too when the process may not
// open more files.
func orOutOfFiles(err error) error {
	probe, refused := os.Open(os.DevNull)
	if refused != nil {
		return &engineError{err: fmt.Errorf("%w: %w", err, refused), message: outOfFiles}
	}
	return errors.Join(err, probe.Close())
}

// end ends the read transaction, if one is open.
func (r *reader) end() error {
	if !r.open {
		return nil
	}
	r.open = false
	return r.exec(`ROLLBACK`)
}

// readerPool lends readers, the one that was used last first: its pages and its memory are still near.
type readerPool struct {
	// free holds a token for every idle reader: who has taken one may pop.
	free chan struct{}
	mu   sync.Mutex
	idle []*reader // guarded by mu
}

func newReaderPool(size int) *readerPool {
	p := &readerPool{free: make(chan struct{}, size)}
	for range size {
		p.push(&reader{})
	}
	return p
}

func (p *readerPool) pop() *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	r := p.idle[last]
	p.idle = p.idle[:last]
	return r
}

func (p *readerPool) push(r *reader) {
	p.mu.Lock()
	p.idle = append(p.idle, r)
	p.mu.Unlock()
	p.free <- struct{}{}
}
