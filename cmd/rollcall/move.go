package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// moveCommand is one run of `rollcall move`.
type moveCommand struct {
	settings
	to                          string
	switchNow, dryRun, isToJSON bool
	cmd                         *cobra.Command
}

func newMove() *cobra.Command {
	m := &moveCommand{}
	m.cmd = &cobra.Command{
		Use:   "move",
		Short: "Move the data from SQLite to PostgreSQL, or back, while the server runs",
		Long: "Copies the whole database of a server to another one: users, keys, tokens, relations, the change log and\n" +
			"all else. Nobody is logged out, and readers of the change log go on where they are. The server serves\n" +
			"meanwhile, and what changes is copied after.\n\n" +
			"Then comes the switch, with --switch or after a question on a terminal: the running server refuses writes with\n" +
			"status 503, what it was given last is copied, and every table of both sides is compared. Start the server on\n" +
			"the target then, as this command says. Without the switch nothing changes for the server, and the command\n" +
			"goes on where it was when it is run again. So it does after it was interrupted or killed.\n\n" +
			"The target is an empty PostgreSQL database, or a directory without a rollcall.db. A new directory is given the\n" +
			"master key, the credentials and the certificates as well. --to can also be given in ROLLCALL_TO, or in a file\n" +
			"that ROLLCALL_TO_FILE names.",
		Example: "  rollcall move --data /var/lib/rollcall --to postgres://rollcall@db.example.com/rollcall --dry-run\n" +
			"  rollcall move --data /var/lib/rollcall --to postgres://rollcall@db.example.com/rollcall --switch\n" +
			"  rollcall move --database postgres://rollcall@db.example.com/rollcall --data ./data --to ./data",
		Args: noSettingsAsArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := m.load(os.LookupEnv); err != nil {
				return err
			}
			if m.to == "" {
				return usageError{errors.New("--to must name the target: a postgres:// URL, or a data directory")}
			}
			syscall.Umask(0o077) // whatever is written is for the user who runs the server
			if m.dryRun {
				return m.plan()
			}
			return m.run()
		},
	}
	flags := m.cmd.Flags()
	m.registerShowing(m.cmd, "config", "data", "database", "database-direct", "master-key")
	flags.StringVar(&m.to, "to", "", "target: the postgres:// URL of an empty database, or a data directory for SQLite")
	flags.BoolVar(&m.switchNow, "switch", false, "switch without asking, when all is copied")
	flags.BoolVar(&m.dryRun, "dry-run", false, "check both sides and count what there is, and change nothing")
	flags.BoolVar(&m.isToJSON, "json", false, "print JSON")
	return m.cmd
}

// plan says what a move would do.
func (m *moveCommand) plan() error {
	plan, err := server.PlanMove(m.cmd.Context(), m.config, m.to)
	if err != nil {
		return err
	}
	if m.isToJSON {
		return printJSON(m.cmd, map[string]any{"rows": plan.Rows, "apps": plan.Apps, "goesOn": plan.GoesOn})
	}
	rows := [][]string{{"TABLE", "ROWS"}}
	for _, table := range slices.Sorted(maps.Keys(plan.Rows)) {
		rows = append(rows, []string{table, strconv.FormatInt(plan.Rows[table], 10)})
	}
	if err := printTable(m.cmd, rows); err != nil {
		return err
	}
	begins := "The target is empty: a move would copy all of this."
	if plan.GoesOn {
		begins = "The target holds a part of this already: a move would go on."
	}
	printf(m.cmd, "%s Nothing was changed.\n", begins)
	return nil
}

// moveResult is what --json prints of a move.
type moveResult struct {
	Switched bool                  `json:"switched"`
	Seconds  float64               `json:"seconds"`
	Refused  float64               `json:"secondsWithoutWrites"`
	Tables   []sqlstore.MovedTable `json:"tables"`
}

