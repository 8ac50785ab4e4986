package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/ncruces/go-sqlite3/vfs"
)

// LatestVersion is the number of the newest migration.
const LatestVersion = latestVersion

// MakeSQLite makes a database with the schema of an earlier version and runs statements in it.
func MakeSQLite(ctx context.Context, path string, version int64, statements ...string) error {
	db, err := sql.Open("sqlite3", dataSource(path, writerPragmas))
	if err != nil {
		return err
	}
	return errors.Join(makeVersion(ctx, db, sqliteDialect, version, statements), db.Close())
}

// MakePostgres does the same to an empty database on PostgreSQL.
func MakePostgres(ctx context.Context, url string, version int64, statements ...string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	return errors.Join(makeVersion(ctx, db, postgresDialect, version, statements), db.Close())
}

func makeVersion(ctx context.Context, db *sql.DB, dialect dialect, version int64, statements []string) error {
	provider, err := dialect.provider(db)
	if err != nil {
		return err
	}
	if _, err := provider.UpTo(ctx, version); err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// CheckpointAt sets the length in pages at which the log of a store on SQLite is folded into the file.
func (s *Store) CheckpointAt(pages int) {
	engine := s.engine.(*sqlite) //nolint:forcetypeassert // what the caller promises
	engine.checkpointPages, engine.checkpointAt = pages, pages
}

// BeforeSyncs has sync called before every sync of the log of a store on SQLite: the sync fails when it does. What was
// written since the one before is not on the disk then, and no later sync puts it there. onDisk returns what is.
func (s *Store) BeforeSyncs(sync func() error) (onDisk func() []byte, err error) {
	log := s.engine.(*sqlite).log //nolint:forcetypeassert // what the caller promises
	size, err := log.Size()
	if err != nil {
		return nil, err
	}
	d := &disk{File: log.File, sync: sync, synced: make([]byte, size)}
	if _, err := d.ReadAt(d.synced, 0); err != nil {
		return nil, err
	}
	log.File = d
	return func() []byte {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Clone(d.synced)
	}, nil
}

// disk is the file of a log on a disk that does what a test wants, and that keeps what the system forgets to write.
type disk struct {
	vfs.File
	sync func() error

	mu      sync.Mutex
	synced  []byte        // guarded by mu
	written []pieceOfDisk // since the last sync. Guarded by mu
}

type pieceOfDisk struct {
	data []byte
	at   int64
}

func (d *disk) WriteAt(data []byte, at int64) (int, error) {
	d.mu.Lock()
	d.written = append(d.written, pieceOfDisk{slices.Clone(data), at})
	d.mu.Unlock()
	return d.File.WriteAt(data, at)
}

func (d *disk) Sync(flags vfs.SyncFlag) error {
	d.mu.Lock()
	written := d.written
	d.written = nil
	d.mu.Unlock()
	if err := d.sync(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, piece := range written {
		if more := int(piece.at) + len(piece.data) - len(d.synced); more > 0 {
			d.synced = append(d.synced, make([]byte, more)...)
		}
		copy(d.synced[piece.at:], piece.data)
	}
	return d.File.Sync(flags)
}

// EachPlan calls fn with every statement that the connections of a store on SQLite have prepared, and with its plan.
// Nobody may use the store meanwhile.
func (s *Store) EachPlan(fn func(sql string, plan []string)) error {
	engine := s.engine.(*sqlite) //nolint:forcetypeassert // what the caller promises
	connections := []*connection{engine.writer}
	for _, reader := range engine.readers.idle {
		if reader.connection != nil {
			connections = append(connections, reader.connection)
		}
	}
	texts := map[string]bool{}
	for _, connection := range connections {
		for text := range connection.statements {
			texts[text] = true
		}
	}
	for text := range texts {
		plan, err := planOf(engine.writer, text, nil)
		if err != nil {
			return err
		}
		fn(text, plan)
	}
	return nil
}

// planOf returns the steps of SQLite's plan of a statement.
func planOf(s querier, sql string, args []any) (plan []string, err error) {
	err = s.query(`EXPLAIN QUERY PLAN `+sql, args, func(r row) error {
		plan = append(plan, r.text(3))
		return nil
	})
	return plan, err
}

// smallTables do not grow with the users of an app.
var smallTables = []string{"apps", "collaborators", "api_keys", "roles", "revisions", "presence_alive", "sqlite_schema"}

// Wasteful returns the first step of a plan that reads more of a table than is asked for: all of it, or all that an app
// has there, unless it goes along the index of an order until it has a page. Empty when there is none.
func Wasteful(sql string, plan []string) string {
	sorts := slices.ContainsFunc(plan, func(step string) bool { return strings.HasPrefix(step, "USE TEMP B-TREE") })
	pages := strings.Contains(sql, " LIMIT ") && !sorts &&
		(strings.Contains(sql, "ORDER BY") || strings.Contains(sql, "AS skipped") || strings.HasSuffix(sql, " WHERE app = $1 LIMIT $2"))
	endsApp := strings.HasPrefix(sql, "DELETE FROM ") && strings.HasSuffix(sql, " WHERE app = $1")
	results := []string{"CONSTANT"} // of other steps
	for _, step := range plan {
		words := strings.Fields(step)
		switch {
		case words[0] == "CO-ROUTINE":
			results = append(results, words[1])
		case words[0] == "SCAN" && !slices.Contains(results, words[1]) && !slices.Contains(smallTables, words[1]) &&
			!strings.Contains(sql, "FROM tombstones ORDER BY") && // read when the server starts
			!strings.Contains(sql, "FROM users NOT INDEXED WHERE app = $1"): // EachUser
			return step
		case words[0] == "SEARCH" && strings.HasSuffix(step, "(app=?)") && !slices.Contains(smallTables, words[1]) && !pages && !endsApp &&
			!strings.Contains(sql, "FROM users WHERE app = $1"): // EachUser
			return step
		}
	}
	return ""
}

// Ask asks a store's database a question on a connection that views use, and returns the answer.
func (s *Store) Ask(ctx context.Context, question string) (answer string, err error) {
	err = s.engine.view(ctx, func(q querier) error {
		return q.query(question, nil, func(r row) error {
			answer = r.text(0)
			return nil
		})
	})
	return answer, err
}

// PretendToHaveLooked lets a store on SQLite take its files, and what keeps writes from them, for what they were until a
// while from now.
func (s *Store) PretendToHaveLooked(until time.Time) {
	engine := s.engine.(*sqlite) //nolint:forcetypeassert // what the caller promises
	<-engine.writing
	engine.looked, engine.fence = until.Add(-lookEvery), ""
	engine.writing <- struct{}{}
}

// MovedTables and LeftTables are the tables that a move copies, and that it leaves alone.
var (
	MovedTables = movedTables
	LeftTables  = leftTables
)

// TablesOf returns the tables of a database, and describes those that a move copies.
func TablesOf(ctx context.Context, place MovePlace) (names []string, described map[string]string, err error) {
	var source moveSource
	var reader movedReader
	question := `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
	if place.URL == "" {
		s, err := openSQLiteSource(place.Path)
		if err != nil {
			return nil, nil, err
		}
		source, reader = s, s.reader
	} else {
		s, err := openPostgresSource(ctx, place.URL)
		if err != nil {
			return nil, nil, err
		}
		source, reader = s, &pgReader{ctx, s.reader}
		question = `SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()`
	}
	defer func() { err = errors.Join(err, source.close(ctx)) }()
	err = reader.query(question, nil, func(r row) error { names = append(names, r.text(0)); return nil })
	described = map[string]string{}
	for _, name := range movedTables {
		table, errTable := source.table(ctx, name)
		err = errors.Join(err, errTable)
		described[name] = fmt.Sprint(table)
	}
	return names, described, err
}

// FillEveryTable puts rows of so many apps into every table of a SQLite file.
func FillEveryTable(ctx context.Context, path string, apps int) error {
	source, err := openSQLiteSource(path)
	if err != nil {
		return err
	}
	var tables []movedTable
	for _, name := range movedTables {
		table, err := source.table(ctx, name)
		if err != nil {
			return errors.Join(err, source.close(ctx))
		}
		tables = append(tables, table)
	}
	if err := source.close(ctx); err != nil {
		return err
	}
	target := &sqliteTarget{}
	if target.writer, err = openConnection(path, copyPragmas); err != nil {
		return err
	}
	// What sorts apart when an engine does not compare bytes, and what could be taken for the end of a text.
	keys := []string{"", "A", "_", "a", "a b", "ab", "\u00e9", "\u4f60", "\U0001F600", "\uFF5E"}
	for _, table := range tables {
		var rows []movedRow
		for app := range apps {
			for i, key := range keys {
				filled := movedRow(appendText(nil, fmt.Sprintf("app%d", app)))
				for column, kind := range table.kinds[1:] {
					switch kind {
					case integerColumn:
						filled = binary.BigEndian.AppendUint64(filled, uint64(int64(i)-3+int64(column)<<40))
					case textColumn:
						filled = appendText(filled, key+table.columns[column+1])
					default:
						filled = appendText(filled, "\x00\xff"+key+"\x00")
					}
				}
				if rows = append(rows, filled); table.keys == 1 {
					break
				}
			}
		}
		if err := target.apply(ctx, table, nil, rows); err != nil {
			return errors.Join(fmt.Errorf("fill %s: %w", table.name, err), target.close(ctx))
		}
	}
	return target.close(ctx)
}

func appendText(to []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(text))), text...)
}

// SwitchByHalf does what Switch does, and stops as if the process were killed when the source was sealed, and the
// target not ready yet.
func (m *Move) SwitchByHalf(ctx context.Context) error {
	fence, err := m.source.fence(ctx)
	if err != nil {
		return err
	}
	for caughtUp := false; !caughtUp; {
		if _, caughtUp, err = m.compare(ctx); err != nil {
			return errors.Join(err, fence.lift(ctx))
		}
	}
	return errors.Join(fence.seal(ctx, moveMark{ID: m.mark.ID, Place: m.to.String(), At: 1}), fence.lift(ctx))
}
