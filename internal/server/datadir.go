package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rollcall/rollcall/internal/secret"
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
	addressesFile   = "server.json"
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
		defer lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf(
				"data directory %s is in use by process %s; stop it first, or use another --data",
				path, holderOf(path),
			)
		}
		return nil, fmt.Errorf("take data directory: %w", err)
	}
	if err := os.Remove(filepath.Join(path, addressesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("take data directory: %w", err), lock.Close())
	}
	if err := lock.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("take data directory: %w", err), lock.Close())
	}
	if _, err := fmt.Fprintf(lock, "%d\n", os.Getpid()); err != nil {
		return nil, errors.Join(fmt.Errorf("take data directory: %w", err), lock.Close())
	}
	return &dataDir{path: path, lock: lock}, nil
}

// holderOf returns the id of the process that holds the data directory at path, for messages; empty when it cannot be
// read.
func holderOf(path string) string {
	pid, _ := os.ReadFile(filepath.Join(path, lockFile)) // only words are missing from a message that says enough
	return strings.TrimSpace(string(pid))
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

// addresses is the content of the file that says where the server listens that holds the directory.
type addresses struct {
	URLs []string `json:"urls"`
}

// tellAddresses writes where this process listens, for the commands that are given the data directory.
func (d *dataDir) tellAddresses(urls []string) error {
	text, err := json.MarshalIndent(addresses{urls}, "", "  ")
	if err == nil {
		err = secret.WritePrivate(d.file(addressesFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write where the server listens: %w", err)
	}
	return nil
}

// FindServer returns the URLs at which the server is reached that uses a data directory, the best first, such as
// unix:/run/rollcall/rollcall.sock or http://127.0.0.1:8080. There is none when no server uses it.
func FindServer(dataDir string) []string {
	if !isHeld(dataDir) {
		return nil
	}
	var told addresses
	text, err := os.ReadFile(filepath.Join(dataDir, addressesFile))
	if err != nil || json.Unmarshal(text, &told) != nil {
		return nil
	}
	return told.URLs
}

// release gives the directory back. The lock file stays: removing it could take it from under the next process.
func (d *dataDir) release() error {
	_ = os.Remove(d.file(addressesFile)) // which nobody believes without the lock
	return d.lock.Close()
}
