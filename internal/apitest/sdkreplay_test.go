package apitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

// TestTranscriptsThroughSDK makes the requests of the transcripts through the TypeScript SDK, in Node, where it has a
// call that sends the same. What comes back over the wire is compared here, and what the SDK makes of it there.
func TestTranscriptsThroughSDK(t *testing.T) {
	for _, file := range []string{"dist/esm/index.js", "test/replay.js"} { // looking at them tells the test cache
		if _, err := os.Stat("../../web/sdk/" + file); err != nil {
			t.Fatal("the SDK is not built: run make test-deps")
		}
	}
	var mu sync.Mutex
	made := map[string]int{}
	t.Run("all", func(t *testing.T) {
		for _, path := range transcripts(t) {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
				t.Parallel()
				calls := replayThroughSDK(t, path)
				mu.Lock()
				defer mu.Unlock()
				for call, count := range calls {
					made[call] += count
				}
			})
		}
	})
	if len(made) < 12 {
		t.Errorf("the transcripts reach only these calls of the SDK: %v", made)
	}
}

// wireExchange is a request of a transcript as the script makes it.
type wireExchange struct {
	Name    string            `json:"name"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func replayThroughSDK(t *testing.T, path string) (made map[string]int) {
	t.Helper()
	_, exchanges := readTranscript(t, path)
	s := apitest.Start(t, "", func(config *server.Config) { config.RateLimits = httpapi.RateLimits{Core: -1, Standard: -1, Token: -1} })
	proxy := &comparingProxy{t: t, server: s, exchanges: exchanges, names: variables(s.Credentials)}
	between := httptest.NewServer(proxy.handler())
	defer between.Close()
	var wired []wireExchange
	for _, x := range exchanges {
		request := parseRequest(t, proxy.names, x.request)
		w := wireExchange{Name: x.name, Method: request.Method, Path: request.URL.RequestURI(), Headers: map[string]string{}}
		for name := range request.Header {
			w.Headers[strings.ToLower(name)] = request.Header.Get(name)
		}
		if request.Host != "server" {
			w.Headers["x-host"] = request.Host // a browser's fetch sends no host of its own choice
		}
		if request.Body != nil {
			body, err := io.ReadAll(request.Body)
			if err != nil {
				t.Fatal(err)
			}
			w.Body = string(body)
		}
		wired = append(wired, w)
	}
	input, err := json.Marshal(map[string]any{"address": between.URL, "exchanges": wired})
	if err != nil {
		t.Fatal(err)
	}
	script := exec.CommandContext(apitest.Context(t), "node", "test/replay.js")
	script.Dir = "../../web/sdk"
	script.Stdin = bytes.NewReader(input)
	var failure bytes.Buffer
	script.Stderr = &failure
	output, err := script.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, failure.String())
	}
	if proxy.next != len(exchanges) {
		t.Errorf("%d of %d requests were made", proxy.next, len(exchanges))
	}
	if err := json.Unmarshal(output, &made); err != nil {
		t.Fatal(err)
	}
	return made
}

// comparingProxy stands between the script and the server. Requests come one after another.
type comparingProxy struct {
	t         *testing.T
	server    *apitest.Server
	exchanges []exchange

	mu    sync.Mutex
	names names // guarded by mu
	next  int   // guarded by mu
}

func (p *comparingProxy) handler() http.Handler {
	target, err := url.Parse(p.server.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, ModifyResponse: p.compare, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = "chat.example.com"
		if host := r.In.Header.Get("X-Host"); host != "" {
			r.Out.Host = host
			r.Out.Header.Del("X-Host")
		}
		// What fetch adds by itself is in no transcript.
		for _, name := range []string{"Accept", "Accept-Encoding", "Accept-Language", "Sec-Fetch-Mode", "Resource", "Sdk"} {
			if name != "Accept" || !strings.Contains(r.In.Header.Get(name), "event-stream") {
				r.Out.Header.Del(name)
			}
		}
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.server.Clock().Advance(10 * time.Second)
		proxy.ServeHTTP(w, r)
	})
}

// compare compares an answer with that of the transcript.
func (p *comparingProxy) compare(response *http.Response) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next >= len(p.exchanges) {
		p.t.Error("there are more requests than in the transcript")
		return nil
	}
	x := p.exchanges[p.next]
	p.next++
	body := readResponse(p.t, response)
	shown := body
	if isHTML(response) {
		shown = []byte("(a page)\n")
	}
	got := fmt.Sprintf("%d\n%s", response.StatusCode, shown)
	p.names = p.names.capture(got)
	if hidden := p.names.hide(got); hidden != string(x.response) {
		p.t.Errorf("%s: the response is\n%s\nand should be\n%s", x.name, hidden, x.response)
	}
	response.Header.Del("Content-Length")
	response.ContentLength = -1
	err := response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	return err
}
