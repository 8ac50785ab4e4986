// These tests are in package main, not main_test: testscript runs the command inside the test binary, and the tree of
// commands is not exported.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/internal/server"
)

// patience bounds every wait for something that has to happen. Nothing is expected to take that long.
const patience = time.Minute

// longPatience bounds commands that have much to do.
const longPatience = 5 * patience

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"rollcall": func() { os.Exit(run()) }})
}

// suite removes what the tests share when they are over: testscript.Main does not return.
type suite struct{ *testing.M }

func (s suite) Run() int {
	defer removeShared()
	return s.M.Run()
}

// withoutJSON are the commands that print words for a person, or nothing, and no data.
var withoutJSON = []string{"rollcall serve", "rollcall dev", "rollcall master-key rotate", "rollcall master-key prune"}

// TestCommandsExplainThemselves walks the tree of commands, so that a new one cannot be forgotten.
func TestCommandsExplainThemselves(t *testing.T) {
	t.Parallel()
	var seen []string
	eachCommand(newRoot(), func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		seen = append(seen, path)
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no description or no example", path)
		}
		help := printedHelp(t, path)
		for _, part := range []string{"Usage:", "Examples:", cmd.Example} {
			if !strings.Contains(help, part) {
				t.Errorf("%s --help does not show %q:\n%s", path, part, help)
			}
		}
		for example := range strings.Lines(cmd.Example) {
			if !strings.Contains(example, path) {
				t.Errorf("an example of %s does not call it: %s", path, example)
			}
		}
		if cmd.HasSubCommands() || slices.Contains(withoutJSON, path) {
			return
		}
		if cmd.Flag("json") == nil {
			t.Errorf("%s prints data and has no --json", path)
		}
	})
	for _, path := range withoutJSON {
		if !slices.Contains(seen, path) {
			t.Errorf("there is no %s any more: take it out of this test", path)
		}
	}
}

// eachCommand visits a command and those under it, without what is hidden.
func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	if cmd.Hidden {
		return
	}
	visit(cmd)
	for _, child := range cmd.Commands() {
		eachCommand(child, visit)
	}
}

func printedHelp(t *testing.T, path string) string {
	t.Helper()
	root := newRoot()
	var printed bytes.Buffer
	root.SetOut(&printed)
	root.SetErr(&printed)
	root.SetArgs(append(strings.Fields(path)[1:], "--help"))
	if err := root.Execute(); err != nil {
		t.Errorf("%s --help: %v", path, err)
	}
	return printed.String()
}

// TestScripts runs testdata/script: what an operator does at a terminal, with this test binary as the program. Beside
// testscript's own commands the scripts have those of scriptCommands.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// A program under the race detector waits a second at its end for others to race, unless it is told not to.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			script := &scriptServer{env: slices.Clone(env.Vars)}
			env.Values[scriptServerKey{}] = script
			env.Defer(script.kill)
			sessions := scriptSessions{}
			env.Values[scriptSessionsKey{}] = sessions
			env.Defer(sessions.endAll)
			return nil
		},
		Cmds: scriptCommands,
	})
}

var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"server":       serverCommand,
	"api":          apiCommand,
	"exits":        exitsCommand,
	"unprivileged": unprivilegedCommand,
	"mode":         modeCommand,
	"sql":          sqlCommand,
	"setenv":       setenvCommand,
	"session":      sessionCommand,
}

type scriptServerKey struct{}

// scriptServer is the server that a script has started.
type scriptServer struct {
	env     []string
	running *process
}

func (s *scriptServer) kill() {
	if s.running != nil {
		s.running.kill()
		s.running = nil
	}
}

// serverCommand is
//
//	server start [NAME=VALUE…] serve|dev [FLAG…]
//	server log PATTERN
//	server stop|interrupt|kill
//
// start runs a server and waits until it is ready. It sets URL, ROLLCALL_URL and, as host:port, ADDRESS, PID to its
// process, and, when there is a --data with credentials, APP_ID, REST_KEY, AUTH_KEY, MANAGEMENT_KEY and
// MANAGEMENT_SECRET. log waits until the server has logged something. stop, or interrupt as Ctrl-C does, ends it and
// demands exit code 0; what it has printed and logged is stdout and stderr then.
func serverCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server start|log|stop|interrupt|kill")
	}
	script := ts.Value(scriptServerKey{}).(*scriptServer)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if args[0] == "start" {
		if script.running != nil {
			ts.Fatalf("there is a server already")
		}
		script.start(ctx, ts, args[1:])
		return
	}
	if script.running == nil {
		ts.Fatalf("there is no server")
	}
	switch args[0] {
	case "log":
		_, err := script.running.await(ctx, script.running.stderr, regexp.MustCompile(args[1]))
		ts.Check(err)
	case "stop", "interrupt":
		code, err := script.running.stop(
			ctx, map[string]syscall.Signal{"stop": syscall.SIGTERM, "interrupt": syscall.SIGINT}[args[0]],
		)
		ts.Check(err)
		fmt.Fprint(ts.Stdout(), script.running.stdout)
		fmt.Fprint(ts.Stderr(), script.running.stderr)
		if code != 0 {
			ts.Fatalf("the server ended with exit code %d", code)
		}
		script.running = nil
	case "kill":
		script.kill()
	default:
		ts.Fatalf("there is no server %s", args[0])
	}
}

