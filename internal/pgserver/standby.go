package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is what a standby calls itself.
const standbyName = "standby"

// Standby makes a copy of the server that follows it, and returns when the server answers no commit any more that the
// copy does not have.
func (s *Server) Standby(ctx context.Context) (standby *Server, err error) {
	standby, err = newServer(ctx, s.bin, s.durable, func(ctx context.Context, data string) *exec.Cmd {
		return exec.CommandContext(ctx, filepath.Join(s.bin, "pg_basebackup"), "--host", s.process.dir,
			"--username", "postgres", "--pgdata", data, "--checkpoint", "fast", "--write-recovery-conf", "--no-sync")
	}, "cluster_name="+standbyName)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, standby.Close())
		}
	}()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, statement := range []string{
		`ALTER SYSTEM SET synchronous_standby_names = '` + standbyName + `'`, `SELECT pg_reload_conf()`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	return standby, awaitSynchronous(ctx, conn)
}

func awaitSynchronous(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	const question = `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')`
	for {
		var synchronous bool
		err := conn.QueryRow(ctx, question).Scan(&synchronous)
		if err != nil || synchronous {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return errors.New("the standby does not follow")
		}
	}
}

// Promote makes a standby a server of its own, and returns when it can be written to.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	var promoted bool
	err = conn.QueryRow(ctx, `SELECT pg_promote(true, $1)`, int(patience/time.Second)).Scan(&promoted)
	if err == nil && !promoted {
		err = errors.New("the standby is not promoted in time")
	}
	return errors.Join(err, conn.Close(ctx))
}

// URLOfBoth returns the address of a database that is on one of two servers, or on both.
func (s *Server) URLOfBoth(other *Server, database string) string {
	hosts := url.QueryEscape(s.process.dir + "," + other.process.dir)
	return fmt.Sprintf("postgres://postgres@/%s?host=%s&target_session_attrs=read-write", database, hosts)
}
