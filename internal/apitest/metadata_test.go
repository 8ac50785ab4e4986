package apitest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
)

// TestFilterByMetadata declares metadata keys on an app that has users already, and filters by them.
func TestFilterByMetadata(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, database string) {
		s := apitest.Start(t, database, nil)
		c, ctx := s.Backend(t), t.Context()
		var rows []api.UserRow
		for i := range 999 {
			row := api.UserRow{UID: fmt.Sprintf("user-%03d", i)}
			name, metadata := fmt.Sprintf("User %d", i), json.RawMessage(fmt.Sprintf(`{"city":%q,"level":%d,"teams":["all","t%d"],"@private":{"city":"Atlantis"}}`, []string{"Lisbon", "Porto, Norte", "Faro"}[i%3], i%10, i%2))
			row.Name, row.Metadata = &name, &metadata
			rows = append(rows, row)
		}
		must[[]api.UserRowResult](t)(c.Users.Batch(ctx, rows))
		find := func(metadata map[string][]string) (int, error) {
			page, err := c.Users.List(ctx, client.UserListOptions{Metadata: metadata})
			return page.Pagination.Total, err
		}
		declare := func(keys ...string) {
			t.Helper()
			settings := must[api.AppSettings](t)(s.Operator(t).Apps.UpdateSettings(ctx, s.Credentials.AppID, api.UpdateAppSettingsRequest{MetadataKeys: &keys}))
			await(t, "the keys are indexed", func() bool {
				settings = must[api.AppSettings](t)(s.Operator(t).Apps.Settings(ctx, s.Credentials.AppID))
				return len(settings.MetadataKeysIndexing) == 0
			})
			if !slices.Equal(settings.MetadataKeys, keys) {
				t.Errorf("the declared keys are %v, not %v", settings.MetadataKeys, keys)
			}
		}
		if _, err := find(map[string][]string{"city": {"Lisbon"}}); !client.IsCode(err, api.CodeBadRequest) {
			t.Errorf("a key that is not declared: %v", err)
		}
		declare("city", "level", "teams")
		for _, want := range []struct {
			metadata map[string][]string
			total    int
		}{
			{map[string][]string{"city": {"Lisbon"}}, 333},
			{map[string][]string{"city": {"Porto, Norte", "Faro"}}, 666},
			{map[string][]string{"city": {"lisbon", "Atlantis"}}, 0},
			{map[string][]string{"city": {"Lisbon"}, "level": {"0"}}, 34},
			{map[string][]string{"teams": {"t1"}, "level": {"1", "2"}}, 100},
			{map[string][]string{"teams": {"all"}}, 999},
		} {
			if total := must[int](t)(find(want.metadata)); total != want.total {
				t.Errorf("%v: %d users, want %d", want.metadata, total, want.total)
			}
		}
		metadata := json.RawMessage(`{"city":"Lisbon"}`)
		must[api.User](t)(c.Users.Update(ctx, "user-001", api.UpdateUserRequest{Metadata: &metadata}))
		must[api.User](t)(c.Users.Create(ctx, api.CreateUserRequest{UID: "new", Name: "New", Metadata: metadata}))
		if err := c.Users.Erase(ctx, "user-000"); err != nil {
			t.Fatal(err)
		}
		if total := must[int](t)(find(map[string][]string{"city": {"Lisbon"}})); total != 334 {
			t.Errorf("after one came, one moved and one went: %d users", total)
		}
		declare("level")
		if _, err := find(map[string][]string{"city": {"Lisbon"}}); !client.IsCode(err, api.CodeBadRequest) {
			t.Errorf("a key that is declared no more: %v", err)
		}
		if _, err := s.Operator(t).Apps.UpdateSettings(ctx, s.Credentials.AppID, api.UpdateAppSettingsRequest{MetadataKeys: &[]string{"@private"}}); !client.IsCode(err, api.CodeBadRequest) {
			t.Errorf("private metadata: %v", err)
		}
	})
}
