package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// movedFiles are the files and folders of a data directory that belong to the data, wherever its database is.
var movedFiles = []string{MasterKeyFile, CredentialsFile, TombstonesFile, tlsFolder, acmeFolder}

// Move copies the data that a configuration names to another database, beside the server that uses it.
type Move struct {
	*sqlstore.Move
	places movePlaces
	// lock holds a data directory that is made for the target. Nil when there is none.
	lock *dataDir
}

// movePlaces are both sides of a move.
type movePlaces struct {
	from, to sqlstore.MovePlace
	// dataDir is the directory that the server has now, and newDataDir the one that it has after the move: most often the
	// same.
	dataDir, newDataDir string
}

// placesOf reads what `to` means: the URL of a PostgreSQL database, or else a data directory.
func placesOf(config Config, to string) (p movePlaces, err error) {
	if p.dataDir, err = filepath.Abs(config.DataDir); err != nil {
		return p, err
	}
	if info, err := os.Stat(p.dataDir); err != nil || !info.IsDir() {
		return p, fmt.Errorf("%s is not the data directory of a server", p.dataDir)
	}
	p.newDataDir = p.dataDir
	p.from = sqlstore.MovePlace{URL: config.Database}
	if p.from.URL == "" {
		p.from.Path = filepath.Join(p.dataDir, DatabaseFile)
	}
	switch {
	case strings.Contains(to, "://"):
		if err := sqlstore.CheckPostgresURL(to); err != nil {
			return p, fmt.Errorf("--to: %w", err)
		}
		p.to.URL = to
	case p.from.URL == "":
		return p, errors.New("both sides are SQLite: to have the data elsewhere, copy the directory of a server that is " +
			"stopped, or use `rollcall backup`")
	default:
		if p.newDataDir, err = filepath.Abs(to); err != nil {
			return p, err
		}
		p.to.Path = filepath.Join(p.newDataDir, DatabaseFile)
	}
	if p.from == p.to {
		return p, errors.New("source and target are the same database")
	}
	if p.from.URL == "" {
		if _, err := os.Stat(p.from.Path); err != nil {
			return p, fmt.Errorf("find database: %w", err)
		}
	}
	return p, p.checkMasterKey()
}

// isNewDir reports whether the server has another data directory after the move.
func (p movePlaces) isNewDir() bool {
	before, err := os.Stat(p.dataDir)
	after, errAfter := os.Stat(p.newDataDir)
	return err != nil || errAfter != nil || !os.SameFile(before, after)
}

// checkMasterKey fails when the directory of the target has a master key already that is another one.
func (p movePlaces) checkMasterKey() error {
	there, err := os.ReadFile(filepath.Join(p.newDataDir, MasterKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	here, errHere := os.ReadFile(filepath.Join(p.dataDir, MasterKeyFile))
	if err == nil && (errHere != nil || string(here) != string(there)) {
		err = fmt.Errorf("%s has a master key of its own, which cannot open this data: give an empty directory", p.newDataDir)
	}
	return err
}

// PlanMove checks whether the data could be moved, and counts what there is. It changes nothing.
func PlanMove(ctx context.Context, config Config, to string) (plan sqlstore.MovePlan, err error) {
	p, err := placesOf(config, to)
	if err != nil {
		return plan, err
	}
	if lost := lostUnderServer(config); lost != "" {
		return plan, errors.New(lost)
	}
	return sqlstore.PlanMove(ctx, p.from, p.to)
}

// OpenMove begins to move the data to a PostgreSQL database, given by its URL, or to a data directory, or goes on with
// such a move. tell is called with how far it is. The caller closes it.
func OpenMove(ctx context.Context, config Config, to string, tell func(sqlstore.MoveProgress)) (_ *Move, err error) {
	m := &Move{}
	if m.places, err = placesOf(config, to); err != nil {
		return nil, err
	}
	if lost := lostUnderServer(config); lost != "" {
		return nil, errors.New(lost)
	}
	if m.places.isNewDir() {
		if m.lock, err = openDataDir(m.places.newDataDir); err != nil {
			return nil, err
		}
	}
	if m.Move, err = sqlstore.OpenMove(ctx, m.places.from, m.places.to, tell); err != nil {
		return nil, errors.Join(err, m.Close()) //nolint:contextcheck // what is held is given up also when ctx has ended
	}
	return m, nil
}

// Switch ends the move. After it the data is in the target alone.
func (m *Move) Switch(ctx context.Context) error { return m.Move.Switch(ctx, m.copyFiles) }

// copyFiles gives the directory of the target the files that are not in the database.
func (m *Move) copyFiles() error {
	if m.lock == nil {
		return nil
	}
	for _, name := range movedFiles {
		if err := copyPrivate(filepath.Join(m.places.dataDir, name), filepath.Join(m.places.newDataDir, name)); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// copyPrivate copies a file, or a folder with everything in it. One that is not there is left out.
func copyPrivate(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, inside), 0o700)
		}
		content, err := os.ReadFile(path) //nolint:gosec // what is in the data directory is the operator's
		if err != nil {
			return err
		}
		return secret.WritePrivate(filepath.Join(to, inside), content)
	})
}

// DataDir returns the directory that the server has after the move, and Database where the data is then, without a
// password.
func (m *Move) DataDir() string  { return m.places.newDataDir }
func (m *Move) Database() string { return m.places.to.String() }

// ToPostgres reports whether the data goes to PostgreSQL.
func (m *Move) ToPostgres() bool { return m.places.to.URL != "" }

// SourceRuns reports whether a server uses the data directory.
func (m *Move) SourceRuns() bool { return isHeld(m.places.dataDir) }

// Close gives up what the move holds. What was copied is kept.
func (m *Move) Close() error {
	var failures []error
	if m.Move != nil {
		failures = append(failures, m.Move.Close())
	}
	if m.lock != nil {
		failures = append(failures, m.lock.release())
	}
	return errors.Join(failures...)
}
