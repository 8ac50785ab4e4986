package httpapi

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// fields are the members of a JSON object in a body. Reading one with the wrong type is noted, and told by err.
type fields struct {
	members []member
	wrong   directory.FieldErrors
	// call is the request whose body the object is; nil for an object within.
	call *call
	// asked are the names that were looked for, when the request has a query string, which may hold them too.
	asked []string
	// ignored are members of objects within that nobody has read: see adopt.
	ignored []string
}

// member is a name in a JSON object, and the text of its value within the body.
type member struct {
	name  string
	value jsontext.Value
	read  bool
}

// decode reads the body as one JSON object. An empty body is an empty object, and so is an empty list, which is what
// PHP makes of one. Invalid UTF-8, duplicate names and anything after the object are refused.
func (c *call) decode() (*fields, error) {
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	f, err := decodeFields(body)
	if err != nil {
		if c.isForm() {
			err = errorf(api.CodeBadRequest,
				"Send a JSON object, with Content-Type: application/json. This call does not take forms.")
		}
		return nil, err
	}
	f.call, c.decoded = c, f
	return f, nil
}

func decodeFields(body []byte) (*fields, error) {
	if text := bytes.TrimSpace(body); len(text) == 0 || isEmptyList(text) {
		return &fields{}, nil
	}
	members, err := decodeMembers(body)
	if err != nil {
		return nil, errNotOneObject(err)
	}
	return &fields{members: members}, nil
}

// isEmptyList reports whether a text without blanks around it is a JSON list of nothing.
func isEmptyList(text []byte) bool {
	inner, ok := bytes.CutPrefix(text, []byte("["))
	return ok && string(bytes.TrimLeft(inner, " \t\r\n")) == "]"
}

// errNotOneObject tells what decodeMembers refused in a body, and where. The log is told no name and no value of the
// body.
func errNotOneObject(cause error) error {
	what := ""
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](cause); ok {
		kind := "no JSON"
		switch {
		case errors.Is(syntax.Err, jsontext.ErrDuplicateName):
			kind = "a name is there twice"
			what = fmt.Sprintf(": %.64q is there twice", syntax.JSONPointer.LastToken())
		case errors.Is(syntax.Err, io.ErrUnexpectedEOF):
			kind, what = "it ends too early", ": it ends too early"
		default:
			what = fmt.Sprintf(": %v, at byte %d", syntax.Err, syntax.ByteOffset)
		}
		cause = fmt.Errorf("body: %s, at byte %d", kind, syntax.ByteOffset)
	}
	bad := errorf(api.CodeBadRequest, "The body must be one JSON object in UTF-8, without duplicate names%s.", what)
	bad.Cause = cause
	return bad
}

// decodeMembers returns the members of the one JSON object that a text holds, in their order.
func decodeMembers(text []byte) ([]member, error) {
	decoder := decoders.Get().(*jsontext.Decoder) //nolint:forcetypeassert // the pool holds nothing else
	decoder.Reset(bytes.NewBuffer(text))
	defer func() {
		decoder.Reset(http.NoBody) // the text goes with the request
		decoders.Put(decoder)
	}()
	if begin, err := decoder.ReadToken(); err != nil || begin.Kind() != '{' {
		return nil, cmp.Or(err, errNoObject)
	}
	members := make([]member, 0, 8)
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		next := member{name: name.String()} // the token is gone when the value is read
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		end := decoder.InputOffset()
		next.value = text[end-int64(len(value)) : end : end]
		members = append(members, next)
	}
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, cmp.Or(err, errNoObject)
	}
	return members, nil
}

// decoders keeps decoders for the next bodies: what they need to find duplicate names is most of what decoding
// allocates.
var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(http.NoBody) }}

var errNoObject = errors.New("the text is not one JSON object")

