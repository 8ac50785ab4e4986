package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/storetest"
)

// patience bounds how long a test waits for what must come.
const patience = storetest.Patience

// listener reads the events of a session in the background.
type listener struct {
	t       *testing.T
	session *client.Session
	told    chan string
	states  chan client.ConnectionState
	stop    context.CancelFunc
	done    sync.WaitGroup
	err     error // how the events ended; read after done
}

// listen logs a user in and reads what its session hears, as "uid status".
func listen(t *testing.T, c *client.Client, options client.SessionOptions) *listener {
	t.Helper()
	l := &listener{t: t, states: make(chan client.ConnectionState, 1000)}
	options.OnState = func(state client.ConnectionState, _ error) { l.states <- state }
	l.session = c.Presence.Session(options)
	l.listen()
	t.Cleanup(l.leave)
	return l
}

// listen reads what the session hears. After leave it may be called again.
func (l *listener) listen() {
	var ctx context.Context
	ctx, l.stop = context.WithCancel(l.t.Context())
	l.told = make(chan string, 1000)
	l.done.Go(func() {
		defer close(l.told)
		for status, err := range l.session.Events(ctx) {
			if err != nil {
				l.err = err
				return
			}
			l.told <- strings.TrimSpace(status.UID + " " + status.Status + " " + status.StatusText)
		}
	})
}

// leave ends the session, and waits until it has ended.
func (l *listener) leave() {
	l.stop()
	storetest.AwaitReturn(l.t, l.done.Wait, "the end of a session")
}

func (l *listener) hears(events ...string) {
	l.t.Helper()
	for _, want := range events {
		select {
		case got, open := <-l.told:
			if !open {
				l.t.Fatalf("the events ended with %v, want %q", l.err, want)
			}
			if got != want {
				l.t.Fatalf("heard %q, want %q", got, want)
			}
		case <-time.After(patience):
			l.t.Fatalf("did not hear %q", want)
		}
	}
}

// ends waits until the events have ended by themselves, and returns with what.
func (l *listener) ends() error {
	l.t.Helper()
	for {
		select {
		case got, open := <-l.told:
			if !open {
				l.done.Wait()
				return l.err
			}
			l.t.Fatalf("heard %q, want the end", got)
		case <-time.After(patience):
			l.t.Fatal("the events did not end")
		}
	}
}

func (l *listener) becomes(states ...client.ConnectionState) {
	l.t.Helper()
	for _, want := range states {
		select {
		case got := <-l.states:
			if got != want {
				l.t.Fatalf("the connection is %q, want %q", got, want)
			}
		case <-time.After(patience):
			l.t.Fatalf("the connection did not become %q", want)
		}
	}
}

// people creates users and returns a client for each of them, by uid.
func people(t *testing.T, s *apitest.Server, uids ...string) map[string]*client.Client {
	t.Helper()
	clients := map[string]*client.Client{}
	for _, uid := range uids {
		_, err := s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: uid, Name: uid})
		must(t, 0, err)
		clients[uid] = loggedIn(t, s, uid)
	}
	return clients
}

func loggedIn(t *testing.T, s *apitest.Server, uid string) *client.Client {
	t.Helper()
	token, err := s.Backend(t).AuthTokens.Create(t.Context(), uid, api.CreateAuthTokenRequest{})
	return s.Client(t, client.WithAuthToken(must(t, token, err).Token))
}

var everybody = client.SessionOptions{Subscribe: client.Subscription{All: true}}

func TestSession_tellsWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob", "cy")
	bob := listen(t, clients["bob"], everybody)
	bob.becomes(client.Connecting, client.Connected)
	ada := listen(t, clients["ada"], everybody)
	ada.hears("bob available")
	bob.hears("ada available")
	cy := listen(
		t, clients["cy"], client.SessionOptions{Status: "away", Subscribe: client.Subscription{UIDs: []string{"ada"}}},
	)
	cy.hears("ada available")
	ada.hears("cy away")
	bob.hears("cy away")
	must(t, 0, cy.session.SetStatus(t.Context(), api.StatusBody{Status: "busy", StatusText: "In a meeting"}))
	ada.hears("cy busy In a meeting")
	cy.leave()
	ada.hears("cy offline")
	bob.hears("cy busy In a meeting", "cy offline")
	for _, err := range ada.session.Events(t.Context()) {
		check(t, "a session is read once at a time", errors.Is(err, client.ErrSessionInUse))
	}
	count, err := s.Backend(t).Presence.OnlineCount(t.Context())
	check(t, "two are online", must(t, count, err) == 2)
}

