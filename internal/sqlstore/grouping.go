package sqlstore

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// insertTexts remembers what the texts of statements say: there are few, and they come again and again.
type insertTexts struct{ parsed sync.Map }

type parsedText struct {
	table  string
	insert *insert
}

func (t *insertTexts) parse(sql string) (table string, _ *insert) {
	if known, ok := t.parsed.Load(sql); ok {
		text := known.(parsedText) //nolint:forcetypeassert // nothing else is in it
		return text.table, text.insert
	}
	table, parsed := parseInsert(sql)
	t.parsed.Store(sql, parsedText{table, parsed})
	return table, parsed
}

// groupInserts returns statements that do the same as the given ones, with the rows that go into a table by the same
// INSERT gathered in one statement. A row keeps its place behind every earlier statement that is about the same row,
// and behind every one on its table of which that is not known.
func (t *insertTexts) groupInserts(statements []heldStatement) []heldStatement {
	grouped := make([]heldStatement, 0, len(statements))
	open := map[string][]*insertGroup{} // by table
	var groups []*insertGroup
	for _, statement := range statements {
		table, insert := t.parse(statement.sql)
		if insert == nil {
			if table == "" { // it could be about anything, such as SAVEPOINT: nothing may move past it
				clear(open)
			} else {
				delete(open, table)
			}
			grouped = append(grouped, statement)
			continue
		}
		key := insert.keyOf(statement.args)
		group := groupFor(open[table], statement.sql, key)
		if group == nil {
			group = &insertGroup{sql: statement.sql, insert: *insert, at: len(grouped), keys: map[string]bool{}}
			open[table] = append(open[table], group)
			groups = append(groups, group)
			grouped = append(grouped, heldStatement{})
		}
		group.rows = append(group.rows, statement.args)
		group.keys[key] = true
	}
	for _, group := range groups {
		grouped[group.at] = group.statement()
	}
	return grouped
}

// groupFor returns the group of a table that a row may join: none that begins later is about the same row, nor is
// itself, as one statement may not write a row twice. Nil when there is none.
func groupFor(groups []*insertGroup, sql, key string) *insertGroup {
	for _, group := range slices.Backward(groups) {
		same := group.sql == sql
		if key == "" && same {
			return group
		}
		if key == "" || group.keys[""] || group.keys[key] {
			return nil
		}
		if same {
			return group
		}
	}
	return nil
}

// insertGroup is rows for one INSERT.
type insertGroup struct {
	sql    string
	insert insert
	at     int
	rows   [][]any
	keys   map[string]bool
}

// primaryKeys are the keys of tables into which rows are put in more than one way.
var primaryKeys = map[string][]string{"users": {"app", "uid"}}

// insert is what the text of an INSERT … VALUES says.
type insert struct {
	before, after string
	// key holds the positions of the arguments that tell rows apart: those of ON CONFLICT, or of the primary key. Empty
	// when it is not known.
	key []int
}

// keyOf returns a text that no other row has, empty when that is not known.
func (i insert) keyOf(args []any) string {
	var key strings.Builder
	for _, position := range i.key {
		if text, ok := args[position].(string); ok { // nearly all are
			key.WriteString(text)
		} else {
			fmt.Fprint(&key, args[position])
		}
		key.WriteByte(0)
	}
	return key.String()
}

// parseInsert returns the table that a statement is about, empty when it cannot be told, and what an INSERT of one row
// of plain arguments says, nil for any other statement.
func parseInsert(sql string) (table string, _ *insert) {
	words := strings.Fields(sql)
	if len(words) < 3 {
		return "", nil
	}
	switch words[0] {
	case "UPDATE":
		return words[1], nil
	case "DELETE":
		return words[2], nil
	case "INSERT":
		table = words[2]
	default:
		return "", nil
	}
	before, rest, found := strings.Cut(sql, "VALUES (")
	values, after, closed := strings.Cut(rest, ")")
	if !found || !closed {
		return table, nil
	}
	for i, value := range strings.Split(values, ", ") {
		if value != fmt.Sprintf("$%d", i+1) {
			return table, nil
		}
	}
	parsed := &insert{before: before, after: after}
	_, columnList, _ := strings.Cut(before, "(")
	columnList, _, _ = strings.Cut(columnList, ")")
	columns := strings.Split(columnList, ", ")
	key := primaryKeys[table]
	if _, target, found := strings.Cut(after, "ON CONFLICT ("); found {
		target, _, _ = strings.Cut(target, ")")
		key = strings.Split(target, ", ")
	}
	for _, name := range key {
		parsed.key = append(parsed.key, slices.Index(columns, name))
	}
	return table, parsed
}

func (g *insertGroup) statement() heldStatement {
	if len(g.rows) == 1 {
		return heldStatement{g.sql, g.rows[0]}
	}
	var sql strings.Builder
	sql.WriteString(g.insert.before + "SELECT * FROM unnest(")
	args := make([]any, len(g.rows[0]))
	for column := range args {
		var arrayType string
		args[column], arrayType = columnOf(g.rows, column)
		if column > 0 {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "$%d::%s", column+1, arrayType)
	}
	sql.WriteString(")" + g.insert.after)
	return heldStatement{sql.String(), args}
}

// columnOf returns the values of a column as an array, and PostgreSQL's name for its type.
func columnOf(rows [][]any, column int) (array any, arrayType string) {
	switch rows[0][column].(type) {
	case string:
		return gather[string](rows, column), "text[]"
	case []byte:
		return gather[[]byte](rows, column), "bytea[]"
	case int:
		return gather[int](rows, column), "bigint[]"
	default:
		return gather[int64](rows, column), "bigint[]"
	}
}

func gather[T any](rows [][]any, column int) []T {
	values := make([]T, len(rows))
	for i, row := range rows {
		values[i] = row[column].(T) //nolint:forcetypeassert // a statement's arguments have the same types every time
	}
	return values
}
