package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/transfer"
)

// errSomeFailed makes an import end with an exit code of its own kind when entries were refused.
var errSomeFailed = errors.New("some entries were refused; the results say which and why")

func newImport() *cobra.Command {
	r := &remote{}
	var format, results, state, from, fromApp string
	var dryRun, restart bool
	cmd := &cobra.Command{
		Use: "import [FILE]", Short: "Bring users, and what export wrote, into an app",
		Long: `Makes or changes the users of a file: NDJSON (a user or a line of an export on each line), CSV with a heading,
or the JSON of CometChat's data import. "-" reads standard input. With --from, the users of another server that speaks
this API are read instead; its API key comes from ROLLCALL_FROM_API_KEY.

An import that was interrupted goes on where it was when it is started again. Importing the same once more changes
nothing. The exit code is 1 when entries were refused: the results file has a line for each entry.`,
		Example: "  rollcall import users.csv --dry-run\n" +
			"  rollcall import users.ndjson\n" +
			"  ROLLCALL_FROM_API_KEY=… rollcall import --from https://2a6f.api-eu.example.com --from-app 2a6f",
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == (from != "") || len(args) > 1 {
				return errors.New("give one FILE, or --from")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	r.register(flags)
	flags.StringVar(&format, "format", "", "ndjson, csv or json; empty means by the file's name")
	flags.BoolVar(&dryRun, "dry-run", false, "print what would change, and change nothing")
	flags.BoolVar(&restart, "restart", false, "begin anew, also when the last import was interrupted")
	flags.StringVar(&results, "results", "", "file with what became of each entry; empty means FILE.results.ndjson")
	flags.StringVar(&state, "state", "", "file that remembers how far the import has come; empty means FILE.import-state")
	flags.StringVar(&from, "from", "", "address of a server to read users from")
	flags.StringVar(&fromApp, "from-app", "", "app id on that server")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect()
		if err != nil {
			return err
		}
		job := &transfer.Import{Client: c, Results: results, State: state, DryRun: dryRun, Changes: cmd.OutOrStdout()}
		name := "import"
		if from != "" {
			source, err := client.New(
				from, client.WithApp(fromApp), client.WithAPIKey(os.Getenv("ROLLCALL_FROM_API_KEY")), client.WithTries(10),
			)
			if err != nil {
				return usageError{err}
			}
			job.Source, job.Entries = from+" "+fromApp, transfer.From(cmd.Context(), source)
		} else {
			name = args[0]
			input, size, source, err := openInput(cmd, name)
			if err != nil {
				return err
			}
			defer input.Close()
			job.Source = source
			chosen := transfer.Format(format)
			if chosen == "" {
				if chosen, err = transfer.FormatOf(name); err != nil {
					return usageError{err}
				}
			}
			if name == "-" {
				name = "import"
			}
			counted := newProgress(cmd, size)
			defer counted.finish()
			job.Progress = counted.tell
			job.Entries = transfer.Lines(chosen, io.TeeReader(bufio.NewReaderSize(input, 1<<20), counted))
		}
		if job.Progress == nil {
			counted := newProgress(cmd, -1)
			defer counted.finish()
			job.Progress = counted.tell
		}
		if job.Results == "" && !dryRun {
			job.Results = name + ".results.ndjson"
		}
		if job.State == "" && !dryRun {
			job.State = name + ".import-state"
		}
		if restart {
			if err := os.Remove(job.State); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		summary, err := job.Run(cmd.Context())
		if err != nil {
			return err
		}
		return reportImport(cmd, r.json, summary, job.Results)
	}
	return cmd
}

// openInput opens a file, or standard input for "-", and returns its size, -1 when it is not known, and what identifies
// its content.
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, int64, string, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, "standard input", nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, "", err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, "", errors.Join(err, file.Close())
	}
	return file, info.Size(), fmt.Sprintf("%d bytes of %d", info.Size(), info.ModTime().UnixNano()), nil
}

func reportImport(cmd *cobra.Command, asJSON bool, summary transfer.Summary, results string) error {
	var err error
	if asJSON {
		err = printJSON(cmd, summary)
	} else {
		row := []string{}
		for _, count := range []int{summary.Entries, summary.Created, summary.Updated, summary.Unchanged, summary.Failed} {
			row = append(row, strconv.Itoa(count))
		}
		err = printTable(cmd, [][]string{{"ENTRIES", "CREATED", "UPDATED", "UNCHANGED", "FAILED"}, row})
	}
	if err == nil && summary.Failed > 0 {
		err = errSomeFailed
		if results != "" {
			err = fmt.Errorf("%w: %s", err, results)
		}
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

func newProgress(cmd *cobra.Command, size int64) *progress {
	p := &progress{cmd: cmd, size: size}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		p.bar = progressbar.DefaultBytes(size, "importing")
	}
	return p
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
			_, err := c.Export(cmd.Context(), cmd.OutOrStdout())
			return err
		}
		// Only a complete export gets the name.
		file, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+".unfinished-*") // made with mode 0600
		if err != nil {
			return err
		}
		buffered := bufio.NewWriterSize(file, 1<<20)
		lines, err := c.Export(cmd.Context(), buffered)
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
