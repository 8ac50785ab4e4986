package sqlstore

import (
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

// recorded is a session that remembers the texts it is asked for.
type recorded struct {
	session
	asked []heldStatement
}

func (r *recorded) query(sql string, args []any, each func(row) error) error {
	r.asked = append(r.asked, heldStatement{sql, args})
	return r.session.query(sql, args, each)
}

// TestNoQueryScansATable explains everything that lists can ask SQLite. Every table is entered by an index on at least the
// app, and nothing is sorted but what a filter has found.
func TestNoQueryScansATable(t *testing.T) {
	t.Parallel()
	store := emptyStore(t)
	explained := 0
	err := store.engine.view(t.Context(), func(s session) error {
		for name, filter := range map[string]directory.UserQuery{
			"nothing":         {},
			"not one":         {NotUID: "me"},
			"uids":            {UIDs: []directory.UID{"a", "b"}},
			"search":          {Search: "x", SearchUID: true, SearchName: true},
			"words":           {Words: []string{"x", "y"}},
			"tags":            {Tags: []string{"a", "b"}},
			"metadata":        {Metadata: []directory.MetadataFilter{{Key: "city", Values: []string{"a", "b"}}, {Key: "plan", Values: []string{"x"}}}},
			"role":            {Roles: []string{"vip"}},
			"default role":    {Roles: []string{"default", "vip"}},
			"friends":         {Related: []directory.Related{{To: "me", Friends: true}}},
			"blocked":         {Related: []directory.Related{{To: "me", Blocked: true, Blockers: true}}},
			"requests":        {Related: []directory.Related{{To: "me", Asked: true}}},
			"asking":          {Related: []directory.Related{{To: "me", Asking: true}}},
			"not blocked":     {NotBlockedWith: "me", NotUID: "me"},
			"changed":         {ChangedAfter: 5, Order: directory.LastChangedFirst},
			"deactivated":     {Activity: directory.DeactivatedOnly},
			"all of them":     {Activity: directory.ActiveOrDeactivated},
			"many things":     {Search: "x", SearchName: true, Roles: []string{"vip"}, Tags: []string{"a"}, NotBlockedWith: "me"},
			"friends by name": {Related: []directory.Related{{To: "me", Friends: true}}, Search: "x", SearchUID: true},
		} {
			for order := directory.NewestFirst; order <= directory.ByUID; order++ {
				if filter.ChangedAfter != 0 && order != directory.LastChangedFirst {
					continue
				}
				filter.App, filter.Order, filter.Limit = "app", order, 100
				explained += explainList(t, s, name, filter)
			}
		}
		return nil
	})
	if err != nil || explained < 300 {
		t.Errorf("%d queries explained, %v", explained, err)
	}
}

func explainList(t *testing.T, s session, name string, query directory.UserQuery) (explained int) {
	t.Helper()
	asked := &recorded{session: s}
	x := &tx{session: asked}
	after := directory.PositionOf(query.Order, directory.User{UID: "u", Name: "N", CreatedAt: 1})
	walked := query
	walked.After, walked.Backward = &after, true
	asks := []struct {
		sorts bool
		ask   func() error
	}{
		{false, func() error { _, err := x.usersFound(query, alongOrder); return err }},
		{false, func() error { _, err := x.usersFound(walked, alongOrder); return err }},
		{false, func() error { _, err := x.CountUsers(query); return err }},
		{false, func() error { _, err := x.usersWith("app", []directory.UID{"a", "b", "c"}); return err }},
		{false, func() error { _, _, err := x.UserPage(query); return err }},
	}
	if narrows(query) {
		for _, q := range []directory.UserQuery{query, walked} {
			asks = append(asks, struct {
				sorts bool
				ask   func() error
			}{true, func() error { _, err := x.usersFound(q, byFilter); return err }})
		}
	}
	for _, a := range asks {
		asked.asked = nil
		if err := a.ask(); err != nil {
			t.Fatal(err)
		}
		for _, statement := range asked.asked {
			plan, err := planOf(s, statement.sql, statement.args)
			if err != nil {
				t.Fatalf("%s: %v", statement.sql, err)
			}
			explained++
			if step := Wasteful(statement.sql, plan); step != "" {
				t.Errorf("%s: %s\n%s\n%q", name, step, statement.sql, plan)
			}
			for _, step := range plan {
				switch {
				case strings.HasPrefix(step, "SEARCH") && !strings.Contains(step, "(app=?"):
					t.Errorf("%s: not by app: %s\n%s", name, step, statement.sql)
				case strings.HasPrefix(step, "USE TEMP B-TREE") && !a.sorts:
					t.Errorf("%s in order %d: %s\n%s\n%q", name, query.Order, step, statement.sql, plan)
				}
			}
		}
	}
	return explained
}
