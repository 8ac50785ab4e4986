package sqlstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // database/sql, for migrations only
)

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
	if err := checkHeader(path); err != nil {
		return nil, err
	}
	conn, err := sqlite3.Open(dataSource(path, pragmas))
	if err != nil {
		return nil, damageOf(path, sqliteError("open database", err))
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

// bind binds an argument, unless it is what is bound already: SQLite copies each, and the app of a row, for one, is
// nearly always that of the row before.
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

func (r sqliteRow) blob(column int) []byte { return r.statement.ColumnBlob(column, nil) }

func (r sqliteRow) bytes(column int) []byte { return r.statement.ColumnRawBlob(column) }

func sqliteError(doing string, err error) error {
	if err == nil {
		return nil
	}
	failure := &engineError{err: fmt.Errorf("sqlite: %s: %w", doing, err)}
	if diskRefuses(err) {
		failure.message = diskFull
	}
	if isDamage(err) {
		failure.message = databaseDamaged
	}
	return failure
}

// diskRefuses reports whether SQLite failed because the disk is full or cannot be written to.
func diskRefuses(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.IOERR) || errors.Is(err, sqlite3.READONLY) ||
		errors.Is(err, sqlite3.CANTOPEN)
}
