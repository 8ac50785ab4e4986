package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ncruces/go-sqlite3"
)

// sqliteSide is a SQLite file that a move reads.
type sqliteSide struct {
	path   string
	reader *connection
}

// sqliteCatalog asks what describeTable wants to know.
const sqliteCatalog = `SELECT name, type, pk, "notnull" = 0 FROM pragma_table_info($1)`

func (s *sqliteSide) table(_ context.Context, name string) (movedTable, error) {
	return describeTable(s.reader, sqliteCatalog, name)
}

func (s *sqliteSide) snapshot(ctx context.Context, fn func(movedReader) error) error {
	defer s.reader.conn.SetInterrupt(s.reader.conn.SetInterrupt(ctx))
	if err := s.reader.exec(`BEGIN`); err != nil {
		return err
	}
	err := fn(s.reader)
	s.reader.conn.SetInterrupt(context.Background()) // it ends also when ctx has
	return errors.Join(err, s.reader.exec(`ROLLBACK`))
}

func (s *sqliteSide) close(context.Context) error {
	if s.reader == nil {
		return nil
	}
	return s.reader.close()
}

// checkVersion demands the schema of this program.
func checkVersion(version int64, where string) error {
	if version != latestVersion {
		return fmt.Errorf("%s has schema version %d, and this program needs %d: start the server of this release on it first",
			where, version, latestVersion)
	}
	return nil
}

type sqliteSource struct{ sqliteSide }

func openSQLiteSource(path string) (_ *sqliteSource, err error) {
	reader, err := openInspector(path)
	if err != nil {
		return nil, err
	}
	s := &sqliteSource{sqliteSide{path: path, reader: reader}}
	version, err := reader.schemaVersion()
	if err == nil {
		err = checkVersion(version, path)
	}
	if err != nil {
		return nil, errors.Join(err, reader.close())
	}
	return s, nil
}

func (s *sqliteSource) movedTo(context.Context) (*moveMark, error) { return markBeside(s.path) }

func (s *sqliteSource) fence(ctx context.Context) (moveFence, error) {
	return raiseSQLiteFence(ctx, s.path)
}

// movingSuffix is what the name of a database file ends with into which a move is not done.
const movingSuffix = ".moving"

// sqliteTarget is a SQLite file into which a move goes. It gets its name when the move is done.
type sqliteTarget struct {
	sqliteSide
	sealed bool
	lock   *os.File
	writer *connection
}

// checkUnused fails when there is a database at path, or what belonged to one.
func checkUnused(path string) error {
	for _, suffix := range []string{"", "-wal", fenceSuffix} {
		_, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = fmt.Errorf("%s is there: %w, or move %s and all whose names begin so to another place",
				path+suffix, errTargetUsed, path)
		}
		if suffix == "" {
			err = &movePublishedError{err}
		}
		return err
	}
	return nil
}

// inspectSQLiteTarget tells whether a move into a file was begun, or why none can be.
func inspectSQLiteTarget(path, from string) (goesOn bool, err error) {
	if err := checkUnused(path); err != nil {
		return false, err
	}
	reader, err := openInspector(path + movingSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, reader.close()) }()
	mark, err := readStoredMark(reader)
	if err == nil && mark != nil && mark.Place != from {
		err = fmt.Errorf("%s holds a part of a move from %s: %w, or remove it", path+movingSuffix, mark.Place, errTargetUsed)
	}
	return mark != nil, err
}

// readStoredMark reads the mark in a file into which a move goes, nil when it has none.
func readStoredMark(r movedReader) (mark *moveMark, err error) {
	var there int64
	err = r.query(`SELECT count(*) FROM sqlite_schema WHERE name = '`+moveTable+`'`, nil, func(r row) error {
		there = r.integer(0)
		return nil
	})
	if err != nil || there == 0 {
		return nil, err
	}
	err = r.query(`SELECT id, place, at FROM `+moveTable, nil, func(r row) error {
		mark = &moveMark{ID: r.text(0), Place: r.text(1), At: r.integer(2)}
		return nil
	})
	return mark, err
}

