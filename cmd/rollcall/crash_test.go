package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/sqlstore"
	"github.com/rollcall/rollcall/internal/storetest"
)

// crashClients is how many clients write at once.
const crashClients = 64

// TestCrash kills the server again and again while clients write, and checks after every restart that it kept what it
// had acknowledged, that nothing is there by half, and that the change log tells the whole story without a gap.
func TestCrash(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		data := filepath.Join(t.TempDir(), "data")
		c := &crash{t: t, args: []string{"--data", data}, data: data}
		c.check = func() {
			condition, err := sqlstore.InspectSQLite(t.Context(), filepath.Join(data, server.DatabaseFile))
			if err != nil || len(condition.Problems) > 0 {
				t.Fatalf("the database is not sound: %v %v", err, condition.Problems)
			}
		}
		c.run(rounds(20, 4))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		_, url := storetest.OwnPostgres(t)
		data := filepath.Join(t.TempDir(), "data")
		c := &crash{t: t, args: []string{"--data", data, "--database", url}, data: data}
		c.orphans = func() func() { return orphansOf(t, url) }
		c.run(rounds(3, 1))
	})
}

func rounds(usual, short int) int {
	if testing.Short() {
		return short
	}
	return usual
}

// crash is one database, the clients that write to it and what they know.
type crash struct {
	t    *testing.T
	args []string
	data string
	// orphans returns who may still work for a killed server, and settled waits until they have ended. Nil means that
	// there is nobody.
	orphans func() (settled func())
	// check looks at the data of a restarted server in a way of its own.
	check func()
	// isOthers tells the users whom the writers have not made. Nil means that there are none.
	isOthers func(uid string) bool

	writers      []*writer
	acknowledged atomic.Int64
	// until is how many acknowledged writes are enough, and enough is called then.
	until  int64
	enough func()
}

func (c *crash) run(rounds int) {
	random := c.makeWriters(crashClients)
	uncertain := 0
	p := startServer(c.t, c.args...)
	for round := range rounds {
		c.killWhileWriting(p, random)
		settled := func() {}
		if c.orphans != nil {
			settled = c.orphans()
		}
		p = startServer(c.t, c.args...) // at once, as a supervisor would
		settled()
		uncertain += c.verify(p)
		if c.check != nil {
			c.check()
		}
		if c.t.Failed() {
			c.t.Fatalf("round %d", round)
		}
	}
	c.t.Logf(
		"%d writes were acknowledged, %d were cut off and had happened all the same", c.acknowledged.Load(), uncertain,
	)
	if c.acknowledged.Load() == 0 {
		c.t.Error("nothing was ever acknowledged: this test has shown nothing")
	}
	if code, err := p.stop(c.t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		c.t.Errorf("the server ended with exit code %d: %v", code, err)
	}
}

// makeWriters makes so many clients, and returns a source of random numbers for the test itself. All of them follow
// from a seed, which can be given.
func (c *crash) makeWriters(count int) *rand.Rand {
	seed := rand.Uint64()
	if text, ok := os.LookupEnv("ROLLCALL_TEST_SEED"); ok {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			c.t.Fatal(err)
		}
	}
	c.t.Logf("ROLLCALL_TEST_SEED=%d", seed)
	for i := range count {
		c.writers = append(c.writers, &writer{
			crash: c, name: fmt.Sprintf("w%d", i), random: rand.New(rand.NewPCG(seed, uint64(i)+1)),
		})
	}
	return rand.New(rand.NewPCG(seed, 0))
}

// killWhileWriting lets the clients write until the server is killed, at a random moment.
func (c *crash) killWhileWriting(p *process, random *rand.Rand) {
	api := p.client(c.t, nil)
	enough := make(chan struct{})
	c.until, c.enough = c.acknowledged.Load()+random.Int64N(600), sync.OnceFunc(func() { close(enough) })
	var writing sync.WaitGroup
	for _, w := range c.writers {
		writing.Go(func() { w.write(c.t.Context(), api) })
	}
	stuck := time.NewTimer(patience)
	defer stuck.Stop()
	// An acknowledgement comes right behind a commit. The time on top of it lets the kill fall anywhere in the next one.
	later := time.Duration(random.Int64N(int64(10 * time.Millisecond)))
	byItself := false
	select {
	case <-enough:
		<-time.After(later)
	case <-p.exited:
		byItself = true
	case <-stuck.C:
		c.t.Errorf("%d writes were acknowledged, and no more come up to %d", c.acknowledged.Load(), c.until)
	}
	p.kill()
	writing.Wait()
	if byItself {
		c.t.Fatalf("the server ended by itself: %v\n%s", p.err, p.stderr)
	}
}

