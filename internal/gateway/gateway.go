// Package gateway serves the socket of the contract (sdk-wire.md part C): the upgrade, authentication, heartbeats and
// presence frames. Whose presence a socket hears is decided in package presence; this package moves frames, and keeps
// slow and hostile clients from costing more than their share.
package gateway

import (
	"bufio"
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcall/rollcall/internal/awake"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/poller"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/socketjwt"
)

// Config is what a Gateway needs. Directory, Presence and Signer are required; everything else has a useful zero value.
type Config struct {
	Directory *directory.Directory
	Presence  *presence.Presence
	Signer    *socketjwt.Signer
	// AuthTimeout is how long a socket may take to authenticate. Zero means DefaultAuthTimeout.
	AuthTimeout time.Duration
	// MaxWaiting is how many frames may wait for a client that does not read. Zero means DefaultMaxWaiting.
	MaxWaiting int
	// MaxSockets is how many sockets there may be. Zero means 1,000,000.
	MaxSockets int
	// Logger gets what went wrong. Nil discards it.
	Logger *slog.Logger
	// Observer gets the numbers. Nil discards them.
	Observer Observer
}

// What the zero value of a Config means.
const (
	DefaultAuthTimeout = 10 * time.Second
	DefaultMaxWaiting  = 4096 // frames
)

// Observer counts what happens to sockets. Implementations are safe for concurrent use.
type Observer interface {
	SocketsChanged(by int)
	// Delivered counts frames that left in one write, the first of which waited that long.
	Delivered(frames int, waited time.Duration)
	// Dropped counts clients that were too slow.
	Dropped()
}

