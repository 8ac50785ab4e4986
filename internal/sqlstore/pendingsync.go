package sqlstore

import (
	"context"
	"fmt"

	_ "github.com/ncruces/go-sqlite3/driver" // database/sql, for migrations only
)

// pendingSync is a commit on its way to the disk.
type pendingSync struct {
	ended chan struct{}
	err   error // may be read when it has ended
}

// saveLog writes the log again when a commit that can be read has failed to get to the disk. Until that succeeds, nothing may
// build on it. The caller has taken the writer.
func (e *sqlite) saveLog() error {
	if l := e.pendingSync.Load(); l == nil || !l.hasFailed() {
		return nil
	}
	if err := e.log.rewrite(e.logPages); err != nil {
		return &engineError{err: fmt.Errorf("sqlite: write the log again: %w", err), message: diskFull}
	}
	e.commits.Add(1)
	e.pendingSync.Store(nil)
	return nil
}

// hasFailed reports whether the commit has failed to get to the disk. One that is on its way has not.
func (l *pendingSync) hasFailed() bool {
	select {
	case <-l.ended:
		return l.err != nil
	default:
		return false
	}
}

// awaitDisk returns when all that the reader can have seen is on the disk.
func (r *reader) awaitDisk(ctx context.Context) error {
	if r.unsynced == nil {
		return nil
	}
	select {
	case <-r.unsynced.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.unsynced.err != nil {
		return r.unsynced.err
	}
	r.unsynced = nil
	return nil
}
