package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/gateway"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/poller"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/socketjwt"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// sweepEvery is how often what is due is done: purges, erasures, forgetting.
const sweepEvery = 10 * time.Minute

// Server is a running server. Close stops it.
type Server struct {
	// HTTPAddr and HTTPSAddr are the addresses it listens on, empty when it does not.
	HTTPAddr, HTTPSAddr string
	// Credentials are those of the first app; empty when credentials.json was taken away.
	Credentials Credentials
	// FirstStart says that the app was made just now.
	FirstStart bool
	// LostKeys says which keys of Credentials are not accepted any more, and what to do about it; empty for none.
	LostKeys string

	config Config
	dir    *dataDir
	store  *sqlstore.Store
	api    *httpapi.API
	// presence and gateway are stopped in this order: first nobody is told anything any more, then sockets are closed.
	presence *presence.Presence
	// directory is closed before the store.
	directory *directory.Directory
	gateway   *gateway.Gateway
	servers   []*http.Server
	// certificates is nil when HTTPS is off.
	certificates    certificates
	numbers         *serverMetrics
	presenceNumbers *presenceMetrics
	registry        *prometheus.Registry

	stopping   atomic.Bool
	closing    sync.Once
	closed     error // what closing returned
	background sync.WaitGroup
	cancel     context.CancelFunc
	failed     chan error
}

