// Package pgserver starts a throw-away PostgreSQL from the machine's installed programs, for tests and benchmarks. It
// is no part of the server.
package pgserver

import (
	"bytes"
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
var ErrNotInstalled = errors.New("PostgreSQL is not installed: run `apt-get install postgresql`, or `make test`, which does")

// Server is a running PostgreSQL that listens on a Unix socket in a directory of its own.
type Server struct {
	dir       string
	program   string
	args      []string
	owner     *syscall.SysProcAttr
	process   *exec.Cmd
	exited    chan error
	databases atomic.Int64
}

// Start makes a fresh cluster and starts it. durable keeps PostgreSQL's own durability; without it, it is faster and
// a crash of the machine could lose data.
func Start(ctx context.Context, durable bool) (_ *Server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pg") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, exited: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	owner, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	making, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	initdb := exec.CommandContext(making, filepath.Join(bin, "initdb"), "--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = owner, dir
	if output, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, output)
	}
	s.program, s.owner = filepath.Join(bin, "postgres"), owner
	s.args = []string{"-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200"}
	if !durable {
		s.args = append(s.args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Restart starts it again on the data that it has, after Crash or Stop, and returns when it takes connections.
func (s *Server) Restart(ctx context.Context) error {
	process := exec.CommandContext(context.WithoutCancel(ctx), s.program, s.args...)
	process.SysProcAttr, process.Dir = s.owner, s.dir
	var output bytes.Buffer
	process.Stderr = &output
	if err := process.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.process = process
	go func() { s.exited <- process.Wait() }() // Close and Crash wait for it
	if err := s.waitReady(ctx); err != nil {
		return fmt.Errorf("%w: %s", err, output.Bytes())
	}
	return nil
}

// Crash ends it in the middle of what it does, and returns when all of its processes are gone: connections break, and
// what was not committed is lost.
func (s *Server) Crash() error { return s.end(syscall.SIGQUIT) }

// Stop ends it in order, as `pg_ctl stop` does: it tells its clients, and breaks off what they do.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

func (s *Server) end(signal syscall.Signal) error {
	if err := s.process.Process.Signal(signal); err != nil {
		return fmt.Errorf("end postgres: %w", err)
	}
	select {
	case <-s.exited: // an immediate shutdown ends as an error would, or not, and either is meant
		s.process = nil
		return nil
	case <-time.After(patience):
		return errors.New("end postgres: it does not")
	}
}

// patience bounds how long PostgreSQL may take to start, and to end. Nothing takes that long, not even on a busy
// machine.
const patience = 2 * time.Minute

// programs returns the folder of the newest installed version.
func programs() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
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

func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-poll.C:
		case exit := <-s.exited:
			s.exited <- exit
			return fmt.Errorf("postgres ended: %w", exit)
		case <-ctx.Done():
			return fmt.Errorf("postgres did not start: %w", err)
		}
	}
}

// URL returns the address of one of its databases.
func (s *Server) URL(database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(s.dir)
}

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
	var failures []error
	if s.process != nil {
		if err := s.process.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			failures = append(failures, err)
		}
		select {
		case <-s.exited:
		case <-time.After(20 * time.Second):
			failures = append(failures, s.process.Process.Kill())
			<-s.exited
		}
	}
	return errors.Join(append(failures, os.RemoveAll(s.dir))...)
}
