// Package sqlstore is directory.Store on SQLite and on PostgreSQL: one text for every query, a thin querier per
// engine that runs it natively, migrations per engine, and the writer that commits many updates at once. It decides
// nothing about users; it knows nothing of HTTP.
package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	engine engine
	writer *writer
	hot    *hotUsers
	// observer is nil when nobody observes.
	observer Observer
	// damaged is what has shown that the database file is damaged, nil for nothing.
	damaged atomic.Pointer[DamagedError]
}

var _ directory.Store = (*Store)(nil)

// engine is one kind of database.
type engine interface {
	// begin starts a write transaction. It is given up when limits say so, where that is possible.
	begin(ctx context.Context, limits limits) (transaction, error)
	// view runs fn in a read-only transaction that sees one state of the database.
	view(ctx context.Context, fn func(querier) error) error
	// writeQueue names the queue that writes of an app go through: writes in different queues may run at the same time.
	writeQueue(app directory.AppID) string
	// load returns how busy the connections are, and size how many bytes the database takes.
	load() Load
	size(q querier) (int64, error)
	close() error
}

// querier runs statements. It is for one goroutine.
type querier interface {
	// exec runs a statement that returns no rows. Its failure may be reported by a later call.
	exec(sql string, args ...any) error
	// query runs a statement and calls each for every row.
	query(sql string, args []any, each func(row) error) error
}

// transaction is a querier whose writes become durable together.
type transaction interface {
	querier
	// narrow gives the transaction up sooner, when limits say so, also while it is being committed. It may be called from
	// any goroutine.
	narrow(limits)
	// lockApp keeps other transactions from writing to the app until this one ends, and returns where its log is. An
	// expectation spares the question: when it is wrong, the transaction fails.
	lockApp(app directory.AppID, expected *head) (head, error)
	// commit makes everything durable, or nothing. uncertain means that the outcome is not known.
	commit() (uncertain bool, err error)
	rollback()
}

// row reads the columns of one row by position. What it returns stays valid.
type row interface {
	text(column int) string
	// texts fills into with the texts of the first columns, which share their memory.
	texts(into []string)
	integer(column int) int64
	blob(column int) []byte
	// bytes returns a text or a blob as it is, until the next row is read.
	bytes(column int) []byte
}

// share cuts a text into pieces of the given lengths.
func share(joined string, into []string, length func(i int) int) {
	for i := range into {
		into[i], joined = joined[:length(i)], joined[length(i):]
	}
}

// engineError marks a failure of the database, as opposed to an answer of the rules.
type engineError struct {
	err error
	// message is what the caller is told; empty means that the database did not answer.
	message string
	// uncertain says that a commit may have happened all the same.
	uncertain bool
	// unsent says that nothing of what failed has left this process.
	unsent bool
}

func (e *engineError) Error() string { return e.err.Error() }
func (e *engineError) Unwrap() error { return e.err }

func isEngineError(err error) bool {
	var e *engineError
	return errors.As(err, &e)
}

