package sqlstore

import (
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // database/sql, for migrations only
)

const (
	// checkpointPages is the length of the log, 16 MB, at which it is copied into the file.
	checkpointPages = 4000
	// checkpointAgainPages is how much longer the log may get when it could not be copied to its end, since somebody, such
	// as a backup, still reads an old state.
	checkpointAgainPages = 1000
	// checkpointPatience is how long a checkpoint waits for the views under way.
	checkpointPatience = 200 * time.Millisecond
)

// tendLog copies the log into the file when it is long. The caller has taken the writer.
func (e *sqlite) tendLog() {
	if e.logPages < e.checkpointAt {
		return
	}
	if err := e.checkpoint(); err != nil {
		// What was committed is safe in the log, which is copied when it is longer.
		e.checkpointAt = e.logPages + checkpointAgainPages
		return
	}
	e.checkpointAt, e.logPages = e.checkpointPages, 0
}

// checkpoint copies the log into the file and starts it anew. Most of the work is done beside the readers; only for the
// last step, which takes no longer than a view, there must be none. It does not wait for readers in other processes.
func (e *sqlite) checkpoint() error {
	idle, err := e.takeReaders(0) // those that nobody uses must not hold the log back
	e.giveBack(idle)
	if err == nil {
		_, _, err = e.writer.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	}
	if err != nil {
		return err
	}
	all, err := e.takeReaders(checkpointPatience)
	defer e.giveBack(all)
	if err != nil {
		return err
	}
	if err := e.writer.conn.BusyTimeout(0); err != nil {
		return err
	}
	_, _, err = e.writer.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_RESTART)
	return errors.Join(err, e.writer.conn.BusyTimeout(busyTimeout))
}

// takeReaders takes readers out of the pool and ends their transactions: those that are idle, or with patience, also
// those whose views end in that time.
func (e *sqlite) takeReaders(patience time.Duration) (taken []*reader, err error) {
	var late <-chan time.Time
	if patience > 0 {
		late = time.After(patience)
	}
	for range cap(e.readers.free) {
		select {
		case <-e.readers.free:
		default:
			if late == nil {
				return taken, nil
			}
			select {
			case <-e.readers.free:
			case <-late:
				return taken, nil
			}
		}
		r := e.readers.pop()
		taken = append(taken, r)
		if err := r.end(); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

func (e *sqlite) giveBack(readers []*reader) {
	for _, r := range readers {
		e.readers.push(r)
	}
}
