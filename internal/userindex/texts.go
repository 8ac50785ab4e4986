package userindex

import (
	"encoding/binary"
	"unsafe"
)

// arena holds texts in large pieces without pointers. A text is known by where it begins, in units, and whoever keeps
// it knows its length. What is dropped is used again for texts of the same size.
type arena struct {
	chunks [][]byte
	used   int // bytes of the last chunk
	// free holds where texts were dropped, by their size in units.
	free map[int][]uint32
}

const (
	unit      = 4
	chunkSize = 1 << 20
)

func units(length int) int { return max(1, (length+unit-1)/unit) }

// take returns room for a text of a length of at most chunkSize bytes.
func (a *arena) take(length int) uint32 {
	size := units(length)
	if free := a.free[size]; len(free) > 0 {
		a.free[size] = free[:len(free)-1]
		return free[len(free)-1]
	}
	if len(a.chunks) == 0 || a.used+size*unit > chunkSize {
		a.chunks = append(a.chunks, make([]byte, chunkSize))
		a.used = 0
	}
	at := (len(a.chunks)-1)*chunkSize + a.used
	a.used += size * unit
	return uint32(at / unit)
}

func (a *arena) drop(at uint32, length int) {
	if a.free == nil {
		a.free = map[int][]uint32{}
	}
	a.free[units(length)] = append(a.free[units(length)], at)
}

// bytes returns what lies in the arena from a place on.
func (a *arena) bytes(at uint32) []byte {
	byteAt := int(at) * unit
	return a.chunks[byteAt/chunkSize][byteAt%chunkSize:]
}

// text returns a text of the arena without copying it: it is valid as long as the lock on the index is held.
func (a *arena) text(at uint32, from, length int) string {
	if length == 0 {
		return ""
	}
	return unsafe.String(&a.bytes(at)[from], length) //nolint:gosec // nobody changes it before it is dropped
}

func (x *Index) uid(number uint32) string {
	r := &x.users[number]
	return x.texts.text(r.text, 0, int(r.uidLength))
}

func (x *Index) name(number uint32) string {
	r := &x.users[number]
	return x.texts.text(r.text, int(r.uidLength), int(r.nameLength))
}

// termsOf appends the numbers of a user's terms.
func (x *Index) termsOf(number uint32, into []uint32) []uint32 {
	r := &x.users[number]
	packed := x.texts.bytes(r.text)[int(r.uidLength)+int(r.nameLength):]
	count, length := binary.Uvarint(packed)
	for range count {
		packed = packed[length:]
		var id uint64
		id, length = binary.Uvarint(packed)
		into = append(into, uint32(id))
	}
	return into
}

// putText writes the texts of a user.
func (x *Index) putText(number uint32, uid, name string, terms []uint32) {
	length := len(uid) + len(name) + uvarintLength(uint64(len(terms)))
	for _, id := range terms {
		length += uvarintLength(uint64(id))
	}
	r := &x.users[number]
	r.text = x.texts.take(length)
	r.uidLength, r.nameLength = uint16(len(uid)), uint16(len(name))
	room := x.texts.bytes(r.text)[:0:length]
	room = append(append(room, uid...), name...)
	room = binary.AppendUvarint(room, uint64(len(terms)))
	for _, id := range terms {
		room = binary.AppendUvarint(room, uint64(id))
	}
}

// dropText gives up the room of a user's texts.
func (x *Index) dropText(number uint32) {
	r := &x.users[number]
	packed := x.texts.bytes(r.text)
	rest := packed[int(r.uidLength)+int(r.nameLength):]
	count, length := binary.Uvarint(rest)
	end := length
	for range count {
		_, length = binary.Uvarint(rest[end:])
		end += length
	}
	x.texts.drop(r.text, int(r.uidLength)+int(r.nameLength)+end)
}

func uvarintLength(n uint64) int {
	length := 1
	for ; n >= 0x80; n >>= 7 {
		length++
	}
	return length
}
