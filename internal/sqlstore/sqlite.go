package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
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
	return store, err
}

func openSQLite(ctx context.Context, path string) (*Store, error) {
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
	engine := &sqlite{writer: writer, writing: make(chan struct{}, 1), closing: make(chan struct{}), checkpointPages: checkpointPages, readers: newReaderPool(max(4, 2*runtime.GOMAXPROCS(0)))}
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
	query := url.Values{"vfs": {gatheringVFS}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// sqlite is one connection that writes and a pool of connections that read.
//
// A reader keeps its read transaction open for the next view, and begins another only when something was committed since:
// while nothing is written, a view takes no lock and asks the kernel nothing. The price is that open readers keep
// the log from being folded into the file, so the engine does that itself, at a moment without readers.
//
// A commit that another transaction waits for is written to the log, where that and the readers find it, and then synced to
// the disk, while the other goes on. Nobody learns of it before it is on the disk: a view that may have seen it waits.
type sqlite struct {
	path    string
	readers *readerPool
	// closing is closed before the readers are taken away for good.
	closing chan struct{}
	// writing holds a token while nobody uses the writer. Who has taken it may use what follows.
	writing chan struct{}
	writer  *connection
	log     *gatheringFile
	files   fileWatch
	// looked is when it was last looked whether the files are in their place.
	looked time.Time
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
	// pendingSync is the commit that views can see and that is not on the disk, nil when there is none. One that has failed to get
	// there stays.
	pendingSync atomic.Pointer[pendingSync]
}

// pendingSync is a commit on its way to the disk.
type pendingSync struct {
	ended chan struct{}
	err   error // may be read when it has ended
}

// reader is a connection that reads. Its connection is nil until it is first used.
type reader struct {
	*connection
	engine *sqlite
	// open says that a read transaction is open, and seen how many commits it sees, at least.
	open bool
	seen uint64
	// looked says that the transaction has read something, which fixes what it sees.
	looked bool
	// unsynced is a commit that it may see and that was not on the disk when it was looked for. Nil when there is none.
	unsynced *pendingSync
}

func (r *reader) query(text string, args []any, each func(row) error) error {
	err := r.connection.query(text, args, each)
	if !r.looked {
		// Only now: what was on its way to the disk before may be seen, and what was not cannot.
		r.looked, r.unsynced = true, r.engine.pendingSync.Load()
	}
	return err
}

const (
	// checkpointPages is the length of the log, 16 MB, at which it is folded into the file.
	checkpointPages = 4000
	// checkpointAgainPages is how much longer the log may get when it could not be folded to its end, since somebody, such
	// as a backup, still reads an old state.
	checkpointAgainPages = 1000
	// checkpointPatience is how long folding waits for the views under way.
	checkpointPatience = 200 * time.Millisecond
)

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
	log, ok := file.(*gatheringFile)
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
	err := e.saveLog()
	if err == nil && e.log != nil && !e.log.headerStands() {
		err = e.log.verify(e.log.header, e.logPages)
	}
	if err != nil { // the last connection would fold the log
		_, keep := e.writer.conn.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true)
		failures = append(failures, err, keep)
	}
	return errors.Join(append(failures, e.writer.close())...)
}

func (e *sqlite) pace() pace {
	return pace{overlapFrom: 32, refill: 0.9, patience: 2 * time.Millisecond}
}

func (e *sqlite) begin(_ context.Context, before *batch, _ limits) (transaction, error) {
	if before != nil {
		if err := before.wrote(); err != nil {
			return nil, err
		}
	}
	<-e.writing // given back by a transaction that does not wait for anything but the disk
	t := &sqliteTransaction{connection: e.writer, engine: e}
	err := e.mayWrite()
	if err == nil {
		err = e.tendLog()
	}
	if err == nil {
		err = e.writer.exec(`BEGIN IMMEDIATE`)
	}
	if err != nil {
		t.release()
		return nil, err
	}
	return t, nil
}

// lookEvery is how often it is looked, at most, whether the files are in their place: to look takes some 20 us, of the 350 that a
// write by itself takes.
const lookEvery = 10 * time.Millisecond

// mayWrite fails when what is written would be lost. The caller has taken the writer.
func (e *sqlite) mayWrite() error {
	if e.lost.Load() != nil || time.Since(e.looked) >= lookEvery {
		e.looked = time.Now()
		if lost := e.checkFiles(); lost != nil {
			return &engineError{err: lost, message: filesLost}
		}
	}
	return nil
}

