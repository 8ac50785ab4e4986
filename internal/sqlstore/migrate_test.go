package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// earlierUsers are rows as every version has stored them: two who were only made, one who was changed, one who was online,
// and one who is deactivated.
var earlierUsers = []string{
	earlierUser("ada", "ada lovelace", "default", 10, 0, 0, 0),
	earlierUser("bob", "bob", "default", 20, 0, 0, 0),
	earlierUser("cyd", "cyd", "vip", 5, 40, 0, 0),
	earlierUser("dan", "dan", "default", 8, 0, 30, 0),
	earlierUser("eve", "eve", "vip", 9, 0, 0, 50),
}

// earlierRows returns the rows that a version kept of the users.
func earlierRows(version int64) []string {
	rows := slices.Clone(earlierUsers)
	if version >= 2 {
		rows = append(rows, `INSERT INTO user_terms (app, term, uid) VALUES ('app', 'lovelace', 'ada')`)
	}
	if version >= 6 {
		rows = append(rows, `INSERT INTO user_counts (app, role, deactivated, users) VALUES ('app', 'default', 0, 3), ('app', 'vip', 0, 1), ('app', 'vip', 1, 1)`)
	}
	return rows
}

func earlierUser(uid, name, role string, created, updated, active, deactivated int) string {
	return fmt.Sprintf(`INSERT INTO users (app, uid, name, name_key, avatar, link, role, status_message, metadata, tags, created_at, updated_at, last_active_at, deactivated_at)
		VALUES ('app', '%s', '%s', '%[2]s', '', '', '%s', '', '', '', %d, %d, %d, %d)`, uid, name, role, created, updated, active, deactivated)
}

func TestMigratesEveryEarlierVersion(t *testing.T) {
	for version := int64(1); version < sqlstore.LatestVersion; version++ {
		t.Run(fmt.Sprintf("SQLite/%d", version), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "test.db")
			if err := sqlstore.MakeSQLite(t.Context(), path, version, earlierRows(version)...); err != nil {
				t.Fatal(err)
			}
			checkEarlierUsers(t, open(t, func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenSQLite(ctx, path) }))
		})
		t.Run(fmt.Sprintf("PostgreSQL/%d", version), func(t *testing.T) {
			url, err := postgres.NewDatabase(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := sqlstore.MakePostgres(t.Context(), url, version, earlierRows(version)...); err != nil {
				t.Fatal(err)
			}
			checkEarlierUsers(t, open(t, func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenPostgres(ctx, url) }))
		})
	}
}

func checkEarlierUsers(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	lists := map[string]struct {
		query directory.UserQuery
		want  []directory.UID
	}{
		"newest first":       {directory.UserQuery{Order: directory.NewestFirst}, []directory.UID{"bob", "ada", "dan", "cyd"}},
		"last changed first": {directory.UserQuery{Order: directory.LastChangedFirst}, []directory.UID{"cyd", "bob", "ada", "dan"}},
		"last active first":  {directory.UserQuery{Order: directory.LastActiveFirst}, []directory.UID{"dan", "bob", "ada", "cyd"}},
		"by name":            {directory.UserQuery{Order: directory.ByName}, []directory.UID{"ada", "bob", "cyd", "dan"}},
		"with deactivated":   {directory.UserQuery{Activity: directory.ActiveOrDeactivated}, []directory.UID{"bob", "ada", "eve", "dan", "cyd"}},
		"deactivated":        {directory.UserQuery{Activity: directory.DeactivatedOnly}, []directory.UID{"eve"}},
		"role":               {directory.UserQuery{Roles: []string{"vip"}}, []directory.UID{"cyd"}},
		"second word":        {directory.UserQuery{Search: "love", SearchName: true}, []directory.UID{"ada"}},
	}
	err := store.View(t.Context(), func(tx directory.Tx) error {
		for name, list := range lists {
			list.query.App, list.query.Limit = "app", 10
			users, total, err := tx.UserPage(list.query)
			if err != nil {
				return err
			}
			var uids []directory.UID
			for _, user := range users {
				uids = append(uids, user.UID)
			}
			if !slices.Equal(uids, list.want) || total != len(list.want) {
				t.Errorf("%s: %v of %d, want %v", name, uids, total, list.want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