// orphansOf returns a function that waits until PostgreSQL has noticed that a killed server is gone. What the server
// had sent may still be carried out until then. A new server copes with that; this test, which looks at the data
// several times, would take it for half a write.
func orphansOf(t *testing.T, url string) func() {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	const served = `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'rollcall'`
	backends := func() (pids []int32) {
		if err := conn.QueryRow(t.Context(), served).Scan(&pids); err != nil {
			t.Fatal(err)
		}
		return pids
	}
	orphans := backends()
	return func() {
		poll(t, "PostgreSQL still serves the killed server", func() bool {
			return !slices.ContainsFunc(backends(), func(pid int32) bool { return slices.Contains(orphans, pid) })
		})
	}
}

// account is what is known about a user. Every attempt to write it has a number, and every field a content that goes
// with the number: a user that is half of one attempt and half of another matches none.
type account struct {
	uid      string
	attempts int // the number of the last attempt
	stored   int // the attempt that the server has; 0 while there is no user
	writes   int // how many attempts the server has carried out
	cutOff   int // the attempt whose outcome is not known; 0 for none
}

func content(uid string, attempt int) api.CreateUserRequest {
	return api.CreateUserRequest{
		UID: uid, Name: fmt.Sprintf("%s, attempt %d", uid, attempt), StatusMessage: fmt.Sprintf("status %d", attempt),
		Metadata: fmt.Appendf(nil, `{"attempt":%d}`, attempt),
		Tags:     []string{attemptTag(attempt), []string{"even", "odd"}[attempt%2]},
	}
}

func attemptTag(attempt int) string { return fmt.Sprintf("attempt-%d", attempt) }

// is reports whether a user has exactly the content of an attempt.
func is(user api.User, attempt int) bool {
	want := content(user.UID, attempt)
	return user.Name == want.Name && user.StatusMessage == want.StatusMessage &&
		string(user.Metadata) == string(want.Metadata) &&
		slices.Equal(user.Tags, want.Tags)
}

// writer is one client. It alone writes its users, one write after another, so it knows what to expect of each.
type writer struct {
	crash    *crash
	name     string
	random   *rand.Rand
	accounts []*account
}

// write creates and updates users until the server is gone.
func (w *writer) write(ctx context.Context, c *client.Client) {
	t := w.crash.t
	for ctx.Err() == nil {
		user, attempt, answer, err := w.try(ctx, c)
		var refused *client.Error
		switch {
		case errors.As(err, &refused):
			t.Errorf("%s, attempt %d: %v", user.uid, attempt, err)
			return
		case err != nil:
			user.cutOff = attempt
			return
		case !is(answer, attempt):
			t.Errorf("%s, attempt %d: the answer is %+v", user.uid, attempt, answer)
		}
		user.stored = attempt
		user.writes++
		if w.crash.acknowledged.Add(1) > w.crash.until {
			w.crash.enough()
		}
	}
}

// try makes one attempt to write a user.
func (w *writer) try(ctx context.Context, c *client.Client) (user *account, attempt int, answer api.User, err error) {
	user = w.pick()
	user.attempts++
	wanted := content(user.uid, user.attempts)
	if user.stored == 0 {
		answer, err = c.Users.Create(ctx, wanted)
	} else {
		answer, err = c.Users.Update(ctx, user.uid, api.UpdateUserRequest{
			Name: &wanted.Name, StatusMessage: &wanted.StatusMessage, Metadata: &wanted.Metadata, Tags: &wanted.Tags,
		})
	}
	return user, user.attempts, answer, err
}

func (w *writer) pick() *account {
	if len(w.accounts) == 0 || w.random.IntN(4) == 0 {
		w.accounts = append(w.accounts, &account{uid: fmt.Sprintf("%s-%d", w.name, len(w.accounts))})
		return w.accounts[len(w.accounts)-1]
	}
	return w.accounts[w.random.IntN(len(w.accounts))]
}

