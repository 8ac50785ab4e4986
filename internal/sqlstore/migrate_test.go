package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// earlierUsers are rows as every version has stored them: two who were only made, one who was changed, one who was
// online, and one who is deactivated.
var earlierUsers = []string{
	earlierUser("ada", "ada lovelace", "default", 10, 0, 0, 0),
	earlierUser("bob", "bob", "default", 20, 0, 0, 0),
	earlierUser("cyd", "cyd", "vip", 5, 40, 0, 0),
	earlierUser("dan", "dan", "default", 8, 0, 30, 0),
	earlierUser("eve", "eve", "vip", 9, 0, 0, 50),
}

// earlierRows returns the rows that a version kept of the users.
func earlierRows(version int64) []string {
	rows := append(slices.Clone(earlierUsers), earlierKey)
	if version >= 8 { // nothing is indexed in the database any more
		for i := range earlierUsers {
			rows[i] = withoutNameKey.ReplaceAllString(rows[i], "$1")
		}
		return append(rows,
			`INSERT INTO apps (app, name, region, owner, settings, salt, created_at, delete_at) VALUES
			('app', 'A', 'us', '', '{"revealSecrets":true,"metadataKeys":["city"]}', '', 1, 0)`,
			`INSERT INTO revisions (app, revision, version) VALUES ('app', 41, 0), ('purged', 7, 0)`)
	}
	if version >= 2 {
		rows = append(rows, `INSERT INTO user_terms (app, term, uid) VALUES ('app', 'lovelace', 'ada')`)
	}
	if version >= 5 {
		rows = append(rows,
			`INSERT INTO changes (app, revision, at, actor, kind, subject, fields) VALUES ('app', 41, 1, 'a', 'user.created', 'ada', '')`,
			`INSERT INTO apps (app, name, region, owner, settings, salt, created_at, delete_at) VALUES
			('app', 'A', 'us', '', '{"revealSecrets":true,"metadataKeys":[{"key":"city","ready":true},{"key":"old","dropped":true}]}', '', 1, 0)`,
			`INSERT INTO tombstones (app, hash, at, revision, notice) VALUES ('purged', 'h', 1, 7, 0)`)
	}
	if version >= 6 {
		rows = append(rows, `INSERT INTO user_counts (app, role, deactivated, users) VALUES ('app', 'default', 0, 3), ('app', 'vip', 0, 1), ('app', 'vip', 1, 1)`)
	}
	return rows
}

const earlierKey = `INSERT INTO api_keys (app, id, name, scope, hash, sealed, created_by, created_at)
	VALUES ('app', 'key_1', 'K', 'authOnly', '', '', 'operator', 3)`

// withoutNameKey takes the column that version 8 has dropped out of a row that earlierUser has made.
var withoutNameKey = regexp.MustCompile(` name_key,|('app', '[^']*', '[^']*'), '[^']*'`)

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
			checkEarlierUsers(t, open(t, func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenSQLite(ctx, path) }), version)
		})
		t.Run(fmt.Sprintf("PostgreSQL/%d", version), func(t *testing.T) {
			url, err := postgres.NewDatabase(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := sqlstore.MakePostgres(t.Context(), url, version, earlierRows(version)...); err != nil {
				t.Fatal(err)
			}
			checkEarlierUsers(t, open(t, func(ctx context.Context) (*sqlstore.Store, error) { return sqlstore.OpenPostgres(ctx, url) }), version)
		})
	}
}

func checkEarlierUsers(t *testing.T, store *sqlstore.Store, version int64) {
	t.Helper()
	err := store.View(t.Context(), func(tx directory.Reader) error {
		users, err := tx.UsersAfter("app", "", 10)
		var uids []directory.UID
		for _, user := range users {
			uids = append(uids, user.UID)
		}
		if want := []directory.UID{"ada", "bob", "cyd", "dan", "eve"}; err != nil || !slices.Equal(uids, want) {
			t.Errorf("%v, %v; want %v", uids, err, want)
		}
		if cyd := users[2]; cyd.Name != "cyd" || cyd.Role != "vip" || cyd.CreatedAt != 5 || cyd.UpdatedAt != 40 {
			t.Errorf("cyd is %+v", cyd)
		}
		keys, err := tx.Keys("app")
		if err != nil || len(keys) != 1 || keys[0].Name != "K" || keys[0].ExpiresAt != 0 || keys[0].LastUsedAt != 0 {
			t.Errorf("keys are %+v, %v", keys, err)
		}
		if version < 5 {
			return nil
		}
		for app, want := range map[directory.AppID]int64{"app": 41, "purged": 7, "none": 0} {
			if revision, err := tx.Revision(app); err != nil || revision != want {
				t.Errorf("revision of %s: %d, %v; want %d", app, revision, err, want)
			}
		}
		app, _, err := tx.App("app")
		if settings := app.Settings; !slices.Equal(settings.MetadataKeys, []string{"city"}) || !settings.RevealSecrets {
			t.Errorf("settings are %+v", settings)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
