// Package transfer brings users and their relations into a server and out of it: it reads and writes the formats, and
// calls the server through the client library like anybody else.
package transfer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/api"
)

// Format is how the users of an import are written down.
type Format string

// The formats of imports.
const (
	// NDJSON is a JSON object a line: a user, or a line of an export.
	NDJSON Format = "ndjson"
	// CSV has a heading that names the fields of users. Tags are separated by commas, metadata is a JSON object, and a
	// heading such as metadata.city sets one member of it.
	CSV Format = "csv"
	// DataImport is the contract's data import: {"users":{"<uid>":{…}}}, or a list of users.
	DataImport Format = "json"
)

// FormatOf returns the format that a file's name tells.
func FormatOf(name string) (Format, error) {
	for suffix, format := range map[string]Format{".ndjson": NDJSON, ".jsonl": NDJSON, ".csv": CSV, ".json": DataImport} {
		if strings.HasSuffix(strings.ToLower(name), suffix) {
			return format, nil
		}
	}
	return "", fmt.Errorf("the name %s does not tell the format: give --format ndjson, csv or json", name)
}

// maxLine bounds one user, in bytes: more than the server takes.
const maxLine = 1 << 20

// Line is one entry of an import.
type Line struct {
	// Number counts the entries from 1.
	Number int
	Entry  api.ExportLine
	// Err says why the entry cannot be read. The ones behind it can.
	Err error
}

// Lines reads the entries of an import one after another, in memory that does not grow with the file. The error is for
// what cannot be read at all.
func Lines(format Format, r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var err error
		switch format {
		case NDJSON:
			err = readNDJSON(r, yield)
		case CSV:
			err = readCSV(r, yield)
		case DataImport:
			err = readDataImport(r, yield)
		default:
			err = fmt.Errorf("there is no format %q", format)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Line{}, err)
		}
	}
}

var errStopped = errors.New("stopped")

func readNDJSON(r io.Reader, yield func(Line, error) bool) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	number := 0
	for scanner.Scan() {
		text := scanner.Bytes()
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		number++
		line := Line{Number: number}
		line.Entry, line.Err = parseEntry(text)
		if !yield(line, nil) {
			return errStopped
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read entry %d: %w", number+1, err)
	}
	return nil
}

// parseEntry reads a user, or a line of an export.
func parseEntry(text []byte) (entry api.ExportLine, err error) {
	var kind struct{ Type string }
	if err := json.Unmarshal(text, &kind); err != nil {
		return entry, fmt.Errorf("not a JSON object of the expected form: %w", err)
	}
	if kind.Type == "" {
		entry.Type, entry.User = "user", new(api.UserRow)
		if err := json.Unmarshal(text, entry.User); err != nil {
			return entry, fmt.Errorf("not a user: %w", err)
		}
		return entry, nil
	}
	if err := json.Unmarshal(text, &entry); err != nil {
		return entry, fmt.Errorf("not a line of an export: %w", err)
	}
	switch entry.Type {
	case "end":
	case "role":
		if entry.Role == nil {
			return entry, errors.New("a line of type role must have a role")
		}
	case "user":
		if entry.User == nil {
			return entry, errors.New("a line of type user must have a user")
		}
	case "block", "friend", "friendRequest":
		if entry.Relation == nil {
			return entry, fmt.Errorf("a line of type %s must have a relation", entry.Type)
		}
		entry.Relation.Type = entry.Type
	default:
		return entry, fmt.Errorf("lines of type %q are not known", entry.Type)
	}
	return entry, nil
}

func readCSV(r io.Reader, yield func(Line, error) bool) error {
	reader := csv.NewReader(r)
	reader.FieldsPerRecord = -1
	reader.ReuseRecord = true
	first, err := reader.Read()
	if err != nil {
		return fmt.Errorf("read the heading: %w", err)
	}
	heading := make([]string, len(first))
	for i, name := range first {
		heading[i] = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if !knownColumn(heading[i]) {
			return fmt.Errorf("the column %q is not a field of users: there are uid, name, avatar, link, role, statusMessage, tags, metadata, metadata.<member>, createdAt, updatedAt, lastActiveAt and deactivatedAt", name)
		}
	}
	for number := 1; ; number++ {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		line := Line{Number: number, Entry: api.ExportLine{Type: "user", User: new(api.UserRow)}}
		var syntax *csv.ParseError
		switch {
		case errors.As(err, &syntax):
			line.Err = err
		case err != nil:
			return fmt.Errorf("read entry %d: %w", number, err)
		case len(record) != len(heading):
			line.Err = fmt.Errorf("the row has %d fields and the heading %d", len(record), len(heading))
		default:
			line.Err = fillRow(line.Entry.User, heading, record)
		}
		if !yield(line, nil) {
			return errStopped
		}
	}
}

