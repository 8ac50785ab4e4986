package apitest_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// TestBodyThatIsTooLarge announces a body that is too large and does not send it: it is not waited for.
func TestBodyThatIsTooLarge(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for name, header := range map[string]string{"announced": "", "to be continued": "Expect: 100-continue\r\n"} {
		for _, length := range []int{10<<10 + 1, 10 << 20} {
			answers := converse(t, s.HTTPAddr, fmt.Sprintf("POST /v3/users HTTP/1.1\r\nHost: a\r\nappId: %s\r\napikey: %s\r\nContent-Length: %d\r\n%s\r\n{",
				s.Credentials.AppID, s.Credentials.RestAPIKey, length, header))
			var refused api.ErrorBody
			if response := answers.next(&refused); response.StatusCode != http.StatusRequestEntityTooLarge || refused.Error.Code != api.CodeBadRequest {
				t.Errorf("%s, %d bytes: got %d %+v", name, length, response.StatusCode, refused)
			}
		}
	}
}

// TestRefusedHandshakes asks for sockets in ways that are not RFC 6455's. The connection goes on: the next request is
// answered.
func TestRefusedHandshakes(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	const key, version = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n"
	const upgrade = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
	for name, test := range map[string]struct {
		method, headers string
		status          int
		says            string
	}{
		"no key":                {"GET", upgrade + version, http.StatusBadRequest, "Sec-WebSocket-Key"},
		"a short key":           {"GET", upgrade + version + "Sec-WebSocket-Key: c2hvcnQ=\r\n", http.StatusBadRequest, "Sec-WebSocket-Key"},
		"no version":            {"GET", upgrade + key, http.StatusBadRequest, "Sec-WebSocket-Version"},
		"another version":       {"GET", upgrade + key + "Sec-WebSocket-Version: 8\r\n", http.StatusUpgradeRequired, "Sec-WebSocket-Version"},
		"no connection upgrade": {"GET", "Upgrade: websocket\r\n" + key + version, http.StatusBadRequest, "Connection"},
		"another method":        {"PUT", upgrade + key + version, http.StatusNotFound, "PUT /ws:443"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := converse(t, s.HTTPAddr, test.method+" /ws:443 HTTP/1.1\r\nHost: a\r\n"+test.headers+"\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
			var refused api.ErrorBody
			response := answers.next(&refused)
			if response.StatusCode != test.status || !strings.Contains(refused.Error.Message, test.says) || response.Header.Get("X-Request-Id") == "" {
				t.Errorf("got %d %+v", response.StatusCode, refused)
			}
			var alive api.Body[api.Success]
			if response := answers.next(&alive); response.StatusCode != http.StatusOK || !alive.Data.Success {
				t.Errorf("the next answer is %v %+v", response, alive)
			}
		})
	}
}

