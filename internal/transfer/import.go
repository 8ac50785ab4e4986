package transfer

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
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
	// batchSize is how many entries go to the server at once, and batchBytes how many bytes of them: less than what it
	// takes by default. A server that takes less refuses the batch, which is halved then.
	batchSize  = 1000
	batchBytes = 4 << 20
	// maxSending is how many batches are under way at the same time: the server reads one while it writes another.
	maxSending = 2
)

// Import says what to bring into a server.
type Import struct {
	Client *client.Client
	// Entries are what to import: see File and From.
	Entries iter.Seq2[Entry, error]
	// Target names the directory that the entries go to: an import does not go on with another one.
	Target string
	// Results names the file that gets a line of JSON for every entry. Empty means none.
	Results string
	// State names the file that remembers how far the import has come, so that it goes on there after it was killed, when
	// the entries up to there are the same. Empty means that it starts anew.
	State string
	// DryRun writes nothing to the server, and tells Changes what would be.
	DryRun bool
	// Changes gets a line for each entry that a dry run would refuse or change something with, and when Verbose is set,
	// for each that it would create. Nil means that nobody wants to know.
	Changes io.Writer
	Verbose bool
	// Resumed is called with the number of entries that were done before, when there are any. It may be nil.
	Resumed func(done int)
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
	// Lowered are users whose uids the server has in small letters, and the entries not.
	Lowered int `json:"lowered"`
	// Refusals are why entries failed, the most of them under their reason.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Repeated are those that have the uid of an earlier one, which they change again.
	Repeated int `json:"repeated"`
	// Repeats are the first of these.
	Repeats []Repeat `json:"repeats,omitempty"`
}

// Repeat are the numbers of two entries with the same uid. The later one counts.
type Repeat struct {
	UID   string `json:"uid"`
	First int    `json:"first"`
	Again int    `json:"again"`
}

// Refusal is a reason for which entries failed, and where the first of them is. Without a reason, it is for all others.
type Refusal struct {
	Reason string `json:"reason"`
	Failed int    `json:"failed"`
	Entry  int    `json:"entry"`
	Line   int    `json:"line,omitempty"`
}

// Place tells where the first entry that failed for the reason is.
func (r Refusal) Place() string { return placeOf(r.Entry, r.Line) }