// TestSession_returnsAsItWas connects again, after the server has forgotten the session: others are told once, of all
// that it had set.
func TestSession_returnsAsItWas(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob")
	ada := listen(t, clients["ada"], everybody)
	bob := listen(t, clients["bob"], client.SessionOptions{})
	ada.hears("bob available")
	end := time.Now().Add(time.Hour).Unix()
	must(
		t, 0, bob.session.SetStatus(t.Context(), api.StatusBody{Status: "busy", StatusText: "In a meeting", ExpiresAt: end}),
	)
	ada.hears("bob busy In a meeting")
	bob.leave()
	ada.hears("bob offline")
	bob.listen()
	ada.hears("bob busy In a meeting")
	bob.leave()
	ada.hears("bob offline")
	must(t, 0, bob.session.SetStatus(t.Context(), api.StatusBody{Status: "away"}))
	// This one has ended.
	must(t, 0, bob.session.SetStatus(t.Context(), api.StatusBody{Status: "busy", ExpiresAt: time.Now().Unix()}))
	bob.listen()
	ada.hears("bob away")
}

// TestSession_endsAStatus takes back a status that has an end, with nothing before it.
func TestSession_endsAStatus(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob")
	ada := listen(t, clients["ada"], everybody)
	bob := listen(t, clients["bob"], client.SessionOptions{})
	ada.hears("bob available")
	busyUntil := func(end time.Time) {
		must(t, 0, bob.session.SetStatus(t.Context(), api.StatusBody{Status: "busy", ExpiresAt: end.Unix()}))
	}
	busyUntil(time.Now().Add(time.Hour))
	ada.hears("bob busy")
	busyUntil(time.Now())
	ada.hears("bob available")
	must(t, 0, bob.session.SetStatus(t.Context(), api.StatusBody{Status: "away"}))
	ada.hears("bob away")
}

// TestSession_doesNotWaitForTheLoop changes a status while the loop is busy: the last is told. The state's listener may
// use the session.
func TestSession_doesNotWaitForTheLoop(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob")
	states := make(chan client.ConnectionState, 100)
	var session *client.Session
	session = clients["ada"].Presence.Session(client.SessionOptions{
		Subscribe: client.Subscription{All: true},
		OnState: func(state client.ConnectionState, _ error) {
			if state == client.Connected { // the natural place to say how one is
				must(t, 0, session.SetStatus(t.Context(), api.StatusBody{Status: "busy"}))
			}
			states <- state
		},
	})
	bob := listen(t, clients["bob"], everybody)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var told []string
	for status, err := range session.Events(ctx) {
		must(t, 0, err)
		told = append(told, status.UID+" "+status.Status)
		switch len(told) {
		case 1:
			bob.hears("ada available", "ada busy")
			for _, status := range []string{"away", "busy", "away", "busy"} {
				must(t, 0, bob.session.SetStatus(t.Context(), api.StatusBody{Status: status, StatusText: status}))
			}
		default:
			if status.StatusText == "busy" {
				stop()
			}
		}
	}
	check(t, "the last status is told: "+strings.Join(told, ", "), told[len(told)-1] == "bob busy")
	for _, want := range []client.ConnectionState{client.Connecting, client.Connected, client.Disconnected} {
		check(t, "the connection has held", storetest.Await(t, states, "a state of the connection") == want)
	}
	check(t, "the connection has held", len(states) == 0)
}

func TestSession_endsWhenRefused(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada")
	ada := listen(t, clients["ada"], client.SessionOptions{Status: "sleeping"})
	var refused *client.Error
	check(t, "a status that there is not", errors.As(ada.ends(), &refused) && refused.Message != "")
}

func TestSession_subscribesToRolesAndFriends(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob", "star", "other")
	_, err := s.Backend(t).Roles.Create(t.Context(), api.CreateRoleRequest{Role: "star", Name: "Star"})
	must(t, 0, err)
	_, err = s.Backend(t).Users.Update(t.Context(), "star", api.UpdateUserRequest{Role: new("star")})
	must(t, 0, err)
	_, err = s.Backend(t).Friends.Add(t.Context(), "bob", "star")
	must(t, 0, err)
	roles := listen(t, clients["ada"], client.SessionOptions{Subscribe: client.Subscription{Roles: []string{"star"}}})
	friends := listen(t, clients["bob"], client.SessionOptions{Subscribe: client.Subscription{Friends: true}})
	nobody := listen(t, clients["other"], client.SessionOptions{})
	for _, l := range []*listener{roles, friends, nobody} {
		l.becomes(client.Connecting, client.Connected)
	}
	star := listen(t, clients["star"], everybody)
	roles.hears("star available")
	friends.hears("star available")
	star.leave()
	roles.hears("star offline")
	friends.hears("star offline")
	nobody.leave()
	check(t, "who subscribes to nobody hears nobody", nobody.ends() == nil)
}

