package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// diskSize is room for the server to start and for some writes.
const diskSize = 4 << 20

// disk is a small file system of its own.
type disk struct {
	t    *testing.T
	path string
}

// newDisk mounts a file system in memory, which needs the rights of root. It is unmounted at the end of the test.
func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t: t, path: t.TempDir()}
	err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize))
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("a small disk cannot be mounted without the rights of root; CI has them")
	}
	if err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		// Detached also when somebody is still in it: TempDir would remove the files and leave the mount.
		if err := syscall.Unmount(d.path, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return d
}

func (d *disk) data() string   { return filepath.Join(d.path, "data") }
func (d *disk) filler() string { return filepath.Join(d.path, "filler") }

// fill takes all the room that is left.
func (d *disk) fill() {
	d.t.Helper()
	file, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	for _, size := range []int{64 << 10, 1} { // the last page to the byte
		for range diskSize {
			if _, err = file.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("the disk is not full: %v", err)
	}
}

// makeRoom takes back fill.
func (d *disk) makeRoom() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) remount(flags uintptr) error { return d.resize(flags, diskSize) }

func (d *disk) resize(flags uintptr, size int) error {
	return syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_REMOUNT|flags, fmt.Sprintf("size=%d", size))
}

// sound demands that the database is not damaged. A server may be using it.
func (d *disk) sound() {
	d.t.Helper()
	condition, err := sqlstore.InspectSQLite(d.t.Context(), filepath.Join(d.data(), server.DatabaseFile))
	if err != nil || len(condition.Problems) > 0 {
		d.t.Errorf("the database is not sound: %v %v", err, condition.Problems)
	}
}

// TestFullDisk fills the disk under a running server.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	p := startServer(t, "--data", d.data())
	s := newSubject(t, p)

	d.fill()
	s.writeUntilRefused()
	s.expectRefusals()
	s.expectReads()
	d.sound()

	d.makeRoom()
	s.expectWrites()
	s.expectReads()
	d.sound()

	// Full again, and the machine goes down on top of it.
	d.fill()
	s.writeUntilRefused()
	p.kill()
	d.makeRoom()
	p = startServer(t, "--data", d.data())
	s.reconnect(p)
	s.expectReads()
	s.expectWrites()
	d.sound()
	if code, err := p.stop(t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v", code, err)
	}
}

// TestDiskThatRefusesWrites lets every write of a running server fail, though there is room.
func TestDiskThatRefusesWrites(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := startServer(t, "--data", data)
	s := newSubject(t, p)

	setFileSizeLimit(t, p, 0)
	s.writeUntilRefused()
	s.expectRefusals()
	s.expectReads()

	setFileSizeLimit(t, p, noLimit)
	s.expectWrites()
	s.expectReads()
	condition, err := sqlstore.InspectSQLite(t.Context(), filepath.Join(data, server.DatabaseFile))
	if err != nil || len(condition.Problems) > 0 {
		t.Errorf("the database is not sound: %v %v", err, condition.Problems)
	}
	if code, err := p.stop(t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v", code, err)
	}
	s.reconnect(startServer(t, "--data", data))
	s.expectReads()
}

// TestReadOnlyDisk starts servers on a disk that is mounted read-only. The kernel does not let a disk become
// read-only under a running server, which has files open for writing: see TestDiskThatRefusesWrites for that.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	p := startServer(t, "--data", d.data())
	s := newSubject(t, p)
	if err := d.remount(syscall.MS_RDONLY); !errors.Is(err, syscall.EBUSY) {
		t.Fatalf("the disk became read-only under a running server (%v): this test has to look at that now", err)
	}
	s.expectWrites()
	if code, err := p.stop(t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v", code, err)
	}

	if err := d.remount(syscall.MS_RDONLY); err != nil {
		t.Fatal(err)
	}
	expectNoStart(t, "read-only file system", "--data", d.data())
	expectNoStart(t, "read-only file system", "--data", filepath.Join(d.path, "another"))

	if err := d.remount(0); err != nil {
		t.Fatal(err)
	}
	s.reconnect(startServer(t, "--data", d.data()))
	s.expectReads()
	s.expectWrites()
	d.sound()
}