// verify compares everything that the server shows with what the clients know. It returns how many of the writes that
// were cut off had happened.
func (c *crash) verify(p *process) (happened int) {
	t := c.t
	t.Helper()
	api := p.client(t, nil)
	users := listUsers(t, api, client.UserListOptions{WithTags: true})
	changes := listChanges(t, api)
	highest := 0
	for _, w := range c.writers {
		for _, a := range w.accounts {
			highest = max(highest, a.attempts)
			if c.settle(a, users) {
				happened++
			}
			stored := changes[a.uid]
			delete(changes, a.uid)
			if want := expectedChanges(a); !slices.Equal(stored, want) {
				t.Errorf("%s: the change log has %q, want %q", a.uid, stored, want)
			}
		}
	}
	for uid, kinds := range changes {
		if c.isOthers != nil && c.isOthers(uid) {
			continue
		}
		t.Errorf("the change log has %q about %s, whom nobody wrote", kinds, uid)
	}
	c.verifyTags(api, users, highest)
	return happened
}

// settle finds out what became of the attempt that was cut off, if there is one, and checks the user. It reports
// whether that attempt had happened.
func (c *crash) settle(a *account, users map[string]api.User) bool {
	user, there := users[a.uid]
	happened := a.cutOff != 0 && there && is(user, a.cutOff)
	if happened {
		a.stored = a.cutOff
		a.writes++
	}
	a.cutOff = 0
	switch {
	case !there && a.stored != 0:
		c.t.Errorf("%s is gone; attempt %d was acknowledged", a.uid, a.stored)
	case there && a.stored == 0:
		c.t.Errorf("%s is there by half: %+v", a.uid, user)
	case there && !is(user, a.stored):
		c.t.Errorf("%s is not as attempt %d, which was acknowledged, has left it: %+v", a.uid, a.stored, user)
	}
	return happened
}

func expectedChanges(a *account) []string {
	var kinds []string
	for i := range a.writes {
		if i == 0 {
			kinds = append(kinds, "user.created")
		} else {
			kinds = append(kinds, "user.updated metadata name statusMessage tags")
		}
	}
	return kinds
}

// verifyTags asks for the users of every tag: the index of tags must find those whose row has it, and no others.
func (c *crash) verifyTags(api *client.Client, users map[string]api.User, highest int) {
	tags := []string{"even", "odd"}
	for attempt := 1; attempt <= highest; attempt++ {
		tags = append(tags, attemptTag(attempt))
	}
	indexed := map[string]int{}
	for _, tag := range tags {
		for uid := range listUsers(c.t, api, client.UserListOptions{Tags: []string{tag}}) {
			indexed[uid]++
			if !slices.Contains(users[uid].Tags, tag) {
				c.t.Errorf("the index has %s under %s, its tags are %q", uid, tag, users[uid].Tags)
			}
		}
	}
	for uid, user := range users {
		if indexed[uid] != len(user.Tags) {
			c.t.Errorf("the index has %s under %d tags, its tags are %q", uid, indexed[uid], user.Tags)
		}
	}
}

// listUsers returns all users that match, by uid.
func listUsers(t *testing.T, c *client.Client, options client.UserListOptions) map[string]api.User {
	t.Helper()
	options.PerPage = 1000
	users := map[string]api.User{}
	for user, err := range c.Users.All(t.Context(), options) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := users[user.UID]; twice {
			t.Errorf("%s is listed twice", user.UID)
		}
		users[user.UID] = user
	}
	return users
}

// listChanges reads the change log and checks that every revision from 1 to the last is there once. It returns what
// was done to each user: the kinds, with the fields in order.
func listChanges(t *testing.T, c *client.Client) map[string][]string {
	t.Helper()
	users := map[string][]string{}
	for since := int64(0); ; {
		changes, last, err := c.Changes.List(t.Context(), since, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			if change.Revision != since+1 {
				t.Fatalf("revision %d comes behind %d", change.Revision, since)
			}
			since = change.Revision
			if strings.HasPrefix(change.Kind, "user.") {
				what := strings.Join(append([]string{change.Kind}, slices.Sorted(slices.Values(change.Fields))...), " ")
				users[change.Subject] = append(users[change.Subject], what)
			}
		}
		if len(changes) == 0 {
			if since != last {
				t.Fatalf("the change log ends with revision %d, the last one is %d", since, last)
			}
			return users
		}
	}
}

// shipped builds the program as it is shipped, without the race detector, which makes it too slow to show much. The
// flags are those of the Makefile, so that its build is used again.
var shipped = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "rollcall-test-")
	if err != nil {
		return "", err
	}
	sharedFolder = folder
	path := filepath.Join(folder, "rollcall")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return path, nil
})

// sharedFolder holds what shipped built.
var sharedFolder string

