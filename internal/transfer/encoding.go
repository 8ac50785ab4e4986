package transfer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Encoding is how the characters of a file are written.
type Encoding string

// The encodings of imports. A file that begins with a byte order mark is in what that says.
const (
	UTF8        Encoding = "utf-8"
	Windows1252 Encoding = "windows-1252"
	UTF16       Encoding = "utf-16" // little-endian, without a mark
	UTF16LE     Encoding = "utf-16le"
	UTF16BE     Encoding = "utf-16be"
)

// EncodingNamed returns the encoding with a name, in any case. Empty is UTF-8, and Latin-1 is windows-1252, as it is on
// the web. Errors name those that there are.
func EncodingNamed(name string) (Encoding, error) {
	switch strings.ToLower(name) {
	case "", "utf-8", "utf8":
		return UTF8, nil
	case "windows-1252", "cp1252", "latin1", "latin-1", "iso-8859-1":
		return Windows1252, nil
	case "utf-16", "utf16":
		return UTF16, nil
	case "utf-16le":
		return UTF16LE, nil
	case "utf-16be":
		return UTF16BE, nil
	}
	return "", fmt.Errorf("there is no encoding %q: give utf-8, windows-1252, utf-16, utf-16le or utf-16be", name)
}

// decoded returns a text in UTF-8, without a byte order mark, and unpacked when it is packed by gzip. What is not
// well-formed in its encoding is not UTF-8 in what is returned either, so that the entry that holds it is refused.
func decoded(r io.Reader, encoding Encoding) (io.Reader, error) {
	text := bufio.NewReaderSize(r, chunk)
	if begin, _ := text.Peek(2); bytes.Equal(begin, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(text)
		if err != nil {
			return nil, fmt.Errorf("unpack the file: %w", err)
		}
		text = bufio.NewReaderSize(unpacked, chunk)
	}
	begin, err := text.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	switch {
	case bytes.HasPrefix(begin, []byte{0xef, 0xbb, 0xbf}):
		_, err := text.Discard(3)
		return text, err
	case bytes.HasPrefix(begin, []byte{0xff, 0xfe}):
		_, err := text.Discard(2)
		return &utf16Reader{r: text, order: binary.LittleEndian}, err
	case bytes.HasPrefix(begin, []byte{0xfe, 0xff}):
		_, err := text.Discard(2)
		return &utf16Reader{r: text, order: binary.BigEndian}, err
	}
	switch encoding {
	case UTF8:
	case Windows1252:
		return charmap.Windows1252.NewDecoder().Reader(text), nil
	case UTF16, UTF16LE:
		return &utf16Reader{r: text, order: binary.LittleEndian}, nil
	case UTF16BE:
		return &utf16Reader{r: text, order: binary.BigEndian}, nil
	}
	if bytes.IndexByte(begin, 0) >= 0 {
		return nil, errors.New("the file holds zeros, as UTF-16 has them: give --encoding utf-16le or utf-16be if it is that")
	}
	return text, nil
}

// utf16Reader reads UTF-16 and hands out UTF-8. Half of a pair becomes bytes that are not UTF-8.
type utf16Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	rest  []byte // of what was decoded
	next  rune   // a unit that was read too early; zero is none
	err   error
}

func (u *utf16Reader) Read(into []byte) (int, error) {
	for len(u.rest) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.rest = u.rest[:0]
		for len(u.rest) < chunk/2 && u.err == nil {
			u.decode()
		}
	}
	n := copy(into, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// decode appends the next character to rest.
func (u *utf16Reader) decode() {
	first := u.next
	if u.next = 0; first == 0 {
		var ok bool
		if first, ok = u.unit(); !ok {
			return
		}
	}
	if !utf16.IsSurrogate(first) {
		u.rest = utf8.AppendRune(u.rest, first)
		return
	}
	second, ok := u.unit()
	if pair := utf16.DecodeRune(first, second); ok && pair != utf8.RuneError {
		u.rest = utf8.AppendRune(u.rest, pair)
		return
	}
	u.rest = append(u.rest, 0xe0|byte(first>>12), 0x80|byte(first>>6)&0x3f, 0x80|byte(first)&0x3f)
	if ok {
		u.next = second
	}
}

func (u *utf16Reader) unit() (rune, bool) {
	var two [2]byte
	n, err := io.ReadFull(u.r, two[:])
	if err == nil {
		return rune(u.order.Uint16(two[:])), true
	}
	if u.err = err; n == 1 {
		u.err = io.EOF
		u.rest = append(u.rest, 0xff) // half a character
	}
	return 0, false
}