// TestStartOnFullDisk starts servers on a disk without any room.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	p := startServer(t, "--data", d.data())
	s := newSubject(t, p)

	// After a crash everything is there that a server needs to go on, but for room.
	p.kill()
	d.fill()
	p = startServer(t, "--data", d.data())
	s.reconnect(p)
	s.writeUntilRefused()
	s.expectRefusals()
	s.expectReads()
	d.makeRoom()
	s.expectWrites()
	s.expectReads()

	// After a clean end SQLite has to make a new log, and a first start has to make everything.
	if code, err := p.stop(t.Context(), syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("the server ended with exit code %d: %v", code, err)
	}
	d.fill()
	expectNoStart(t, "no space left on device", "--data", filepath.Join(d.path, "another"))
	expectNoStart(t, "disk is full|no space left on device", "--data", d.data())
	d.makeRoom()
	startServer(t, "--data", filepath.Join(d.path, "another"))
	s.reconnect(startServer(t, "--data", d.data()))
	s.expectReads()
	s.expectWrites()
	d.sound()
}

// expectNoStart demands that a server says what is wrong, in one of some words, and ends with exit code 1.
func expectNoStart(t *testing.T, because string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := serveCommand(t, args...)
	p, err := launch(ctx, cmd)
	if err == nil {
		p.kill()
		t.Errorf("%v: it has started", args)
		return
	}
	if code := cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("%v: want exit code %d, got %d: %v", args, exitFailed, code, err)
	}
	says := func(words string) bool { return strings.Contains(err.Error(), words) }
	if !slices.ContainsFunc(strings.Split(because, "|"), says) {
		t.Errorf("%v: it does not say %q: %v", args, because, err)
	}
}

const noLimit = ^uint64(0)

// setFileSizeLimit sets how long a file may become by a process' writes. With 0 it can write nothing at all, as if the
// disk had gone bad, and unlike a mount it can be done to files that are open.
func setFileSizeLimit(t *testing.T, p *process, bytes uint64) {
	t.Helper()
	setLimit(t, p, unix.RLIMIT_FSIZE, bytes)
}

// setLimit sets a limit of a running process, which may raise it again.
func setLimit(t *testing.T, p *process, resource int, limit uint64) {
	t.Helper()
	limits := unix.Rlimit{}
	if err := unix.Prlimit(p.cmd.Process.Pid, resource, nil, &limits); err != nil {
		t.Fatalf("read a limit: %v", err)
	}
	limits.Cur = min(limit, limits.Max)
	if err := unix.Prlimit(p.cmd.Process.Pid, resource, &limits, nil); err != nil {
		t.Fatalf("set a limit: %v", err)
	}
}

// subject is a directory that is written to while the disk fails, and what is known about it.
type subject struct {
	t      *testing.T
	server *process
	client *client.Client
	me     *client.Client // logged in as the first user

	mu      sync.Mutex
	there   map[string]bool // guarded by mu; the users whose creation was acknowledged
	refused map[string]bool // guarded by mu; the users whose creation was refused
	created int             // guarded by mu
	token   string
}

