package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Echo is the floor that everything is compared with: a bare net/http server that decodes a JSON body and encodes it
// again. It prints its address to out and serves until ctx ends.
func Echo(ctx context.Context, out io.Writer) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // the client went away
	})
	return serveFloor(ctx, out, mux)
}

// serveFloor serves a floor on a free port, prints its address to out, and goes on until ctx ends.
func serveFloor(ctx context.Context, out io.Writer, mux *http.ServeMux) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	fmt.Fprintf(out, "http://%s \n", listener.Addr())
	<-ctx.Done()
	err = server.Close()
	return errors.Join(err, ignoreClosed(<-stopped))
}

// ignoreClosed drops the error by which a server says that it was closed.
func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
