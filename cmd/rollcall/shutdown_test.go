package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
)

// TestShutdownUnderLoad stops a server in the middle of a stream of creations.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	t.Run("a connection for each request", func(t *testing.T) {
		t.Parallel()
		testShutdownUnderLoad(t, &http.Transport{DisableKeepAlives: true})
	})
	t.Run("connections used again", func(t *testing.T) {
		t.Parallel()
		testShutdownUnderLoad(t, &http.Transport{MaxIdleConnsPerHost: crashClients})
	})
}

func testShutdownUnderLoad(t *testing.T, transport *http.Transport) {
	t.Cleanup(transport.CloseIdleConnections)
	data := filepath.Join(t.TempDir(), "data")
	p := startServer(t, "--data", data)
	c := p.client(t, transport)
	const before = 300
	var acknowledged atomic.Int64
	inTheMiddle := make(chan struct{})
	outcomes := make([]map[string]error, crashClients)
	var writing sync.WaitGroup
	for i := range outcomes {
		outcomes[i] = map[string]error{}
		writing.Go(func() {
			for n := 0; ; n++ {
				uid := fmt.Sprintf("w%d-%d", i, n)
				_, err := c.Users.Create(t.Context(), content(uid, 1))
				outcomes[i][uid] = err
				if err != nil {
					return
				}
				if acknowledged.Add(1) == before {
					close(inTheMiddle)
				}
			}
		})
	}
	select {
	case <-inTheMiddle:
	case <-p.exited:
		t.Fatalf("the server ended by itself: %v\n%s", p.err, p.stderr)
	case <-time.After(patience):
		t.Fatalf("%d writes were acknowledged, and no more come up to %d", acknowledged.Load(), before)
	}
	code, err := p.stop(t.Context(), syscall.SIGTERM)
	if err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v\n%s", code, err, p.stderr)
	}
	writing.Wait()

	p = startServer(t, "--data", data)
	users := listUsers(t, p.client(t, nil), client.UserListOptions{WithTags: true})
	unanswered := 0
	for _, outcome := range outcomes {
		for uid, err := range outcome {
			user, there := users[uid]
			delete(users, uid)
			var refused *client.Error
			switch {
			case errors.As(err, &refused):
				t.Errorf("%s was refused in the middle of the shutdown: %v", uid, err)
			case err == nil && (!there || !is(user, 1)):
				t.Errorf("%s was acknowledged and is not there as it was written: %+v", uid, user)
			case err != nil && there:
				unanswered++
				t.Errorf("%s is there, and whoever asked for it got no answer: %v", uid, err)
			}
		}
	}
	if len(users) > 0 {
		t.Errorf("nobody asked for %v", users)
	}
	t.Logf("%d acknowledged, %d carried out without an answer", acknowledged.Load(), unanswered)
}

// TestShutdownWaitsForRequestInFlight stops a server while it reads a request.
func TestShutdownWaitsForRequestInFlight(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := startServer(t, "--data", data)
	credentials, err := server.ReadCredentials(filepath.Join(data, server.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	conn, answers := dial(t, p)
	body := `{"uid":"late","name":"Late"}`
	fmt.Fprintf(
		conn, "POST /v3/users HTTP/1.1\r\nHost: rollcall\r\nappId: %s\r\napikey: %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		credentials.AppID, credentials.RestAPIKey, len(body),
	)
	// The server asks for the body when the request is in its hands: from now on it is in flight.
	expectStatus(t, answers, http.StatusContinue)

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, "the server goes on taking connections", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.base, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	fmt.Fprint(conn, body)
	expectStatus(t, answers, http.StatusOK)
	if code, err := p.wait(t.Context()); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v\n%s", code, err, p.stderr)
	}
	p = startServer(t, "--data", data)
	if _, err := p.client(t, nil).Users.Get(t.Context(), "late"); err != nil {
		t.Errorf("what was acknowledged during the shutdown is gone: %v", err)
	}
}

// TestShutdownEndsStreams stops a server that somebody follows. A stream that were waited for would be in the way until
// the time for stopping is over, and the exit code would be 1.
func TestShutdownEndsStreams(t *testing.T) {
	t.Parallel()
	p := startServer(t, "--data", filepath.Join(t.TempDir(), "data"))
	credentials, err := server.ReadCredentials(filepath.Join(p.data, server.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/v3/changes", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"appId": credentials.AppID, "apikey": credentials.RestAPIKey, "accept": "text/event-stream",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	awaitEvent := func(kind string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), kind) {
				return
			}
		}
		t.Fatalf("the stream ended before %s: %v", kind, lines.Err())
	}
	awaitEvent("app.created")
	if _, err := p.client(t, nil).Users.Create(t.Context(), content("ada", 1)); err != nil {
		t.Fatal(err)
	}
	awaitEvent("user.created") // it waits for what comes next

	if code, err := p.stop(t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v\n%s", code, err, p.stderr)
	}
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			t.Errorf("the stream went on with %s", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream was cut off and not ended: %v", err)
	}
}

// dial connects to a server as a client that does everything by hand.
func dial(t *testing.T, p *process) (net.Conn, *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(p.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	context.AfterFunc(ctx, func() { conn.Close() }) // no read waits for longer
	return conn, bufio.NewReader(conn)
}

func expectStatus(t *testing.T, answers *bufio.Reader, want int) {
	t.Helper()
	response, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		t.Fatalf("want status %d, got %d: %v %s", want, response.StatusCode, err, body)
	}
}
