package main

import (
	"database/sql"
	"errors"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rollcall/rollcall/internal/server"
)

// TestBackupCutOff interrupts a backup, and lets another one fill the disk. Nobody else can look at the copy meanwhile,
// and nothing is left of it.
func TestBackupCutOff(t *testing.T) {
	t.Parallel()
	p := startServer(t, "--data", filepath.Join(t.TempDir(), "data"))
	p.expectEnd(t)
	enlarge(t, filepath.Join(p.data, server.DatabaseFile))
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			if ossignal.Ignored(signal) {
				t.Skip("these tests were started to outlive their terminal, and so is what they start")
			}
			folder := t.TempDir()
			backup := backUp(t, p.data, filepath.Join(folder, "copy.db"))
			var unfinished []string
			poll(t, "there is no unfinished copy", func() bool {
				unfinished, _ = filepath.Glob(filepath.Join(folder, ".copy.db.unfinished-*", "*"))
				return len(unfinished) > 0
			})
			within, err := os.Stat(filepath.Dir(unfinished[0]))
			if err != nil {
				t.Fatalf("the backup was over before it could be interrupted: %v", err)
			}
			if within.Mode().Perm() != 0o700 {
				t.Errorf("the unfinished copy is in a folder with mode %v", within.Mode())
			}
			must(t, backup.cmd.Process.Signal(signal))
			if code, err := backup.wait(t.Context()); err != nil || code != exitFailed {
				t.Errorf("it ended with %d %v", code, err)
			}
			expectEmpty(t, folder)
		})
	}
	t.Run("full disk", func(t *testing.T) {
		t.Parallel()
		d := newDisk(t)
		backup := backUp(t, p.data, filepath.Join(d.path, "copy.db"))
		if code, err := backup.wait(t.Context()); err != nil || code != exitFailed {
			t.Errorf("it ended with %d %v", code, err)
		}
		expectEmpty(t, d.path)
	})
}

// enlarge makes a database so large that a copy takes a while.
func enlarge(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path)
	must(t, err)
	_, err = db.Exec(`CREATE TABLE ballast AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800)
		SELECT i, zeroblob(100000) AS b FROM n`)
	must(t, errors.Join(err, db.Close()))
}

func backUp(t *testing.T, data, target string) *process {
	t.Helper()
	program, err := shipped()
	must(t, err)
	p := &process{cmd: exec.Command(program, "backup", "--data", data, target), exited: make(chan struct{})}
	must(t, p.start())
	t.Cleanup(p.kill)
	return p
}

func expectEmpty(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("%v is left", entries)
	}
}
