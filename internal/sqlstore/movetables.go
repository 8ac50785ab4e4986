package sqlstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// movedTables are the tables that a move copies. In each, the key begins with the app.
var movedTables = []string{
	"apps", "collaborators", "api_keys", "roles", "users", "auth_tokens", "blocks", "friends", "friend_requests",
	"changes", "revisions", "tombstones", "answers", "answer_subjects", "activity", "presence_alive", "presence_online",
	"presence_transitions",
}

// leftTables are the tables that a move leaves alone: they are about the database itself, and not about what is in it.
var leftTables = []string{"goose_db_version", moveTable}

// columnKind is what a column holds, in both engines.
type columnKind int

const (
	textColumn columnKind = iota
	integerColumn
	blobColumn
)

var columnKinds = map[string]columnKind{
	"TEXT": textColumn, "INTEGER": integerColumn, "BIGINT": integerColumn, "BLOB": blobColumn, "BYTEA": blobColumn,
}

// movedTable is a table as a move reads and writes it: the columns of its key come first.
type movedTable struct {
	name    string
	columns []string
	kinds   []columnKind
	keys    int
}

// describeTable reads from a catalog what a table is made of. question asks for the name of each column, its type, its
// place in the key from 1 on or 0, and whether it may be NULL.
func describeTable(q movedReader, question, name string) (movedTable, error) {
	type column struct {
		name, typ string
		place     int64
		nullable  bool
	}
	var columns []column
	err := q.query(question, []any{name}, func(r row) error {
		columns = append(columns, column{r.text(0), strings.ToUpper(r.text(1)), r.integer(2), r.integer(3) != 0})
		return nil
	})
	if err != nil {
		return movedTable{}, err
	}
	slices.SortStableFunc(columns, func(a, b column) int {
		if order := cmp.Compare(orLast(a.place), orLast(b.place)); order != 0 {
			return order
		}
		return cmp.Compare(a.name, b.name)
	})
	table := movedTable{name: name}
	for _, c := range columns {
		kind, known := columnKinds[c.typ]
		if !known || c.nullable && c.place == 0 {
			return table, fmt.Errorf("column %s of table %s is %s, which cannot be moved", c.name, name, c.typ)
		}
		table.columns, table.kinds = append(table.columns, c.name), append(table.kinds, kind)
		if c.place > 0 {
			table.keys++
		}
	}
	if table.keys == 0 || table.columns[0] != "app" {
		return table, fmt.Errorf("the key of table %s does not begin with the app", name)
	}
	return table, nil
}

// orLast puts columns that are not in the key behind those that are.
func orLast(place int64) int64 {
	if place == 0 {
		return 1 << 30
	}
	return place
}

func (t movedTable) equal(other movedTable) bool {
	return t.name == other.name && t.keys == other.keys &&
		slices.Equal(t.columns, other.columns) && slices.Equal(t.kinds, other.kinds)
}

// rows asks for the rows of an app, or of all when it is empty, in the order of the key: byte by byte, in both engines.
func (t movedTable) rows(app string) (question string, args []any) {
	question = `SELECT ` + strings.Join(t.columns, ", ") + ` FROM ` + t.name
	if app != "" {
		question, args = question+` WHERE app = $1`, []any{app}
	}
	return question + ` ORDER BY ` + strings.Join(t.columns[:t.keys], ", "), args
}

// movedReader is the part of a querier that reads.
type movedReader interface {
	query(sql string, args []any, each func(row) error) error
}

// cell is one column of a row: a number, or a text or the bytes of a blob.
type cell struct {
	text   string
	number int64
}

// movedRow is a row in the order of a table's columns.
type movedRow []cell

func (t movedTable) read(r row) movedRow {
	cells := make(movedRow, len(t.kinds))
	for i, kind := range t.kinds {
		switch kind {
		case textColumn:
			cells[i].text = r.text(i)
		case integerColumn:
			cells[i].number = r.integer(i)
		default:
			cells[i].text = string(r.blob(i))
		}
	}
	return cells
}

