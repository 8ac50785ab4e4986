package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// What an address to listen on begins with that is not host:port.
const (
	unixScheme    = "unix:"   // the path of a Unix socket follows
	systemdScheme = "systemd" // a socket that systemd has opened; its name may follow behind a colon
)

// longestSocketPath is how many bytes the kernel takes for the path of a Unix socket.
const longestSocketPath = 107

// address is where a server listens, taken apart: one of the fields is set.
type address struct {
	tcp, unix string
	// passed is the name of a socket that systemd has opened.
	passed string
}

// parseAddress takes apart the address that an option has. The name of a socket that systemd has opened is the option's
// unless the address has another.
func parseAddress(option, text string) (address, error) {
	if path, ok := strings.CutPrefix(text, unixScheme); ok {
		path = strings.TrimPrefix(path, "//")
		switch {
		case path == "" || strings.HasSuffix(path, "/"):
			return address{}, fmt.Errorf(
				"--%s is %q: a Unix socket needs a path, as in unix:/run/rollcall/rollcall.sock", option, text,
			)
		case len(path) > longestSocketPath:
			return address{}, fmt.Errorf("--%s: the path of a Unix socket has at most %d bytes, and this one has %d",
				option, longestSocketPath, len(path))
		}
		return address{unix: path}, nil
	}
	if text == systemdScheme {
		return address{passed: option}, nil
	}
	if name, ok := strings.CutPrefix(text, systemdScheme+":"); ok && strings.Trim(name, "0123456789") != "" {
		return address{passed: name}, nil
	}
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return address{}, fmt.Errorf(
			"--%s is %q; it must be host:port, such as 127.0.0.1:8080 or :8080, or unix:PATH, or systemd",
			option, text)
	}
	if number, err := strconv.Atoi(port); err == nil && (number < 0 || number > maxPort) {
		return address{}, fmt.Errorf("--%s is %q; a port is at most %d, and 0 is one that is free", option, text, maxPort)
	}
	return address{tcp: text}, nil
}

// maxPort is the highest port of TCP.
const maxPort = 1<<16 - 1

// open listens on the address that an option has, and returns how others are told of it.
func (s *Server) open(ctx context.Context, option, text string) (listener net.Listener, shown string, err error) {
	at, err := parseAddress(option, text)
	switch {
	case err != nil:
		return nil, "", err
	case at.unix != "":
		listener, err = listenUnix(ctx, at.unix, s.config.SocketMode)
	case at.passed != "":
		listener, err = s.takePassed(option, at.passed)
	default:
		listener, err = new(net.ListenConfig).Listen(ctx, "tcp", at.tcp)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w; stop what listens there, or take another address with --%s", err, option)
	}
	if err != nil {
		return nil, "", err
	}
	if listener.Addr().Network() == "unix" {
		return listener, unixScheme + listener.Addr().String(), nil
	}
	return listener, listener.Addr().String(), nil
}

// takePassed returns the socket of that name which systemd has opened; the only one goes by any name.
func (s *Server) takePassed(option, name string) (net.Listener, error) {
	passed := s.config.Passed
	for _, socket := range passed {
		if socket.Name == name || len(passed) == 1 {
			return socket.Listener, nil
		}
	}
	if len(passed) == 0 {
		return nil, fmt.Errorf(
			"--%s is to be a socket that systemd has opened, and it has opened none: start the server through its .socket "+
				"unit", option)
	}
	return nil, fmt.Errorf(
		"--%s is to be the socket %q, and systemd has opened none of that name: write "+
			"FileDescriptorName=%s in its .socket unit",
		option, name, name)
}

// listenUnix listens on a Unix socket. One that is left from a server which nobody has stopped in order is removed, but
// only when nobody listens on it.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	free, err := lockFolderOf(path) // so that of two starts neither removes what the other has just made
	if err != nil {
		return nil, err
	}
	defer free()
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err = removeStale(ctx, path); err == nil {
			listener, err = new(net.ListenConfig).Listen(ctx, "unix", path)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// lockFolderOf keeps others of this kind out of the folder of a socket until free is called.
func lockFolderOf(path string) (free func(), err error) {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("the folder of the socket: %w", err)
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", folder.Name(), err), folder.Close())
	}
	return func() { _ = folder.Close() }, nil // which gives the lock back
}

// removeStale removes a socket on which nobody listens, and refuses everything else.
func removeStale(ctx context.Context, path string) error {
	if err := socketIsTaken(ctx, path); err != nil {
		return err
	}
	return os.Remove(path)
}

// socketIsTaken tells why a server cannot have what is at the path of its socket, nil when it can: it is a socket on
// which nobody listens.
func socketIsTaken(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there, and is no socket: move it away, or choose another path", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // it was a question
		return fmt.Errorf("unix %s: somebody listens there already", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	default:
		return fmt.Errorf("%s is there, and whether somebody listens on it cannot be found out: %w", path, err)
	}
}

// PassedSocket is a socket that systemd has opened for the server.
type PassedSocket struct {
	Name     string
	Listener net.Listener
}
