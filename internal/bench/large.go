package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/rollcall/rollcall/client"
)

const (
	// growth is how many rows are imported, as a multiple of the users that are there before.
	growth = 10
	// badEvery says which rows of the import are refused.
	badEvery = 100
)

// measureLarge grows the directory by an import, and measures both: the import, and lists of what it leaves.
func (r *run) measureLarge(ctx context.Context) error {
	if err := r.serve(ctx); err != nil {
		return err
	}
	if err := r.measureImport(ctx, int64(growth*r.Users)); err != nil {
		return err
	}
	large := int(r.made)
	suffix := fmt.Sprintf(", %d users", large)
	r.say("measuring lists of %d users", large)
	if err := r.measureLists(ctx, large, suffix, 1); err != nil {
		return err
	}
	return r.measureLargeStart(ctx, large)
}

// measureLargeStart measures how soon a server answers that begins on so many users.
func (r *run) measureLargeStart(ctx context.Context, users int) error {
	if err := r.stop(ctx); err != nil {
		return err
	}
	started := time.Now()
	if err := r.serve(ctx); err != nil {
		return err
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	if _, err := c.Users.Get(ctx, "user-1"); err != nil {
		return err
	}
	point := time.Since(started)
	for {
		_, err := c.Users.List(ctx, client.UserListOptions{PageOptions: client.PageOptions{PerPage: 1}})
		if err == nil {
			break
		}
		if time.Since(started) > time.Minute {
			return err
		}
	}
	lists := time.Since(started)
	r.addValue(
		fmt.Sprintf("start with %d users: point reads", users), fmt.Sprintf("%.0f ms", milliseconds(point)), "<= 200 ms",
		point <= 200*time.Millisecond,
	)
	r.addValue(
		fmt.Sprintf("start with %d users: lists", users), fmt.Sprintf("%.0f ms", milliseconds(lists)), "<= 3000 ms",
		lists <= 3*time.Second,
	)
	full, err := r.settle(ctx)
	r.addValue(
		fmt.Sprintf("RSS with %d users, listed", users), fmt.Sprintf("%.1f MB", megabytes(full)), "<= 230 MB", full <= 230e6,
	)
	return err
}

// measureImport imports so many rows from a file of NDJSON.
func (r *run) measureImport(ctx context.Context, rows int64) error {
	r.say("importing %d rows", rows)
	file := filepath.Join(r.folder, "users.ndjson")
	bad := rows / badEvery
	if err := writeUsers(file, r.made, rows); err != nil {
		return fmt.Errorf("write users: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	importing := exec.CommandContext(
		ctx, self, "import", file, "--data", filepath.Join(r.folder, "sqlite"), "--url", "http://"+r.server.address, "--json",
	)
	importing.SysProcAttr = endsWithParent()
	var report, failure bytes.Buffer
	importing.Stdout, importing.Stderr = &report, &failure
	var memory []int64
	var exit error
	imported, echo, err := r.besideEcho(ctx, 128, func() (result, error) {
		started := time.Now()
		if err := importing.Start(); err != nil {
			return result{}, err
		}
		watch := watchMemory(importing.Process.Pid)
		exit = importing.Wait()
		memory = watch()
		return result{ops: rows, elapsed: time.Since(started)}, nil
	})
	if err != nil {
		return err
	}
	var summary struct{ Created, Failed int64 }
	// An import that some rows were refused of tells so by its exit code.
	if decodeErr := json.Unmarshal(report.Bytes(), &summary); decodeErr != nil || summary.Created != rows-bad ||
		summary.Failed != bad {
		return errors.Join(
			fmt.Errorf("import of %d rows with %d bad ones: %s%s", rows, bad, &report, &failure), decodeErr, exit,
		)
	}
	r.made += summary.Created

	row := r.addLoad(fmt.Sprintf("import of %d rows, 1%% bad, NDJSON, durable", rows), 1, imported)
	row.atLeastEchoes(row.Rate, echo, 1)
	most, early := slices.Max(memory), slices.Max(memory[:max(1, len(memory)/10)])
	flat := float64(most) / float64(early)
	r.addValue(
		"memory of the import, most", fmt.Sprintf("%.1f MB, %.2fx of its first tenth", megabytes(most), flat), "<= 1.2x",
		flat <= 1.2,
	)
	return os.Remove(file)
}

// writeUsers writes so many rows of users, numbered from first on but for the bad ones, which have no number.
func writeUsers(path string, first, rows int64) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewWriterSize(file, 1<<20)
	number := first
	for n := range rows {
		row := `{"uid":"bad","name":17}`
		if n%badEvery != badEvery-1 {
			row = profile(number)
			number++
		}
		if _, err := lines.WriteString(row + "\n"); err != nil {
			return err
		}
	}
	return lines.Flush()
}

// watchMemory samples the resident memory of a process until the function that it returns is called, which returns the
// samples, in bytes, at least one.
func watchMemory(pid int) func() []int64 {
	stop, done := make(chan struct{}), make(chan []int64)
	go func() {
		samples := []int64{}
		for {
			if bytes, err := rss(pid); err == nil && bytes > 0 {
				samples = append(samples, bytes)
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-stop:
				if len(samples) == 0 { // it has ended at once
					samples = append(samples, 0)
				}
				done <- samples
				return
			}
		}
	}()
	return func() []int64 {
		close(stop)
		return <-done
	}
}
