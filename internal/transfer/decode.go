package transfer

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
)

// content is what an entry says. typed is set for lines of an export.
type content struct {
	api.ExportLine
	typed bool
}

// member is a member of a JSON object, and where in the text of the entry its value begins.
type member struct {
	name   string
	value  jsontext.Value
	offset int
}

// membersOf returns the members of the one JSON object that a text is. Errors name the place, when the text begins at
// at.
func membersOf(text []byte, at place) ([]member, error) {
	if offset := notUTF8(text); offset >= 0 {
		return nil, errNotUTF8(at, text, offset)
	}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(text))
	fail := func(err error) ([]member, error) {
		if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			what := syntax.Err
			switch {
			case errors.Is(what, jsontext.ErrDuplicateName):
				what = fmt.Errorf("the member %q is there twice", syntax.JSONPointer.LastToken())
			case errors.Is(what, io.ErrUnexpectedEOF):
				what = errors.New("it ends too early")
			}
			return nil, at.plus(text[:min(int(syntax.ByteOffset), len(text))]).errorf("not a JSON object: %w", what)
		}
		return nil, at.errorf("not a JSON object: %w", err)
	}
	if begin, err := decoder.ReadToken(); err != nil {
		return fail(err)
	} else if begin.Kind() != '{' {
		return fail(fmt.Errorf("it is %s", kindName(begin.Kind())))
	}
	var members []member
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return fail(err)
		}
		next := member{name: name.String()} // the token is gone when the value is read
		value, err := decoder.ReadValue()
		if err != nil {
			return fail(err)
		}
		end := int(decoder.InputOffset())
		next.offset = end - len(value)
		next.value = text[next.offset:end:end]
		members = append(members, next)
	}
	if _, err := decoder.ReadToken(); err != nil {
		return fail(err)
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, at.plus(text[:decoder.InputOffset()]).errorf("there is something behind the JSON object")
	}
	return members, nil
}

// errNotUTF8 says which byte of an entry is not UTF-8. When it is the only entry, another encoding would spoil the
// others.
func errNotUTF8(at place, text []byte, offset int) error {
	return at.plus(
		text[:offset],
	).errorf("the byte 0x%02X is not UTF-8: mend it, or give --encoding, such as windows-1252, if "+
		"the whole file is in another encoding", text[offset])
}

// notUTF8 returns where a text stops being UTF-8; negative when it does not.
func notUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for i := 0; ; {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
}

func kindName(kind jsontext.Kind) string {
	switch kind { //nolint:exhaustive // nothing else is a value
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "a list"
	case jsontext.KindString:
		return "a text"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindNull:
		return "null"
	}
	return "true or false"
}

// decode reads a user, or a line of an export.
func (r *reading) decode(text []byte, at place) (content, error) {
	members, err := membersOf(text, at)
	if err != nil {
		return content{}, err
	}
	if r.Map == nil {
		kind := slices.IndexFunc(members, func(m member) bool { return m.name == "type" })
		if kind >= 0 && (!r.IgnoreUnknown || exported[string(members[kind].value)]) {
			return decodeExported(text, at, members[kind].value)
		}
	}
	row, err := r.user(members, text, at)
	return content{ExportLine: api.ExportLine{Type: "user", User: row}}, err
}

// user reads a user of our own form, or of the map's.
func (r *reading) user(members []member, text []byte, at place) (row *api.UserRow, err error) {
	if r.Map != nil {
		if row, r.id, err = r.Map.user(members); err != nil {
			err = at.errorf("%w", err)
		}
		return row, err
	}
	row = new(api.UserRow)
	for _, member := range members {
		known, err := setField(row, member.name, member.value)
		if err == nil && !known && !r.IgnoreUnknown && !computed[member.name] {
			err = unknownField(member.name, "members")
		}
		if err != nil {
			return nil, at.plus(text[:member.offset]).errorf("%s: %w", member.name, err)
		}
	}
	return row, nil
}

// exported are the types of an export's lines, as JSON has them.
var exported = map[string]bool{
	`"role"`: true, `"user"`: true, `"block"`: true, `"friend"`: true, `"friendRequest"`: true, `"end"`: true,
}

// computed are members of a user as servers show it that nobody stores.
var computed = map[string]bool{
	"status": true, "conversationId": true, "hasBlockedMe": true, "blockedByMe": true, "blockedByMeAt": true,
	"hasBlockedMeAt": true, "blockedAt": true, "wsChannel": true, "settings": true,
}

