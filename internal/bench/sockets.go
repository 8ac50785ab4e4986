package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/poller"
)

const (
	idleSockets   = 15_000
	secureSockets = 4_000
	watchers      = 10_000
	dialers       = 64
	// flips is how often the watched user changes in one turn, and between is the least time from one to the next.
	flips   = 12
	between = 400 * time.Millisecond
	// busyFlips is how many of the watchers change each second, each of whom is watched by watchedBy others.
	busyFlips = 5_000
	watchedBy = 50
	// star is the role that everybody watches. One user has it.
	star = "star"
)

// subscriber is a socket of a client: just enough of one to leave most of the machine to the server.
type subscriber struct {
	link    poller.Link
	partial []byte
	// heard is told of each frame, by the poller's goroutine.
	heard  func(payload []byte)
	closed func(error)
}

const serverPing = 0x89

var clientPong = []byte{0x8a, 0x80, 0, 0, 0, 0}

func (s *subscriber) Receive(received []byte) {
	data := received
	if len(s.partial) > 0 {
		s.partial = append(s.partial, received...)
		data = s.partial
	}
	for {
		payload, rest, complete := cutFrame(data)
		if !complete {
			break
		}
		if data[0] == serverPing {
			_, _ = s.link.Write(clientPong) // who is gone is seen as closed
		} else {
			s.heard(payload)
		}
		data = rest
	}
	s.partial = append(s.partial[:0:0], data...)
}

func (s *subscriber) Writable() {}

func (s *subscriber) Closed(err error) { s.closed(err) }

// cutFrame takes the first frame of a server off the data.
func cutFrame(data []byte) (payload, rest []byte, complete bool) {
	if len(data) < 2 {
		return nil, data, false
	}
	size, header := int(data[1]), 2
	switch {
	case size == 126 && len(data) >= 4:
		size, header = int(data[2])<<8|int(data[3]), 4
	case size == 127 && len(data) >= 10:
		size, header = int(data[6])<<24|int(data[7])<<16|int(data[8])<<8|int(data[9]), 10
	case size >= 126:
		return nil, data, false
	}
	if len(data) < header+size {
		return nil, data, false
	}
	return data[header : header+size], data[header+size:], true
}

// frame makes a client's text frame. Its mask is zero: what masks are for, browsers need, and not this.
func frame(payload []byte) []byte {
	f := []byte{0x81}
	switch {
	case len(payload) < 126:
		f = append(f, 0x80|byte(len(payload)))
	case len(payload) < 1<<16:
		f = append(f, 0x80|126, byte(len(payload)>>8), byte(len(payload)))
	default:
		f = append(
			f, 0x80|127, 0, 0, 0, 0, byte(len(payload)>>24), byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)),
		)
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

// crowd is many subscribers.
type crowd struct {
	poller  *poller.Poller
	address string
	secure  bool
	from    net.IP
	members []*subscriber
	lost    atomic.Int64
}

// newCrowd returns a crowd that connects from an address of its own: the ports of another, just closed, are not free
// yet.
func (r *run) newCrowd(address string, secure bool) *crowd {
	r.crowds++
	pid := os.Getpid()
	return &crowd{
		poller: poller.New(), address: address, secure: secure,
		from: net.IPv4(127, byte(pid>>8)|1, byte(pid), byte(r.crowds)),
	}
}

// choosePortLate makes the kernel choose the port when it knows the other side too: otherwise it takes longer with each
// socket from the same address.
func choosePortLate(_, _ string, raw syscall.RawConn) error {
	const bindAddressNoPort = 24 // of Linux
	var failure error
	err := raw.Control(func(fd uintptr) {
		failure = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, bindAddressNoPort, 1)
	})
	return errors.Join(err, failure)
}

