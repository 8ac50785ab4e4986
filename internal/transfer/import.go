package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

const (
	// batchSize is how many entries go to the server at once: what it takes by default.
	batchSize = 1000
	// maxSending is how many batches are under way at the same time: the server reads one while it writes another.
	maxSending = 2
)

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
	run := &importRun{Import: i, batch: new(batch)}
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
	batch   *batch
	// sending holds the batches that are under way, oldest first.
	sending []sentBatch
}

// batch is what goes to the server at once: entries of one kind, and any that cannot be read.
type batch struct {
	lines []Line
	// kind is that of the entries that can be read. Empty while there are none.
	kind string
	// uids are those of its users, in small letters as the server has them.
	uids map[string]bool
}

func (b *batch) takes(line Line) bool {
	return len(b.lines) < batchSize && (line.Err != nil || b.kind == "" || b.kind == kindOf(line))
}

func (b *batch) add(line Line) {
	b.lines = append(b.lines, line)
	if line.Err != nil {
		return
	}
	b.kind = kindOf(line)
	if user := line.Entry.User; user != nil {
		if b.uids == nil {
			b.uids = make(map[string]bool, batchSize)
		}
		b.uids[strings.ToLower(user.UID)] = true
	}
}

// mayPass tells whether it does not matter which of two batches the server writes first.
func (b *batch) mayPass(other *batch) bool {
	if b.kind != "user" || other.kind != "user" {
		return false
	}
	for uid := range b.uids {
		if other.uids[uid] {
			return false
		}
	}
	return true
}

// sentBatch is a batch that is under way until its outcome is there.
type sentBatch struct {
	*batch
	outcome <-chan outcome
}

// outcome is what became of a batch.
type outcome struct {
	results []result
	changes []byte
	err     error
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

func (r *importRun) all(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.settle(0)) }()
	for line, err := range r.Entries {
		if err != nil {
			return errors.Join(err, r.send(ctx)) // what could be read is imported
		}
		if line.Number <= r.state.Done || line.Entry.Type == "end" {
			continue
		}
		if !r.batch.takes(line) {
			if err := r.send(ctx); err != nil {
				return err
			}
		}
		r.batch.add(line)
	}
	return r.send(ctx)
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

// send lets the batch go to the server, behind those that it must not pass.
func (r *importRun) send(ctx context.Context) error {
	if len(r.batch.lines) == 0 {
		return nil
	}
	next := r.batch
	r.batch = new(batch)
	for i, sent := range slices.Backward(r.sending) {
		if !next.mayPass(sent.batch) {
			if err := r.settle(len(r.sending) - 1 - i); err != nil {
				return err
			}
			break
		}
	}
	if err := r.settle(maxSending - 1); err != nil {
		return err
	}
	told := make(chan outcome, 1)
	go func() { told <- r.bring(ctx, next) }()
	r.sending = append(r.sending, sentBatch{batch: next, outcome: told})
	return nil
}

// settle waits for the oldest batches until no more than so many are under way, writes their results down and remembers
// that they are done. It stops doing that at the first that failed, and waits for all of them then.
func (r *importRun) settle(most int) error {
	for len(r.sending) > most {
		oldest := r.sending[0]
		r.sending = r.sending[1:]
		if err := r.record(oldest.lines, <-oldest.outcome); err != nil {
			for _, sent := range r.sending {
				<-sent.outcome
			}
			r.sending = nil
			return err
		}
	}
	return nil
}

func (r *importRun) record(lines []Line, done outcome) error {
	if done.err != nil {
		return fmt.Errorf("import entries %d to %d: %w", lines[0].Number, lines[len(lines)-1].Number, done.err)
	}
	for _, result := range done.results {
		r.count(result)
	}
	r.state.Done = lines[len(lines)-1].Number
	if r.Changes != nil {
		if _, err := r.Changes.Write(done.changes); err != nil {
			return fmt.Errorf("print what would change: %w", err)
		}
	}
	if r.Progress != nil {
		r.Progress(r.state.Summary)
	}
	return r.save(done.results)
}

