package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/internal/server"
)

func newDoctor() *cobra.Command {
	s := &settings{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check configuration, disk, database, clock and certificate",
		Long: "Checks what `rollcall serve` with the same flags, environment and file depends on, and says what to do\n" +
			"about what is wrong. It can run beside the server. The exit code is 1 when there is a problem.",
		Example: "  rollcall doctor\n  rollcall doctor --data /var/lib/rollcall --json",
		Args:    noSettingsAsArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(os.LookupEnv); err != nil {
				return err
			}
			findings := server.Diagnose(cmd.Context(), s.config)
			for _, told := range s.unknown {
				findings = append(findings, server.Finding{
					Check: "environment", Level: "warning", Detail: told.String(),
					Advice: "correct the name, or unset it if it is nobody's",
				})
			}
			if asJSON {
				if err := printJSON(cmd, findings); err != nil {
					return err
				}
			}
			problems := false
			for _, finding := range findings {
				problems = problems || finding.Level == "problem"
				if asJSON {
					continue
				}
				printf(cmd, "%-8s %-12s %s\n", finding.Level, finding.Check, finding.Detail)
				if finding.Advice != "" {
					printf(cmd, "         %-12s -> %s\n", "", finding.Advice)
				}
			}
			if problems {
				return errors.New("there are problems; see above")
			}
			return nil
		},
	}
	s.registerShowing(cmd, "config", "data", "database", "database-direct", "http", "https", "master-key",
		"tls-cert", "tls-key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
