package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// setField sets a field and names it in changed, unless it holds the value already.
func setField[T comparable](changed *[]string, name string, field *T, value T) {
	if *field != value {
		*field = value
		*changed = append(*changed, name)
	}
}

// hasControl reports whether text holds control characters other than the allowed ones, or is not valid UTF-8.
func hasControl(text, allowed string) bool {
	if !utf8.ValidString(text) {
		return true
	}
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && !strings.ContainsRune(allowed, r)
	})
}

func checkText(wrong *FieldErrors, field, text string, limit int, allowedControls string) {
	if utf8.RuneCountInString(text) > limit {
		wrong.Add(field, "The %s may not be longer than %d characters.", field, limit)
	}
	if hasControl(text, allowedControls) {
		wrong.Add(field, "The %s may not hold control characters.", field)
	}
}

// IsText reports whether a store can hold a text: it is valid UTF-8 and has no U+0000.
func IsText(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

// IsBlank reports whether nothing of a text shows: it holds only spaces and characters that join, format or fill.
func IsBlank(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsSpace(r) &&
			!unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
	})
}

// checkName checks a name that must not be blank.
func (d *Directory) checkName(wrong *FieldErrors, name string) {
	if IsBlank(name) {
		wrong.Add("name", "The name field is required.")
		return
	}
	checkText(wrong, "name", name, d.limits.Name, "")
}

// unsafeSchemes run or read something of the reader's when followed from a profile.
var unsafeSchemes = []string{"javascript", "vbscript", "data", "file", "blob", "about"}

func (d *Directory) checkURL(wrong *FieldErrors, field, text string) {
	if utf8.RuneCountInString(text) > d.limits.URL {
		wrong.Add(field, "The %s may not be longer than %d characters.", field, d.limits.URL)
		return
	}
	if !isPlainURL(text) && !isURL(text) {
		wrong.Add(field, "The %s must be a valid URL, such as https://example.com/a.png.", field)
	}
}

func isURL(text string) bool {
	parsed, err := url.Parse(text)
	return err == nil && parsed.Scheme != "" && parsed.Host != "" && parsed.Hostname() != "" &&
		!slices.Contains(unsafeSchemes, strings.ToLower(parsed.Scheme)) && !hasControl(text, "") && !strings.ContainsAny(text, " <>\"`")
}

// isPlainURL tells at a glance that a text is a URL, where it is a web address of letters, digits and few signs, as
// most are.
func isPlainURL(text string) bool {
	rest, isWeb := strings.CutPrefix(text, "https://")
	if !isWeb {
		rest, isWeb = strings.CutPrefix(text, "http://")
	}
	plain := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
	if !isWeb || rest == "" || !plain(rest[0]) {
		return false
	}
	for i := range len(rest) {
		if c := rest[i]; !plain(c) && c != '.' && c != '-' && c != '/' && c != '_' {
			return false
		}
	}
	return true
}

func checkOneOf(wrong *FieldErrors, field, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		named := slices.DeleteFunc(slices.Clone(allowed), func(one string) bool { return one == "" })
		wrong.Add(field, "The %s must be one of: %s.", field, strings.Join(named, ", "))
	}
}

// checkMetadata checks that metadata is a JSON object within the limit and returns it in compact form.
func (d *Directory) checkMetadata(wrong *FieldErrors, field string, metadata json.RawMessage) json.RawMessage {
	var compact bytes.Buffer
	if err := json.Compact(&compact, metadata); err != nil || compact.Len() == 0 || compact.Bytes()[0] != '{' {
		wrong.Add(field, "The %s must be a JSON object.", field)
		return nil
	}
	if compact.Len() > d.limits.Metadata {
		wrong.Add(field, "The %s may not be larger than %d bytes of JSON.", field, d.limits.Metadata)
		return nil
	}
	if nestsDeeper(compact.Bytes(), maxMetadataDepth) {
		wrong.Add(field, "The %s may not be nested more than %d levels deep.", field, maxMetadataDepth)
		return nil
	}
	if !numbersInRange(compact.Bytes()) {
		wrong.Add(field, "The %s holds a number that is out of range.", field)
		return nil
	}
	return compact.Bytes()
}

// maxMetadataDepth is how deep metadata may be nested: the parsers of those who read a user give up at some depth,
// .NET's at 64 with what is around it, and with one such user they would lose a whole list.
const maxMetadataDepth = 32

// nestsDeeper reports whether objects and arrays of a valid JSON text are nested more than so many levels deep.
func nestsDeeper(text []byte, levels int) bool {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > levels {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// numbersInRange reports whether every number of a valid JSON text fits a float64.
func numbersInRange(text []byte) bool {
	if !mayExceedFloat(text) {
		return true
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if number, ok := token.(json.Number); ok {
			if value, err := number.Float64(); err != nil || math.IsInf(value, 0) {
				return false
			}
		}
	}
}

// mayExceedFloat is false when no number can be out of range: that takes an exponent or hundreds of digits.
func mayExceedFloat(text []byte) bool {
	digits := 0
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case digits > 0 && (c == 'e' || c == 'E'):
			return true
		default:
			digits = 0
		}
		if digits > 300 {
			return true
		}
	}
	return false
}

// sameJSON reports whether two JSON texts hold the same value, whatever the order of their keys.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	decode := func(text []byte) (value any, err error) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		err = decoder.Decode(&value)
		return value, err
	}
	left, errLeft := decode(a)
	right, errRight := decode(b)
	return errLeft == nil && errRight == nil && reflect.DeepEqual(left, right)
}

// checkEmail checks just enough to catch a slip: only a delivered message proves an address.
func checkEmail(wrong *FieldErrors, field, address string) {
	before, after, found := strings.Cut(address, "@")
	if !found || before == "" || after == "" || len(address) > 254 || hasControl(address, "") || strings.ContainsAny(address, " <>,") {
		wrong.Add(field, "The %s must be an e-mail address.", field)
	}
}
