package sqlstore

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

// planOf returns SQLite's plan of a query, a step a line.
func planOf(t *testing.T, s session, sql string, args []any) string {
	t.Helper()
	var plan strings.Builder
	err := s.query(`EXPLAIN QUERY PLAN `+sql, args, func(r row) error {
		plan.WriteString(r.text(3) + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

func TestZZPlans(t *testing.T) {
	store, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for name, q := range map[string]directory.UserQuery{
		"plain":   {},
		"name":    {Order: directory.ByName},
		"uids":    {UIDs: []directory.UID{"a", "b"}},
		"search":  {Search: "x", SearchUID: true, SearchName: true},
		"tags":    {Tags: []string{"a"}},
		"role":    {Roles: []string{"vip"}},
		"related": {Related: []directory.Related{{To: "x", Friends: true}}, Order: directory.ByName},
		"hide":    {NotBlockedWith: "x", Order: directory.ByName},
	} {
		q.App, q.Limit = "app", 100
		store.engine.view(t.Context(), func(s session) error {
			var l, c statement
			l.add(`SELECT ` + userColumns + ` FROM users WHERE `)
			addUserConditions(&l, q)
			addUserOrder(&l, q)
			l.add(` LIMIT 100`)
			c.add(`SELECT count(*) FROM users WHERE `)
			addUserConditions(&c, q)
			fmt.Printf("== %s\n%s-- count\n%s", name, planOf(t, s, l.sql.String(), l.args), planOf(t, s, c.sql.String(), c.args))
			return nil
		})
	}
}
