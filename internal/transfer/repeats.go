package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"strings"
)

// repeats finds uids that an import has more than once, in memory that does not grow with it: what identifies each is
// kept in a file without a name.
type repeats struct {
	seed  maphash.Seed
	file  *os.File
	out   *bufio.Writer
	count int64
}

// repeated are two entries with the same uid. The later one counts.
type repeated struct{ First, Again int }

const (
	repeatRecord = 16 // bytes of an entry: the hash of its uid, and its number
	// repeatsAtOnce is how many entries are compared with each other in memory.
	repeatsAtOnce = 100_000
)

func newRepeats() (*repeats, error) {
	file, err := os.CreateTemp("", "rollcall-import-*")
	if err != nil {
		return nil, fmt.Errorf("keep the uids of the import: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil { // where that is not possible, it stays until it is closed
		return nil, errors.Join(err, file.Close())
	}
	return &repeats{seed: maphash.MakeSeed(), file: file, out: bufio.NewWriter(file)}, nil
}

func (r *repeats) close() error { return r.file.Close() }

// add notes that an entry has a uid.
func (r *repeats) add(uid string, number int) error {
	var text [repeatRecord]byte
	binary.LittleEndian.PutUint64(text[:], maphash.String(r.seed, strings.ToLower(uid)))
	binary.LittleEndian.PutUint64(text[8:], uint64(number))
	r.count++
	_, err := r.out.Write(text[:])
	return err
}

// find returns how many entries have the uid of an earlier one, and the first of these, at most so many.
func (r *repeats) find(most int) (count int, found []repeated, err error) {
	if err := r.out.Flush(); err != nil {
		return 0, nil, err
	}
	parts := uint64(r.count/repeatsAtOnce + 1)
	for part := range parts {
		if _, err := r.file.Seek(0, io.SeekStart); err != nil {
			return 0, nil, err
		}
		first := map[uint64]int{}
		in := bufio.NewReaderSize(r.file, chunk)
		for range r.count {
			var text [repeatRecord]byte
			if _, err := io.ReadFull(in, text[:]); err != nil {
				return 0, nil, err
			}
			hash, number := binary.LittleEndian.Uint64(text[:]), int(binary.LittleEndian.Uint64(text[8:]))
			if hash%parts != part {
				continue
			}
			if before, there := first[hash]; !there {
				first[hash] = number
			} else {
				count++
				found = append(found, repeated{before, number})
			}
		}
		slices.SortFunc(found, func(a, b repeated) int { return a.Again - b.Again })
		found = found[:min(len(found), most)]
	}
	return count, found, nil
}
