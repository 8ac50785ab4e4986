// Package bench is the load generator behind `rollcall bench`: it starts the server as a process of its own, and in
// the same run the floors that its figures are compared with, and prints both. It is no part of the server.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/server"
)

// Options say what to measure.
type Options struct {
	// Users is how many users the directory holds. Zero means 100,000. Ten times as many rows are imported for
	// the figures of a large directory.
	Users int
	// Duration is how long each operation is measured. Zero means 5 s.
	Duration time.Duration
	// Only names the parts to measure, of Parts. Empty means all.
	Only []string
	// ServeFlags are passed on to `rollcall serve`.
	ServeFlags []string
	// Progress gets a line for every step.
	Progress io.Writer
}

// Row is one line of the report.
type Row struct {
	Operation   string  `json:"operation"`
	Concurrency int     `json:"concurrency,omitempty"`
	Rate        float64 `json:"opsPerSecond,omitempty"`
	P50         float64 `json:"p50Milliseconds,omitempty"`
	P99         float64 `json:"p99Milliseconds,omitempty"`
	// CPU is the server's CPU time for one operation, in microseconds.
	CPU float64 `json:"cpuMicroseconds,omitempty"`
	RSS float64 `json:"rssMegabytes,omitempty"`
	// Value is the figure of rows that are not loads.
	Value string `json:"value,omitempty"`
	// Ratio compares with the floor, Goal is what it must reach, and Met whether it does.
	Ratio string `json:"ratio,omitempty"`
	Goal  string `json:"goal,omitempty"`
	Met   *bool  `json:"met,omitempty"`
}

// goal says what a row must reach.
func (r *Row) goal(text string, met bool) {
	r.Goal, r.Met = text, &met
}

type run struct {
	Options
	folder      string
	credentials server.Credentials
	echo        *process
	server      *process
	rows        []Row
	crowds      int
	// bareDelivery is the CPU time by which a bare broadcast reaches one socket.
	bareDelivery time.Duration
	// made is how many users have been made so far, numbered from 0 on.
	made int64
	// prepared says that some users have the role and the tag that are filtered by.
	prepared bool
}

// Run measures everything and returns the report.
func Run(ctx context.Context, options Options) (_ []Row, err error) {
	if options.Users == 0 {
		options.Users = 100_000
	}
	if options.Duration == 0 {
		options.Duration = 5 * time.Second
	}
	for _, name := range options.Only {
		if !slices.Contains(Parts(), name) {
			return nil, fmt.Errorf("there is no part %q to measure; there are %s", name, strings.Join(Parts(), ", "))
		}
	}
	folder, err := os.MkdirTemp("", "rollcall-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the processes, whatever happens
	r := &run{Options: options, folder: folder}
	steps := []func(context.Context) error{r.measureEcho, r.load}
	for _, part := range parts {
		if len(options.Only) == 0 || slices.Contains(options.Only, part.name) {
			steps = append(steps, func(ctx context.Context) error { return part.measure(r, ctx) })
		}
	}
	for _, step := range append(steps, r.stop) {
		if err := step(ctx); err != nil {
			return r.rows, err
		}
	}
	return r.rows, nil
}

// parts are what can be measured by itself, in this order. Each finds the server running on the users, or not, and
// leaves it as it likes.
var parts = []struct {
	name    string
	measure func(*run, context.Context) error
}{
	{"read", (*run).measureReads},
	{"create", (*run).measureCreate},
	{"directory", (*run).measureDirectory},
	{"restart", (*run).measureRestart},
	{"sockets", (*run).measureSockets},
	{"online", (*run).measureOnline},
	{"large", (*run).measureLarge},
	{"postgres", (*run).measurePostgres},
}

// Parts names what can be measured by itself.
func Parts() []string {
	names := make([]string, len(parts))
	for i, part := range parts {
		names[i] = part.name
	}
	return names
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, format+"\n", args...)
}