const upgrade = "GET /ws:443 HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// open opens a socket and hands its frames to heard.
func (c *crowd) open(ctx context.Context, heard func(payload []byte)) (*subscriber, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.from}, Control: choosePortLate}
	plain, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	var conn net.Conn = &poller.Conn{Conn: plain}
	if c.secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // the certificate is the server's own
	}
	if _, err := conn.Write([]byte(upgrade)); err != nil {
		return nil, err
	}
	answer := make([]byte, 0, 512)
	for !bytes.Contains(answer, []byte("\r\n\r\n")) {
		n, err := conn.Read(answer[len(answer):cap(answer)])
		if answer = answer[:len(answer)+n]; err != nil {
			return nil, err
		}
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101")) {
		return nil, fmt.Errorf("no upgrade: %s", answer)
	}
	s := &subscriber{heard: heard, closed: func(error) { c.lost.Add(1) }}
	s.link, err = c.poller.Adopt(conn, func(link poller.Link) poller.Handler {
		s.link = link
		return s
	})
	return s, err
}

// login opens a socket and authenticates it, and returns when that is answered.
func (c *crowd) login(ctx context.Context, auth []byte, heard func(payload []byte)) (*subscriber, error) {
	answered := make(chan error, 1)
	welcomed := false
	s, err := c.open(ctx, func(payload []byte) {
		if welcomed {
			heard(payload)
			return
		}
		welcomed = true
		if !bytes.Contains(payload, []byte(`"code":"200"`)) {
			answered <- fmt.Errorf("auth: %s", payload)
			return
		}
		answered <- nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.link.Write(auth); err != nil {
		return nil, err
	}
	select {
	case err := <-answered:
		return s, err
	case <-time.After(time.Minute):
		return nil, errors.New("the auth frame was not answered")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// gather makes many members at once with dialers, and returns what it cost the server.
func (c *crowd) gather(ctx context.Context, pid, count int, join func(n int) (*subscriber, error)) (result, error) {
	before, err := cpu(pid)
	if err != nil {
		return result{}, err
	}
	first := len(c.members)
	c.members = append(c.members, make([]*subscriber, count)...)
	var next atomic.Int64
	failures := make([]error, dialers)
	latencies := make([]time.Duration, count)
	started := time.Now()
	var workers sync.WaitGroup
	for i := range dialers {
		workers.Go(func() {
			for failures[i] == nil && ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				began := time.Now()
				c.members[first+n], failures[i] = join(n)
				latencies[n] = time.Since(began)
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(started)
	after, err := cpu(pid)
	return result{
		ops: int64(count), elapsed: elapsed, latencies: latencies, cpu: after - before,
	}, errors.Join(append(failures, err, ctx.Err())...)
}

// close ends all sockets at once, without a word.
func (c *crowd) close() error { return c.poller.Close() }

// ids are what sockets authenticate with.
type ids struct {
	app  string
	uids []string
	jwts []string
}

// auth returns the auth frame of the n-th user with a subscription.
func (i *ids) auth(n int, body api.AuthBody) []byte {
	body.Auth = i.jwts[n]
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // texts are always JSON
	}
	text, err := json.Marshal(api.Frame{Type: api.FrameAuth, AppID: i.app, DeviceID: "bench-" + strconv.Itoa(n), Sender: i.uids[n], Body: raw})
	if err != nil {
		panic(err)
	}
	return frame(text)
}

// logIn logs users in over HTTP.
func (r *run) logIn(ctx context.Context, count int) (*ids, error) {
	backend, err := r.client()
	if err != nil {
		return nil, err
	}
	all := &ids{app: r.credentials.AppID, uids: make([]string, count), jwts: make([]string, count)}
	var next atomic.Int64
	failures := make([]error, dialers)
	var workers sync.WaitGroup
	shared := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: dialers}}
	defer shared.CloseIdleConnections()
	for i := range dialers {
		workers.Go(func() {
			for failures[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				all.uids[n] = fmt.Sprintf("user-%d", n)
				all.jwts[n], failures[i] = r.jwt(ctx, shared, backend, all.uids[n])
			}
		})
	}
	workers.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	return all, nil
}

// makeStar gives a user the role that is watched.
func (r *run) makeStar(ctx context.Context, uid string) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	if _, err := c.Roles.Create(ctx, api.CreateRoleRequest{Role: star, Name: "Star"}); err != nil {
		return err
	}
	role := star
	_, err = c.Users.Update(ctx, uid, api.UpdateUserRequest{Role: &role})
	return err
}

func (r *run) jwt(ctx context.Context, shared *http.Client, backend *client.Client, uid string) (string, error) {
	token, err := backend.AuthTokens.Create(ctx, uid, api.CreateAuthTokenRequest{Force: true})
	if err != nil {
		return "", err
	}
	user, err := client.New("http://"+r.server.address, client.WithApp(r.credentials.AppID), client.WithAuthToken(token.Token), client.WithHTTPClient(shared))
	if err != nil {
		return "", err
	}
	me, err := user.Me.Get(ctx)
	return me.JWT, err
}

// freePort returns an address of this machine that nobody listens on.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

var (
	toNobody = api.AuthBody{}
	toStars  = api.AuthBody{PresenceSubscription: api.SubscribeRoles, Roles: []string{star}}
	// toStatuses hears of each status: others are told only that somebody is online.
	toStatuses = api.AuthBody{
		PresenceSubscription: api.SubscribeRoles, Roles: []string{star}, Rollcall: &api.SocketExtension{},
	}
)

func ignore([]byte) {}

// measureSockets measures connections, what they cost while nothing happens, and how presence reaches many.
func (r *run) measureSockets(ctx context.Context) (err error) {
	if r.Users < idleSockets {
		return fmt.Errorf("sockets need %d users", idleSockets)
	}
	secure, err := freePort()
	if err != nil {
		return err
	}
	r.say("starting the server for sockets")
	if err := r.restartForSockets(ctx, secure); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop(ctx)) }()
	r.say("logging %d users in", idleSockets)
	users, err := r.logIn(ctx, idleSockets)
	if err != nil {
		return err
	}
	if err := r.makeStar(ctx, users.uids[idleSockets-1]); err != nil {
		return err
	}
	if err := r.restartForSockets(ctx, secure); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *ids) error{
		r.measureIdle, r.measureStorm, r.measureFanout, r.measureManyFlips,
	} {
		if err := step(ctx, users); err != nil {
			return err
		}
	}
	return r.measureSecure(ctx, users, secure)
}

