package main

import (
	"bytes"
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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/storetest"
)

// TestMove moves the data of a server that is written to from SQLite to PostgreSQL and back, with moves that are killed
// at random moments, and checks that everything that was acknowledged is there once, and that nothing else has changed.
func TestMove(t *testing.T) {
	t.Parallel()
	_, url := storetest.OwnPostgres(t)
	data, back := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "back")
	m := &movingTest{
		crash: crash{t: t, data: data, isOthers: func(uid string) bool {
			return strings.HasPrefix(uid, "other-") || strings.HasPrefix(uid, "~") // one was erased
		}},
	}
	m.random = m.makeWriters(moveClients)

	p := startServer(t, "--data", data, "--grace", "100ms")
	m.furnish(p)
	m.move(p, []string{"--data", data, "--to", url})
	before := m.look(p)
	p.expectEnd(t)
	expectNoStart(t, "was moved to PostgreSQL", "--data", data)
	p = startServer(t, "--data", data, "--database", url)
	m.expect(p, before)

	m.move(p, []string{"--data", data, "--database", url, "--to", back})
	before = m.look(p)
	p.expectEnd(t)
	expectNoStart(t, "was moved to SQLite", "--data", data, "--database", url)
	p = startServer(t, "--data", back)
	m.expect(p, before)
	p.expectEnd(t)
}

// moveClients is how many clients write while the data is moved, and moveUsers how many users there are besides.
const (
	moveClients = 2
	moveUsers   = 10_000
)

type movingTest struct {
	crash
	random *rand.Rand
	// token is an auth token, once an answer under an idempotency key, and cursor a place in the change log, from before
	// the moves.
	token  string
	once   api.User
	cursor int64
}

const onceKey = "an idempotency key"

var onceUser = api.CreateUserRequest{UID: "other-once", Name: "Once"}

// furnish makes what a move has to bring along.
func (m *movingTest) furnish(p *process) {
	t, c := m.t, p.client(m.t, nil)
	for from := 0; from < moveUsers; from += 500 {
		var rows []api.UserRow
		for i := range 500 {
			name := fmt.Sprintf("Other %d", from+i)
			rows = append(rows, api.UserRow{
				UID: fmt.Sprintf("other-%d", from+i), UpdateUserRequest: api.UpdateUserRequest{Name: &name},
			})
		}
		_, err := c.Users.Batch(t.Context(), rows)
		must(t, err)
	}
	var err error
	m.once, err = c.Users.Create(client.WithIdempotencyKey(t.Context(), onceKey), onceUser)
	must(t, err)
	_, err = c.Roles.Create(t.Context(), api.CreateRoleRequest{Role: "guest", Name: "Guest"})
	must(t, err)
	_, err = c.Blocks.Block(t.Context(), "other-1", "other-2", "other-3")
	must(t, err)
	_, err = c.Friends.Add(t.Context(), "other-1", "other-4")
	must(t, err)
	_, err = c.Friends.Ask(t.Context(), "other-5", "other-6")
	must(t, err)
	_, err = c.Users.Deactivate(t.Context(), "other-7")
	must(t, err)
	must(t, c.Users.Erase(t.Context(), "other-8"))
	minted, err := c.AuthTokens.Create(t.Context(), "other-1", api.CreateAuthTokenRequest{})
	must(t, err)
	m.token = minted.Token
	m.visit(p)
	poll(t, "the visit is in no timeline", func() bool {
		timeline, err := c.Presence.Timeline(t.Context(), "other-1")
		must(t, err)
		return len(timeline) > 1 && timeline[0].Status == "offline"
	})
	changes, _, err := c.Changes.List(t.Context(), 0, 1000)
	must(t, err)
	m.cursor = changes[len(changes)-1].Revision
}