// Start opens the database, listens and serves. When it returns an error, nothing is left running. The server goes on
// until Close is called; ctx bounds the start alone.
func Start(ctx context.Context, config Config) (_ *Server, err error) {
	config = config.OrDefault()
	if err := config.Check(); err != nil {
		return nil, err
	}
	began := time.Now()
	config.Logger.Info("starting", slog.String("version", config.Version), slog.String("commit", config.Commit),
		slog.Int("pid", os.Getpid()), slog.String("data", config.DataDir), slog.String("database", describeDatabase(config)))
	s := &Server{config: config, failed: make(chan error, 4), registry: newRegistry()}
	s.numbers = newServerMetrics(s.registry, config)
	defer func() { //nolint:contextcheck // what was started is stopped also when ctx has ended
		if err != nil && s.store != nil && s.store.Damaged() != nil {
			err = s.store.Damaged()
		}
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.dir, err = openDataDir(config.DataDir); err != nil {
		return nil, err
	}
	if s.store, err = openStore(ctx, config, s.dir); err != nil {
		return nil, err
	}
	if _, isPostgres := s.store.Route(); isPostgres {
		config.Logger.Info("the database is open", s.describeRoute()...)
	}
	s.store.Observe(newDatabaseMetrics(s.registry, s.store))
	keyring, err := loadKeyring(ctx, config, s.dir, s.store)
	if err != nil {
		return nil, err
	}
	tombstones := &tombstoneLog{path: s.dir.file(TombstonesFile)}
	d := directory.New(directory.Config{
		Store: s.store, Secrets: keyring, Limits: config.Limits, Now: config.Now, Random: config.Random,
		Erased: func(tombstone directory.Tombstone) {
			if err := tombstones.append(tombstone); err != nil {
				config.Logger.Error(
					"a permanent deletion is not in the tombstone file; it will be added at the next start", slog.Any("error", err),
				)
			}
		},
		Indexed: func(app directory.AppID, users int, took time.Duration, err error) {
			log := config.Logger.With(slog.String("app", string(app)), slog.Int("users", users), milliseconds("took", took))
			if err != nil {
				log.Error(
					"the users of an app could not be read; lists of it fail, and the next one tries again", slog.Any("error", err),
				)
				return
			}
			log.Info("the users of an app are read, and lists of it are answered from memory")
		},
	})
	s.directory = d
	feed := changefeed.New(d)
	s.store.FollowLease(func() {
		d.Forget()
		config.Logger.Error(
			"the database does not answer, or another server uses it; requests are refused until that is over",
		)
	}, func(err error) {
		config.Logger.Warn("waiting for the database",
			slog.String("database", describeDatabase(config)), slog.Any("error", err))
	}, func() {
		feed.CatchUp()
		config.Logger.Info("the database answers and is this server's alone again", s.describeRoute()...)
		s.warnOfClock()
	})
	s.store.FollowPooler(func(err error) {
		config.Logger.Error("the pooler in --database does not answer; what needs the database is refused until it does",
			slog.String("database", describeDatabase(config)), slog.Any("error", err))
	}, func() { config.Logger.Info("the pooler in --database answers again") })
	if erased, err := tombstones.reconcile(ctx, d); err != nil {
		return nil, err
	} else if erased > 0 {
		config.Logger.Warn(
			"users that had been permanently deleted were back, from an older backup, and are deleted again",
			slog.Int("users", erased),
		)
	}
	if s.Credentials, s.FirstStart, err = makeFirstApp(ctx, s.dir, d, keyring, config.FirstApp); err != nil {
		return nil, err
	}
	lost, err := lostKeysOf(ctx, d, s.dir.file(CredentialsFile), s.Credentials)
	if err != nil {
		return nil, err
	}
	if what := lost.what(); what != "" {
		s.LostKeys = what + "; " + lost.advice()
		config.Logger.Warn("the credentials file holds a key that is not accepted", slog.String("what", s.LostKeys))
	}
	were, err := d.SettlePresence(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.buildEdges(d, feed, keyring, were); err != nil {
		return nil, err
	}
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	if err := s.dir.tellAddresses(s.urls()); err != nil {
		config.Logger.Warn("commands need --url to find this server", slog.Any("error", err))
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.background.Go(func() { s.sweep(running, d) })
	s.background.Go(func() { giveMemoryBack(running) })
	if s.certificates != nil {
		s.background.Go(func() { s.certificates.follow(running) })
	}
	debug.FreeOSMemory() // what the start has used is not used again
	serving := []any{slog.String("http", s.HTTPAddr), slog.String("https", s.HTTPSAddr)}
	if config.Debug != "" {
		serving = append(serving, slog.String("debug", config.Debug))
	}
	config.Logger.Info("serving", append(serving, milliseconds("took", time.Since(began)))...)
	return s, nil
}

// milliseconds is a time for the log, whose name says its unit.
func milliseconds(name string, d time.Duration) slog.Attr {
	return slog.Int64(name+"_ms", d.Milliseconds())
}

// describeDatabase tells which database is used, without the password.
func describeDatabase(config Config) string {
	if config.Database != "" {
		return "PostgreSQL at " + sqlstore.PlaceOfURL(config.Database)
	}
	return "SQLite in " + filepath.Join(config.DataDir, DatabaseFile)
}

// describeRoute tells how PostgreSQL is reached, for the log.
func (s *Server) describeRoute() []any {
	route, _ := s.store.Route()
	return []any{
		slog.String("host", route.Host), slog.String("pooler", string(route.Pooling)),
		slog.Duration("clock_ahead", route.ClockOffset.Round(time.Millisecond)),
	}
}

// warnOfClock says so when the database's clock is another one, which it was not when this server started.
func (s *Server) warnOfClock() {
	if route, _ := s.store.Route(); route.ClockOffset.Abs() > sqlstore.MaxClockOffset {
		s.config.Logger.Warn("the database that is in use now has another clock",
			slog.Any("error", &sqlstore.ClockError{Offset: route.ClockOffset}))
	}
}

func openStore(ctx context.Context, config Config, dir *dataDir) (*sqlstore.Store, error) {
	if config.Database != "" {
		return openPostgres(ctx, config)
	}
	if err := findLostDatabase(config); err != nil {
		return nil, err
	}
	return sqlstore.OpenSQLite(ctx, filepath.Join(dir.path, DatabaseFile))
}

const (
	// askDatabase is how often a PostgreSQL is asked again that does not answer when the server starts, and tellWaiting
	// how often the log says so.
	askDatabase = 500 * time.Millisecond
	tellWaiting = 10 * time.Second
)

// openPostgres opens the database, and waits for one that does not answer for as long as the configuration says.
func openPostgres(ctx context.Context, config Config) (*sqlstore.Store, error) {
	began, told := time.Now(), time.Time{}
	for {
		store, err := sqlstore.OpenPostgres(ctx, config.Database, config.postgresOptions()...)
		if _, unreachable := errors.AsType[*sqlstore.UnreachableError](err); !unreachable {
			return store, err
		}
		left := config.DatabaseWait - time.Since(began)
		if left <= 0 || ctx.Err() != nil {
			return nil, fmt.Errorf(
				"%w; check that it runs and that --database is right (--database-wait makes a start wait for it)", err)
		}
		if time.Since(told) >= tellWaiting {
			told = time.Now()
			config.Logger.Warn("waiting for the database", slog.String("database", describeDatabase(config)),
				slog.Any("error", err), milliseconds("for_at_most", left))
		}
		select {
		case <-time.After(min(left, askDatabase)):
		case <-ctx.Done():
		}
	}
}

// buildEdges makes what meets the clients. were are those who were online when the server last ran.
func (s *Server) buildEdges(
	d *directory.Directory, feed *changefeed.Feed, keyring *secret.Keyring, were map[directory.AppID][]directory.User,
) (err error) {
	proxies, err := httpapi.ParseProxies(s.config.TrustedProxies)
	if err != nil {
		return err
	}
	numbers := newPresenceMetrics(s.registry)
	s.presenceNumbers = numbers
	countIndexed(s.registry, d)
	signer := socketjwt.NewSigner(keyring)
	s.presence = presence.New(presence.Config{
		Directory: d, Feed: feed, Returning: were, SessionsPerUser: s.config.SessionsPerUser,
		WatchedPerUser: s.config.WatchedPerUser, WatchedPerApp: s.config.WatchedPerApp,
		Grace: s.config.Grace, ReturnWithin: s.config.ReturnWithin,
		Logger: s.config.Logger, Observer: numbers,
	})
	d.UseSessions(s.presence)
	s.gateway = gateway.New(gateway.Config{
		Directory: d, Presence: s.presence, Signer: signer, AuthTimeout: s.config.AuthTimeout,
		MaxWaiting: s.config.MaxWaiting, Logger: s.config.Logger, Observer: numbers,
	})
	s.api, err = httpapi.New(httpapi.Config{
		Directory: d, Presence: s.presence, Feed: feed, Signer: keyring, SocketSigner: signer,
		OpensManagement: keyring.OpensManagement,
		PublicHost:      s.config.PublicHost, BodyLimit: s.config.BodyLimit, RequestTimeout: s.config.RequestTimeout,
		RateLimits: s.config.RateLimits, Logger: s.config.Logger, Registerer: s.registry, TrustedProxies: proxies,
		Metrics: promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}),
		Ready:   func(ctx context.Context) (string, error) { return s.remark(), s.ready(ctx, d) },
	})
	return err
}

// remark is what is worth knowing of a server that is ready. Where the database is, is nobody's business.
func (s *Server) remark() string {
	if route, onPostgres := s.store.Route(); onPostgres && route.Pooling != sqlstore.NoPooler {
		return "the database is reached through a pooler in " + string(route.Pooling) + " mode"
	}
	return ""
}

// ready tells why requests cannot be served as they should be, nil when they can.
func (s *Server) ready(ctx context.Context, d *directory.Directory) error {
	unready := func(why string, cause error) error {
		return &directory.Error{Code: directory.CodeOperationFailed, Message: why, Cause: cause}
	}
	if s.stopping.Load() {
		return unready("It is stopping.", nil)
	}
	if lost := s.store.LostFiles(); lost != nil {
		return unready(fmt.Sprintf("%s %s while it ran: %s.", filepath.Base(lost.File), lost.Became, lost.Advice), lost)
	}
	if damaged := s.store.Damaged(); damaged != nil {
		return unready(fmt.Sprintf("%s is damaged: %s.", filepath.Base(damaged.Path), sqlstore.AdviceDamaged), damaged)
	}
	if err := d.Check(ctx); err != nil {
		return unready("The database does not answer.", err)
	}
	return nil
}

func (s *Server) listen(ctx context.Context) (err error) {
	if s.config.HTTPS != "" {
		if s.certificates, err = newCertificates(s.config, s.dir, s.numbers.reloads()); err != nil {
			return err
		}
		s.numbers.watchCertificates(s.registry, s.certificates)
	}
	if s.config.HTTP != "" {
		front := s.front()
		if authority, ok := s.certificates.(*acmeCertificates); ok {
			front = authority.manager.HTTPHandler(front) // it may ask here whose the domain is
		}
		if s.HTTPAddr, err = s.serve(ctx, listening{"http", s.config.HTTP}, front, nil); err != nil {
			return err
		}
	}
	if s.config.HTTPS != "" {
		at := listening{"https", s.config.HTTPS}
		if s.HTTPSAddr, err = s.serve(ctx, at, s.front(), s.certificates.tlsConfig()); err != nil {
			return err
		}
	}
	if s.config.Debug != "" {
		_, err = s.serve(ctx, listening{"debug", s.config.Debug}, debugHandler(), nil)
	}
	return err
}

// urls returns the URLs at which programs on this machine reach the server, those first that need no certificate.
func (s *Server) urls() []string {
	urls := []string{}
	for _, at := range []listening{{"http", s.HTTPAddr}, {"https", s.HTTPSAddr}} {
		switch path, isUnix := strings.CutPrefix(at.address, unixScheme); {
		case at.address == "":
		case !isUnix:
			urls = append(urls, at.option+"://"+reachable(at.address))
		case at.option == "http": // TLS on a Unix socket is for proxies
			if absolute, err := filepath.Abs(path); err == nil {
				urls = append(urls, unixScheme+absolute)
			}
		}
	}
	return urls
}

// reachable returns the host and port with which a program on this machine reaches an address that is listened on.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// serve listens on an address, with TLS where there is a config for it, and returns the address it got.
func (s *Server) serve(ctx context.Context, at listening, handler http.Handler, tlsConfig *tls.Config) (string, error) {
	listener, shown, err := s.open(ctx, at.option, at.address)
	if err != nil {
		return "", err
	}
	listener = poller.Listen(envelopeMalformed(tellFailures(listener, s.numbers.acceptFailures, s.config.Logger)))
	server := &http.Server{
		Handler: handler, TLSConfig: tlsConfig, ReadHeaderTimeout: s.config.HeaderTimeout,
		ReadTimeout: s.config.RequestTimeout, WriteTimeout: s.config.RequestTimeout + 15*time.Second,
		IdleTimeout: s.config.IdleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog:                     slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true, // ours answers everything
	}
	s.servers = append(s.servers, server)
	s.background.Go(func() {
		var err error
		if tlsConfig != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", shown, err)
		}
	})
	return shown, nil
}

