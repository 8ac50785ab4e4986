package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/storetest"
)

// importRows is how many users the interrupted import brings; every hundredth is wrong.
const importRows = 20_000

// TestImportSurvivesKills kills an import again and again at a random batch, lets it go on each time, and repeats it
// when it is done. What is there then is what one undisturbed import makes, and so are its results.
func TestImportSurvivesKills(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var rows bytes.Buffer
	for i := range importRows {
		name := fmt.Sprintf("%q", fmt.Sprintf("User %d", i))
		if i%100 == 0 {
			name = "17"
		}
		number := i % (importRows - 50)
		if i%1500 == 1401 { // the same user once more, in the batch behind or in the same one
			number = i - 700
		}
		fmt.Fprintf(
			&rows, `{"uid":"user-%d","name":%s,"tags":["t%d"],"metadata":{"n":%d},"createdAt":%d}`+"\n", number, name, i%7, i,
			1_600_000_000+i,
		)
	}
	disturbed, clean := filepath.Join(folder, "disturbed"), filepath.Join(folder, "clean")
	for _, data := range []string{disturbed, clean} {
		if err := os.WriteFile(data+".ndjson", rows.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	p := startServer(t, "--data", disturbed)
	for range rounds(4, 1) {
		for _, moment := range []killMoment{killBeforeServer, killBeforeAnswer, killAfterAnswer} {
			killImport(t, p, disturbed+".ndjson", moment, 1+random.IntN(2))
		}
	}
	importFile(t, p, disturbed+".ndjson")
	resumed := readFile(t, disturbed+".ndjson.results.ndjson")
	importFile(t, p, disturbed+".ndjson")

	untouched := startServer(t, "--data", clean)
	importFile(t, untouched, clean+".ndjson")
	once := readFile(t, clean+".ndjson.results.ndjson")
	if got, want := strings.Count(resumed, "\n"), importRows; got != want {
		t.Errorf("the results of the resumed import have %d lines, want %d", got, want)
	}
	if got, want := strings.Count(resumed, `"failed"`), strings.Count(once, `"failed"`); got != want ||
		want != importRows/100 {
		t.Errorf("%d entries failed, want %d", got, want)
	}
	resulting := exported(t, untouched)
	if exported(t, p) != resulting {
		t.Error("the directories differ")
	}
	for i := 1401; i < importRows-50; i += 1500 {
		if strings.Contains(resulting, fmt.Sprintf(`"User %d"`, i-700)) ||
			!strings.Contains(resulting, fmt.Sprintf(`"User %d"`, i)) {
			t.Errorf("of the rows %d and %d of one user, the later one does not stay", i-700, i)
		}
	}
}

func importCommand(t *testing.T, p *process, file, url string) *exec.Cmd {
	t.Helper()
	program, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	return boundedCommand(t, program, "import", file, "--url", url, "--data", p.data)
}

// killMoment is when in the life of a batch its import is killed.
type killMoment int

const (
	killBeforeServer killMoment = iota // the server never sees the batch
	killBeforeAnswer                   // the server has it, the import does not know
	killAfterAnswer                    // while the import writes down what it learned
)

// killImport starts an import and kills it at a moment of its batch with that number, counted from 1. There must be
// more batches than that.
func killImport(t *testing.T, p *process, file string, moment killMoment, batch int) {
	t.Helper()
	target, err := url.Parse(p.base)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	reached, goOn := make(chan struct{}), make(chan struct{})
	kill := func() {
		close(reached)
		<-goOn
	}
	var batches atomic.Int64
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/users/batch") {
			forward.ServeHTTP(w, r)
			return
		}
		if count := batches.Add(1); count < int64(batch) {
			forward.ServeHTTP(w, r)
			return
		} else if count > int64(batch) {
			<-goOn
			return
		}
		switch moment {
		case killBeforeServer:
			kill()
		case killBeforeAnswer:
			answer := httptest.NewRecorder()
			forward.ServeHTTP(answer, r)
			kill()
		case killAfterAnswer:
			forward.ServeHTTP(w, r)
			close(reached)
		}
	}))
	defer between.Close()
	defer close(goOn)
	cmd := importCommand(t, p, file, between.URL)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case <-reached:
		_ = cmd.Process.Kill() // it may have ended meanwhile
		_ = storetest.Await(t, exited, "the import that was killed")
	case err := <-exited:
		t.Fatalf("the import ended before batch %d: %v", batch, err)
	case <-time.After(longPatience):
		_ = cmd.Process.Kill()
		t.Fatalf("the import does not come to batch %d", batch)
	}
}

// importFile runs an import to its end, which it reaches although entries are refused.
func importFile(t *testing.T, p *process, file string) {
	t.Helper()
	output, err := importCommand(t, p, file, p.base).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || !strings.Contains(string(output), errSomeFailed.Error())) {
		t.Fatalf("%v: %s", err, output)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exported returns the users of the first app as an export has them. Of a user that came twice, the time of its change
// is the server's.
func exported(t *testing.T, p *process) string {
	t.Helper()
	var lines bytes.Buffer
	if _, err := p.client(t, nil).Export(context.Background(), &lines); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(lines.String()) {
		if strings.Contains(line, `"type":"user"`) {
			if at := strings.Index(line, `,"updatedAt":`); at >= 0 {
				line = line[:at] + strings.TrimLeft(line[at+len(`,"updatedAt":`):], "0123456789")
			}
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// TestImportFromAnotherServer pulls the users of one server into another.
func TestImportFromAnotherServer(t *testing.T) {
	t.Parallel()
	source := startServer(t, "--data", filepath.Join(t.TempDir(), "source"))
	target := startServer(t, "--data", filepath.Join(t.TempDir(), "target"))
	file := filepath.Join(t.TempDir(), "users.ndjson")
	var rows bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(
			&rows, `{"uid":"user-%04d","name":"User %d","tags":["t"],"metadata":{"n":1,"@private":{"email":"x"}},`+
				`"lastActiveAt":%d}`+"\n", i, i, 1_600_000_000+i,
		)
	}
	if err := os.WriteFile(file, rows.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	importFile(t, source, file)
	from := source.client(t, nil)
	if _, err := from.Users.Deactivate(t.Context(), "user-0007"); err != nil {
		t.Fatal(err)
	}
	program, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	app, key := appAndKey(t, source)
	cmd := boundedCommand(
		t, program, "import", "--from", source.base, "--from-app", app, "--url", target.base, "--data", target.data,
		"--results", filepath.Join(t.TempDir(), "r"),
	)
	cmd.Env = append(os.Environ(), "ROLLCALL_FROM_API_KEY="+key)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got, want := exported(t, target), exported(t, source); got != want {
		t.Error("the directories differ")
	}
	page, err := target.client(t, nil).Users.List(t.Context(), client.UserListOptions{OnlyDeactivated: true})
	if err != nil || page.Pagination.Total != 1 {
		t.Errorf("%d users are deactivated, %v", page.Pagination.Total, err)
	}
}
