package transfer

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
)

// columns are the headings of a CSV file, in any case. Beside them there are metadata.<member>, each of which sets one
// member of the metadata to the text of its cell. An empty cell says nothing.
var columns = []string{
	"uid", "name", "avatar", "link", "role", "statusMessage", "tags", "metadata", "createdAt", "updatedAt", "lastActiveAt",
	"deactivatedAt",
}

const memberColumn = "metadata."

// readCSV reads a heading and a user a row. Cells are separated by commas, semicolons or tabs, whichever the heading
// has, or by what a first line such as sep=; says. Rows end with a line feed, a carriage return, or both.
func (r *reading) readCSV() error {
	if _, more := r.source.peek(); !more {
		return errEmpty
	}
	separator, err := r.separator()
	if err != nil {
		return err
	}
	heading, err := r.heading(separator)
	if err != nil {
		return err
	}
	for {
		record, raw, at, more := r.source.nextRecord(separator)
		if !more {
			return nil
		}
		if len(record.cells) == 1 && len(raw) == 0 && record.err == nil {
			continue // an empty line
		}
		row, err := (*api.UserRow)(nil), record.err
		if err == nil {
			row, err = r.userOfRecord(heading, record.cells, raw, at)
		}
		if err := r.emit(raw, at, api.ExportLine{Type: "user", User: row}, err); err != nil {
			return err
		}
	}
}

// separator returns what is between cells: what a first line says, or else what the heading has most of.
func (r *reading) separator() (byte, error) {
	for lineEnd(r.source.buf) < 0 && len(r.source.buf) < maxEntry && r.source.fill() {
	}
	first := r.source.buf
	if end := lineEnd(first); end >= 0 {
		first = first[:end]
	}
	if said, ok := bytes.CutPrefix(bytes.ToLower(bytes.TrimSpace(first)), []byte("sep=")); ok {
		if len(said) == 0 && bytes.HasSuffix(first, []byte("\t")) {
			said = []byte("\t")
		}
		if len(said) != 1 {
			return 0, fmt.Errorf("the first line is %q: one character must follow sep=", first)
		}
		r.source.take(len(first))
		r.source.skipLineEnd()
		return said[0], nil
	}
	best, most := byte(','), 0
	for _, candidate := range []byte{',', ';', '\t'} {
		if count := bytes.Count(first, []byte{candidate}); count > most {
			best, most = candidate, count
		}
	}
	return best, nil
}

// heading reads the names of the columns.
func (r *reading) heading(separator byte) ([]string, error) {
	record, _, at, more := r.source.nextRecord(separator)
	if !more {
		return nil, errEmpty
	}
	if record.err != nil {
		return nil, fmt.Errorf("the heading cannot be read: %w", record.err)
	}
	heading := make([]string, len(record.cells))
	for i, cell := range record.cells {
		name := strings.TrimSpace(string(cell))
		if offset := notUTF8(cell); offset >= 0 {
			return nil, at.errorf(
				"the heading is not UTF-8: give --encoding, such as windows-1252, if the file is in another encoding",
			)
		}
		if r.Map == nil {
			if name = columnNamed(name); name == "" && !r.IgnoreUnknown {
				if system := madeWith(strings.TrimSpace(string(cell))); system != "" {
					return nil, at.errorf("the column %q is not a field of users: this looks like an export of %s: give --map %s",
						cell, system, system)
				}
				return nil, at.errorf("the column %q is not a field of users: there are %s and metadata.<member>; "+
					"--ignore-unknown leaves such columns out", cell, strings.Join(columns, ", "))
			}
		}
		if name != "" && slices.Contains(heading[:i], name) {
			return nil, at.errorf("the column %q is there twice", name)
		}
		heading[i] = name
	}
	return heading, nil
}

// columnNamed returns the field that a heading names, in any case; empty when there is none.
func columnNamed(heading string) string {
	for _, column := range columns {
		if strings.EqualFold(column, heading) {
			return column
		}
	}
	if len(heading) > len(memberColumn) && strings.EqualFold(heading[:len(memberColumn)], memberColumn) {
		return memberColumn + heading[len(memberColumn):]
	}
	return ""
}

