package transfer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/transfer"
)

// elsewhere is a server of somebody else that knows no cursors, says nothing true of totals, and whose users go while
// they are read.
type elsewhere struct {
	mu     sync.Mutex
	users  []string // as JSON; guarded by mu
	pages  int      // that were asked for; guarded by mu
	totals string
	// after is called behind each page.
	after func(page int)
}

func (e *elsewhere) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number, size := max(1, number(r, "page")), min(number(r, "perPage"), 10) // it gives fewer than it is asked for
	e.mu.Lock()
	e.pages++
	from := min((number-1)*size, len(e.users))
	items := slices.Clone(e.users[from:min(from+size, len(e.users))])
	e.mu.Unlock()
	if e.after != nil {
		e.after(number)
	}
	fmt.Fprintf(w, `{"data":[%s],"meta":{"pagination":{%s}}}`, strings.Join(items, ","), e.totals)
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name)) // zero when it is not there
	return n
}

func pulled(t *testing.T, handler http.Handler) (uids []string, problems []string) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	source, err := client.New(server.URL, client.WithApp("a"), client.WithAPIKey("k"))
	if err != nil {
		t.Fatal(err)
	}
	for entry, err := range transfer.From(t.Context(), source, false) {
		switch {
		case err != nil:
			t.Fatal(err)
		case entry.Err != nil:
			problems = append(problems, entry.Err.Error())
		default:
			uids = append(uids, entry.Content.User.UID)
		}
	}
	return uids, problems
}

func user(n int) string {
	return fmt.Sprintf(`{"uid":"user-%d","name":"User %d","status":"offline"}`, n, n)
}

// TestFromReadsUntilAPageIsEmpty: what the other server says of totals does not matter.
func TestFromReadsUntilAPageIsEmpty(t *testing.T) {
	t.Parallel()
	for _, totals := range []string{
		`"total":0,"total_pages":0`, `"total":3,"total_pages":1`, `"total":1000000,"total_pages":100000`, ``,
	} {
		other := &elsewhere{totals: totals}
		for n := range 25 {
			other.users = append(other.users, user(n))
		}
		uids, problems := pulled(t, other)
		if len(uids) != 25 || len(problems) > 0 {
			t.Errorf("with %q there are %d users, %v", totals, len(uids), problems)
		}
		if other.pages > 10 {
			t.Errorf("with %q it asked for %d pages", totals, other.pages)
		}
	}
}

// TestFromLosesNobodyWhenOthersGo deletes users of pages that have been read, so that others come onto these pages.
func TestFromLosesNobodyWhenOthersGo(t *testing.T) {
	t.Parallel()
	other := &elsewhere{totals: `"total":0`}
	for n := range 95 {
		other.users = append(other.users, user(n))
	}
	gone := map[string]bool{}
	other.after = func(int) {
		other.mu.Lock()
		defer other.mu.Unlock()
		if len(gone) < 20 && len(other.users) > 3 {
			for range 2 {
				var deleted struct{ UID string }
				if err := json.Unmarshal([]byte(other.users[1]), &deleted); err != nil {
					t.Error(err)
				}
				gone[deleted.UID] = true
				other.users = slices.Delete(other.users, 1, 2)
			}
		}
	}
	uids, _ := pulled(t, other)
	slices.Sort(uids)
	if len(slices.Compact(slices.Clone(uids))) != len(uids) {
		t.Error("somebody came twice")
	}
	for n := range 95 {
		uid := fmt.Sprintf("user-%d", n)
		if _, there := slices.BinarySearch(uids, uid); !there && !gone[uid] {
			t.Errorf("%s, who was there all the time, is missing", uid)
		}
	}
	if len(gone) == 0 {
		t.Error("nobody went")
	}
}

// TestFromRefusesOddUsersAlone reads a page with users as nobody expects them.
func TestFromRefusesOddUsersAlone(t *testing.T) {
	t.Parallel()
	other := &elsewhere{users: []string{
		user(1), `{"uid":"odd","name":17}`, `{"uid":"time","name":"T","createdAt":"1600000000"}`, `{"name":"nobody"}`, `7`,
		`{"uid":"more","name":"M","email":"x"}`, user(2),
	}}
	uids, problems := pulled(t, other)
	if got := strings.Join(uids, " "); got != "user-1 time user-2" || len(problems) != 4 {
		t.Errorf("read %s, refused %q", got, problems)
	}
}

// TestFromEndsWithAServerThatAlwaysAnswersTheSame: it may not know pages at all.
func TestFromEndsWithAServerThatAlwaysAnswersTheSame(t *testing.T) {
	t.Parallel()
	uids, _ := pulled(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"data":[%s,%s]}`, user(1), user(2))
	}))
	if len(uids) != 2 {
		t.Errorf("read %q", uids)
	}
}