// TestSession_resumes breaks the connection of a listener while others come and go. What it missed is told once,
// whether the server still knows how far it had come or not.
func TestSession_resumes(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.Grace = time.Second })
	clients := people(t, s, "ada", "stays", "goes", "comes")
	line := newLine(t, s.URL)
	ada := listen(t, loggedInVia(t, s, "ada", line), everybody)
	ada.becomes(client.Connecting, client.Connected)
	listen(t, clients["stays"], everybody)
	ada.hears("stays available")
	goes := listen(t, clients["goes"], everybody)
	ada.hears("goes available")
	line.cut()
	ada.becomes(client.Disconnected)
	goes.leave()
	comes := listen(t, clients["comes"], everybody)
	line.mend()
	heard := map[string]bool{}
	for range 2 {
		select {
		case event := <-ada.told:
			heard[event] = true
		case <-time.After(patience):
			t.Fatal("what was missed is not told")
		}
	}
	check(t, "what was missed is told", heard["goes offline"] && heard["comes available"])
	comes.leave()
	ada.hears("comes offline")
}

// TestSession_noticesSilence lets a connection go silent, as a network does without a word.
func TestSession_noticesSilence(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	people(t, s, "ada")
	line := newLine(t, s.URL)
	ada := listen(t, loggedInVia(t, s, "ada", line), everybody)
	ada.becomes(client.Connecting, client.Connected)
	line.silence()
	ada.becomes(client.Disconnected)
	line.cut()
	line.mend()
	for state := range ada.states {
		if state == client.Connected {
			return
		}
	}
}

// TestSession_survivesARestart restarts the server. Whoever comes back has not gone, and whoever does not is told to
// have.
func TestSession_survivesARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	start := func(address string) *apitest.Server {
		return apitest.Start(t, "", func(config *server.Config) {
			config.DataDir, config.HTTP, config.ReturnWithin = folder, address, 5*time.Second
		})
	}
	s := start("127.0.0.1:0")
	clients := people(t, s, "ada", "bob", "cy")
	ada := listen(t, clients["ada"], everybody)
	ada.becomes(client.Connecting, client.Connected)
	bob := listen(t, clients["bob"], client.SessionOptions{})
	ada.hears("bob available")
	cy := listen(t, clients["cy"], client.SessionOptions{})
	ada.hears("cy available")
	must(t, 0, s.Close())
	ada.becomes(client.Disconnected)
	cy.leave()
	start(strings.TrimPrefix(s.URL, "http://"))
	bob.becomes(client.Connecting, client.Connected, client.Disconnected)
	for event := range ada.told {
		if event == "cy offline" {
			return
		}
		check(t, "nobody goes who has only seen a restart: "+event, event == "bob available" || event == "cy available")
	}
	t.Error("the events have ended")
}

func TestSession_endsWhenRevoked(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob", "cy")
	ada := listen(t, clients["ada"], everybody)
	ada.becomes(client.Connecting, client.Connected)
	_, err := s.Backend(t).AuthTokens.RevokeOfUser(t.Context(), "ada", 0)
	must(t, 0, err)
	ended := ada.ends()
	check(t, "a revoked token ends the events: "+fmt.Sprint(ended), client.IsCode(ended, api.CodeAuthTokenUnknown))
	check(
		t, "and so does one that was revoked before",
		client.IsCode(listen(t, clients["ada"], everybody).ends(), api.CodeAuthTokenUnknown),
	)

	bob := listen(t, clients["bob"], client.SessionOptions{})
	bob.becomes(client.Connecting, client.Connected)
	_, err = s.Backend(t).Users.Deactivate(t.Context(), "bob")
	must(t, 0, err)
	var refused *client.Error
	check(t, "so does being deactivated", errors.As(bob.ends(), &refused))

	cy := listen(t, clients["cy"], client.SessionOptions{DeviceID: "phone"})
	cy.becomes(client.Connecting, client.Connected)
	devices, err := s.Backend(t).Presence.Devices(t.Context(), "cy")
	check(t, "the device is there", len(must(t, devices, err).Devices) == 1 && devices.Devices[0].DeviceID == "phone")
	_, err = s.Backend(t).Presence.Disconnect(t.Context(), "cy", "phone")
	must(t, 0, err)
	cy.becomes(client.Disconnected, client.Connecting, client.Connected)
	// What is stored follows within a second.
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		timeline, err := s.Backend(t).Presence.Timeline(t.Context(), "cy")
		if len(must(t, timeline, err)) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing comes on the timeline")
		}
	}
}

