package bus_test

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall/rollcall/internal/bus"
)

// BenchmarkLatency tells how long messages of 7,900 bytes take from a sender to another server, at 100 a second and
// sender. Run it with -benchtime=1000x.
func BenchmarkLatency(b *testing.B) {
	options := bus.Options{Log: slog.New(slog.DiscardHandler)}
	url, err := postgres.NewDatabase(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		b.Fatal(err)
	}
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoLog: true, NoSigs: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	server.Start()
	defer server.WaitForShutdown()
	defer server.Shutdown()
	nats := func(options bus.Options) (bus.Bus, error) {
		return bus.OpenNATS(bus.NATSConfig{URL: server.ClientURL()}, options)
	}
	overPostgres := func(options bus.Options) (bus.Bus, error) { return bus.OpenPostgres(config, options), nil }
	for name, open := range map[string]func(bus.Options) (bus.Bus, error){"postgres": overPostgres, "nats": nats} {
		b.Run(name+"/1", func(b *testing.B) { benchmarkLatency(b, 1, open, options) })
		b.Run(name+"/3", func(b *testing.B) { benchmarkLatency(b, 3, open, options) })
	}
}

func benchmarkLatency(b *testing.B, senders int, open func(bus.Options) (bus.Bus, error), options bus.Options) {
	up := make(chan struct{}, 10)
	options.Up = func() { up <- struct{}{} }
	join := func() bus.Bus {
		opened, err := open(options)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { opened.Close() })
		<-up
		return opened
	}
	took := make(chan time.Duration, b.N*senders)
	began := time.Now()
	_, err := join().Subscribe("", bus.Subscriber{Message: func(_ string, message []byte) {
		took <- time.Since(began) - time.Duration(binary.BigEndian.Uint64(message))
	}})
	if err != nil {
		b.Fatal(err)
	}
	var all []bus.Bus
	for range senders {
		all = append(all, join())
	}
	content := []byte(strings.Repeat(`{"uid":"superhero1"}`, 7900/20))
	b.ResetTimer()
	var sending sync.WaitGroup
	for _, from := range all {
		sending.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for range b.N {
				<-tick.C
				message := append(binary.BigEndian.AppendUint64(nil, uint64(time.Since(began))), content[8:]...)
				if err := from.Publish("presence.app", message); err != nil {
					b.Error(err)
				}
			}
		})
	}
	sending.Wait()
	times := make([]time.Duration, 0, b.N*senders)
	for range b.N * senders {
		times = append(times, <-took)
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "max-us")
}
