// Command rollcall is the server and everything an operator does with it. This package holds flags, environment and
// words for people; the work is done in the packages it calls.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes that scripts can use.
const (
	exitFailed = 1 // what was asked for could not be done
	exitUsage  = 2 // the command line makes no sense
	exitPartly = 3 // some of it was done, and some could not be
)

// usageError marks a command line that makes no sense.
type usageError struct{ error }

// version is set when a release is built.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	root := newRoot()
	ctx, stop := signal.NotifyContext(context.Background(), interruptions(root, os.Args[1:])...)
	defer stop()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	words := newAsyncWriter(os.Stderr) // which may be a pipe that nobody reads
	fmt.Fprintf(words, "rollcall: %v\n", err)
	words.Close()
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if outcome, ok := errors.AsType[outcomeError](err); ok {
		return outcome.code
	}
	return exitFailed
}

// interruptions are the signals on which the command that args name finishes what it does. A terminal that closes is
// one, unless the command was started to outlive it, or does something else then.
func interruptions(root *cobra.Command, args []string) []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	reloads := false
	if cmd, _, err := root.Find(args); err == nil {
		_, reloads = cmd.Annotations[reloadsOnHangup]
	}
	if !reloads && !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "rollcall",
		Short: "Users, authentication and presence for chat apps, on your own machine",
		Long: "Rollcall is the layer under a chat app's messages: who the users are, who may log in as whom, and who is\n" +
			"online. It speaks CometChat's v3 user API and works with its JavaScript SDK.",
		Example:       "  rollcall serve --data ./data\n  rollcall dev\n  rollcall users create ada --name Ada",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          showHelp,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", inWords(err), cmd.CommandPath())}
	})
	root.AddCommand(
		newServe(), newDev(), newApps(), newKeys(), newUsers(), newPresence(), newExplain(), newBlocks(), newChanges(),
		newImport(),
		newExport(), newBackup(), newMove(), newDoctor(), newConfig(), newMasterKey(), newBench(), newVersion(),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	markUsageErrors(root)
	return root
}

// showHelp is what a command does that only holds others.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// markUsageErrors makes wrong arguments, like wrong flags, end with exitUsage.
func markUsageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		markUsageErrors(child)
	}
}