// args returns the first columns of a row as arguments of a statement.
func (t movedTable) args(cells movedRow, columns int) []any {
	args := make([]any, columns)
	for i := range args {
		switch t.kinds[i] {
		case textColumn:
			args[i] = cells[i].text
		case integerColumn:
			args[i] = cells[i].number
		default:
			args[i] = []byte(cells[i].text)
		}
	}
	return args
}

func (r movedRow) size() (bytes int) {
	for _, c := range r {
		bytes += len(c.text) + 24
	}
	return bytes
}

// compareKeys orders rows as the engines do.
func (t movedTable) compareKeys(a, b movedRow) int {
	for i := range t.keys {
		if order := cmp.Or(cmp.Compare(a[i].text, b[i].text), cmp.Compare(a[i].number, b[i].number)); order != 0 {
			return order
		}
	}
	return 0
}

// TableSum is what a table holds of an app: how many rows, and a checksum over all of their columns.
type TableSum struct {
	Rows     int64
	Checksum string
}

// tally sums up rows, app by app.
type tally struct {
	sums    map[string]TableSum
	app     string
	rows    int64
	hash    hash.Hash
	scratch []byte
}

func newTally() *tally { return &tally{sums: map[string]TableSum{}, hash: sha256.New()} }

// add takes the next row, in the order of the key.
func (t *tally) add(cells movedRow) {
	if app := cells[0].text; t.rows == 0 || app != t.app {
		t.finish()
		t.app = app
	}
	t.rows++
	b := t.scratch[:0]
	for _, c := range cells {
		b = binary.BigEndian.AppendUint64(b, uint64(c.number))
		b = binary.BigEndian.AppendUint64(b, uint64(len(c.text)))
		b = append(b, c.text...)
	}
	t.hash.Write(b)
	t.scratch = b
}

// finish ends the app that is being summed up.
func (t *tally) finish() map[string]TableSum {
	if t.rows > 0 {
		t.sums[t.app] = TableSum{Rows: t.rows, Checksum: fmt.Sprintf("%x", t.hash.Sum(nil)[:8])}
	}
	t.rows = 0
	t.hash.Reset()
	return t.sums
}

// rowBatch is rows on their way from a reader.
const (
	rowBatchLength = 1000
	rowBatchBytes  = 256 << 10
)

// rowStream delivers the rows of one side in the order of the key. Memory for a few batches is all that it takes.
type rowStream struct {
	batches chan []movedRow
	failed  error // for reading when batches is closed
	batch   []movedRow
}

// stream reads in a goroutine, which ends when everything was read, it failed, or ctx has ended.
func stream(ctx context.Context, table movedTable, read func(each func(row) error) error) *rowStream {
	s := &rowStream{batches: make(chan []movedRow, 2)}
	go func() {
		defer close(s.batches)
		var batch []movedRow
		var last movedRow
		bytes := 0
		send := func() error {
			select {
			case s.batches <- batch:
				batch, bytes = nil, 0
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.failed = read(func(r row) error {
			cells := table.read(r)
			if last != nil && table.compareKeys(last, cells) >= 0 {
				return fmt.Errorf("the rows of table %s do not come in the order of its key", table.name)
			}
			last = cells
			batch, bytes = append(batch, cells), bytes+cells.size()
			if len(batch) < rowBatchLength && bytes < rowBatchBytes {
				return nil
			}
			return send()
		})
		if s.failed == nil && len(batch) > 0 {
			s.failed = send()
		}
	}()
	return s
}

// next returns the next row, nil at the end.
func (s *rowStream) next() (movedRow, error) {
	if len(s.batch) == 0 {
		batch, more := <-s.batches
		if !more {
			return nil, s.failed
		}
		s.batch = batch
	}
	first := s.batch[0]
	s.batch = s.batch[1:]
	return first, nil
}

// drain waits until the reading goroutine has ended.
func (s *rowStream) drain() {
	for range s.batches { //nolint:revive // what is left is of no use
	}
}
