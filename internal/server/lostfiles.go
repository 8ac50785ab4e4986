package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lostUnderServer tells which of its files a running server has no more, in words; nothing when they are there. It is
// to be asked before such a database is opened: whoever closes another file by its name takes the log with it.
func lostUnderServer(config Config) string {
	if config.Database != "" || !isHeld(config.DataDir) {
		return ""
	}
	path := filepath.Join(config.DataDir, DatabaseFile)
	open := openFilesOf(config.DataDir)
	for _, file := range []string{path, path + "-wal"} {
		info, err := os.Stat(file)
		switch {
		case !isHeld(config.DataDir): // it has stopped meanwhile
			return ""
		case errors.Is(err, fs.ErrNotExist):
			return file + " was removed while the server runs, which writes nothing any more"
		case err == nil && len(open) > 0 &&
			!slices.ContainsFunc(open, func(other fs.FileInfo) bool { return os.SameFile(info, other) }):
			return file + " is not the file that the running server has open, which writes nothing any more"
		}
	}
	return ""
}

// openFilesOf returns the files that the server which holds a data directory has open; none when that cannot be known.
func openFilesOf(dataDir string) (files []fs.FileInfo) {
	lock := filepath.Join(dataDir, lockFile)
	pid, err := os.ReadFile(lock)
	if err != nil {
		return nil
	}
	held, err := os.Stat(lock)
	if err != nil {
		return nil
	}
	folder := filepath.Join("/proc", strings.TrimSpace(string(pid)), "fd")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	isServer := false
	for _, entry := range entries {
		if info, err := os.Stat(filepath.Join(folder, entry.Name())); err == nil {
			files = append(files, info)
			isServer = isServer || os.SameFile(info, held)
		}
	}
	if !isServer { // in a container it has another number
		return nil
	}
	return files
}
