package client_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
)

// serveHTTP runs a server until the test ends.
func serveHTTP(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, address string, options ...client.Option) *client.Client {
	t.Helper()
	options = append([]client.Option{client.WithApp("app"), client.WithAPIKey("the-key"), client.WithTries(3)}, options...)
	c, err := client.New(address, options...)
	return must(t, c, err)
}

// everyWay is each way in which the library makes calls.
var everyWay = map[string]func(ctx context.Context, c *client.Client) error{
	"read": func(ctx context.Context, c *client.Client) error {
		_, err := c.Users.Get(ctx, "ada")
		return err
	},
	"write": func(ctx context.Context, c *client.Client) error {
		_, err := c.Users.Create(ctx, api.CreateUserRequest{UID: "ada", Name: "Ada"})
		return err
	},
	"export": func(ctx context.Context, c *client.Client) error {
		_, err := c.Export(ctx, io.Discard)
		return err
	},
	"changes": func(ctx context.Context, c *client.Client) error {
		for _, err := range c.Changes.Follow(ctx, 0) {
			return err
		}
		return ctx.Err()
	},
	"presence": func(ctx context.Context, c *client.Client) error {
		for _, err := range c.Presence.Follow(ctx) {
			return err
		}
		return ctx.Err()
	},
}

// TestNoCredentialsForOtherServers calls a server that redirects to another one.
func TestNoCredentialsForOtherServers(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	other := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		t.Errorf("the other server was asked, with the key %q", r.Header.Get("apikey"))
	})
	for _, status := range []int{
		http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect,
	} {
		redirecting := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, status)
		})
		for name, c := range map[string]*client.Client{
			"default":         newClient(t, redirecting.URL),
			"a given one":     newClient(t, redirecting.URL, client.WithHTTPClient(&http.Client{})),
			"acts for a user": newClient(t, redirecting.URL).OnBehalfOf("bob"),
		} {
			for way, call := range everyWay {
				err := call(apitest.Context(t), c)
				if err == nil || !strings.Contains(err.Error(), other.URL) || !strings.Contains(err.Error(), "redirects to") {
					t.Errorf("%d, %s, %s: %v", status, name, way, err)
				}
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the other server was asked %d times", n)
	}
}

// TestRedirectsOfOneServer follows what leads to the same server, with the call that was made.
func TestRedirectsOfOneServer(t *testing.T) {
	t.Parallel()
	var made atomic.Value
	moved := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/moved") {
			status := http.StatusPermanentRedirect
			if strings.HasSuffix(r.URL.Path, "/old") {
				status = http.StatusFound // which makes a GET of it
			}
			http.Redirect(w, r, "/moved"+r.URL.Path, status)
			return
		}
		body, _ := io.ReadAll(r.Body)
		made.Store(r.Method + " " + r.Header.Get("apikey") + " " + string(body))
		fmt.Fprint(w, `{"data":{"uid":"ada","name":"Ada"}}`)
	})
	c := newClient(t, moved.URL)
	user, err := c.Users.Create(apitest.Context(t), api.CreateUserRequest{UID: "ada", Name: "Ada"})
	check(t, "created", must(t, user, err).UID == "ada")
	check(t, fmt.Sprint("made ", made.Load()), made.Load() == `POST the-key {"uid":"ada","name":"Ada"}`+"\n")
	_, err = c.Users.Update(apitest.Context(t), "old", api.UpdateUserRequest{})
	refused := err != nil && strings.Contains(err.Error(), "PUT cannot follow")
	check(t, fmt.Sprint("a write that became a read: ", err), refused)

	circle := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
	})
	_, err = newClient(t, circle.URL).Users.Get(apitest.Context(t), "ada")
	check(t, fmt.Sprint("a circle: ", err), err != nil && strings.Contains(err.Error(), "in a circle"))
}

// zeros is text without end, of which gzip makes a thousandth.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// TestAnswersAreBounded calls servers whose answers are longer than any of Rollcall's, once they are decompressed.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	const longest = 256 << 20 // more than any bound
	var packed bytes.Buffer
	packer := gzip.NewWriter(&packed)
	if _, err := io.Copy(packer, io.LimitReader(zeros{}, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := packer.Close(); err != nil {
		t.Fatal(err)
	}
	for status, bounded := range map[int]string{http.StatusOK: "is longer than ", http.StatusBadRequest: "answered 400"} {
		var asked atomic.Int64
		bomb := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			for range longest >> 20 {
				if _, err := w.Write(packed.Bytes()); err != nil {
					return // the client has gone away
				}
			}
		})
		for way, call := range everyWay {
			asked.Store(0)
			err := call(apitest.Context(t), newClient(t, bomb.URL))
			if err == nil || !strings.Contains(err.Error(), bounded) {
				t.Errorf("%d, %s: the error does not say %q: %v", status, way, bounded, err)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("%d, %s: the server was asked %d times", status, way, n)
			}
		}
	}
}

// TestTroubleInWords asks what cannot answer, and looks for words that help.
func TestTroubleInWords(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	page := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>Welcome to nginx</html>")
	})
	gone := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no upstream", http.StatusBadGateway)
	})
	broken := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, `{"data":`)
	})
	stuck := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	t.Cleanup(secure.Close)
	for name, c := range map[string]struct {
		address, want string
		options       []client.Option
	}{
		"nothing listens":   {address: "http://" + silent, want: "nothing listens there"},
		"no such host":      {address: "http://no-such-host.invalid", want: "the host is not known"},
		"another web site":  {address: page.URL, want: "not one of a Rollcall server (text/html)"},
		"a proxy":           {address: gone.URL, want: "the server answered 502 Bad Gateway: no upstream"},
		"a broken answer":   {address: broken.URL, want: "the connection broke before the whole answer had come"},
		"a foreign cert":    {address: secure.URL, want: "its certificate is not trusted"},
		"TLS where none is": {address: strings.Replace(page.URL, "http:", "https:", 1), want: "it does not speak TLS"},
		"no TLS where it is": {
			address: strings.Replace(secure.URL, "https:", "http:", 1), want: "HTTP request to an HTTPS server",
		},
		"no answer": {
			address: stuck.URL, want: "there was no answer in time",
			options: []client.Option{client.WithHTTPClient(&http.Client{Timeout: 50 * time.Millisecond})},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newClient(t, c.address, append(c.options, client.WithTries(1))...).Users.Get(apitest.Context(t), "ada")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newClient(t, page.URL).Users.Get(ctx, "ada")
	check(t, fmt.Sprint("given up: ", err), errors.Is(err, context.Canceled))
}
