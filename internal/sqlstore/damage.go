package sqlstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

// DamagedError says that a database file is damaged.
type DamagedError struct {
	// Path is that of the file.
	Path string
	err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %s (%v)", e.Path, AdviceDamaged, e.err)
}

// What says what is wrong, without what to do about it.
func (e *DamagedError) What() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.err) }

func (e *DamagedError) Unwrap() error { return e.err }

// AdviceDamaged is what to do about a damaged database.
const AdviceDamaged = "stop the server, keep a copy of the file, and restore a backup, as docs/operations.md#restore says"

// isDamage reports whether SQLite failed because of what is in the file.
func isDamage(err error) bool {
	return errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB)
}

// damageOf puts a DamagedError in the place of what SQLite says of the damaged file at path.
func damageOf(path string, err error) error {
	if _, told := errors.AsType[*DamagedError](err); told || !isDamage(err) {
		return err
	}
	return &DamagedError{path, err}
}

// headerSize is how long the header of a database file is, and what stands where in it: see "The Database Header" in
// SQLite's description of its file format.
const (
	headerSize   = 100
	headerMagic  = "SQLite format 3\x00"
	atPageSize   = 16
	atChanges    = 24
	atPages      = 28
	atPagesValid = 92
)

// checkHeader looks whether a database file begins as one should, and has all of its pages: SQLite itself finds out
// when it needs them. An empty file is none yet. The pages that a log holds may still be missing in the file.
func checkHeader(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	header := make([]byte, headerSize)
	length, err := io.ReadFull(file, header)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if !strings.HasPrefix(string(header[:length]), headerMagic[:min(length, len(headerMagic))]) {
		return &DamagedError{path, errors.New("it is not a database of SQLite, or its beginning was overwritten")}
	}
	if length < headerSize {
		return &DamagedError{path, fmt.Errorf("it is cut off after %d bytes", length)}
	}
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return nil
	}
	number := binary.BigEndian.Uint32
	pageSize := int64(binary.BigEndian.Uint16(header[atPageSize:]))
	if pageSize == 1 {
		pageSize = 1 << 16
	}
	whole := pageSize * int64(number(header[atPages:]))
	if number(header[atChanges:]) == number(header[atPagesValid:]) && info.Size() < whole {
		return &DamagedError{path, fmt.Errorf("it is cut off: of its %d bytes there are %d", whole, info.Size())}
	}
	return nil
}