// restartForSockets starts the server anew, so that its memory is that of a server that has done nothing yet.
func (r *run) restartForSockets(ctx context.Context, secure string) (err error) {
	if err := r.stop(ctx); err != nil {
		return err
	}
	r.server, err = r.startServer(ctx, "sqlite", "--https", secure)
	return err
}

// settle waits until the memory of the server does not shrink any more, and returns it.
func (r *run) settle(ctx context.Context) (least int64, err error) {
	pid := r.server.cmd.Process.Pid
	if least, err = rss(pid); err != nil {
		return 0, err
	}
	for steady := 0; steady < 10; steady++ {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		now, err := rss(pid)
		if err != nil {
			return 0, err
		}
		if now < least {
			least, steady = now, 0
		}
	}
	return least, nil
}

func (r *run) measureIdle(ctx context.Context, users *ids) error {
	pid := r.server.cmd.Process.Pid
	before, err := r.settle(ctx)
	if err != nil {
		return err
	}
	r.say("opening %d sockets", idleSockets)
	c := r.newCrowd(r.server.address, false)
	connected, echo, err := r.besideEcho(ctx, 16, func() (result, error) {
		return c.gather(ctx, pid, idleSockets, func(n int) (*subscriber, error) {
			return c.login(ctx, users.auth(n, toStars), ignore)
		})
	})
	if err != nil {
		return errors.Join(err, c.close())
	}
	r.addLoad("socket: connect and authenticate", dialers, connected).atMostEchoes(connected, echo, 4)
	after, err := r.settle(ctx)
	if err != nil {
		return errors.Join(err, c.close())
	}
	each := float64(after-before) / idleSockets / 1000
	r.addValue(
		fmt.Sprintf("memory per idle socket, %d of them", idleSockets), fmt.Sprintf("%.2f kB", each), "<= 6 kB", each <= 6,
	)

	r.say("pinging")
	ping := frame([]byte(`{"action":"ping","ack":"true"}`))
	const window = 15 * time.Second
	used, err := cpu(pid)
	if err != nil {
		return errors.Join(err, c.close())
	}
	started := time.Now()
	for n, member := range c.members {
		if wait := time.Until(started.Add(window * time.Duration(n) / idleSockets)); wait > time.Millisecond {
			pause(ctx, wait)
		}
		if _, err := member.link.Write(ping); err != nil {
			return errors.Join(err, c.close())
		}
	}
	now, err := cpu(pid)
	if err != nil {
		return errors.Join(err, c.close())
	}
	pinged := result{ops: idleSockets, elapsed: time.Since(started), cpu: now - used}
	r.rows = append(r.rows, Row{
		Operation: fmt.Sprintf("%d sockets that ping every 15 s", idleSockets), CPU: microseconds(pinged.perOp()),
		Value: fmt.Sprintf("%.3f cores", pinged.cpu.Seconds()/pinged.elapsed.Seconds()),
	})
	r.rows[len(r.rows)-1].atMostEchoes(pinged, echo, 2.5)
	if lost := c.lost.Load(); lost > 0 {
		err = fmt.Errorf("%d idle sockets were closed", lost)
	}
	return errors.Join(err, c.close())
}

