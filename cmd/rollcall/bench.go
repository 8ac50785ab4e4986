package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/internal/bench"
)

func newBench() *cobra.Command {
	var options bench.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this server on this machine, beside the floors it is compared with",
		Long: "Starts the server as a process of its own on a temporary data directory, and in the same run a bare\n" +
			"net/http JSON echo server, SQLite and (where it is installed) PostgreSQL as floors. Prints rates, latencies, " +
			"the\n" +
			"server's CPU time per operation, memory, and each as a ratio to its floor. The exit code is 1 when a goal is\n" +
			"missed.",
		Example: "  rollcall bench\n  rollcall bench --only sockets --users 15000 --duration 2s --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Progress = cmd.ErrOrStderr()
			rows, err := bench.Run(cmd.Context(), options)
			if err != nil {
				return err
			}
			missed := false
			for _, row := range rows {
				missed = missed || row.Met != nil && !*row.Met
			}
			if asJSON {
				err = printJSON(
					cmd, map[string]any{"machine": bench.Machine(), "go": runtime.Version(), "commit": commit(), "rows": rows},
				)
			} else {
				err = printBench(cmd, rows)
			}
			if err == nil && missed {
				err = bench.ErrMissed
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.IntVar(
		&options.Users, "users", 0, "users in the directory; 0 means 100000; the part large imports ten times as many rows",
	)
	flags.DurationVar(&options.Duration, "duration", 0, "how long each operation is measured; 0 means 5s")
	flags.StringSliceVar(
		&options.Only, "only", nil, "parts to measure, of "+strings.Join(bench.Parts(), ", ")+"; none means all",
	)
	flags.StringArrayVar(
		&options.ServeFlags, "serve-flag", nil, "flag passed on to the server, such as --debug=127.0.0.1:6060",
	)
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(&cobra.Command{
		Use: "echo", Short: "Run the echo server that is the floor", Example: "  rollcall bench echo", Hidden: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.Echo(cmd.Context(), cmd.OutOrStdout()) },
	})
	cmd.AddCommand(&cobra.Command{
		Use: "broadcast", Short: "Run the socket server that is the floor", Example: "  rollcall bench broadcast",
		Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.Broadcast(cmd.Context(), cmd.OutOrStdout()) },
	})
	return cmd
}

func printBench(cmd *cobra.Command, rows []bench.Row) error {
	printf(cmd, "%s, %s, commit %s\n\n", bench.Machine(), runtime.Version(), commit())
	number := func(format string, value float64) string {
		if value == 0 {
			return ""
		}
		return fmt.Sprintf(format, value)
	}
	table := [][]string{
		{"OPERATION", "C", "OPS/S", "P50 MS", "P99 MS", "CPU US/OP", "RSS MB", "VALUE", "RATIO", "GOAL", ""},
	}
	for _, row := range rows {
		met := ""
		if row.Met != nil {
			met = map[bool]string{true: "met", false: "MISSED"}[*row.Met]
		}
		table = append(table, []string{
			row.Operation, number("%.0f", float64(row.Concurrency)), number("%.0f", row.Rate), number("%.2f", row.P50),
			number("%.2f", row.P99),
			number("%.1f", row.CPU), number("%.1f", row.RSS), row.Value, row.Ratio, row.Goal, met,
		})
	}
	return printTable(cmd, table)
}
