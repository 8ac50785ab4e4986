package sqlstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
)

// watchingVFS is the name of the file system that the connections use: the operating system's, but for a write-ahead
// log of which it is known what it begins with, and whether a sync has failed.
const watchingVFS = "rollcall"

// registerVFS makes the file system known to SQLite. Doing so again changes nothing.
func registerVFS() { vfs.Register(watchingVFS, watchingFileSystem{vfs.Find("os")}) }

type watchingFileSystem struct{ vfs.VFS }

// OpenFilename implements vfs.VFSFilename.
func (s watchingFileSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := vfsutil.WrapOpenFilename(s.VFS, name, flags)
	if err != nil || flags&vfs.OPEN_WAL == 0 {
		return file, flags, err
	}
	return &logFile{File: file}, flags, nil
}

// logFile is a write-ahead log.
type logFile struct {
	vfs.File
	// syncFailed is set when a sync has failed, after all was written.
	syncFailed bool
	// header is what the file begins with; nil when that is not known.
	header []byte
}

func (f *logFile) WriteAt(p []byte, offset int64) (int, error) {
	if offset < logHeader {
		f.header = nil
	}
	n, err := f.File.WriteAt(p, offset)
	if err == nil && offset == 0 && n >= logHeader {
		f.header = bytes.Clone(p[:logHeader])
	}
	return n, err
}

func (f *logFile) Sync(flags vfs.SyncFlag) error {
	err := f.File.Sync(flags)
	f.syncFailed = f.syncFailed || err != nil
	return err
}

func (f *logFile) Truncate(size int64) error {
	if size < logHeader {
		f.header = nil
	}
	return f.File.Truncate(size)
}

// noteHeader reads what the file begins with, when it is opened.
func (f *logFile) noteHeader() error {
	header := make([]byte, logHeader)
	n, err := f.ReadAt(header, 0)
	if n == logHeader {
		f.header, err = header, nil
	} else if errors.Is(err, io.EOF) {
		err = nil // there is no page in it yet
	}
	return err
}

// headerStands reports whether the file begins with what was written there, as far as that is known.
func (f *logFile) headerStands() bool {
	if f.header == nil {
		return true
	}
	var now [logHeader]byte
	_, err := f.ReadAt(now[:], 0)
	return err == nil && bytes.Equal(now[:], f.header)
}

// The parts of a write-ahead log, in bytes: https://sqlite.org/walformat.html.
const (
	logHeader   = 32
	logMagic    = 0x377f0682 // or one more, where the numbers that are summed up are big-endian
	frameHeader = 24
)

// verify fails unless the log's first pages are what SQLite has written behind this header.
func (f *logFile) verify(header []byte, pages int) error {
	if !isLogHeader(header) {
		return errLogDamaged
	}
	check := newLogCheck(header)
	check.add(header[:24])
	frame := make([]byte, frameHeader+binary.BigEndian.Uint32(header[8:]))
	for page := range pages {
		if _, err := f.ReadAt(frame, int64(logHeader)+int64(page)*int64(len(frame))); err != nil {
			return err
		}
		check.add(frame[:8])
		if !check.covers(frame[frameHeader:], frame[16:frameHeader]) || !bytes.Equal(frame[8:16], header[16:24]) {
			return errLogDamaged
		}
	}
	return nil
}

var errLogDamaged = errors.New(
	"the disk has lost a part of the write-ahead log; restart the server, which goes on with what is whole",
)

// logCheck is the running checksum of a write-ahead log.
type logCheck struct {
	order  binary.ByteOrder // of the numbers that are summed up
	s0, s1 uint32
}

func newLogCheck(header []byte) *logCheck {
	if header[3]&1 == 0 {
		return &logCheck{order: binary.LittleEndian}
	}
	return &logCheck{order: binary.BigEndian}
}

// isLogHeader reports whether these are the first bytes of a write-ahead log.
func isLogHeader(header []byte) bool {
	magic := binary.BigEndian.Uint32(header)
	return magic&^1 == logMagic && newLogCheck(header).covers(header[:24], header[24:])
}

// add goes on with data, of which there are a multiple of eight bytes.
func (c *logCheck) add(data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		c.s0 += c.order.Uint32(data) + c.s1
		c.s1 += c.order.Uint32(data[4:]) + c.s0
	}
}

// covers goes on with data and reports whether the sum is the one that is stored.
func (c *logCheck) covers(data, stored []byte) bool {
	c.add(data)
	return binary.BigEndian.Uint32(stored) == c.s0 && binary.BigEndian.Uint32(stored[4:]) == c.s1
}
