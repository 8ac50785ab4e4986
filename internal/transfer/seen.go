package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"strings"
)

// seen knows the uids that an import has had, in memory that does not grow with it: they are in a file without a name,
// a table in which a uid's hash says where it is. Two uids are taken for one when 64 bits of hash are equal.
type seen struct {
	seed  maphash.Seed
	file  *os.File
	slots uint64 // a power of two
	used  uint64
}

// seenSlot is one place of the table: the hash of a uid in small letters, as servers have them, the number of the first
// entry that has it, and the hash of how that one writes it. A place without a number is free.
type seenSlot struct {
	uid     uint64
	entry   uint64
	written uint32
}

const (
	slotSize   = 20
	firstSlots = 1 << 12
	// fullAt is the share of the table that is in use when it is doubled, in percent.
	fullAt = 60
)

func newSeen() (*seen, error) {
	file, err := newTable(firstSlots)
	if err != nil {
		return nil, err
	}
	return &seen{seed: maphash.MakeSeed(), file: file, slots: firstSlots}, nil
}

func newTable(slots uint64) (*os.File, error) {
	file, err := os.CreateTemp("", "rollcall-import-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil { // where that is not possible, it stays until it is closed
		return nil, errors.Join(err, file.Close())
	}
	if err := file.Truncate(int64(slots * slotSize)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (s *seen) close() error { return s.file.Close() }

// add notes the uid of an entry, which its source writes in some way. When an earlier entry has the same, it returns
// which, and whether that one writes it in the same way.
func (s *seen) add(uid, written string, entry int) (earlier int, alike bool, err error) {
	if s.used*100 >= s.slots*fullAt {
		if err := s.grow(); err != nil {
			return 0, false, fmt.Errorf("keep the uids of the import: %w", err)
		}
	}
	next := seenSlot{
		uid: maphash.String(s.seed, strings.ToLower(uid)), entry: uint64(entry),
		written: uint32(maphash.String(s.seed, written)),
	}
	there, at, err := findSlot(s.file, s.slots, next.uid)
	if err == nil && there.entry == 0 {
		s.used++
		err = writeSlot(s.file, at, next)
	}
	if err != nil {
		return 0, false, fmt.Errorf("keep the uids of the import: %w", err)
	}
	return int(there.entry), there.written == next.written, nil
}

// findSlot returns the place of a uid in a table, and what is there.
func findSlot(file *os.File, slots, uid uint64) (there seenSlot, at uint64, err error) {
	for at = uid & (slots - 1); ; at = (at + 1) & (slots - 1) {
		var text [slotSize]byte
		if _, err := file.ReadAt(text[:], int64(at*slotSize)); err != nil {
			return there, at, err
		}
		if there = slotOf(text[:]); there.entry == 0 || there.uid == uid {
			return there, at, nil
		}
	}
}

func slotOf(text []byte) seenSlot {
	return seenSlot{
		uid: binary.LittleEndian.Uint64(text), entry: binary.LittleEndian.Uint64(text[8:]),
		written: binary.LittleEndian.Uint32(text[16:]),
	}
}

func writeSlot(file *os.File, at uint64, slot seenSlot) error {
	var text [slotSize]byte
	binary.LittleEndian.PutUint64(text[:], slot.uid)
	binary.LittleEndian.PutUint64(text[8:], slot.entry)
	binary.LittleEndian.PutUint32(text[16:], slot.written)
	_, err := file.WriteAt(text[:], int64(at*slotSize))
	return err
}

// grow moves the table into one of twice the size.
func (s *seen) grow() (err error) {
	larger, err := newTable(2 * s.slots)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, larger.Close())
		}
	}()
	block := make([]byte, firstSlots*slotSize)
	for at := uint64(0); at < s.slots; at += firstSlots {
		if _, err := s.file.ReadAt(block, int64(at*slotSize)); err != nil {
			return err
		}
		for text := block; len(text) > 0; text = text[slotSize:] {
			slot := slotOf(text)
			if slot.entry == 0 {
				continue
			}
			_, to, err := findSlot(larger, 2*s.slots, slot.uid)
			if err == nil {
				err = writeSlot(larger, to, slot)
			}
			if err != nil {
				return err
			}
		}
	}
	if err := s.file.Close(); err != nil {
		return err
	}
	s.file, s.slots = larger, 2*s.slots
	return nil
}
