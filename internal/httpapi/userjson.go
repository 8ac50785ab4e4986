package httpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"iter"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rollcall/rollcall/api"
)

// encodeAnswer writes the envelope of a success. Users, of which pages are full, are written without reflection: that
// is most of what a list costs otherwise.
func encodeAnswer(buffer *bytes.Buffer, answer answer) error {
	b := append(buffer.AvailableBuffer(), `{"data":`...)
	switch data := answer.data.(type) {
	case api.User:
		b = appendUser(b, &data)
	case iter.Seq[*api.User]:
		b = append(b, '[')
		first := len(b)
		for user := range data {
			if len(b) > first {
				b = append(b, ',')
			}
			b = appendUser(b, user)
		}
		b = append(b, ']')
	default:
		return encode(buffer, api.Body[any]{Data: answer.data, Meta: answer.meta})
	}
	if answer.meta != nil {
		meta, err := json.Marshal(answer.meta)
		if err != nil {
			return err
		}
		b = append(append(b, `,"meta":`...), meta...)
	}
	buffer.Write(append(b, "}\n"...))
	return nil
}

// encode writes any value as JSON.
func encode(buffer *bytes.Buffer, value any) error { return encodeLine(buffer, value) }

// encodeLine writes a value as one line of a stream.
func encodeLine(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// appendUser appends what encoding/json would make of a user.
func appendUser(b []byte, user *api.User) []byte {
	b = appendText(b, `{"uid":`, user.UID)
	b = appendText(b, `,"name":`, user.Name)
	b = appendOptional(b, `,"avatar":`, user.Avatar)
	b = appendOptional(b, `,"link":`, user.Link)
	if len(user.Metadata) > 0 {
		b = append(append(b, `,"metadata":`...), user.Metadata...)
	}
	b = appendText(b, `,"status":`, user.Status)
	b = appendText(b, `,"role":`, user.Role)
	b = appendOptional(b, `,"statusMessage":`, user.StatusMessage)
	for i, tag := range user.Tags {
		before := ","
		if i == 0 {
			before = `,"tags":[`
		}
		b = appendText(b, before, tag)
	}
	if len(user.Tags) > 0 {
		b = append(b, ']')
	}
	b = appendTime(b, `,"lastActiveAt":`, user.LastActiveAt)
	b = appendTime(b, `,"createdAt":`, user.CreatedAt)
	b = appendTime(b, `,"updatedAt":`, user.UpdatedAt)
	b = appendTime(b, `,"deactivatedAt":`, user.DeactivatedAt)
	b = appendOptional(b, `,"conversationId":`, user.ConversationID)
	b = appendFlag(b, `,"blockedByMe":true`, user.BlockedByMe)
	b = appendTime(b, `,"blockedByMeAt":`, user.BlockedByMeAt)
	b = appendFlag(b, `,"hasBlockedMe":true`, user.HasBlockedMe)
	b = appendTime(b, `,"hasBlockedMeAt":`, user.HasBlockedMeAt)
	b = appendTime(b, `,"blockedAt":`, user.BlockedAt)
	b = appendOptional(b, `,"authToken":`, user.AuthToken)
	return append(b, '}')
}

func appendFlag(b []byte, member string, set bool) []byte {
	if !set {
		return b
	}
	return append(b, member...)
}

func appendOptional(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(b, name, text)
}

func appendTime(b []byte, name string, seconds int64) []byte {
	if seconds == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), seconds, 10)
}

func appendText(b []byte, name, text string) []byte {
	b = append(append(b, name...), '"')
	begin := len(b)
	b = append(b, text...)
	if !plain(b[begin:]) {
		b, _ = jsontext.AppendQuote(b[:begin-1], text) // it complains about invalid UTF-8, which is refused on the way in
		return b
	}
	return append(b, '"')
}

// plain reports whether a text stands in JSON as it is: it has nothing but ASCII that is printable and needs no escape.
// It looks at eight bytes at a time.
func plain(text []byte) bool {
	const (
		ones = 0x0101010101010101
		tops = 0x8080808080808080
	)
	// zeros has the top bit set of some byte of word if, and only if, one is zero, as long as none has its own top bit
	// set.
	zeros := func(word uint64) uint64 { return word - ones }
	var odd uint64
	for ; len(text) >= 8; text = text[8:] {
		word := binary.LittleEndian.Uint64(text)
		odd |= word | (word - ones*' ') | zeros(word^ones*'"') | zeros(word^ones*'\\') | (word + ones)
	}
	for _, c := range text {
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return odd&tops == 0
}
