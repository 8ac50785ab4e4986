package httpapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// bodyLimit returns how many bytes the body may have: more for the calls that take many users at once.
func (c *call) bodyLimit() int64 {
	limits, single := c.api.dir.Limits(), c.api.config.BodyLimit
	switch c.route.Path {
	case "/users/batch", "/relations/batch":
		return single * int64(limits.BatchUsers)
	case "/users/lookup":
		return single + int64(limits.BatchUsers*(limits.UID+len(`"",`)))
	case "/data_import/users":
		return single * int64(limits.ImportUsers)
	}
	return single
}

// readBody returns the body of the request, at most bodyLimit bytes of it.
func (c *call) readBody() ([]byte, error) {
	if c.bodyRead {
		return c.body, nil
	}
	limit := c.bodyLimit()
	if c.r.ContentLength > limit { // it is not waited for, before the answer or after it
		c.w.Header().Set("Connection", "close")
		return nil, errTooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w.ResponseWriter, c.r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errTooLarge(limit)
		}
		bad := errorf(api.CodeBadRequest, "The body could not be read to its end.")
		if bad.Cause = err; isTrailerError(err) {
			bad.Cause = errBadTrailer
		}
		return nil, bad
	}
	c.body, c.bodyRead = body, true
	return body, nil
}

// errBadTrailer stands in the log for what net/http says about a trailer, which repeats it.
var errBadTrailer = errors.New("what follows the body is no trailer")

func isTrailerError(err error) bool {
	_, ok := errors.AsType[textproto.ProtocolError](err)
	return ok
}

func errTooLarge(limit int64) error {
	return &statusError{errorf(api.CodeBadRequest, "The body may not be larger than %d bytes.", limit), http.StatusRequestEntityTooLarge}
}

// useIdempotencyKey makes the write of this request repeatable when it carries an Idempotency-Key.
func (c *call) useIdempotencyKey() error {
	key := headerValue(c.r, "Idempotency-Key")
	if key == "" || c.r.Method == http.MethodGet || c.route.Access == Public || c.route.Access == MaybeToken {
		return nil
	}
	if c.caller.App == "" { // the answer is kept with the app's data, and this app is not there yet
		return errorf(api.CodeBadRequest, "POST /apps takes no Idempotency-Key: give the app an id to be safe against making it twice.")
	}
	if len(key) > 255 {
		return errorf(api.CodeBadRequest, "An Idempotency-Key may not be longer than 255 characters.")
	}
	body, err := c.readBody()
	if err != nil {
		return err
	}
	request := sha256.New()
	for _, part := range []string{c.r.Method, c.r.URL.Path, c.r.URL.RawQuery, string(body)} {
		request.Write([]byte(part))
		request.Write([]byte{0})
	}
	c.idempotent = directory.WithIdempotencyKey(c.ctx(), string(c.caller.Actor)+" "+key, hex.EncodeToString(request.Sum(nil)))
	return nil
}

// fields are the members of a JSON object in a body. Reading one with the wrong type is noted, and told by err.
type fields struct {
	members []member
	wrong   directory.FieldErrors
}

// member is a name in a JSON object, and the text of its value within the body.
type member struct {
	name  string
	value jsontext.Value
}

// decode reads the body as one JSON object. An empty body is an empty object. Invalid UTF-8, duplicate names and
// anything after the object are refused.
func (c *call) decode() (*fields, error) {
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	return decodeFields(body)
}

func decodeFields(body []byte) (*fields, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return &fields{}, nil
	}
	members, err := decodeMembers(body)
	if err != nil {
		return nil, errNotOneObject(err)
	}
	return &fields{members: members}, nil
}

// errNotOneObject tells what decodeMembers refused in a body, and where. The log is told no name and no value of the body.
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

// decoders keeps decoders for the next bodies: what they need to find duplicate names is most of what decoding allocates.
var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(http.NoBody) }}

var errNoObject = errors.New("the text is not one JSON object")

func (f *fields) err() error { return f.wrong.Err() }

