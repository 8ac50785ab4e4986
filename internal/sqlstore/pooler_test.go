package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/pgserver"
	"github.com/rollcall/rollcall/internal/sqlstore"
	"github.com/rollcall/rollcall/internal/storetest"
)

// newPooler starts a PgBouncer that has so many backends for each database.
func newPooler(t *testing.T, mode sqlstore.Pooling, backends int) *pgserver.PgBouncer {
	t.Helper()
	settings := []string{
		"pool_mode = " + string(mode), fmt.Sprint("default_pool_size = ", backends), "max_client_conn = 500",
	}
	pooler, err := postgres.PgBouncer(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pooler.Close(); err != nil {
			t.Error(err)
		}
	})
	return pooler
}

// openThrough opens a new database through a pooler.
func openThrough(t *testing.T, pooler *pgserver.PgBouncer) *sqlstore.Store {
	t.Helper()
	direct, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return open(t, func(ctx context.Context) (*sqlstore.Store, error) {
		return sqlstore.OpenPostgres(ctx, pooler.URL(nameIn(direct)), sqlstore.WithDirect(direct))
	})
}

// nameIn returns the name of the database in a URL of ours.
func nameIn(url string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(url, "postgres://postgres@/"), "?")
	return name
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestPostgresThroughPgBouncer is for transaction mode: in session mode everything that is sent is as without a pooler.
func TestPostgresThroughPgBouncer(t *testing.T) {
	pooler := newPooler(t, sqlstore.TransactionPooling, 2)
	storetest.Run(t, func(t *testing.T) directory.Store {
		store := openThrough(t, pooler)
		if route, _ := store.Route(); route.Pooling != sqlstore.TransactionPooling {
			t.Errorf("%q is found", route.Pooling)
		}
		return store
	})
}

// TestParametersThroughPgBouncer gives a parameter in the URL that PgBouncer refuses to begin a connection with. In
// session mode it is set all the same, and in transaction mode it is said how.
func TestParametersThroughPgBouncer(t *testing.T) {
	const inURL = "&search_path=chat"
	direct, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, direct, `CREATE SCHEMA chat`)
	session, transaction := newPooler(t, sqlstore.SessionPooling, 6), newPooler(t, sqlstore.TransactionPooling, 2)
	name := nameIn(direct)
	_, err = sqlstore.OpenPostgres(t.Context(), transaction.URL(name)+inURL, sqlstore.WithDirect(direct+inURL))
	says := `ALTER ROLE "postgres" IN DATABASE "` + name + `" SET search_path = chat;`
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Fatalf("in transaction mode: %v", err)
	}
	for _, options := range [][]sqlstore.PostgresOption{nil, {sqlstore.WithDirect(direct + inURL)}} {
		useSchema(t, session.URL(name)+inURL, options...)
	}
	execute(t, direct, says[strings.Index(says, "ALTER"):])
	useSchema(t, newPooler(t, sqlstore.TransactionPooling, 2).URL(name), sqlstore.WithDirect(direct))
}

// useSchema opens a database, writes to it and demands that it is the schema chat that is used.
func useSchema(t *testing.T, url string, options ...sqlstore.PostgresOption) {
	t.Helper()
	store, err := sqlstore.OpenPostgres(t.Context(), url, options...)
	if err != nil {
		t.Fatal(err)
	}
	if err := register(t.Context(), store, "somebody", "Somebody"); err != nil && !errors.Is(err, errUIDTaken) {
		t.Error(err)
	}
	seen, err := store.Ask(t.Context(), `SELECT current_schema() || count(*) FROM chat.users`)
	if err != nil || seen != "chat1" {
		t.Errorf("%s is seen: %v", seen, err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if users, err := sqlstore.UsersInPostgres(t.Context(), url); err != nil || users != 1 {
		t.Errorf("from outside %d users are seen: %v", users, err)
	}
}

// TestPlansAreMadeAnew holds for every way to PostgreSQL on which statements are prepared.
func TestPlansAreMadeAnew(t *testing.T) {
	through := openThrough(t, newPooler(t, sqlstore.SessionPooling, 6))
	for way, store := range map[string]*sqlstore.Store{"direct": openPostgres(t), "session mode": through} {
		mode, err := store.Ask(t.Context(), `SELECT current_setting('plan_cache_mode')`)
		if err != nil || mode != "force_custom_plan" {
			t.Errorf("%s: plan_cache_mode is %q: %v", way, mode, err)
		}
		prepared, err := store.Ask(t.Context(), `SELECT count(*)::text FROM pg_prepared_statements`)
		if err != nil || prepared == "0" {
			t.Errorf("%s: %s statements are prepared: %v", way, prepared, err)
		}
	}
}
