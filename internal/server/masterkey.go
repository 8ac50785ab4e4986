package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// loadKeyring returns the keyring of a store's secrets. A master key is made only for a store that has none yet, and
// others than the store's are refused: no key and no token would work.
func loadKeyring(ctx context.Context, config Config, dir *dataDir, store directory.Store) (*secret.Keyring, error) {
	sealed, err := sealedKeys(ctx, store)
	if err != nil {
		return nil, err
	}
	masters, origin, err := readMasterKeys(config)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(sealed) == 0:
		masters = []secret.MasterKey{secret.NewMasterKey()}
		err = secret.WriteFile(dir.file(MasterKeyFile), masters)
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%s: put it back from its backup", missingMasterKey(origin))
	}
	if err != nil {
		return nil, fmt.Errorf("load master key: %w", err)
	}
	keyring, err := secret.NewKeyring(masters...)
	if err == nil && isForeign(keyring, sealed) {
		err = fmt.Errorf("load master key: %s", foreignMasterKey(origin))
	}
	return keyring, err
}

// readMasterKeys returns the configured master keys, and where they come from, in words.
func readMasterKeys(config Config) (masters []secret.MasterKey, origin string, err error) {
	if config.MasterKey != "" {
		masters, err = secret.ParseMasterKeys(config.MasterKey)
		return masters, "--master-key", err
	}
	origin = filepath.Join(config.DataDir, MasterKeyFile)
	masters, err = secret.ReadFile(origin)
	return masters, origin, err
}

func missingMasterKey(path string) string {
	return path + " is gone, and without it no key and no token in the database works"
}

func foreignMasterKey(origin string) string {
	return origin + " is not the master key of this database: no key and no token in it would work"
}

// isForeign reports whether a keyring has the master key of none of the secrets, of which there are some.
func isForeign(keyring *secret.Keyring, sealed [][]byte) bool {
	return len(sealed) > 0 && !slices.ContainsFunc(sealed, keyring.Knows)
}

// sealedKeys returns the API keys of a store as they are encrypted.
func sealedKeys(ctx context.Context, store directory.Store) (sealed [][]byte, err error) {
	err = store.View(ctx, func(tx directory.Reader) error {
		sealed = nil
		apps, err := tx.Apps()
		if err != nil {
			return err
		}
		for _, app := range apps {
			keys, err := tx.Keys(app.ID)
			if err != nil {
				return err
			}
			for _, key := range keys {
				sealed = append(sealed, key.Sealed)
			}
		}
		return nil
	})
	return sealed, err
}

// readSealedKeys is sealedKeys for a database that a server may be using. There may be none yet.
func readSealedKeys(ctx context.Context, config Config) ([][]byte, error) {
	if config.Database != "" {
		return sqlstore.SealedKeysInPostgres(ctx, config.Database)
	}
	if lost := lostUnderServer(config); lost != "" {
		return nil, errors.New(lost)
	}
	sealed, err := sqlstore.SealedKeysInSQLite(filepath.Join(config.DataDir, DatabaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return sealed, err
}

// PruneMasterKeys removes all master keys but the current one from the data directory, and returns how many there were.
// It refuses to while an API key in the database is encrypted under another.
func PruneMasterKeys(ctx context.Context, config Config) (removed int, err error) {
	path := filepath.Join(config.DataDir, MasterKeyFile)
	masters, err := secret.ReadFile(path)
	if err != nil {
		return 0, err
	}
	current, err := secret.NewKeyring(masters[0])
	if err != nil {
		return 0, err
	}
	sealed, err := readSealedKeys(ctx, config)
	if err != nil {
		return 0, err
	}
	for _, key := range sealed {
		if !current.Knows(key) {
			return 0, errors.New("the database still needs an older master key: start the server, " +
				"and wait until its log says that everything is encrypted under the current one")
		}
	}
	return len(masters) - 1, secret.WriteFile(path, masters[:1])
}
