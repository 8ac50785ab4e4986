package apitest_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// readMetrics returns what /metrics serves.
func readMetrics(t *testing.T, s *apitest.Server) string {
	t.Helper()
	response, body := raw(t, s, "GET", "/metrics", "")
	if response.StatusCode != http.StatusOK {
		t.Fatalf("/metrics answers %d", response.StatusCode)
	}
	return string(body)
}

// metric returns the value of a metric as /metrics has it, with its labels. It is false when there is none.
func metric(t *testing.T, s *apitest.Server, name string) (float64, bool) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(readMetrics(t, s))
	if found == nil {
		return 0, false
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value, true
}

func expectMetric(t *testing.T, s *apitest.Server, name string, want float64) {
	t.Helper()
	if got, ok := metric(t, s, name); !ok || got != want {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// TestMetricsOfTheDatabase reads what /metrics says about the database, the directory in it and its backups.
func TestMetricsOfTheDatabase(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, database string) {
		t.Helper()
		began := time.Now()
		var config server.Config
		s := apitest.Start(t, database, func(c *server.Config) {
			c.Version, c.Commit = "v1.2.3", "abcdef"
			config = *c
		})
		create(t, s, "ada")
		create(t, s, "bob")
		if _, err := s.Backend(t).Users.Get(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		expectMetric(t, s, "rollcall_database_up", 1)
		expectMetric(t, s, "rollcall_apps", 1)
		expectMetric(t, s, "rollcall_users", 2)
		expectMetric(t, s, "rollcall_database_write_queue", 0)
		if !strings.Contains(readMetrics(t, s), `rollcall_build_info{commit="abcdef",go="go`) {
			t.Error("/metrics does not say what is running")
		}
		for name, least := range map[string]float64{
			"rollcall_database_bytes": 10_000, "rollcall_database_connections_max": 2, `rollcall_database_connections{state="idle"}`: 1,
			`rollcall_database_duration_seconds_count{operation="read"}`:  1,
			`rollcall_database_duration_seconds_count{operation="write"}`: 2, "rollcall_database_batch_updates_count": 2,
		} {
			if value, _ := metric(t, s, name); value < least {
				t.Errorf("%s is %v, want at least %v", name, value, least)
			}
		}
		expectMetric(t, s, `rollcall_database_failures_total{operation="write"}`, 0)
		if database != "" {
			if _, ok := metric(t, s, "rollcall_backup_age_seconds"); ok {
				t.Error("there is a metric of backups, which another program makes")
			}
			return
		}
		expectMetric(t, s, "rollcall_backup_last_success_timestamp_seconds", 0)
		if err := server.NoteBackup(config, time.Now(), 4711); err != nil {
			t.Fatal(err)
		}
		expectMetric(t, s, "rollcall_backup_bytes", 4711)
		at, _ := metric(t, s, "rollcall_backup_last_success_timestamp_seconds")
		if at < float64(began.Unix()) || at > float64(time.Now().Unix()) {
			t.Errorf("the backup was at %v", at)
		}
		if age, _ := metric(t, s, "rollcall_backup_age_seconds"); age < 0 || age > 600 {
			t.Errorf("the backup is %v s old", age)
		}
	})
}

// metricsPage explains every metric, in tables whose first column is the name.
const metricsPage = "../../docs/metrics.md"

// TestMetricsAreExplained compares the page with what servers serve that have done something of every kind.
func TestMetricsAreExplained(t *testing.T) {
	t.Parallel()
	explained := explainedMetrics(t)
	served := map[string]bool{}
	url, err := postgres.NewDatabase(apitest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, database := range []string{"", url} {
		s := startSockets(t, database, func(config *server.Config) {
			config.HTTPS, config.LogLost = "127.0.0.1:0", func() int64 { return 0 }
			config.RateLimits.WrongCredentials = 5
		}, "ada", "bob")
		socket := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		bob := s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		socket.Hears("bob online")
		bob.Close(1000, "")
		socket.Hears("bob offline")
		s.Reload()
		request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, s.URL+"/v3/users", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Appid": {s.Credentials.AppID}, "Apikey": {"wrong"}}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		for line := range strings.Lines(readMetrics(t, s)) {
			if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
				name, _, _ = strings.Cut(name, " ")
				served[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if !explained[name] {
			t.Errorf("/metrics serves %s, and %s does not explain it", name, metricsPage)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(explained)) {
		if !served[name] {
			t.Errorf("%s explains %s, and /metrics does not serve it", metricsPage, name)
		}
	}
}

// explainedMetrics returns the names in the first column of the page's tables. Each must be explained, once.
func explainedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	file, err := os.Open(filepath.FromSlash(metricsPage))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	row := regexp.MustCompile("^\\| `([a-z0-9_]+)`(?:\\{[a-z_, `]+\\})? \\| (.*) \\|$")
	names := map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		found := row.FindStringSubmatch(lines.Text())
		if found == nil {
			if strings.HasPrefix(lines.Text(), "| `") {
				t.Errorf("a row of the page cannot be read: %s", lines.Text())
			}
			continue
		}
		if names[found[1]] || len(found[2]) < 10 {
			t.Errorf("%s is explained twice or not at all", found[1])
		}
		names[found[1]] = true
	}
	return names
}

// TestOperatorsPaths asks for what is not for clients in other spellings, past a proxy that shuts one of them out.
func TestOperatorsPaths(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	s := apitest.Start(t, "", func(config *server.Config) { config.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if response, body := raw(t, s, "GET", path, ""); response.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, response.StatusCode, body)
		}
		for _, spelling := range []string{
			"/v3" + path, "/v3.0" + path, "/v2" + path, "/v3/" + path, "/" + path, path + "/", "/v3" + path + "/", path + "//",
			"/%" + hex.EncodeToString([]byte(path[1:2])) + path[2:], path + "%2F", "/." + path, "/v3/.." + path,
		} {
			response, body := raw(t, s, "GET", spelling, "")
			if refused := envelope(t, spelling, response, body); refused.Code != api.CodeAPINotFound {
				t.Errorf("GET %s: %d %s", spelling, response.StatusCode, body)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if written := log.String(); strings.Contains(written, `"route":""`) || strings.Contains(written, `"debug":""`) ||
		!strings.Contains(written, `"took_ms":`) {
		t.Errorf("the log has members without a value, or without a unit: %s", written)
	}
}

// TestSocketsAreLogged opens and ends sockets, and looks for what the log says of them.
func TestSocketsAreLogged(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	s := apitest.Start(t, "", func(config *server.Config) {
		config.Logger, config.TrustedProxies = slog.New(slog.NewJSONHandler(&log, nil)), []string{"127.0.0.1"}
	})
	if _, err := s.Backend(t).Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	s.Login(t, apitest.Login{UID: "ada", Device: "phone"}).Close(1000, "")
	await(t, "the record of ada's socket", func() bool { return strings.Contains(log.String(), `"msg":"socket"`) })
	for _, want := range []string{
		`"remote":"127.0.0.1:`, `"secure":false`, `"app":"` + s.Credentials.AppID + `"`, `"actor":"user:ada"`, `"device":"phone"`,
		`"cause":"closed"`, `"code":1000`, `"duration_ms":`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the record does not say %s: %s", want, log.String())
		}
	}
	revoked := s.Login(t, apitest.Login{UID: "ada", Device: "tablet"})
	if _, err := s.Backend(t).Presence.Disconnect(apitest.Context(t), "ada", ""); err != nil {
		t.Fatal(err)
	}
	revoked.ClosedWith()
	await(t, "the record of the second socket", func() bool {
		return strings.Contains(log.String(), `"device":"tablet","cause":"disconnected by operator"`)
	})
}