// tendLog makes good a commit that did not get to the disk, and folds the log when it is long. The caller has taken the writer.
func (e *sqlite) tendLog() error {
	long := e.logPages >= e.checkpointAt
	if l := e.pendingSync.Load(); l != nil && long {
		<-l.ended // folding syncs the log too, and a failure of the disk is told to one sync alone
	}
	if err := e.saveLog(); err != nil {
		return err
	}
	if !long {
		return nil
	}
	if err := e.checkpoint(); err != nil {
		// What was committed is safe in the log, which is folded when it is longer.
		e.checkpointAt = e.logPages + checkpointAgainPages
		return nil //nolint:nilerr // as said
	}
	e.checkpointAt, e.logPages = e.checkpointPages, 0
	return nil
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

func (e *sqlite) view(ctx context.Context, fn func(session) error) error {
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
	if unsynced := r.awaitDisk(ctx); unsynced != nil {
		return errors.Join(unsynced, r.end())
	}
	return err
}

// refresh lets a reader see everything that was committed before.
func (e *sqlite) refresh(r *reader) (err error) {
	if r.connection == nil {
		if lost := e.files.place(); lost != nil { // it would open another file, and its end could take the log with it
			return &engineError{err: lost, message: filesLost}
		}
		r.engine = e
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
	r.open, r.seen, r.looked, r.unsynced = true, commits, false, nil
	return nil
}

// orOutOfFiles returns why a connection could not be opened: SQLite says that of a disk too when the process may not open more files.
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

// checkpoint copies the log into the file and starts it anew. Most of the work is done beside the readers; only for the last
// step, which takes no longer than a view, there must be none. It does not wait for readers in other processes.
func (e *sqlite) checkpoint() error {
	idle, err := e.takeReaders(0) // those that nobody uses must not lease the log back
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

// sqliteTransaction is a write transaction on the writer connection.
type sqliteTransaction struct {
	*connection
	engine *sqlite
	ended  bool
}

// lockApp reads what it returns: there is one writer, so nothing need be locked.
func (t *sqliteTransaction) lockApp(app directory.AppID, _ *head) (head, error) {
	return (&tx{session: t.connection}).head(app)
}

// narrow does nothing: what the disk does cannot be broken off.
func (t *sqliteTransaction) narrow(limits) {}

func (t *sqliteTransaction) commit(written func()) (uncertain bool, err error) {
	e := t.engine
	if written == nil {
		return t.commitSynced()
	}
	l := &pendingSync{ended: make(chan struct{})}
	e.pendingSync.Store(l) // before anybody can see the commit
	e.log.syncsLater = true
	err = t.exec(`COMMIT`)
	e.log.syncsLater = false
	if err != nil {
		e.pendingSync.Store(nil)
		close(l.ended)
		return false, err
	}
	t.release()
	written()
	if err := e.log.syncNow(); err != nil {
		err = fmt.Errorf("sqlite: sync the log: %w", err)
		l.err = &engineError{err: err, message: diskFull}
		close(l.ended)
		return true, &engineError{err: err, uncertain: true}
	}
	e.commits.Add(1)
	e.pendingSync.Store(nil)
	close(l.ended)
	return false, nil
}

// commitSynced commits in one step: nobody can read it before it is on the disk.
func (t *sqliteTransaction) commitSynced() (uncertain bool, err error) {
	log := t.engine.log
	log.syncFailed = false
	err = t.exec(`COMMIT`)
	if err != nil && log.syncFailed {
		return true, &engineError{err: err, uncertain: true} // the log may lease it all the same when the server starts again
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

// connection is one SQLite connection with its prepared statements.
type connection struct {
	conn       *sqlite3.Conn
	statements map[string]*preparedStatement
}

// preparedStatement is a statement with the arguments that are bound to it, nil for one that is always bound anew.
type preparedStatement struct {
	*sqlite3.Stmt
	bound []any
}

// maxStatements bounds the statements that a connection keeps: lists with many filters have many texts.
const maxStatements = 200

func openConnection(path string, pragmas []string) (*connection, error) {
	conn, err := sqlite3.Open(dataSource(path, pragmas))
	if errors.Is(err, sqlite3.NOTADB) {
		return nil, fmt.Errorf("%s is not a SQLite database", path)
	}
	if err != nil {
		return nil, sqliteError("open database", err)
	}
	return &connection{conn: conn, statements: map[string]*preparedStatement{}}, nil
}

func (c *connection) close() error {
	c.forgetStatements()
	return c.conn.Close()
}

func (c *connection) forgetStatements() {
	for _, statement := range c.statements {
		_ = statement.Close() // reports the last step's error again
	}
	clear(c.statements)
}

func (c *connection) statement(text string) (*preparedStatement, error) {
	if statement, ok := c.statements[text]; ok {
		return statement, nil
	}
	if len(c.statements) >= maxStatements {
		c.forgetStatements()
	}
	// SQLite numbers $1 by where it first stands, and ?1 as it says.
	prepared, _, err := c.conn.Prepare(strings.ReplaceAll(text, "$", "?"))
	if err != nil {
		return nil, sqliteError("prepare", err)
	}
	statement := &preparedStatement{Stmt: prepared}
	c.statements[text] = statement
	return statement, nil
}

func (c *connection) bound(text string, args []any) (*preparedStatement, error) {
	statement, err := c.statement(text)
	if err != nil {
		return nil, err
	}
	if statement.bound == nil {
		statement.bound = make([]any, len(args))
	}
	for i, arg := range args {
		if err := statement.bind(i, arg); err != nil {
			return nil, sqliteError("bind", err)
		}
	}
	return statement, nil
}

// bind binds an argument, unless it is what is bound already: SQLite copies each, and the app of a row, for one, is nearly
// always that of the row before.
func (s *preparedStatement) bind(i int, arg any) (err error) {
	bound := s.bound[i]
	s.bound[i] = nil
	switch value := arg.(type) {
	case string:
		if before, ok := bound.(string); !ok || before != value {
			err = s.BindText(i+1, value)
		}
	case int64:
		if before, ok := bound.(int64); !ok || before != value {
			err = s.BindInt64(i+1, value)
		}
	case int:
		if before, ok := bound.(int); !ok || before != value {
			err = s.BindInt64(i+1, int64(value))
		}
	case []byte:
		return s.BindBlob(i+1, value)
	default:
		return fmt.Errorf("cannot bind a %T", arg)
	}
	if err == nil {
		s.bound[i] = arg
	}
	return err
}

func (c *connection) exec(text string, args ...any) error {
	statement, err := c.bound(text, args)
	if err != nil {
		return err
	}
	return sqliteError("execute", statement.Exec())
}

func (c *connection) query(text string, args []any, each func(row) error) error {
	statement, err := c.bound(text, args)
	if err != nil {
		return err
	}
	for statement.Step() {
		if err := each(sqliteRow{statement.Stmt}); err != nil {
			return errors.Join(err, sqliteError("reset", statement.Reset()))
		}
	}
	return sqliteError("query", statement.Reset()) // reports what ended the last step
}

func (c *connection) schemaVersion() (version int64, err error) {
	var exists int64
	read := func(into *int64) func(row) error {
		return func(r row) error { *into = r.integer(0); return nil }
	}
	err = c.query(`SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`, nil, read(&exists))
	if err != nil || exists == 0 {
		return 0, err
	}
	err = c.query(`SELECT max(version_id) FROM goose_db_version`, nil, read(&version))
	return version, err
}

type sqliteRow struct{ statement *sqlite3.Stmt }

func (r sqliteRow) text(column int) string { return r.statement.ColumnText(column) }

func (r sqliteRow) texts(into []string) {
	var raw [16][]byte
	size := 0
	for i := range into {
		raw[i] = r.statement.ColumnRawText(i)
		size += len(raw[i])
	}
	joined := make([]byte, 0, size)
	for i := range into {
		joined = append(joined, raw[i]...)
	}
	share(string(joined), into, func(i int) int { return len(raw[i]) })
}

func (r sqliteRow) integer(column int) int64 { return r.statement.ColumnInt64(column) }
func (r sqliteRow) blob(column int) []byte   { return r.statement.ColumnBlob(column, nil) }

func sqliteError(doing string, err error) error {
	if err == nil {
		return nil
	}
	failure := &engineError{err: fmt.Errorf("sqlite: %s: %w", doing, err)}
	if diskRefuses(err) {
		failure.message = diskFull
	}
	return failure
}

// diskRefuses reports whether SQLite failed because the disk is full or cannot be written to.
func diskRefuses(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.IOERR) || errors.Is(err, sqlite3.READONLY) || errors.Is(err, sqlite3.CANTOPEN)
}