// Gateway is all sockets of a server. It is safe for concurrent use.
type Gateway struct {
	config Config
	poller *poller.Poller
	clock  *awake.Clock
	// auths are the sockets whose auth frame is to be checked, dirty those with frames to send.
	auths *queue
	dirty *queue
	paced *pacer
	// gathering bounds what clients make the server keep of messages that are not complete, in bytes.
	gathering atomic.Int64
	attempts  *attempts

	mu      sync.Mutex
	sockets []*socket // guarded by mu
	closed  bool      // guarded by mu

	running context.Context //nolint:containedctx // it bounds the workers, which outlive any request
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// From is whose connection a socket is, as the log tells it.
type From struct {
	// Remote is the client's address, and Secure whether the client speaks TLS: with a proxy, if that may be believed.
	Remote string
	Secure bool
}

const (
	authWorkers  = 8
	flushWorkers = 2
	sweepEvery   = 500 * time.Millisecond
	// pingAfter is how long a client may be silent before it is asked whether it is there: browsers answer by themselves,
	// also for pages whose timers they hold back.
	pingAfter = presence.Silence - 4*time.Second
	// closeTimeout is how long a socket that is being closed may take to send its last frames.
	closeTimeout = 5 * time.Second
	// blockedTimeout is how long the network may take nothing at all.
	blockedTimeout = 30 * time.Second
)

// New returns a gateway with its workers running. Close it.
func New(config Config) *Gateway {
	if config.AuthTimeout <= 0 {
		config.AuthTimeout = DefaultAuthTimeout
	}
	if config.MaxWaiting <= 0 {
		config.MaxWaiting = DefaultMaxWaiting
	}
	if config.MaxSockets <= 0 {
		config.MaxSockets = 1_000_000
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Observer == nil {
		config.Observer = nobody{}
	}
	g := &Gateway{
		config: config, poller: poller.New(), clock: config.Presence.Clock(), auths: newQueue(), dirty: newQueue(),
		paced:    newPacer(),
		attempts: newAttempts(),
	}
	g.running, g.stop = context.WithCancel(context.Background())
	for range authWorkers {
		g.workers.Go(g.authenticate)
	}
	for range flushWorkers {
		g.workers.Go(g.flush)
	}
	g.workers.Go(func() { g.paced.run(g.running, g.dirty) })
	g.workers.Go(g.sweep)
	return g
}

// Wants reports whether a request is for the socket (contract sdk-wire.md sections C1 and C8).
func (g *Gateway) Wants(r *http.Request) bool {
	if r.Method != http.MethodGet || len(r.Header["Upgrade"]) == 0 ||
		!strings.EqualFold(r.Header["Upgrade"][0], "websocket") {
		return false
	}
	return r.URL.Path == "/" || r.URL.Path == "/ws" || strings.HasPrefix(r.URL.Path, "/ws:")
}

// Refusal says why a request was not upgraded.
type Refusal struct {
	// Status is the HTTP status to answer with.
	Status int
	Err    *directory.Error
}

// Upgrade makes a socket of a request, or returns why not: then nothing has been answered.
func (g *Gateway) Upgrade(w http.ResponseWriter, r *http.Request, from From) *Refusal {
	if !g.hasRoom() {
		return &Refusal{
			http.StatusServiceUnavailable,
			&directory.Error{Code: directory.CodeOperationFailed, Message: "There are too many sockets. Try again later."},
		}
	}
	if refusal := checkHandshake(r); refusal != nil {
		w.Header().Set("Sec-WebSocket-Version", "13")
		return refusal
	}
	conn, buffered, _, err := ws.HTTPUpgrader{}.Upgrade(r, w)
	if err != nil {
		if conn != nil { // the server has let go of it, whatever was wrong
			_ = conn.Close()
		}
		return nil
	}
	g.adopt(conn, buffered.Reader, from)
	return nil
}

// checkHandshake returns what is wrong with the handshake of RFC 6455, section 4.2.1, in a request that wants an
// upgrade. It is looked at before the connection is taken from the HTTP server, which still answers and closes it.
func checkHandshake(r *http.Request) *Refusal {
	refuse := func(status int, message string) *Refusal {
		return &Refusal{status, &directory.Error{Code: directory.CodeBadRequest, Message: message}}
	}
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	version := r.Header.Get("Sec-WebSocket-Version")
	switch {
	case !r.ProtoAtLeast(1, 1):
		return refuse(http.StatusBadRequest, "A socket needs HTTP/1.1.")
	case !hasToken(r.Header["Connection"], "upgrade"):
		return refuse(http.StatusBadRequest, "The Connection header must say upgrade.")
	case version != "" && version != "13":
		return refuse(http.StatusUpgradeRequired, "The Sec-WebSocket-Version must be 13.")
	case version == "":
		return refuse(http.StatusBadRequest, "The Sec-WebSocket-Version header is missing. It must be 13.")
	case err != nil || len(key) != 16:
		return refuse(http.StatusBadRequest, "The Sec-WebSocket-Key header must be 16 bytes in Base64.")
	}
	return nil
}

// hasToken reports whether a header that lists tokens has one, in any case.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// adopt makes a socket of a connection that speaks WebSocket. What the client has sent already may be in the buffer.
func (g *Gateway) adopt(conn net.Conn, buffered *bufio.Reader, from From) {
	var early []byte
	if n := buffered.Buffered(); n > 0 {
		peeked, _ := buffered.Peek(n) // they are there
		early = append(early, peeked...)
	}
	now := g.now()
	s := &socket{gateway: g, from: from, openedAt: now, refilled: now, allowance: frameBurst}
	s.heard.Store(now)
	s.limit.Store(maxAuth)
	_, err := g.poller.Adopt(conn, func(link poller.Link) poller.Handler {
		s.link = link
		g.add(s)
		if len(early) > 0 {
			s.Receive(early)
		}
		return s
	})
	if err != nil {
		g.remove(s)
		_ = conn.Close() // it has no use any more
	}
}

func (g *Gateway) hasRoom() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed && len(g.sockets) < g.config.MaxSockets
}

// now is the time in which the server ran, in nanoseconds: it never jumps, and while the server is stopped nobody's
// time runs out. It is never 0, which stands for never.
func (g *Gateway) now() int64 { return int64(g.clock.Now()) + 1 }

// at returns when it was now.
func (g *Gateway) at(then int64) time.Time { return time.Now().Add(time.Duration(then - g.now())) }

func (g *Gateway) add(s *socket) {
	g.mu.Lock()
	s.index = len(g.sockets)
	g.sockets = append(g.sockets, s)
	closed := g.closed
	g.mu.Unlock()
	g.config.Observer.SocketsChanged(1)
	if closed {
		s.end(presence.ServerStops, ws.StatusGoingAway, "the server stops")
	}
}

func (g *Gateway) remove(s *socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.index >= len(g.sockets) || g.sockets[s.index] != s {
		return
	}
	last := len(g.sockets) - 1
	g.sockets[s.index] = g.sockets[last]
	g.sockets[s.index].index = s.index
	g.sockets[last] = nil
	g.sockets = g.sockets[:last]
	g.config.Observer.SocketsChanged(-1)
}

// sweep looks after sockets whose time is up, twice a second.
func (g *Gateway) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	var due []*socket
	for {
		select {
		case <-ticker.C:
		case <-g.running.Done():
			return
		}
		now := g.now()
		due = due[:0]
		g.mu.Lock()
		for _, s := range g.sockets {
			if s.isDue(now) {
				due = append(due, s)
			}
		}
		g.mu.Unlock()
		for i, s := range due {
			s.look(now)
			due[i] = nil
		}
		g.attempts.forget(time.Now())
	}
}

// Close closes every socket with a word to its client, and stops the workers. Sockets are told for at most the time
// that ctx leaves.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	sockets := append([]*socket(nil), g.sockets...)
	g.mu.Unlock()
	for _, s := range sockets {
		s.end(presence.ServerStops, ws.StatusGoingAway, "the server stops")
	}
	g.drain(ctx)
	g.stop()
	g.auths.close()
	g.dirty.close()
	g.workers.Wait()
	return g.poller.Close()
}

// drain waits until no socket is left, or for as long as a socket may take to close.
func (g *Gateway) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		g.mu.Lock()
		left := len(g.sockets)
		g.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

type nobody struct{}

func (nobody) SocketsChanged(int)           {}
func (nobody) Delivered(int, time.Duration) {}
func (nobody) Dropped()                     {}
