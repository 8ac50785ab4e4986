package apitest_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/apitest"
)

// TestDeletedRoleLeavesNoReference deletes a role that others name in their permissions, and makes one of the same
// name.
func TestDeletedRoleLeavesNoReference(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, database string) {
		s := startSockets(t, database, nil, "ada", "bob", "cy")
		backend := s.Backend(t)
		makeRole := func(id string) {
			must[api.Role](t)(backend.Roles.Create(t.Context(), api.CreateRoleRequest{Role: id, Name: id}))
		}
		set := func(role, permissions string) {
			call(t, s, http.MethodPut, "/v3/roles/"+role+"/permissions", `{"permissions":`+permissions+`}`, nil)
		}
		listedBy := func(uid string) (uids []string) {
			page := must[client.Page[api.User]](t)(backend.OnBehalfOf(uid).Users.List(t.Context(), client.UserListOptions{}))
			for _, user := range page.Items {
				uids = append(uids, user.UID)
			}
			slices.Sort(uids)
			return uids
		}
		is := func(what string, got, want []string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		for _, id := range []string{"vip", "staff", "guest"} {
			makeRole(id)
		}
		must[api.User](t)(backend.Users.Update(t.Context(), "bob", api.UpdateUserRequest{Role: new("vip")}))
		must[api.User](t)(backend.Users.Update(t.Context(), "cy", api.UpdateUserRequest{Role: new("staff")}))
		set("default", `{"listUsers.allowedRoles":["vip"],"getUserDetails.allowedRoles":["vip","guest"],
			"sendMessage.allowedCustomTypes":["vip"]}`)
		set("guest", `{"listUsers.allowedRoles":["staff"]}`)
		set("vip", `{"listUsers.allowedRoles":["vip"]}`)
		is("ada lists", listedBy("ada"), []string{"bob"})

		// Somebody who listens hears at once whom the changed role lets it hear of.
		ada := s.Login(t, apitest.Login{UID: "ada", Device: "a", Body: everybody})
		_, before, err := backend.Changes.List(t.Context(), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := backend.Roles.Delete(t.Context(), "vip"); err != nil {
			t.Fatal(err)
		}
		changes, _, err := backend.Changes.List(t.Context(), before, 100)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, change := range changes {
			told = append(told, change.Kind+" "+change.Subject)
			if change.Kind == "role.updated" {
				is("changed fields", change.Fields, []string{
					"permissions.getUserDetails.allowedRoles", "permissions.listUsers.allowedRoles",
				})
			}
		}
		is("the log", told, []string{"user.updated bob", "role.updated default", "role.deleted vip"})
		is("ada lists", listedBy("ada"), []string{"bob"}) // who has the default role now, and cy never was among them
		s.Login(t, apitest.Login{UID: "cy", Device: "c"})
		s.Login(t, apitest.Login{UID: "bob", Device: "b"})
		ada.Hears("bob online")

		permissions := map[string]json.RawMessage{}
		for _, permission := range must[[]api.Permission](t)(backend.Roles.Permissions(t.Context(), "default")) {
			permissions[permission.ID] = permission.Value
		}
		for id, want := range map[string]string{
			"listUsers.allowedRoles": `["default"]`, "getUserDetails.allowedRoles": `["guest"]`,
			"sendMessage.allowedCustomTypes": `["vip"]`,
		} {
			if got := string(permissions[id]); got != want {
				t.Errorf("%s is %s, want %s", id, got, want)
			}
		}

		// A new role of that name has nothing of the old one's.
		makeRole("vip")
		must[api.User](t)(backend.Users.Update(t.Context(), "cy", api.UpdateUserRequest{Role: new("vip")}))
		is("ada lists", listedBy("ada"), []string{"bob"})
	})
}
