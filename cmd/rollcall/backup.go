package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/internal/server"
)

func newBackup() *cobra.Command {
	s := &settings{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the embedded database while the server runs",
		Long: "Writes the database as it is at one moment to a new file and checks it; the server goes on writing\n" +
			"meanwhile. Without the master key nobody can read the keys and tokens in it: back up DATA/master.key too,\n" +
			"elsewhere. On PostgreSQL use pg_dump.\n\n" +
			"To restore, stop the server, put the file in the place of DATA/rollcall.db, remove rollcall.db-wal and\n" +
			"rollcall.db-shm, and start it. Users deleted permanently since then are deleted again, from\n" +
			"DATA/tombstones.jsonl. In another directory it takes master.key, credentials.json and tombstones.jsonl too:\n" +
			"that of now, not that of the backup, or those users are back. docs/operations.md has all of it.",
		Example: "  rollcall backup /backups/rollcall-$(date +%F).db\n" +
			"  rollcall backup --data /var/lib/rollcall monday.db --json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(os.LookupEnv); err != nil {
				return err
			}
			if s.config.Database != "" {
				return usageError{errors.New("this server's data is in PostgreSQL: back it up with pg_dump")}
			}
			started := time.Now()
			condition, err := server.Backup(cmd.Context(), s.config, args[0])
			if err != nil {
				return err
			}
			info, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			if err := server.NoteBackup(s.config, time.Now(), info.Size()); err != nil { // the backup is good all the same
				fmt.Fprintf(cmd.ErrOrStderr(), "rollcall: %v\n", err)
			}
			if asJSON {
				return printJSON(cmd, map[string]any{
					"file": args[0], "bytes": info.Size(), "apps": condition.Apps, "users": condition.Users,
					"changes": condition.Changes,
					"seconds": time.Since(started).Seconds(),
				})
			}
			printf(
				cmd, "%s: %d bytes, %d apps, %d users, %d changes, checked, in %s\n", args[0], info.Size(), condition.Apps,
				condition.Users, condition.Changes, time.Since(started).Round(time.Millisecond),
			)
			printf(cmd, "%s", besideBackup(s.config))
			return nil
		},
	}
	s.registerShowing(cmd, "config", "data", "database")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// besideBackup names the files that a restored database needs, of those that there are.
func besideBackup(config server.Config) string {
	var files []string
	for _, file := range []string{server.MasterKeyFile, server.CredentialsFile} {
		if path := filepath.Join(config.DataDir, file); fileExists(path) {
			files = append(files, path)
		}
	}
	told := ""
	if len(files) > 0 {
		told = "Keep with it, in another place: " + strings.Join(files, ", ") + ".\n"
	}
	return told + "To restore it elsewhere, take " + filepath.Join(config.DataDir, server.TombstonesFile) +
		" as it is then: without it, who is erased from now on comes back.\n"
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
