package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/secret"
)

// Credentials are what a newcomer needs to call the server: the content of credentials.json.
type Credentials struct {
	AppID            string `json:"appId"`
	RestAPIKey       string `json:"restApiKey"`
	AuthKey          string `json:"authKey"`
	ManagementKey    string `json:"managementKey"`
	ManagementSecret string `json:"managementSecret"`
}

// ReadCredentials reads a credentials file.
func ReadCredentials(path string) (Credentials, error) {
	var credentials Credentials
	text, err := os.ReadFile(path)
	if err != nil {
		return credentials, err
	}
	if err := json.Unmarshal(text, &credentials); err != nil {
		return credentials, fmt.Errorf("read %s: %w", path, err)
	}
	return credentials, nil
}

// readOwnCredentials reads the credentials file of a data directory for the server that writes it. One that others may
// read, or that names no app, is refused.
func readOwnCredentials(path string) (Credentials, error) {
	if err := secret.CheckPrivate(path); err != nil {
		return Credentials{}, err
	}
	credentials, err := ReadCredentials(path)
	if err == nil && credentials.AppID == "" {
		err = fmt.Errorf("read %s: it names no app", path)
	}
	return credentials, err
}

// lostDatabaseError says that the data directory has credentials for an app and that the database has none.
type lostDatabaseError struct{ what, credentials string }

func (e *lostDatabaseError) Error() string {
	return fmt.Sprintf("%s: %s; to begin anew with an empty database, move %s away", e.what, e.advice(), e.credentials)
}

func (e *lostDatabaseError) advice() string {
	return "put the database back from where it went, or from a backup"
}

// findLostDatabase returns an error when SQLite's file is gone from a data directory that a server has used. It is to
// be asked before a new file is made.
func findLostDatabase(config Config) error {
	if config.Database != "" {
		return nil
	}
	path := filepath.Join(config.DataDir, DatabaseFile)
	if info, err := os.Stat(path); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, beside := range []string{filepath.Join(config.DataDir, CredentialsFile), path + "-wal"} {
		if info, err := os.Stat(beside); err == nil && info.Size() > 0 {
			return &lostDatabaseError{path + " is gone, and " + filepath.Base(beside) + " is there", beside}
		}
	}
	return nil
}

// errNoSuchApp says that the database is there and has no app, but that there are credentials for one.
func errNoSuchApp(path string, known Credentials) *lostDatabaseError {
	return &lostDatabaseError{fmt.Sprintf("%s is for app %s, and the database has no app", path, known.AppID), path}
}

// makeFirstApp makes an app when the database has none. Its credentials are written to a file of another name before,
// which gets its own when the app is there: a crash in between leaves nothing that the next start does not finish, and
// credentials.json without an app is another database's. It returns the file's content; empty when somebody has taken
// it away.
func makeFirstApp(
	ctx context.Context, dir *dataDir, d *directory.Directory, keyring *secret.Keyring, wanted directory.NewApp,
) (Credentials, bool, error) {
	path, unfinished := dir.file(CredentialsFile), dir.file(unfinishedFile)
	known, err := readOwnCredentials(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return Credentials{}, false, err
	}
	apps, err := d.ListApps(ctx, "", directory.Page{Size: 1})
	if err != nil {
		return Credentials{}, false, err
	}
	switch {
	case apps.Total == 0 && !missing:
		return Credentials{}, false, errNoSuchApp(path, known)
	case apps.Total > 0 && !missing:
		if updateManagement(&known, keyring) {
			err = writeCredentials(path, known)
		}
		return known, false, err
	}
	begun, err := readOwnCredentials(unfinished)
	isBegun := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, false, err
	}
	if apps.Total > 0 {
		if _, err := d.GetApp(ctx, directory.AppID(begun.AppID)); !isBegun || err != nil {
			return Credentials{}, false, nil //nolint:nilerr // somebody has taken the file away
		}
		return begun, true, os.Rename(unfinished, path)
	}
	if isBegun {
		wanted.ID, wanted.FullAccessKey, wanted.AuthOnlyKey = directory.AppID(begun.AppID), begun.RestAPIKey, begun.AuthKey
	}
	fillIn(&wanted, d)
	known = Credentials{AppID: string(wanted.ID), RestAPIKey: wanted.FullAccessKey, AuthKey: wanted.AuthOnlyKey}
	updateManagement(&known, keyring)
	if err := writeCredentials(unfinished, known); err != nil {
		return Credentials{}, false, err
	}
	if _, err := d.CreateApp(ctx, "system:first-start", wanted); err != nil {
		err = fmt.Errorf("make first app: %w", err)
		if refused, ok := errors.AsType[*directory.Error](err); ok && refused.Code == directory.CodeBadRequest {
			err = errors.Join(err, os.Remove(unfinished)) // they are no good
		}
		return Credentials{}, false, err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return Credentials{}, false, fmt.Errorf("write credentials: %w", err)
	}
	return known, true, nil
}

// fillIn makes up what is not said about the first app.
func fillIn(wanted *directory.NewApp, d *directory.Directory) {
	if wanted.ID == "" {
		wanted.ID = directory.AppID(d.NewAppID())
	}
	if wanted.FullAccessKey == "" {
		wanted.FullAccessKey = d.NewKeyText()
	}
	if wanted.AuthOnlyKey == "" {
		wanted.AuthOnlyKey = d.NewKeyText()
	}
}

// updateManagement brings the management credentials up to the master key, and reports whether they were others.
func updateManagement(known *Credentials, keyring *secret.Keyring) (changed bool) {
	key, managementSecret := keyring.ManagementCredentials()
	changed = known.ManagementKey != key || known.ManagementSecret != managementSecret
	known.ManagementKey, known.ManagementSecret = key, managementSecret
	return changed
}

func writeCredentials(path string, credentials Credentials) error {
	text, err := json.MarshalIndent(credentials, "", "  ") //nolint:gosec // this file is where they belong
	if err == nil {
		err = secret.WritePrivate(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
