package apitest_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// safeBuffer is a bytes.Buffer for concurrent use.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *safeBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestLogHoldsNothingThatWasSent sends a word wherever a client can put one. The log tells what was wrong and where,
// and never repeats it.
func TestLogHoldsNothingThatWasSent(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	s := apitest.Start(t, "", func(config *server.Config) {
		config.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const word = "SECRETWORD"
	long := strings.Repeat(word, 400)
	for _, body := range []string{
		`{"` + long + `":1,"` + long + `":2}`,                               // a name twice
		`{"metadata":{"` + word + `":{"` + word + `":1,"` + word + `":2}}}`, // within another
		`{"name":"` + word,              // ends early
		`{"` + word + `":` + word + `}`, // no value
		`{"name":"` + word + `"} ` + word,
		`["` + word + `"]`,
		`{"uid":"` + word + `\u0000"}`,
		`{"uid":"` + word + `","name":{"` + word + `":1},"tags":"` + word + `"}`,
		"{\"name\":\"" + word + "\xff\"}",
		`{"uid":"` + word + ` ` + word + `","role":"` + word + `"}`,
	} {
		for _, path := range []string{"/v3/users", "/v3/users/batch", "/v3/roles", "/v3/data_import/users"} {
			raw(t, s, "POST", path, body)
		}
	}
	for _, path := range []string{
		"/v3/" + word, "/v3/users/" + word, "/v3/users?" + word + "=" + word, "/v3/users?cursor=" + word, "/v3/users?searchKey=" + word + "%00",
		"/v3/users/" + word + "%zz", "/v3/users?tags=%ff" + word, "/v4/" + word,
	} {
		raw(t, s, "GET", strings.ReplaceAll(path, "%zz", "%2f"), "")
	}
	raw(t, s, word+long, "/v3/users", "")
	// What a client says on a connection of its own: a bad chunk, a bad trailer, bad headers.
	for _, rest := range []string{
		"\r\n" + word + "\r\n", "\r\n2\r\n{}\r\n0\r\n" + word + " no trailer\r\n\r\n", "\r\n2\r\n{}" + word + "\r\n", word + "\r\n\r\n",
		"apikey: " + word + "\r\n\r\n0\r\n\r\n", "Cookie: " + word + "\r\n\r\n0\r\n\r\n",
	} {
		converse(t, s.HTTPAddr, fmt.Sprintf(
			"POST /v3/users HTTP/1.1\r\nHost: a\r\nappId: %s\r\napikey: %s\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n%s",
			s.Credentials.AppID, s.Credentials.RestAPIKey, rest)).next(nil)
	}
	if err := s.Close(); err != nil { // after which all is logged
		t.Fatal(err)
	}
	refusals := 0
	for record := range strings.Lines(log.String()) {
		if strings.Contains(strings.ToLower(record), strings.ToLower(word[:8])) && !strings.Contains(record, `"method":"SECRETWORDSECRET…"`) {
			t.Errorf("the log repeats what was sent: %.300s", record)
		}
		if strings.Contains(record, `"code":"ERR_BAD_REQUEST"`) {
			refusals++
		}
	}
	for _, told := range []string{"a name is there twice, at byte 4006", "it ends too early, at byte 19", "no trailer"} {
		if !strings.Contains(log.String(), told) {
			t.Errorf("the log does not say %q", told)
		}
	}
	if refusals < 20 {
		t.Errorf("only %d refusals are in the log: this test has shown little", refusals)
	}
}
