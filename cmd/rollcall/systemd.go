package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall/rollcall/internal/server"
)

// firstPassed is the file descriptor of the first socket that systemd hands over.
const firstPassed = 3

// passedSockets returns the sockets that systemd has opened for this process (sd_listen_fds), with their names.
func passedSockets(getenv func(string) (string, bool)) (sockets []server.PassedSocket, err error) {
	pid, _ := getenv("LISTEN_PID")
	many, _ := getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) || many == "" {
		return nil, nil
	}
	count, err := strconv.Atoi(many)
	if err != nil || count < 0 || count > 1000 {
		return nil, fmt.Errorf("LISTEN_FDS is %q; it must be the number of sockets that are handed over", many)
	}
	listed, _ := getenv("LISTEN_FDNAMES")
	names := strings.Split(listed, ":")
	for i := range count {
		fd := firstPassed + i
		unix.CloseOnExec(fd)
		name := ""
		if i < len(names) {
			name = names[i]
		}
		file := os.NewFile(uintptr(fd), name)
		listener, err := net.FileListener(file)
		if err := errors.Join(err, file.Close()); err != nil { // the listener has a descriptor of its own
			return nil, fmt.Errorf(
				"socket %d of those that systemd has handed over, %q, cannot be listened on: %w", i+1, name, err,
			)
		}
		sockets = append(sockets, server.PassedSocket{Name: name, Listener: listener})
	}
	return sockets, nil
}

// supervisor is who has started this program and wants to know how it is: systemd, through sd_notify.
type supervisor struct {
	conn   net.Conn // nil when there is nobody
	logger *slog.Logger
	// watchdog ticks when it wants to hear that the program is alive. Nil when it does not.
	watchdog <-chan time.Time
	ticker   *time.Ticker
}

// newSupervisor returns who is to be told, as the environment says.
func newSupervisor(getenv func(string) (string, bool), logger *slog.Logger) (*supervisor, error) {
	s := &supervisor{logger: logger}
	path, found := getenv("NOTIFY_SOCKET")
	if !found || path == "" {
		return s, nil
	}
	conn, err := net.Dial("unixgram", path) //nolint:noctx // it waits for nobody
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	s.conn = conn
	every, wanted := getenv("WATCHDOG_USEC")
	pid, addressed := getenv("WATCHDOG_PID")
	if !wanted || addressed && pid != strconv.Itoa(os.Getpid()) {
		return s, nil
	}
	within, err := strconv.ParseInt(every, 10, 64)
	if err != nil || within <= 1 {
		return nil, errors.Join(fmt.Errorf("WATCHDOG_USEC is %q; it must be a number of microseconds", every), conn.Close())
	}
	s.ticker = time.NewTicker(time.Duration(within) * time.Microsecond / 2)
	s.watchdog = s.ticker.C
	return s, nil
}

// What systemd understands.
const (
	tellReady    = "READY=1"
	tellStopping = "STOPPING=1"
	tellAlive    = "WATCHDOG=1"
)

// tellReloading is what systemd is told before tellReady when it has asked for a reload.
func tellReloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // which every kernel has
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond))
}

// tell tells the supervisor something, with a line for people.
func (s *supervisor) tell(what, status string) {
	if s.conn == nil {
		return
	}
	if status != "" {
		what += "\nSTATUS=" + status
	}
	if _, err := s.conn.Write([]byte(what)); err != nil {
		s.logger.Warn("systemd cannot be told how the server is", slog.Any("error", err))
	}
}

func (s *supervisor) close() {
	if s.ticker != nil {
		s.ticker.Stop()
	}
	if s.conn != nil {
		_ = s.conn.Close() // nothing is left to be sent
	}
}
