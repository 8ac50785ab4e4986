package sqlstore

import (
	"bytes"
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
var leftTables = []string{"goose_db_version", moveTable, "servers"}

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

// movedRow is a row in the order of a table's columns: eight bytes for a number, and four bytes with the length before
// a text or a blob. Rows that are the same have the same bytes.
type movedRow []byte

// appendRow appends what a row holds.
func (t movedTable) appendRow(to []byte, r row) []byte {
	for i, kind := range t.kinds {
		if kind == integerColumn {
			to = binary.BigEndian.AppendUint64(to, uint64(r.integer(i)))
			continue
		}
		value := r.bytes(i)
		to = binary.BigEndian.AppendUint32(to, uint32(len(value)))
		to = append(to, value...)
	}
	return to
}

// cut returns the first column of what is left of a row, as a number or as bytes, and the rest.
func (k columnKind) cut(from []byte) (number int64, value, rest []byte) {
	if k == integerColumn {
		return int64(binary.BigEndian.Uint64(from)), nil, from[8:]
	}
	end := 4 + binary.BigEndian.Uint32(from)
	return 0, from[4:end:end], from[end:]
}

// args returns the first columns of a row as arguments of a statement.
func (t movedTable) args(r movedRow, columns int) []any {
	args := make([]any, columns)
	rest := []byte(r)
	for i, kind := range t.kinds[:columns] {
		var number int64
		var value []byte
		number, value, rest = kind.cut(rest)
		switch kind {
		case textColumn:
			args[i] = string(value)
		case integerColumn:
			args[i] = number
		default:
			args[i] = value
		}
	}
	return args
}

// app is the first column of every table.
func (r movedRow) app() []byte {
	_, app, _ := textColumn.cut(r)
	return app
}

// compareKeys orders rows as the engines do.
func (t movedTable) compareKeys(a, b movedRow) int {
	restA, restB := []byte(a), []byte(b)
	for _, kind := range t.kinds[:t.keys] {
		var numberA, numberB int64
		var valueA, valueB []byte
		numberA, valueA, restA = kind.cut(restA)
		numberB, valueB, restB = kind.cut(restB)
		if order := cmp.Or(cmp.Compare(numberA, numberB), bytes.Compare(valueA, valueB)); order != 0 {
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
	sums map[string]TableSum
	app  string
	rows int64
	hash hash.Hash
}

func newTally() *tally { return &tally{sums: map[string]TableSum{}, hash: sha256.New()} }

// add takes the next row, in the order of the key.
func (t *tally) add(r movedRow) {
	if app := r.app(); t.rows == 0 || string(app) != t.app {
		t.finish()
		t.app = string(app)
	}
	t.rows++
	t.hash.Write(r)
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

// The rows of a batch on their way from a reader, and their bytes, at most.
const (
	batchRows  = 1000
	batchBytes = 128 << 10
)

// rowBatch is rows, one behind the other.
type rowBatch struct {
	bytes []byte
	ends  []int
}

func newRowBatch() *rowBatch {
	return &rowBatch{bytes: make([]byte, 0, batchBytes+batchBytes/8), ends: make([]int, 0, batchRows)}
}

// rowStream delivers the rows of one side in the order of the key. Memory for a few batches is all that it takes.
type rowStream struct {
	batches chan *rowBatch
	failed  error // for reading when batches is closed
	// batch is being read, of which the rows before the given one, and their bytes, are done.
	batch      *rowBatch
	row, place int
}

// stream reads in a goroutine, which ends when everything was read, it failed, or ctx has ended.
func stream(ctx context.Context, table movedTable, read func(each func(row) error) error) *rowStream {
	s := &rowStream{batches: make(chan *rowBatch, 2), batch: &rowBatch{}}
	go func() {
		defer close(s.batches)
		batch := newRowBatch()
		var last movedRow
		send := func() error {
			select {
			case s.batches <- batch:
				batch = newRowBatch()
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.failed = read(func(r row) error {
			begins := len(batch.bytes)
			batch.bytes = table.appendRow(batch.bytes, r)
			batch.ends = append(batch.ends, len(batch.bytes))
			current := movedRow(batch.bytes[begins:])
			if last != nil && table.compareKeys(last, current) >= 0 {
				return fmt.Errorf("the rows of table %s do not come in the order of its key", table.name)
			}
			last = current
			if len(batch.ends) < batchRows && len(batch.bytes) < batchBytes {
				return nil
			}
			return send()
		})
		if s.failed == nil && len(batch.ends) > 0 {
			s.failed = send()
		}
	}()
	return s
}

// next returns the next row, nil at the end.
func (s *rowStream) next() (movedRow, error) {
	if s.row == len(s.batch.ends) {
		batch, more := <-s.batches
		if !more {
			return nil, s.failed
		}
		s.batch, s.row, s.place = batch, 0, 0
	}
	begins, end := s.place, s.batch.ends[s.row]
	s.row, s.place = s.row+1, end
	return s.batch.bytes[begins:end:end], nil
}

// drain waits until the reading goroutine has ended.
func (s *rowStream) drain() {
	for range s.batches { // what is left is of no use
	}
}
