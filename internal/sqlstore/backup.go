package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Condition is what an inspection of a database found.
type Condition struct {
	// Version is the schema version, LatestVersion the one this program needs.
	Version, LatestVersion int64
	// Problems are what the integrity check reported; none means that the database is sound.
	Problems []string
	// Apps, Users and Changes count rows.
	Apps, Users, Changes int64
}

var inspectorPragmas = []string{"busy_timeout(10000)", "query_only(on)"}

// openInspector opens the database file at path to look at it. It makes none.
func openInspector(path string) (*connection, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	if err := checkLogOf(path); err != nil {
		return nil, err
	}
	return openConnection(path, inspectorPragmas)
}

// InspectSQLite checks the database file at path, also while a server is using it.
func InspectSQLite(ctx context.Context, path string) (condition Condition, err error) {
	conn, err := openInspector(path)
	if err != nil {
		return condition, err
	}
	defer func() { err = damageOf(path, errors.Join(err, conn.close())) }()
	defer conn.conn.SetInterrupt(conn.conn.SetInterrupt(ctx))
	condition.LatestVersion = latestVersion
	err = conn.query(`PRAGMA quick_check(20)`, nil, func(r row) error {
		if problem := r.text(0); problem != "ok" {
			condition.Problems = append(condition.Problems, problem)
		}
		return nil
	})
	if err != nil {
		return condition, err
	}
	if condition.Version, err = conn.schemaVersion(); err != nil || condition.Version == 0 {
		return condition, err
	}
	for table, count := range map[string]*int64{
		"apps": &condition.Apps, "users": &condition.Users, "changes": &condition.Changes,
	} {
		err := conn.query(`SELECT count(*) FROM `+table, nil, func(r row) error {
			*count = r.integer(0)
			return nil
		})
		if err != nil {
			return condition, err
		}
	}
	return condition, nil
}

const (
	readSealed     = `SELECT sealed FROM api_keys`
	readAppIDs     = `SELECT app FROM apps`
	countUsers     = `SELECT count(*) FROM users`
	readStoredKeys = `SELECT app, hash, expires_at FROM api_keys`
)

// SealedKeysInSQLite returns the API keys in the database file at path as they are encrypted, also while a server is
// using it.
func SealedKeysInSQLite(path string) ([][]byte, error) {
	return columnInSQLite(path, readSealed, func(r row) []byte { return r.blob(0) })
}

// AppsInSQLite returns the ids of the apps in the database file at path, also while a server is using it.
func AppsInSQLite(path string) ([]string, error) {
	return columnInSQLite(path, readAppIDs, func(r row) string { return r.text(0) })
}

// StoredKey is what is stored of an API key to recognize it.
type StoredKey struct {
	App       string
	Hash      []byte
	ExpiresAt int64
}

// KeysInSQLite returns the API keys in the database file at path, also while a server is using it.
func KeysInSQLite(path string) ([]StoredKey, error) {
	return columnInSQLite(path, readStoredKeys, func(r row) StoredKey {
		return StoredKey{r.text(0), r.blob(1), r.integer(2)}
	})
}

// UsersInSQLite counts the users of all apps in the database file at path, also while a server is using it.
func UsersInSQLite(path string) (int64, error) {
	counts, err := columnInSQLite(path, countUsers, func(r row) int64 { return r.integer(0) })
	if err != nil || len(counts) == 0 {
		return 0, err
	}
	return counts[0], nil
}

// columnInSQLite reads one column of a database file. One without a schema has none.
func columnInSQLite[T any](path, question string, read func(row) T) (column []T, err error) {
	conn, err := openInspector(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	if version, err := conn.schemaVersion(); err != nil || version == 0 {
		return nil, err
	}
	err = conn.query(question, nil, func(r row) error {
		column = append(column, read(r))
		return nil
	})
	return column, err
}

// BackupSQLite writes a copy of the database file at path, as it is at one moment, to a new file, also while a server
// is writing. It checks the copy and returns what is in it. target must not exist.
func BackupSQLite(ctx context.Context, path, target string) (condition Condition, err error) {
	if _, err := os.Stat(target); err == nil {
		return condition, fmt.Errorf("%s exists already; give a new name", target)
	}
	if _, err := os.Stat(path); err != nil {
		return condition, fmt.Errorf("find database: %w", err)
	}
	// What SQLite puts beside the copy while it writes and checks it is as private as the copy, and goes with the folder.
	folder, err := os.MkdirTemp(filepath.Dir(target), "."+filepath.Base(target)+".unfinished-*") // made with mode 0700
	if err != nil {
		return condition, fmt.Errorf("write backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	unfinished := filepath.Join(folder, "copy")
	if err := copyInto(ctx, path, unfinished); err != nil {
		return condition, err
	}
	if condition, err = InspectSQLite(ctx, unfinished); err != nil {
		return condition, fmt.Errorf("check backup: %w", err)
	}
	if len(condition.Problems) > 0 {
		return condition, fmt.Errorf("the backup is damaged: %s", condition.Problems[0])
	}
	if err := os.Rename(unfinished, target); err != nil {
		return condition, err
	}
	return condition, syncDirectory(filepath.Dir(target))
}

// syncDirectory makes the names in a directory survive a power loss.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func copyInto(ctx context.Context, path, target string) (err error) {
	// Made here so that nobody else can ever read it.
	file, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := checkLogOf(path); err != nil {
		return err
	}
	conn, err := openConnection(path, inspectorPragmas[:1])
	if err != nil {
		return err
	}
	defer func() { err = damageOf(path, errors.Join(err, conn.close())) }()
	defer conn.conn.SetInterrupt(conn.conn.SetInterrupt(ctx))
	if err := conn.exec(`VACUUM INTO $1`, target); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return file.Sync()
}
