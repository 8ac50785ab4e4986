package apitest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
)

// heldLists is a server whose lists by tags stand still: they wait for a table that a transaction of the test has
// locked.
type heldLists struct {
	*apitest.Server
	t        *testing.T
	database string
	running  sync.WaitGroup
	release  func()
}

func holdLists(t *testing.T) *heldLists {
	t.Helper()
	database, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	separator := "?"
	if strings.Contains(database, "?") {
		separator = "&"
	}
	h := &heldLists{
		t:        t,
		database: database,
		Server:   apitest.Start(t, database+separator+"pool_max_conns=4", nil),
	} // 2 of them for lists
	for _, uid := range []string{"ada", "bob", "cy"} {
		create(t, h.Server, uid)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE friend_requests IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	h.release = sync.OnceFunc(func() {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		h.running.Wait()
	})
	return h
}

// list asks for a list that stands still, and hands the answer over when there is one.
func (h *heldLists) list(headers map[string]string) <-chan *http.Response {
	answers := make(chan *http.Response, 1)
	h.running.Go(func() {
		path := "/v3/friend_requests"
		if headers["apikey"] != "" {
			path = "/v3/users/ada/friend_requests"
		}
		request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.URL+path, nil)
		if err != nil {
			h.t.Error(err)
			return
		}
		request.Header.Set("appId", h.Credentials.AppID)
		for name, value := range headers {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			h.t.Error(err)
			return
		}
		response.Body.Close()
		answers <- response
	})
	return answers
}

// standing returns how many lists stand still in the database, and how many wait in line before it.
func (h *heldLists) standing() (inDatabase, inLine int) {
	h.t.Helper()
	inDatabase = ask[int](
		h.t,
		h.database,
		`SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
	)
	metrics := sent{method: "GET", path: "/metrics"}.takes(h.t, h.Server)
	match := regexp.MustCompile(`(?m)^rollcall_lists_waiting (\d+)$`).FindSubmatch(metrics)
	if match == nil {
		h.t.Fatal("/metrics does not say how many lists wait")
	}
	inLine, err := strconv.Atoi(string(match[1]))
	if err != nil {
		h.t.Fatal(err)
	}
	return inDatabase, inLine
}

func (h *heldLists) await(inDatabase, inLine int) {
	h.t.Helper()
	await(h.t, fmt.Sprintf("%d lists in the database and %d in line", inDatabase, inLine), func() bool {
		stand, wait := h.standing()
		return stand == inDatabase && wait == inLine
	})
}

// TestListsWaitForLists asks for many lists at once: few of one user run, and few in all, while everything that reads
// little goes on.
func TestListsWaitForLists(t *testing.T) {
	t.Parallel()
	h := holdLists(t)
	defer h.release()
	backend := h.Backend(t)
	user := func(uid string) map[string]string { return map[string]string{"authToken": mint(t, backend, uid)} }
	ada, bob, key := user("ada"), user("bob"), map[string]string{"apikey": h.Credentials.RestAPIKey}
	var answers []<-chan *http.Response
	for range 8 {
		answers = append(answers, h.list(ada))
	}
	h.await(1, 7)
	answers = append(answers, h.list(user("ada"))) // with another token
	h.await(1, 8)
	answers = append(answers, h.list(bob))
	h.await(2, 8)
	answers = append(answers, h.list(key), h.list(key))
	h.await(2, 10)
	for range 20 {
		for _, read := range []sent{
			{method: "GET", path: "/v3/users/cy"},
			{method: "GET", path: "/v3/users/cy/auth_tokens"},
			{method: "GET", path: "/v3/users/ada", headers: user("cy")},
			{method: "GET", path: "/v3/me", headers: ada},
			{method: "PUT", path: "/v3/users/cy", body: `{"statusMessage":"` + time.Now().String() + `"}`},
		} {
			read.takes(t, h.Server)
		}
	}
	h.await(2, 10)
	h.release()
	for i, answer := range answers {
		if response := <-answer; response == nil || response.StatusCode != http.StatusOK {
			t.Errorf("list %d: %v", i, response)
		}
	}
	h.await(0, 0)
}

// TestListsAreAskedForLittle asks for lists by more than makes sense, and by the same several times.
func TestListsAreAskedForLittle(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	sent{method: "POST", path: "/v3/users", body: `{"uid":"ada","name":"Ada B C D E F G H","tags":["x"]}`}.takes(t, s)
	for query, total := range map[string]int{
		"nameContains=ada+b+c+d+e+f+g+h": 1, "nameContains=" + strings.Repeat("ada+", 20) + "b": 1,
		"nameContains=Ada+ADA+%C3%A1da": 1, "tags=x,x,x": 1,
		"roles=default,Default,default": 1, "uids=ada,ADA": 1, "nameContains=ada+b+c+d+e+f+g+i": 0,
	} {
		body := sent{method: "GET", path: "/v3/users?" + query}.takes(t, s)
		if page := decoded[api.Body[[]api.User]](t, body); page.Meta.Pagination.Total != total {
			t.Errorf("%s: %s", query, body)
		}
	}
	_, _, refused := sent{method: "GET", path: "/v3/users?nameContains=a+b+c+d+e+f+g+h+i"}.do(t, s)
	if refused.Code != api.CodeBadRequest || !strings.Contains(fmt.Sprint(refused.Details["nameContains"]), "8 words") {
		t.Errorf("nine words: %+v", refused)
	}
}

func decoded[T any](t *testing.T, body []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
