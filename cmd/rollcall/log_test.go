package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rollcall/rollcall/client"
)

// requestsLogged is how many requests it takes to fill a pipe and every buffer in front of it.
const requestsLogged = 2000

// TestLogNobodyReads gives a server a standard error that is never read. It serves all the same, and ends when it is
// told to.
func TestLogNobodyReads(t *testing.T) {
	t.Parallel()
	reader, writer := pipe(t)
	defer reader.Close()
	p := startLogging(t, writer)
	p.callMany(t, requestsLogged)
	p.expectEnd(t)
}

// TestLogReaderGone closes the pipe that a server logs to.
func TestLogReaderGone(t *testing.T) {
	t.Parallel()
	reader, writer := pipe(t)
	p := startLogging(t, writer)
	p.callMany(t, 10)
	reader.Close()
	p.callMany(t, requestsLogged)
	p.expectEnd(t)
}

// TestOutputNobodyTakes starts servers whose standard output and standard error are one pipe: a full one that nobody
// reads, and one whose reader is gone.
func TestOutputNobodyTakes(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, reader, writer *os.File){
		"full": func(t *testing.T, _, writer *os.File) {
			t.Helper()
			fill(t, writer)
		},
		"gone": func(_ *testing.T, reader, _ *os.File) { reader.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader, writer := pipe(t)
			defer reader.Close()
			spoil(t, reader, writer)
			address := freeAddress(t)
			cmd := serveCommand(t, "--data", filepath.Join(t.TempDir(), "data"), "--http", address, "--log-level", "info")
			cmd.Stdout, cmd.Stderr = writer, writer
			p := &process{cmd: cmd, base: "http://" + address, exited: make(chan struct{})}
			if err := p.start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.kill)
			writer.Close()
			if err := p.awaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.callMany(t, requestsLogged)
			p.expectEnd(t)
		})
	}
}

// TestLogOnFullDisk fills the disk that a server logs to, under reads and writes, and makes room again: every answer is
// right meanwhile, and nothing is missing in the log.
func TestLogOnFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	path := filepath.Join(d.path, "log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := startLogging(t, file)
	p.callMany(t, 10)
	awaitRecords(t, path, "GET /healthz", 10)
	d.fill()
	wait := p.writeAndRead(t, "full", 200)
	p.callMany(t, requestsLogged)
	wait()
	d.makeRoom()
	p.writeAndRead(t, "emptied", 20)()
	p.callMany(t, 10)
	awaitRecords(t, path, "GET /healthz", requestsLogged+20)
	p.expectEnd(t)
}

// writeAndRead creates users beside what the test does, and demands that each is there as it was written. wait returns
// when it is done.
func (p *process) writeAndRead(t *testing.T, prefix string, count int) (wait func()) {
	t.Helper()
	c := p.client(t, nil)
	var working sync.WaitGroup
	for worker := range 4 {
		working.Go(func() {
			for n := range count / 4 {
				uid := fmt.Sprintf("%s-%d-%d", prefix, worker, n)
				if _, err := c.Users.Create(t.Context(), content(uid, n+1)); err != nil {
					t.Errorf("create %s: %v", uid, err)
					return
				}
				if user, err := c.Users.Get(t.Context(), uid); err != nil || !is(user, n+1) {
					t.Errorf("%s is not as it was written: %+v, %v", uid, user, err)
				}
			}
		})
	}
	return working.Wait
}

// TestLogTellsWhatIsMissing writes more to a full disk than is kept, and makes room again.
func TestLogTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	path := filepath.Join(d.path, "log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d.fill()
	w := newAsyncWriter(file)
	config, err := (&settings{logLevel: "info", logFormat: "json"}).serverConfig(w)
	if err != nil {
		t.Fatal(err)
	}
	write := func(from, to int) {
		for i := from; i < to; i++ {
			config.Logger.Info("told", "number", i, "more", strings.Repeat("x", 1000))
		}
	}
	const told = 12_000 // megabytes more than is kept
	write(0, told)
	if w.Lost() == 0 {
		t.Fatal("nothing was lost: what waits is not bounded")
	}
	if err := d.resize(0, 64<<20); err != nil { // room for all that waits
		t.Fatal(err)
	}
	d.makeRoom()
	awaitRecords(t, path, "records of the log were lost here", 1)
	write(told, told+10)
	w.Close()

	next, missing := 0, int64(0)
	for _, record := range readRecords(t, path) {
		switch record.Message {
		case "told":
			if record.Number != next {
				t.Fatalf("record %d comes in the place of %d", record.Number, next)
			}
			next++
		case "records of the log were lost here":
			if !strings.Contains(record.Error, "no space left on device") {
				t.Errorf("the notice says %q", record.Error)
			}
			next += int(record.Records)
			missing += record.Records
		}
	}
	if missing != w.Lost() || next != told+10 {
		t.Errorf("%d records were lost, the log says %d; it ends with record %d of %d", w.Lost(), missing, next, told+10)
	}
}

// TestLostRecordsAreCounted reads what a server says on /metrics about a log that nobody reads.
func TestLostRecordsAreCounted(t *testing.T) {
	t.Parallel()
	reader, writer := pipe(t)
	defer reader.Close()
	p := startLogging(t, writer)
	lost := regexp.MustCompile(`(?m)^rollcall_log_records_lost_total (\d+)`)
	const rounds = 50 // for many times more than is kept
	for round := 1; ; round++ {
		p.callMany(t, requestsLogged)
		found := lost.FindStringSubmatch(p.get(t, "/metrics"))
		if found != nil && found[1] != "0" {
			break
		}
		if round == rounds {
			t.Fatalf("after %d requests that could not be logged /metrics says %q", rounds*requestsLogged, found)
		}
	}
	// Somebody reads again: what is missing is told.
	read := make(chan struct{})
	go func() {
		defer close(read)
		text := newOutput()
		_, _ = io.Copy(text, reader)
		if !strings.Contains(text.String(), `"records of the log were lost here"`) {
			t.Error("the log does not say that records are missing")
		}
	}()
	p.expectEnd(t)
	p.kill() // if it has not ended: what it holds of the pipe goes with it
	<-read
}

