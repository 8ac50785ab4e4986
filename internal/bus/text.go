package bus

import (
	"encoding/base64"
	"errors"
)

// PostgreSQL carries text without zero bytes, in whatever encoding the database has: so a notice becomes ASCII, in the
// shorter of two forms. Text that is mostly ASCII, such as JSON, is written as it is, with two characters for every
// other byte; the rest is base64.
const (
	formEscaped = 't'
	formBase64  = 'b'
)

var (
	base64Form = base64.RawStdEncoding
	errText    = errors.New("it is not the text of a notice")
)

// escaped bytes are written as 1 to 4, which stand for the upper two bits, and '@' and the lower six.
func isEscaped(c byte) bool { return c < 5 || c >= 0x80 }

func countEscapes(data []byte) (n int) {
	for _, c := range data {
		if isEscaped(c) {
			n++
		}
	}
	return n
}

// textSize returns the length of the text for so many bytes, of which some are escaped.
func textSize(size, escapes int) int {
	return 1 + min(size+escapes, base64Form.EncodedLen(size))
}

func toText(data []byte) string {
	size := textSize(len(data), countEscapes(data))
	text := make([]byte, 0, size)
	if size == 1+base64Form.EncodedLen(len(data)) {
		return string(base64Form.AppendEncode(append(text, formBase64), data))
	}
	text = append(text, formEscaped)
	for _, c := range data {
		if isEscaped(c) {
			text = append(text, 1+c>>6, '@'|c&0x3f)
		} else {
			text = append(text, c)
		}
	}
	return string(text)
}

func fromText(text string) ([]byte, error) {
	if text == "" {
		return nil, errText
	}
	form, text := text[0], text[1:]
	switch form {
	case formBase64:
		return base64Form.DecodeString(text)
	case formEscaped:
	default:
		return nil, errText
	}
	data := make([]byte, 0, len(text))
	for at := 0; at < len(text); at++ {
		c := text[at]
		if c < 5 {
			at++
			if c == 0 || at == len(text) || text[at]&0xc0 != '@' {
				return nil, errText
			}
			c = (c-1)<<6 | text[at]&0x3f
		}
		data = append(data, c)
	}
	return data, nil
}
