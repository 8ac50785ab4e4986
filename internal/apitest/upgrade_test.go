package apitest_test

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
)

// upgradeDir holds a database made by the server of an earlier commit, and what that server answered. Its README says
// how it was made. This file is part of the program that makes it, and so has to compile at that commit.
const upgradeDir = "testdata/upgrade"

// upgradeFixture is what there is to know about the database: c93263c.json.
type upgradeFixture struct {
	// At is where its server's clock stood in the end.
	At int64 `json:"at"`
	// Credentials is the content of credentials.json.
	Credentials server.Credentials `json:"credentials"`
	// Callers are the headers with which each of them calls.
	Callers map[string]map[string]string `json:"callers"`
	// Questions are about what is there, and Restored about the app that is going to be deleted, when it is restored.
	Questions []upgradeQuestion `json:"questions"`
	Restored  []upgradeQuestion `json:"restored"`
}

// upgradeQuestion is a call with what it was answered.
type upgradeQuestion struct {
	By   string `json:"by"`
	How  how    `json:"how"`
	Path string `json:"path"`
	// Body makes it a POST.
	Body json.RawMessage `json:"body,omitempty"`
	// IdempotencyKey makes it the repetition of a write.
	IdempotencyKey string          `json:"idempotencyKey,omitempty"`
	Answer         json.RawMessage `json:"answer,omitempty"`
}

func (q upgradeQuestion) String() string {
	return fmt.Sprintf("%s of %s by %s %s", q.How, q.Path, q.By, q.Body)
}

// how says how a question is asked, and what of the answer has to stay.
type how string

const (
	// wholeAnswer is all that an answer says.
	wholeAnswer how = "answer"
	// answerWithin is the same, and objects may have got members since.
	answerWithin how = "within"
	// eachUser is the whole answer about each user of a list of uids.
	eachUser how = "each"
	// walkedList is the uids of a walk with cursors, in their order, and the total.
	walkedList how = "walk"
	// pagedList is the same page by page.
	pagedList how = "pages"
	// listMembers is the uids of a walk in any order, and the total: names may be put in another order.
	listMembers how = "members"
	// atLeastFound is uids that a search has to find. It may find more.
	atLeastFound how = "found"
	// exportedLines is the lines of an export in any order.
	exportedLines how = "lines"
)

// upgradePage is how long the pages of lists are: short enough for several.
const upgradePage = "29"

// upgradeCall makes a call and returns the status and the answer.
func upgradeCall(
	t *testing.T, address string, headers map[string]string, method, path string, body []byte,
) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, answer
}