// decodeExported reads a line of an export. A user of it is all there is to it: what the line does not say it has not.
func decodeExported(text []byte, at place, kind jsontext.Value) (content, error) {
	line := content{typed: true}
	if err := json.Unmarshal(text, &line.ExportLine, json.RejectUnknownMembers(true)); err != nil {
		line.ExportLine = api.ExportLine{}
		line.Type, _ = textOf(kind)
		return line, at.errorf("not a line of an export: %w", plainly(err))
	}
	missing := func(what string) (content, error) {
		return line, at.errorf("a line of type %s must have a %s", line.Type, what)
	}
	switch line.Type {
	case "end":
	case "role":
		if line.Role == nil {
			return missing("role")
		}
	case "user":
		if line.User == nil {
			return missing("user")
		}
		complete(line.User)
	case "block", "friend", "friendRequest":
		if line.Relation == nil {
			return missing("relation")
		}
		line.Relation.Type = line.Type
	default:
		return line, at.errorf("lines of type %q are not known", line.Type)
	}
	return line, nil
}

// plainly says without words of Go what a JSON value is not.
func plainly(err error) error {
	wrong, ok := errors.AsType[*json.SemanticError](err)
	switch {
	case !ok:
		return err
	case errors.Is(err, json.ErrUnknownName):
		return fmt.Errorf("%s is not known", wrong.JSONPointer)
	}
	return fmt.Errorf("%s may not be %s", cmp.Or(string(wrong.JSONPointer), "it"), kindName(wrong.JSONKind))
}

// complete makes a row say of every field that it does not name that the user has none.
func complete(row *api.UserRow) {
	none, never := "", int64(0)
	for _, field := range []**string{&row.Avatar, &row.Link, &row.StatusMessage} {
		if *field == nil {
			*field = &none
		}
	}
	if row.Role == nil {
		role := "default"
		row.Role = &role
	}
	if row.Metadata == nil {
		nothing := stdjson.RawMessage("null")
		row.Metadata = &nothing
	}
	if row.Tags == nil {
		row.Tags = &[]string{}
	}
	for _, field := range []**int64{&row.UpdatedAt, &row.LastActiveAt, &row.DeactivatedAt} {
		if *field == nil {
			*field = &never
		}
	}
}

// setField sets a field of a user to a JSON value. known is false when there is no such field.
func setField(row *api.UserRow, name string, value jsontext.Value) (known bool, err error) {
	isNull := value.Kind() == 'n'
	switch name {
	case "uid":
		if value.Kind() == '0' && !bytes.ContainsAny(value, ".eE") {
			row.UID = string(value)
			return true, nil
		}
		text, err := textOf(value)
		row.UID = text
		return true, err
	case "name", "avatar", "link", "role", "statusMessage":
		into := map[string]**string{
			"name": &row.Name, "avatar": &row.Avatar, "link": &row.Link, "role": &row.Role, "statusMessage": &row.StatusMessage,
		}[name]
		if isNull && (name == "name" || name == "role") { // nobody has none
			return true, nil
		}
		text := ""
		if !isNull {
			if text, err = textOf(value); err != nil {
				return true, err
			}
		}
		*into = &text
	case "metadata":
		object := stdjson.RawMessage("null")
		if !isNull {
			if object, err = objectOf(value); err != nil {
				return true, err
			}
		}
		row.Metadata = &object
	case "mergeMetadata":
		row.MergeMetadata, err = objectOf(value)
	case "tags":
		tags := []string{}
		switch {
		case isNull:
		case value.Kind() == '"':
			text, _ := textOf(value)
			tags, err = tagsIn(text)
		default:
			if err = json.Unmarshal(value, &tags); err != nil {
				err = fmt.Errorf("it must be a list of texts, and is %s", kindName(value.Kind()))
			}
		}
		row.Tags = &tags
	case "createdAt", "updatedAt", "lastActiveAt", "deactivatedAt":
		return true, setTime(row, name, value)
	default:
		return false, nil
	}
	return true, err
}

func setTime(row *api.UserRow, name string, value jsontext.Value) error {
	if value.Kind() == 'n' {
		return nil
	}
	seconds, err := timeOf(value)
	if err != nil {
		return err
	}
	into := map[string]**int64{
		"createdAt": &row.CreatedAt, "updatedAt": &row.UpdatedAt, "lastActiveAt": &row.LastActiveAt,
		"deactivatedAt": &row.DeactivatedAt,
	}[name]
	*into = &seconds
	return nil
}