func placeOf(entry, line int) string {
	if line > 0 {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("entry %d", entry)
}

// maxRefusals is how many reasons a summary names.
const maxRefusals = 20

// maxRepeats is how many repeats a summary names.
const maxRepeats = 10

// state is what is kept of an import between runs. Everything up to Done is on the server and in the results.
type state struct {
	Target string `json:"target"`
	Done   int    `json:"done"`
	// Chain identifies the text of the entries that are done.
	Chain        string  `json:"chain"`
	ResultsBytes int64   `json:"resultsBytes"`
	Summary      Summary `json:"summary"`
}

// result is a line of the results.
type result struct {
	Entry int    `json:"entry"`
	Line  int    `json:"line,omitempty"`
	Type  string `json:"type"`
	UID   string `json:"uid,omitempty"`
	// Stored is the uid as the server has it, when that is another.
	Stored string `json:"stored,omitempty"`
	Other  string `json:"other,omitempty"`
	Status string `json:"status"`
	Code   string `json:"code,omitempty"`
	Error  string `json:"error,omitempty"`
	// Note tells what of an entry that was taken is not as it says.
	Note string `json:"note,omitempty"`
	// fields are those that the entry changes.
	fields []string
}

// Run imports the entries and returns what became of them. Entries that are refused are in the results, and do not hold
// up the others. Whatever was done when it fails, or is killed, is done again harmlessly.
func (i *Import) Run(ctx context.Context) (_ Summary, err error) {
	run := &importRun{Import: i, batch: new(batch)}
	if run.seen, err = newSeen(); err != nil {
		return Summary{}, fmt.Errorf("keep the uids of the import: %w", err)
	}
	defer func() { err = errors.Join(err, run.seen.close()) }()
	if err := run.open(); err != nil {
		return run.state.Summary, err
	}
	err = errors.Join(run.all(ctx), run.close())
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
	seen    *seen
	// sending holds the batches that are under way, oldest first.
	sending []sentBatch
	// roles and users are those that a dry run would have made: what comes behind them may be about them. Users are hashes
	// of uids.
	roles []string
	users map[uint64]struct{}
	seed  maphash.Seed
}

// batch is what goes to the server at once: entries of one kind, and any that cannot be read.
type batch struct {
	entries []Entry
	bytes   int
	// kind is that of the entries that can be read. Empty while there are none.
	kind string
	// uids are those of its users, in small letters as the server has them.
	uids map[string]bool
}

func (b *batch) takes(entry Entry) bool {
	return len(b.entries) == 0 || len(b.entries) < batchSize && b.bytes+entry.size <= batchBytes &&
		(entry.Err != nil || b.kind == "" || b.kind == kindOf(entry))
}

func (b *batch) add(entry Entry) {
	b.entries = append(b.entries, entry)
	if entry.Err != nil {
		return
	}
	b.bytes += entry.size
	b.kind = kindOf(entry)
	if user := entry.Content.User; user != nil {
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
		if r.state.Done > 0 && r.state.Target != r.Target {
			return fmt.Errorf("%s is of an import into %s, and this one is into %s: start anew with --restart, or name another "+
				"file with --state", r.State, r.state.Target, r.Target)
		}
		r.state.Target, r.state.Summary.Skipped = r.Target, r.state.Done
		r.state.Summary.Repeated, r.state.Summary.Repeats = 0, nil // they are read again
		if r.Resumed != nil && r.state.Done > 0 {
			r.Resumed(r.state.Done)
		}
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
	done, read := r.state.Done, 0
	for entry, err := range r.Entries {
		if err != nil {
			return errors.Join(err, r.send(ctx)) // what could be read is imported
		}
		read = entry.Number
		if user := entry.Content.User; entry.Err == nil && user != nil {
			if err := r.meet(&entry); err != nil {
				return err
			}
			if user.DeactivatedAt == nil { // whoever is not said to be deactivated is active
				user.DeactivatedAt = new(int64)
			}
		}
		if entry.Number <= done {
			if entry.Number == done && hex.EncodeToString(entry.Chain[:]) != r.state.Chain {
				return fmt.Errorf("%s is of another file, or this one was changed before entry %d, up to which it had been "+
					"imported: start anew with --restart", r.State, done+1)
			}
			continue
		}
		if !r.batch.takes(entry) {
			if err := r.send(ctx); err != nil {
				return err
			}
		}
		r.batch.add(entry)
	}
	if read < done {
		return fmt.Errorf("%s is of another file, or this one was cut off: it had been imported up to entry %d, and now "+
			"ends behind entry %d: start anew with --restart", r.State, done, read)
	}
	return r.send(ctx)
}

// meet looks whether an earlier entry has the uid of this one. When that one writes it in another way, it is another
// person, and this one is refused.
func (r *importRun) meet(entry *Entry) error {
	uid := entry.Content.User.UID
	earlier, alike, err := r.seen.add(uid, entry.ID, entry.Number)
	if err != nil || earlier == 0 {
		return err
	}
	if !alike {
		entry.Err = fmt.Errorf("%s is the uid of entry %d too, where it is written in another way: two people would become one",
			strings.ToLower(uid), earlier)
		return nil
	}
	summary := &r.state.Summary
	if summary.Repeated++; len(summary.Repeats) < maxRepeats {
		summary.Repeats = append(summary.Repeats, Repeat{uid, earlier, entry.Number})
	}
	return nil
}

// kindOf tells what entries can go to the server together.
func kindOf(entry Entry) string {
	switch entry.Content.Type {
	case "role", "user":
		return entry.Content.Type
	default:
		return "relation"
	}
}

// send lets the batch go to the server, behind those that it must not pass.
func (r *importRun) send(ctx context.Context) error {
	if len(r.batch.entries) == 0 {
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
		if err := r.record(oldest.entries, <-oldest.outcome); err != nil {
			for _, sent := range r.sending {
				<-sent.outcome
			}
			r.sending = nil
			return err
		}
	}
	return nil
}

func (r *importRun) record(entries []Entry, done outcome) error {
	last := entries[len(entries)-1]
	if done.err != nil {
		return fmt.Errorf("import entries %d to %d: %w", entries[0].Number, last.Number, done.err)
	}
	for _, result := range done.results {
		r.count(result)
		if r.DryRun && result.Status == "created" {
			r.assume(result)
		}
	}
	r.state.Done, r.state.Chain = last.Number, hex.EncodeToString(last.Chain[:])
	if r.Changes != nil && r.DryRun {
		var told []byte
		for _, result := range done.results {
			told = result.appendChange(told, r.Verbose)
		}
		if _, err := r.Changes.Write(told); err != nil {
			return fmt.Errorf("print what would change: %w", err)
		}
	}
	if r.Progress != nil {
		r.Progress(r.state.Summary)
	}
	return r.save(done.results)
}

// assume notes what a dry run would have made.
func (r *importRun) assume(made result) {
	switch made.Type {
	case "role":
		r.roles = append(r.roles, made.UID)
	case "user":
		if r.users == nil {
			r.users, r.seed = map[uint64]struct{}{}, maphash.MakeSeed()
		}
		r.users[maphash.String(r.seed, strings.ToLower(made.UID))] = struct{}{}
	}
}

func (r *importRun) wouldMake(uid string) bool {
	if len(r.users) == 0 {
		return false
	}
	_, would := r.users[maphash.String(r.seed, strings.ToLower(uid))]
	return would
}

// bring brings a batch to the server.
func (r *importRun) bring(ctx context.Context, sent *batch) outcome {
	done := outcome{results: make([]result, len(sent.entries))}
	var good []int
	for i, entry := range sent.entries {
		done.results[i] = describe(entry)
		if entry.Err != nil {
			done.results[i].Status, done.results[i].Error = "failed", entry.Err.Error()
			continue
		}
		good = append(good, i)
	}
	if sent.kind != "" {
		done.err = r.bringSome(ctx, sent, good, &done)
	}
	return done
}

// HTTP statuses by which a server refuses a batch for what is in it.
const (
	badRequest = 400
	tooLarge   = 413
)

// bringSome brings some entries of a batch to the server. When it refuses them as a whole, halves of them are tried, so
// that the refusal meets the entry that it is about.
func (r *importRun) bringSome(ctx context.Context, sent *batch, some []int, done *outcome) (err error) {
	switch sent.kind {
	case "role":
		err = r.bringRoles(ctx, sent.entries, some, done)
	case "user":
		err = r.bringUsers(ctx, sent.entries, some, done)
	default:
		err = r.bringRelations(ctx, sent.entries, some, done)
	}
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Status != badRequest && refused.Status != tooLarge {
		return err
	}
	if half := len(some) / 2; half > 0 {
		return errors.Join(r.bringSome(ctx, sent, some[:half], done), r.bringSome(ctx, sent, some[half:], done))
	}
	done.results[some[0]].fail(&api.Error{Code: refused.Code, Message: refused.Message, Details: refused.Details})
	return nil
}

// fail notes why the server refused an entry.
func (r *result) fail(refused *api.Error) {
	r.Status, r.Code, r.Error = "failed", string(refused.Code), refused.Message
	if len(refused.Details) > 1 {
		for _, field := range slices.Sorted(maps.Keys(refused.Details)) {
			r.Error += fmt.Sprintf(" [%s: %s]", field, strings.Join(refused.Details[field], " "))
		}
	}
}

func describe(entry Entry) result {
	described := result{Entry: entry.Number, Line: entry.Line, Type: entry.Content.Type}
	switch {
	case entry.Content.Role != nil:
		described.UID = entry.Content.Role.Role
	case entry.Content.User != nil:
		described.UID = entry.Content.User.UID
	case entry.Content.Relation != nil:
		described.UID, described.Other = entry.Content.Relation.UID, entry.Content.Relation.Other
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
		summary.refuse(result)
	}
	if result.Stored != "" {
		summary.Lowered++
	}
}

// refuse counts an entry that failed under its reason.
func (s *Summary) refuse(failed result) {
	reason := strings.TrimPrefix(failed.Error, fmt.Sprintf("line %d, ", failed.Line))
	if position, rest, ok := strings.Cut(reason, ": "); ok && strings.HasPrefix(position, "column ") {
		reason = rest
	}
	at := slices.IndexFunc(s.Refusals, func(known Refusal) bool { return known.Reason == reason })
	if at < 0 && len(s.Refusals) >= maxRefusals {
		reason = ""
		at = slices.IndexFunc(s.Refusals, func(known Refusal) bool { return known.Reason == "" })
	}
	if at < 0 {
		at = len(s.Refusals)
		s.Refusals = append(s.Refusals, Refusal{Reason: reason, Entry: failed.Entry, Line: failed.Line})
	}
	s.Refusals[at].Failed++
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

func (r *importRun) bringUsers(ctx context.Context, entries []Entry, some []int, done *outcome) error {
	rows := make([]api.UserRow, len(some))
	for n, i := range some {
		rows[n] = *entries[i].Content.User
	}
	send := r.Client.Users.Batch
	if r.DryRun {
		send = func(ctx context.Context, rows []api.UserRow) ([]api.UserRowResult, error) {
			return r.Client.Users.BatchDryRun(ctx, rows, r.roles...)
		}
	}
	results, err := answersTo(ctx, rows, send)
	if err != nil {
		return err
	}
	for n, i := range some {
		done.results[i].Status = results[n].Status
		if refused := results[n].Error; refused != nil {
			done.results[i].fail(refused)
		}
		done.results[i].fields = results[n].Fields
		if stored := results[n].UID; stored != rows[n].UID && done.results[i].Status != "failed" {
			done.results[i].Stored = stored
		}
	}
	return nil
}

// answersTo sends rows to the server, and demands an answer to each.
func answersTo[Row, Result any](
	ctx context.Context, rows []Row, send func(context.Context, []Row) ([]Result, error),
) ([]Result, error) {
	results, err := send(ctx, rows)
	if err == nil && len(results) != len(rows) {
		err = fmt.Errorf("the server answered for %d of %d entries", len(results), len(rows))
	}
	return results, err
}

func (r *importRun) bringRelations(ctx context.Context, entries []Entry, some []int, done *outcome) error {
	rows := make([]api.RelationRow, len(some))
	var assumed []string
	for n, i := range some {
		rows[n] = *entries[i].Content.Relation
		for _, uid := range []string{rows[n].UID, rows[n].Other} {
			if r.wouldMake(uid) {
				assumed = append(assumed, uid)
			}
		}
	}
	send := r.Client.Visibility.PutRelations
	if r.DryRun {
		send = func(ctx context.Context, rows []api.RelationRow) ([]api.ItemResult, error) {
			return r.Client.Visibility.PutRelationsDryRun(ctx, rows, assumed...)
		}
	}
	results, err := answersTo(ctx, rows, send)
	if err != nil {
		return err
	}
	for n, i := range some {
		done.results[i].Status = "created"
		if results[n].Unchanged {
			done.results[i].Status = "unchanged"
		}
		if !results[n].Success {
			done.results[i].fail(&api.Error{Code: results[n].Code, Message: results[n].Message})
		}
	}
	return nil
}

func (r *importRun) bringRoles(ctx context.Context, entries []Entry, some []int, done *outcome) error {
	rows := make([]api.RoleRow, len(some))
	for n, i := range some {
		line := entries[i].Content
		rows[n] = api.RoleRow{
			Role: *line.Role, Permissions: line.Permissions, RestrictedFeatures: line.RestrictedFeatures,
			RestrictedAt: line.RestrictedAt,
		}
	}
	send := r.Client.Roles.Batch
	if r.DryRun {
		send = r.Client.Roles.BatchDryRun
	}
	results, err := answersTo(ctx, rows, send)
	if err != nil {
		return err
	}
	for n, i := range some {
		done.results[i].Status = results[n].Status
		if refused := results[n].Error; refused != nil {
			done.results[i].fail(refused)
		}
		for _, permission := range slices.Sorted(maps.Keys(results[n].Dropped)) {
			done.results[i].Note += fmt.Sprintf("%s named roles that there are not, which were left out: %s. ", permission,
				strings.Join(results[n].Dropped[permission], ", "))
		}
		done.results[i].fields = results[n].Fields
	}
	return nil
}

// appendChange adds a line that tells what a dry run would do with an entry, unless that is nothing.
func (r result) appendChange(told []byte, verbose bool) []byte {
	name := cmp.Or(r.Stored, r.UID)
	if r.Other != "" {
		name += " " + r.Other
	}
	if r.Type != "user" {
		name = r.Type + " " + name
	}
	switch {
	case r.Status == "created" && verbose:
		return fmt.Appendf(told, "create %s\n", name)
	case r.Status == "updated":
		return fmt.Appendf(told, "update %s: %s\n", name, strings.Join(r.fields, ", "))
	case r.Status == "failed":
		at := placeOf(r.Entry, r.Line)
		if strings.HasPrefix(r.Error, at+", ") { // it has not come so far as to have a name
			return fmt.Appendf(told, "refuse %s\n", r.Error)
		}
		return fmt.Appendf(told, "refuse %s, %s: %s\n", at, name, r.Error)
	}
	return told
}