// newSubject makes users with everything that reads and writes below need.
func newSubject(t *testing.T, p *process) *subject {
	t.Helper()
	s := &subject{t: t, there: map[string]bool{}, refused: map[string]bool{}}
	s.reconnect(p)
	for _, uid := range []string{"first", "second", "third"} {
		if _, err := s.client.Users.Create(t.Context(), content(uid, 1)); err != nil {
			t.Fatal(err)
		}
		s.there[uid] = true
	}
	token, err := s.client.AuthTokens.Create(t.Context(), "first", api.CreateAuthTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.token = token.Token
	s.reconnect(p)
	return s
}

// reconnect makes clients of another process on the same data.
func (s *subject) reconnect(p *process) {
	s.t.Helper()
	s.server, s.client = p, p.client(s.t, nil)
	credentials, err := server.ReadCredentials(filepath.Join(p.data, server.CredentialsFile))
	if err != nil {
		s.t.Fatal(err)
	}
	s.me, err = client.New(
		p.base, client.WithApp(credentials.AppID), client.WithAuthToken(s.token), client.WithTries(1),
	)
	if err != nil {
		s.t.Fatal(err)
	}
}

// writeUntilRefused creates users from many clients until each was refused once: the database may have room left in
// its own files for some of them. It remembers who is there and who must not be.
func (s *subject) writeUntilRefused() {
	s.t.Helper()
	const clients, most = 16, 2000
	var writing sync.WaitGroup
	for range clients {
		writing.Go(func() {
			for range most {
				s.mu.Lock()
				s.created++
				uid := fmt.Sprintf("user-%d", s.created)
				s.mu.Unlock()
				_, err := s.client.Users.Create(s.t.Context(), content(uid, 1))
				s.mu.Lock()
				if err == nil {
					s.there[uid] = true
				} else {
					s.refused[uid] = true
				}
				s.mu.Unlock()
				if err != nil {
					s.expectRefusal("create "+uid, err)
					return
				}
			}
			s.t.Errorf("%d writes, and none was refused", most)
		})
	}
	writing.Wait()
}

// writes are one call of every kind that writes about the user "second", and that leaves things so that all of them
// can be made again.
func (s *subject) writes(ctx context.Context) map[string]func() error {
	changed := content("second", 2)
	return map[string]func() error{
		"update a user": func() error {
			_, err := s.client.Users.Update(ctx, "second", api.UpdateUserRequest{Name: &changed.Name, Tags: &changed.Tags})
			return err
		},
		"mint a token": func() error {
			_, err := s.client.AuthTokens.Create(ctx, "second", api.CreateAuthTokenRequest{})
			return err
		},
		"deactivate users": func() error {
			_, err := s.client.Users.Deactivate(ctx, "third")
			return err
		},
		"make a key": func() error {
			_, err := s.client.APIKeys.Create(ctx, api.CreateAPIKeyRequest{Name: "another"})
			return err
		},
		"make a role": func() error {
			_, err := s.client.Roles.Create(ctx, api.CreateRoleRequest{Role: fmt.Sprintf("role-%d", s.created), Name: "A role"})
			return err
		},
		"erase a user": func() error { return s.client.Users.Erase(ctx, "second") },
	}
}

// expectRefusals demands that every kind of write is refused, in the contract's words.
func (s *subject) expectRefusals() {
	s.t.Helper()
	before := s.revision()
	for name, write := range s.writes(s.t.Context()) {
		s.expectRefusal(name, write())
	}
	s.expectEnvelope()
	if after := s.revision(); after != before {
		s.t.Errorf("what was refused has made revisions %d to %d", before+1, after)
	}
}

func (s *subject) revision() int64 {
	s.t.Helper()
	_, last, err := s.client.Changes.List(s.t.Context(), 0, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return last
}

func (s *subject) expectRefusal(what string, err error) {
	s.t.Helper()
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeOperationFailed ||
		refused.Status != http.StatusServiceUnavailable {
		s.t.Errorf("%s: want a refusal with %s, got %v", what, api.CodeOperationFailed, err)
		return
	}
	for _, words := range []string{"disk is full or cannot be written to", "Nothing was changed", "try again"} {
		if !strings.Contains(refused.Message, words) {
			s.t.Errorf("%s: the message does not say %q: %s", what, words, refused.Message)
		}
	}
}

// expectEnvelope looks at the bytes of a refusal (contract rest.md section 10.1).
func (s *subject) expectEnvelope() {
	s.t.Helper()
	credentials, err := server.ReadCredentials(filepath.Join(s.server.data, server.CredentialsFile))
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(
		s.t.Context(), http.MethodPost, s.server.base+"/v3/users", strings.NewReader(`{"uid":"nobody","name":"Nobody"}`),
	)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"appId": credentials.AppID, "apikey": credentials.AuthKey, "content-type": "application/json",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var envelope map[string]map[string]string
	if err := json.Unmarshal(body, &envelope); err != nil {
		s.t.Fatalf("%v: %s", err, body)
	}
	refusal := envelope["error"]
	if response.StatusCode != http.StatusServiceUnavailable || len(envelope) != 1 ||
		refusal["code"] != "ERR_OPERATION_FAILED" ||
		refusal["source"] != "chat-api" || refusal["message"] == "" || refusal["devMessage"] == "" {
		s.t.Errorf("%d is not the contract's envelope: %s", response.StatusCode, body)
	}
	if strings.Contains(strings.ToLower(string(body)), "sqlite") || strings.Contains(string(body), s.server.data) {
		s.t.Errorf("the refusal tells callers about the inside: %s", body)
	}
}

// expectReads demands that reads of every kind work, and that they show what was acknowledged and nothing that was
// refused.
func (s *subject) expectReads() {
	s.t.Helper()
	ctx := s.t.Context()
	everybody := listUsers(s.t, s.client, client.UserListOptions{WithTags: true, WithDeactivated: true})
	for uid := range s.there {
		if user, found := everybody[uid]; !found {
			s.t.Errorf("%s is gone, whose creation was acknowledged", uid)
		} else if !is(user, 1) {
			s.t.Errorf("%s is not as it was written: %+v", uid, user)
		}
	}
	for uid := range everybody {
		if !s.there[uid] {
			s.t.Errorf("%s is there, whose creation was refused", uid)
		}
	}
	changes := listChanges(s.t, s.client)
	for uid := range s.there {
		if !slices.Contains(changes[uid], "user.created") {
			s.t.Errorf("the change log has %q about %s", changes[uid], uid)
		}
	}
	for uid := range changes {
		if erased := strings.HasPrefix(uid, "~"); !erased && !s.there[uid] {
			s.t.Errorf("the change log has %q about %s, whose creation was refused", changes[uid], uid)
		}
	}
	tagged := listUsers(s.t, s.client, client.UserListOptions{Tags: []string{attemptTag(1)}, WithDeactivated: true})
	if len(tagged) != len(s.there) {
		s.t.Errorf("%d users are found by their tag, want %d", len(tagged), len(s.there))
	}
	if _, err := s.client.Users.Get(ctx, "first"); err != nil {
		s.t.Errorf("get a user: %v", err)
	}
	if _, err := s.me.Me.Get(ctx); err != nil {
		s.t.Errorf("log in with a token: %v", err)
	}
	if err := s.server.awaitReady(ctx); err != nil {
		s.t.Errorf("it is not ready: %v", err)
	}
}

// expectWrites demands that everything that was refused goes through now, without a restart.
func (s *subject) expectWrites() {
	s.t.Helper()
	ctx := s.t.Context()
	for uid := range s.refused {
		if _, err := s.client.Users.Create(ctx, content(uid, 1)); err != nil {
			s.t.Errorf("create %s, which was refused before: %v", uid, err)
		}
		s.there[uid] = true
	}
	clear(s.refused)
	for _, name := range []string{
		"update a user", "mint a token", "deactivate users", "make a key", "make a role", "erase a user",
	} {
		if err := s.writes(ctx)[name](); err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
	}
	// As before, for the next time.
	if _, err := s.client.Users.Create(ctx, content("second", 1)); err != nil {
		s.t.Errorf("create a user again: %v", err)
	}
	if _, err := s.client.Users.Reactivate(ctx, "third"); err != nil {
		s.t.Errorf("reactivate users: %v", err)
	}
	s.created++
}