// visit puts the user of the token online, and offline again.
func (m *movingTest) visit(p *process) {
	online := make(chan struct{})
	options := client.SessionOptions{DeviceID: "phone", OnState: func(state client.ConnectionState, err error) {
		if state == client.Connected && err == nil {
			close(online)
		}
	}}
	ctx, leave := context.WithCancel(m.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for range m.user(p).Presence.Session(options).Events(ctx) {
		}
	})
	select {
	case <-online:
	case <-time.After(patience):
		m.t.Error("the user does not come online")
	}
	leave()
	running.Wait()
}

// user returns a client that is logged in with the token.
func (m *movingTest) user(p *process) *client.Client {
	app, _ := appAndKey(m.t, p)
	c, err := client.New(p.base, client.WithApp(app), client.WithAuthToken(m.token))
	must(m.t, err)
	return c
}

// move moves the data of a server while clients write to it, and kills the move now and then.
func (m *movingTest) move(p *process, args []string) {
	t := m.t
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	traffic := &moveTraffic{}
	var writing sync.WaitGroup
	for _, w := range m.writers {
		writing.Go(func() { w.writeUntilMoved(ctx, p.client(t, nil), traffic) })
	}
	traffic.await(t, p, 100)
	killed, killedLate := 0, 0
	for range rounds(5, 2) {
		if m.killed(runMove(t, args...), time.Duration(m.random.Int64N(int64(700*time.Millisecond)))) {
			killed++
		}
	}
	if killed == 0 {
		t.Error("no move was killed while it copied: this test has shown nothing")
	}
	traffic.await(t, p, 100)
	m.finish(runMove(t, args...), "nothing is switched")
	for round := range rounds(5, 2) {
		switching := runMove(t, append(slices.Clone(args), "--switch")...)
		waiting, done := waitContext(t)
		_, err := switching.await(waiting, switching.stderr, regexp.MustCompile("switching|when it had switched"))
		done()
		if err != nil {
			if !strings.Contains(switching.stdout.String(), "the move is done") {
				t.Fatalf("it does not switch: %v\n%s", err, switching.stderr)
			}
			break
		}
		within := 20 * time.Millisecond << round // which is sooner at first than any switch is over
		if !m.killed(switching, time.Duration(m.random.Int64N(int64(within)))) {
			break
		}
		killedLate++
		if traffic.over() {
			t.Log("a move was killed when it had switched")
			break
		}
		traffic.awaitMoreOrEnd(t, p, 20)
	}
	m.finish(runMove(t, append(slices.Clone(args), "--switch")...), "tart")
	writing.Wait()
	if ctx.Err() != nil || t.Failed() {
		t.FailNow()
	}
	if killedLate == 0 {
		t.Error("no move was killed while it switched: this test has shown nothing")
	}
	t.Logf("%d moves were killed while they copied, %d while they switched; %d writes were acknowledged and %d refused",
		killed, killedLate, traffic.acknowledged.Load(), traffic.refused.Load())
	m.expectRefusal(p)
}

// killed kills a move after a while, and reports whether it was not over by then.
func (m *movingTest) killed(move *process, after time.Duration) bool {
	select {
	case <-time.After(after):
		move.kill()
		return move.cmd.ProcessState.ExitCode() == -1
	case <-move.exited:
		if code := move.cmd.ProcessState.ExitCode(); code != 0 {
			m.t.Errorf("the move ended with exit code %d\n%s", code, move.stderr)
		}
		return false
	}
}

// finish waits for a move that must succeed.
func (m *movingTest) finish(move *process, says string) {
	m.t.Helper()
	code, err := move.wait(m.t.Context())
	if err != nil || code != 0 || !strings.Contains(move.stdout.String(), says) {
		m.t.Fatalf("the move ended with exit code %d: %v\n%s%s", code, err, move.stdout, move.stderr)
	}
}

