package directory_test

import (
	"encoding/json"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
)

// TestNewRoleIsGrantedNothing makes a role that the permissions of another name, since a role of that name was deleted
// by a release that left such names.
func TestNewRoleIsGrantedNothing(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, w *world) {
		const permission = "listUsers.allowedRoles"
		vip := directory.Role{ID: "vip", Name: "VIP"}
		if _, err := w.CreateRole(t.Context(), w.backend, vip); err != nil {
			t.Fatal(err)
		}
		values := map[string]json.RawMessage{permission: json.RawMessage(`["vip"]`)}
		if _, _, err := w.SetPermissions(t.Context(), w.backend, "default", values); err != nil {
			t.Fatal(err)
		}
		err := w.store.Update(t.Context(), w.app.ID, nil, func(tx directory.Writer) error {
			return tx.DeleteRole(w.app.ID, "vip")
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.CreateRole(t.Context(), w.backend, vip); err != nil {
			t.Fatal(err)
		}
		role, err := w.GetRole(t.Context(), w.backend, "default")
		if err != nil || string(role.Permissions[permission]) != `["default"]` {
			t.Errorf("the new role is granted %s, %v", role.Permissions[permission], err)
		}
	})
}
