package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// lostKeys names the keys of a credentials file that are not accepted any more, and says how to mend it.
type lostKeys struct {
	path string
	// fields are those of the file that hold such keys, and scopes what the keys could do.
	fields, scopes []string
}

// findLostKeys asks of each key in a credentials file whether it is accepted.
func findLostKeys(path string, known Credentials, accepted func(key string) (bool, error)) (lostKeys, error) {
	lost := lostKeys{path: path}
	for _, key := range []struct {
		field, text string
		scope       directory.Scope
	}{
		{"restApiKey", known.RestAPIKey, directory.FullAccess}, {"authKey", known.AuthKey, directory.AuthOnly},
	} {
		if key.text == "" {
			continue
		}
		good, err := accepted(key.text)
		if err != nil {
			return lostKeys{}, err
		}
		if !good {
			lost.fields, lost.scopes = append(lost.fields, key.field), append(lost.scopes, string(key.scope))
		}
	}
	return lost, nil
}

// what says what is wrong, empty for nothing.
func (l lostKeys) what() string {
	if len(l.fields) == 0 {
		return ""
	}
	are, keyWas := "is", "key was deleted, or has"
	if len(l.fields) > 1 {
		are, keyWas = "are", "keys were deleted, or have"
	}
	fields := strings.Join(l.fields, " and ")
	return fmt.Sprintf("%s of %s %s not accepted any more: the %s expired", fields, l.path, are, keyWas)
}

// advice says how to mend it.
func (l lostKeys) advice() string {
	commands := make([]string, len(l.scopes))
	for i, scope := range l.scopes {
		commands[i] = fmt.Sprintf("`rollcall keys rotate --scope %s --data %s`", scope, filepath.Dir(l.path))
	}
	if len(commands) > 1 {
		return strings.Join(commands, " and ") + " make new keys and write them there"
	}
	return commands[0] + " makes a new key and writes it there"
}

// lostKeysOf looks for keys of the credentials file that the directory does not accept.
func lostKeysOf(ctx context.Context, d *directory.Directory, path string, known Credentials) (lostKeys, error) {
	caller := directory.System(directory.AppID(known.AppID), "start")
	if _, err := d.GetApp(ctx, caller.App); directory.IsCode(err, directory.CodeAppNotFound) {
		return lostKeys{}, nil // it is another database's, or the app was deleted
	}
	return findLostKeys(path, known, func(key string) (bool, error) {
		_, err := d.GetKey(ctx, caller, key)
		if directory.IsCode(err, directory.CodeKeyNotFound) {
			return false, nil
		}
		return true, err
	})
}

// lostKeysIn is lostKeysOf for a database that a server may be using.
func lostKeysIn(ctx context.Context, config Config, path string, known Credentials) (lostKeys, error) {
	masters, _, err := readMasterKeys(config)
	if err != nil {
		return lostKeys{}, err
	}
	keyring, err := secret.NewKeyring(masters...)
	if err != nil {
		return lostKeys{}, err
	}
	var stored []sqlstore.StoredKey
	if config.Database != "" {
		stored, err = sqlstore.KeysInPostgres(ctx, config.Database)
	} else if lost := lostUnderServer(config); lost != "" {
		err = errors.New(lost)
	} else {
		stored, err = sqlstore.KeysInSQLite(filepath.Join(config.DataDir, DatabaseFile))
	}
	if err != nil {
		return lostKeys{}, err
	}
	now := config.OrDefault().Now().Unix()
	return findLostKeys(path, known, func(key string) (bool, error) {
		hashes := keyring.Hashes(key)
		return slices.ContainsFunc(stored, func(s sqlstore.StoredKey) bool {
			isIt := slices.ContainsFunc(hashes, func(hash []byte) bool { return string(hash) == string(s.Hash) })
			return isIt && s.App == known.AppID && (s.ExpiresAt == 0 || s.ExpiresAt > now)
		}), nil
	})
}

// AddKey puts an API key of a scope into the credentials file of an app, which has none of it or is gone. known is what
// the file is to hold besides.
func AddKey(path string, known Credentials, scope directory.Scope, key string) error {
	if scope == directory.AuthOnly {
		known.AuthKey = key
	} else {
		known.RestAPIKey = key
	}
	return writeCredentials(path, known)
}

// ReplaceKey puts an API key in the place of another in a credentials file, durably and in one step. It reports false
// when the file does not hold the other.
func ReplaceKey(path, replaced, key string) (bool, error) {
	known, err := readOwnCredentials(path)
	if err != nil {
		return false, err
	}
	switch replaced {
	case known.RestAPIKey:
		known.RestAPIKey = key
	case known.AuthKey:
		known.AuthKey = key
	default:
		return false, nil
	}
	return true, writeCredentials(path, known)
}