// TestMalformedHTTP sends what net/http refuses before any handler runs, byte by byte as it stands here.
func TestMalformedHTTP(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.HTTPS = "127.0.0.1:0" })
	for name, test := range map[string]struct {
		request string
		status  int
		says    string
	}{
		"no request line":             {"\x00\x01\x02\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a request line of one word":  {"GET\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"no such method":              {"G{T / HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"no such path":                {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a relative path":             {"GET users HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a version that is no number": {"GET / HTTP/x.y\r\nHost: a\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a version of the future":     {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", http.StatusHTTPVersionNotSupported, "unsupported protocol version"},
		"no host":                     {"GET / HTTP/1.1\r\n\r\n", http.StatusBadRequest, "missing required Host header"},
		"two hosts":                   {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a host with a blank":         {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", http.StatusBadRequest, "malformed Host header"},
		"a header without a colon":    {"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a header name with a blank":  {"GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n", http.StatusBadRequest, "invalid header name"},
		"a header value with a zero":  {"GET / HTTP/1.1\r\nHost: a\r\nname: x\x00y\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"a continued first header":    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"too many headers":            {"GET / HTTP/1.1\r\nHost: a\r\nname: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge, "larger"},
		"a very long path":            {"GET /" + strings.Repeat("x", 70<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge, "larger"},
		"no such transfer encoding":   {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: zip\r\n\r\n", http.StatusNotImplemented, "transfer encoding"},
		"two transfer encodings":      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", http.StatusNotImplemented, "transfer encoding"},
		"a length that is no number":  {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"two lengths":                 {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", http.StatusBadRequest, "not HTTP"},
		"a negative length":           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", http.StatusBadRequest, "not HTTP"},
		"an expectation":              {"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", http.StatusExpectationFailed, "100-continue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectMalformed(t, converse(t, s.HTTPAddr, test.request), test.status, test.says)
		})
	}
	t.Run("HTTP to an HTTPS address", func(t *testing.T) {
		t.Parallel()
		expectMalformed(t, converse(t, s.HTTPSAddr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), http.StatusBadRequest, "https://")
	})
	t.Run("after a request that was good", func(t *testing.T) {
		t.Parallel()
		answers := converse(t, s.HTTPAddr, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /v3/nothing HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n")
		var alive api.Body[api.Success]
		if response := answers.next(&alive); response.StatusCode != http.StatusOK || !alive.Data.Success {
			t.Errorf("the first answer is %v %+v", response, alive)
		}
		var missing api.ErrorBody
		if response := answers.next(&missing); response.StatusCode != http.StatusNotFound || missing.Error.Code != api.CodeAPINotFound || response.Header.Get("X-Request-Id") == "" {
			t.Errorf("the second answer is %v %+v", response, missing)
		}
		expectMalformed(t, answers, http.StatusBadRequest, "missing required Host header")
	})
	const post = "POST /v3/users HTTP/1.1\r\nHost: a\r\n"
	for name, test := range map[string]struct {
		request string
		status  int
		code    api.Code
		says    string
	}{
		"a call of everything": {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusNotFound, api.CodeAPINotFound, "GET *"},
		"a write to everything": {
			"DELETE * HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", http.StatusNotFound,
			api.CodeAPINotFound, "DELETE *",
		},
		"an HTTP/2 preface": {
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http.StatusBadRequest, api.CodeBadRequest,
			"HTTP/1.1",
		},
		"a length and chunks": {
			post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			http.StatusUnauthorized, api.CodeEmptyAppID, "appId",
		},
		"chunks and a length": {
			post + "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n",
			http.StatusUnauthorized, api.CodeEmptyAppID, "appId",
		},
		"a request within chunks": {post + "Content-Length: 49\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
			"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Padding: x\r\n\r\n", http.StatusUnauthorized, api.CodeEmptyAppID, "appId"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectLast(t, converse(t, s.HTTPAddr, test.request), test.status, test.code, test.says)
		})
	}
	t.Run("a question about everything", func(t *testing.T) {
		t.Parallel()
		answers := converse(t, s.HTTPAddr, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
		if response := answers.next(nil); response.StatusCode != http.StatusNoContent || response.Header.Get("X-Request-Id") == "" {
			t.Errorf("the answer is %v", response)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(apitest.Context(t), http.MethodGet, "https://"+s.HTTPSAddr+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.ProtoMajor != 2 || response.StatusCode != http.StatusOK {
			t.Errorf("the answer is %v", response)
		}
	})
}

// TestHeadOfStreams asks for the head alone of what has no end, or none soon.
func TestHeadOfStreams(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	for _, test := range []struct{ path, accept, kind string }{
		{"/v3/changes", "text/event-stream", "text/event-stream"},
		{"/v3/changes", "application/json", "application/json; charset=utf-8"},
		{"/v3/presence/events", "text/event-stream", "text/event-stream"},
		{"/v3/presence/events", "*/*", "application/json; charset=utf-8"},
		{"/v3/export", "*/*", "application/x-ndjson"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"appId": s.Credentials.AppID, "apikey": s.Credentials.RestAPIKey,
			"Accept": test.accept,
		} {
			request.Header.Set(name, value)
		}
		client := &http.Client{Timeout: outagePatience}
		response, err := client.Do(request)
		if err != nil {
			t.Errorf("HEAD %s, %s: %v", test.path, test.accept, err)
			continue
		}
		response.Body.Close()
		if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != test.kind {
			t.Errorf("HEAD %s, %s: %d %s", test.path, test.accept, response.StatusCode, kind)
		}
	}
}

// conversation is the answers that come on a connection.
type conversation struct {
	t    *testing.T
	from *bufio.Reader
}

// converse sends bytes as they are.
func converse(t *testing.T, address, sent string) *conversation {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(apitest.Context(t), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(outagePatience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, sent); err != nil {
		t.Fatal(err)
	}
	return &conversation{t: t, from: bufio.NewReader(conn)}
}

// next reads the next answer, whose body goes into a value unless that is nil.
func (c *conversation) next(into any) *http.Response {
	c.t.Helper()
	response, err := http.ReadResponse(c.from, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if into == nil {
		return response
	}
	if kind := response.Header.Get("Content-Type"); kind != "application/json; charset=utf-8" {
		c.t.Errorf("the answer has content type %q", kind)
	}
	if err := json.Unmarshal(text, into); err != nil {
		c.t.Errorf("%v: %s", err, text)
	}
	return response
}

// expectMalformed demands that the last answer is the envelope, and that nothing comes behind it.
func expectMalformed(t *testing.T, answers *conversation, status int, says string) {
	t.Helper()
	expectLast(t, answers, status, api.CodeBadRequest, says)
}

// expectLast demands that the next answer is an error, and the last.
func expectLast(t *testing.T, answers *conversation, status int, code api.Code, says string) {
	t.Helper()
	var body api.ErrorBody
	response := answers.next(&body)
	if response.StatusCode != status || response.Status != fmt.Sprintf("%d %s", status, http.StatusText(status)) || !response.Close || response.ContentLength <= 0 {
		t.Errorf("the answer is %s, close %v, length %d", response.Status, response.Close, response.ContentLength)
	}
	if body.Error.Code != code || body.Error.Source != api.Source || body.Error.DevMessage == "" ||
		!strings.Contains(body.Error.Message, says) {
		t.Errorf("want an envelope that says %q, got %+v", says, body)
	}
	if rest, _ := io.ReadAll(answers.from); len(rest) > 0 { // the connection may have been reset by then
		t.Errorf("behind the answer comes %q", rest)
	}
}
