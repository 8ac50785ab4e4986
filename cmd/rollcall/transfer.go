package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/transfer"
)

// errSomeFailed makes an import end with an exit code of its own kind when entries were refused.
var errSomeFailed = errors.New("some entries were refused")

// importFlags are those of the import.
type importFlags struct {
	format, encoding, mapping, results, state, from, fromApp string
	dryRun, verbose, restart, ignoreUnknown                  bool
}

func newImport() *cobra.Command {
	r := &remote{}
	f := &importFlags{}
	cmd := &cobra.Command{
		Use: "import [FILE]", Short: "Bring users, and what export wrote, into an app",
		Long: `Makes or changes the users of a file: NDJSON (a user or a line of an export on each line), CSV with a heading,
or the JSON of CometChat's data import, packed by gzip or not. "-" reads standard input. With --map, the file is an
export of another system: ` + strings.Join(transfer.MapNames(), ", ") + `,
or what a map of your own says (docs/import.md).
With --from, the users of another server that speaks this API are read instead; its API key comes from
ROLLCALL_FROM_API_KEY.

Whatever is in the file is imported as it is, or named in the results with its place and why not. An import of a file
that was interrupted goes on where it was when it is started again. Importing the same once more changes nothing, but
for uids that a file has twice. The exit code is 1 when entries were refused or the file could not be read to its end.`,
		Example: "  rollcall import users.csv --dry-run\n" +
			"  rollcall import users.ndjson\n" +
			"  rollcall import users.json --map firebase\n" +
			"  ROLLCALL_FROM_API_KEY=… rollcall import --from https://2a6f.api-eu.example.com --from-app 2a6f",
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == (f.from != "") || len(args) > 1 {
				return errors.New("give one FILE, or --from")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	r.register(flags)
	flags.StringVar(&f.format, "format", "", "ndjson, csv or json; empty means by the file's name")
	flags.StringVar(&f.encoding, "encoding", "", "utf-8, windows-1252 or utf-16; empty means UTF-8, or what the file says")
	maps := strings.Join(transfer.MapNames(), ", ")
	flags.StringVar(&f.mapping, "map", "", "whose export it is: "+maps+", or a file with a map")
	flags.BoolVar(&f.ignoreUnknown, "ignore-unknown", false, "leave out what users do not have, instead of refusing it")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be changed and refused, and change nothing")
	flags.BoolVar(&f.verbose, "verbose", false, "with --dry-run, print what would be created too")
	flags.BoolVar(&f.restart, "restart", false, "begin anew, also when the last import was interrupted")
	flags.StringVar(&f.results, "results", "", "file with what became of each entry; empty means FILE.results.ndjson")
	flags.StringVar(&f.state, "state", "", "file that remembers how far it has come; empty means FILE.import-state")
	flags.StringVar(&f.from, "from", "", "address of a server to read users from")
	flags.StringVar(&f.fromApp, "from-app", "", "app id on that server")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect()
		if err != nil {
			return err
		}
		job := &transfer.Import{
			Client: c, Target: "the app " + r.appID, Results: f.results, DryRun: f.dryRun,
			Changes: cmd.OutOrStdout(), Verbose: f.verbose,
			Resumed: func(done int) {
				fmt.Fprintf(cmd.ErrOrStderr(), "going on behind entry %d; --restart begins anew\n", done)
			},
		}
		if r.json { // which is all that the standard output gets
			job.Changes = cmd.ErrOrStderr()
		}
		counted := newProgress(cmd)
		job.Progress = counted.tell
		name, resumable := "import", false
		if f.from != "" {
			if job.Entries, err = f.pull(cmd.Context()); err != nil {
				return err
			}
		} else {
			if args[0] != "-" {
				name, resumable = args[0], true
			}
			file, closeFile, err := f.open(cmd, args[0], counted)
			if err != nil {
				return err
			}
			defer closeFile()
			job.Entries = file.Entries()
		}
		defer counted.finish()
		if job.Results == "" && !f.dryRun {
			job.Results = name + ".results.ndjson"
		}
		// What comes from elsewhere may be other entries the next time.
		if job.State = f.state; job.State == "" && resumable && !f.dryRun {
			job.State = name + ".import-state"
		}
		if f.restart && job.State != "" {
			if err := os.Remove(job.State); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		summary, failed := job.Run(cmd.Context())
		counted.finish()
		if failed != nil && f.from == "" { // else it may be about the other server
			failed = r.explain(failed)
		}
		if failed != nil && summary.Entries == 0 {
			return failed
		}
		return errors.Join(failed, reportImport(cmd, r.json, summary, job.Results))
	}
	return cmd
}

// pull returns the users of another server.
func (f *importFlags) pull(ctx context.Context) (iter.Seq2[transfer.Entry, error], error) {
	if f.state != "" {
		return nil, usageError{errors.New("an import from another server begins anew each time: leave --state out")}
	}
	source, err := client.New(
		f.from, client.WithApp(f.fromApp), client.WithAPIKey(os.Getenv("ROLLCALL_FROM_API_KEY")), client.WithTries(10),
	)
	if err != nil {
		return nil, usageError{err}
	}
	return transfer.From(ctx, source, f.ignoreUnknown), nil
}

// open opens the file that is imported.
func (f *importFlags) open(cmd *cobra.Command, name string, counted *progress) (*transfer.File, func(), error) {
	file := &transfer.File{Format: transfer.Format(f.format), IgnoreUnknown: f.ignoreUnknown}
	var err error
	if file.Format == "" {
		if file.Format, err = transfer.FormatOf(name); err != nil {
			return nil, nil, usageError{err}
		}
	}
	if file.Encoding, err = transfer.EncodingNamed(f.encoding); err != nil {
		return nil, nil, usageError{err}
	}
	if f.mapping != "" {
		if file.Map, err = transfer.MapNamed(f.mapping, time.Now); err != nil {
			return nil, nil, usageError{err}
		}
	}
	input := io.NopCloser(cmd.InOrStdin())
	if name == "-" && f.state != "" {
		return nil, nil, usageError{errors.New("what standard input brings is imported anew each time: leave --state out")}
	}
	if name != "-" {
		opened, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		if info, err := opened.Stat(); err == nil {
			counted.expect(info.Size())
		}
		input = opened
	}
	file.Reader = io.TeeReader(bufio.NewReaderSize(input, 1<<20), counted)
	return file, func() { _ = input.Close() }, nil // it was only read
}

func reportImport(cmd *cobra.Command, asJSON bool, summary transfer.Summary, results string) error {
	report := printSummary
	if asJSON {
		report = func(cmd *cobra.Command, summary transfer.Summary) error { return printJSON(cmd, summary) }
	}
	if err := report(cmd, summary); err != nil || summary.Failed == 0 {
		return err
	}
	if results != "" {
		return fmt.Errorf("%w; %s says which and why", errSomeFailed, results)
	}
	return errSomeFailed
}

// printSummary prints what became of the entries for people.
func printSummary(cmd *cobra.Command, summary transfer.Summary) error {
	row := []string{}
	for _, count := range []int{summary.Entries, summary.Created, summary.Updated, summary.Unchanged, summary.Failed} {
		row = append(row, strconv.Itoa(count))
	}
	err := printTable(cmd, [][]string{{"ENTRIES", "CREATED", "UPDATED", "UNCHANGED", "FAILED"}, row})
	if err == nil && len(summary.Refusals) > 0 {
		table := [][]string{{"FAILED", "FIRST", "REASON"}}
		for _, refusal := range summary.Refusals {
			reason := cmp.Or(refusal.Reason, "other reasons")
			table = append(table, []string{strconv.Itoa(refusal.Failed), refusal.Place(), reason})
		}
		printf(cmd, "\n")
		err = printTable(cmd, table)
	}
	if summary.Skipped > 0 {
		printf(cmd, "%d of the entries were done before it was interrupted; "+
			"what had been done behind them counts as unchanged.\n", summary.Skipped)
	}
	if summary.Lowered > 0 {
		printf(cmd, "Uids with capitals: %d. Rollcall has every uid in small letters, and takes it in any.\n",
			summary.Lowered)
	}
	for i, repeat := range summary.Repeats {
		if i == 0 {
			printf(cmd, "Entries whose uid an earlier one has, so that the later one counts: %d.\n", summary.Repeated)
		}
		printf(cmd, "  %s in entries %d and %d\n", repeat.UID, repeat.First, repeat.Again)
	}
	return err
}

// progress tells how far an import has come: as a bar on a terminal, else in lines.
type progress struct {
	cmd   *cobra.Command
	bar   *progressbar.ProgressBar
	bytes int64
	size  int64
	told  int
}

// tellEvery is how many entries lie between two lines.
const tellEvery = 50_000

func newProgress(cmd *cobra.Command) *progress {
	p := &progress{cmd: cmd}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		p.bar = progressbar.DefaultBytes(-1, "importing")
	}
	return p
}

// expect says how many bytes there are to read.
func (p *progress) expect(size int64) {
	if p.size = size; p.bar != nil {
		p.bar.ChangeMax64(size)
	}
}

// Write counts what was read.
func (p *progress) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	if p.bar != nil {
		return p.bar.Write(b)
	}
	return len(b), nil
}