// ask asks a question of the server at an address, and returns the answer in the form in which answers are kept.
func (f *upgradeFixture) ask(t *testing.T, address string, q upgradeQuestion) any {
	t.Helper()
	switch q.How {
	case walkedList, listMembers, atLeastFound:
		listed := f.walk(t, address, q)
		if q.How != walkedList {
			slices.Sort(listed.UIDs)
		}
		return plain(t, listed)
	case pagedList:
		return plain(t, f.pages(t, address, q))
	case eachUser:
		var uids []string
		if err := json.Unmarshal(q.Body, &uids); err != nil {
			t.Fatal(err)
		}
		users := map[string]any{}
		for _, uid := range uids {
			users[uid] = f.askWhole(t, address, upgradeQuestion{By: q.By, Path: q.Path + uid})
		}
		return users
	case exportedLines:
		status, answer := upgradeCall(t, address, f.Callers[q.By], http.MethodGet, q.Path, nil)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", q, status, answer)
		}
		lines := []any{}
		for text := range bytes.Lines(answer) {
			line := decoded[map[string]any](t, text)
			if features, ok := line["restrictedFeatures"].([]any); ok { // they have no order
				slices.SortFunc(features, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			delete(line, "restrictedAt") // which c93263c does not tell
			lines = append(lines, line)
		}
		slices.SortFunc(lines, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		return lines
	case wholeAnswer, answerWithin:
		return f.askWhole(t, address, q)
	default:
		t.Fatalf("there is no question of this kind: %s", q)
		return nil
	}
}

// askWhole returns all that an answer says. What is told beyond the contract's members stands beside the data or in it.
func (f *upgradeFixture) askWhole(t *testing.T, address string, q upgradeQuestion) any {
	t.Helper()
	headers, method := maps.Clone(f.Callers[q.By]), http.MethodGet
	if q.Body != nil {
		method = http.MethodPost
	}
	if q.IdempotencyKey != "" {
		headers["Idempotency-Key"] = q.IdempotencyKey
	}
	status, answer := upgradeCall(t, address, headers, method, q.Path, q.Body)
	answer = bytes.ReplaceAll(answer, []byte(strings.TrimPrefix(address, "http://")), []byte("HOST"))
	var body struct {
		Data  any `json:"data"`
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
		Meta struct {
			Item       map[string]any   `json:"item"`
			Items      []map[string]any `json:"items"`
			Pagination any              `json:"pagination"`
			Cursor     any              `json:"cursor"`
			Revision   any              `json:"revision"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		t.Fatalf("%s: %s: %v", q, answer, err)
	}
	if status != http.StatusOK {
		return map[string]any{"status": float64(status), "code": body.Error.Code}
	}
	switch data := body.Data.(type) {
	case map[string]any:
		maps.Copy(data, body.Meta.Item)
		delete(data, "jwt") // each has its own
		delete(data, "settingsHash")
		if settings, ok := data["settings"].(map[string]any); ok {
			delete(settings, "settingsHash") // of addresses too
		}
	case []any:
		for i, addition := range body.Meta.Items {
			if item, ok := data[i].(map[string]any); ok {
				maps.Copy(item, addition)
			}
		}
	}
	kept := map[string]any{"data": body.Data}
	for name, value := range map[string]any{
		"pagination": body.Meta.Pagination, "cursor": body.Meta.Cursor, "revision": body.Meta.Revision,
	} {
		if value != nil {
			kept[name] = value
		}
	}
	return kept
}

// upgradeList is a list of users as it is kept: Code when it was refused.
type upgradeList struct {
	UIDs  []string `json:"uids,omitempty"`
	Total int      `json:"total"`
	Code  api.Code `json:"code,omitempty"`
}

type upgradeListPage struct {
	Data []struct {
		UID string `json:"uid"`
	} `json:"data"`
	Meta struct {
		Pagination struct {
			Total      int `json:"total"`
			TotalPages int `json:"total_pages"`
		} `json:"pagination"`
		NextCursor string `json:"nextCursor"`
	} `json:"meta"`
	Error struct {
		Code api.Code `json:"code"`
	} `json:"error"`
}

// page reads a page of a list and adds it to what was read of it.
func (f *upgradeFixture) page(
	t *testing.T, address string, q upgradeQuestion, list *upgradeList, parameters url.Values,
) upgradeListPage {
	t.Helper()
	path, query, _ := strings.Cut(q.Path, "?")
	// A comma between items must not be escaped, so what a question asks goes out as it stands.
	asked := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return parameters.Has(name)
	})
	asked = append(asked, parameters.Encode(), "perPage="+upgradePage)
	path += "?" + strings.Join(asked, "&")
	_, answer := upgradeCall(t, address, f.Callers[q.By], http.MethodGet, path, nil)
	page := decoded[upgradeListPage](t, answer)
	for _, user := range page.Data {
		list.UIDs = append(list.UIDs, user.UID)
	}
	if len(list.UIDs) > 1000 {
		t.Fatalf("%s does not end", q)
	}
	list.Total, list.Code = page.Meta.Pagination.Total, page.Error.Code
	return page
}

// walk reads a list from cursor to cursor. A path that has a cursor begins there.
func (f *upgradeFixture) walk(t *testing.T, address string, q upgradeQuestion) upgradeList {
	t.Helper()
	var list upgradeList
	parameters := url.Values{}
	if !strings.Contains(q.Path, "cursor=") {
		parameters.Set("cursor", "start")
	}
	for {
		page := f.page(t, address, q, &list, parameters)
		if page.Meta.NextCursor == "" {
			return list
		}
		parameters.Set("cursor", page.Meta.NextCursor)
	}
}

// pages reads a list by the numbers of its pages.
func (f *upgradeFixture) pages(t *testing.T, address string, q upgradeQuestion) upgradeList {
	t.Helper()
	var list upgradeList
	for number := 1; ; number++ {
		page := f.page(t, address, q, &list, url.Values{"page": {fmt.Sprint(number)}})
		if number >= page.Meta.Pagination.TotalPages {
			return list
		}
	}
}

// plain returns a value as it is after it was written as JSON and read.
func plain(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return decoded[any](t, text)
}

// startUpgraded starts a server whose clock is the caller's. Its random source is another than that of the fixture.
func startUpgraded(t *testing.T, database, dir string, clock *apitest.Clock) *apitest.Server {
	t.Helper()
	return apitest.Start(t, database, func(c *server.Config) { c.DataDir, c.Now, c.Random = dir, clock.Now, nil })
}

// TestUpgrade starts this server on a database of an earlier one. It answers as that one did, takes writes, and answers
// the same after another start.
func TestUpgrade(t *testing.T) {
	text, err := os.ReadFile(upgradeDir + "/c93263c.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the fixture is being made")
	}
	if err != nil {
		t.Fatal(err)
	}
	onEveryEngine(t, func(t *testing.T, database string) {
		f := decoded[upgradeFixture](t, text)
		clock := apitest.NewClock()
		clock.Advance(time.Duration(f.At-apitest.Epoch) * time.Second)
		dir := f.restore(t, database)
		s := startUpgraded(t, database, dir, clock)
		f.compare(t, s, f.Questions)
		f.logIn(t, s, clock)
		f.write(t, s, clock)
		written := f.lists(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = startUpgraded(t, database, dir, clock)
		for question, answer := range f.lists(t, s) {
			if !reflect.DeepEqual(written[question], answer) {
				t.Errorf("%s after another start:\n%v, not\n%v", question, answer, written[question])
			}
		}
		for _, by := range []string{"key", "second key", "attic key"} {
			f.changes(t, s, by, 0)
		}
		f.logIn(t, s, clock)
	})
}

// restore puts the fixture's database in its place, and its data directory into a new one.
func (f *upgradeFixture) restore(t *testing.T, database string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	credentials, err := json.Marshal(f.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, server.CredentialsFile), credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	if database == "" {
		path := filepath.Join(dir, server.DatabaseFile)
		if err := os.WriteFile(path, unpacked(t, "c93263c.db.gz"), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.PgConn().Exec(t.Context(), string(unpacked(t, "c93263c.sql.gz"))).ReadAll(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func unpacked(t *testing.T, name string) []byte {
	t.Helper()
	file, err := os.Open(filepath.Join(upgradeDir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := gzip.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// compare asks all questions and compares the answers with those kept.
func (f *upgradeFixture) compare(t *testing.T, s *apitest.Server, questions []upgradeQuestion) {
	t.Helper()
	for _, q := range questions {
		got, want := f.ask(t, s.URL, q), decoded[any](t, q.Answer)
		switch q.How {
		case atLeastFound:
			got = onlyThose(t, got, want)
		case answerWithin:
			got = within(got, want)
		default:
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%s, not\n%s", q, jsonOf(t, got), jsonOf(t, want))
		}
	}
}

// onlyThose returns a list without those whom another does not have.
func onlyThose(t *testing.T, list, others any) any {
	t.Helper()
	kept, wanted := decoded[upgradeList](t, jsonOf(t, list)), decoded[upgradeList](t, jsonOf(t, others))
	if kept.Total != len(kept.UIDs) {
		t.Errorf("a total of %d for %d users", kept.Total, len(kept.UIDs))
	}
	kept.UIDs = slices.DeleteFunc(kept.UIDs, func(uid string) bool { return !slices.Contains(wanted.UIDs, uid) })
	kept.Total = len(kept.UIDs)
	return plain(t, kept)
}

// within returns a value without the members that another does not have.
func within(value, other any) any {
	switch other := other.(type) {
	case map[string]any:
		if object, ok := value.(map[string]any); ok {
			kept := map[string]any{}
			for name, member := range object {
				if wanted, has := other[name]; has {
					kept[name] = within(member, wanted)
				}
			}
			return kept
		}
	case []any:
		if items, ok := value.([]any); ok && len(items) == len(other) {
			kept := make([]any, len(items))
			for i := range items {
				kept[i] = within(items[i], other[i])
			}
			return kept
		}
	}
	return value
}

func jsonOf(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// lists returns the answers to all questions about lists.
func (f *upgradeFixture) lists(t *testing.T, s *apitest.Server) map[string]any {
	t.Helper()
	answers := map[string]any{}
	for _, q := range slices.Concat(f.Questions, f.Restored) {
		switch q.How {
		case walkedList, pagedList, listMembers, atLeastFound:
			answers[q.String()] = f.ask(t, s.URL, q)
		default:
		}
	}
	return answers
}

// logIn has a user online who has an auth token of the earlier server.
func (f *upgradeFixture) logIn(t *testing.T, s *apitest.Server, clock *apitest.Clock) {
	t.Helper()
	clock.Advance(time.Second)
	status, answer := upgradeCall(t, s.URL, f.Callers["ada"], http.MethodGet, "/v3/me", nil)
	me := decoded[api.Body[api.Me]](t, answer)
	if status != http.StatusOK || me.Data.UID != "ada" || me.Data.JWT == "" {
		t.Fatalf("GET /me with an old token: %d %s", status, answer)
	}
	socket := s.Login(t, apitest.Login{UID: "ada", Device: "after", Body: api.AuthBody{Auth: me.Data.JWT}})
	socket.Close(1000, "")
	await(t, "ada comes first of those who were active last", func() bool {
		return f.walk(t, s.URL, upgradeQuestion{By: "key", Path: "/v3/users?sortBy=lastActiveAt"}).UIDs[0] == "ada"
	})
}

// write makes, changes, deactivates and deletes users of the old database and restores its app that is going to be
// deleted, and checks what becomes of the lists.
func (f *upgradeFixture) write(t *testing.T, s *apitest.Server, clock *apitest.Clock) {
	t.Helper()
	key := f.Callers["key"]
	_, before := f.changes(t, s, "key", 0)
	newest := f.listed(t, s, "/v3/users")
	changed := f.listed(t, s, "/v3/users?sortBy=updatedAt")
	all := f.listed(t, s, "/v3/users?withDeactivated=true")
	updated, deactivated, erased := newest[30], newest[40], newest[50]
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/v3/users", `{"uid":"newcomer","name":"Nora Newcomer","tags":["staff"],"metadata":{"city":"Lisbon"}}`},
		{"PUT", "/v3/users/" + updated, `{"name":"Renamed Rita","tags":["rewritten"],"metadata":{"city":"Faro"}}`},
		{"DELETE", "/v3/users/" + deactivated, ""},
		{"DELETE", "/v3/users/" + erased, `{"permanent":true}`},
	} {
		clock.Advance(time.Second)
		if status, answer := upgradeCall(t, s.URL, key, call.method, call.path, []byte(call.body)); status != 200 {
			t.Fatalf("%s %s: %d %s", call.method, call.path, status, answer)
		}
	}
	without := func(uids []string, gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(uids), func(uid string) bool { return slices.Contains(gone, uid) })
	}
	for path, want := range map[string][]string{
		"/v3/users":                      append([]string{"newcomer"}, without(newest, deactivated, erased)...),
		"/v3/users?withDeactivated=true": append([]string{"newcomer"}, without(all, erased)...),
		"/v3/users?sortBy=updatedAt": append(
			[]string{updated, "newcomer"}, without(changed, updated, deactivated, erased)...,
		),
		"/v3/users?tags=rewritten":      {updated},
		"/v3/users?searchKey=newcom":    {"newcomer"},
		"/v3/users?nameContains=rita":   {updated},
		"/v3/users?uids=" + deactivated: nil,
		"/v3/users?uids=" + erased:      nil,
	} {
		if got := f.listed(t, s, path); !slices.Equal(got, want) {
			t.Errorf("%s after writes:\n%v, not\n%v", path, got, want)
		}
	}
	written, _ := f.changes(t, s, "key", before)
	if want := []string{
		"user.created newcomer", "user.updated " + updated, "user.deactivated " + deactivated, "user.deleted " + erased,
	}; !slices.Equal(written, want) {
		t.Errorf("the change log goes on with %q, not %q", written, want)
	}
	f.comeBack(t, s)

	path := "/v3/apps/" + f.Callers["attic key"]["appId"] + "/restore"
	if status, answer := upgradeCall(t, s.URL, f.Callers["operator"], "POST", path, nil); status != 200 {
		t.Fatalf("restore an app: %d %s", status, answer)
	}
	f.compare(t, s, f.Restored)
}

// comeBack makes a user with the uid of one whom the earlier server has erased. It has nothing of that one.
func (f *upgradeFixture) comeBack(t *testing.T, s *apitest.Server) {
	t.Helper()
	status, answer := upgradeCall(t, s.URL, f.Callers["key"], "POST", "/v3/users", []byte(`{"uid":"gone-1","name":"New"}`))
	if status != http.StatusOK {
		t.Fatalf("the uid of an erased user: %d %s", status, answer)
	}
	for _, list := range []string{"friends", "auth_tokens", "blockedusers?direction=both"} {
		_, answer := upgradeCall(t, s.URL, f.Callers["key"], http.MethodGet, "/v3/users/gone-1/"+list, nil)
		if page := decoded[upgradeListPage](t, answer); page.Error.Code != "" || page.Meta.Pagination.Total != 0 {
			t.Errorf("%s of a new user: %s", list, answer)
		}
	}
	if status, answer := upgradeCall(t, s.URL, f.Callers["erased"], http.MethodGet, "/v3/me", nil); status != 401 {
		t.Errorf("the token of the erased user: %d %s", status, answer)
	}
}

// listed returns the uids of a list for a key, and compares its walk with its pages.
func (f *upgradeFixture) listed(t *testing.T, s *apitest.Server, path string) []string {
	t.Helper()
	q := upgradeQuestion{By: "key", Path: path}
	walked, paged := f.walk(t, s.URL, q), f.pages(t, s.URL, q)
	if !reflect.DeepEqual(walked, paged) || walked.Total != len(walked.UIDs) {
		t.Errorf("%s is walked and paged as\n%v\n%v", path, walked, paged)
	}
	return walked.UIDs
}

// changes returns what the change log of a key's app has after a revision, and its last revision. It has no gap.
func (f *upgradeFixture) changes(
	t *testing.T, s *apitest.Server, by string, since int64,
) (changes []string, last int64) {
	t.Helper()
	for {
		path := fmt.Sprintf("/v3/changes?limit=100&since=%d", since+int64(len(changes)))
		status, answer := upgradeCall(t, s.URL, f.Callers[by], http.MethodGet, path, nil)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
		page := decoded[api.Body[[]api.Change]](t, answer)
		for _, change := range page.Data {
			if want := since + int64(len(changes)) + 1; change.Revision != want {
				t.Fatalf("revision %d of %s stands in the place of %d", change.Revision, by, want)
			}
			changes = append(changes, change.Kind+" "+change.Subject)
		}
		if last = *page.Meta.Revision; since+int64(len(changes)) == last {
			return changes, last
		}
		if len(page.Data) == 0 {
			t.Fatalf("the change log of %s ends after %d changes, and its last revision is %d", by, len(changes), last)
		}
	}
}
