package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
)

// TestLostFiles takes the files of the database from a running server, or damages them. From then on no write is
// acknowledged, and /readyz and doctor say why. What was acknowledged before is there after the next start, unless the
// database itself is gone.
func TestLostFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lose func(t *testing.T, data string)
		// says is what /readyz says, and diagnosed what doctor does.
		says, diagnosed string
		// giveBack makes the running server write again; nil when a restart is needed.
		giveBack func(t *testing.T, data string)
		// killed says that the server need not end in order for everything to be kept, and startRefused is what a start says
		// behind one that was killed.
		killed       bool
		startRefused string
		// gone says that nothing is left.
		gone bool
	}{
		"the directory is removed": {
			lose:      func(t *testing.T, data string) { t.Helper(); must(t, os.RemoveAll(data)) },
			says:      "rollcall.db was removed while it ran",
			diagnosed: "says: The server is not ready to serve. rollcall.db was removed", gone: true,
		},
		"the directory is moved away, and back": {
			lose:      func(t *testing.T, data string) { t.Helper(); must(t, os.Rename(data, data+"-away")) },
			says:      "rollcall.db was removed while it ran",
			diagnosed: "says: The server is not ready to serve. rollcall.db was removed",
			giveBack:  func(t *testing.T, data string) { t.Helper(); must(t, os.Rename(data+"-away", data)) },
		},
		"the database is replaced by another, and put back": {
			lose: func(t *testing.T, data string) {
				t.Helper()
				path := filepath.Join(data, server.DatabaseFile)
				must(t, os.Link(path, path+"-aside"))
				must(t, os.WriteFile(path+"-new", []byte("another"), 0o600))
				must(t, os.Rename(path+"-new", path))
			},
			says:      "rollcall.db was replaced by another file while it ran",
			diagnosed: "rollcall.db is not the file that the running server has open",
			giveBack: func(t *testing.T, data string) {
				t.Helper()
				path := filepath.Join(data, server.DatabaseFile)
				must(t, os.Rename(path+"-aside", path))
			},
		},
		"the database is removed": {
			lose: func(t *testing.T, data string) {
				t.Helper()
				must(t, os.Remove(filepath.Join(data, server.DatabaseFile)))
			},
			says: "rollcall.db was removed while it ran", diagnosed: "rollcall.db was removed while the server runs",
			startRefused: "rollcall.db is gone, and credentials.json is there", gone: true,
		},
		"the log is removed": {
			lose: func(t *testing.T, data string) { t.Helper(); must(t, os.Remove(logOf(data))) },
			says: "rollcall.db-wal was removed while it ran", diagnosed: "rollcall.db-wal was removed while the server runs",
			killed: true,
		},
		"the log is damaged": {
			lose: damageLog,
			says: "rollcall.db-wal was damaged while it ran", diagnosed: "rollcall.db-wal: its beginning is damaged",
		},
		"the log is damaged, and the server killed": {
			lose: damageLog,
			says: "rollcall.db-wal was damaged while it ran", diagnosed: "rollcall.db-wal: its beginning is damaged",
			killed: true, startRefused: "rollcall.db-wal: its beginning is damaged", gone: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startServer(t, "--data", filepath.Join(t.TempDir(), "data"))
			s := newSubject(t, p)
			s.writeSome(100)
			test.lose(t, p.data)
			s.awaitLostFiles()
			s.expectLostFiles()
			if says := unready(t, p); !strings.Contains(says, test.says) {
				t.Errorf("/readyz says %q, want %q", says, test.says)
			}
			s.expectLostFiles()
			expectDiagnosis(t, p, test.diagnosed)
			expectDiagnosis(t, p, test.says) // which it has asked for
			if test.giveBack != nil {
				test.giveBack(t, p.data)
				s.writeSome(10)
				s.expectReads()
			}
			if test.killed {
				p.kill()
			} else {
				p.expectEnd(t)
			}
			if test.startRefused != "" {
				expectDiagnosis(t, p, test.startRefused)
				expectNoStart(t, test.startRefused, "--data", p.data)
			}
			if !test.gone {
				s.reconnect(startServer(t, "--data", p.data))
				s.expectReads()
				s.writeSome(10)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func logOf(data string) string { return filepath.Join(data, server.DatabaseFile) + "-wal" }

func damageLog(t *testing.T, data string) {
	t.Helper()
	file, err := os.OpenFile(logOf(data), os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	_, err = file.WriteAt([]byte("not the header of a log, not the"), 0)
	must(t, err)
}

// writeSome creates users, which must succeed.
func (s *subject) writeSome(count int) {
	s.t.Helper()
	for range count {
		s.created++
		uid := fmt.Sprintf("some-%d", s.created)
		if _, err := s.client.Users.Create(s.t.Context(), content(uid, 1)); err != nil {
			s.t.Fatal(err)
		}
		s.there[uid] = true
	}
}

// awaitLostFiles writes until it is refused, which is soon. What is acknowledged until then has to be kept where
// anything is.
func (s *subject) awaitLostFiles() {
	s.t.Helper()
	acknowledged := 0
	poll(s.t, "writes are still acknowledged", func() bool {
		s.created++
		uid := fmt.Sprintf("last-%d", s.created)
		_, err := s.client.Users.Create(s.t.Context(), content(uid, 1))
		if err == nil {
			s.there[uid] = true
			acknowledged++
		}
		return err != nil
	})
	if acknowledged > 100 {
		s.t.Errorf("%d writes were acknowledged first", acknowledged)
	}
}

// expectLostFiles demands that every kind of write is refused because the database's files are not what they were.
// Reads go on, as long as they need no connection that is not open yet: then they are refused in the same words, and
// never answered from other files.
func (s *subject) expectLostFiles() {
	s.t.Helper()
	expect := func(what string, err error) {
		s.t.Helper()
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Code != api.CodeOperationFailed ||
			refused.Status != http.StatusServiceUnavailable ||
			!strings.Contains(refused.Message, "removed, replaced or damaged") ||
			!strings.Contains(refused.Message, "Nothing was changed") {
			s.t.Errorf("%s: want to be told that files are lost, got %v", what, err)
		}
	}
	for name, write := range s.writes(s.t.Context()) {
		expect(name, write())
	}
	there := map[string]bool{}
	for user, err := range s.client.Users.All(s.t.Context(), client.UserListOptions{}) {
		if err != nil {
			expect("list users", err)
			return
		}
		there[user.UID] = true
	}
	for uid := range s.there {
		if !there[uid] {
			s.t.Errorf("%s is not there any more", uid)
		}
	}
}

// unready returns why a server says that it is not ready.
func unready(t *testing.T, p *process) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/readyz", nil)
	must(t, err)
	response, err := http.DefaultTransport.RoundTrip(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	var body api.ErrorBody
	if err := json.Unmarshal(text, &body); err != nil || response.StatusCode != http.StatusServiceUnavailable ||
		body.Error.Code != api.CodeOperationFailed {
		t.Fatalf("/readyz answers %d %s", response.StatusCode, text)
	}
	if strings.Contains(string(text), p.data) {
		t.Errorf("/readyz tells everybody where the data is: %s", text)
	}
	return body.Error.Message
}

// expectDiagnosis demands that doctor finds a problem.
func expectDiagnosis(t *testing.T, p *process, problem string) {
	t.Helper()
	text, err := runDoctor(t, "--data", p.data, "--http", strings.TrimPrefix(p.base, "http://"), "--https", "")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(text, problem) {
		t.Errorf("doctor does not say %q: %v\n%s", problem, err, text)
	}
}

func runDoctor(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := shipped()
	must(t, err)
	ctx, cancel := waitContext(t)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, append([]string{"doctor"}, args...)...).CombinedOutput()
	return string(text), err
}