func openSQLiteTarget(path string, sealed bool) (_ *sqliteTarget, err error) {
	if err := checkUnused(path); err != nil {
		return nil, err
	}
	t := &sqliteTarget{sqliteSide: sqliteSide{path: path}, sealed: sealed}
	// Made here so that nobody else can ever read it.
	if t.lock, err = os.OpenFile(path+movingSuffix, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(t.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another move is writing to %s", t.lock.Name()), t.lock.Close())
	}
	return t, nil
}

// copyPragmas make a file that a crash does not damage, though it may lose what was copied last.
var copyPragmas = []string{"busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)", "cache_size(-20000)"}

func (t *sqliteTarget) begin(ctx context.Context, mark moveMark) (_ moveMark, err error) {
	name := t.path + movingSuffix
	if t.writer, err = openConnection(name, copyPragmas); err != nil {
		return mark, err
	}
	known, err := readStoredMark(t.writer)
	if err != nil {
		return mark, err
	}
	if known == nil {
		version, err := t.writer.schemaVersion()
		if err != nil || version != 0 && !t.sealed {
			return mark, errors.Join(err, fmt.Errorf("%s is no move's: remove it", name))
		}
		err = t.writer.exec(`CREATE TABLE IF NOT EXISTS ` + moveTable +
			` (id TEXT NOT NULL, place TEXT NOT NULL, at INTEGER NOT NULL)`)
		if err == nil {
			err = t.writer.exec(`INSERT INTO `+moveTable+` (id, place, at) VALUES ($1, $2, $3)`, mark.ID, mark.Place, mark.At)
		}
		if err != nil {
			return mark, err
		}
		known = &mark
	}
	migrating := &sqlite{path: name, writer: t.writer}
	if err := migrating.migrate(ctx); err != nil {
		return mark, err
	}
	t.reader, err = openConnection(name, inspectorPragmas)
	return *known, err
}

func (t *sqliteTarget) apply(ctx context.Context, table movedTable, deletes, inserts []movedRow) (err error) {
	defer t.writer.conn.SetInterrupt(t.writer.conn.SetInterrupt(ctx))
	if err := t.writer.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer func() {
		if err != nil && !t.writer.conn.GetAutocommit() {
			t.writer.conn.SetInterrupt(context.Background()) // it ends also when ctx has
			err = errors.Join(err, t.writer.exec(`ROLLBACK`))
		}
	}()
	remove := `DELETE FROM ` + table.name + ` WHERE ` + matches(table.columns[:table.keys])
	for _, cells := range deletes {
		if err := t.writer.exec(remove, table.args(cells, table.keys)...); err != nil {
			return err
		}
	}
	insert := `INSERT INTO ` + table.name + ` (` + strings.Join(table.columns, ", ") +
		`) VALUES (` + placeholders(len(table.columns)) + `)`
	for _, cells := range inserts {
		if err := t.writer.exec(insert, table.args(cells, len(table.columns))...); err != nil {
			return err
		}
	}
	return t.writer.exec(`COMMIT`)
}

// matches is a condition on columns, with a placeholder for each.
func matches(columns []string) string {
	conditions := make([]string, len(columns))
	for i, column := range columns {
		conditions[i] = fmt.Sprintf("%s = $%d", column, i+1)
	}
	return strings.Join(conditions, " AND ")
}

func placeholders(count int) string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(texts, ", ")
}

// settle copies the log into the file: that takes long after a copy, and little after the few rows of a switch.
func (t *sqliteTarget) settle(context.Context) error {
	_, _, err := t.writer.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_TRUNCATE)
	return sqliteError("copy the log", err)
}

func (t *sqliteTarget) publish(context.Context) error {
	if err := t.writer.exec(`DROP TABLE ` + moveTable); err != nil {
		return err
	}
	err := t.reader.close()
	t.reader = nil
	if err != nil {
		return err
	}
	err = t.writer.close() // copies the log into the file, and removes it
	t.writer = nil
	if err != nil {
		return err
	}
	name := t.path + movingSuffix
	if _, err := os.Stat(name + "-wal"); err == nil {
		return fmt.Errorf("%s is still there: somebody else has the file open; run the move again", name+"-wal")
	}
	if err := t.lock.Sync(); err != nil {
		return err
	}
	if _, err := os.Stat(t.path); err == nil {
		return fmt.Errorf("%s is there all at once: move it away and run the move again", t.path)
	}
	if err := os.Rename(name, t.path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(t.path))
}

func (t *sqliteTarget) close(ctx context.Context) error {
	failures := []error{t.sqliteSide.close(ctx)}
	if t.writer != nil {
		failures = append(failures, t.writer.close())
	}
	if t.lock != nil {
		failures = append(failures, t.lock.Close())
	}
	return errors.Join(failures...)
}
