// Package server assembles the product: a Config goes in, a running server comes out. It owns what lives as long as
// the process: the data directory and its lock, keys and certificates on disk, listeners, the background work and the
// order in which everything stops. It decides nothing about users.
package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/gateway"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// Config says how to run a server. DataDir is required; every other zero value works.
type Config struct {
	// DataDir holds the database file, the master key, credentials.json and the certificate. It is made when missing.
	DataDir string
	// HTTP and HTTPS are the addresses to listen on: host:port, unix:PATH for a Unix socket, or systemd for one of Passed;
	// systemd:NAME for one of another name than the option's. Empty means not to listen.
	HTTP, HTTPS string
	// Debug is the address that serves pprof. Empty means not to. It must not be reachable from outside.
	Debug string
	// SocketMode are the permissions of Unix sockets. Zero means 0660: for the owner and the group.
	SocketMode fs.FileMode
	// Passed are the sockets that systemd has opened.
	Passed []PassedSocket
	// TrustedProxies are the networks, such as 10.0.0.0/8, and the addresses of the proxies whose word about their clients
	// is believed; unix stands for everybody who connects through a Unix socket. Empty means that nobody is believed.
	TrustedProxies []string
	// Database is a postgres:// URL. Empty means SQLite in DataDir.
	Database string
	// DatabaseDirect is the URL of the same database without the pooler that Database leads through. It may be empty, but
	// not with a pooler that keeps no sessions.
	DatabaseDirect string
	// DatabaseWait is how long a start waits for a PostgreSQL that does not answer. Zero means not at all.
	DatabaseWait time.Duration
	// MasterKey holds master keys in base64, the current one first. Empty means the file master.key in DataDir.
	MasterKey string
	// TLSCert and TLSKey are the files of the certificate to serve. Empty means a self-signed one in DataDir/tls.
	TLSCert, TLSKey string
	// ACMEDomains are the host names to get certificates for from a certificate authority, whose terms are accepted with
	// that. Empty means not to.
	ACMEDomains []string
	// ACMEEmail is where the authority writes to. It may be empty.
	ACMEEmail string
	// ACMEDirectory is the URL of the authority's directory. Empty means that of Let's Encrypt.
	ACMEDirectory string
	// PublicHost is the host[:port] that clients are told to use. Empty means the one they called.
	PublicHost string

	Limits     directory.Limits
	RateLimits httpapi.RateLimits
	// BodyLimit is the largest request body in bytes. Zero means 10 KiB.
	BodyLimit int64
	// HeaderTimeout bounds reading the headers of a request. Zero means 10 s.
	HeaderTimeout time.Duration
	// RequestTimeout bounds a request from arrival to answer. Zero means 15 s.
	RequestTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Zero means 2 minutes.
	IdleTimeout time.Duration
	// ShutdownTimeout bounds the wait for requests in flight when the server stops. Zero means 20 s.
	ShutdownTimeout time.Duration

	// Grace is how long a device may be away whose connection broke before its user counts as offline. Zero means 8 s.
	Grace time.Duration
	// ReturnWithin is how long those who were online when the server last ran may take to come back before they are
	// announced as offline. Zero means 15 s.
	ReturnWithin time.Duration
	// AuthTimeout is how long a socket may take to authenticate. Zero means 10 s.
	AuthTimeout time.Duration
	// MaxWaiting is how many frames may wait for a socket's client that does not read. Zero means 4096.
	MaxWaiting int
	// SessionsPerUser is how many sockets a user may have at a time. Zero means 100.
	SessionsPerUser int
	// WatchedPerUser is how many users the sockets of one user may watch by their uids, counted for each socket, and
	// WatchedPerApp the same for all sockets of an app. Zero means 50,000 and 5,000,000.
	WatchedPerUser, WatchedPerApp int

	// FirstApp is the app to make when the database has none. Zero fields are filled in.
	FirstApp directory.NewApp
	// Version and Commit say what is running, for the log and /metrics. They may be empty.
	Version, Commit string
	// Logger gets the log. Nil discards it.
	Logger *slog.Logger
	// LogLost returns how many records of the log could not be written so far, for /metrics. Nil means that nobody counts.
	LogLost func() int64
	// Now is the clock that the data is stamped with. Nil means time.Now.
	Now func() time.Time
	// MachineClock is the clock that must be the database's. Nil means time.Now.
	MachineClock func() time.Time
	// Random is the source of keys, tokens and ids. Nil means crypto/rand.
	Random io.Reader
}