// front serves sockets and everything else.
func (s *Server) front() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.gateway.Wants(r) {
			s.api.ServeHTTP(w, r)
			return
		}
		remote, secure := s.api.ClientOf(r)
		if refusal := s.gateway.Upgrade(w, r, gateway.From{Remote: remote, Secure: secure}); refusal != nil {
			s.api.Refuse(w, r, refusal.Status, refusal.Err)
		}
	})
}

// debugHandler serves pprof, on a listener of its own.
func debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// sweep does the background work until ctx ends.
func (s *Server) sweep(ctx context.Context, d *directory.Directory) {
	if resealed, err := d.ResealSecrets(ctx); err != nil && ctx.Err() == nil {
		s.config.Logger.Error(
			"re-encrypting under the current master key failed; it goes on at the next start", slog.Any("error", err),
		)
	} else if resealed > 0 {
		s.config.Logger.Info(
			"everything is encrypted under the current master key; older ones can be removed", slog.Int("resealed", resealed),
		)
	}
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := d.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.config.Logger.Error("sweep failed", slog.Any("error", err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Reload reads again what can change while the server runs, the certificate, and logs the outcome. Connections that are
// open are not touched.
func (s *Server) Reload() {
	if s.certificates == nil {
		s.config.Logger.Info("told to reload; HTTPS is off, and there is nothing to be read again")
		return
	}
	s.certificates.reload()
}

// Failed delivers the error of a listener that stopped by itself. The server should be closed then.
func (s *Server) Failed() <-chan error { return s.failed }

// Close stops the server: it takes no more requests, finishes those in flight, and closes the database. It returns
// what could not be finished in time. Closing it again returns the same.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.stopping.Store(true)
		began, log := time.Now(), s.config.Logger
		log.Info("stopping; waiting for requests in flight and for sockets to be told",
			slog.Int64("requests", s.api.InFlight()), slog.Int64("sockets", s.presenceNumbers.sockets.Load()),
			milliseconds("for_at_most", s.config.ShutdownTimeout))
		s.closed = s.release()
		if log = log.With(milliseconds("took", time.Since(began))); s.closed != nil {
			log.Error("stopped, and not in order", slog.Any("error", s.closed))
			return
		}
		log.Info("stopped")
	})
	return s.closed
}

// release stops and closes whatever was started, in reverse order.
func (s *Server) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownTimeout)
	defer cancel()
	var failures []error
	if s.api != nil {
		s.api.Close() // which ends streams, and what works for it
	}
	if s.gateway != nil {
		s.presence.Drain()
		failures = append(failures, s.gateway.Close(ctx))
	}
	var draining sync.WaitGroup
	outcomes := make([]error, len(s.servers))
	for i, server := range s.servers {
		draining.Go(func() {
			if outcomes[i] = server.Shutdown(ctx); outcomes[i] != nil {
				outcomes[i] = errors.Join(fmt.Errorf("requests were still in flight: %w", outcomes[i]), server.Close())
			}
		})
	}
	draining.Wait()
	failures = append(failures, outcomes...)
	if s.presence != nil {
		s.presence.Close()
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.background.Wait()
	if s.directory != nil {
		s.directory.Close()
	}
	if s.store != nil {
		failures = append(failures, s.store.Close())
	}
	if s.dir != nil {
		failures = append(failures, s.dir.release())
	}
	return errors.Join(failures...)
}
