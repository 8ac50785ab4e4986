package directory

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/rollcall/rollcall/internal/userindex"
)

// MetadataFilter selects users by the values that they have under a declared key: any of them. A number is also found
// when it is written otherwise: 1 finds 1.0.
type MetadataFilter struct {
	Key    string
	Values []string
}

const (
	// maxMetadataValue is how many bytes of a text are indexed: longer ones are not found.
	maxMetadataValue = 256
	// maxMetadataValues is how many items of a list are indexed.
	maxMetadataValues = 20
)

// Kinds of the terms by which the index finds users. Those of metadata end with the key.
const (
	roleTerm         = "role"
	tagTerm          = "tag"
	metadataText     = "text "
	metadataAsNumber = "number "
)

// metadataTerms returns the terms of a user's metadata for the keys that its app declares. A list has the terms of its
// items; objects and null have none.
func metadataTerms(metadata json.RawMessage, keys []string) (terms []userindex.Term) {
	if len(keys) == 0 {
		return nil
	}
	for key, raw := range members(metadata) {
		if !slices.Contains(keys, key) {
			continue
		}
		var items []json.RawMessage // not one that holds raw: it would be decoded into the metadata itself
		if raw[0] != '[' {
			items = append(items, raw)
		} else if json.Unmarshal(raw, &items) != nil {
			continue
		}
		for _, item := range items[:min(len(items), maxMetadataValues)] {
			if term, ok := metadataTerm(key, item); ok && !slices.Contains(terms, term) {
				terms = append(terms, term)
			}
		}
	}
	return terms
}

// members yields the members of a compact JSON object, which metadata is: when all users of an app are read, a decoder
// that makes a map of each would take most of the time.
func members(object json.RawMessage) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		if len(object) < len(`{"":0}`) {
			return
		}
		for rest := object[1:]; len(rest) > 1 && rest[0] == '"'; {
			end := valueEnd(rest)
			key := string(rest[1 : end-1])
			if strings.Contains(key, `\`) && json.Unmarshal(rest[:end], &key) != nil {
				return
			}
			rest = rest[end+1:] // behind the colon
			end = valueEnd(rest)
			if !yield(key, rest[:end]) {
				return
			}
			rest = rest[end+1:] // behind the comma, or the brace
		}
	}
}

// valueEnd returns where the JSON value ends with which a text begins.
func valueEnd(text []byte) int {
	depth, inText := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			if inText = !inText; !inText && depth == 0 {
				return i + 1
			}
		case inText:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return i + 1 + min(depth, 0) // one that closes what is around ends a number, or such
			}
		case c == ',' && depth == 0:
			return i
		}
	}
	return len(text)
}

// metadataTerm returns the term of one value.
func metadataTerm(key string, raw json.RawMessage) (term userindex.Term, ok bool) {
	raw = bytes.TrimSpace(raw)
	var text string
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
		return term, false
	case raw[0] == '"':
		if json.Unmarshal(raw, &text) != nil {
			return term, false
		}
		term = userindex.Term{Kind: metadataText + key, Value: norm.NFC.String(text)}
	case raw[0] == 't' || raw[0] == 'f':
		term = userindex.Term{Kind: metadataText + key, Value: string(raw)}
	default:
		number, _ := canonicalNumber(string(raw))
		term = userindex.Term{Kind: metadataAsNumber + key, Value: number}
	}
	return term, len(term.Value) <= maxMetadataValue
}

// terms returns the terms of which a user that the filter selects has one.
func (f MetadataFilter) terms() (terms []userindex.Term) {
	for _, value := range f.Values {
		terms = append(terms, userindex.Term{Kind: metadataText + f.Key, Value: norm.NFC.String(value)})
		if number, ok := canonicalNumber(value); ok {
			terms = append(terms, userindex.Term{Kind: metadataAsNumber + f.Key, Value: number})
		}
	}
	return terms
}

// canonicalNumber writes a JSON number so that equal ones are the same text: digits that neither begin nor end with 0,
// and an exponent of ten.
func canonicalNumber(text string) (canonical string, ok bool) {
	if !json.Valid([]byte(text)) || text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return text, false
	}
	unsigned, sign := strings.TrimPrefix(text, "-"), ""
	if unsigned != text {
		sign = "-"
	}
	digits, power, _ := strings.Cut(strings.ToLower(unsigned), "e")
	exponent := int64(0)
	if power != "" {
		var err error
		if exponent, err = strconv.ParseInt(power, 10, 32); err != nil {
			return text, true // nobody writes such a number in two ways
		}
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	exponent -= int64(len(fraction))
	significant := strings.TrimLeft(whole+fraction, "0")
	shortened := strings.TrimRight(significant, "0")
	exponent += int64(len(significant) - len(shortened))
	if shortened == "" {
		return "0", true
	}
	return sign + shortened + "e" + strconv.FormatInt(exponent, 10), true
}

// checkMetadataKeys checks the keys that an app declares.
func (d *Directory) checkMetadataKeys(wrong *FieldErrors, keys []string) {
	if len(keys) > d.limits.MetadataKeys {
		wrong.Add("metadataKeys", "The metadataKeys may not be more than %d.", d.limits.MetadataKeys)
	}
	for i, key := range keys {
		if key == "" || key[0] == '@' || len(key) > 64 || hasControl(key, "") || strings.ContainsAny(key, "[]") ||
			slices.Contains(keys[:i], key) {
			wrong.Add("metadataKeys", "The metadataKeys must be different names of at most 64 bytes, without brackets and "+
				"control characters and not beginning with @.")
			return
		}
	}
}

// checkMetadataFilters refuses filters by keys that are not declared.
func (s AppSettings) checkMetadataFilters(filters []MetadataFilter) error {
	var wrong FieldErrors
	for _, filter := range filters {
		if !slices.Contains(s.MetadataKeys, filter.Key) {
			wrong.Add("metadata["+filter.Key+"]",
				"The key is not declared. Put it into the metadataKeys of the app's settings to filter by it.")
		}
	}
	return wrong.Err()
}

// errIndexing refuses filters by keys that are declared and that the index does not hold yet.
func errIndexing(filters []MetadataFilter, held []string) error {
	var wrong FieldErrors
	for _, filter := range filters {
		if !slices.Contains(held, filter.Key) {
			wrong.Add("metadata["+filter.Key+"]", "The key was declared a moment ago and is still being indexed. Try again.")
		}
	}
	return wrong.Err()
}
