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

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // database/sql, for migrations only

	"github.com/rollcall/rollcall/internal/directory"
)

// OpenSQLite opens the database file at path, makes it when it is missing, and migrates it to this version's schema.
// The caller holds the lock on the data directory: the file must have one writer.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
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
	engine := &sqlite{writer: writer, readers: make(chan *connection, max(4, 2*runtime.GOMAXPROCS(0)))}
	if err := engine.prepare(ctx, path); err != nil {
		return nil, errors.Join(err, engine.close())
	}
	return newStore(engine), nil
}

// The pragmas of each connection. busy_timeout comes first: the others may have to wait for a lock.
var (
	// A commit returns when it is on the disk (synchronous=FULL). The log is folded into the file every 16 MB.
	writerPragmas = []string{
		"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(off)",
		"cache_size(-8000)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)",
	}
	readerPragmas = []string{"busy_timeout(10000)", "query_only(on)", "cache_size(-2000)"}
)

func dataSource(path string, pragmas []string) string {
	query := url.Values{"_pragma": pragmas}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// sqlite is one connection that writes and a pool of connections that read.
type sqlite struct {
	path    string
	writer  *connection
	readers chan *connection // a nil connection is one not opened yet
}

func (e *sqlite) prepare(ctx context.Context, path string) error {
	e.path = path
	if err := e.migrate(ctx); err != nil {
		return err
	}
	for range cap(e.readers) {
		e.readers <- nil
	}
	return nil
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

func (e *sqlite) lane(directory.AppID) string { return "" }

func (e *sqlite) close() error {
	for range len(e.readers) {
		if reader := <-e.readers; reader != nil {
			if err := reader.close(); err != nil {
				return err
			}
		}
	}
	return e.writer.close()
}

func (e *sqlite) begin(context.Context) (transaction, error) {
	if err := e.writer.exec(`BEGIN IMMEDIATE`); err != nil {
		return nil, err
	}
	return &sqliteTransaction{e.writer}, nil
}

func (e *sqlite) view(ctx context.Context, fn func(session) error) error {
	var reader *connection
	select {
	case reader = <-e.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { e.readers <- reader }()
	if reader == nil {
		opened, err := openConnection(e.path, readerPragmas)
		if err != nil {
			return err
		}
		reader = opened
	}
	if err := reader.exec(`BEGIN`); err != nil {
		return err
	}
	err := fn(reader)
	if endErr := reader.exec(`COMMIT`); endErr != nil && err == nil {
		err = endErr
	}
	return err
}

// sqliteTransaction is a write transaction on the writer connection.
type sqliteTransaction struct{ *connection }

func (t *sqliteTransaction) lockApp(directory.AppID) error { return nil } // there is one writer

func (t *sqliteTransaction) commit() (uncertain bool, err error) {
	return false, t.exec(`COMMIT`)
}

func (t *sqliteTransaction) rollback() {
	if !t.conn.GetAutocommit() { // SQLite may have rolled back by itself
		// A rollback fails only when there is nothing to roll back.
		_ = t.exec(`ROLLBACK`)
	}
}

// connection is one SQLite connection with its prepared statements.
type connection struct {
	conn       *sqlite3.Conn
	statements map[string]*sqlite3.Stmt
}

// maxStatements bounds the statements that a connection keeps: lists with many filters have many texts.
const maxStatements = 200

func openConnection(path string, pragmas []string) (*connection, error) {
	conn, err := sqlite3.Open(dataSource(path, pragmas))
	if err != nil {
		return nil, sqliteError("open database", err)
	}
	return &connection{conn: conn, statements: map[string]*sqlite3.Stmt{}}, nil
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

func (c *connection) statement(text string) (*sqlite3.Stmt, error) {
	if statement, ok := c.statements[text]; ok {
		return statement, nil
	}
	if len(c.statements) >= maxStatements {
		c.forgetStatements()
	}
	// SQLite numbers $1 by where it first stands, and ?1 as it says.
	statement, _, err := c.conn.Prepare(strings.ReplaceAll(text, "$", "?"))
	if err != nil {
		return nil, sqliteError("prepare", err)
	}
	c.statements[text] = statement
	return statement, nil
}

func (c *connection) bound(text string, args []any) (*sqlite3.Stmt, error) {
	statement, err := c.statement(text)
	if err != nil {
		return nil, err
	}
	for i, arg := range args {
		switch value := arg.(type) {
		case string:
			err = statement.BindText(i+1, value)
		case int64:
			err = statement.BindInt64(i+1, value)
		case int:
			err = statement.BindInt64(i+1, int64(value))
		case []byte:
			err = statement.BindBlob(i+1, value)
		default:
			err = fmt.Errorf("cannot bind a %T", arg)
		}
		if err != nil {
			return nil, sqliteError("bind", err)
		}
	}
	return statement, nil
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
		if err := each(sqliteRow{statement}); err != nil {
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

func (r sqliteRow) text(column int) string   { return r.statement.ColumnText(column) }
func (r sqliteRow) integer(column int) int64 { return r.statement.ColumnInt64(column) }
func (r sqliteRow) blob(column int) []byte   { return r.statement.ColumnBlob(column, nil) }

func sqliteError(doing string, err error) error {
	if err == nil {
		return nil
	}
	full := errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.IOERR) || errors.Is(err, sqlite3.READONLY) || errors.Is(err, sqlite3.CANTOPEN)
	return &engineError{err: fmt.Errorf("sqlite: %s: %w", doing, err), full: full}
}
