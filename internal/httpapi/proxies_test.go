package httpapi_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// newProxies returns proxies from a list with spaces.
func newProxies(t *testing.T, list string) httpapi.Proxies {
	t.Helper()
	proxies, err := httpapi.ParseProxies(strings.Fields(list))
	if err != nil {
		t.Fatal(err)
	}
	return proxies
}

// TestClientBehindProxies sends headers about clients from proxies that are trusted and from everybody else, and reads
// in the log who is believed to have called.
func TestClientBehindProxies(t *testing.T) {
	t.Parallel()
	const trusted = "10.0.0.0/8 192.0.2.7 2001:db8:5::/48 ::ffff:172.16.0.0/108 unix"
	const proxy = "10.0.0.1:4000"
	var log bytes.Buffer
	s := serveOver(t, httpapi.Config{
		TrustedProxies: newProxies(t, trusted), Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	}, func(store *sqlstore.Store) directory.Store { return store })
	for _, c := range []struct {
		name, peer string
		headers    http.Header
		want       string
		secure     bool
	}{
		{"no header", proxy, nil, "10.0.0.1:4000", false},
		{"nobody is trusted by that address", "203.0.113.5:1", xff("198.51.100.1"), "203.0.113.5:1", false},
		{"one proxy", proxy, xff("198.51.100.1"), "198.51.100.1", false},
		{"a trusted address by itself", "192.0.2.7:9", xff("198.51.100.1"), "198.51.100.1", false},
		{"the one beside it", "192.0.2.8:9", xff("198.51.100.1"), "192.0.2.8:9", false},
		{"what the client has sent before the proxy", proxy, xff("1.2.3.4, 198.51.100.1"), "198.51.100.1", false},
		{"in a line of its own", proxy, xff("1.2.3.4", "198.51.100.1"), "198.51.100.1", false},
		{"a client that says it is a proxy", proxy, xff("10.0.0.9, 198.51.100.1"), "198.51.100.1", false},
		{"a chain of trusted proxies", proxy, xff("1.2.3.4, 198.51.100.1, 10.1.1.1, 10.2.2.2"), "198.51.100.1", false},
		{"a proxy that is not trusted in it", proxy, xff("198.51.100.1, 203.0.113.9, 10.2.2.2"), "203.0.113.9", false},
		{"a client within the trusted network", proxy, xff("10.7.7.7, 10.2.2.2"), "10.7.7.7", false},
		{"with a port", proxy, xff("198.51.100.1:8123"), "198.51.100.1:8123", false},
		{"IPv6", proxy, xff("2001:db8::1"), "2001:db8::1", false},
		{"IPv6 in brackets", proxy, xff("[2001:db8::1]"), "2001:db8::1", false},
		{"IPv6 with a port", proxy, xff("[2001:db8::1]:80"), "[2001:db8::1]:80", false},
		{"IPv6 with a zone", proxy, xff("fe80::1%eth0"), "fe80::1", false},
		{"IPv4 in IPv6", proxy, xff("::ffff:198.51.100.1"), "198.51.100.1", false},
		{"a trusted peer as IPv4 in IPv6", "[::ffff:10.0.0.1]:1", xff("198.51.100.1"), "198.51.100.1", false},
		{"a network written as IPv4 in IPv6", "172.16.3.4:1", xff("198.51.100.1"), "198.51.100.1", false},
		{"a trusted IPv6 peer", "[2001:db8:5::1]:1", xff("198.51.100.1"), "198.51.100.1", false},
		{"another IPv6 peer", "[2001:db8:6::1]:1", xff("198.51.100.1"), "[2001:db8:6::1]:1", false},
		{"through a Unix socket", "@", xff("198.51.100.1"), "198.51.100.1", false},
		{"through a Unix socket, and no header", "@", nil, "unix", false},
		{"spaces and empty items", proxy, xff(" 198.51.100.1 "), "198.51.100.1", false},
		{"an empty header", proxy, xff(""), "10.0.0.1:4000", false},
		{"commas alone", proxy, xff(",,,"), "10.0.0.1:4000", false},
		{"junk", proxy, xff("localhost"), "10.0.0.1:4000", false},
		{"junk before a good one", proxy, xff("<script>, 198.51.100.1"), "198.51.100.1", false},
		{"junk behind a good one", proxy, xff("198.51.100.1, unknown"), "10.0.0.1:4000", false},
		{"junk behind which is a trusted one", proxy, xff("198.51.100.1, unknown, 10.2.2.2"), "10.2.2.2", false},
		{"octal digits", proxy, xff("0300.51.100.1"), "10.0.0.1:4000", false},
		{"a bracket too few", proxy, xff("[2001:db8::1"), "10.0.0.1:4000", false},
		{"IPv4 in brackets", proxy, xff("[198.51.100.1]"), "10.0.0.1:4000", false},

		{"scheme", proxy, proto(xff("198.51.100.1"), "https"), "198.51.100.1", true},
		{"scheme alone", proxy, proto(nil, "HTTPS"), "10.0.0.1:4000", true},
		{"scheme of who is not trusted", "203.0.113.5:1", proto(nil, "https"), "203.0.113.5:1", false},
		{
			"scheme in a chain", proxy, proto(xff("1.2.3.4, 198.51.100.1, 10.1.1.1"), "http, https, http"),
			"198.51.100.1", true,
		},
		{"scheme that the client has sent", proxy, proto(xff("198.51.100.1"), "https, http"), "198.51.100.1", false},
		{"one scheme for a chain", proxy, proto(xff("198.51.100.1, 10.1.1.1"), "https"), "198.51.100.1", true},
		{"no scheme", proxy, proto(xff("198.51.100.1"), "gopher"), "198.51.100.1", false},

		{"Forwarded", proxy, forwarded(`for=198.51.100.1;proto=https;by=10.0.0.1`), "198.51.100.1", true},
		{
			"Forwarded by who is not trusted", "203.0.113.5:1", forwarded(`for=198.51.100.1;proto=https`),
			"203.0.113.5:1", false,
		},
		{"Forwarded with a port", proxy, forwarded(`For="198.51.100.1:81"; Proto=http`), "198.51.100.1:81", false},
		{"Forwarded, IPv6", proxy, forwarded(`for="[2001:db8::1]:4711"`), "[2001:db8::1]:4711", false},
		{
			"Forwarded in a chain", proxy, forwarded(`for=1.2.3.4, for=198.51.100.1;proto=https, for=10.1.1.1;proto=http`),
			"198.51.100.1", true,
		},
		{"Forwarded in lines", proxy, forwarded(`for=1.2.3.4`, `for=198.51.100.1`), "198.51.100.1", false},
		{
			"Forwarded with a quoted comma", proxy, forwarded(`for="1.2.3.4, for=5.6.7.8";host="a\"b", for=198.51.100.1`),
			"198.51.100.1", false,
		},
		{"Forwarded that hides the address", proxy, forwarded(`for=198.51.100.1, for=_hidden`), "10.0.0.1:4000", false},
		{"Forwarded, unknown", proxy, forwarded(`for=unknown;proto=https`), "10.0.0.1:4000", true},
		{"Forwarded with a quote too few", proxy, forwarded(`for="198.51.100.1`), "10.0.0.1:4000", false},
		{"Forwarded that names the client twice", proxy, forwarded(`for=198.51.100.1;for=1.2.3.4`), "10.0.0.1:4000", false},
		{"Forwarded, junk", proxy, forwarded(`for 198.51.100.1`), "10.0.0.1:4000", false},
		{"both headers agree", proxy, both("198.51.100.1", "for=198.51.100.1;proto=https"), "198.51.100.1", true},
		{
			"a client's Forwarded through a proxy that writes the other", proxy, both("198.51.100.1", "for=1.2.3.4"),
			"10.0.0.1:4000", false,
		},
	} {
		log.Reset()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/users", nil)
		r.RemoteAddr = c.peer
		if c.headers != nil {
			r.Header = c.headers
		}
		s.handler.ServeHTTP(httptest.NewRecorder(), r)
		var record struct {
			Remote string `json:"remote"`
			Secure bool   `json:"secure"`
		}
		if err := json.Unmarshal(log.Bytes(), &record); err != nil {
			t.Fatal(err)
		}
		if record.Remote != c.want || record.Secure != c.secure {
			t.Errorf("%s: %s, secure %v; want %s, secure %v", c.name, record.Remote, record.Secure, c.want, c.secure)
		}
	}
	log.Reset()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/users", nil)
	r.RemoteAddr, r.TLS = "203.0.113.5:1", &tls.ConnectionState{}
	r.Header = proto(nil, "http")
	s.handler.ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(log.String(), `"secure":true`) {
		t.Error("who speaks TLS and is not trusted is believed that it does not")
	}
}