// runMove starts `rollcall move`.
func runMove(t *testing.T, args ...string) *process {
	t.Helper()
	program, err := shipped()
	must(t, err)
	p := &process{
		cmd: exec.Command(program, append([]string{"move"}, args...)...), stdout: newOutput(), stderr: newOutput(),
		exited: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	must(t, p.start())
	t.Cleanup(p.kill)
	return p
}

// moveTraffic is what clients have seen.
type moveTraffic struct {
	acknowledged, refused atomic.Int64
	// gone counts the clients that were told that the data is elsewhere.
	gone atomic.Int64
}

func (m *moveTraffic) over() bool { return m.gone.Load() > 0 }

// await waits until so many more writes were acknowledged.
func (m *moveTraffic) await(t *testing.T, p *process, more int64) {
	t.Helper()
	until := m.acknowledged.Load() + more
	poll(t, "the server takes no writes\n"+p.stderr.String(), func() bool {
		return t.Failed() || m.acknowledged.Load() >= until
	})
}

// awaitMoreOrEnd demands that a source whose move was killed takes writes as before, or says for good that it does not.
func (m *moveTraffic) awaitMoreOrEnd(t *testing.T, p *process, more int64) {
	t.Helper()
	until := m.acknowledged.Load() + more
	poll(t, "the server neither takes writes nor says that it does not any more\n"+p.stderr.String(), func() bool {
		return t.Failed() || m.over() || m.acknowledged.Load() >= until
	})
}

// writeUntilMoved writes until the server says that its data is elsewhere.
func (w *writer) writeUntilMoved(ctx context.Context, c *client.Client, traffic *moveTraffic) {
	for ctx.Err() == nil {
		user, attempt, answer, err := w.try(ctx, c)
		var refused *client.Error
		switch {
		case errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable:
			traffic.refused.Add(1)
			if strings.Contains(refused.Message, "was moved to another database") {
				traffic.gone.Add(1)
				return
			}
			continue
		case ctx.Err() != nil:
			return
		case err != nil:
			w.crash.t.Errorf("%s, attempt %d: %v", user.uid, attempt, err)
			return
		case !is(answer, attempt):
			w.crash.t.Errorf("%s, attempt %d: the answer is %+v", user.uid, attempt, answer)
		}
		user.stored = attempt
		user.writes++
		traffic.acknowledged.Add(1)
	}
}

// expectRefusal demands that a source answers reads, and refuses writes in words.
func (m *movingTest) expectRefusal(p *process) {
	t := m.t
	t.Helper()
	c := p.client(t, nil)
	if _, err := c.Users.Get(t.Context(), "other-1"); err != nil {
		t.Errorf("the source does not answer reads: %v", err)
	}
	_, err := c.Users.Create(t.Context(), api.CreateUserRequest{UID: "other-late", Name: "Late"})
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.RetryAfter <= 0 ||
		!strings.Contains(refused.Message, "was moved to another database") {
		t.Errorf("a write at the source gets %v", err)
	}
}

// moveView is what a server shows that a move must not change.
type moveView struct {
	Export   string
	Timeline []api.PresenceTransition
	Changes  []api.Change
	Revision int64
}

func (m *movingTest) look(p *process) (view moveView) {
	t, c := m.t, p.client(m.t, nil)
	var export bytes.Buffer
	_, err := c.Export(t.Context(), &export)
	must(t, err)
	view.Export = export.String()
	view.Timeline, err = c.Presence.Timeline(t.Context(), "other-1")
	must(t, err)
	view.Changes, view.Revision, err = c.Changes.List(t.Context(), m.cursor, 1000)
	must(t, err)
	return view
}

// expect demands that a server on the target shows what the source did, and that nothing is lost.
func (m *movingTest) expect(p *process, before moveView) {
	t := m.t
	t.Helper()
	after := m.look(p)
	if before.Export != after.Export {
		t.Errorf("the export is not the same: %d bytes and %d", len(before.Export), len(after.Export))
	}
	before.Export, after.Export = "", ""
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the server shows something else: %s", diff)
	}
	if len(after.Timeline) == 0 || len(after.Changes) == 0 || after.Changes[0].Revision != m.cursor+1 {
		t.Errorf("the timeline has %d entries; behind revision %d come %d changes",
			len(after.Timeline), m.cursor, len(after.Changes))
	}
	if me, err := m.user(p).Me.Get(t.Context()); err != nil || me.UID != "other-1" {
		t.Errorf("the auth token is not good any more: %v %v", me.UID, err)
	}
	again, err := p.client(t, nil).Users.Create(client.WithIdempotencyKey(t.Context(), onceKey), onceUser)
	if diff := cmp.Diff(m.once, again); err != nil || diff != "" {
		t.Errorf("the answer under the idempotency key is another: %v %s", err, diff)
	}
	m.verify(p)
	if t.Failed() {
		t.FailNow()
	}
}