// err returns what is wrong with the members. Call it when all that the request may hold have been read, of its query
// string too: what is left then is told to be ignored.
func (f *fields) err() error {
	if f.call == nil {
		return f.wrong.Err()
	}
	for _, parameter := range f.call.parameters() {
		if !parameter.read && slices.Contains(f.asked, parameter.name) {
			f.wrong.Add(parameter.name,
				"Send the %s in the body, as JSON: it is not read from the query string.", parameter.name)
		}
	}
	// Both are looked at: a member that is missing may be the one ignored.
	return cmp.Or(f.wrong.Err(), f.call.settleIgnored())
}

// value returns the text of a member's value, empty when it is absent.
func (f *fields) value(name string) jsontext.Value {
	if f.call != nil && f.call.r.URL.RawQuery != "" && !slices.Contains(f.asked, name) {
		f.asked = append(f.asked, name)
	}
	for i := range f.members {
		if f.members[i].name == name {
			f.members[i].read = true
			return f.members[i].value
		}
	}
	return nil
}

// pass takes members for read that clients are known to send and this call has no use for.
func (f *fields) pass(names ...string) {
	for i := range f.members {
		if !f.members[i].read && slices.Contains(names, f.members[i].name) {
			f.members[i].read = true
		}
	}
}

func (f *fields) has(name string) bool { return len(f.value(name)) > 0 }

// required notes that a member is missing.
func (f *fields) required(name string) {
	if !f.wrongField(name) {
		f.wrong.Add(name, "The %s field is required.", name)
	}
}

func (f *fields) wrongField(name string) bool { return len(f.wrong[name]) > 0 }

func (f *fields) isNull(name string) bool { return f.value(name).Kind() == 'n' }

// noZero refuses U+0000, which no database can hold.
const noZero = "The %s may not hold control characters."

// text returns a member that is a string; empty when it is absent or null.
func (f *fields) text(name string) string {
	if !f.has(name) || f.isNull(name) {
		return ""
	}
	text, err := jsontext.AppendUnquote(nil, f.value(name))
	if err != nil {
		f.wrong.Add(name, "The %s must be a string.", name)
		return ""
	}
	if bytes.IndexByte(text, 0) >= 0 {
		f.wrong.Add(name, noZero, name)
		return ""
	}
	return string(text)
}

// id returns a member that is the id of something: a string, or a whole number, of which it is the text.
func (f *fields) id(name string) string {
	if number, ok := wholeNumber(f.value(name)); ok {
		return number
	}
	return f.text(name)
}

// wholeNumber returns the digits of a JSON number that is whole and written so, as they stand there.
func wholeNumber(value jsontext.Value) (digits string, ok bool) {
	if value.Kind() != '0' || bytes.ContainsAny(value, ".eE") {
		return "", false
	}
	return string(value), true
}

// maybeText returns nil when the member is absent. Null is the empty string: what it clears is up to the rules.
func (f *fields) maybeText(name string) *string {
	if !f.has(name) {
		return nil
	}
	text := f.text(name)
	return &text
}

// boolean accepts true and false, also as strings and as 1 and 0 (contract rest.md section 1.6), and from the query
// string: not every client can send a body with DELETE.
func (f *fields) boolean(name string) bool {
	value := oneOf(f, name, strconv.ParseBool, "The %s must be true or false.")
	return value != nil && *value
}

func (f *fields) maybeBoolean(name string) *bool {
	if value := oneOf(f, name, strconv.ParseBool, "The %s must be true or false."); value != nil || !f.has(name) {
		return value
	}
	return new(bool) // null
}

// unixTime accepts a number or a string of digits, and takes it from the query string too; zero when it is absent.
func (f *fields) unixTime(name string) int64 {
	value := oneOf(f, name, parseUnixTime, "The %s must be a time in Unix seconds.")
	if value == nil {
		return 0
	}
	return *value
}

