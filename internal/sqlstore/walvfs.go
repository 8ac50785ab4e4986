package sqlstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
)

// gatheringVFS is the name of the file system that the connections use: the operating system's, with the write-ahead
// log written in few large pieces. SQLite hands over the log in two writes for every page.
const gatheringVFS = "rollcall"

// registerVFS makes the file system known to SQLite. Doing so again changes nothing.
func registerVFS() { vfs.Register(gatheringVFS, gatheringFileSystem{vfs.Find("os")}) }

type gatheringFileSystem struct{ vfs.VFS }

// OpenFilename implements vfs.VFSFilename.
func (s gatheringFileSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := vfsutil.WrapOpenFilename(s.VFS, name, flags)
	if err != nil || flags&vfs.OPEN_WAL == 0 {
		return file, flags, err
	}
	return &gatheringFile{File: file}, flags, nil
}

// maxGathered bounds, in bytes, what is held back: larger transactions are written in pieces.
const maxGathered = 256 << 10

// gatheringFile holds back writes that continue each other until anything else is asked of the file, at the latest the
// sync that ends a commit. Others learn of a commit after its sync, so they never miss what is held back.
type gatheringFile struct {
	vfs.File
	held []byte
	at   int64 // where held belongs
	// syncsLater says that whoever commits will call syncNow, and that the sync which ends the commit need not wait for the disk.
	syncsLater bool
	// syncFailed is set when a sync of SQLite's has failed, after all was written.
	syncFailed bool
	// header is what the file begins with; nil when that is not known.
	header []byte
}

func (f *gatheringFile) WriteAt(p []byte, offset int64) (int, error) {
	if len(f.held) > 0 && (offset != f.at+int64(len(f.held)) || len(f.held)+len(p) > maxGathered) {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	if len(f.held) == 0 {
		f.at = offset
	}
	f.held = append(f.held, p...)
	return len(p), nil
}

// flush writes what is held back. When that fails, the transaction fails, and what was held is of no use anymore.
func (f *gatheringFile) flush() error {
	if len(f.held) == 0 {
		return nil
	}
	held := f.held
	f.held = f.held[:0]
	if f.at < logHeader {
		f.header = nil
	}
	n, err := f.File.WriteAt(held, f.at)
	if err == nil && n < len(held) {
		err = io.ErrShortWrite
	}
	if err == nil && f.at == 0 && len(held) >= logHeader {
		f.header = append([]byte(nil), held[:logHeader]...)
	}
	return err
}

// noteHeader reads what the file begins with, when it is opened.
func (f *gatheringFile) noteHeader() error {
	header := make([]byte, logHeader)
	n, err := f.File.ReadAt(header, 0)
	if n == logHeader {
		f.header, err = header, nil
	} else if errors.Is(err, io.EOF) {
		err = nil // there is no page in it yet
	}
	return err
}

// headerStands reports whether the file begins with what was written there, as far as that is known. Nothing may be held back.
func (f *gatheringFile) headerStands() bool {
	if f.header == nil {
		return true
	}
	var now [logHeader]byte
	_, err := f.File.ReadAt(now[:], 0)
	return err == nil && bytes.Equal(now[:], f.header)
}

func (f *gatheringFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, offset)
}

func (f *gatheringFile) Sync(flags vfs.SyncFlag) error {
	beginsLog := f.at == 0 && len(f.held) > 0 // its header comes before all else
	if err := f.flush(); err != nil {
		return err
	}
	if f.syncsLater && !beginsLog {
		return nil
	}
	err := f.File.Sync(flags)
	f.syncFailed = f.syncFailed || err != nil
	return err
}

// syncNow returns when all that was written before is on the disk. The next transaction may write meanwhile.
func (f *gatheringFile) syncNow() error { return f.File.Sync(vfs.SYNC_NORMAL) }

// The parts of a write-ahead log, in bytes: https://sqlite.org/walformat.html.
const (
	logHeader   = 32
	logMagic    = 0x377f0682 // or one more, where the numbers that are summed up are big-endian
	frameHeader = 24
)

// rewrite writes the log's first pages again, as they are, and returns when they are on the disk. When a sync fails, Linux forgets
// that the pages are to be written: the next sync succeeds without them. It fails when the log is not what SQLite has
// written, because the system has let go of pages meanwhile. Nothing is written until then.
func (f *gatheringFile) rewrite(pages int) error {
	if err := f.flush(); err != nil {
		return err
	}
	header := make([]byte, logHeader)
	if _, err := f.File.ReadAt(header, 0); err != nil {
		return err
	}
	if err := f.verify(header, pages); err != nil {
		return err
	}
	if _, err := f.File.WriteAt(header, 0); err != nil {
		return err
	}
	err := f.eachFrame(header, pages, func(frame []byte, at int64) error {
		_, err := f.File.WriteAt(frame, at)
		return err
	})
	if err != nil {
		return err
	}
	return f.syncNow()
}

// verify fails unless the log's first pages are what SQLite has written behind this header.
func (f *gatheringFile) verify(header []byte, pages int) error {
	if !isLogHeader(header) {
		return errLogDamaged
	}
	check := newLogCheck(header)
	check.add(header[:24])
	return f.eachFrame(header, pages, func(frame []byte, _ int64) error {
		check.add(frame[:8])
		if !check.covers(frame[frameHeader:], frame[16:frameHeader]) || !bytes.Equal(frame[8:16], header[16:24]) {
			return errLogDamaged
		}
		return nil
	})
}

// eachFrame reads the log's first pages one after another.
func (f *gatheringFile) eachFrame(header []byte, pages int, do func(frame []byte, at int64) error) error {
	frame := make([]byte, frameHeader+binary.BigEndian.Uint32(header[8:]))
	for page := range pages {
		at := int64(logHeader) + int64(page)*int64(len(frame))
		if _, err := f.File.ReadAt(frame, at); err != nil {
			return err
		}
		if err := do(frame, at); err != nil {
			return err
		}
	}
	return nil
}

var errLogDamaged = errors.New("the disk has lost a part of the write-ahead log; restart the server, which goes on with what is whole")

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

func (f *gatheringFile) Truncate(size int64) error {
	if err := f.flush(); err != nil {
		return err
	}
	if size < logHeader {
		f.header = nil
	}
	return f.File.Truncate(size)
}

func (f *gatheringFile) Size() (int64, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *gatheringFile) Close() error {
	err := f.flush()
	if closeErr := f.File.Close(); err == nil {
		err = closeErr
	}
	return err
}
