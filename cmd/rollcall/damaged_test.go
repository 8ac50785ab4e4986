package main

import (
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
)

// TestDamagedDatabase damages the database of a server that is stopped: the next start and doctor say so, name the file
// and tell what to do.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, path string){
		"cut off": func(t *testing.T, path string) {
			t.Helper()
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.Truncate(path, info.Size()/2))
		},
		"cut off in its header": func(t *testing.T, path string) { t.Helper(); must(t, os.Truncate(path, 50)) },
		"overwritten": func(t *testing.T, path string) {
			t.Helper()
			overwrite(t, path, 0)
		},
		"a page that every start reads": func(t *testing.T, path string) {
			t.Helper()
			overwrite(t, path, pageOf(t, path, "api_keys"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startServer(t, "--data", filepath.Join(t.TempDir(), "data"))
			p.expectEnd(t)
			path := filepath.Join(p.data, server.DatabaseFile)
			damage(t, path)
			told := path + " is damaged: "
			expectDiagnosis(t, p, told)
			expectDiagnosis(t, p, "-> stop the server, keep a copy of the file, and restore a backup")
			expectNoStart(t, told+"stop the server, keep a copy of the file, and restore a backup", "--data", p.data)
		})
	}
}

// TestDamageThatTurnsUp damages what a start does not read: the server says so to whom it cannot answer, and then in
// /readyz.
func TestDamageThatTurnsUp(t *testing.T) {
	t.Parallel()
	p := startServer(t, "--data", filepath.Join(t.TempDir(), "data"))
	s := newSubject(t, p)
	p.expectEnd(t)
	path := filepath.Join(p.data, server.DatabaseFile)
	overwrite(t, path, pageOf(t, path, "blocks"))
	p = startServer(t, "--data", p.data)
	s.reconnect(p)
	_, err := s.client.Blocks.Block(t.Context(), "first", "second")
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeOperationFailed ||
		!strings.HasPrefix(refused.Message, "The server's database is damaged.") {
		t.Errorf("want to be told that the database is damaged, got %v", err)
	}
	want := "rollcall.db is damaged: stop the server, keep a copy of the file, and restore a backup"
	if says := unready(t, p); !strings.Contains(says, want) {
		t.Errorf("/readyz says %q, want %q", says, want)
	}
	expectDiagnosis(t, p, path+" is damaged: ")
}

// pageOf returns where the first page of a table begins.
func pageOf(t *testing.T, path, table string) int64 {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path)
	must(t, err)
	var page, size int64
	must(t, db.QueryRow(`SELECT rootpage FROM sqlite_schema WHERE name = ?`, table).Scan(&page))
	must(t, db.QueryRow(`PRAGMA page_size`).Scan(&size))
	must(t, db.Close())
	return (page - 1) * size
}

// overwrite puts something else in the place of what stands at an offset of a file.
func overwrite(t *testing.T, path string, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = io.Copy(io.NewOffsetWriter(file, at), strings.NewReader(strings.Repeat("not a page of a database ", 100)))
	must(t, errors.Join(err, file.Close()))
}
