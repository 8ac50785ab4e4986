package apitest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/server"
	"github.com/rollcall/rollcall/internal/transfer"
)

// emptyApp makes an app without anybody, and returns a client with its key.
func emptyApp(t *testing.T, s *apitest.Server) *client.Client {
	t.Helper()
	app, err := s.Operator(t).Apps.Create(t.Context(), api.CreateAppRequest{Name: "Empty", SkipSampleData: true})
	if err != nil {
		t.Fatal(err)
	}
	for text, key := range app.APIKeys {
		if key.Scope == "fullAccess" {
			return s.Client(t, client.WithApp(app.ID), client.WithAPIKey(text))
		}
	}
	t.Fatal("the app has no key")
	return nil
}

func contentsOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func exportOf(t *testing.T, c *client.Client) string {
	t.Helper()
	var text bytes.Buffer
	if _, err := c.Export(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// importText imports a text, and returns what became of it and the results.
func importText(t *testing.T, c *client.Client, format transfer.Format, text string, dryRun bool) (transfer.Summary, string, string) {
	t.Helper()
	file := transfer.File{Format: format, Reader: strings.NewReader(text)}
	results := filepath.Join(t.TempDir(), "results")
	var changes bytes.Buffer
	job := transfer.Import{Client: c, Entries: file.Entries(), Results: results, DryRun: dryRun, Changes: &changes, Verbose: true}
	summary, err := job.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return summary, contentsOf(t, results), changes.String()
}

var someNames = []string{
	"Ada", "Łukasz Żółć", "Жанна", "太郎 山田", "محمد", "O’Brien & <Sons>", "🔥 Max", "a\u2028b", `quo"te\`, "नमस्ते", "Ναι; όχι", " spaced ",
}

// randomDirectory fills an app with roles that refer to each other in cycles, with users of every kind, and with
// relations.
func randomDirectory(t *testing.T, c *client.Client, random *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	roles := []string{"default"}
	for n := range 2 + random.IntN(5) {
		id := fmt.Sprintf("role%d", n)
		if _, err := c.Roles.Create(ctx, api.CreateRoleRequest{
			Role: id, Name: pick(random, someNames), Description: pick(random, someNames), Metadata: someObject(random, false),
			Settings: &api.RoleSettings{ListUsers: pick(random, []string{"", "all", "friendsOnly"})},
		}); err != nil {
			t.Fatal(err)
		}
		roles = append(roles, id)
	}
	for _, role := range roles {
		allowed, err := json.Marshal([]string{pick(random, roles), pick(random, roles)})
		if err != nil {
			t.Fatal(err)
		}
		permissions := map[string]json.RawMessage{"listUsers.allowedRoles": allowed, "listUsers": json.RawMessage(`"deny"`)}
		if _, err := c.Roles.SetPermissions(ctx, role, api.UpdatePermissionsRequest{Permissions: permissions}); err != nil {
			t.Fatal(err)
		}
		if random.IntN(2) == 0 {
			if err := c.Roles.RestrictFeatures(ctx, role, "u.blockUser", "u.createCall"); err != nil {
				t.Fatal(err)
			}
		}
	}
	const users = 60
	rows := make([]api.UserRow, users)
	for n := range rows {
		name, role, created := pick(random, someNames), pick(random, roles), int64(1_600_000_000+random.IntN(1000))
		rows[n] = api.UserRow{UID: fmt.Sprintf("user-%d", n), CreatedAt: &created}
		rows[n].Name, rows[n].Role = &name, &role
		if random.IntN(2) == 0 {
			metadata := someObject(random, true)
			avatar, tags := "https://example.com/a?b=c&d", []string{"x", pick(random, someNames)}
			rows[n].Metadata, rows[n].Avatar, rows[n].Tags = &metadata, &avatar, &tags
		}
		if random.IntN(3) == 0 {
			at := created + 5
			rows[n].DeactivatedAt, rows[n].LastActiveAt = &at, &at
		}
	}
	results, err := c.Users.Batch(ctx, rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		if result.Error != nil {
			t.Fatalf("%s: %+v", result.UID, result.Error)
		}
	}
	var relations []api.RelationRow
	for range 100 {
		relations = append(relations, api.RelationRow{
			Type: pick(random, []string{"block", "friend", "friendRequest"}), UID: rows[random.IntN(users)].UID,
			Other: rows[random.IntN(users)].UID, At: int64(1_600_000_000 + random.IntN(1000)),
		})
	}
	if _, err := c.Visibility.PutRelations(ctx, relations); err != nil {
		t.Fatal(err)
	}
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

func someObject(random *rand.Rand, private bool) json.RawMessage {
	text := fmt.Sprintf(`{"z":%d,"a":"<b>&\u2028","n":1546130668394913822,"f":1.50`, random.IntN(5))
	if private && random.IntN(2) == 0 {
		text += `,"@private":{"email":"x@example.com"}`
	}
	return json.RawMessage(text + `}`)
}

// TestExportImportsToTheSame: what an export of any directory makes of an empty app is exported as the same bytes, and
// importing it once more changes nothing.
func TestExportImportsToTheSame(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := apitest.Start(t, database, nil)
		for round := range 4 {
			source, target := emptyApp(t, s), emptyApp(t, s)
			randomDirectory(t, source, rand.New(rand.NewPCG(uint64(round), 11)))
			want := exportOf(t, source)
			_, _, wouldBe := importText(t, target, transfer.NDJSON, want, true)
			if before := exportOf(t, target); strings.Count(before, "\n") != 2 {
				t.Fatalf("a dry run has changed something: %s", before)
			}
			summary, results, _ := importText(t, target, transfer.NDJSON, want, false)
			if summary.Failed > 0 {
				t.Fatalf("refused: %s", results)
			}
			if got := strings.Count(wouldBe, "\n"); got != summary.Created+summary.Updated {
				t.Errorf("the dry run told of %d changes, and there were %+v: %s", got, summary, wouldBe)
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(exportOf(t, target), "\n")); diff != "" {
				t.Fatalf("round %d: %s", round, diff)
			}
			if again, results, _ := importText(t, target, transfer.NDJSON, want, false); again.Unchanged != again.Entries {
				t.Errorf("the second import: %+v: %s", again, results)
			}
		}
	})
}

// TestImportOfUIDsWrittenDifferently imports people whose uids would become the same, and one person twice.
func TestImportOfUIDsWrittenDifferently(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	auth0, err := transfer.MapNamed("auth0", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file            transfer.File
		text            string
		created, failed int
		repeats         []transfer.Repeat
		lowered         int
	}{
		"capitals": {
			transfer.File{Format: transfer.CSV}, "uid,name\nUserA,Anna\nusera,Bert\nUSERA,Carl\n", 1, 2, nil, 1,
		},
		"the same person": {
			transfer.File{Format: transfer.CSV},
			"uid,name\nUserA,Anna\nUserA,Annabel\n", 1, 0,
			[]transfer.Repeat{{UID: "UserA", First: 1, Again: 2}},
			2,
		},
		"a map": {
			transfer.File{Format: transfer.NDJSON, Map: auth0},
			`{"user_id":"auth0|5f7c","name":"Anna"}` + "\n" + `{"user_id":"auth0_5f7c","name":"Bert"}` + "\n", 1, 1, nil, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := emptyApp(t, s)
			c.file.Reader = strings.NewReader(c.text)
			results := filepath.Join(t.TempDir(), "results")
			job := transfer.Import{Client: target, Entries: c.file.Entries(), Results: results}
			summary, err := job.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			told := contentsOf(t, results)
			if summary.Created != c.created || summary.Failed != c.failed || summary.Lowered != c.lowered ||
				!slices.Equal(summary.Repeats, c.repeats) {
				t.Errorf("%+v: %s", summary, told)
			}
			if got := strings.Count(told, "is the uid of entry 1 too"); got != c.failed {
				t.Errorf("%d of %d refusals say why: %s", got, c.failed, told)
			}
			if c.lowered > 0 && !strings.Contains(told, `"uid":"UserA","stored":"usera"`) {
				t.Errorf("the results do not say what the server calls UserA: %s", told)
			}
			if got := exportOf(t, target); c.failed > 0 && !strings.Contains(got, `"name":"Anna"`) {
				t.Errorf("Anna was lost: %s", got)
			}
		})
	}
}

// TestImportRolesInAnyOrder imports roles that name each other, roles that are gone, and some that cannot be.
func TestImportRolesInAnyOrder(t *testing.T) {
	t.Parallel()
	c := emptyApp(t, apitest.Start(t, "", nil))
	lines := []string{
		`{"type":"role","role":{"role":"default","name":"Default"},"permissions":{"listUsers.allowedRoles":["VIP","gone"]}}`,
		`{"type":"role","role":{"role":"vip","name":"VIP"},"permissions":{"getUserDetails.allowedRoles":["default"]}}`,
		`{"type":"role","role":{"role":"b d","name":"Bad"}}`,
		`{"type":"role","role":{"role":"odd","name":"Odd"},"permissions":{"nothing":"x"},"restrictedFeatures":["u.nothing"]}`,
		`{"type":"user","user":{"uid":"ada","name":"Ada","role":"vip"}}`,
		`{"type":"user","user":{"uid":"bob","name":"Bob","role":"odd"}}`,
		`{"type":"end","lines":6}`,
	}
	text := strings.Join(lines, "\n")
	_, _, dry := importText(t, c, transfer.NDJSON, text, true)
	summary, results, _ := importText(t, c, transfer.NDJSON, text, false)
	if summary.Created != 2 || summary.Updated != 1 || summary.Failed != 3 {
		t.Errorf("%+v", summary)
	}
	for _, want := range []string{
		`"uid":"default","status":"updated","note":"listUsers.allowedRoles named roles that there are not, which were left out: gone. "`,
		`"uid":"vip","status":"created"`, `"uid":"b d","status":"failed"`, `There is no feature`, `"uid":"ada","status":"created"`,
		`"uid":"bob","status":"failed","code":"ERR_ROLE_NOT_FOUND"`,
	} {
		if !strings.Contains(results, want) {
			t.Errorf("%s is not in the results:\n%s", want, results)
		}
	}
	for _, want := range []string{"create role vip\n", "update role default: ", "create ada\n", "refuse line 6, bob: "} {
		if !strings.Contains(dry, want) {
			t.Errorf("%q is not in the dry run:\n%s", want, dry)
		}
	}
	if got := exportOf(t, c); !strings.Contains(got, `"permissions":{"listUsers.allowedRoles":["vip"]}`) {
		t.Errorf("the default role has other permissions: %s", got)
	}
}

// TestImportMeetsUsersWhoAreThere imports users who are deactivated, or have metadata.
func TestImportMeetsUsersWhoAreThere(t *testing.T) {
	t.Parallel()
	c := emptyApp(t, apitest.Start(t, "", nil))
	const before = `{"uid":"ada","name":"Ada","metadata":{"n":1546130668394913822,"city":"Rome","@private":{"e":"x"}},"tags":["t"]}
{"uid":"bob","name":"Bob","deactivatedAt":1600000000}
{"uid":"bob","name":"Bob","deactivatedAt":1600000000}`
	summary, _, _ := importText(t, c, transfer.NDJSON, before, false)
	repeats := []transfer.Repeat{{UID: "bob", First: 2, Again: 3}}
	if summary.Created != 2 || summary.Repeated != 1 || !slices.Equal(summary.Repeats, repeats) {
		t.Errorf("%+v", summary)
	}
	const rows = "uid,name,metadata.city,metadata.zip\nada,,Oslo,0123\nbob,Bob,,\n"
	_, _, dry := importText(t, c, transfer.CSV, rows, true)
	if dry != "update ada: metadata\nupdate bob: deactivatedAt\n" {
		t.Errorf("the dry run tells %q", dry)
	}
	if summary, results, _ := importText(t, c, transfer.CSV, rows, false); summary.Updated != 2 {
		t.Errorf("%+v %s", summary, results)
	}
	got := exportOf(t, c)
	for _, want := range []string{
		`"metadata":{"n":1546130668394913822,"city":"Oslo","@private":{"e":"x"},"zip":"0123"},"tags":["t"]`,
		`{"uid":"bob","name":"Bob","role":"default","createdAt"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if strings.Contains(got, "deactivatedAt") {
		t.Errorf("somebody is deactivated: %s", got)
	}
	const mixed = "uid,metadata,metadata.city\nada,\"{\"\"a\"\":1}\",Bern\nbob,null,Bern\n"
	if summary, _, _ := importText(t, c, transfer.CSV, mixed, false); summary.Updated != 1 || summary.Failed != 1 {
		t.Errorf("%+v", summary)
	}
	if got := exportOf(t, c); !strings.Contains(got, `"metadata":{"a":1,"city":"Bern"}`) {
		t.Error(got)
	}
}

// TestOneEntryThatIsTooMuchIsRefusedAlone imports what the server refuses as a whole when it is among others.
func TestOneEntryThatIsTooMuchIsRefusedAlone(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", func(config *server.Config) { config.Limits.BatchUsers = 7 }) // fewer than are sent at once
	c := emptyApp(t, s)
	var text strings.Builder
	for n := range 100 {
		avatar := "https://example.com/a.png"
		switch n {
		case 17:
			avatar = "https://example.com/" + strings.Repeat("x", 90_000)
		case 40:
			avatar += `","metadata":{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `},"link":"`
		}
		fmt.Fprintf(&text, `{"uid":"user-%d","name":"User","avatar":%q}`+"\n", n, avatar)
	}
	summary, results, _ := importText(t, c, transfer.NDJSON, strings.ReplaceAll(text.String(), `\"`, `"`), false)
	if summary.Created != 98 || summary.Failed != 2 || strings.Count(results, "\n") != 100 {
		t.Errorf("%+v", summary)
	}
	relations := `{"type":"friend","relation":{"uid":"user-1","other":"user-2"}}
{"type":"friend","relation":{"uid":"user-1","other":""}}
{"type":"block","relation":{"uid":"user-1","other":"user-3"}}
{"type":"end","lines":3}`
	if summary, results, _ := importText(t, c, transfer.NDJSON, relations, false); summary.Created != 2 || summary.Failed != 1 {
		t.Errorf("%+v %s", summary, results)
	}
}

// TestImportGoesOnWithTheSameAlone interrupts an import and goes on with other files.
func TestImportGoesOnWithTheSameAlone(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	c, other := emptyApp(t, s), emptyApp(t, s)
	row := func(n int) string { return fmt.Sprintf(`{"uid":"user-%04d","name":"User"}`+"\n", n) }
	var rows []string
	for n := range 2500 {
		rows = append(rows, row(n))
	}
	state := filepath.Join(t.TempDir(), "state")
	run := func(c *client.Client, target, text string) (transfer.Summary, error) {
		file := transfer.File{Format: transfer.NDJSON, Reader: strings.NewReader(text)}
		job := transfer.Import{Client: c, Entries: file.Entries(), State: state, Target: target}
		return job.Run(t.Context())
	}
	whole := strings.Join(rows, "")
	stopAfter := func(text string, entries int) {
		t.Helper()
		file := transfer.File{Format: transfer.NDJSON, Reader: strings.NewReader(text)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		job := transfer.Import{Client: c, Entries: file.Entries(), State: state, Target: "one", Progress: func(s transfer.Summary) {
			if s.Entries >= entries {
				cancel()
			}
		}}
		if _, err := job.Run(ctx); err == nil {
			t.Fatal("the import was not interrupted")
		}
	}
	stopAfter(whole, 1000)
	if _, err := run(other, "another", whole); err == nil || !strings.Contains(err.Error(), "one") {
		t.Errorf("it goes on into another app: %v", err)
	}
	if _, err := run(c, "one", row(9999)+whole); err == nil || !strings.Contains(err.Error(), "another file") {
		t.Errorf("it goes on with another file: %v", err)
	}
	if _, err := run(c, "one", row(0)); err == nil || !strings.Contains(err.Error(), "ends behind entry 1") {
		t.Errorf("it goes on with a file that is shorter: %v", err)
	}
	summary, err := run(c, "one", whole+row(2500)) // what was added behind is imported as well
	if err != nil || summary.Entries != 2501 || summary.Skipped < 1000 || summary.Created != 2501 {
		t.Errorf("%+v, %v", summary, err)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("the state is still there: %v", err)
	}
}
