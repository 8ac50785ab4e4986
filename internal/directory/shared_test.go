package directory_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// newSharedWorlds returns three directories over one PostgreSQL database, as three servers have it.
func newSharedWorlds(t *testing.T) []*world {
	t.Helper()
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	master := secret.NewMasterKey()
	worlds := make([]*world, 3)
	exchange := bus.NewExchange()
	for n := range worlds {
		store, err := sqlstore.OpenShared(t.Context(), url, sqlstore.Cluster{Server: fmt.Sprint("server-", n), Bus: exchange.Join()})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			worlds[n] = newWorldOn(t, store, master)
			worlds[n].url = url
			continue
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		other := &world{
			store: store, app: worlds[0].app, backend: worlds[0].backend, clock: worlds[0].clock, mostApps: worlds[0].mostApps,
		}
		other.Directory = other.over(t, master)
		worlds[n] = other
	}
	return worlds
}

// TestSharedRights takes rights away on one server, and asks the others for them as soon as that is answered.
func TestSharedRights(t *testing.T) {
	t.Parallel()
	worlds := newSharedWorlds(t)
	ctx := t.Context()
	policyOf := func(w *world) *directory.Policy {
		t.Helper()
		policy, err := w.Policy(ctx, w.app.ID)
		if err != nil {
			t.Fatal(err)
		}
		return policy
	}
	for n := range 15 {
		here, there := worlds[n%3], worlds[(n+1)%3]
		uid := fmt.Sprint("user-", n)
		if _, err := here.CreateUser(ctx, here.backend, directory.NewUser{UID: uid, Name: "Name"}); err != nil {
			t.Fatal(err)
		}
		token, err := there.CreateToken(ctx, there.backend, uid, directory.Device{})
		if err != nil {
			t.Fatalf("a user that another server has just made: %v", err)
		}
		for _, w := range worlds { // who remember it from then on
			if user, _, err := w.Authenticate(ctx, policyOf(w), token.Text); err != nil || user.UID != directory.UID(uid) {
				t.Fatalf("a token that another server has just minted: %+v, %v", user, err)
			}
		}
		switch n % 3 {
		case 0:
			_, err = here.DeleteToken(ctx, here.backend, uid, token.Text)
		case 1:
			_, err = here.DeactivateUser(ctx, here.backend, uid)
		case 2:
			_, err = here.EraseUser(ctx, here.backend, uid)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range worlds {
			if _, _, ok := w.LoggedIn(policyOf(w), token.Text); ok {
				t.Errorf("round %d: server %d remembers a token that is not good any more", n, i)
			}
			if _, _, err := w.Authenticate(ctx, policyOf(w), token.Text); err == nil {
				t.Errorf("round %d: server %d accepts a token that is not good any more", n, i)
			}
		}
	}
	key, err := worlds[0].CreateKey(ctx, worlds[0].backend, directory.NewKey{Name: "new", Scope: directory.FullAccess})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range worlds {
		if _, err := w.Key(policyOf(w), key.Text); err != nil {
			t.Errorf("server %d does not know a new key: %v", i, err)
		}
	}
	if _, err := worlds[1].DeleteKey(ctx, worlds[1].backend, key.Text, false); err != nil {
		t.Fatal(err)
	}
	for i, w := range worlds {
		if _, err := w.Key(policyOf(w), key.Text); err == nil {
			t.Errorf("server %d accepts a key that is deleted", i)
		}
	}
}

// TestSharedLists writes on one server and lists on another, which is told up to where it must be.
func TestSharedLists(t *testing.T) {
	t.Parallel()
	worlds := newSharedWorlds(t)
	ctx := t.Context()
	list := func(w *world) string {
		t.Helper()
		policy, err := w.Policy(ctx, w.app.ID)
		if err != nil {
			t.Fatal(err)
		}
		filter := directory.UserFilter{SortBy: "name", Page: directory.Page{Size: 100}}
		found, err := w.ListUsers(ctx, w.backend, policy, directory.User{}, filter)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, seen := range found.Items {
			names = append(names, seen.Name)
		}
		return strings.Join(names, " ")
	}
	for _, w := range worlds {
		list(w) // which makes the index
	}
	for n := range 30 {
		writer, reader := worlds[n%3], worlds[(n+1+n%2)%3]
		uid, name := fmt.Sprintf("u%d", n%10), fmt.Sprintf("name-%02d", n)
		var err error
		if n < 10 {
			_, err = writer.CreateUser(ctx, writer.backend, directory.NewUser{UID: uid, Name: name})
		} else {
			_, err = writer.UpdateUser(ctx, writer.backend, uid, directory.UserPatch{Name: &name})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.CatchUp(ctx, reader.app.ID, revisionOf(ctx, t, writer)); err != nil {
			t.Fatal(err)
		}
		if names := list(reader); !strings.HasSuffix(names, name) {
			t.Fatalf("write %d: a list of another server says %s", n, names)
		}
	}
}

func revisionOf(ctx context.Context, t *testing.T, w *world) (revision int64) {
	t.Helper()
	_, revision, err := w.ListChanges(ctx, w.backend, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}