func xff(lines ...string) http.Header       { return http.Header{"X-Forwarded-For": lines} }
func forwarded(lines ...string) http.Header { return http.Header{"Forwarded": lines} }

func proto(header http.Header, schemes string) http.Header {
	if header == nil {
		header = http.Header{}
	}
	header.Set("X-Forwarded-Proto", schemes)
	return header
}

func both(addresses, forwarded string) http.Header {
	return http.Header{"X-Forwarded-For": {addresses}, "Forwarded": {forwarded}}
}

// TestProxiesThatMakeNoSense refuses what is neither a network nor an address.
func TestProxiesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "localhost", "10.0.0.0/33", "10.0.0.1:80", "fe80::1%eth0", "::ffff:0:0/90", "10.0.0/8", "*",
	} {
		_, err := httpapi.ParseProxies([]string{text})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestLimitBehindProxies sends wrong keys through one proxy for two clients: only the one who has sent too many is
// limited, whatever it writes before its address.
func TestLimitBehindProxies(t *testing.T) {
	t.Parallel()
	s := serveOver(t, httpapi.Config{
		TrustedProxies: newProxies(t, "10.0.0.1"), RateLimits: httpapi.RateLimits{WrongCredentials: 1},
	}, func(store *sqlstore.Store) directory.Store { return store })
	from := func(addresses string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/users", nil)
		r.RemoteAddr = "10.0.0.1:80"
		r.Header = http.Header{"Appid": {s.app}, "Apikey": {"x"}, "X-Forwarded-For": {addresses}}
		recorder := httptest.NewRecorder()
		s.handler.ServeHTTP(recorder, r)
		return recorder.Code
	}
	for _, step := range []struct {
		addresses string
		want      int
	}{
		{"198.51.100.1", http.StatusUnauthorized},
		{"198.51.100.1", http.StatusTooManyRequests},
		{"1.2.3.4, 198.51.100.1", http.StatusTooManyRequests},
		{"198.51.100.2", http.StatusUnauthorized},
	} {
		if got := from(step.addresses); got != step.want {
			t.Errorf("%s: %d, want %d", step.addresses, got, step.want)
		}
	}
}
