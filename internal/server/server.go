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
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
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
	// acceptFailures counts the connections that could not be accepted.
	acceptFailures prometheus.Counter

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
	s := &Server{config: config, failed: make(chan error, 4)}
	defer func() { //nolint:contextcheck // what was started is stopped also when ctx has ended
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
	keyring, err := loadKeyring(ctx, config, s.dir, s.store)
	if err != nil {
		return nil, err
	}
	tombstones := &tombstoneLog{path: s.dir.file(tombstonesFile)}
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
			log := config.Logger.With(slog.String("app", string(app)), slog.Int("users", users), slog.Duration("took", took))
			if err != nil {
				log.Error("the users of an app could not be read; lists of it fail, and the next one tries again", slog.Any("error", err))
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
	}, func() {
		feed.CatchUp()
		config.Logger.Info("the database answers and is this server's alone again")
	})
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
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.background.Go(func() { s.sweep(running, d) })
	s.background.Go(func() { giveMemoryBack(running) })
	debug.FreeOSMemory() // what the start has used is not used again
	return s, nil
}

func openStore(ctx context.Context, config Config, dir *dataDir) (*sqlstore.Store, error) {
	if config.Database != "" {
		return sqlstore.OpenPostgres(ctx, config.Database)
	}
	if err := findLostDatabase(config); err != nil {
		return nil, err
	}
	return sqlstore.OpenSQLite(ctx, filepath.Join(dir.path, DatabaseFile))
}

// buildEdges makes what meets the clients. were are those who were online when the server last ran.
func (s *Server) buildEdges(
	d *directory.Directory, feed *changefeed.Feed, keyring *secret.Keyring, were map[directory.AppID][]directory.User,
) (err error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	numbers := newPresenceMetrics(registry)
	countIndexed(registry, d)
	s.acceptFailures = newAcceptFailures(registry)
	if s.config.LogLost != nil {
		countLostRecords(registry, s.config.LogLost)
	}
	signer := socketjwt.NewSigner(keyring)
	s.presence = presence.New(presence.Config{
		Directory: d, Feed: feed, Returning: were, SessionsPerUser: s.config.SessionsPerUser, WatchedPerUser: s.config.WatchedPerUser,
		WatchedPerApp: s.config.WatchedPerApp, Grace: s.config.Grace, ReturnWithin: s.config.ReturnWithin,
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
		RateLimits: s.config.RateLimits, Logger: s.config.Logger, Registerer: registry,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Ready:   func(ctx context.Context) error { return s.ready(ctx, d) },
	})
	return err
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
	if err := d.Check(ctx); err != nil {
		return unready("The database does not answer.", err)
	}
	return nil
}

func (s *Server) listen(ctx context.Context) (err error) {
	if s.config.HTTP != "" {
		if s.HTTPAddr, err = s.serve(ctx, s.config.HTTP, s.front(), nil); err != nil {
			return err
		}
	}
	if s.config.HTTPS != "" {
		certificate, err := loadCertificate(s.config, s.dir)
		if err != nil {
			return err
		}
		tlsConfig := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		if s.HTTPSAddr, err = s.serve(ctx, s.config.HTTPS, s.front(), tlsConfig); err != nil {
			return err
		}
	}
	if s.config.Debug != "" {
		_, err = s.serve(ctx, s.config.Debug, debugHandler(), nil)
	}
	return err
}

// serve listens on an address, with TLS where there is a config for it, and returns the address it got.
func (s *Server) serve(
	ctx context.Context, address string, handler http.Handler, tlsConfig *tls.Config,
) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	listener = poller.Listen(envelopeMalformed(tellFailures(listener, s.acceptFailures, s.config.Logger)))
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
			s.failed <- fmt.Errorf("serve %s: %w", address, err)
		}
	})
	return listener.Addr().String(), nil
}

// front serves sockets and everything else.
func (s *Server) front() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.gateway.Wants(r) {
			s.api.ServeHTTP(w, r)
			return
		}
		if refusal := s.gateway.Upgrade(w, r); refusal != nil {
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

// Failed delivers the error of a listener that stopped by itself. The server should be closed then.
func (s *Server) Failed() <-chan error { return s.failed }

// Close stops the server: it takes no more requests, finishes those in flight, and closes the database. It returns
// what could not be finished in time. Closing it again returns the same.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.stopping.Store(true)
		s.api.Close()
		s.closed = s.release()
	})
	return s.closed
}

// release stops and closes whatever was started, in reverse order.
func (s *Server) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownTimeout)
	defer cancel()
	var failures []error
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
