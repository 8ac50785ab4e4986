// Package apitest starts whole servers in tests, on SQLite and on a real PostgreSQL, with a clock and a random source
// that make every run the same, and replays the golden transcripts in testdata.
package apitest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
)

// Server is a running server under test.
type Server struct {
	*server.Server
	// URL is the address of its plain HTTP listener.
	URL   string
	clock *Clock
}

// Clock is a clock that stands still until it is moved.
type Clock struct{ unix atomic.Int64 }

// Epoch is where every test's clock starts: 2026-01-01 00:00:00 UTC.
const Epoch = 1767225600

// NewClock returns a clock at Epoch.
func NewClock() *Clock {
	c := &Clock{}
	c.unix.Store(Epoch)
	return c
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return time.Unix(c.unix.Load(), 0) }

// Advance moves the clock.
func (c *Clock) Advance(by time.Duration) { c.unix.Add(int64(by / time.Second)) }

// random returns a source that yields the same for every test.
func random() io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte("apitest"))) }

// masterKey is the same for every test, so that signatures are too.
func masterKey() string {
	key := sha256.Sum256([]byte("apitest master key"))
	return base64.StdEncoding.EncodeToString(key[:])
}

// Start runs a server until the test ends. configure may change its configuration. database is empty for SQLite.
func Start(t testing.TB, database string, configure func(*server.Config)) *Server {
	t.Helper()
	clock := NewClock()
	config := server.Config{
		DataDir: t.TempDir(), HTTP: "127.0.0.1:0", Database: database, MasterKey: masterKey(), Now: clock.Now,
		Random: random(),
	}
	if configure != nil {
		configure(&config)
	}
	running, err := server.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closed := make(chan error, 1)
		go func() { closed <- running.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			stacks := make([]byte, 1<<20)
			t.Errorf("the server does not close\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	})
	return &Server{Server: running, URL: "http://" + running.HTTPAddr, clock: clock}
}

// Context returns a context for a call that has to be answered: it ends with the test, and when nothing takes that
// long.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Clock returns the server's clock.
func (s *Server) Clock() *Clock { return s.clock }

// Client returns a client for the server's first app.
func (s *Server) Client(t testing.TB, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(s.URL, append([]client.Option{client.WithApp(s.Credentials.AppID)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Backend returns a client with the first app's fullAccess key.
func (s *Server) Backend(t testing.TB) *client.Client {
	t.Helper()
	return s.Client(t, client.WithAPIKey(s.Credentials.RestAPIKey))
}

// Operator returns a client with the management credentials.
func (s *Server) Operator(t testing.TB) *client.Client {
	t.Helper()
	return s.Client(t, client.WithManagement(s.Credentials.ManagementKey, s.Credentials.ManagementSecret))
}
