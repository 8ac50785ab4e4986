package apitest_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
)

// refuseAtCommit makes commits fail that have made a user whose uid begins with poison.
var refuseAtCommit = []string{
	`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.uid LIKE 'poison%' THEN RAISE EXCEPTION 'refused at commit'; END IF; RETURN NULL; END $$`,
	`CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`,
}

// TestFailedCommitIsNotListed creates users of whom some make the commit fail that they are part of: whoever is not
// stored is in no list, and everybody else is.
func TestFailedCommitIsNotListed(t *testing.T) {
	t.Parallel()
	database, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := apitest.Start(t, database, nil)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(apitest.Context(t))
	for _, statement := range refuseAtCommit {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	list := func(query string) (uids []string, total int) {
		body := sent{method: "GET", path: "/v3/users?perPage=1000&sortBy=name&" + query}.takes(t, s)
		page := decoded[api.Body[[]api.User]](t, body)
		for _, user := range page.Data {
			uids = append(uids, user.UID)
		}
		return uids, page.Meta.Pagination.Total
	}
	list("") // the index follows from here on
	const clients = 40
	var creating sync.WaitGroup
	for n := range clients {
		creating.Go(func() {
			uid, want := fmt.Sprintf("good-%02d", n), http.StatusOK
			if n%4 == 0 {
				uid, want = fmt.Sprintf("poison-%02d", n), http.StatusServiceUnavailable
			}
			body := fmt.Sprintf(`{"uid":%q,"name":%q}`, uid, uid)
			response, _, _ := sent{method: "POST", path: "/v3/users", body: body}.do(t, s)
			if response.StatusCode != want {
				t.Errorf("creating %s answers %d, want %d", uid, response.StatusCode, want)
			}
		})
	}
	creating.Wait()
	stored := ask[[]string](t, database, `SELECT array_agg(uid::text ORDER BY name COLLATE "C", uid) FROM users`)
	listed, total := list("withDeactivated=true")
	slices.Sort(stored)
	slices.Sort(listed)
	if !slices.Equal(listed, stored) || total != len(stored) {
		t.Errorf("listed are %d of %d: %v\nstored %d: %v", len(listed), total, listed, len(stored), stored)
	}
	if found, total := list("searchKey=poison"); len(found)+total > 0 {
		t.Errorf("a search finds %v of %d who were refused", found, total)
	}
	if found, total := list("searchKey=good"); len(found) != clients*3/4 || total != len(found) {
		t.Errorf("a search finds %d of %d, want %d", len(found), total, clients*3/4)
	}
}
