package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrNoPgBouncer means that this machine has no PgBouncer.
var ErrNoPgBouncer = errors.New(
	"PgBouncer is not installed: run `apt-get install pgbouncer`, or `make test`, which does",
)

// poolerPort is in the name of PgBouncer's socket.
const poolerPort = 6432

// PgBouncer is a running PgBouncer in front of a server, on a Unix socket in a directory of its own.
type PgBouncer struct{ process process }

// PgBouncer starts one in front of the server. The settings are lines of its configuration, such as
// "pool_mode = session".
func (s *Server) PgBouncer(ctx context.Context, settings ...string) (_ *PgBouncer, err error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; !isThere(program) { // which is not on everybody's PATH
			return nil, ErrNoPgBouncer
		}
	}
	dir, owner, err := newFolder()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "pgbouncer.ini")
	p := &PgBouncer{process{program: program, args: []string{config}, dir: dir, owner: owner}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	users := filepath.Join(dir, "users.txt")
	lines := append([]string{
		"[databases]", "* = host=" + s.process.dir,
		"[pgbouncer]", "unix_socket_dir = " + dir, fmt.Sprint("listen_port = ", poolerPort), "auth_type = trust",
		"auth_file = " + users, "server_login_retry = 1",
	}, settings...)
	err = errors.Join(
		os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o644),
		os.WriteFile(users, []byte(`"postgres" ""`+"\n"), 0o644),
	)
	if err != nil {
		return nil, err
	}
	return p, p.Restart(ctx)
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Restart starts it again after Kill, and returns when it takes connections.
func (p *PgBouncer) Restart(ctx context.Context) error {
	return p.process.start(ctx, func(ctx context.Context) error { return connects(ctx, p.URL("postgres")) })
}

// Kill ends it in the middle of what it does: all connections break.
func (p *PgBouncer) Kill() error { return p.process.end(syscall.SIGKILL) }

// URL returns the address of one of the server's databases, through it.
func (p *PgBouncer) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%d", database, url.QueryEscape(p.process.dir), poolerPort)
}

// Close stops it and removes its files.
func (p *PgBouncer) Close() error {
	return errors.Join(p.process.close(syscall.SIGTERM), os.RemoveAll(p.process.dir))
}
