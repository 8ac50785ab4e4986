package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PostgresCondition is what an inspection of a PostgreSQL database found.
type PostgresCondition struct {
	// Server is the version of PostgreSQL in words.
	Server string
	// Route is how it is reached.
	Route Route
	// Version is the schema version, 0 for none, and LatestVersion the one this program needs.
	Version, LatestVersion int64
	// Owner tells in words which connection holds the database for a server; empty when none does.
	Owner string
	// Hindrance tells in words why the user cannot make the tables; empty when it can, or has.
	Hindrance string
}

// inspectionProbes is how many connections an inspection tries of a pooler, which a server may be using as well.
const inspectionProbes = 3

// InspectPostgres looks at the database that url names, also while a server is using it. What keeps a server from
// starting there is an error.
func InspectPostgres(
	ctx context.Context, url string, options ...PostgresOption,
) (condition PostgresCondition, err error) {
	config, err := parsePostgresURL(url)
	if err != nil {
		return condition, fmt.Errorf("read database address: %w", err)
	}
	route := newRoute(options)
	conn, err := route.open(ctx, config, inspectionProbes)
	if err != nil {
		return condition, err
	}
	condition.Route = route.reached.Load().Route
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	condition.LatestVersion, condition.Owner = latestVersion, strings.Trim(describeHolder(ctx, conn), " ()")
	var used bool
	err = conn.QueryRow(
		ctx, `SELECT 'PostgreSQL ' || current_setting('server_version'), to_regclass('goose_db_version') IS NOT NULL`,
	).
		Scan(&condition.Server, &used)
	if err == nil && used {
		err = conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&condition.Version)
	}
	if err != nil || condition.Version >= latestVersion {
		return condition, err
	}
	var may bool
	err = conn.QueryRow(ctx, `SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`).Scan(&may)
	if err == nil && !may {
		condition.Hindrance = mayNotCreate(conn.Config().User)
	}
	return condition, err
}

// SealedKeysInPostgres is SealedKeysInSQLite for the database that url names.
func SealedKeysInPostgres(ctx context.Context, url string) ([][]byte, error) {
	return columnInPostgres(ctx, url, readSealed, pgx.RowTo[[]byte])
}

// AppsInPostgres is AppsInSQLite for the database that url names.
func AppsInPostgres(ctx context.Context, url string) ([]string, error) {
	return columnInPostgres(ctx, url, readAppIDs, pgx.RowTo[string])
}

// KeysInPostgres is KeysInSQLite for the database that url names.
func KeysInPostgres(ctx context.Context, url string) ([]StoredKey, error) {
	return columnInPostgres(ctx, url, readStoredKeys, pgx.RowToStructByPos[StoredKey])
}

// UsersInPostgres is UsersInSQLite for the database that url names.
func UsersInPostgres(ctx context.Context, url string) (int64, error) {
	counts, err := columnInPostgres(ctx, url, countUsers, pgx.RowTo[int64])
	if err != nil || len(counts) == 0 {
		return 0, err
	}
	return counts[0], nil
}

// columnInPostgres reads one column of a database. One without a schema has none.
func columnInPostgres[T any](ctx context.Context, url, question string, read pgx.RowToFunc[T]) (column []T, err error) {
	conn, err := connectPostgres(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var used bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('api_keys') IS NOT NULL`).Scan(&used); err != nil || !used {
		return nil, err
	}
	rows, err := conn.Query(ctx, question)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, read)
}
