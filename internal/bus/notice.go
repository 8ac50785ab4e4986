package bus

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"
)

// A notice is what is sent at once: the sender and its number, and frames. A frame is a message or a piece of one.
//
//	notice: version (1 byte), sender (8 bytes), number (varint), frames
//	frame:  flags (1 byte), length of the subject (1 byte) and subject unless it continues a message, length of the
//	        content (varint) and content
//
// The pieces of a message are in notices with consecutive numbers: what continues a message is the first frame of its
// notice, and what is continued is the last. A frame that says that something was lost is its flags alone.
const noticeVersion = 1

const (
	frameContinues = 1 << iota
	frameContinued
	frameLost
)

// senderID tells the servers apart. It is drawn anew each time that a bus is opened.
type senderID [8]byte

func newSenderID() (id senderID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

const headerSize = 1 + len(senderID{})

var errNotice = errors.New("it is not a notice of this version")

// packer puts messages into notices.
type packer struct {
	sender   senderID
	number   uint64
	counters *counters
	// limit is the size of the largest notice. When asText is set, it counts as text.
	limit  int
	asText bool

	open    []byte // the notice that is being filled, or nil
	escapes int    // how many bytes of it take two characters
	packed  [][]byte
}

// add puts a message into the open notice, or as many new ones as it takes.
func (p *packer) add(m outgoing) {
	head := append([]byte{0, byte(len(m.subject))}, m.subject...)
	whole := binary.AppendUvarint(bytes.Clone(head), uint64(len(m.message)))
	if p.open != nil && !p.holds(whole, m.message) {
		p.finish()
	}
	p.begin()
	if p.holds(whole, m.message) {
		p.write(whole, m.message)
		return
	}
	for rest := m.message; ; {
		piece := rest[:p.room(head, rest)]
		rest = rest[len(piece):]
		if len(rest) > 0 {
			head[0] |= frameContinued
		} else {
			head[0] &^= frameContinued
		}
		p.write(binary.AppendUvarint(head, uint64(len(piece))), piece)
		p.counters.pieces.Add(1)
		if len(rest) == 0 {
			return
		}
		p.finish()
		p.begin()
		head = []byte{frameContinues}
	}
}

// lost says that messages before were lost.
func (p *packer) lost() {
	p.begin()
	p.write([]byte{frameLost}, nil)
}

// take returns the notices.
func (p *packer) take() [][]byte {
	p.finish()
	packed := p.packed
	p.packed = nil
	return packed
}

func (p *packer) begin() {
	if p.open != nil {
		return
	}
	p.number++
	p.open = make([]byte, 0, min(p.limit, 8<<10))
	p.escapes = 0
	header := append([]byte{noticeVersion}, p.sender[:]...)
	p.write(binary.AppendUvarint(header, p.number), nil)
}

func (p *packer) finish() {
	if p.open != nil {
		p.packed = append(p.packed, p.open)
		p.open = nil
	}
}

func (p *packer) write(head, content []byte) {
	p.open = append(append(p.open, head...), content...)
	if p.asText {
		p.escapes += countEscapes(head) + countEscapes(content)
	}
}

// holds says whether the open notice has room for a frame.
func (p *packer) holds(head, content []byte) bool {
	size := len(p.open) + len(head) + len(content)
	if !p.asText || size > p.limit {
		return size <= p.limit
	}
	return textSize(size, p.escapes+countEscapes(head)+countEscapes(content)) <= p.limit
}

// room returns how much of content the open notice has room for, behind a head and the content's length.
func (p *packer) room(head, content []byte) int {
	const lengthSize = 3 // for at most MaxMessage
	size := len(p.open) + len(head) + lengthSize
	if !p.asText {
		return min(len(content), p.limit-size)
	}
	longest := base64Form.DecodedLen(p.limit-1) - size
	escapes := p.escapes + countEscapes(head) + lengthSize
	asItIs := 0
	for _, c := range content {
		if isEscaped(c) {
			escapes++
		}
		if 1+size+asItIs+1+escapes > p.limit {
			break
		}
		asItIs++
	}
	return min(len(content), max(longest, asItIs))
}

// assembler reads notices, in the order in which they come.
type assembler struct {
	self     senderID
	counters *counters
	hear     func(subject string, message []byte)
	missed   func()
	partial  map[senderID]*partial
}

// partial is a message of which not all pieces have come.
type partial struct {
	subject string
	content []byte
	number  uint64 // of the last notice
	began   time.Time
}

// forgetAfter is when the rest of a message does not come any more, because its sender is gone.
const forgetAfter = time.Minute

// reset begins anew, when notices may have been lost.
func (a *assembler) reset() { a.partial = map[senderID]*partial{} }

// read takes a notice, which it does not keep.
func (a *assembler) read(notice []byte) error {
	if len(notice) < headerSize || notice[0] != noticeVersion {
		a.counters.broken.Add(1)
		return errNotice
	}
	sender := senderID(notice[1:])
	if sender == a.self {
		return nil
	}
	number, rest, ok := cutUvarint(notice[headerSize:])
	pending := a.partial[sender]
	if pending != nil && (!ok || number != pending.number+1 || len(rest) == 0 || rest[0]&frameContinues == 0) {
		a.drop(sender)
	}
	for ok && len(rest) > 0 {
		var f frame
		if f, rest, ok = cutFrame(rest); ok {
			a.take(sender, number, f)
		}
	}
	if !ok {
		a.drop(sender)
		return errNotice
	}
	return nil
}

func (a *assembler) take(sender senderID, number uint64, f frame) {
	switch pending := a.partial[sender]; {
	case f.flags&frameLost != 0:
		a.missed()
	case f.flags == 0:
		a.hear(f.subject, bytes.Clone(f.content))
	case f.flags == frameContinued:
		a.counters.pieces.Add(1)
		a.forget()
		a.partial[sender] = &partial{f.subject, bytes.Clone(f.content), number, time.Now()}
	case pending == nil: // the beginning is missing
		if f.flags&frameContinued == 0 {
			a.drop(sender)
		}
	case len(pending.content)+len(f.content) > MaxMessage:
		a.drop(sender)
	default:
		a.counters.pieces.Add(1)
		pending.content = append(pending.content, f.content...)
		pending.number = number
		if f.flags&frameContinued == 0 {
			delete(a.partial, sender)
			a.hear(pending.subject, pending.content)
		}
	}
}

// drop gives up a message that is not whole.
func (a *assembler) drop(sender senderID) {
	delete(a.partial, sender)
	a.counters.broken.Add(1)
	a.missed()
}

// forget gives up what will not be continued.
func (a *assembler) forget() {
	for sender, pending := range a.partial {
		if time.Since(pending.began) > forgetAfter {
			a.drop(sender)
		}
	}
}

type frame struct {
	flags   byte
	subject string
	content []byte
}

// cutFrame reads the first frame.
func cutFrame(from []byte) (f frame, rest []byte, ok bool) {
	f.flags, rest = from[0], from[1:]
	if f.flags&frameLost != 0 {
		return f, rest, true
	}
	if f.flags&frameContinues == 0 {
		if len(rest) == 0 || len(rest)-1 < int(rest[0]) {
			return f, nil, false
		}
		f.subject, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	}
	size, rest, ok := cutUvarint(rest)
	if !ok || size > uint64(len(rest)) {
		return f, nil, false
	}
	f.content, rest = rest[:size], rest[size:]
	return f, rest, true
}

func cutUvarint(from []byte) (value uint64, rest []byte, ok bool) {
	value, size := binary.Uvarint(from)
	if size <= 0 {
		return 0, nil, false
	}
	return value, from[size:], true
}