// storms is how often all sockets are dropped at once.
const storms = 3

// measureStorm drops all sockets at once and lets them come back at once, again and again: nobody may be told that
// anybody was away, and the server must look afterwards as it did before.
func (r *run) measureStorm(ctx context.Context, users *ids) (err error) {
	r.say("dropping %d sockets at once, %d times", idleSockets, storms)
	var c *crowd
	join := func() error {
		c = r.newCrowd(r.server.address, false)
		_, err := c.gather(ctx, r.server.cmd.Process.Pid, idleSockets, func(n int) (*subscriber, error) {
			return c.login(ctx, users.auth(n, toStars), ignore)
		})
		return err
	}
	if err := join(); err != nil {
		return err
	}
	before, err := r.settle(ctx)
	if err != nil {
		return errors.Join(err, c.close())
	}
	offline, goroutines, err := r.presenceNumbers(ctx)
	if err != nil {
		return errors.Join(err, c.close())
	}
	longest := time.Duration(0)
	for range storms {
		began := time.Now()
		if err := c.close(); err != nil {
			return err
		}
		if err := join(); err != nil {
			return errors.Join(err, c.close())
		}
		longest = max(longest, time.Since(began))
	}
	after, err := r.settle(ctx)
	if err != nil {
		return errors.Join(err, c.close())
	}
	offlineAfter, goroutinesAfter, err := r.presenceNumbers(ctx)
	if err != nil {
		return errors.Join(err, c.close())
	}
	row := Row{
		Operation: fmt.Sprintf("storm: %d sockets drop and return, %d times", idleSockets, storms), Concurrency: dialers,
	}
	row.Value = fmt.Sprintf(
		"%.0f told offline, all back in %.1f s, RSS %+.1f MB, goroutines %+.0f", offlineAfter-offline, longest.Seconds(),
		megabytes(after-before), goroutinesAfter-goroutines,
	)
	row.goal(
		"nobody told, memory as before", offlineAfter == offline && after-before < 10e6 && goroutinesAfter-goroutines < 10,
	)
	r.rows = append(r.rows, row)
	return c.close()
}

// presenceNumbers returns how many users were told to be offline so far, and how many goroutines there are.
func (r *run) presenceNumbers(ctx context.Context) (offline, goroutines float64, err error) {
	text, err := ask(ctx, http.MethodGet, "http://"+r.server.address+"/metrics")
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if strings.HasPrefix(name, `rollcall_presence_transitions_total{`) && strings.Contains(name, `status="offline"`) {
			number, parseErr := strconv.ParseFloat(value, 64)
			offline, err = offline+number, errors.Join(err, parseErr)
		}
		if number, found := strings.CutPrefix(strings.TrimSpace(line), "go_goroutines "); found {
			goroutines, _ = strconv.ParseFloat(number, 64) // it is one
		}
	}
	return offline, goroutines, err
}