// oneOf returns what a member is, or a parameter of that name in the query string; nil when it is nowhere, null or
// wrong. The two must not contradict each other.
func oneOf[T comparable](f *fields, name string, parse func(string) (T, error), problem string) *T {
	var inBody, inQuery *T
	read := func(text string) *T {
		value, err := parse(text)
		if err != nil && !f.wrongField(name) {
			f.wrong.Add(name, problem, name)
		}
		return &value
	}
	if f.has(name) && !f.isNull(name) {
		inBody = read(strings.Trim(string(f.value(name)), `"`))
	}
	if f.call != nil && f.call.r.URL.RawQuery != "" {
		if text := f.call.query().text(name); text != "" {
			inQuery = read(text)
		}
	}
	if inBody != nil && inQuery != nil && *inBody != *inQuery && !f.wrongField(name) {
		f.wrong.Add(name, "The %s is %v in the body and %v in the query string: send it once.", name, *inBody, *inQuery)
	}
	if inBody == nil {
		return inQuery
	}
	return inBody
}

// maybeSeconds reads a span of time, in whole seconds; nil when it is absent or null.
func (f *fields) maybeSeconds(name string) *int64 {
	return oneOf(f, name, parseUnixTime, "The %s must be a whole number of seconds.")
}

// latestTime is the last second of the year 9999.
const latestTime = 253402300799

func parseUnixTime(text string) (int64, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (value < 0 || value > latestTime) {
		err = strconv.ErrRange
	}
	return value, err
}

// maybeTime returns nil when the member is absent or null.
func (f *fields) maybeTime(name string) *int64 {
	if !f.has(name) || f.isNull(name) {
		return nil
	}
	value := f.unixTime(name)
	return &value
}

// texts returns a member that is a list of strings; nil when it is absent or null.
func (f *fields) texts(name string) []string { return f.textList(name, false) }

// ids is texts for ids, which may be whole numbers too: it returns their texts.
func (f *fields) ids(name string) []string { return f.textList(name, true) }

func (f *fields) textList(name string, numbers bool) []string {
	if !f.has(name) || f.isNull(name) {
		return nil
	}
	var items []jsontext.Value
	if err := json.Unmarshal(f.value(name), &items); err != nil {
		f.wrong.Add(name, "The %s must be a list of strings.", name)
		return nil
	}
	texts := make([]string, len(items))
	for i, item := range items {
		problem := ""
		if number, ok := wholeNumber(item); ok && numbers {
			texts[i] = number
		} else if err := json.Unmarshal(item, &texts[i]); err != nil || item.Kind() != '"' {
			problem = "The %s must be a string."
		} else if !directory.IsText(texts[i]) {
			problem = noZero
		}
		if problem != "" {
			member := name + "." + strconv.Itoa(i)
			f.wrong.Add(member, problem, member)
		}
	}
	return texts
}

func (f *fields) maybeTexts(name string) *[]string {
	if !f.has(name) {
		return nil
	}
	texts := f.texts(name)
	return &texts
}

// object returns a member that is a JSON object, or a string that holds one (contract rest.md section 1.5); nil when
// it is absent or null. An empty list and an empty string are an object of nothing, which is what PHP makes of one.
func (f *fields) object(name string) stdjson.RawMessage {
	if !f.has(name) || f.isNull(name) {
		return nil
	}
	value := f.value(name)
	if value.Kind() == '"' {
		text, err := jsontext.AppendUnquote(nil, value)
		value = bytes.TrimSpace(text)
		switch {
		case err != nil:
			value = nil
		case len(value) == 0:
			value = jsontext.Value("[]")
		case !value.IsValid():
			value = nil
		}
	}
	if isEmptyList(value) {
		value = jsontext.Value("{}")
	}
	if value.Kind() != '{' {
		f.wrong.Add(name, "The %s must be a JSON object.", name)
		return nil
	}
	return stdjson.RawMessage(value)
}

func (f *fields) maybeObject(name string) *stdjson.RawMessage {
	if !f.has(name) {
		return nil
	}
	object := f.object(name)
	return &object
}

// unset reads the list of fields to clear and calls clear for each.
func (f *fields) unset(clearers map[string]func()) {
	for i, name := range f.texts("unset") {
		member := "unset." + strconv.Itoa(i)
		if clearer, known := clearers[name]; known {
			clearer()
		} else if !f.wrongField(member) {
			f.wrong.Add(member, "The %s cannot be unset.", strconv.Quote(name))
		}
	}
}
