package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// encodeIt is what to do about a URL that cannot be read. Nothing of such a URL is repeated: any part may be the
// password's.
const encodeIt = "in the user, the password and the parameters write the characters % @ : / ? # & = " +
	"as %25 %40 %3A %2F %3F %23 %26 %3D"

// CheckPostgresURL tells in words why a text is not the address of a PostgreSQL database; nil when it is one. Nothing
// of a password is in the error.
func CheckPostgresURL(text string) error {
	_, err := parsePostgresURL(text)
	return err
}

func parsePostgresURL(text string) (*pgxpool.Config, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New(
			"it is not the URL of a PostgreSQL database: give it one such as postgres://user:password@host/database",
		)
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
	if err := wantPrimary(config.ConnConfig, text); err != nil {
		return nil, err
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = answersWithin
		if len(hostsOf(config.ConnConfig)) > 1 {
			config.ConnConfig.ConnectTimeout = oneAnswersWithin
		}
	}
	if config.ConnConfig.RuntimeParams[applicationName] == "" {
		config.ConnConfig.RuntimeParams[applicationName] = "rollcall"
	}
	return config, nil
}

// How long PostgreSQL may take to answer, when the URL does not say, and how long each of several servers: the next one
// is tried while there is time. A pooler keeps connections waiting whose PostgreSQL is away.
const (
	answersWithin    = 5 * time.Second
	oneAnswersWithin = 2 * time.Second
)

// wantPrimary has connections lead to the one of several servers that can be written to.
func wantPrimary(config *pgx.ConnConfig, text string) error {
	wanted := os.Getenv("PGTARGETSESSIONATTRS")
	if parsed, err := url.Parse(text); err == nil && parsed.Query().Has("target_session_attrs") {
		wanted = parsed.Query().Get("target_session_attrs")
	}
	switch wanted {
	case "", "any", "read-write", "primary":
	default:
		return fmt.Errorf("target_session_attrs=%s leads to a server that can only be read: give read-write", wanted)
	}
	if len(hostsOf(config)) > 1 {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return nil
}

// connectPostgres connects to the database that url names, to look at it. Nothing of that stays behind in a pooler.
func connectPostgres(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := parsePostgresURL(url)
	if err != nil {
		return nil, fmt.Errorf("read database address: %w", err)
	}
	conn, settings, err := connectPlainly(ctx, safeConfig(config.ConnConfig))
	if err != nil || len(settings) == 0 {
		return conn, err
	}
	_, err = conn.Exec(ctx, `BEGIN`) // which ends with the connection
	if err == nil {
		err = setNow(ctx, conn, settings, true)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
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
	where, final := placeOf(config), false
	var passing error
	var said []string
	for _, failure := range failuresOf(err) {
		why, mayPass := explainFailure(failure)
		if mayPass && passing == nil {
			passing = why
		}
		_, isAnswer := errors.AsType[*pgconn.PgError](failure)
		final = final || isAnswer && !mayPass
		if text := why.Error(); !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	all := errors.New(strings.Join(said, "; "))
	switch {
	case final:
		return fmt.Errorf("connect to database: PostgreSQL at %s says: %w", where, all)
	case passing == nil:
		return fmt.Errorf("connect to database: %w", err)
	case len(hostsOf(config)) > 1:
		return &UnreachableError{where, all}
	}
	return &UnreachableError{where, passing}
}

// failuresOf returns what became of each attempt to connect.
func failuresOf(err error) []error {
	if connecting, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if attempts, ok := connecting.Unwrap().(interface{ Unwrap() []error }); ok {
			return attempts.Unwrap()
		}
	}
	return []error{err}
}

// poolersSay is in what PgBouncer answers while PostgreSQL, or itself, is away.
var poolersSay = []string{
	"server_login_retry", "cannot connect to server", "server login has been failing", "server login failed",
	"shutting down", "query_wait_timeout", "server conn crashed",
}

// explainFailure says in words why an attempt to connect has failed, and whether it may succeed when it is made again.
func explainFailure(err error) (why error, mayPass bool) {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		said := fmt.Errorf("%s (SQLSTATE %s)", refused.Message, refused.Code)
		if refused.Code == "42704" { // an unknown parameter, whose name may be the end of a password with an & in it
			said = errors.New("there is no such parameter as one of the URL: " + encodeIt)
		}
		starts := strings.HasPrefix(refused.Code, "57P") // or stops
		return said, starts || slices.ContainsFunc(poolersSay, func(words string) bool {
			return strings.Contains(refused.Message, words)
		})
	}
	if errors.Is(err, pgconn.ErrReadOnlyConnection) || errors.Is(err, pgconn.ErrStandbyConnection) {
		return errors.New("it can only be read, as a standby is"), true
	}
	for _, wrong := range []error{errReplaced, errOtherServer} {
		if errors.Is(err, wrong) {
			return wrong, true
		}
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return unknown, true
	}
	if dialing, ok := errors.AsType[*net.OpError](err); ok {
		return dialing.Err, true
	}
	return err, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
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
	return strings.TrimSuffix(strings.Join(hostsOf(config), ","), "/") + "/" + config.Database
}

// hostsOf returns the servers that a connection may lead to.
func hostsOf(config *pgx.ConnConfig) (hosts []string) {
	add := func(host string, port uint16) {
		if !strings.HasPrefix(host, "/") {
			host = net.JoinHostPort(host, strconv.Itoa(int(port)))
		}
		if !slices.Contains(hosts, host) { // one comes again when it is tried with TLS and without
			hosts = append(hosts, host)
		}
	}
	add(config.Host, config.Port)
	for _, other := range config.Fallbacks {
		add(other.Host, other.Port)
	}
	return hosts
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