// userOfRecord makes a user of the cells that are not empty.
func (r *reading) userOfRecord(heading []string, cells [][]byte, raw []byte, at place) (*api.UserRow, error) {
	if offset := notUTF8(raw); offset >= 0 {
		return nil, errNotUTF8(at, raw, offset)
	}
	if len(cells) != len(heading) {
		return nil, at.errorf("the row has %d cells, and the heading %d", len(cells), len(heading))
	}
	var members []member
	for i, cell := range cells {
		if len(cell) == 0 || heading[i] == "" {
			continue
		}
		quoted, err := jsontext.AppendQuote(nil, cell)
		if err != nil {
			return nil, at.errorf("column %s: %w", heading[i], err)
		}
		members = append(members, member{name: heading[i], value: quoted})
	}
	if r.Map != nil {
		row, id, err := r.Map.user(r.Map.unquoted(members))
		if r.id = id; err != nil {
			err = at.errorf("%w", err)
		}
		return row, err
	}
	row := new(api.UserRow)
	merged := []byte{'{'}
	for _, member := range members {
		if name, ok := strings.CutPrefix(member.name, memberColumn); ok {
			merged = appendMember(merged, name, member.value)
			continue
		}
		if _, err := setField(row, member.name, member.value); err != nil {
			return nil, at.errorf("column %s: %w", member.name, err)
		}
	}
	if len(merged) > 1 {
		row.MergeMetadata = stdjson.RawMessage(append(merged, '}'))
	}
	return row, nil
}

// appendMember appends a member to an object that is not closed yet.
func appendMember(object []byte, name string, value []byte) []byte {
	if len(object) > 1 {
		object = append(object, ',')
	}
	object, _ = jsontext.AppendQuote(object, name) // of UTF-8, which fails never
	return append(append(object, ':'), value...)
}

// record is a row of CSV, or why it is none.
type record struct {
	cells [][]byte
	err   error
}

var (
	errMore    = errors.New("the row goes on")
	errTooLong = fmt.Errorf("the row has more than %d bytes, or a quote is not closed", maxEntry)
)

// nextRecord takes a row, and hands out its cells and its text without its end. A row that is not well-formed is taken
// to the end of its first line, so that the one behind it can be read. more is false when there was none.
func (s *source) nextRecord(separator byte) (r record, raw []byte, at place, more bool) {
	if _, more = s.peek(); !more {
		return r, nil, s.at, false
	}
	at = s.at
	for {
		cells, length, problem := splitRecord(s.buf, separator, s.ended)
		if errors.Is(problem.err, errMore) {
			if len(s.buf) <= maxEntry && (s.fill() || s.ended) {
				continue
			}
			problem.err = errTooLong
		}
		if problem.err == nil && length > maxEntry {
			problem.err = errTooLong
		}
		if problem.err == nil {
			raw = s.take(length)
			s.skipLineEnd()
			return record{cells: cells}, raw, at, true
		}
		r.err = at.plus(s.buf[:problem.offset]).errorf("%w", problem.err)
		line, _, _, _ := s.nextLine()
		return r, line, at, true
	}
}

// csvProblem is why a row cannot be read, and where in it.
type csvProblem struct {
	offset int
	err    error
}

// splitRecord splits the first row of a text into its cells, and returns how long the row is without its end. whole
// says that nothing follows the text. The error is errMore when the row does not end within it.
func splitRecord(text []byte, separator byte, whole bool) (cells [][]byte, length int, problem csvProblem) {
	for at := 0; ; {
		var cell []byte
		if at < len(text) && text[at] == '"' {
			opened := at
			at++
			for {
				quote := bytes.IndexByte(text[at:], '"')
				if quote < 0 {
					if !whole {
						return nil, 0, csvProblem{err: errMore}
					}
					return nil, 0, csvProblem{opened, errors.New("the quote is not closed")}
				}
				cell = append(cell, text[at:at+quote]...)
				if at += quote + 1; at == len(text) && !whole {
					return nil, 0, csvProblem{err: errMore}
				}
				if at == len(text) || text[at] != '"' {
					break
				}
				cell = append(cell, '"')
				at++
			}
			if at < len(text) && text[at] != separator && text[at] != '\n' && text[at] != '\r' {
				return nil, 0, csvProblem{at, errors.New("there is something behind a quote that closes a cell: a quote within " +
					"quotes is written twice")}
			}
		} else {
			end := at
			for end < len(text) && text[end] != separator && text[end] != '\n' && text[end] != '\r' {
				end++
			}
			if end == len(text) && !whole {
				return nil, 0, csvProblem{err: errMore}
			}
			cell = text[at:end]
			if quote := bytes.IndexByte(cell, '"'); quote >= 0 {
				return nil, 0, csvProblem{at + quote, errors.New("a quote is within a cell that does not begin with one: put the " +
					"cell between quotes, and write this one twice")}
			}
			at = end
		}
		cells = append(cells, cell)
		if at == len(text) || text[at] != separator {
			return cells, at, csvProblem{}
		}
		at++
	}
}