func (s *scriptServer) start(ctx context.Context, ts *testscript.TestScript, args []string) {
	env := slices.Clone(s.env)
	for len(args) > 0 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	program, err := exec.LookPath("rollcall")
	ts.Check(err)
	cmd := exec.Command(program, args...)
	cmd.Args = append(cmd.Args[:2], append([]string{"--http", "127.0.0.1:0", "--https", ""}, cmd.Args[2:]...)...)
	cmd.Env, cmd.Dir = env, ts.MkAbs(".")
	s.running, err = launch(ctx, cmd)
	ts.Check(err)
	ts.Setenv("URL", s.running.base)
	ts.Setenv("ADDRESS", strings.TrimPrefix(s.running.base, "http://"))
	ts.Setenv("ROLLCALL_URL", s.running.base)
	ts.Setenv("PID", strconv.Itoa(s.running.cmd.Process.Pid))
	data := slices.Index(args, "--data")
	if data < 0 {
		return
	}
	credentials, err := server.ReadCredentials(filepath.Join(ts.MkAbs(args[data+1]), server.CredentialsFile))
	if err != nil {
		return // the script that needs them will say so
	}
	for name, value := range map[string]string{
		"APP_ID": credentials.AppID, "REST_KEY": credentials.RestAPIKey, "AUTH_KEY": credentials.AuthKey,
		"MANAGEMENT_KEY": credentials.ManagementKey, "MANAGEMENT_SECRET": credentials.ManagementSecret,
	} {
		ts.Setenv(name, value)
	}
}

// apiCommand is
//
//	[!] api METHOD PATH [BODY] [HEADER=VALUE…]
//
// It calls the server that was started last, with APP_ID and REST_KEY unless the headers say otherwise; an empty value
// sends none. stdout is the status in a line of its own and the body. It demands status 200, or with ! another one.
func apiCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: api METHOD PATH [BODY] [HEADER=VALUE…]")
	}
	method, path, args := args[0], args[1], args[2:]
	body := ""
	if len(args) > 0 && strings.HasPrefix(args[0], "{") {
		body, args = args[0], args[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, ts.Getenv("URL")+path, strings.NewReader(body))
	ts.Check(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("appId", ts.Getenv("APP_ID"))
	request.Header.Set("apikey", ts.Getenv("REST_KEY"))
	for _, header := range args {
		name, value, _ := strings.Cut(header, "=")
		request.Header.Set(name, value)
		if value == "" {
			request.Header.Del(name)
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	ts.Check(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d\n%s", response.StatusCode, answer)
	if (response.StatusCode == http.StatusOK) == neg {
		ts.Fatalf("%s %s: %d %s", method, path, response.StatusCode, answer)
	}
}

// exitsCommand is
//
//	exits CODE PROGRAM [ARGUMENT…]
//
// It demands an exit code, where exec tells only success from failure.
func exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT…]")
	}
	demandExit(ts, args[0], ts.Exec(args[1], args[2:]...))
}

func demandExit(ts *testscript.TestScript, want string, err error) {
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}

// unprivilegedCommand is exits for a program without the rights of root, for whom no file is unreadable.
func unprivilegedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: unprivileged CODE PROGRAM [ARGUMENT…]")
	}
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(program, args[2:]...)
	cmd.Env = ts.Value(scriptServerKey{}).(*scriptServer).env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if os.Getuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		// testscript keeps its programs in a private folder.
		ts.Check(os.Chmod(filepath.Dir(program), 0o755))
		ts.Check(os.Chmod(filepath.Dir(filepath.Dir(program)), 0o755))
	}
	demandExit(ts, args[0], cmd.Run())
}

// modeCommand is
//
//	mode OCTAL FILE…
//
// It demands the permissions of files.
func modeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode OCTAL FILE…")
	}
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// sqlCommand is
//
//	sql FILE STATEMENT
//
// It changes a database behind the server's back.
func sqlCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	db, err := sql.Open("sqlite3", "file:"+ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(errors.Join(err, db.Close()))
}

// setenvCommand is
//
//	setenv NAME FILE [FIELD…]
//
// It sets a variable to what is in a file, such as stdout: the text, or what is at a path of fields of its JSON.
func setenvCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: setenv NAME FILE [FIELD…]")
	}
	text := strings.TrimSpace(ts.ReadFile(args[1]))
	if len(args) == 2 {
		ts.Setenv(args[0], text)
		return
	}
	if start := strings.IndexAny(text, "{["); start > 0 {
		text = text[start:] // behind the status that api prints
	}
	var value any
	ts.Check(json.Unmarshal([]byte(text), &value))
	for _, field := range args[2:] {
		switch parent := value.(type) {
		case map[string]any:
			value = parent[field]
		case []any:
			index, err := strconv.Atoi(field)
			ts.Check(err)
			if index >= len(parent) {
				ts.Fatalf("there is no item %d in %s", index, text)
			}
			value = parent[index]
		}
	}
	if value == nil {
		ts.Fatalf("there is no %s in %s", strings.Join(args[2:], " "), text)
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}
