package httpapi

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
)

// query reads the query string. A parameter that is not well-formed is noted, and told by err.
type query struct {
	call   *call
	raw    []rawParameter
	limits directory.Limits
	wrong  directory.FieldErrors
}

type rawParameter struct {
	name, value string
	read        bool
}

// query parses the query string by itself: lists are joined by commas that are not escaped, while the items may hold
// escaped ones (sdk-wire.md section B10), so the value must be split before it is decoded. It parses once for a
// request.
func (c *call) query() *query {
	if c.asked != nil {
		return c.asked
	}
	q := &query{call: c, limits: c.api.dir.Limits()}
	c.asked = q
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
		q.raw = append(q.raw, rawParameter{name: withoutIndex(decoded), value: value})
	}
	return q
}

// parameters returns those of the query string.
func (c *call) parameters() []rawParameter {
	if c.r.URL.RawQuery == "" {
		return nil
	}
	return c.query().raw
}

// withoutIndex returns the name of a list whose items come as k[]=a or k[0]=a.
func withoutIndex(name string) string {
	list, index, bracketed := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	if !bracketed || list == "metadata" || !strings.HasSuffix(name, "]") || strings.Trim(index, "0123456789") != "" {
		return name
	}
	return list
}

// err returns what is wrong with the parameters. Call it when all that the request may hold have been read, of its body
// too: what is left then is told to be ignored.
func (q *query) err() error {
	return cmp.Or(q.wrong.Err(), q.call.settleIgnored())
}

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
	found := -1
	for i := range q.raw {
		if slices.Contains(names, q.raw[i].name) {
			q.raw[i].read = true
			found = i
		}
	}
	if found < 0 {
		return ""
	}
	return q.unescape(names[0], q.raw[found].value)
}

// texts returns a list in any of its spellings: a,b and k=a&k=b and k[]=a (contract rest.md section 0). Its items may
// hold commas: these are escaped, and those between the items are not. It is nil when the parameter is absent, and
// empty when that holds nothing.
func (q *query) texts(name string) []string {
	var list []string
	for i := range q.raw {
		parameter := &q.raw[i]
		if parameter.name != name {
			continue
		}
		parameter.read = true
		if list == nil {
			list = []string{}
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
		again := func(f directory.MetadataFilter) bool { return f.Key == key }
		if !bracketed || !closed || slices.ContainsFunc(filters, again) {
			continue
		}
		filters = append(filters, directory.MetadataFilter{Key: key, Values: q.texts(parameter.name)})
	}
	if most := q.limits.MetadataKeys; len(filters) > most {
		q.wrong.Add("metadata", "The metadata may not be filtered by more than %d keys.", most)
	}
	most := q.limits.Tags // as by tags
	if slices.ContainsFunc(filters, func(f directory.MetadataFilter) bool { return len(f.Values) > most }) {
		q.wrong.Add("metadata", "The metadata may not be filtered by more than %d values of a key.", most)
	}
	return filters
}

// ids is texts, of all the names together, for items that never hold a comma: those between them may be escaped.
func (q *query) ids(names ...string) (list []string) {
	for _, name := range names {
		texts := q.texts(name)
		if list == nil {
			list = texts[:0:0]
		}
		for _, text := range texts {
			list = append(list, slices.DeleteFunc(strings.Split(text, ","), func(id string) bool { return id == "" })...)
		}
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