func (m *moveCommand) run() (err error) {
	began := time.Now()
	telling := newMoveTelling(m.cmd)
	ctx := m.cmd.Context()
	move, err := server.OpenMove(ctx, m.config, m.to, telling.tell)
	if sqlstore.IsMoveDone(err) {
		printf(m.cmd, "%v. Start the server on it.\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, move.Close()) }()
	telling.begins(move)
	if err := move.CatchUp(ctx); err != nil {
		return notSwitched(move, err)
	}
	if !move.Sealed && !m.switchNow {
		if !m.confirmed() {
			return m.reportCopied(move, time.Since(began))
		}
		if err := move.CatchUp(ctx); err != nil { // what came while the question was open
			return notSwitched(move, err)
		}
	}
	if err := move.Switch(ctx); err != nil {
		return notSwitched(move, err)
	}
	if m.isToJSON {
		return printJSON(m.cmd, moveResult{true, time.Since(began).Seconds(), move.Refused.Seconds(), move.Sums()})
	}
	return m.report(move, time.Since(began))
}

// reportCopied says that the move is not over.
func (m *moveCommand) reportCopied(move *server.Move, took time.Duration) error {
	if m.isToJSON {
		return printJSON(m.cmd, moveResult{Seconds: took.Seconds(), Tables: move.Sums()})
	}
	printf(m.cmd, "All is copied to %s, and nothing is switched: the server goes on as before.\n"+
		"Run the command again with --switch to catch up and to switch.\n", move.Database())
	return nil
}

// notSwitched says what a move that failed has left behind.
func notSwitched(move *server.Move, err error) error {
	if move.Sealed {
		return fmt.Errorf("%w. The source takes no writes any more: run the command again to finish", err)
	}
	return fmt.Errorf("%w. Nothing is switched: the source serves as before, and the command can be run again", err)
}

// confirmed asks on a terminal whether to switch.
func (m *moveCommand) confirmed() bool {
	if m.isToJSON || !isatty.IsTerminal(os.Stdin.Fd()) || !isatty.IsTerminal(os.Stderr.Fd()) {
		return false
	}
	fmt.Fprint(m.cmd.ErrOrStderr(), "All is copied. Switch now? The running server refuses writes from then on. [y/N] ")
	answer, _ := bufio.NewReader(m.cmd.InOrStdin()).ReadString('\n') // no answer is no
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}

// report shows what was compared, and says how to go on.
func (m *moveCommand) report(move *server.Move, took time.Duration) error {
	rows := [][]string{{"TABLE", "APP", "ROWS", "SOURCE", "TARGET"}}
	var total int64
	for _, sum := range move.Sums() {
		rows = append(rows, []string{
			sum.Table, sum.App, strconv.FormatInt(sum.Target.Rows, 10), sum.Source.Checksum, sum.Target.Checksum,
		})
		total += sum.Target.Rows
	}
	if err := printTable(m.cmd, rows); err != nil {
		return err
	}
	printf(m.cmd, "\n%d rows are in %s, each compared with the source, in %s; writes were refused for %s so far.\n",
		total, move.Database(), took.Round(time.Millisecond), move.Refused.Round(time.Millisecond))
	if move.SourceRuns() {
		printf(m.cmd, "The server on the source answers reads, and refuses writes. Stop it now, and start:\n\n")
	} else {
		printf(m.cmd, "Start the server on the target:\n\n")
	}
	database, which := "", "without --database"
	if move.ToPostgres() {
		database, which = " --database URL", "with the URL that was given to --to"
	}
	printf(m.cmd, "  rollcall serve --data %s%s\n\n%s, and with all other options as before.\n",
		inQuotes(move.DataDir()), database, which)
	return nil
}

// moveTelling tells how far a move is: as a bar on a terminal, else in lines.
type moveTelling struct {
	cmd      *cobra.Command
	terminal bool
	bar      *progressbar.ProgressBar
	table    string
	told     time.Time
}

// tellMoveEvery is how much time lies between two lines about the same round, at least.
const tellMoveEvery = 2 * time.Second

func newMoveTelling(cmd *cobra.Command) *moveTelling {
	return &moveTelling{cmd: cmd, terminal: term.IsTerminal(int(os.Stderr.Fd())), told: time.Now()}
}

// line tells something that stays.
func (t *moveTelling) line(format string, args ...any) {
	t.endBar()
	fmt.Fprintf(t.cmd.ErrOrStderr(), format+"\n", args...)
}

func (t *moveTelling) endBar() {
	if t.bar != nil {
		_ = t.bar.Clear() // only looks depend on it
		t.bar = nil
	}
}

func (t *moveTelling) begins(move *server.Move) {
	begun := move.Begun.UTC().Format(time.DateTime)
	switch {
	case move.Sealed:
		t.line("goes on with a move that was cut off when it had switched: it compares all and makes the target ready")
	case move.GoesOn:
		t.line("goes on with the move that began on %s: what is there is compared, and the rest is copied", begun)
	default:
		t.line("copies to %s", move.Database())
	}
}

func (t *moveTelling) tell(p sqlstore.MoveProgress) {
	if p.Fenced {
		t.line("switching: writes are refused from now on")
		return
	}
	if p.RoundDone {
		t.line("round %d: %d rows were written or deleted in the target", p.Round, p.Changed)
		return
	}
	if !t.terminal {
		if time.Since(t.told) >= tellMoveEvery {
			t.told = time.Now()
			t.line("round %d: %s, %d rows of some %d", p.Round, p.Table, p.Rows, p.Of)
		}
		return
	}
	if t.bar == nil || t.table != p.Table {
		t.endBar()
		if p.Of == 0 {
			return
		}
		t.bar, t.table = progressbar.Default(p.Of, p.Table), p.Table
	}
	_ = t.bar.Set64(min(p.Rows, p.Of)) // only looks depend on it
}