// TestNoFileDescriptors takes a server's file descriptors away.
func TestNoFileDescriptors(t *testing.T) {
	t.Parallel()
	p := startServer(t, "--data", filepath.Join(t.TempDir(), "data"))
	before := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}} // has a connection, and keeps it
	t.Cleanup(before.CloseIdleConnections)
	metrics := func() string { return get(t, before, p.base+"/metrics") }
	if !strings.Contains(metrics(), "\nrollcall_accept_failures_total 0\n") ||
		!strings.Contains(metrics(), "\nprocess_max_fds ") {
		t.Errorf("/metrics does not have what it takes to see it coming:\n%s", metrics())
	}
	setLimit(t, p, unix.RLIMIT_NOFILE, uint64(openFiles(t, p)))
	// The kernel takes the connection.
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := waitContext(t)
	defer cancel()
	logged := regexp.MustCompile(`"level":"ERROR","msg":"connections cannot be accepted",.*LimitNOFILE`)
	if _, err := p.await(ctx, p.stderr, logged); err != nil {
		t.Fatalf("it is not logged: %v\n%s", err, p.stderr)
	}
	failures := regexp.MustCompile(`\nrollcall_accept_failures_total (\d+)\n`)
	count := 0
	poll(t, "the failures are not counted", func() bool {
		if found := failures.FindStringSubmatch(metrics()); found != nil {
			count, _ = strconv.Atoi(found[1])
		}
		return count >= 7 // which takes a second or two
	})
	if told := strings.Count(p.stderr.String(), "connections cannot be accepted"); told > count/2 {
		t.Errorf("of %d failures %d were logged: not each is worth a record\n%s", count, told, p.stderr)
	}
	p.expectReadOrWords(t, before, "no file descriptor left")
	setLimit(t, p, unix.RLIMIT_NOFILE, noLimit)
	p.callMany(t, 10)
	p.expectEnd(t)
}

// expectReadOrWords lists users, and demands that it works or is refused in certain words.
func (p *process) expectReadOrWords(t *testing.T, through *http.Client, words string) {
	t.Helper()
	app, key := appAndKey(t, p)
	c, err := client.New(
		p.base, client.WithApp(app), client.WithAPIKey(key), client.WithTries(1), client.WithHTTPClient(through),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Users.List(t.Context(), client.UserListOptions{}); err != nil && !strings.Contains(err.Error(), words) {
		t.Errorf("want to be told %q, got %v", words, err)
	}
}

// openFiles returns how many files a process has open, which it may go on having.
func openFiles(t *testing.T, p *process) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// startLogging starts a server that logs its requests to a file, which is its own from now on.
func startLogging(t *testing.T, log *os.File) *process {
	t.Helper()
	cmd := serveCommand(t, "--data", filepath.Join(t.TempDir(), "data"), "--log-level", "info")
	cmd.Stderr = log
	ctx, cancel := waitContext(t)
	defer cancel()
	p, err := launch(ctx, cmd)
	log.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// callMany makes requests that are logged, from several clients.
func (p *process) callMany(t *testing.T, count int) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}, Timeout: patience}
	defer c.CloseIdleConnections()
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			for range count / 10 {
				get(t, c, p.base+"/healthz")
				if t.Failed() {
					return
				}
			}
		})
	}
	calls.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func (p *process) get(t *testing.T, path string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer c.CloseIdleConnections()
	return get(t, c, p.base+path)
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	response, err := c.Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %d %v %s", url, response.StatusCode, err, body)
	}
	return string(body)
}

// pipe returns a pipe that blocks who writes to it when it is full, as a shell's does.
func pipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(ends[0]), "reader"), os.NewFile(uintptr(ends[1]), "writer")
}

// fill writes to a pipe until it takes no more.
func fill(t *testing.T, writer *os.File) {
	t.Helper()
	fd := int(writer.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		var err error
		for err == nil {
			_, err = unix.Write(fd, make([]byte, size))
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns an address that nobody listens on, for a program that cannot say which one it has taken.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// logRecord is a record of a log in JSON.
type logRecord struct {
	Message string `json:"msg"`
	Route   string `json:"route"`
	Error   string `json:"error"`
	Number  int    `json:"number"`
	Records int64  `json:"records"`
}

// readRecords reads a log. A record that is not whole is an error, unless it is the last.
func readRecords(t *testing.T, path string) (records []logRecord) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var record logRecord
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatalf("the log has a record that is none: %v: %s", err, line)
		}
		records = append(records, record)
	}
	return records
}

// awaitRecords waits until a log has so many records of a route or with a message.
func awaitRecords(t *testing.T, path, what string, count int) {
	t.Helper()
	found := 0
	poll(t, fmt.Sprintf("the log never has %d records of %s", count, what), func() bool {
		found = 0
		for _, record := range readRecords(t, path) {
			if record.Route == what || record.Message == what {
				found++
			}
		}
		return found >= count
	})
	if found > count {
		t.Errorf("the log has %d records of %s, want %d", found, what, count)
	}
}