func removeShared() {
	if sharedFolder != "" {
		os.RemoveAll(sharedFolder)
	}
}

// process is a server in a process of its own.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	base           string // its address, such as http://127.0.0.1:12345
	data           string
	exited         chan struct{} // closed when it has ended
	err            error         // how it ended; for reading when exited is closed
}

// serveCommand returns the command that runs the shipped program as a server that listens wherever there is room and
// logs only what is wrong.
func serveCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(program, append([]string{
		"serve", "--http", "127.0.0.1:0", "--https", "", "--log-level", "error", "--rate-core", "-1", "--rate-standard", "-1",
	}, args...)...)
}

// startServer starts a server and waits until it is ready. It is killed at the end of the test if it is still there.
func startServer(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := launch(ctx, serveCommand(t, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

var address = regexp.MustCompile(`(?m)^ +http +(http://\S+)`)

// launch starts a server and waits until it is ready. When it returns an error, nothing is left running.
func launch(ctx context.Context, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	cmd.Stdout = p.stdout
	if cmd.Stderr == nil {
		cmd.Stderr = p.stderr
	}
	if data := slices.Index(cmd.Args, "--data"); data >= 0 {
		p.data = cmd.Args[data+1]
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	found, err := p.await(ctx, p.stdout, address)
	if err == nil {
		p.base = found[1]
		err = p.awaitReady(ctx)
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("the server did not start: %w\n%s", err, p.stderr)
	}
	return p, nil
}

// start starts the process, which does not outlive tests that are cut off.
func (p *process) start() error {
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// waitContext is for waiting for what has to happen.
func waitContext(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), patience)
}

// boundedCommand returns a command that is killed when it takes too long.
func boundedCommand(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longPatience)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, program, args...)
}

// await waits until a process has printed something, and returns the match.
func (p *process) await(ctx context.Context, printed *output, pattern *regexp.Regexp) ([]string, error) {
	for ended := false; ; {
		text, grown := printed.read()
		if match := pattern.FindStringSubmatch(text); match != nil {
			return match, nil
		}
		if ended {
			return nil, fmt.Errorf("it ended: %w", p.err)
		}
		select {
		case <-grown:
		case <-p.exited:
			ended = true // what it printed last is there now
		case <-ctx.Done():
			return nil, fmt.Errorf("it never printed %s: %w", pattern, ctx.Err())
		}
	}
}

func (p *process) awaitReady(ctx context.Context) error {
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-pause.C:
		case <-p.exited:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// kill ends the process as a crash would, and waits for it. It may have ended before.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.exited
}

// stop sends a signal and returns the exit code.
func (p *process) stop(ctx context.Context, signal syscall.Signal) (int, error) {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return 0, err
	}
	return p.wait(ctx)
}

// wait returns the exit code when the process has ended.
func (p *process) wait(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("the server does not end: %w", ctx.Err())
	}
}

// expectEnd demands that a server ends in order when it is told to.
func (p *process) expectEnd(t *testing.T) {
	t.Helper()
	if code, err := p.stop(t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v", code, err)
	}
}

// client returns a client of the first app that never tries again. A nil transport is one that keeps as many
// connections as clients.
func (p *process) client(t *testing.T, transport *http.Transport) *client.Client {
	t.Helper()
	app, key := appAndKey(t, p)
	if transport == nil {
		transport = &http.Transport{MaxIdleConnsPerHost: crashClients}
		t.Cleanup(transport.CloseIdleConnections)
	}
	c, err := client.New(p.base, client.WithApp(app), client.WithAPIKey(key), client.WithTries(1),
		client.WithHTTPClient(&http.Client{Transport: transport, Timeout: patience}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// appAndKey returns the id and the fullAccess key of the first app.
func appAndKey(t *testing.T, p *process) (app, key string) {
	t.Helper()
	credentials, err := server.ReadCredentials(filepath.Join(p.data, server.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	return credentials.AppID, credentials.RestAPIKey
}

// output gathers what a process prints.
type output struct {
	mu    sync.Mutex
	text  strings.Builder // guarded by mu
	grown chan struct{}   // guarded by mu; closed when there is more
}

func newOutput() *output { return &output{grown: make(chan struct{})} }

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.text.Write(text)
}

// read returns what was printed so far, and a channel that is closed when there is more.
func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.grown
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

// poll waits until something is so.
func poll(t *testing.T, otherwise string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for !is() {
		select {
		case <-pause.C:
		case <-ctx.Done():
			t.Fatal(otherwise)
		}
	}
}