func (p *progress) tell(summary transfer.Summary) {
	if p.bar != nil || summary.Entries-p.told < tellEvery {
		return
	}
	p.told = summary.Entries
	share := ""
	if p.size > 0 {
		share = fmt.Sprintf(" (%d%%)", 100*p.bytes/p.size)
	}
	fmt.Fprintf(p.cmd.ErrOrStderr(), "%d entries%s, %d failed\n", summary.Entries, share, summary.Failed)
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // only looks depend on it
	}
}

func newExport() *cobra.Command {
	r := &remote{}
	var output string
	cmd := &cobra.Command{
		Use: "export", Args: cobra.NoArgs, Short: "Write the roles, users and relations of an app to a file",
		Long: `Writes everything of an app that another directory can be made of, as NDJSON: its roles, users, blocks, friends
and friend requests, but no keys and no auth tokens. Private metadata is in it. "rollcall import" makes an equal
directory.`,
		Example: "  rollcall export --output shop.ndjson\n  rollcall export | gzip > shop.ndjson.gz",
	}
	flags := cmd.Flags()
	r.register(flags)
	flags.StringVar(&output, "output", "", "file to write; empty means standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := r.connect()
		if err != nil {
			return err
		}
		if output == "" {
			if _, err := c.Export(cmd.Context(), cmd.OutOrStdout()); err != nil {
				return r.explain(err)
			}
			return nil
		}
		// Only a complete export gets the name.
		file, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+".unfinished-*") // made with mode 0600
		if err != nil {
			return err
		}
		buffered := bufio.NewWriterSize(file, 1<<20)
		lines, err := c.Export(cmd.Context(), buffered)
		if err != nil {
			err = r.explain(err)
		}
		err = errors.Join(err, buffered.Flush(), file.Sync(), file.Close())
		if err == nil {
			err = os.Rename(file.Name(), output)
		}
		if err != nil {
			return errors.Join(err, os.Remove(file.Name()))
		}
		if r.json {
			return printJSON(cmd, map[string]any{"file": output, "lines": lines})
		}
		printf(cmd, "%d lines in %s\n", lines, output)
		return nil
	}
	return cmd
}
