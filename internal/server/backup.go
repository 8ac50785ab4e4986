package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// Backup writes a copy of the embedded database to a new file, also while a server is writing, and returns what is in
// it.
func Backup(ctx context.Context, config Config, target string) (sqlstore.Condition, error) {
	if lost := lostUnderServer(config); lost != "" {
		return sqlstore.Condition{}, errors.New(lost)
	}
	return sqlstore.BackupSQLite(ctx, filepath.Join(config.DataDir, DatabaseFile), target)
}

// backupNote is the content of the file that says when the database was backed up last.
type backupNote struct {
	At    time.Time `json:"at"`
	Bytes int64     `json:"bytes"`
}

// NoteBackup notes in the data directory that a backup of so many bytes has succeeded at a time, for /metrics.
func NoteBackup(config Config, at time.Time, bytes int64) error {
	text, err := json.Marshal(backupNote{at.UTC().Truncate(time.Second), bytes})
	if err == nil {
		err = secret.WritePrivate(filepath.Join(config.DataDir, backupNoteFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note the backup for /metrics: %w", err)
	}
	return nil
}

// readBackupNote returns the note of the last backup. It is false when there is none that can be read.
func readBackupNote(dataDir string) (note backupNote, ok bool) {
	text, err := os.ReadFile(filepath.Join(dataDir, backupNoteFile))
	if err != nil || json.Unmarshal(text, &note) != nil {
		return backupNote{}, false
	}
	return note, true
}
