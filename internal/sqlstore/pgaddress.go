package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// encodeIt is what to do about a URL that cannot be read. Nothing of such a URL is repeated: any part may be the
// password's.
const encodeIt = "in the user, the password and the parameters write the characters % @ : / ? # & = " +
	"as %25 %40 %3A %2F %3F %23 %26 %3D"

// CheckPostgresURL tells in words why a text is not the address of a PostgreSQL database; nil when it is one. Nothing of
// a password is in the error.
func CheckPostgresURL(text string) error {
	_, err := parsePostgresURL(text)
	return err
}

func parsePostgresURL(text string) (*pgxpool.Config, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New("it is not the URL of a PostgreSQL database: give it one such as postgres://user:password@host/database")
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
		if strings.Contains(rest[end:], "@") {
			return nil, errors.New("the URL has an @ behind its host: " + encodeIt)
		}
	}
	if strings.Count(authority, "@") > 1 { // the host would begin behind the first, with what is left of the password
		return nil, errors.New("the URL has more than one @ before its host: " + encodeIt)
	}
	address, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the URL cannot be read: " + encodeIt)
	}
	for parameter := range strings.SplitSeq(address.RawQuery, "&") {
		if parameter != "" && !strings.Contains(parameter, "=") {
			return nil, errors.New("the URL has a parameter without a value: " + encodeIt)
		}
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		why := err.Error() // which repeats the URL first
		if at := strings.LastIndex(why, "`: "); at >= 0 {
			why = why[at+len("`: "):]
		}
		return nil, fmt.Errorf("the URL cannot be used: %s", why)
	}
	return config, nil
}

// connectPostgres connects to the database that url names.
func connectPostgres(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := parsePostgresURL(url)
	if err != nil {
		return nil, fmt.Errorf("read database address: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	return conn, connectError(config.ConnConfig, err)
}

// UnreachableError means that PostgreSQL does not answer, or not yet: it may when it is asked again.
type UnreachableError struct {
	where string
	err   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("connect to database: PostgreSQL at %s does not answer: %v", e.where, e.err)
}

func (e *UnreachableError) Unwrap() error { return e.err }

// connectError says in words why a connection could not be made.
func connectError(config *pgx.ConnConfig, err error) error {
	if err == nil {
		return nil
	}
	where := placeOf(config)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		said := fmt.Errorf("%s (SQLSTATE %s)", refused.Message, refused.Code)
		if refused.Code == "42704" { // an unknown parameter, whose name may be the end of a password with an & in it
			said = errors.New("there is no such parameter as one of the URL: " + encodeIt)
		}
		if refused.Code == "57P03" { // it starts, or stops
			return &UnreachableError{where, said}
		}
		return fmt.Errorf("connect to database: PostgreSQL at %s says: %w", where, said)
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return &UnreachableError{where, unknown}
	}
	if dialing, ok := errors.AsType[*net.OpError](err); ok {
		return &UnreachableError{where, dialing.Err}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &UnreachableError{where, err}
	}
	return fmt.Errorf("connect to database: %w", err)
}

// PlaceOfURL returns where a database is: host, port and name. It is empty for a URL that cannot be read.
func PlaceOfURL(text string) string {
	config, err := parsePostgresURL(text)
	if err != nil {
		return ""
	}
	return placeOf(config.ConnConfig)
}

func placeOf(config *pgx.ConnConfig) string {
	where := config.Host
	if !strings.HasPrefix(where, "/") {
		where = net.JoinHostPort(where, strconv.Itoa(int(config.Port)))
	}
	return strings.TrimSuffix(where, "/") + "/" + config.Database
}

// mayNotCreate says what to do when PostgreSQL does not let the user make tables.
func mayNotCreate(user string) string {
	return fmt.Sprintf("the PostgreSQL user may not make tables. As the owner of the database, run in it: GRANT USAGE, CREATE ON SCHEMA public TO %s;",
		pgx.Identifier{user}.Sanitize())
}

// explainMigration adds what to do to an error of a migration.
func explainMigration(err error, user string) error {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if ok && (refused.Code == "42501" || refused.Code == "3F000") { // insufficient privilege; no schema to create in
		return fmt.Errorf("%s: %s (SQLSTATE %s)", mayNotCreate(user), refused.Message, refused.Code)
	}
	return err
}
