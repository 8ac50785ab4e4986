package bus_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/storetest"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	testForm(t, func(*testing.T) network {
		exchange := bus.NewExchange()
		return network{open: func(*testing.T, bus.Options) bus.Bus { return exchange.Join() }}
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	testForm(t, func(t *testing.T) network {
		server, url := postgres, ""
		if filepath.Base(t.Name()) == "Restart" || filepath.Base(t.Name()) == "FloodWhileAway" ||
			filepath.Base(t.Name()) == "StartedWhileAway" {
			server, url = storetest.OwnPostgres(t)
		} else {
			var err error
			if url, err = server.NewDatabase(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return network{
			open: func(t *testing.T, options bus.Options) bus.Bus {
				config, err := pgx.ParseConfig(url)
				if err != nil {
					t.Fatal(err)
				}
				return bus.OpenPostgres(config, options)
			},
			away: func(t *testing.T) {
				if err := server.Stop(); err != nil {
					t.Fatal(err)
				}
			},
			back: func(t *testing.T) {
				if err := server.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func TestNATS(t *testing.T) {
	t.Parallel()
	testForm(t, func(t *testing.T) network {
		server := startNATS(t, natsserver.Options{})
		return network{
			open: func(t *testing.T, options bus.Options) bus.Bus {
				return openNATS(t, bus.NATSConfig{URL: server.url}, options)
			},
			away: func(*testing.T) { server.stop() },
			back: server.start,
		}
	})
}

// natsServer is a real NATS server, which can be stopped and started again at the same address.
type natsServer struct {
	options natsserver.Options
	running *natsserver.Server
	url     string
}

func startNATS(t *testing.T, options natsserver.Options) *natsServer {
	t.Helper()
	options.Host, options.Port = "127.0.0.1", natsserver.RANDOM_PORT
	options.NoLog, options.NoSigs = true, true
	s := &natsServer{options: options}
	s.start(t)
	s.options.Port = s.running.Addr().(*net.TCPAddr).Port
	s.url = "nats://" + s.running.Addr().String()
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start(t *testing.T) {
	t.Helper()
	options := s.options
	running, err := natsserver.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	if !running.ReadyForConnections(storetest.Patience) {
		t.Fatal("NATS does not start")
	}
	s.running = running
}

func (s *natsServer) stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

func openNATS(t *testing.T, config bus.NATSConfig, options bus.Options) bus.Bus {
	t.Helper()
	b, err := bus.OpenNATS(config, options)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
