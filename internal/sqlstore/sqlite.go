package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // database/sql, for migrations only
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/rollcall/rollcall/internal/directory"
)

// OpenSQLite opens the database file at path, makes it when it is missing, and migrates it to this version's schema.
// The caller holds the lock on the data directory: the file must have one writer.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	store, err := openSQLite(ctx, path)
	if err != nil && diskRefuses(err) {
		err = fmt.Errorf("%w: the disk is full or cannot be written to", err)
	}
	return store, damageOf(path, err)
}

func openSQLite(ctx context.Context, path string) (*Store, error) {
	if err := refuseMovedSQLite(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := checkLogOf(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	// Made here so that nobody else can ever read it.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	writer, err := openConnection(path, writerPragmas)
	if err != nil {
		return nil, err
	}
	engine := &sqlite{
		writer: writer, writing: make(chan struct{}, 1), closing: make(chan struct{}), checkpointPages: checkpointPages,
		readers: newReaderPool(max(4, 2*runtime.GOMAXPROCS(0))),
	}
	engine.writing <- struct{}{}
	if err := engine.prepare(ctx, path); err != nil {
		return nil, errors.Join(err, engine.close())
	}
	return newStore(engine), nil
}

// The pragmas of each connection. busy_timeout comes first: the others may have to wait for a lock.
var (
	// A commit returns when it is on the disk (synchronous=FULL). The engine folds the log into the file by itself.
	writerPragmas = []string{
		"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(off)",
		"cache_size(-6000)", "wal_autocheckpoint(0)", "journal_size_limit(67108864)",
	}
	readerPragmas = []string{"busy_timeout(10000)", "query_only(on)", "cache_size(-4000)"}
)

// busyTimeout is how long a connection waits for a lock, as in the pragmas.
const busyTimeout = 10 * time.Second

func dataSource(path string, pragmas []string) string {
	registerVFS()
	query := url.Values{"vfs": {watchingVFS}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// sqlite is one connection that writes and a pool of connections that read.
//
// A reader keeps its read transaction open for the next view, and begins another only when something was committed
// since: while nothing is written, a view takes no lock and asks the kernel nothing. The price is that open readers
// keep the log from being folded into the file, so the engine does that itself, at a moment without readers.
type sqlite struct {
	path    string
	readers *readerPool
	// closing is closed before the readers are taken away for good.
	closing chan struct{}
	// writing holds a token while nobody uses the writer. Who has taken it may use what follows.
	writing chan struct{}
	writer  *connection
	log     *logFile
	files   fileWatch
	// looked is when it was last looked whether the files are in their place, and whether a move keeps writes out.
	looked time.Time
	// fence is what callers were told then whose writes a move keeps out. Empty when none does.
	fence string
	// logIsSaved says that the log was folded after it was lost.
	logIsSaved bool
	// logPages is the length of the write-ahead log after the last commit, and checkpointAt the length at which to fold it
	// into the file.
	logPages, checkpointAt int
	// checkpointPages is the constant of this name, but for tests.
	checkpointPages int

	// commits counts what is on the disk. It is raised before anybody is told of a commit.
	commits atomic.Uint64
	// lost is why nothing is written, as it was found last. Nil when the files are in their place.
	lost atomic.Pointer[LostFilesError]
}

func (e *sqlite) prepare(ctx context.Context, path string) error {
	e.path = path
	if err := e.migrate(ctx); err != nil {
		return err
	}
	e.checkpointAt = e.checkpointPages
	file, err := e.writer.conn.FileControl("main", sqlite3.FCNTL_JOURNAL_POINTER)
	if err != nil {
		return sqliteError("find the log", err)
	}
	log, ok := file.(*logFile)
	if !ok {
		return errors.New("sqlite: the database has no write-ahead log")
	}
	e.log = log
	if err := e.watchFiles(); err != nil {
		return err
	}
	e.writer.conn.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		e.logPages = pages
		return nil
	})
	return nil
}

// watchFiles begins to watch the files that the writer has open.
func (e *sqlite) watchFiles() (err error) {
	database, err := e.writer.conn.FileControl("main", sqlite3.FCNTL_FILE_POINTER)
	if err != nil {
		return sqliteError("find the database file", err)
	}
	file, ok := database.(vfs.File)
	if !ok {
		return errors.New("sqlite: the database has no file")
	}
	if e.files.database, err = watchFile(e.path, file); err != nil {
		return err
	}
	if e.files.log, err = watchFile(e.path+"-wal", e.log.File); err != nil {
		return err
	}
	return e.log.noteHeader()
}

// checkFiles tells why nothing may be written, because it would be lost. The caller has taken the writer.
func (e *sqlite) checkFiles() *LostFilesError {
	lost := e.files.check(e.log)
	e.lost.Store(lost)
	if lost != nil && lost.File == e.files.log.path && lost.Became != becameDamaged && !e.logIsSaved {
		e.logIsSaved = e.checkpoint() == nil // it is still open: what it holds goes into the database
	}
	return lost
}

// lostFiles tells why nothing is written, where that is so.
func (e *sqlite) lostFiles() *LostFilesError {
	select {
	case <-e.writing:
		defer func() { e.writing <- struct{}{} }()
		return e.checkFiles()
	default: // who is writing has looked
		return e.lost.Load()
	}
}

func (e *sqlite) migrate(ctx context.Context) error {
	current, err := e.writer.schemaVersion()
	if err != nil {
		return err
	}
	if current == latestVersion {
		return nil // spares the start a second connection
	}
	db, err := sql.Open("sqlite3", dataSource(e.path, writerPragmas))
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return errors.Join(migrate(ctx, db, sqliteDialect), db.Close())
}

func (e *sqlite) writeQueue(directory.AppID) string { return "" }

func (e *sqlite) close() error {
	var failures []error
	close(e.closing)
	for range cap(e.readers.free) {
		<-e.readers.free
		if r := e.readers.pop(); r.connection != nil {
			failures = append(failures, r.end(), r.close())
		}
	}
	var err error
	if e.log != nil && !e.log.headerStands() {
		err = e.log.verify(e.log.header, e.logPages)
	}
	if err != nil { // the last connection would copy the log into the file
		_, keep := e.writer.conn.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true)
		failures = append(failures, err, keep)
	}
	return errors.Join(append(failures, e.writer.close())...)
}

func (e *sqlite) begin(context.Context, limits) (transaction, error) {
	<-e.writing // given back by a transaction that does not wait for anything but the disk
	t := &sqliteTransaction{connection: e.writer, engine: e}
	err := e.mayWrite()
	if err == nil {
		e.tendLog()
		err = e.writer.exec(`BEGIN IMMEDIATE`)
	}
	if err == nil {
		err = e.mayWrite() // what it waited for may have been a move
	}
	if err != nil {
		t.rollback()
		return nil, err
	}
	return t, nil
}

// lookEvery is how often it is looked, at most, whether the files are in their place: to look takes some 20 us, of the
// 350 that a write by itself takes.
const lookEvery = 10 * time.Millisecond

// mayWrite fails when what is written would be lost. The caller has taken the writer.
func (e *sqlite) mayWrite() error {
	if e.lost.Load() != nil || e.fence != "" || time.Since(e.looked) >= lookEvery {
		e.looked = time.Now()
		if lost := e.checkFiles(); lost != nil {
			return &engineError{err: lost, message: filesLost}
		}
		e.fence = fenceOf(e.path)
	}
	return e.checkFence()
}

// sqliteTransaction is a write transaction on the writer connection.
type sqliteTransaction struct {
	*connection
	engine *sqlite
	ended  bool
}

// lockApp reads what it returns: there is one writer, so nothing need be locked.
func (t *sqliteTransaction) lockApp(app directory.AppID, _ *head) (head, error) {
	return (&tx{querier: t.connection}).head(app)
}

// narrow does nothing: what the disk does cannot be broken off.
func (t *sqliteTransaction) narrow(limits) {}

// commit returns when everything is on the disk: nobody can read it before.
func (t *sqliteTransaction) commit() (uncertain bool, err error) {
	log := t.engine.log
	log.syncFailed = false
	err = t.exec(`COMMIT`)
	if err != nil && log.syncFailed {
		return true, &engineError{err: err, uncertain: true} // the log may hold it all the same when the server starts again
	}
	if err != nil {
		return false, err
	}
	t.engine.commits.Add(1)
	t.release()
	return false, nil
}

func (t *sqliteTransaction) rollback() {
	if t.ended {
		return
	}
	if !t.conn.GetAutocommit() { // SQLite may have rolled back by itself
		// A rollback fails only when there is nothing to roll back.
		_ = t.exec(`ROLLBACK`)
	}
	t.release()
}

// release lets the next transaction use the writer.
func (t *sqliteTransaction) release() {
	t.ended = true
	t.engine.writing <- struct{}{}
}
