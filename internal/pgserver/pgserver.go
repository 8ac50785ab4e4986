// Package pgserver starts a throw-away PostgreSQL from the machine's installed programs, for tests and benchmarks. It
// is no part of the server.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNotInstalled means that this machine has no PostgreSQL programs.
var ErrNotInstalled = errors.New(
	"PostgreSQL is not installed: run `apt-get install postgresql`, or `make test`, which does",
)

// Server is a running PostgreSQL that listens on a Unix socket in a directory of its own.
type Server struct {
	process   process
	bin       string // where PostgreSQL's programs are
	durable   bool
	databases atomic.Int64
}

// Start makes a fresh cluster and starts it. durable keeps PostgreSQL's own durability; without it, it is faster and
// a crash of the machine could lose data.
func Start(ctx context.Context, durable bool) (_ *Server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	return newServer(ctx, bin, durable, func(ctx context.Context, data string) *exec.Cmd {
		return exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "postgres",
			"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	})
}

// newServer starts a server on data that a program makes.
func newServer(
	ctx context.Context, bin string, durable bool, filling func(ctx context.Context, data string) *exec.Cmd,
	settings ...string,
) (_ *Server, err error) {
	dir, owner, err := newFolder()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	s := &Server{bin: bin, durable: durable, process: process{
		program: filepath.Join(bin, "postgres"), dir: dir, owner: owner,
		args: []string{"-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200"},
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if !durable {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	for _, setting := range settings {
		s.process.args = append(s.process.args, "-c", setting)
	}
	making, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	program := filling(making, data)
	program.SysProcAttr, program.Dir = owner, dir
	if output, err := program.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program.Path), err, output)
	}
	return s, s.Restart(ctx)
}

// Restart starts it again on the data that it has, after Crash, Kill or Stop, and returns when it takes connections.
func (s *Server) Restart(ctx context.Context) error {
	return s.process.start(ctx, func(ctx context.Context) error { return connects(ctx, s.URL("postgres")) })
}

// Crash ends it in the middle of what it does, and returns when all of its processes are gone: connections break, and
// what was not committed is lost.
func (s *Server) Crash() error { return s.process.end(syscall.SIGQUIT) }

// Kill is Crash without a word to anybody, as when the machine fails.
func (s *Server) Kill() error { return s.process.end(syscall.SIGKILL) }

// Stop ends it in order, as `pg_ctl stop` does: it tells its clients, and breaks off what they do.
func (s *Server) Stop() error { return s.process.end(syscall.SIGINT) }

// patience bounds how long PostgreSQL may take to start, and to end. Nothing takes that long, not even on a busy
// machine.
const patience = 2 * time.Minute

// programs returns the folder of the newest installed version.
func programs() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil { // where a link is, the others need not be
			return "", err
		}
		return filepath.Dir(path), nil
	}
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(folders) == 0 {
		return "", ErrNotInstalled
	}
	slices.Sort(folders)
	return filepath.Dir(folders[len(folders)-1]), nil
}

// unprivileged gives dir to another user when this is root, because PostgreSQL refuses to run as root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	attributes := endsWithParent()
	if os.Getuid() != 0 {
		return attributes, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("find a user to run postgres as: %w", err)
		}
	}
	uid, errUID := strconv.ParseUint(account.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(account.Gid, 10, 32)
	if err := errors.Join(errUID, errGID, os.Chown(dir, int(uid), int(gid)), os.Chmod(dir, 0o755)); err != nil {
		return nil, err
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, nil
}

// newFolder makes a folder for the files of a server, and tells whom to run it as.
func newFolder() (dir string, owner *syscall.SysProcAttr, err error) {
	if dir, err = os.MkdirTemp("", "pg"); err != nil { // short: a socket's path has at most 107 bytes
		return "", nil, err
	}
	if owner, err = unprivileged(dir); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, owner, nil
}

// connects tells why nobody can connect to a database.
func connects(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// URL returns the address of one of its databases.
func (s *Server) URL(database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(s.process.dir)
}

// Socket returns where it listens.
func (s *Server) Socket() string { return filepath.Join(s.process.dir, ".s.PGSQL.5432") }

// NewDatabase makes an empty database and returns its address.
func (s *Server) NewDatabase(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("db%d", s.databases.Add(1))
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0 STRATEGY file_copy")
	return s.URL(name), errors.Join(err, conn.Close(ctx))
}

// Close stops PostgreSQL and removes its files.
func (s *Server) Close() error {
	return errors.Join(s.process.close(syscall.SIGINT), os.RemoveAll(s.process.dir))
}
