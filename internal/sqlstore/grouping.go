package sqlstore

import (
	"fmt"
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
// INSERT gathered in one statement. A statement keeps its place behind every earlier one on the same table.
func (t *insertTexts) groupInserts(statements []heldStatement) []heldStatement {
	grouped := make([]heldStatement, 0, len(statements))
	open := map[string]*insertGroup{} // by table
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
		group := open[table]
		if group == nil || group.sql != statement.sql || !group.add(insert, statement.args) {
			group = &insertGroup{sql: statement.sql, insert: *insert, at: len(grouped), keys: map[string]bool{}}
			group.add(insert, statement.args)
			open[table] = group
			groups = append(groups, group)
			grouped = append(grouped, heldStatement{})
		}
	}
	for _, group := range groups {
		grouped[group.at] = group.statement()
	}
	return grouped
}

// insertGroup is rows for one INSERT.
type insertGroup struct {
	sql    string
	insert insert
	at     int
	rows   [][]any
	keys   map[string]bool
}

// insert is what the text of an INSERT … VALUES says.
type insert struct {
	before, after string
	// key holds the positions of the arguments by which ON CONFLICT tells rows apart.
	key []int
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
	if _, target, found := strings.Cut(after, "ON CONFLICT ("); found {
		target, _, _ = strings.Cut(target, ")")
		for name := range strings.SplitSeq(target, ", ") {
			for i, column := range columns {
				if column == name {
					parsed.key = append(parsed.key, i)
				}
			}
		}
	}
	return table, parsed
}

// add adds a row, unless the group has one with the same key: one statement may not write a row twice.
func (g *insertGroup) add(parsed *insert, args []any) bool {
	if len(parsed.key) > 0 {
		var key strings.Builder
		for _, i := range parsed.key {
			fmt.Fprintf(&key, "%v\x00", args[i])
		}
		if g.keys[key.String()] {
			return false
		}
		g.keys[key.String()] = true
	}
	g.rows = append(g.rows, args)
	return true
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
