package apitest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// socketFolder returns a folder whose path is short enough for Unix sockets.
func socketFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "rc") //nolint:usetesting // whose path is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// throughUnix returns a client whose every call goes to a Unix socket.
func throughUnix(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: outagePatience}
}

// askThrough makes a GET through a client, with a header or without.
func askThrough(t *testing.T, c *http.Client, path string, header http.Header) (status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(apitest.Context(t), http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// TestUnixSocket serves calls and a socket through a Unix socket, believes the proxy behind it, and takes it away at the
// end.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketFolder(t), "rollcall.sock")
	var log safeBuffer
	s := apitest.Start(t, "", func(config *server.Config) {
		config.HTTP, config.SocketMode, config.TrustedProxies = "unix:"+path, 0o640, []string{"unix"}
		config.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	if s.HTTPAddr != "unix:"+path {
		t.Errorf("it listens on %s", s.HTTPAddr)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o640 {
		t.Errorf("the socket has mode %v: %v", info.Mode(), err)
	}
	through := throughUnix(t, path)
	s.URL = "http://localhost"
	backend := s.Client(t, client.WithAPIKey(s.Credentials.RestAPIKey), client.WithHTTPClient(through))
	if _, err := backend.Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	token := must[api.AuthToken](t)(backend.AuthTokens.Create(t.Context(), "ada", api.CreateAuthTokenRequest{}))
	me := must[api.Me](t)(s.Client(t, client.WithAuthToken(token.Token), client.WithHTTPClient(through)).Me.Get(t.Context()))
	socket := apitest.DialURL(t, "ws://localhost/", through)
	socket.Auth(s, apitest.Login{UID: "ada", Device: "a", Body: api.AuthBody{Auth: me.JWT}})

	askThrough(t, through, "/v3/users/forwarded", http.Header{"X-Forwarded-For": {"198.51.100.1"}, "X-Forwarded-Proto": {"https"}})
	if err := askMalformed(path); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"remote":"198.51.100.1","secure":true`) {
		t.Errorf("the proxy is not believed: %s", log.String())
	}
	if code, _ := socket.ClosedWith(); code != 1001 {
		t.Errorf("the socket was closed with %d", code)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left behind")
	}
}

// askMalformed demands that what is not HTTP is answered in the contract's envelope also through a Unix socket.
func askMalformed(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("rubbish\r\n\r\n")); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if !strings.Contains(string(answer), "ERR_BAD_REQUEST") {
		return fmt.Errorf("rubbish is answered with %q", answer)
	}
	return nil
}

// TestUnixSocketThatIsThere starts servers where something is in the way of their socket: only a socket on which nobody
// listens is removed.
func TestUnixSocketThatIsThere(t *testing.T) {
	t.Parallel()
	folder := socketFolder(t)
	start := func(path string) (*server.Server, error) {
		return server.Start(t.Context(), server.Config{DataDir: t.TempDir(), HTTP: "unix:" + path})
	}
	refused := func(path, why string) {
		t.Helper()
		before, errBefore := os.Lstat(path)
		s, err := start(path)
		if err == nil {
			t.Errorf("%s: it started, in spite of: %s", path, why)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if !strings.Contains(err.Error(), why) {
			t.Errorf("%s: the error does not say %q: %v", path, why, err)
		}
		if after, err := os.Lstat(path); errBefore == nil && (err != nil || !os.SameFile(before, after)) {
			t.Errorf("%s is not what it was: %v", path, err)
		}
	}
	stale := filepath.Join(folder, "stale.sock")
	fd := must[int](t)(syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: stale}), syscall.Close(fd)); err != nil {
		t.Fatal(err)
	}
	s, err := start(stale)
	if err != nil {
		t.Fatalf("a socket on which nobody listens is in the way: %v", err)
	}
	if status := askThrough(t, throughUnix(t, stale), "/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz: %d", status)
	}
	refused(stale, "somebody listens there already")
	if status := askThrough(t, throughUnix(t, stale), "/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz after another server tried: %d", status)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(file, "is no socket")
	link := filepath.Join(folder, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	refused(link, "is no socket")
	refused(filepath.Join(folder, "missing", "a.sock"), "no such file or directory")
	refused(filepath.Join(folder, strings.Repeat("x", 108)), "at most 107 bytes")
	refused("", "needs a path")
}
