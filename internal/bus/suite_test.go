package bus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/storetest"
)

// network is what the servers of a cluster speak through.
type network struct {
	open func(t *testing.T, options bus.Options) bus.Bus
	// away and back end it and start it again. They are nil where that cannot be.
	away, back func(t *testing.T)
}

// testForm runs the suite on a form. Each test has a network of its own.
func testForm(t *testing.T, start func(t *testing.T) network) {
	for name, test := range map[string]func(*testing.T, network){
		"Order":            testOrder,
		"Prefixes":         testPrefixes,
		"Content":          testContent,
		"Refusals":         testRefusals,
		"Unsubscribe":      testUnsubscribe,
		"SlowSubscriber":   testSlowSubscriber,
		"LastWords":        testLastWords,
		"Restart":          testRestart,
		"FloodWhileAway":   testFloodWhileAway,
		"StartedWhileAway": testStartedWhileAway,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// server is one server of the cluster.
type server struct {
	bus.Bus
	up, down chan struct{}
	downs    atomic.Int64
}

// join opens a bus and waits until it is up.
func (n network) join(t *testing.T) *server {
	t.Helper()
	s := n.joinUnready(t)
	if n.back != nil {
		storetest.Await(t, s.up, "the bus to be up")
	}
	return s
}

func (n network) joinUnready(t *testing.T) *server {
	t.Helper()
	s := &server{up: make(chan struct{}, 100), down: make(chan struct{}, 100)}
	s.Bus = n.open(t, bus.Options{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Up:  func() { s.up <- struct{}{} },
		Down: func(error) {
			s.downs.Add(1)
			s.down <- struct{}{}
		},
	})
	t.Cleanup(func() {
		storetest.AwaitReturn(t, func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}, "the bus to close")
	})
	return s
}

func (s *server) publish(t *testing.T, subject string, message []byte) {
	t.Helper()
	if err := s.Publish(subject, message); err != nil {
		t.Fatal(err)
	}
}

// listener collects what a subscriber hears.
type listener struct {
	heard       chan heard
	missed      chan struct{}
	unsubscribe func()
}

type heard struct {
	subject string
	message []byte
}

func (s *server) listen(t *testing.T, prefix string) *listener {
	t.Helper()
	l := &listener{heard: make(chan heard, 100_000), missed: make(chan struct{}, 100_000)}
	unsubscribe, err := s.Subscribe(prefix, bus.Subscriber{
		Message: func(subject string, message []byte) { l.heard <- heard{subject, message} },
		Missed:  func() { l.missed <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	l.unsubscribe = unsubscribe
	return l
}

func (l *listener) expect(t *testing.T, subject string, message []byte) {
	t.Helper()
	got := storetest.Await(t, l.heard, "a message about "+subject)
	if got.subject != subject || !bytes.Equal(got.message, message) {
		t.Fatalf("heard %s with %d bytes, not %s with %d", got.subject, len(got.message), subject, len(message))
	}
}

// expectLast skips what comes before a message.
func (l *listener) expectLast(t *testing.T, subject string) {
	t.Helper()
	for storetest.Await(t, l.heard, "the message about "+subject).subject != subject {
	}
}

func (l *listener) expectNothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-l.heard:
		t.Fatalf("heard %s", got.subject)
	default:
	}
}

func testOrder(t *testing.T, n network) {
	const servers, messages = 5, 1000
	var all []*server
	var listeners []*listener
	for range servers {
		s := n.join(t)
		all, listeners = append(all, s), append(listeners, s.listen(t, "from"))
	}
	var publishing sync.WaitGroup
	for number, s := range all {
		publishing.Go(func() {
			for m := range messages {
				message := binary.AppendUvarint(nil, uint64(m))
				if m%100 == 0 {
					message = append(message, make([]byte, 20_000)...)
				}
				if err := s.Publish(fmt.Sprintf("from.%d", number), message); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	for number, l := range listeners {
		next := map[string]uint64{}
		for range (servers - 1) * messages {
			got := storetest.Await(t, l.heard, "what the others say")
			if got.subject == fmt.Sprintf("from.%d", number) {
				t.Fatalf("server %d heard itself", number)
			}
			if m, _ := binary.Uvarint(got.message); m != next[got.subject] {
				t.Fatalf("heard message %d %s where %d is next", m, got.subject, next[got.subject])
			}
			next[got.subject]++
		}
		stats := all[number].Stats()
		want := bus.Stats{Sent: messages, Received: (servers - 1) * messages, Pieces: stats.Pieces}
		if stats != want {
			t.Errorf("counted %+v, not %+v", stats, want)
		}
		if len(l.missed) > 0 {
			t.Errorf("server %d was told that it missed something", number)
		}
	}
}

func testPrefixes(t *testing.T, n network) {
	from, to := n.join(t), n.join(t)
	subjects := []string{"a", "a.b", "ab", "a.bc", "a.b.c", "b.a", "a._", "A.b", "end", "a.end", "a.b.end", "a.b.c.end"}
	wants := map[string][]string{
		"":      subjects,
		"a":     {"a", "a.b", "a.bc", "a.b.c", "a._", "a.end", "a.b.end", "a.b.c.end"},
		"a.b":   {"a.b", "a.b.c", "a.b.end", "a.b.c.end"},
		"a.b.c": {"a.b.c", "a.b.c.end"},
	}
	listeners := map[string]*listener{}
	for prefix := range wants {
		listeners[prefix] = to.listen(t, prefix)
	}
	for _, subject := range subjects {
		from.publish(t, subject, []byte(subject))
	}
	for prefix, want := range wants {
		for _, subject := range want {
			listeners[prefix].expect(t, subject, []byte(subject))
		}
	}
	for _, l := range listeners {
		l.expectNothing(t)
	}
}

func testContent(t *testing.T, n network) {
	from, beside, to := n.join(t), n.join(t), n.join(t)
	l, other := to.listen(t, "content"), to.listen(t, "beside")
	every := make([]byte, 256)
	for c := range every {
		every[c] = byte(c)
	}
	contents := [][]byte{nil, {0}, every, bytes.Repeat([]byte{0}, 9000), bytes.Repeat([]byte(`{"uid":"u"}`), 30_000)}
	generator := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{1, 5_970, 5_980, 5_990, 6_000, 7_950, 7_999, 8_000, 131_000, 131_072, bus.MaxMessage} {
		random := make([]byte, size)
		_, _ = generator.Read(random)
		contents = append(contents, random, bytes.Repeat([]byte{'x'}, size))
	}
	for n, content := range contents {
		given := bytes.Clone(content)
		from.publish(t, fmt.Sprintf("content.%d", n), given)
		clear(given) // the bus has a copy
		beside.publish(t, "beside", content)
	}
	for n, content := range contents {
		l.expect(t, fmt.Sprintf("content.%d", n), content)
		other.expect(t, "beside", content)
	}
}

func testRefusals(t *testing.T, n network) {
	s := n.join(t)
	if err := s.Publish("large", make([]byte, bus.MaxMessage+1)); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("a message that is too large came back with %v", err)
	}
	for _, subject := range []string{"", ".", "a.", "a..b", "a b", "a.*", "a.>", "ü", "a\x00", strings.Repeat("a", 201)} {
		if err := s.Publish(subject, nil); !errors.Is(err, bus.ErrSubject) {
			t.Errorf("publishing about %q came back with %v", subject, err)
		}
		if _, err := s.Subscribe(subject, bus.Subscriber{}); subject != "" && !errors.Is(err, bus.ErrSubject) {
			t.Errorf("subscribing to %q came back with %v", subject, err)
		}
	}
}

func testUnsubscribe(t *testing.T, n network) {
	from, to := n.join(t), n.join(t)
	l, stays := to.listen(t, "a"), to.listen(t, "a")
	from.publish(t, "a", nil)
	l.expect(t, "a", nil)
	l.unsubscribe()
	l.unsubscribe()
	from.publish(t, "a.second", nil)
	stays.expect(t, "a", nil)
	stays.expect(t, "a.second", nil)
	l.expectNothing(t)
}

func testSlowSubscriber(t *testing.T, n network) {
	from, to := n.join(t), n.join(t)
	l := to.listen(t, "flood")
	entered, release, order := make(chan struct{}), make(chan struct{}), make(chan string, 100_000)
	var first sync.Once
	_, err := to.Subscribe("flood", bus.Subscriber{
		Message: func(subject string, _ []byte) {
			first.Do(func() {
				close(entered)
				<-release
			})
			order <- subject
		},
		Missed: func() { order <- "missed" },
	})
	if err != nil {
		t.Fatal(err)
	}
	from.publish(t, "flood.first", nil)
	storetest.Await(t, entered, "the subscriber to be called")
	for range 12 { // 12,000 messages, slowly enough for the sender
		for range 1000 {
			from.publish(t, "flood", nil)
		}
		from.publish(t, "flood.round", nil)
		l.expectLast(t, "flood.round")
	}
	from.publish(t, "flood.last", nil)
	l.expectLast(t, "flood.last")
	if len(l.missed) > 0 {
		t.Error("a slow subscriber made another one miss something")
	}
	close(release)
	var got []string
	for len(got) == 0 || got[len(got)-1] != "flood.last" {
		got = append(got, storetest.Await(t, order, "the slow subscriber to go on"))
	}
	if got[0] != "flood.first" || got[1] != "missed" || len(got) > 3000 {
		t.Errorf("the slow subscriber was called %d times, first with %s", len(got), got[:2])
	}
	if told := slices.Index(got[2:], "missed"); told >= 0 {
		t.Error("the slow subscriber was told twice")
	}
	if overflowed := to.Stats().Overflowed; overflowed < 10_000 {
		t.Errorf("%d messages were counted as too many", overflowed)
	}
}

func testLastWords(t *testing.T, n network) {
	from, to := n.join(t), n.join(t)
	l := to.listen(t, "")
	for range 100 {
		from.publish(t, "bye", make([]byte, 10_000))
	}
	from.publish(t, "last", nil)
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if stats := from.Stats(); stats.Sent != 101 || stats.Dropped != 0 {
		t.Fatalf("closing left %+v", stats)
	}
	l.expectLast(t, "last")
	if err := from.Publish("late", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publishing on a closed bus came back with %v", err)
	}
	if _, err := from.Subscribe("late", bus.Subscriber{}); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("subscribing on a closed bus came back with %v", err)
	}
}

func testRestart(t *testing.T, n network) {
	if n.back == nil {
		t.Skip("it cannot go away")
	}
	from, to := n.join(t), n.join(t)
	l := to.listen(t, "")
	from.publish(t, "before", nil)
	l.expect(t, "before", nil)
	for round := range 2 {
		n.away(t)
		storetest.Await(t, from.down, "the sender to notice")
		storetest.Await(t, to.down, "the receiver to notice")
		from.publish(t, "meanwhile", nil)
		n.back(t)
		storetest.Await(t, to.up, "the receiver to be back")
		storetest.Await(t, from.up, "the sender to be back")
		storetest.Await(t, l.missed, "the subscriber to be told")
		from.publish(t, "after", nil)
		l.expectLast(t, "after")
		for _, s := range []*server{from, to} {
			if downs := s.downs.Load(); downs != int64(round+1) {
				t.Errorf("told %d times that the bus is down", downs)
			}
			if again := s.Stats().Reconnects; again != uint64(round+1) {
				t.Errorf("counted %d reconnects", again)
			}
		}
	}
}

func testFloodWhileAway(t *testing.T, n network) {
	if n.back == nil {
		t.Skip("it cannot go away")
	}
	from, to := n.join(t), n.join(t)
	n.away(t)
	storetest.Await(t, from.down, "the sender to notice")
	storetest.Await(t, to.down, "the receiver to notice")
	const messages = 20
	for m := range messages {
		from.publish(t, fmt.Sprintf("flood.%d", m), make([]byte, bus.MaxMessage))
	}
	if dropped := from.Stats().Dropped; dropped != messages-16 {
		t.Errorf("%d of %d MB are dropped", dropped, messages)
	}
	l := to.listen(t, "flood")
	n.back(t)
	storetest.Await(t, from.up, "the sender to be back")
	storetest.Await(t, to.up, "the receiver to be back")
	from.publish(t, "flood.last", nil)
	l.expectLast(t, "flood.last")
	storetest.Await(t, l.missed, "the subscriber to be told")
	if stats := from.Stats(); stats.Sent+stats.Dropped != messages+1 || stats.Sent == 0 {
		t.Errorf("counted %+v", stats)
	}
}

func testStartedWhileAway(t *testing.T, n network) {
	if n.back == nil {
		t.Skip("it cannot go away")
	}
	n.away(t)
	from, to := n.joinUnready(t), n.joinUnready(t)
	l := to.listen(t, "")
	storetest.Await(t, from.down, "the sender to notice")
	storetest.Await(t, to.down, "the receiver to notice")
	n.back(t)
	storetest.Await(t, from.up, "the sender to be there")
	storetest.Await(t, to.up, "the receiver to be there")
	storetest.Await(t, l.missed, "the subscriber to be told that there may have been something before")
	from.publish(t, "now", nil)
	l.expect(t, "now", nil)
	closing := time.Now()
	n.away(t)
	storetest.Await(t, from.down, "the sender to notice")
	from.publish(t, "never", nil)
	if err := from.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("closing without a bus took %v", time.Since(closing))
	n.back(t)
}
