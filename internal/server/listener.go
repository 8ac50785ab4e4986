package server

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tellFailuresEvery bounds how often failures to accept connections are logged: they come many a second.
const tellFailuresEvery = 10 * time.Second

// tellFailures returns a listener whose failures to accept a connection are counted and logged. net/http only tries
// again.
func tellFailures(listener net.Listener, failures prometheus.Counter, logger *slog.Logger) net.Listener {
	return &tellingListener{Listener: listener, failures: failures, logger: logger}
}

type tellingListener struct {
	net.Listener
	failures prometheus.Counter
	logger   *slog.Logger

	// These belong to the one who accepts.
	told   time.Time
	untold int
}

func (l *tellingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.note(err)
	}
	return conn, err
}

func (l *tellingListener) note(err error) {
	l.failures.Inc()
	l.untold++
	if !l.told.IsZero() && time.Since(l.told) < tellFailuresEvery {
		return
	}
	advice := "see the error"
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		advice = "give the server more file descriptors (ulimit -n, LimitNOFILE in systemd), " +
			"or find who holds so many connections"
	}
	l.logger.Error(
		"connections cannot be accepted", slog.Any("error", err), slog.Int("failures", l.untold),
		slog.String("advice", advice),
	)
	l.told, l.untold = time.Now(), 0
}
