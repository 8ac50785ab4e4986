package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// chunk is how much is read at once, in bytes.
const chunk = 64 << 10

// place is a place in a text: a line and a character of it, both from 1.
type place struct {
	line, column int
	afterCR      bool // so that a line feed behind it is no line of its own
}

// plus returns the place behind a text that begins here.
func (p place) plus(text []byte) place {
	for _, c := range text {
		switch {
		case c == '\n' && p.afterCR:
			p.afterCR = false
		case c == '\n', c == '\r':
			p.line, p.column, p.afterCR = p.line+1, 1, c == '\r'
		default:
			if p.afterCR = false; c&0xc0 != 0x80 {
				p.column++
			}
		}
	}
	return p
}

func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d, column %d: %w", p.line, p.column, fmt.Errorf(format, args...))
}

// source hands out a text piece by piece, and knows at which place it is.
type source struct {
	r io.Reader
	// buf is what was read and has not been taken. Its memory is not written again.
	buf []byte
	at  place
	// ended says that there is no more, and failure why that is, but for the end of the text.
	ended   bool
	failure error
	taken   int64
}

func newSource(r io.Reader) *source { return &source{r: r, at: place{line: 1, column: 1}} }

// empty reports whether there was no text at all.
func (s *source) empty() bool { return s.taken == 0 && len(s.buf) == 0 && s.ended }

// fill reads more. It returns false at the end.
func (s *source) fill() bool {
	if s.ended {
		return false
	}
	if cap(s.buf)-len(s.buf) < chunk {
		larger := make([]byte, len(s.buf), 2*len(s.buf)+4*chunk)
		copy(larger, s.buf)
		s.buf = larger
	}
	n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if err != nil {
		s.ended = true
		if !errors.Is(err, io.EOF) {
			s.failure = err
		}
	}
	return n > 0 || !s.ended
}

// take hands out the next n bytes, which have been read.
func (s *source) take(n int) []byte {
	text := s.buf[:n:n]
	s.at, s.buf, s.taken = s.at.plus(text), s.buf[n:], s.taken+int64(n)
	return text
}

// peek returns the next byte. It returns false at the end.
func (s *source) peek() (byte, bool) {
	for len(s.buf) == 0 {
		if !s.fill() {
			return 0, false
		}
	}
	return s.buf[0], true
}

// lineEnd returns where in a text the first line ends; negative when it does not.
func lineEnd(text []byte) int {
	feed := bytes.IndexByte(text, '\n')
	if feed >= 0 {
		text = text[:feed]
	}
	if carriage := bytes.IndexByte(text, '\r'); carriage >= 0 {
		return carriage
	}
	return feed
}

// nextLine takes a line, and hands it out without its end. One that is longer than an entry may be is cut off, and its
// rest taken. more is false when there was no line.
func (s *source) nextLine() (line []byte, at place, tooLong, more bool) {
	if _, more = s.peek(); !more {
		return nil, s.at, false, false
	}
	at = s.at
	searched := 0
	for {
		if end := lineEnd(s.buf[searched:]); end >= 0 {
			if line == nil {
				length := searched + end
				if tooLong = length > maxEntry; tooLong {
					length = chunk
				}
				line = s.buf[:length:length]
			}
			s.take(searched + end)
			s.skipLineEnd()
			return line, at, tooLong, true
		}
		if searched = len(s.buf); searched > maxEntry {
			if line == nil {
				line, tooLong = s.buf[:chunk:chunk], true
			}
			s.take(searched)
			searched = 0
		}
		if !s.fill() {
			if line == nil {
				line, tooLong = slices.Clip(s.buf), len(s.buf) > maxEntry
			}
			s.take(len(s.buf))
			return line, at, tooLong, true
		}
	}
}

// skipLineEnd takes a line feed, a carriage return, or both, if they are next.
func (s *source) skipLineEnd() {
	if next, more := s.peek(); more && next == '\r' {
		s.take(1)
	}
	if next, more := s.peek(); more && next == '\n' {
		s.take(1)
	}
}

// skipSpace takes what JSON does not mind between values, and returns the byte behind it.
func (s *source) skipSpace() (next byte, more bool) {
	for {
		n := 0
		for n < len(s.buf) && (s.buf[n] == ' ' || s.buf[n] == '\t' || s.buf[n] == '\r' || s.buf[n] == '\n') {
			n++
		}
		s.take(n)
		if len(s.buf) > 0 {
			return s.buf[0], true
		}
		if !s.fill() && len(s.buf) == 0 {
			return 0, false
		}
	}
}