// TestMoveCommand does what an operator does who moves to PostgreSQL and back into the same directory.
func TestMoveCommand(t *testing.T) {
	t.Parallel()
	_, url := storetest.OwnPostgres(t)
	data := filepath.Join(t.TempDir(), "data")
	p := startServer(t, "--data", data)
	_, err := p.client(t, nil).Users.Create(t.Context(), api.CreateUserRequest{UID: "ada", Name: "Ada"})
	must(t, err)

	expectMove(t, exitUsage, "--to must name the target", "--data", data)
	expectMove(t, exitFailed, "both sides are SQLite", "--data", data, "--to", t.TempDir())
	expectMove(t, exitFailed, "is not the URL of a PostgreSQL database", "--data", data, "--to", "mysql://u:hunter2@h/d")
	for range 2 { // the first has changed nothing
		expectMove(t, 0, "The target is empty", "--data", data, "--to", url, "--dry-run")
	}
	if marks, err := filepath.Glob(filepath.Join(data, "*mov*")); err != nil || len(marks) > 0 {
		t.Errorf("a dry run has left %v %v", marks, err)
	}
	expectMove(t, 0, "nothing is switched", "--data", data, "--to", url)
	expectNoStart(t, "is not done", "--data", filepath.Join(t.TempDir(), "other"), "--database", url)
	expectMove(t, 0, "a move would go on", "--data", data, "--to", url, "--dry-run")
	p.expectEnd(t)
	expectMove(t, 0, `"switched": true`, "--data", data, "--to", url, "--switch", "--json")
	expectMove(t, 0, "the move is done", "--data", data, "--to", url)
	another := strings.Replace(url, "db1", "postgres", 1)
	expectMove(t, exitFailed, "was moved to PostgreSQL", "--data", data, "--to", another)

	expectMove(t, exitFailed, "rollcall.db is there", "--data", data, "--database", url, "--to", data, "--switch")
	for _, name := range []string{server.DatabaseFile, server.DatabaseFile + ".moved"} {
		must(t, os.Rename(filepath.Join(data, name), filepath.Join(t.TempDir(), name)))
	}
	p = startServer(t, "--data", data, "--database", url)
	_, err = p.client(t, nil).Users.Create(t.Context(), api.CreateUserRequest{UID: "bob", Name: "Bob"})
	must(t, err)
	expectMove(t, 0, "Stop it now", "--data", data, "--database", url, "--to", data, "--switch")
	p.expectEnd(t)
	p = startServer(t, "--data", data)
	if users := listUsers(t, p.client(t, nil), client.UserListOptions{}); len(users) != 2 {
		t.Errorf("there are %d users, want 2", len(users))
	}
	p.expectEnd(t)
}

// expectMove runs `rollcall move`, which must end with an exit code and say something, and no password.
func expectMove(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	move := runMove(t, args...)
	got, err := move.wait(t.Context())
	said := move.stdout.String() + move.stderr.String()
	if err != nil || got != code || !strings.Contains(said, says) || strings.Contains(said, "hunter2") {
		t.Fatalf("rollcall move %s ends with exit code %d, want %d and %q: %v\n%s",
			strings.Join(args, " "), got, code, says, err, said)
	}
}
