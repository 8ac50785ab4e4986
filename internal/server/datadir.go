package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Names of the files in a data directory.
const (
	lockFile        = "rollcall.lock"
	DatabaseFile    = "rollcall.db"
	MasterKeyFile   = "master.key"
	CredentialsFile = "credentials.json"
	unfinishedFile  = ".credentials.json.unfinished"
	TombstonesFile  = "tombstones.jsonl"
	backupNoteFile  = "last-backup.json"
	tlsFolder       = "tls"
)

// dataDir is a data directory that this process holds.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory when it is missing, and takes it for this process. One that another process holds
// is refused with the pid of that process.
func openDataDir(path string) (*dataDir, error) {
	if path == "" {
		return nil, errors.New("no data directory given")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take data directory: %w; check that it is writable", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(lock.Name()) // only words are missing from a message that says enough
		defer lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf(
				"data directory %s is in use by process %s; stop it first, or use another --data",
				path, strings.TrimSpace(string(pid)),
			)
		}
		return nil, fmt.Errorf("take data directory: %w", err)
	}
	if err := lock.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("take data directory: %w", err), lock.Close())
	}
	if _, err := fmt.Fprintf(lock, "%d\n", os.Getpid()); err != nil {
		return nil, errors.Join(fmt.Errorf("take data directory: %w", err), lock.Close())
	}
	return &dataDir{path: path, lock: lock}, nil
}

// isHeld reports whether a process holds the data directory at path.
func isHeld(path string) bool {
	lock, err := os.Open(filepath.Join(path, lockFile))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// release gives the directory back. The lock file stays: removing it could take it from under the next process.
func (d *dataDir) release() error { return d.lock.Close() }