// bring brings a batch to the server.
func (r *importRun) bring(ctx context.Context, sent *batch) outcome {
	lines := sent.lines
	done := outcome{results: make([]result, len(lines))}
	var good []int
	for i, line := range lines {
		done.results[i] = describe(line)
		if line.Err != nil {
			done.results[i].Status, done.results[i].Error = "failed", line.Err.Error()
			continue
		}
		good = append(good, i)
	}
	switch sent.kind {
	case "":
	case "role":
		done.err = r.roles(ctx, lines, good, done.results)
	case "relation":
		done.err = r.relations(ctx, lines, good, done.results)
	default:
		done.changes, done.err = r.users(ctx, lines, good, done.results)
	}
	return done
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

func (r *importRun) users(ctx context.Context, lines []Line, good []int, results []result) (changes []byte, err error) {
	rows := make([]api.UserRow, len(good))
	for n, i := range good {
		rows[n] = *lines[i].Entry.User
	}
	send := r.Client.Users.Batch
	if r.DryRun {
		send = r.Client.Users.BatchDryRun
	}
	done, err := send(ctx, rows)
	if err != nil {
		return nil, err
	}
	if len(done) != len(rows) {
		return nil, fmt.Errorf("the server answered for %d of %d users", len(done), len(rows))
	}
	for n, i := range good {
		results[i].Status = done[n].Status
		if r.DryRun {
			changes = appendChange(changes, done[n])
		}
		if refused := done[n].Error; refused != nil {
			results[i].Code, results[i].Error = string(refused.Code), refused.Message
			if len(refused.Details) > 1 {
				for _, field := range slices.Sorted(maps.Keys(refused.Details)) {
					results[i].Error += fmt.Sprintf(" [%s: %s]", field, strings.Join(refused.Details[field], " "))
				}
			}
		}
	}
	return changes, nil
}

func (r *importRun) relations(ctx context.Context, lines []Line, good []int, results []result) error {
	if r.DryRun {
		for _, i := range good {
			results[i].Status = "unchanged"
		}
		return nil
	}
	rows := make([]api.RelationRow, len(good))
	for n, i := range good {
		rows[n] = *lines[i].Entry.Relation
	}
	done, err := r.Client.Visibility.PutRelations(ctx, rows)
	if err != nil {
		return err
	}
	for n, i := range good {
		results[i].Status = "created"
		if done[n].Unchanged {
			results[i].Status = "unchanged"
		}
		if !done[n].Success {
			results[i].Status, results[i].Code, results[i].Error = "failed", string(done[n].Code), done[n].Message
		}
	}
	return nil
}

// roles makes or changes roles one by one: there are few.
func (r *importRun) roles(ctx context.Context, lines []Line, good []int, results []result) error {
	for _, i := range good {
		if r.DryRun {
			results[i].Status = "unchanged"
			continue
		}
		status, err := r.role(ctx, lines[i].Entry)
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
	before, err := r.standing(ctx, role.Role)
	switch {
	case err != nil:
		return "", err
	case before == "":
		_, err = r.Client.Roles.Create(ctx, api.CreateRoleRequest{Role: role.Role, Name: role.Name, Description: role.Description, Metadata: role.Metadata, Settings: role.Settings})
	default:
		request := api.UpdateRoleRequest{Name: &role.Name, Description: &role.Description, Settings: role.Settings}
		if len(role.Metadata) > 0 {
			request.Metadata = &role.Metadata
		}
		_, err = r.Client.Roles.Update(ctx, role.Role, request)
	}
	if err == nil && len(entry.Permissions) > 0 {
		_, err = r.Client.Roles.SetPermissions(ctx, role.Role, api.UpdatePermissionsRequest{Permissions: entry.Permissions})
	}
	if err == nil && len(entry.RestrictedFeatures) > 0 {
		slices.Sort(entry.RestrictedFeatures)
		err = r.Client.Roles.RestrictFeatures(ctx, role.Role, entry.RestrictedFeatures...)
	}
	if err != nil || before == "" {
		return "created", err
	}
	after, err := r.standing(ctx, role.Role)
	if after == before {
		return "unchanged", err
	}
	return "updated", err
}

// standing returns all there is to a role, as text; nothing when there is no such role.
func (r *importRun) standing(ctx context.Context, id string) (string, error) {
	role, err := r.Client.Roles.Get(ctx, id)
	if client.IsCode(err, api.CodeRoleNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	role.UpdatedAt = 0
	permissions, err := r.Client.Roles.Permissions(ctx, id)
	if err != nil {
		return "", err
	}
	restricted, err := r.Client.Roles.RestrictedFeatures(ctx, id, client.PageOptions{PerPage: 1000})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal([]any{role, permissions, restricted.Items})
	return string(text), err
}

// appendChange appends what a dry run would change, as text.
func appendChange(text []byte, result api.UserRowResult) []byte {
	switch result.Status {
	case "created":
		return fmt.Appendf(text, "create %s\n", result.UID)
	case "updated":
		return fmt.Appendf(text, "update %s: %s\n", result.UID, strings.Join(result.Fields, ", "))
	case "failed":
		return fmt.Appendf(text, "refuse %q: %s\n", result.UID, result.Error.Message)
	default:
		return text
	}
}
