package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommandsFindTheServer runs commands that are given the data directory alone beside servers that listen in every
// way. What goes wrong says where they have looked.
func TestCommandsFindTheServer(t *testing.T) {
	t.Parallel()
	program, err := shipped()
	must(t, err)
	for name, c := range map[string]struct {
		listen []string
		at     string
	}{
		"a port that was free": {[]string{"--http", "127.0.0.1:0"}, `http://127\.0\.0\.1:\d+`},
		"every address":        {[]string{"--http", ":0"}, `http://localhost:\d+`},
		"a Unix socket":        {[]string{"--http", "unix:SOCKET"}, `unix:/\S+/rollcall\.sock`},
		"TLS alone":            {[]string{"--http", "", "--https", "127.0.0.1:0"}, `https://127\.0\.0\.1:\d+`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := waitContext(t)
			defer cancel()
			folder, err := os.MkdirTemp("", "rc") //nolint:usetesting // whose path is too long for a Unix socket
			must(t, err)
			t.Cleanup(func() { os.RemoveAll(folder) })
			data := filepath.Join(folder, "data")
			cmd := serveCommand(t, "--data", data, "--log-level", "info")
			for _, word := range c.listen {
				cmd.Args = append(cmd.Args, strings.ReplaceAll(word, "SOCKET", filepath.Join(folder, "rollcall.sock")))
			}
			p := &process{cmd: cmd, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
			cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
			must(t, p.start())
			t.Cleanup(p.kill)
			if _, err := p.await(ctx, p.stderr, regexp.MustCompile(`"msg":"serving"`)); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) (string, error) {
				text, err := boundedCommand(t, program, append(args, "--data", data)...).CombinedOutput()
				return string(text), err
			}
			for _, args := range [][]string{
				{"users", "create", "ada", "--name", "Ada"},
				{"users", "get", "ada"},
				{"apps", "list"},
				{"keys", "list"},
				{"export"},
			} {
				if text, err := run(args...); err != nil {
					t.Errorf("%s: %v %s", args, err, text)
				}
			}
			for _, args := range [][]string{
				{"users", "get", "nobody"},
				{"users", "erase", "nobody", "--permanently"},
				{"users", "export", "nobody"},
				{"presence", "nobody"},
				{"keys", "delete", "nothing"},
				{"apps", "restore", "nothing"},
			} {
				text, err := run(args...)
				if err == nil || !regexp.MustCompile(`(?m)^rollcall: `+c.at+`: `).MatchString(text) {
					t.Errorf("%s does not say whom it has asked: %v %s", args, err, text)
				}
			}
			p.expectEnd(t)
			if _, err := os.Stat(filepath.Join(data, "server.json")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("where it listened is left behind: %v", err)
			}
			if reference := strings.Contains(p.stdout.String(), "/docs"); reference == (name == "a Unix socket") {
				t.Errorf("it prints %s", p.stdout)
			}
		})
	}
}
