package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rollcall/rollcall/internal/server"
)

// TestKeysAreShownOnce starts servers on a terminal and elsewhere. Keys are shown on a terminal alone, and by the first
// start alone; the line for curl works as it is in any case.
func TestKeysAreShownOnce(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "it's data")
	for _, start := range []struct {
		name            string
		terminal, shown bool
	}{
		{"the first, on a terminal", true, true},
		{"the second, on a terminal", true, false},
		{"the third, elsewhere", false, false},
	} {
		printed := printedByServer(t, start.terminal, "serve", "--data", data)
		expectKeys(t, start.name, printed, data, start.shown)
	}
	elsewhere := filepath.Join(t.TempDir(), "data")
	expectKeys(t, "the first, elsewhere", printedByServer(t, false, "serve", "--data", elsewhere), elsewhere, false)

	thrownAway := filepath.Join(t.TempDir(), "data")
	expectKeys(t, "dev, on a terminal", printedByServer(t, true, "dev", "--data", thrownAway), thrownAway, true)
	given := filepath.Join(t.TempDir(), "data")
	expectKeys(t, "dev, with keys that were given", printedByServer(t, true, "dev", "--data", given,
		"--rest-api-key", strings.Repeat("ab", 20), "--auth-key", strings.Repeat("cd", 20)), given, false)
}

func expectKeys(t *testing.T, start, printed, data string, shown bool) {
	t.Helper()
	credentials, err := server.ReadCredentials(filepath.Join(data, server.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{credentials.RestAPIKey, credentials.AuthKey} {
		if strings.Contains(printed, key) != shown {
			t.Errorf("%s: want %v for whether a key is shown:\n%s", start, shown, printed)
		}
	}
	for _, secret := range []string{credentials.ManagementKey, credentials.ManagementSecret} {
		if strings.Contains(printed, secret) {
			t.Errorf("%s: the management credentials are shown:\n%s", start, printed)
		}
	}
	if !strings.Contains(printed, filepath.Join(data, server.CredentialsFile)) {
		t.Errorf("%s: it does not say where the keys are:\n%s", start, printed)
	}
}

var curlLine = regexp.MustCompile(`(?m)^ +(curl .*)\r?$`)

// printedByServer starts a server, runs the line for curl that it prints, stops it, and returns all that it has printed
// and logged.
func printedByServer(t *testing.T, terminal bool, args ...string) string {
	t.Helper()
	ctx, cancel := waitContext(t)
	defer cancel()
	cmd := serveCommand(t)
	cmd.Args = append([]string{cmd.Args[0]}, append(args, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0")...)
	p := &process{cmd: cmd, stdout: newOutput(), exited: make(chan struct{})}
	p.stderr = p.stdout
	cmd.Stdout, cmd.Stderr = p.stdout, p.stdout
	allRead := func() {}
	if terminal {
		screen, inside := openTerminal(t)
		defer screen.Close()
		cmd.Stdout, cmd.Stderr = inside, inside
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(p.stdout, screen) // until nobody is inside any more, which is an error
		}()
		allRead = func() {
			inside.Close()
			<-read
		}
	}
	err := p.start()
	if err == nil {
		t.Cleanup(p.kill)
		var line []string
		if line, err = p.await(ctx, p.stdout, curlLine); err == nil {
			p.runLine(ctx, t, strings.Replace(line[1], `"uid":"ada"`, fmt.Sprintf(`"uid":"ada-%d"`, p.cmd.Process.Pid), 1))
			p.expectEnd(t)
		} else {
			p.kill()
		}
	}
	allRead()
	if err != nil {
		t.Fatal(err)
	}
	return p.stdout.String()
}

// runLine gives a line to a shell and demands that it makes a user.
func (p *process) runLine(ctx context.Context, t *testing.T, line string) {
	t.Helper()
	answer, err := exec.CommandContext(ctx, "sh", "-c", line+" -sS").CombinedOutput()
	if err != nil || !strings.Contains(string(answer), `"name":"Ada"`) {
		t.Errorf("%s\nanswers %s (%v)", line, answer, err)
	}
}

// openTerminal opens a terminal: what a program inside prints can be read from its screen.
func openTerminal(t *testing.T) (screen, inside *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	inside, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, inside
}