func textOf(value jsontext.Value) (string, error) {
	if value.Kind() != '"' {
		return "", fmt.Errorf("it must be a text, and is %s", kindName(value.Kind()))
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err
}

// objectOf returns a JSON object, or the one that a text holds.
func objectOf(value jsontext.Value) (stdjson.RawMessage, error) {
	if value.Kind() == '"' {
		text, err := textOf(value)
		if err != nil {
			return nil, err
		}
		value = jsontext.Value(strings.TrimSpace(text))
	}
	if value.Kind() != '{' || !value.IsValid() {
		return nil, errors.New("it must be a JSON object")
	}
	return stdjson.RawMessage(value), nil
}

// tagsIn returns the tags that a text lists: as a JSON list, as a list of PostgreSQL, or between semicolons or commas.
func tagsIn(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "[") {
		var tags []string
		if err := json.Unmarshal([]byte(text), &tags); err != nil {
			return nil, errors.New("it begins with [ and is not a JSON list of texts")
		}
		return tags, nil
	}
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		inner, closed := strings.CutSuffix(inner, "}")
		if !closed {
			return nil, errors.New("it begins with { and does not end with }")
		}
		return postgresList(inner)
	}
	separator := ","
	if strings.Contains(text, ";") {
		separator = ";"
	}
	tags := []string{}
	for tag := range strings.SplitSeq(text, separator) {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// postgresList returns the texts between the braces of a list as PostgreSQL writes it.
func postgresList(inner string) (items []string, err error) {
	items = []string{}
	for rest := inner; rest != ""; {
		var item strings.Builder
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			closed := false
			for rest = quoted; rest != "" && !closed; {
				switch c := rest[0]; {
				case c == '\\' && len(rest) > 1:
					item.WriteByte(rest[1])
					rest = rest[2:]
				case c == '"':
					closed, rest = true, rest[1:]
				default:
					item.WriteByte(c)
					rest = rest[1:]
				}
			}
			if !closed || rest != "" && rest[0] != ',' {
				return nil, errors.New("it is not a list as PostgreSQL writes it")
			}
			rest = strings.TrimPrefix(rest, ",")
		} else {
			var text string
			text, rest, _ = strings.Cut(rest, ",")
			if strings.EqualFold(text, "null") {
				continue
			}
			item.WriteString(strings.TrimSpace(text))
		}
		items = append(items, item.String())
	}
	return items, nil
}

// timeOf returns the Unix seconds that a number or a text says: seconds, or since they are as many, milli-, micro- or
// nanoseconds, or a date of ISO 8601, which without a zone is in UTC. Fractions of a second are cut off.
func timeOf(value jsontext.Value) (int64, error) {
	text := string(value)
	switch value.Kind() {
	case '"':
		var err error
		if text, err = textOf(value); err != nil {
			return 0, err
		}
	case '0':
	default:
		return 0, fmt.Errorf("it must be a time, and is %s", kindName(value.Kind()))
	}
	return timeIn(text)
}

// Numbers from which on a time is not in seconds, but in smaller units: the year 5138 in seconds, and 1973 in these.
const (
	milliseconds = 100_000_000_000
	microseconds = milliseconds * 1000
	nanoseconds  = microseconds * 1000
)

func timeIn(text string) (int64, error) {
	text = strings.TrimSpace(text)
	whole, fraction, _ := strings.Cut(text, ".")
	if n, err := strconv.ParseInt(whole, 10, 64); err == nil && isDigits(fraction) {
		switch {
		case n >= nanoseconds:
			return n / 1_000_000_000, nil
		case n >= microseconds:
			return n / 1_000_000, nil
		case n >= milliseconds:
			return n / 1000, nil
		}
		return n, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > -milliseconds && n < nanoseconds*1000 && !isDigits(text) {
		return timeIn(strconv.FormatFloat(n, 'f', -1, 64))
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00",
		"2006-01-02T15:04", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05Z07",
		"2006-01-02 15:04:05 MST", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02",
	} {
		if parsed, err := time.Parse(layout, text); err == nil {
			if strings.HasSuffix(layout, "MST") && !strings.HasSuffix(text, "UTC") && !strings.HasSuffix(text, "GMT") {
				continue // nobody knows which zone that is
			}
			return parsed.Unix(), nil
		}
	}
	return 0, fmt.Errorf("%.40q is not a time: it may be Unix seconds or milliseconds, "+
		"or a date such as 2026-01-31T08:00:00Z", text)
}

func isDigits(text string) bool {
	return strings.Trim(text, "0123456789") == ""
}
