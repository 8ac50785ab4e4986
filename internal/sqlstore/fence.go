package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// What callers are told whose writes a move keeps out.
const (
	beingMoved = "The data of this server is being moved to another database. Nothing was changed; try again."
	movedAway  = "The data of this server was moved to another database, and will be served from there. " +
		"Nothing was changed; try again when the operator has started the server on it."
)

// fenceSuffix names the file beside a SQLite database that keeps writes from it: while the process that made it holds
// it locked, and for good when there is a mark in it.
const fenceSuffix = ".moved"

// fenceOf returns what callers are told when writes to a database file are refused, empty when they are not.
func fenceOf(path string) (message string) {
	file, err := os.Open(path + fenceSuffix)
	if err != nil { // nearly always it is not there
		return ""
	}
	defer file.Close()
	if mark, err := readMark(file); err != nil || mark != nil {
		return movedAway
	}
	if errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return beingMoved
	}
	return "" // the move that made it was killed
}

// readMark returns the mark in the file of a fence, nil when there is none.
func readMark(file *os.File) (*moveMark, error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	var mark moveMark
	if err := json.NewDecoder(file).Decode(&mark); err != nil {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return &mark, nil
}

// markBeside returns the mark beside a database file, nil when there is none.
func markBeside(path string) (*moveMark, error) {
	file, err := os.Open(path + fenceSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as said
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readMark(file)
}

// refuseMovedSQLite fails when the data of a database file was moved away.
func refuseMovedSQLite(path string) error {
	mark, err := markBeside(path)
	if err != nil || mark == nil {
		return err
	}
	return fmt.Errorf("%w (to use it all the same, remove %s)",
		&MovedAwayError{To: mark.Place, At: time.Unix(mark.At, 0)}, path+fenceSuffix)
}

// CheckMoved tells why a start on a database is refused because of a move; nil when it is not, or nobody can tell.
func CheckMoved(ctx context.Context, place MovePlace) error {
	err := refuseMovedSQLite(place.Path)
	if place.URL != "" {
		config, errURL := parsePostgresURL(place.URL)
		if errURL != nil {
			return nil //nolint:nilerr // as said
		}
		db := stdlib.OpenDB(*config.ConnConfig)
		err = errors.Join(refuseMovedPostgres(ctx, db), db.Close())
	}
	_, away := errors.AsType[*MovedAwayError](err)
	_, unfinished := errors.AsType[*MoveUnfinishedError](err)
	if away || unfinished {
		return err
	}
	return nil
}

// checkFence fails when writes are refused. The caller has taken the writer.
func (e *sqlite) checkFence() error {
	if e.fence == "" {
		return nil
	}
	return &engineError{err: errors.New("sqlite: a move keeps writes out"), message: e.fence}
}

// sqliteFence holds the lock of writers: who looks at the files sees the fence, and who has looked just before waits.
type sqliteFence struct {
	path   string
	file   *os.File
	holder *connection
	sealed bool
}

func raiseSQLiteFence(ctx context.Context, path string) (_ *sqliteFence, err error) {
	file, err := os.OpenFile(path+fenceSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f := &sqliteFence{path: path, file: file}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another move is switching this database"), file.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.lift(ctx))
		}
	}()
	if err := f.checkOwn(); err != nil {
		return nil, err
	}
	if f.holder, err = openConnection(path, inspectorPragmas[:1]); err != nil {
		return nil, err
	}
	defer f.holder.conn.SetInterrupt(f.holder.conn.SetInterrupt(ctx))
	return f, f.holder.exec(`BEGIN IMMEDIATE`)
}

// checkOwn fails when the file that is locked is not the one that servers see, or another move has sealed it.
func (f *sqliteFence) checkOwn() error {
	mark, err := markBeside(f.path)
	if err != nil {
		return err
	}
	there, errThere := os.Stat(f.path + fenceSuffix)
	own, errOwn := f.file.Stat()
	if err := errors.Join(errThere, errOwn); err != nil || mark != nil || !os.SameFile(there, own) {
		f.sealed = true // it is not ours to remove
		return errors.Join(err, errors.New("another move of this database has just ended; run this one again"))
	}
	return nil
}

func (f *sqliteFence) seal(ctx context.Context, mark moveMark) error {
	text, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	name := f.path + fenceSuffix
	unfinished, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".unfinished-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = unfinished.Write(append(text, '\n'))
	if err = errors.Join(err, unfinished.Sync(), unfinished.Close()); err == nil {
		err = os.Rename(unfinished.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(unfinished.Name()))
	}
	f.sealed = true
	if err := syncDirectory(filepath.Dir(name)); err != nil {
		return err
	}
	// Whoever gets the lock of writers after this has looked for the fence since it was made.
	select {
	case <-time.After(5 * lookEvery):
	case <-ctx.Done():
		<-time.After(5 * lookEvery)
	}
	return nil
}

func (f *sqliteFence) lift(context.Context) error {
	var failures []error
	if !f.sealed {
		failures = append(failures, os.Remove(f.path+fenceSuffix))
	}
	if f.holder != nil {
		if !f.holder.conn.GetAutocommit() {
			failures = append(failures, f.holder.exec(`ROLLBACK`))
		}
		failures = append(failures, f.holder.close())
	}
	return errors.Join(append(failures, f.file.Close())...)
}

// moveTable is where PostgreSQL keeps the mark of a move: on the side that it comes into until it is done, and for good
// on the side that it took the data from.
const (
	moveTable        = "rollcall_move"
	moveTableIsThere = `SELECT to_regclass('` + moveTable + `') IS NOT NULL`
)

const (
	sideInto = "into"
	sideAway = "away"
)

// The codes with which PostgreSQL refuses writes that a move keeps out.
const (
	codeBeingMoved = "RCMOV"
	codeMovedAway  = "RCGON"
)

// fenceMessage returns what callers are told when PostgreSQL has refused a write because of a move, empty when that is
// not why.
func fenceMessage(refused *pgconn.PgError) string {
	switch refused.Code {
	case codeBeingMoved:
		return beingMoved
	case codeMovedAway:
		return movedAway
	}
	return ""
}

// refuseMovedPostgres fails when a move into the database is not done, or one has taken its data away.
func refuseMovedPostgres(ctx context.Context, db *sql.DB) error {
	var there bool
	err := db.QueryRowContext(ctx, moveTableIsThere).Scan(&there)
	if err != nil || !there {
		return err
	}
	var side, place string
	var at int64
	err = db.QueryRowContext(ctx, `SELECT side, place, at FROM `+moveTable).Scan(&side, &place, &at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	case side == sideInto:
		return &MoveUnfinishedError{From: place}
	}
	return fmt.Errorf("%w (to use it all the same, run in it: DROP TABLE %s; DROP FUNCTION %s() CASCADE;)",
		&MovedAwayError{To: place, At: time.Unix(at, 0)}, moveTable, fenceFunction)
}
