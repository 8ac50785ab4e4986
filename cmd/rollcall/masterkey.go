package main

import (
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/server"
)

func newMasterKey() *cobra.Command {
	cmd := &cobra.Command{
		Use: "master-key", Args: cobra.NoArgs, RunE: showHelp,
		Short: "Rotate the key that protects keys and tokens at rest",
		Long: "Rotation takes three steps: `rotate` puts a new key in front of DATA/master.key, a restart of the server\n" +
			"encrypts everything under it while it serves, and `prune` removes the old ones when the log says that this\n" +
			"is done. The management credentials come from the master key: a restart writes the new ones to\n" +
			"credentials.json.",
		Example: "  rollcall master-key rotate --data /var/lib/rollcall\n" +
			"  rollcall master-key prune --data /var/lib/rollcall",
	}
	var data string
	cmd.PersistentFlags().StringVar(&data, "data", envOr("ROLLCALL_DATA", "./data"), "data directory (ROLLCALL_DATA)")

	rotate := &cobra.Command{
		Use: "rotate", Short: "Put a new master key in front of the present ones", Example: "  rollcall master-key rotate",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := filepath.Join(data, server.MasterKeyFile)
			masters, err := secret.ReadFile(path)
			if err != nil {
				return err
			}
			if err := secret.WriteFile(path, append([]secret.MasterKey{secret.NewMasterKey()}, masters...)); err != nil {
				return err
			}
			printf(cmd, "%s has a new current key. Restart the server; it encrypts everything under the new key.\n", path)
			return nil
		},
	}

	var sure bool
	var database string
	prune := &cobra.Command{
		Use: "prune", Short: "Remove all master keys but the current one", Example: "  rollcall master-key prune --yes",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !sure {
				return usageError{errors.New("what is still encrypted under an old key is lost by this: " +
					"when the server's log says that everything is under the current one, add --yes")}
			}
			removed, err := server.PruneMasterKeys(cmd.Context(), server.Config{DataDir: data, Database: database})
			if err != nil {
				return err
			}
			printf(cmd, "%s holds the current key alone; %d removed.\n", filepath.Join(data, server.MasterKeyFile), removed)
			return nil
		},
	}
	prune.Flags().StringVar(
		&database, "database", envOr("ROLLCALL_DATABASE", ""),
		"postgres:// URL; empty means SQLite in the data directory (ROLLCALL_DATABASE)",
	)
	prune.Flags().BoolVar(&sure, "yes", false, "say that everything is encrypted under the current key")
	cmd.AddCommand(rotate, prune)
	return cmd
}
