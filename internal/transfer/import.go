package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// batchSize is how many entries go to the server at once: what it takes by default.
const batchSize = 1000

// Import says what to bring into a server.
type Import struct {
	Client *client.Client
	// Entries are what to import: see Lines and From.
	Entries iter.Seq2[Line, error]
	// Source identifies what is imported: an import does not go on with another source.
	Source string
	// Results names the file that gets a line of JSON for every entry. Empty means none.
	Results string
	// State names the file that remembers how far the import has come, so that it goes on there after it was killed.
	// Empty means that it starts anew.
	State string
	// DryRun writes nothing to the server, and tells Changes what would be.
	DryRun bool
	// Changes gets a line for each user that a dry run would change. Nil means that nobody wants to know.
	Changes io.Writer
	// Progress is called after every batch. Nil means that nobody wants to know.
	Progress func(Summary)
}

// Summary counts what became of the entries.
type Summary struct {
	Entries   int `json:"entries"`
	Created   int `json:"created"`
	Updated   int `json:"updated"`
	Unchanged int `json:"unchanged"`
	Failed    int `json:"failed"`
	// Skipped were done before the import was interrupted.
	Skipped int `json:"skipped"`
}

// state is what is kept of an import between runs. Everything up to Done is on the server and in the results.
type state struct {
	Source       string  `json:"source"`
	Done         int     `json:"done"`
	ResultsBytes int64   `json:"resultsBytes"`
	Summary      Summary `json:"summary"`
}

