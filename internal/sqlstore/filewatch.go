package sqlstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ncruces/go-sqlite3/vfs"
)

// fileWatch notices when the files that SQLite has open are not the ones any more that the next start would open:
// whatever is written to them goes with the process. SQLite itself never looks.
type fileWatch struct {
	database, log watchedFile
}

// watchedFile is a file as it was when it was opened.
type watchedFile struct {
	path          string
	device, inode uint64
}

// watchFile begins to watch an open file, unless it is on a file system that numbers the same file differently each
// time.
func watchFile(path string, file vfs.File) (watchedFile, error) {
	w := watchedFile{path: path}
	for wrapped, ok := file.(vfs.FileUnwrap); ok; wrapped, ok = file.(vfs.FileUnwrap) {
		file = wrapped.Unwrap()
	}
	open, ok := file.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return w, fmt.Errorf("watch %s: it is no file", path)
	}
	info, err := open.Stat()
	if err != nil {
		return w, fmt.Errorf("watch %s: %w", path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return w, fmt.Errorf("watch %s: it has no inode", path)
	}
	w.device, w.inode = uint64(stat.Dev), stat.Ino //nolint:unconvert // the type of a device differs between systems
	if w.check() != "" {
		w.path = ""
	}
	return w, nil
}

// check tells what has become of the file, in words, and nothing when it is in its place or nobody knows.
func (w watchedFile) check() (became string) {
	if w.path == "" {
		return ""
	}
	var now syscall.Stat_t
	err := syscall.Stat(w.path, &now)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return "was removed"
	case err != nil: // that it cannot be looked at says nothing about the file
		return ""
	case uint64(now.Dev) != w.device || now.Ino != w.inode: //nolint:unconvert // as above
		return "was replaced by another file"
	}
	return ""
}

// LostFilesError says that files of the database are not those any more that the server has open. Nothing is written
// until they are in their place again.
type LostFilesError struct {
	// File is the name of the file, and Became what has become of it, in words.
	File, Became string
	// Advice is what the operator has to do.
	Advice string
}

func (e *LostFilesError) Error() string {
	return fmt.Sprintf("%s %s while the server ran: %s", e.File, e.Became, e.Advice)
}

const (
	adviceDatabaseLost = "nothing is written any more; put the file that was there back into its place, or stop the server and restore a backup"
	becameDamaged      = "was damaged"
	adviceLogLost      = "nothing is written any more; restart the server with SIGTERM, not with SIGKILL: it saves in the database what the log held"
)

// check tells what has become of the files, nil when they are in their place and the log begins as it should.
func (w *fileWatch) check(log *logFile) *LostFilesError {
	if lost := w.place(); lost != nil {
		return lost
	}
	if !log.headerStands() {
		return &LostFilesError{File: w.log.path, Became: becameDamaged, Advice: adviceLogLost}
	}
	return nil
}

// place tells which of the files is not in its place.
func (w *fileWatch) place() *LostFilesError {
	if became := w.database.check(); became != "" {
		return &LostFilesError{File: w.database.path, Became: became, Advice: adviceDatabaseLost}
	}
	if became := w.log.check(); became != "" {
		return &LostFilesError{File: w.log.path, Became: became, Advice: adviceLogLost}
	}
	return nil
}

// ErrLogDamaged means that a write-ahead log cannot be read. SQLite would take it for an empty one, and what was
// acknowledged last would be gone.
var ErrLogDamaged = errors.New("its beginning is damaged, and with it all would be lost that was written last")

// checkLogOf looks at the write-ahead log beside a database file that nobody has open, or that a server is using.
func checkLogOf(path string) error {
	path += "-wal"
	for tries := 3; ; tries-- {
		sound, err := logIsSound(path)
		if err != nil || sound {
			return err
		}
		if tries == 0 {
			return fmt.Errorf("%s: %w", path, ErrLogDamaged)
		}
		<-time.After(logRewriteTakes) // a server may be about to write it
	}
}

// logRewriteTakes is more than it takes a server to write the 32 bytes that a log begins with.
const logRewriteTakes = 5 * time.Millisecond

// logIsSound reports whether a log begins as one should. One that holds no page, or is not there, is.
func logIsSound(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() <= logHeader {
		return true, err
	}
	header := make([]byte, logHeader)
	if _, err := io.ReadFull(file, header); err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return isLogHeader(header), nil
}
