package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rollcall/rollcall/internal/httpapi"
)

// TestWrongCredentialsAreCountedByAddress sends wrong keys from addresses that are one, or not.
func TestWrongCredentialsAreCountedByAddress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, second string
		same          bool
	}{
		"another port":                       {"192.0.2.1:1", "192.0.2.1:2", true},
		"another host":                       {"192.0.2.1:1", "192.0.2.2:1", false},
		"IPv4 in IPv6":                       {"192.0.2.1:1", "[::ffff:192.0.2.1]:1", true},
		"another host of the same network":   {"[2001:db8::1]:1", "[2001:db8::ffff:2]:1", true},
		"another network":                    {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		"the same link on another interface": {"[fe80::1%eth0]:1", "[fe80::1%eth1]:1", true},
		"no address":                         {"@", "@", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, httpapi.RateLimits{WrongCredentials: 1})
			from := func(address string) int {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/users", nil)
				r.RemoteAddr = address
				r.Header = http.Header{"Appid": {s.app}, "Apikey": {"x"}}
				recorder := httptest.NewRecorder()
				s.handler.ServeHTTP(recorder, r)
				return recorder.Code
			}
			if status := from(c.first); status != http.StatusUnauthorized {
				t.Errorf("the first: %d", status)
			}
			if limited := from(c.second) == http.StatusTooManyRequests; limited != c.same {
				t.Errorf("%s and %s are one: %v", c.first, c.second, limited)
			}
		})
	}
}