// OrDefault returns the configuration with what a zero value means in its place.
func (c Config) OrDefault() Config {
	for _, duration := range []struct {
		field   *time.Duration
		standby time.Duration
	}{
		{&c.HeaderTimeout, 10 * time.Second},
		{&c.RequestTimeout, httpapi.DefaultRequestTimeout},
		{&c.IdleTimeout, 2 * time.Minute},
		{&c.ShutdownTimeout, 20 * time.Second},
		{&c.Grace, presence.DefaultGrace},
		{&c.ReturnWithin, presence.DefaultReturnWithin},
		{&c.AuthTimeout, gateway.DefaultAuthTimeout},
	} {
		if *duration.field <= 0 {
			*duration.field = duration.standby
		}
	}
	for _, count := range []struct {
		field   *int
		standby int
	}{
		{&c.MaxWaiting, gateway.DefaultMaxWaiting},
		{&c.SessionsPerUser, presence.DefaultSessionsPerUser},
		{&c.WatchedPerUser, presence.DefaultWatchedPerUser},
		{&c.WatchedPerApp, presence.DefaultWatchedPerApp},
	} {
		if *count.field <= 0 {
			*count.field = count.standby
		}
	}
	if c.SocketMode == 0 {
		c.SocketMode = 0o660
	}
	if c.BodyLimit <= 0 {
		c.BodyLimit = httpapi.DefaultBodyLimit
	}
	c.Limits, c.RateLimits = c.Limits.OrDefault(), c.RateLimits.OrDefault()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MachineClock == nil {
		c.MachineClock = time.Now
	}
	if c.FirstApp.Name == "" {
		c.FirstApp.Name = "My app"
	}
	return c
}

// Check tells what of the configuration makes no sense, whatever there is on the machine; nil when all of it does. The
// options are named as the command does.
func (c Config) Check() error {
	if c.HTTP == "" && c.HTTPS == "" {
		return errors.New("give --http or --https an address: there is nothing to listen on")
	}
	for _, listening := range c.listening() {
		if _, err := parseAddress(listening.option, listening.address); err != nil {
			return err
		}
	}
	if _, err := httpapi.ParseProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("--trusted-proxies: %w", err)
	}
	if c.Database != "" {
		if err := sqlstore.CheckPostgresURL(c.Database); err != nil {
			return fmt.Errorf("--database: %w", err)
		}
	}
	if c.DatabaseDirect != "" {
		if c.Database == "" {
			return errors.New("--database-direct is given without --database: it is for a database behind a pooler")
		}
		if err := sqlstore.CheckPostgresURL(c.DatabaseDirect); err != nil {
			return fmt.Errorf("--database-direct: %w", err)
		}
	}
	if c.MasterKey != "" {
		if _, err := secret.ParseMasterKeys(c.MasterKey); err != nil {
			return fmt.Errorf("--master-key: %w", err)
		}
	}
	switch {
	case c.TLSCert != "" && c.TLSKey != "" && c.HTTPS == "":
		return errors.New("--tls-cert and --tls-key are given, and HTTPS is off: give --https an address, or leave them out")
	case c.TLSCert != "" && c.TLSKey == "":
		return errors.New("--tls-cert is given without --tls-key: give both, or none for a self-signed certificate")
	case c.TLSCert == "" && c.TLSKey != "":
		return errors.New("--tls-key is given without --tls-cert: give both, or none for a self-signed certificate")
	case len(c.ACMEDomains) > 0 && c.TLSCert != "":
		return errors.New("--acme-domain and --tls-cert are given: certificates come from one of them")
	case len(c.ACMEDomains) > 0 && c.HTTPS == "":
		return errors.New("--acme-domain is given, and HTTPS is off: give --https an address")
	case len(c.ACMEDomains) == 0 && (c.ACMEEmail != "" || c.ACMEDirectory != ""):
		return errors.New("--acme-email and --acme-directory need --acme-domain")
	}
	for _, domain := range c.ACMEDomains {
		if !strings.Contains(strings.Trim(domain, "."), ".") || strings.ContainsAny(domain, "*:/ ") ||
			net.ParseIP(domain) != nil {
			return fmt.Errorf("--acme-domain: %q is not the name of a host, such as chat.example.com", domain)
		}
	}
	return nil
}

// postgresOptions are how the database on PostgreSQL is opened.
func (c Config) postgresOptions() []sqlstore.PostgresOption {
	return []sqlstore.PostgresOption{sqlstore.WithDirect(c.DatabaseDirect), sqlstore.WithClock(c.MachineClock)}
}

// listening is an option that is an address to listen on.
type listening struct{ option, address string }

// listening returns the addresses that are to be listened on.
func (c Config) listening() (all []listening) {
	for _, one := range []listening{{"http", c.HTTP}, {"https", c.HTTPS}, {"debug", c.Debug}} {
		if one.address != "" {
			all = append(all, one)
		}
	}
	return all
}