// result is a line of the results.
type result struct {
	Entry  int    `json:"entry"`
	Type   string `json:"type"`
	UID    string `json:"uid,omitempty"`
	Other  string `json:"other,omitempty"`
	Status string `json:"status"`
	Code   string `json:"code,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Run imports the entries and returns what became of them. Entries that are refused are in the results, and do not hold
// up the others. Whatever was done when it fails, or is killed, is done again harmlessly.
func (i *Import) Run(ctx context.Context) (Summary, error) {
	run := &importRun{Import: i}
	if err := run.open(); err != nil {
		return run.state.Summary, err
	}
	err := errors.Join(run.all(ctx), run.close())
	if err == nil && i.State != "" && !i.DryRun {
		if err = os.Remove(i.State); errors.Is(err, os.ErrNotExist) { // nothing was imported
			err = nil
		}
	}
	return run.state.Summary, err
}

type importRun struct {
	*Import
	state   state
	results *os.File
	out     *bufio.Writer
	batch   []Line
}

func (r *importRun) open() error {
	if r.State != "" {
		text, err := os.ReadFile(r.State)
		if err == nil {
			err = json.Unmarshal(text, &r.state)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read how far the import had come: %w", err)
		}
		if r.state.Done > 0 && r.state.Source != r.Source {
			return fmt.Errorf("%s is about another import, or the file has changed since: start anew, or put it away", r.State)
		}
		r.state.Source, r.state.Summary.Skipped = r.Source, r.state.Done
	}
	if r.Results == "" {
		return nil
	}
	file, err := os.OpenFile(r.Results, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open results: %w", err)
	}
	// What was written after the state was saved belongs to entries that are done again.
	if err := file.Truncate(r.state.ResultsBytes); err != nil {
		return errors.Join(fmt.Errorf("open results: %w", err), file.Close())
	}
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		return errors.Join(fmt.Errorf("open results: %w", err), file.Close())
	}
	r.results, r.out = file, bufio.NewWriter(file)
	return nil
}

func (r *importRun) close() error {
	if r.results == nil {
		return nil
	}
	return errors.Join(r.out.Flush(), r.results.Close())
}

func (r *importRun) all(ctx context.Context) error {
	for line, err := range r.Entries {
		if err != nil {
			return errors.Join(err, r.flush(ctx)) // what could be read is imported
		}
		if line.Number <= r.state.Done || line.Entry.Type == "end" {
			continue
		}
		if len(r.batch) > 0 && (len(r.batch) >= batchSize || kindOf(line) != kindOf(r.batch[0])) {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
		r.batch = append(r.batch, line)
	}
	return r.flush(ctx)
}

// kindOf tells what entries can go to the server together.
func kindOf(line Line) string {
	switch line.Entry.Type {
	case "role", "user":
		return line.Entry.Type
	default:
		return "relation"
	}
}

// flush brings a batch to the server, writes its results down, and remembers that it is done.
func (r *importRun) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	results := make([]result, len(r.batch))
	var good []int
	for i, line := range r.batch {
		results[i] = describe(line)
		if line.Err != nil {
			results[i].Status, results[i].Error = "failed", line.Err.Error()
			continue
		}
		good = append(good, i)
	}
	var err error
	switch {
	case len(good) == 0:
	case kindOf(r.batch[good[0]]) == "role":
		err = r.roles(ctx, good, results)
	case kindOf(r.batch[good[0]]) == "relation":
		err = r.relations(ctx, good, results)
	default:
		err = r.users(ctx, good, results)
	}
	if err != nil {
		return fmt.Errorf("import entries %d to %d: %w", r.batch[0].Number, r.batch[len(r.batch)-1].Number, err)
	}
	for _, result := range results {
		r.count(result)
	}
	r.state.Done = r.batch[len(r.batch)-1].Number
	r.batch = r.batch[:0]
	if r.Progress != nil {
		r.Progress(r.state.Summary)
	}
	return r.save(results)
}

func describe(line Line) result {
	described := result{Entry: line.Number, Type: line.Entry.Type}
	switch {
	case line.Entry.Role != nil:
		described.UID = line.Entry.Role.Role
	case line.Entry.User != nil:
		described.UID = line.Entry.User.UID
	case line.Entry.Relation != nil:
		described.UID, described.Other = line.Entry.Relation.UID, line.Entry.Relation.Other
	}
	return described
}

func (r *importRun) count(result result) {
	summary := &r.state.Summary
	summary.Entries++
	switch result.Status {
	case "created":
		summary.Created++
	case "updated":
		summary.Updated++
	case "unchanged":
		summary.Unchanged++
	default:
		summary.Failed++
	}
}

// save writes the results first: the state must not be ahead of them.
func (r *importRun) save(results []result) error {
	if r.results != nil {
		encoder := json.NewEncoder(r.out)
		encoder.SetEscapeHTML(false)
		for _, result := range results {
			if err := encoder.Encode(result); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
		if err := r.out.Flush(); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
		at, err := r.results.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("write results: %w", err)
		}
		r.state.ResultsBytes = at
	}
	if r.State == "" || r.DryRun {
		return nil
	}
	text, err := json.Marshal(r.state)
	if err != nil {
		return err
	}
	next := r.State + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("remember how far the import has come: %w", err)
	}
	return os.Rename(next, r.State)
}

func (r *importRun) users(ctx context.Context, good []int, results []result) error {
	rows := make([]api.UserRow, len(good))
	for n, i := range good {
		rows[n] = *r.batch[i].Entry.User
	}
	send := r.Client.Users.Batch
	if r.DryRun {
		send = r.Client.Users.BatchDryRun
	}
	done, err := send(ctx, rows)
	if err != nil {
		return err
	}
	if len(done) != len(rows) {
		return fmt.Errorf("the server answered for %d of %d users", len(done), len(rows))
	}
	for n, i := range good {
		results[i].Status = done[n].Status
		if r.DryRun {
			r.tell(done[n])
		}
		if refused := done[n].Error; refused != nil {
			results[i].Code, results[i].Error = string(refused.Code), refused.Message
			for field, wrong := range refused.Details {
				results[i].Error += fmt.Sprintf(" [%s: %v]", field, wrong)
			}
		}
	}
	return nil
}

func (r *importRun) relations(ctx context.Context, good []int, results []result) error {
	if r.DryRun {
		for _, i := range good {
			results[i].Status = "unchanged"
		}
		return nil
	}
	rows := make([]api.RelationRow, len(good))
	for n, i := range good {
		rows[n] = *r.batch[i].Entry.Relation
	}
	done, err := r.Client.Visibility.PutRelations(ctx, rows)
	if err != nil {
		return err
	}
	for n, i := range good {
		results[i].Status = "created"
		if !done[n].Success {
			results[i].Status, results[i].Code, results[i].Error = "failed", string(done[n].Code), done[n].Message
		}
	}
	return nil
}

// roles makes or changes roles one by one: there are few.
func (r *importRun) roles(ctx context.Context, good []int, results []result) error {
	for _, i := range good {
		if r.DryRun {
			results[i].Status = "unchanged"
			continue
		}
		status, err := r.role(ctx, r.batch[i].Entry)
		var refused *client.Error
		switch {
		case errors.As(err, &refused):
			results[i].Status, results[i].Code, results[i].Error = "failed", string(refused.Code), refused.Message
		case err != nil:
			return err
		default:
			results[i].Status = status
		}
	}
	return nil
}

func (r *importRun) role(ctx context.Context, entry api.ExportLine) (status string, err error) {
	role := entry.Role
	status = "updated"
	request := api.UpdateRoleRequest{Name: &role.Name, Description: &role.Description, Settings: role.Settings}
	if len(role.Metadata) > 0 {
		request.Metadata = &role.Metadata
	}
	_, err = r.Client.Roles.Update(ctx, role.Role, request)
	if client.IsCode(err, api.CodeRoleNotFound) {
		status = "created"
		_, err = r.Client.Roles.Create(ctx, api.CreateRoleRequest{Role: role.Role, Name: role.Name, Description: role.Description, Metadata: role.Metadata, Settings: role.Settings})
	}
	if err == nil && len(entry.Permissions) > 0 {
		_, err = r.Client.Roles.SetPermissions(ctx, role.Role, api.UpdatePermissionsRequest{Permissions: entry.Permissions})
	}
	if err == nil && len(entry.RestrictedFeatures) > 0 {
		slices.Sort(entry.RestrictedFeatures)
		err = r.Client.Roles.RestrictFeatures(ctx, role.Role, entry.RestrictedFeatures...)
	}
	return status, err
}

// tell prints what a dry run would change.
func (r *importRun) tell(result api.UserRowResult) {
	if r.Changes == nil {
		return
	}
	switch result.Status {
	case "created":
		fmt.Fprintf(r.Changes, "create %s\n", result.UID)
	case "updated":
		fmt.Fprintf(r.Changes, "update %s: %s\n", result.UID, strings.Join(result.Fields, ", "))
	case "failed":
		fmt.Fprintf(r.Changes, "refuse %q: %s\n", result.UID, result.Error.Message)
	}
}
