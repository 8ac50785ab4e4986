package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// latestVersion is the number of the newest migration in migrations/: the schema that this program needs.
const latestVersion = 10

// dialect is what differs between the engines when they are migrated.
type dialect struct {
	goose  goose.Dialect
	folder string
}

var (
	sqliteDialect   = dialect{goose.DialectSQLite3, "migrations/sqlite"}
	postgresDialect = dialect{goose.DialectPostgres, "migrations/postgres"}
)

// NewerDatabaseError means that the database was last used by a newer version of this program.
type NewerDatabaseError struct{ Version, Known int64 }

func (e *NewerDatabaseError) Error() string {
	return fmt.Sprintf("this database has schema version %d, and this program knows versions up to %d: it was used by a newer release. Run that release, or restore a backup made before the upgrade", e.Version, e.Known)
}

// migrate brings a database from any earlier version to this one's. It refuses a newer one.
func migrate(ctx context.Context, db *sql.DB, dialect dialect) error {
	provider, err := dialect.provider(db)
	if err != nil {
		return err
	}
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if current > latestVersion {
		return &NewerDatabaseError{Version: current, Known: latestVersion}
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	return nil
}

func (d dialect) provider(db *sql.DB) (*goose.Provider, error) {
	folder, err := fs.Sub(migrations, d.folder)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(d.goose, db, folder)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}