// explain turns a failure of the database into the domain's error, so that the caller learns what to do about it.
func explain(err error) error {
	var e *engineError
	if !errors.As(err, &e) {
		return err
	}
	if e.uncertain {
		return &directory.Error{
			Code:    directory.CodeOperationFailed,
			Message: "The database did not say whether it has done this. Look before you try again, or try again under the same Idempotency-Key.",
			Cause:   err,
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return &directory.Error{
		Code: directory.CodeOperationFailed, Message: cmp.Or(e.message, noAnswer), RetryAfter: retryAfter, Cause: err,
	}
}

// retryAfter is when it is worth asking a database again that has failed.
const retryAfter = time.Second

// What callers are told when the database fails.
const (
	noAnswer        = "The database did not answer. Nothing was changed; try again."
	diskFull        = "The server's disk is full or cannot be written to. Nothing was changed; try again when the operator has made room."
	outOfFiles      = "The server has no file descriptor left. Nothing was changed; try again when fewer clients are connected."
	tooLate         = "The server did not get to this in time. Nothing was changed; try again."
	databaseDamaged = "The server's database is damaged. Nothing was changed; it goes on when the operator has restored a backup."
	filesLost       = "The server's database files were removed, replaced or damaged while it ran. Nothing was changed; " +
		"try again when the operator has put that right, as /readyz says."
)

func newStore(engine engine) *Store {
	s := &Store{engine: engine, writer: newWriter(engine), hot: newHotUsers()}
	s.writer.hot = s.hot
	return s
}

// Follow implements directory.Store.
func (s *Store) Follow(fn func(directory.Commit)) {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	followers := append(slices.Clone(*s.writer.followers.Load()), fn)
	s.writer.followers.Store(&followers)
}

// shared returns the cluster, nil for a server that is alone.
func (s *Store) shared() *cluster {
	if e, ok := s.engine.(*postgres); ok && !e.cluster.isAlone() {
		return e.cluster
	}
	return nil
}

// handOn gives a commit of another server to the followers, as if it had been made here.
func (s *Store) handOn(commit directory.Commit) {
	changes := make([]userChange, len(commit.Users))
	for i, change := range commit.Users {
		changes[i].key = userKey{commit.App, change.UID}
	}
	s.hot.changing(changes)
	s.hot.settle(changes, nil, false)
	if commit.Gone {
		s.hot.forgetAll()
	}
	for _, follow := range *s.writer.followers.Load() {
		follow(commit)
	}
}

// View implements directory.Store.
func (s *Store) View(ctx context.Context, fn func(directory.Reader) error) error {
	began := s.now()
	hot := s.hot.view()
	hot.shared = s.shared()
	err := s.view(ctx, hot, fn)
	if hot.spoiled {
		err = s.view(ctx, nil, fn)
	}
	if s.observer != nil {
		s.observer.Read(time.Since(began), isEngineError(err))
	}
	return explain(s.noteDamage(err))
}

// now returns the time, when somebody wants to know how long things take.
func (s *Store) now() (now time.Time) {
	if s.observer != nil {
		now = time.Now()
	}
	return now
}

func (s *Store) view(ctx context.Context, hot *hotView, fn func(directory.Reader) error) error {
	return s.engine.view(ctx, func(querier querier) error { return fn(&tx{querier: querier, hot: hot}) })
}

// Update implements directory.Store.
func (s *Store) Update(
	ctx context.Context, app directory.AppID, reads []directory.UID, fn func(directory.Writer) error,
) error {
	return explain(s.noteDamage(s.writer.update(ctx, app, reads, fn)))
}

// LostFiles tells why nothing is written although the database is open: files of it were removed, replaced or damaged.
// It is nil when all is well, and on PostgreSQL.
func (s *Store) LostFiles() *LostFilesError {
	if e, ok := s.engine.(*sqlite); ok {
		return e.lostFiles()
	}
	return nil
}

// noteDamage keeps an error that says that the database file is damaged, and returns it.
func (s *Store) noteDamage(err error) error {
	if e, ok := s.engine.(*sqlite); ok && err != nil && isDamage(err) {
		s.damaged.CompareAndSwap(nil, &DamagedError{e.path, err})
	}
	return err
}

// Damaged tells that the database file has turned out to be damaged since it was opened. It is nil when nothing of that
// is known, and on PostgreSQL.
func (s *Store) Damaged() *DamagedError { return s.damaged.Load() }

// Close waits for the updates under way, refuses new ones and closes the database.
func (s *Store) Close() error {
	s.writer.close()
	return s.engine.close()
}

// tx implements directory.Reader and directory.Writer on a querier; its methods are in the files named for their rows.
type tx struct {
	querier
	// app is whose update a write transaction is, and revision its last. Empty in views.
	app      directory.AppID
	revision int64
	users    *userCache
	// apps are those that a write transaction need not read, until one is changed. Nil in views.
	apps        map[directory.AppID]directory.App
	appsChanged bool
	// did is what a write transaction has done so far.
	did directory.Commit
	// hot is for views.
	hot *hotView
}

var (
	_ directory.Reader = (*tx)(nil)
	_ directory.Writer = (*tx)(nil)
)

// query is the querier's, and the moment at which the snapshot of a view is taken.
func (t *tx) query(sql string, args []any, each func(row) error) error {
	if err := t.querier.query(sql, args, each); err != nil {
		return err
	}
	return t.hot.noteAsked()
}

// first runs a query for at most one row.
func (t *tx) first(sql string, args []any, read func(row)) (found bool, err error) {
	err = t.query(sql, args, func(r row) error {
		found = true
		read(r)
		return nil
	})
	return found, err
}

// count runs a query for one number.
func (t *tx) count(sql string, args ...any) (int, error) {
	var n int64
	_, err := t.first(sql, args, func(r row) { n = r.integer(0) })
	return int(n), err
}

// all runs a query for many rows.
func all[T any](t *tx, sql string, args []any, read func(row) T) ([]T, error) {
	return atMost(t, 0, sql, args, read)
}

// atMost is all for a query with a limit: room for so many rows is made at once.
func atMost[T any](t *tx, limit int, sql string, args []any, read func(row) T) ([]T, error) {
	var items []T
	if limit > 0 {
		items = make([]T, 0, limit)
	}
	err := t.query(sql, args, func(r row) error {
		items = append(items, read(r))
		return nil
	})
	return items, err
}

// statement builds a query whose conditions depend on what is asked for.
type statement struct {
	sql  strings.Builder
	args []any
}

func (s *statement) add(sql string) { s.sql.WriteString(sql) }

// arg adds a value and returns its placeholder.
func (s *statement) arg(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// in adds "column IN (…)" for the values.
func in[T ~string](s *statement, column string, values []T) {
	placeholders := make([]string, len(values))
	for i, value := range values {
		placeholders[i] = s.arg(string(value))
	}
	s.add(column + " IN (" + strings.Join(placeholders, ", ") + ")")
}
