package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemd is what the tests have in the place of systemd: it listens to what a server tells it.
type systemd struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	folder, err := os.MkdirTemp("", "rc") //nolint:usetesting // whose path is too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	s := &systemd{t: t, path: filepath.Join(folder, "notify")}
	s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { s.conn.Close() })
	return s
}

// hears waits until it is told something, and returns the message. What comes before it is dropped.
func (s *systemd) hears(what string) string {
	s.t.Helper()
	must(s.t, s.conn.SetReadDeadline(time.Now().Add(patience)))
	message := make([]byte, 4096)
	for {
		n, err := s.conn.Read(message)
		if err != nil {
			s.t.Fatalf("it never heard %s: %v", what, err)
		}
		if strings.HasPrefix(string(message[:n]), what) {
			return string(message[:n])
		}
	}
}

// startActivated starts a server as systemd does that has opened sockets for it: with their file descriptors behind the
// standard ones, and its own pid in the environment.
func startActivated(t *testing.T, s *systemd, names string, sockets []*os.File, args ...string) *process {
	t.Helper()
	program, err := shipped()
	must(t, err)
	p := &process{
		stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{}),
		data: filepath.Join(t.TempDir(), "data"),
	}
	command := []string{"-c", `export LISTEN_PID=$$; exec "$@"`, "sh", program, "serve", "--data", p.data}
	p.cmd = exec.Command("/bin/sh", append(command, args...)...)
	p.cmd.Env = append(
		os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(sockets)), "LISTEN_FDNAMES="+names,
		"NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=200000",
	)
	p.cmd.ExtraFiles, p.cmd.Stdout, p.cmd.Stderr = sockets, p.stdout, p.stderr
	must(t, p.start())
	t.Cleanup(p.kill)
	return p
}

// passable returns a socket that listens, and its file for another process.
func passable(t *testing.T, network, address string) (net.Listener, *os.File) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	file, err := listener.(interface{ File() (*os.File, error) }).File()
	must(t, err)
	t.Cleanup(func() { file.Close() })
	return listener, file
}

// TestSocketActivation hands two sockets to a server, over TCP and over a Unix socket, and listens to what it tells.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	s := newSystemd(t)
	path := filepath.Join(filepath.Dir(s.path), "http.sock")
	_, https := passable(t, "tcp", "127.0.0.1:0")
	tcp, plain := passable(t, "tcp", "127.0.0.1:0")
	_, unixSocket := passable(t, "unix", path)
	p := startActivated(t, s, "https:web:http", []*os.File{https, plain, unixSocket},
		"--http", "systemd", "--https", "systemd", "--debug", "systemd:web", "--quiet")
	s.hears("READY=1")
	through := &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	defer through.CloseIdleConnections()
	get(t, through, "http://localhost/readyz")
	direct := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer direct.CloseIdleConnections()
	get(t, direct, "http://"+tcp.Addr().String()+"/debug/pprof/cmdline")
	s.hears("WATCHDOG=1")

	must(t, p.cmd.Process.Signal(syscall.SIGHUP))
	if told := s.hears("RELOADING=1"); !regexp.MustCompile(`\nMONOTONIC_USEC=\d+`).MatchString(told) {
		t.Errorf("systemd is told %q", told)
	}
	s.hears("READY=1")
	get(t, through, "http://localhost/readyz")
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	s.hears("STOPPING=1")
	if code, err := p.wait(t.Context()); err != nil || code != 0 {
		t.Errorf("it ended with %d %v: %s", code, err, p.stderr)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket is systemd's, and gone: %v", err)
	}
	expectInOrder(t, p.stderr.String(), `"msg":"starting"`, `"msg":"serving","http":"unix:`, `"msg":"told to stop"`,
		`"msg":"stopping`, `"msg":"stopped"`)
}

// expectInOrder demands that texts are in another one, in this order.
func expectInOrder(t *testing.T, text string, wanted ...string) {
	t.Helper()
	rest := text
	for _, want := range wanted {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Errorf("%s is missing, or not where it belongs:\n%s", want, text)
			return
		}
		rest = after
	}
}

// TestSocketActivationGoneWrong starts servers whose sockets are not there.
func TestSocketActivationGoneWrong(t *testing.T) {
	t.Parallel()
	s := newSystemd(t)
	_, one := passable(t, "tcp", "127.0.0.1:0")
	_, other := passable(t, "tcp", "127.0.0.1:0")
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	defer file.Close()
	for _, c := range []struct {
		names   string
		sockets []*os.File
		says    string
	}{
		{"", nil, "it has opened none: start the server through its .socket unit"},
		{"one:other", []*os.File{one, other}, "FileDescriptorName=http"},
		{"http", []*os.File{file}, `"http", cannot be listened on`},
	} {
		p := startActivated(t, s, c.names, c.sockets, "--http", "systemd", "--https", "")
		code, err := p.wait(t.Context())
		if err != nil || code != exitFailed || !strings.Contains(p.stderr.String(), c.says) {
			t.Errorf("it ended with %d %v, and does not say %q: %s", code, err, c.says, p.stderr)
		}
	}
	p := startActivated(t, s, "rollcall.socket", []*os.File{one}, "--http", "systemd", "--https", "")
	s.hears("READY=1") // the only socket is it, whatever its name
	p.expectEnd(t)
}

// TestHangup sends SIGHUP to servers with a certificate and without: they read it again, or say that there is nothing
// to read, and go on.
func TestHangup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"HTTP alone":  {nil, "told to reload; HTTPS is off"},
		"self-signed": {[]string{"--https", "127.0.0.1:0"}, "the certificate was read again, and is the same"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			p := startServer(t, append([]string{"--data", data, "--log-level", "info"}, c.args...)...)
			ctx, cancel := waitContext(t)
			defer cancel()
			for range 3 {
				must(t, p.cmd.Process.Signal(syscall.SIGHUP))
				if _, err := p.await(ctx, p.stderr, regexp.MustCompile(c.says)); err != nil {
					t.Fatalf("%v: %s", err, p.stderr)
				}
				p.callMany(t, 10)
			}
			p.expectEnd(t)
			expectInOrder(t, p.stderr.String(), `"starting","version":"dev"`, `SQLite in `,
				`"serving","http":"127.0.0.1:`, c.says,
				`"told to stop","by":"terminated signal received"`, `"stopping; waiting for requests`, `"stopped"`)
		})
	}
}

// TestTerminalCloses closes the terminal in which a server runs. It ends, and does not stay behind.
func TestTerminalCloses(t *testing.T) {
	t.Parallel()
	screen, inside := openTerminal(t)
	cmd := serveCommand(t, "--data", filepath.Join(t.TempDir(), "data"), "--log-level", "info")
	cmd.Stdin = inside
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ctx, cancel := waitContext(t)
	defer cancel()
	p, err := launch(ctx, cmd)
	must(t, err)
	t.Cleanup(p.kill)
	must(t, inside.Close())
	must(t, screen.Close()) // which sends SIGHUP
	if code, err := p.wait(t.Context()); err != nil || code != 0 {
		t.Errorf("it ended with %d %v: %s", code, err, p.stderr)
	}
	expectInOrder(t, p.stderr.String(), "its terminal, which is closed", "stopped")
}