// appendRequest appends an HTTP request to buffer.
func appendRequest(buffer []byte, method, path string, headers []string, body string) []byte {
	buffer = append(buffer, method+" "+path+" HTTP/1.1\r\nHost: bench\r\n"...)
	for _, header := range headers {
		buffer = append(append(buffer, header...), "\r\n"...)
	}
	if body != "" {
		buffer = append(buffer, fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))...)
	}
	return append(append(buffer, "\r\n"...), body...)
}

// echoLoad is the floor that operations over HTTP are compared with.
func (r *run) echoLoad(concurrency int) measurement {
	return load{concurrency: concurrency, request: func(buffer []byte, n int64) []byte {
		return appendRequest(buffer, "POST", "/echo", nil, profile(n))
	}}.against(r.echo)
}

func (r *run) measureEcho(ctx context.Context) (err error) {
	r.say("measuring the floor: a bare net/http JSON echo")
	if r.echo, err = start(ctx, filepath.Join(r.folder, "echo.log"), "bench", "echo"); err != nil {
		return err
	}
	for _, concurrency := range []int{16, 128} {
		floor, err := r.echoLoad(concurrency)(ctx, r.Duration)
		if err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		r.addLoad("floor: net/http JSON echo", concurrency, floor)
	}
	return nil
}

