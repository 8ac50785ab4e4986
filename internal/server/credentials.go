package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

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

// makeFirstApp makes an app when the database has none, with the credentials that it has written to the data
// directory before: a crash in between leaves nothing that the next start does not finish. It returns the credentials
// file's content; empty when somebody has taken the file away.
func makeFirstApp(ctx context.Context, dir *dataDir, d *directory.Directory, keyring *secret.Keyring, wanted directory.NewApp) (Credentials, bool, error) {
	path := dir.file(CredentialsFile)
	known, err := ReadCredentials(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return Credentials{}, false, err
	}
	apps, err := d.ListApps(ctx, "", directory.Page{Size: 1})
	if err != nil {
		return Credentials{}, false, err
	}
	if apps.Total > 0 && missing {
		return Credentials{}, false, nil
	}
	changed := missing
	if missing {
		if wanted.ID == "" {
			wanted.ID = directory.AppID(d.NewAppID())
		}
		if wanted.FullAccessKey == "" {
			wanted.FullAccessKey = d.NewKeyText()
		}
		if wanted.AuthOnlyKey == "" {
			wanted.AuthOnlyKey = d.NewKeyText()
		}
		known = Credentials{AppID: string(wanted.ID), RestAPIKey: wanted.FullAccessKey, AuthKey: wanted.AuthOnlyKey}
	} else {
		wanted.ID, wanted.FullAccessKey, wanted.AuthOnlyKey = directory.AppID(known.AppID), known.RestAPIKey, known.AuthKey
	}
	key, managementSecret := keyring.ManagementCredentials()
	if known.ManagementKey != key || known.ManagementSecret != managementSecret {
		known.ManagementKey, known.ManagementSecret, changed = key, managementSecret, true
	}
	if changed {
		text, err := json.MarshalIndent(known, "", "  ") //nolint:gosec // this file is where they belong
		if err != nil {
			return Credentials{}, false, fmt.Errorf("write credentials: %w", err)
		}
		if err := secret.WritePrivate(path, append(text, '\n')); err != nil {
			return Credentials{}, false, fmt.Errorf("write credentials: %w", err)
		}
	}
	if apps.Total > 0 {
		return known, false, nil
	}
	if _, err := d.CreateApp(ctx, "system:first-start", wanted); err != nil {
		return Credentials{}, false, fmt.Errorf("make first app: %w", err)
	}
	return known, true, nil
}
