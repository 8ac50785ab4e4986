package sqlstore

import (
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
		t.Fatalf("%s: %v", sql, err)
	}
	return plan.String()
}

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
// app, and nothing is sorted but what a filter has found, which is then no more than fewMatches users.
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
				for _, matches := range []int{fewMatches, fewMatches + 1} {
					filter.App, filter.Order, filter.Limit = "app", order, 100
					explained += explainList(t, s, name, filter, matches)
				}
			}
		}
		return nil
	})
	if err != nil || explained < 300 {
		t.Errorf("%d queries explained, %v", explained, err)
	}
}

func explainList(t *testing.T, s session, name string, query directory.UserQuery, matches int) (explained int) {
	t.Helper()
	asked := &recorded{session: s}
	x := &tx{session: asked}
	after := directory.PositionOf(query.Order, directory.User{UID: "u", Name: "N", CreatedAt: 1})
	walked := query
	walked.After, walked.Backward = &after, true
	for _, ask := range []func() error{
		func() error { _, err := x.usersOf(query, matches); return err },
		func() error { _, err := x.usersOf(walked, matches); return err },
		func() error { _, err := x.CountUsers(query); return err },
		func() error { _, _, err := x.UserPage(query); return err },
		func() error { _, err := x.usersWith("app", []directory.UID{"a", "b", "c"}); return err },
	} {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range asked.asked {
		plan := planOf(t, s, statement.sql, statement.args)
		explained++
		for step := range strings.Lines(plan) {
			step = strings.TrimSpace(step)
			switch {
			case strings.HasPrefix(step, "SCAN") && step != "SCAN CONSTANT ROW" && !strings.HasPrefix(step, "SCAN places"):
				t.Errorf("%s: %s\n%s\n%s", name, step, statement.sql, plan)
			case strings.HasPrefix(step, "SEARCH") && !strings.Contains(step, "(app=?"):
				t.Errorf("%s: not by app: %s\n%s", name, step, statement.sql)
			case strings.HasPrefix(step, "USE TEMP B-TREE") && !sortsMatches(query, matches) && len(query.UIDs) == 0: // of those there are few
				t.Errorf("%s in order %d: %s\n%s\n%s", name, query.Order, step, statement.sql, plan)
			}
		}
	}
	return explained
}