func (r *run) addLoad(operation string, concurrency int, measured result) *Row {
	row := Row{
		Operation: operation, Concurrency: concurrency, Rate: measured.rate(),
		P50: milliseconds(measured.percentile(50)), P99: milliseconds(measured.percentile(99)),
		CPU: microseconds(measured.perOp()),
	}
	if r.server != nil {
		if bytes, err := rss(r.server.cmd.Process.Pid); err == nil {
			row.RSS = megabytes(bytes)
		}
	}
	r.rows = append(r.rows, row)
	return &r.rows[len(r.rows)-1]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
func megabytes(bytes int64) float64        { return float64(bytes) / 1e6 }

// againstEcho measures an operation and the echo in turns, and compares their CPU time.
func (r *run) againstEcho(
	ctx context.Context, operation string, l load, most float64,
) (row *Row, echo, measured result, err error) {
	echo, measured, err = compare(ctx, r.Duration, r.echoLoad(l.concurrency), l.against(r.server))
	if err != nil {
		return nil, echo, measured, fmt.Errorf("%s: %w", operation, err)
	}
	row = r.addLoad(operation, l.concurrency, measured)
	row.atMostEchoes(measured, echo, most)
	return row, echo, measured, nil
}

// besideEcho measures the echo before and after something that cannot take turns with it.
func (r *run) besideEcho(
	ctx context.Context, concurrency int, measure func() (result, error),
) (measured, echo result, err error) {
	floor := r.echoLoad(concurrency)
	if echo, err = floor(ctx, r.Duration/2); err != nil {
		return measured, echo, fmt.Errorf("echo: %w", err)
	}
	if measured, err = measure(); err != nil {
		return measured, echo, err
	}
	after, err := floor(ctx, r.Duration/2)
	if err != nil {
		return measured, echo, fmt.Errorf("echo: %w", err)
	}
	echo.add(after)
	return measured, echo, nil
}

// atMostEchoes compares the CPU time of an operation with the echo's.
func (r *Row) atMostEchoes(measured, echo result, most float64) {
	ratio := microseconds(measured.perOp()) / microseconds(echo.perOp())
	r.Ratio = fmt.Sprintf("%.2fx CPU of %.1f", ratio, microseconds(echo.perOp()))
	r.goal(fmt.Sprintf("<= %.1fx CPU", most), ratio <= most)
}

// atLeastEchoes compares the rate of an operation with the echo's.
func (r *Row) atLeastEchoes(rate float64, echo result, least float64) {
	ratio := rate / echo.rate()
	r.Ratio = fmt.Sprintf("%.2fx rate of %.0f", ratio, echo.rate())
	r.goal(fmt.Sprintf(">= %.2fx rate", least), ratio >= least)
}

// unreachable is a rate limit that counts every request and stops none.
const unreachable = "1000000000"

func (r *run) startServer(ctx context.Context, name string, extra ...string) (*process, error) {
	data := filepath.Join(r.folder, name)
	p, err := start(ctx, filepath.Join(r.folder, name+".log"), append([]string{
		"serve", "--data", data, "--http", "127.0.0.1:0", "--https", "", "--rate-core", unreachable, "--rate-standard",
		unreachable, "--rate-token", unreachable,
	}, append(extra, r.ServeFlags...)...)...)
	if err != nil {
		return nil, err
	}
	r.credentials, err = server.ReadCredentials(filepath.Join(data, server.CredentialsFile))
	return p, err
}

func (r *run) keyHeaders() []string {
	return []string{"appId: " + r.credentials.AppID, "apikey: " + r.credentials.RestAPIKey}
}

// create is a load of creations, numbered from first on.
func (r *run) create(concurrency int, first int64) load {
	headers := r.keyHeaders()
	return load{concurrency: concurrency, request: func(buffer []byte, n int64) []byte {
		return appendRequest(buffer, "POST", "/v3/users", headers, profile(first+n))
	}}
}

// serve makes sure that the server runs on SQLite.
func (r *run) serve(ctx context.Context) (err error) {
	if r.server == nil {
		r.server, err = r.startServer(ctx, "sqlite")
	}
	return err
}

// stop makes sure that no server runs.
func (r *run) stop(context.Context) error {
	if r.server == nil {
		return nil
	}
	stopping := r.server
	r.server = nil
	return stopping.stop()
}

// load starts the server on SQLite and makes the users.
func (r *run) load(ctx context.Context) error {
	r.say("starting the server on SQLite")
	if err := r.serve(ctx); err != nil {
		return err
	}
	pid := r.server.cmd.Process.Pid
	idle, err := rss(pid)
	if err != nil {
		return err
	}
	r.addValue("RSS idle after start", fmt.Sprintf("%.1f MB", megabytes(idle)), "<= 30 MB", idle <= 30e6)

	if err := r.prepareApp(ctx); err != nil {
		return fmt.Errorf("prepare the app: %w", err)
	}
	r.say("loading %d users", r.Users)
	loading := r.create(128, 0)
	loading.address, loading.count = r.server.address, int64(r.Users)
	loaded, err := loading.run(ctx, pid)
	if err != nil {
		return fmt.Errorf("load users: %w", err)
	}
	r.made = int64(r.Users)
	r.addLoad(fmt.Sprintf("load: create %d users", r.Users), 128, loaded)
	full, err := rss(pid)
	if err != nil {
		return err
	}
	r.addValue(
		fmt.Sprintf("RSS with %d users", r.Users), fmt.Sprintf("%.1f MB", megabytes(full)), "<= 80 MB", full <= 80e6,
	)
	bytes, err := folderSize(filepath.Join(r.folder, "sqlite"))
	if err != nil {
		return err
	}
	perUser := float64(bytes) / float64(r.Users)
	r.addValue("disk per user, change log included", fmt.Sprintf("%.0f B", perUser), "<= 500 B", perUser <= 500)
	return nil
}

// measureCreate measures creations on SQLite.
func (r *run) measureCreate(ctx context.Context) (err error) {
	if err := r.serve(ctx); err != nil {
		return err
	}
	r.say("measuring creations")
	created := new(atomic.Int64)
	defer func(first int64) { r.made = first + created.Load() }(r.made)
	many := r.create(128, r.made)
	many.next = created
	row, echo, measured, err := r.againstEcho(ctx, "create, durable, SQLite", many, 2.3)
	if err != nil {
		return err
	}
	share := measured.rate() / echo.rate()
	row.Ratio += fmt.Sprintf(", %.2fx rate", share)
	row.goal(row.Goal+", >= 0.55x rate", *row.Met && share >= 0.55)

	floor, err := openSQLiteFloor(filepath.Join(r.folder, "floor.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.close()) }()
	one := r.create(1, r.made)
	one.next = created
	inserts, measured, err := compare(ctx, r.Duration, floor.measure, one.against(r.server))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	r.rows = append(r.rows, Row{Operation: "floor: SQLite insert per synced commit", Concurrency: 1, Rate: inserts.rate()})
	row = r.addLoad("create, durable, SQLite", 1, measured)
	share = measured.rate() / inserts.rate()
	row.Ratio = fmt.Sprintf("%.2fx of synced inserts", share)
	row.goal(">= 0.42x", share >= 0.42)
	return nil
}

func (r *run) addValue(operation, value, goal string, met bool) {
	row := Row{Operation: operation, Value: value}
	row.goal(goal, met)
	r.rows = append(r.rows, row)
}

func folderSize(folder string) (total int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// tokens is how many users the token calls are spread over.
const tokens = 1000

// measureReads measures reading users, and tokens.
func (r *run) measureReads(ctx context.Context) error {
	if err := r.serve(ctx); err != nil {
		return err
	}
	r.say("measuring reads and tokens")
	headers := r.keyHeaders()
	users := int64(r.Users)
	scattered := func(n int64) int64 { return n * 7919 % users }
	measure := func(operation string, concurrency int, most float64, request func([]byte, int64) []byte) error {
		_, _, _, err := r.againstEcho(ctx, operation, load{concurrency: concurrency, request: request}, most)
		return err
	}
	err := measure("get a user by key", 16, 1.6, func(buffer []byte, n int64) []byte {
		return appendRequest(buffer, "GET", fmt.Sprintf("/v3/users/user-%d", scattered(n)), headers, "")
	})
	if err != nil {
		return err
	}
	err = measure("mint a token, durable", 16, 5, func(buffer []byte, n int64) []byte {
		return appendRequest(
			buffer, "POST", fmt.Sprintf("/v3/users/user-%d/auth_tokens", scattered(n)), headers, `{"force":true}`,
		)
	})
	if err != nil {
		return err
	}
	logins, err := r.mintTokens(ctx)
	if err != nil {
		return err
	}
	return measure("GET me under a user's token", 16, 1.5, func(buffer []byte, n int64) []byte {
		return appendRequest(buffer, "GET", "/v3/me", []string{headers[0], logins[n%tokens]}, "")
	})
}

func (r *run) mintTokens(ctx context.Context) ([]string, error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	headers := make([]string, tokens)
	for i := range headers {
		token, err := c.AuthTokens.Create(ctx, fmt.Sprintf("user-%d", i%r.Users), api.CreateAuthTokenRequest{Force: true})
		if err != nil {
			return nil, fmt.Errorf("mint: %w", err)
		}
		headers[i] = "authToken: " + token.Token
	}
	return headers, nil
}

// starts is how often the start is measured.
const starts = 5

func (r *run) measureRestart(ctx context.Context) error {
	r.say("measuring the start with %d users", r.Users)
	took := make([]time.Duration, starts)
	for i := range took {
		if err := r.stop(ctx); err != nil {
			return fmt.Errorf("stop server: %w", err)
		}
		started := time.Now()
		if err := r.serve(ctx); err != nil {
			return err
		}
		took[i] = time.Since(started)
	}
	slices.Sort(took)
	median := took[starts/2]
	r.addValue(fmt.Sprintf("start to ready with %d users", r.Users),
		fmt.Sprintf(
			"%.0f ms (%.0f to %.0f)", milliseconds(median), milliseconds(took[0]), milliseconds(took[starts-1]),
		), "<= 150 ms", median <= 150*time.Millisecond)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	info, err := os.Stat(self)
	if err != nil {
		return err
	}
	r.addValue("binary", fmt.Sprintf("%.1f MB", megabytes(info.Size())), "<= 45 MB", info.Size() <= 45e6)
	return nil
}

// Machine describes where the figures come from.
func Machine() string {
	model, cores := "unknown CPU", 0
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(name) {
			case "model name":
				model = strings.TrimSpace(value)
			case "processor":
				cores++
			}
		}
	}
	return fmt.Sprintf("%d cores, %s", cores, model)
}

// ErrMissed means that a goal was not met.
var ErrMissed = errors.New("a goal was missed; see the report")