// value returns the text of a member's value, empty when it is absent.
func (f *fields) value(name string) jsontext.Value {
	for i := range f.members {
		if f.members[i].name == name {
			return f.members[i].value
		}
	}
	return nil
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

// maybeText returns nil when the member is absent. Null is the empty string: what it clears is up to the rules.
func (f *fields) maybeText(name string) *string {
	if !f.has(name) {
		return nil
	}
	text := f.text(name)
	return &text
}

// boolean accepts true and false, also as strings and as 1 and 0 (contract rest.md section 1.6).
func (f *fields) boolean(name string) bool {
	if !f.has(name) || f.isNull(name) {
		return false
	}
	value, err := strconv.ParseBool(strings.Trim(string(f.value(name)), `"`))
	if err != nil {
		f.wrong.Add(name, "The %s must be true or false.", name)
	}
	return value
}

func (f *fields) maybeBoolean(name string) *bool {
	if !f.has(name) {
		return nil
	}
	value := f.boolean(name)
	return &value
}

// unixTime accepts a number or a string of digits; zero when it is absent.
func (f *fields) unixTime(name string) int64 {
	if !f.has(name) || f.isNull(name) {
		return 0
	}
	value, err := parseUnixTime(strings.Trim(string(f.value(name)), `"`))
	if err != nil {
		f.wrong.Add(name, "The %s must be a time in Unix seconds.", name)
	}
	return value
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
func (f *fields) texts(name string) []string {
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
		if err := json.Unmarshal(item, &texts[i]); err != nil || item.Kind() != '"' {
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
// it is absent or null.
func (f *fields) object(name string) stdjson.RawMessage {
	if !f.has(name) || f.isNull(name) {
		return nil
	}
	value := f.value(name)
	if value.Kind() == '"' {
		text, err := jsontext.AppendUnquote(nil, value)
		if value = text; err != nil || !value.IsValid() {
			value = nil
		}
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

// query reads the query string. A parameter that is not well-formed is noted, and told by err.
type query struct {
	raw    []rawParameter
	limits directory.Limits
	wrong  directory.FieldErrors
}

type rawParameter struct{ name, value string }

// query parses the query string by itself: lists are joined by commas that are not escaped, while the items may hold
// escaped ones (sdk-wire.md section B10), so the value must be split before it is decoded.
func (c *call) query() *query {
	q := &query{limits: c.api.dir.Limits()}
	for pair := range strings.SplitSeq(c.r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			q.wrong.Add("query", "The query string is not well-formed.")
			continue
		}
		q.raw = append(q.raw, rawParameter{withoutIndex(decoded), value})
	}
	return q
}

// withoutIndex returns the name of a list whose items come as k[]=a or k[0]=a.
func withoutIndex(name string) string {
	list, index, bracketed := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	if !bracketed || list == "metadata" || !strings.HasSuffix(name, "]") || strings.Trim(index, "0123456789") != "" {
		return name
	}
	return list
}

func (q *query) err() error { return q.wrong.Err() }

func (q *query) unescape(name, value string) string {
	text, err := url.QueryUnescape(value)
	if err != nil || !directory.IsText(text) {
		q.wrong.Add(name, "The %s is not well-formed.", name)
		return ""
	}
	return text
}

// text returns the last value of a parameter that goes by any of the names; empty when it is absent.
func (q *query) text(names ...string) string {
	for _, v := range slices.Backward(q.raw) {
		if slices.Contains(names, v.name) {
			return q.unescape(names[0], v.value)
		}
	}
	return ""
}

// texts returns a list in any of its spellings: a,b and k=a&k=b and k[]=a (contract rest.md section 0). Its items may
// hold commas: these are escaped, and those between the items are not.
func (q *query) texts(name string) []string {
	var list []string
	for _, parameter := range q.raw {
		if parameter.name != name {
			continue
		}
		for item := range strings.SplitSeq(parameter.value, ",") {
			if text := q.unescape(name, item); text != "" {
				list = append(list, text)
			}
		}
	}
	return list
}

// metadata returns the filters by metadata: metadata[key]=a,b for any of the values.
func (q *query) metadata() []directory.MetadataFilter {
	var filters []directory.MetadataFilter
	for _, parameter := range q.raw {
		key, bracketed := strings.CutPrefix(parameter.name, "metadata[")
		key, closed := strings.CutSuffix(key, "]")
		if !bracketed || !closed || slices.ContainsFunc(filters, func(f directory.MetadataFilter) bool { return f.Key == key }) {
			continue
		}
		if values := q.texts(parameter.name); len(values) > 0 {
			filters = append(filters, directory.MetadataFilter{Key: key, Values: values})
		}
	}
	if most := q.limits.MetadataKeys; len(filters) > most {
		q.wrong.Add("metadata", "The metadata may not be filtered by more than %d keys.", most)
	}
	if most := q.limits.Tags; slices.ContainsFunc(filters, func(f directory.MetadataFilter) bool { return len(f.Values) > most }) {
		q.wrong.Add("metadata", "The metadata may not be filtered by more than %d values of a key.", most) // as by tags
	}
	return filters
}

// ids is texts for items that never hold a comma: those between them may be escaped.
func (q *query) ids(name string) []string {
	var list []string
	for _, text := range q.texts(name) {
		list = append(list, slices.DeleteFunc(strings.Split(text, ","), func(id string) bool { return id == "" })...)
	}
	return list
}

func (q *query) boolean(name string) bool {
	text := q.text(name)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		q.wrong.Add(name, "The %s must be true or false.", name)
	}
	return value
}

// integer returns a whole number in [0, most]; zero when it is absent.
func (q *query) integer(most int64, names ...string) int64 {
	text := q.text(names...)
	if text == "" {
		return 0
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < 0 || value > most {
		q.wrong.Add(names[0], "The %s must be a whole number from 0 to %d.", names[0], most)
		return 0
	}
	return value
}

// maxPage keeps offsets within what a database counts in.
const maxPage = 1_000_000_000

// page reads which page of a list is wanted. 0 is as good as absent: the SDK sends it for a limit of 0.
func (q *query) page() directory.Page {
	page := directory.Page{
		Number: int(q.integer(maxPage, "page")),
		Size:   int(q.integer(int64(q.limits.PageSize), "perPage", "per_page")),
	}
	if page.Size == 0 {
		page.Size = min(100, q.limits.PageSize)
	}
	return page
}