func TestPresence_follow(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada", "bob")
	listen(t, clients["ada"], everybody).becomes(client.Connecting, client.Connected)
	told := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for status, err := range s.Backend(t).Presence.Follow(ctx) {
			if err != nil {
				t.Error(err)
			}
			told <- status.UID + " " + status.Status
		}
	})
	defer reading.Wait()
	defer stop()
	check(t, "those online come first", storetest.Await(t, told, "ada") == "ada available")
	bob := listen(t, clients["bob"], client.SessionOptions{Status: "invisible"})
	check(t, "a key sees those invisible", storetest.Await(t, told, "bob") == "bob invisible")
	found, err := s.Backend(t).Presence.Query(t.Context(), "ada", "nobody")
	check(t, "query", must(t, found, err).Users[0].Status == "available" && found.NotFound[0] == "nobody")
	bob.leave()
	check(t, "they go", storetest.Await(t, told, "bob, who goes") == "bob offline")
}

// TestSession_leaksNothing connects again and again.
func TestSession_leaksNothing(t *testing.T) {
	s := apitest.Start(t, "", nil)
	clients := people(t, s, "ada")
	round := func() {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		session := clients["ada"].Presence.Session(client.SessionOptions{
			DeviceID: "one",
			OnState: func(state client.ConnectionState, _ error) {
				if state == client.Connected {
					stop()
				}
			},
		})
		for _, err := range session.Events(ctx) {
			must(t, 0, err)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	for range 50 {
		round()
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	for range 1000 {
		round()
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+5 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if now := runtime.NumGoroutine(); now > goroutines+5 {
		t.Errorf("%d goroutines, then %d", goroutines, now)
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap has grown from %d to %d", before, after)
	}
}

// line is a connection to the server that can be cut.
type line struct {
	target string
	listen net.Listener

	silent atomic.Bool

	mu    sync.Mutex
	down  bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
	done  sync.WaitGroup
}

func newLine(t *testing.T, url string) *line {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	l := &line{target: strings.TrimPrefix(url, "http://"), listen: must(t, listen, err), conns: map[net.Conn]struct{}{}}
	l.done.Go(func() {
		for {
			near, err := l.listen.Accept()
			if err != nil {
				return
			}
			l.done.Go(func() { l.join(near) })
		}
	})
	t.Cleanup(func() {
		_ = l.listen.Close()
		l.cut()
		l.done.Wait()
	})
	return l
}

// join passes on everything between a client and the server until one of them ends.
func (l *line) join(near net.Conn) {
	far, err := net.Dial("tcp", l.target)
	if err != nil || !l.add(near, far) {
		_ = near.Close()
		return
	}
	var passing sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		passing.Go(func() {
			_, _ = io.Copy(quiet{way[1], &l.silent}, way[0])
			_ = way[1].Close()
		})
	}
	passing.Wait()
}

// quiet is a writer that loses everything while it is to be silent.
type quiet struct {
	io.Writer
	silent *atomic.Bool
}

func (q quiet) Write(data []byte) (int, error) {
	if q.silent.Load() {
		return len(data), nil
	}
	return q.Writer.Write(data)
}

func (l *line) silence() { l.silent.Store(true) }

func (l *line) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range conns {
		l.conns[conn] = struct{}{}
		if l.down {
			_ = conn.Close()
		}
	}
	return !l.down
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for conn := range l.conns {
		_ = conn.Close()
	}
	clear(l.conns)
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
	l.silent.Store(false)
}

// loggedInVia returns a client that reaches the server over a line.
func loggedInVia(t *testing.T, s *apitest.Server, uid string, l *line) *client.Client {
	t.Helper()
	token, err := s.Backend(t).AuthTokens.Create(t.Context(), uid, api.CreateAuthTokenRequest{})
	c, err2 := client.New(
		"http://"+l.listen.Addr().String(), client.WithApp(s.Credentials.AppID),
		client.WithAuthToken(must(t, token, err).Token),
		client.WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}),
	)
	return must(t, c, err2)
}