// arrivals gathers when each watcher hears of one change.
type arrivals struct {
	started time.Time
	left    atomic.Int64
	done    chan struct{}
	each    []atomic.Int64 // latencies in nanoseconds, by watcher
}

func newArrivals(count int) *arrivals {
	return &arrivals{each: make([]atomic.Int64, count)}
}

func (a *arrivals) begin() {
	a.done = make(chan struct{})
	a.left.Store(int64(len(a.each)))
	a.started = time.Now()
}

func (a *arrivals) arrived(watcher int) {
	a.each[watcher].Store(int64(time.Since(a.started)))
	if a.left.Add(-1) == 0 {
		close(a.done)
	}
}

// pause keeps to the pace of a load.
func pause(ctx context.Context, wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// flip makes one change and waits until the last watcher has heard of it. It adds the time of the last to the result.
func (a *arrivals) flip(ctx context.Context, total *result, change func() error) error {
	a.begin()
	if err := change(); err != nil {
		return err
	}
	select {
	case <-a.done:
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%d watchers did not hear of a change", a.left.Load())
	case <-ctx.Done():
		return ctx.Err()
	}
	last := time.Duration(0)
	for i := range a.each {
		last = max(last, time.Duration(a.each[i].Load()))
	}
	total.latencies = append(total.latencies, last)
	total.ops += int64(len(a.each))
	pause(ctx, between-time.Since(a.started))
	return nil
}

// measureFanout compares how a change reaches many watchers with a bare broadcast.
func (r *run) measureFanout(ctx context.Context, users *ids) (err error) {
	r.say("gathering %d watchers, here and at a bare socket server", watchers)
	bare, err := start(ctx, filepath.Join(r.folder, "broadcast.log"), "bench", "broadcast")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	// Both crowds together need more files than a process may have: they take turns.
	const rounds = 2
	var floor, ours result
	for range rounds {
		turn, err := r.bareFlips(ctx, bare)
		if err != nil {
			return err
		}
		floor.add(turn)
		if turn, err = r.ourFlips(ctx, users); err != nil {
			return err
		}
		ours.add(turn)
	}
	r.rows = append(r.rows, Row{
		Operation: "floor: bare broadcast, last watcher", Concurrency: watchers, P50: milliseconds(floor.percentile(50)),
		P99: milliseconds(floor.percentile(99)), CPU: microseconds(floor.perOp()),
	})
	row := r.addLoad("presence: one user flips, last watcher", watchers, ours)
	row.Rate = 0
	work, time := microseconds(ours.perOp())/microseconds(floor.perOp()), milliseconds(ours.percentile(99))/milliseconds(floor.percentile(99))
	row.Ratio = fmt.Sprintf("%.2fx CPU a delivery, %.2fx p99", work, time)
	row.goal("<= 1.3x CPU, <= 1.25x p99", work <= 1.3 && time <= 1.25)
	r.bareDelivery = floor.perOp()
	return nil
}

func (r *run) bareFlips(ctx context.Context, bare *process) (total result, err error) {
	c := r.newCrowd(bare.address, false)
	defer func() { err = errors.Join(err, c.close()) }()
	pid := bare.cmd.Process.Pid
	seen := newArrivals(watchers)
	if _, err = c.gather(ctx, pid, watchers, func(n int) (*subscriber, error) {
		return c.open(ctx, func([]byte) { seen.arrived(n) })
	}); err != nil {
		return total, err
	}
	for held := ""; held != strconv.Itoa(watchers); pause(ctx, 10*time.Millisecond) {
		if held, err = ask(ctx, http.MethodGet, "http://"+bare.address+"/connections"); err != nil {
			return total, err
		}
	}
	return r.measureFlips(ctx, pid, seen, func(int) error {
		_, err := ask(ctx, http.MethodPost, "http://"+bare.address+"/broadcast")
		return err
	})
}

// ask makes a request and returns the body of the answer.
func ask(ctx context.Context, method, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	return string(body), errors.Join(err, response.Body.Close())
}

func (r *run) ourFlips(ctx context.Context, users *ids) (total result, err error) {
	c := r.newCrowd(r.server.address, false)
	defer func() {
		if lost := c.lost.Load(); lost > 0 {
			err = errors.Join(err, fmt.Errorf("%d sockets were closed", lost))
		}
		err = errors.Join(err, c.close())
	}()
	pid := r.server.cmd.Process.Pid
	watched, err := c.login(ctx, users.auth(len(users.uids)-1, toNobody), ignore)
	if err != nil {
		return total, err
	}
	seen := newArrivals(watchers)
	if _, err := c.gather(ctx, pid, watchers, func(n int) (*subscriber, error) {
		return c.login(ctx, users.auth(n, toStatuses), func([]byte) { seen.arrived(n) })
	}); err != nil {
		return total, err
	}
	if !slices.ContainsFunc(r.rows, func(row Row) bool { return row.Operation == addedWatcher }) {
		// Those who come last find nearly all the others there.
		extra, echo, err := r.besideEcho(ctx, 16, func() (result, error) {
			return c.gather(ctx, pid, 2000, func(n int) (*subscriber, error) {
				return c.login(ctx, users.auth(watchers+n, toNobody), ignore)
			})
		})
		if err != nil {
			return total, err
		}
		r.addLoad(addedWatcher, dialers, extra).atMostEchoes(extra, echo, 4)
	}
	return r.measureFlips(ctx, pid, seen, func(n int) error {
		// The text is another one each time: whoever is back within the grace has the status that it had.
		status := []string{"busy", "available"}[n%2]
		_, err := watched.link.Write(frame(fmt.Appendf(nil,
			`{"type":"status","body":{"status":"%s","statusText":"%d"}}`, status, time.Now().UnixNano())))
		return err
	})
}

const addedWatcher = "socket: one more, with 10,000 online"

func (r *run) measureFlips(
	ctx context.Context, pid int, seen *arrivals, change func(n int) error,
) (total result, err error) {
	var warm result
	if err := seen.flip(ctx, &warm, func() error { return change(0) }); err != nil {
		return total, err
	}
	before, err := cpu(pid)
	if err != nil {
		return total, err
	}
	started := time.Now()
	for n := range flips {
		if err := seen.flip(ctx, &total, func() error { return change(n + 1) }); err != nil {
			return total, err
		}
	}
	total.elapsed = time.Since(started)
	after, err := cpu(pid)
	total.cpu = after - before
	return total, err
}

// measureManyFlips lets many users flip all the time, each watched by some others.
func (r *run) measureManyFlips(ctx context.Context, users *ids) (err error) {
	r.say("gathering %d users who watch each other", watchers)
	c := r.newCrowd(r.server.address, false)
	defer func() { err = errors.Join(err, c.close()) }()
	pid := r.server.cmd.Process.Pid
	var latencies sync.Map // by poller goroutine would be better, and is not to be had: one slice for each watcher
	measuring := new(atomic.Bool)
	_, err = c.gather(ctx, pid, watchers, func(n int) (*subscriber, error) {
		own := new([]time.Duration)
		latencies.Store(n, own)
		watched := make([]string, watchedBy)
		for i := range watched {
			watched[i] = users.uids[(n+1+i*197)%watchers]
		}
		body := api.AuthBody{PresenceSubscription: api.SubscribeUIDs, UIDs: watched, Rollcall: &api.SocketExtension{}}
		return c.login(ctx, users.auth(n, body), func(payload []byte) {
			if sent, ok := sentAt(payload); ok && measuring.Load() {
				*own = append(*own, time.Since(time.Unix(0, sent)))
			}
		})
	})
	if err != nil {
		return err
	}
	r.say("flipping")
	flip := func(n int) error {
		status := []string{"busy", "available"}[n/watchers%2]
		_, err := c.members[n%watchers].link.Write(
			frame(fmt.Appendf(nil, `{"type":"status","body":{"status":"%s","statusText":"%d"}}`, status, time.Now().UnixNano())),
		)
		return err
	}
	run := func(from int, duration time.Duration) (n int, err error) {
		started := time.Now()
		for n = from; time.Since(started) < duration && ctx.Err() == nil; n++ {
			if wait := time.Until(started.Add(time.Duration(n-from) * time.Second / busyFlips)); wait > time.Millisecond {
				pause(ctx, wait)
			}
			if err := flip(n); err != nil {
				return n, err
			}
		}
		return n, ctx.Err()
	}
	n, err := run(0, 4*time.Second)
	if err != nil {
		return err
	}
	before, err := rss(pid)
	if err != nil {
		return err
	}
	used, err := cpu(pid)
	if err != nil {
		return err
	}
	measuring.Store(true)
	started := time.Now()
	last, err := run(n, max(r.Duration, 5*time.Second))
	if err != nil {
		return err
	}
	elapsed := time.Since(started)
	now, err := cpu(pid)
	if err != nil {
		return err
	}
	pause(ctx, time.Second) // what is on its way arrives
	measuring.Store(false)
	var all []time.Duration
	latencies.Range(func(_, own any) bool {
		all = append(all, *own.(*[]time.Duration)...) //nolint:forcetypeassert // nothing else is stored
		return true
	})
	grown, err := rss(pid)
	if err != nil {
		return err
	}
	measured := result{ops: int64(len(all)), elapsed: elapsed, latencies: all, cpu: now - used}
	row := r.addLoad(
		fmt.Sprintf("presence: %.0f flips/s, %d watchers each", float64(last-n)/elapsed.Seconds(), watchedBy), watchers,
		measured,
	)
	row.Value = fmt.Sprintf(
		"%.2f cores, memory %+.0f MB", measured.cpu.Seconds()/elapsed.Seconds(), megabytes(grown-before),
	)
	share := microseconds(measured.perOp()) / microseconds(r.bareDelivery)
	row.Ratio = fmt.Sprintf("%.2fx CPU of a bare delivery", share)
	row.goal("<= 0.45x, nobody lost", share <= 0.45 && c.lost.Load() == 0)
	return nil
}

var statusText = []byte(`"statusText":"`)

// sentAt returns the time in the text of a status.
func sentAt(payload []byte) (int64, bool) {
	_, after, found := bytes.Cut(payload, statusText)
	if !found {
		return 0, false
	}
	digits, _, _ := bytes.Cut(after, []byte(`"`))
	sent, err := strconv.ParseInt(string(digits), 10, 64)
	return sent, err == nil
}

func (r *run) measureSecure(ctx context.Context, users *ids, secure string) (err error) {
	if err := r.restartForSockets(ctx, secure); err != nil {
		return err
	}
	before, err := r.settle(ctx)
	if err != nil {
		return err
	}
	r.say("opening %d sockets over TLS", secureSockets)
	c := r.newCrowd(secure, true)
	defer func() { err = errors.Join(err, c.close()) }()
	connected, err := c.gather(ctx, r.server.cmd.Process.Pid, secureSockets, func(n int) (*subscriber, error) {
		return c.login(ctx, users.auth(n, toStars), ignore)
	})
	if err != nil {
		return err
	}
	r.addLoad("socket: connect and authenticate over TLS", dialers, connected)
	after, err := r.settle(ctx)
	if err != nil {
		return err
	}
	each := float64(after-before) / secureSockets / 1000
	r.addValue(
		fmt.Sprintf("memory per idle socket over TLS, %d of them", secureSockets), fmt.Sprintf("%.2f kB", each), "<= 24 kB",
		each <= 24,
	)
	return nil
}