func knownColumn(name string) bool {
	switch name {
	case "uid", "name", "avatar", "link", "role", "statusMessage", "tags", "metadata", "createdAt", "updatedAt", "lastActiveAt", "deactivatedAt":
		return true
	}
	return strings.HasPrefix(name, "metadata.") && len(name) > len("metadata.")
}

// fillRow sets the fields of a user that are not empty.
func fillRow(row *api.UserRow, heading, record []string) error {
	members := map[string]any{}
	for i, name := range heading {
		text := strings.Clone(record[i])
		if text == "" {
			continue
		}
		switch name {
		case "uid":
			row.UID = text
		case "name":
			row.Name = &text
		case "avatar":
			row.Avatar = &text
		case "link":
			row.Link = &text
		case "role":
			row.Role = &text
		case "statusMessage":
			row.StatusMessage = &text
		case "tags":
			tags := strings.Split(text, ",")
			for i := range tags {
				tags[i] = strings.TrimSpace(tags[i])
			}
			row.Tags = &tags
		case "metadata":
			if err := json.Unmarshal([]byte(text), &members); err != nil {
				return fmt.Errorf("the metadata is not a JSON object: %w", err)
			}
		case "createdAt", "updatedAt", "lastActiveAt", "deactivatedAt":
			seconds, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fmt.Errorf("the %s is not a time in Unix seconds: %q", name, text)
			}
			*map[string]**int64{"createdAt": &row.CreatedAt, "updatedAt": &row.UpdatedAt, "lastActiveAt": &row.LastActiveAt, "deactivatedAt": &row.DeactivatedAt}[name] = &seconds
		default:
			members[strings.TrimPrefix(name, "metadata.")] = text
		}
	}
	if len(members) == 0 {
		return nil
	}
	encoded, err := json.Marshal(members)
	metadata := json.RawMessage(encoded)
	row.Metadata = &metadata
	return err
}

// readDataImport reads {"users": {uid: user, …}}, {"users": [user, …]} or either without the name, token by token.
func readDataImport(r io.Reader, yield func(Line, error) bool) error {
	decoder := json.NewDecoder(r)
	opening, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("read the file: %w", err)
	}
	if opening == json.Delim('[') {
		return readUsers(decoder, false, yield)
	}
	if opening != json.Delim('{') {
		return errors.New("the file must hold a JSON object or list")
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("read the file: %w", err)
		}
		if name != "users" {
			var ignored json.RawMessage
			if err := decoder.Decode(&ignored); err != nil {
				return fmt.Errorf("read the file: %w", err)
			}
			continue
		}
		opening, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("read the users: %w", err)
		}
		return readUsers(decoder, opening == json.Delim('{'), yield)
	}
	return errors.New(`the file has no "users"`)
}

func readUsers(decoder *json.Decoder, named bool, yield func(Line, error) bool) error {
	for number := 1; decoder.More(); number++ {
		uid := ""
		if named {
			name, err := decoder.Token()
			if err != nil {
				return fmt.Errorf("read entry %d: %w", number, err)
			}
			uid, _ = name.(string)
		}
		var text json.RawMessage
		if err := decoder.Decode(&text); err != nil {
			return fmt.Errorf("read entry %d: %w", number, err)
		}
		line := Line{Number: number, Entry: api.ExportLine{Type: "user", User: new(api.UserRow)}}
		if err := json.Unmarshal(withNumbers(text), line.Entry.User); err != nil {
			line.Err = fmt.Errorf("not a user: %w", err)
		} else if line.Entry.User.UID == "" {
			line.Entry.User.UID = uid
		}
		if !yield(line, nil) {
			return errStopped
		}
	}
	return nil
}

// withNumbers turns the times of a user that are texts, as the contract's sample has them, into numbers.
func withNumbers(text json.RawMessage) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return text
	}
	changed := false
	for _, name := range []string{"createdAt", "updatedAt", "lastActiveAt", "deactivatedAt"} {
		var value string
		if json.Unmarshal(members[name], &value) == nil {
			if _, err := strconv.ParseInt(value, 10, 64); err == nil {
				members[name] = json.RawMessage(value)
				changed = true
			}
		}
	}
	if !changed {
		return text
	}
	encoded, err := json.Marshal(members)
	if err != nil {
		return text
	}
	return encoded
}
