package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/gobwas/ws"
)

// Broadcast is the floor of presence: a bare socket server on the library that the gateway uses, which only holds
// connections and, at POST /broadcast, writes one prebuilt frame to each with two writers. It prints its address to out
// and serves until ctx ends.
func Broadcast(ctx context.Context, out io.Writer) error {
	b := &broadcaster{connections: map[net.Conn]struct{}{}, frame: ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"type":"presence","appId":"0123456789abcdef","sender":"user-14999","body":` +
		`{"action":"online","timestamp":1767225600,"user":{"uid":"user-14999","name":"User Number 14999","avatar":"https://cdn.example.com/avatars/14999/large.png",` +
		`"link":"https://example.com/people/user-14999","metadata":{"city":"Lisbon","team":"support","plan":"premium","joined":"2026-01-20","bio":"Likes long walks, short calls and a tidy inbox."},` +
		`"status":"available","role":"star","statusMessage":"Working from home today","createdAt":0}}}`)))}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /broadcast", b.broadcast)
	mux.HandleFunc("GET /connections", b.count)
	mux.HandleFunc("GET /", b.accept)
	defer b.close()
	return serveFloor(ctx, out, mux)
}

type broadcaster struct {
	frame   []byte
	readers sync.WaitGroup

	mu          sync.Mutex
	connections map[net.Conn]struct{} // guarded by mu
}

func (b *broadcaster) accept(w http.ResponseWriter, r *http.Request) {
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // it is answered
	}
	b.mu.Lock()
	b.connections[conn] = struct{}{}
	b.mu.Unlock()
	b.readers.Go(func() {
		_, _ = io.Copy(io.Discard, conn) // until it ends
		b.mu.Lock()
		delete(b.connections, conn)
		b.mu.Unlock()
		_ = conn.Close()
	})
}

// count tells how many connections it holds: a client knows of the upgrade before its connection is among them.
func (b *broadcaster) count(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprint(w, len(b.connections))
}

func (b *broadcaster) broadcast(http.ResponseWriter, *http.Request) {
	b.mu.Lock()
	all := make([]net.Conn, 0, len(b.connections))
	for conn := range b.connections {
		all = append(all, conn)
	}
	b.mu.Unlock()
	half := len(all) / 2
	var writers sync.WaitGroup
	for _, part := range [][]net.Conn{all[:half], all[half:]} {
		writers.Go(func() {
			for _, conn := range part {
				_, _ = conn.Write(b.frame) // who is gone is seen by its reader
			}
		})
	}
	writers.Wait()
}

func (b *broadcaster) close() {
	b.mu.Lock()
	for conn := range b.connections {
		_ = conn.Close()
	}
	b.mu.Unlock()
	b.readers.Wait()
}
