package directory_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// user returns the caller who is a logged-in user.
func (w *world) user(uid directory.UID, token directory.Token) directory.Caller {
	return directory.Caller{App: w.app.ID, Actor: directory.Actor("user:" + uid), User: uid, Token: token.ID}
}

// authOnly returns the caller with an authOnly key.
func (w *world) authOnly(t *testing.T) directory.Caller {
	t.Helper()
	key, err := w.CreateKey(t.Context(), w.backend, directory.NewKey{Name: "Login", Scope: directory.AuthOnly})
	if err != nil {
		t.Fatal(err)
	}
	return directory.Caller{App: w.app.ID, Actor: directory.Actor("key:" + key.ID), Key: key.ID}
}

func (w *world) get(t *testing.T, uid string) directory.User {
	t.Helper()
	seen, err := w.GetUser(t.Context(), w.backend, w.policy(t), directory.User{}, uid)
	if err != nil {
		t.Fatal(err)
	}
	return *seen.User
}

// TestDirectory_authOnlyKeysMayNotCreate asks for everything that makes users, in an app that denies it and in one that
// does not any more.
func TestDirectory_authOnlyKeysMayNotCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	authOnly := w.authOnly(t)
	w.create(t, "old")
	name := "New name"
	row := func(uid string) directory.UserRow {
		return directory.UserRow{UID: uid, Patch: directory.UserPatch{Name: &name}}
	}
	calls := map[string]func(caller directory.Caller, uid string) error{
		"CreateUser": func(caller directory.Caller, uid string) error {
			_, err := w.CreateUser(t.Context(), caller, directory.NewUser{UID: uid, Name: name})
			return err
		},
		"UpsertUser": func(caller directory.Caller, uid string) error {
			_, err := w.UpsertUser(t.Context(), caller, row(uid))
			return err
		},
		"UpsertUser of one that there is": func(caller directory.Caller, _ string) error {
			_, err := w.UpsertUser(t.Context(), caller, row("old"))
			return err
		},
		"UpsertUsers": func(caller directory.Caller, uid string) error {
			_, err := w.UpsertUsers(t.Context(), caller, []directory.UserRow{row(uid)}, nil)
			return err
		},
		"a dry run of UpsertUsers": func(caller directory.Caller, uid string) error {
			_, err := w.UpsertUsers(t.Context(), caller, []directory.UserRow{row(uid)}, &directory.Trial{})
			return err
		},
	}
	for _, deny := range []bool{true, false} {
		patch := directory.AppSettingsPatch{DenyUserCreationByAuthOnlyKeys: &deny}
		if _, err := w.UpdateAppSettings(t.Context(), w.backend, patch); err != nil {
			t.Fatal(err)
		}
		for call, make := range calls {
			uid := strings.ReplaceAll(strings.ToLower(call), " ", "-")
			if err := make(authOnly, uid); directory.IsCode(err, directory.CodeNoAccess) != deny || !deny && err != nil {
				t.Errorf("%s with an authOnly key, denied %t: %v", call, deny, err)
			}
			if err := make(w.backend, uid+"-by-backend"); deny && err != nil {
				t.Errorf("%s with a fullAccess key, where authOnly keys are denied it: %v", call, err)
			}
		}
		if _, err := w.UpdateUser(t.Context(), authOnly, "old", row("old").Patch); err != nil {
			t.Errorf("UpdateUser with an authOnly key, denied creation %t: %v", deny, err)
		}
	}
}

// TestDirectory_restrictedFeatures restricts each feature for a role, and makes the calls that are it as a user with
// the role, as one with another, and with a key.
func TestDirectory_restrictedFeatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.CreateRole(t.Context(), w.backend, directory.Role{ID: "guest", Name: "Guest"}); err != nil {
		t.Fatal(err)
	}
	w.create(t, "bob")
	logIn := func(uid, role string) (directory.Caller, directory.User) {
		created, err := w.CreateUser(t.Context(), w.backend, directory.NewUser{
			UID: uid, Name: uid, Role: role, WithAuthToken: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return w.user(created.User.UID, created.Token), created.User
	}
	type callOf func(caller directory.Caller, acting directory.User) error
	text := "Here"
	calls := []struct {
		feature directory.Feature
		name    string
		call    callOf
		// userOnly calls are not for keys.
		userOnly bool
	}{
		{directory.FeatureListUsers, "ListUsers", func(caller directory.Caller, acting directory.User) error {
			_, err := w.ListUsers(t.Context(), caller, w.policy(t), acting, directory.UserFilter{})
			return err
		}, false},
		{directory.FeatureListUsers, "QueryPresence", func(caller directory.Caller, acting directory.User) error {
			_, _, err := w.QueryPresence(t.Context(), caller, w.policy(t), acting, []string{"bob"})
			return err
		}, false},
		{directory.FeatureGetUser, "GetUser", func(caller directory.Caller, acting directory.User) error {
			_, err := w.GetUser(t.Context(), caller, w.policy(t), acting, "bob")
			return err
		}, false},
		{directory.FeatureGetUser, "LookUpUsers", func(caller directory.Caller, acting directory.User) error {
			_, _, err := w.LookUpUsers(t.Context(), caller, w.policy(t), acting, []string{"bob"})
			return err
		}, false},
		{directory.FeatureBlock, "BlockUsers", func(caller directory.Caller, acting directory.User) error {
			_, err := w.BlockUsers(t.Context(), caller, w.policy(t), string(acting.UID), []string{"bob"})
			return err
		}, false},
		{directory.FeatureUnblock, "UnblockUsers", func(caller directory.Caller, acting directory.User) error {
			_, err := w.UnblockUsers(t.Context(), caller, w.policy(t), string(acting.UID), []string{"bob"})
			return err
		}, false},
		{directory.FeatureListBlocked, "ListBlockedUsers", func(caller directory.Caller, acting directory.User) error {
			_, err := w.ListBlockedUsers(
				t.Context(), caller, w.policy(t), acting, string(acting.UID), directory.BlockedBoth, directory.UserFilter{},
			)
			return err
		}, false},
		{directory.FeatureGetMe, "GetMe", func(caller directory.Caller, acting directory.User) error {
			_, err := w.GetMe(caller, w.policy(t), acting)
			return err
		}, true},
		{directory.FeatureListSettings, "GetSettings", func(caller directory.Caller, acting directory.User) error {
			_, err := w.GetSettings(caller, w.policy(t), acting)
			return err
		}, true},
		{directory.FeatureUpdateMe, "UpdateMe", func(caller directory.Caller, acting directory.User) error {
			me := directory.Me{Profile: directory.UserPatch{StatusMessage: &text}}
			_, err := w.UpdateMe(t.Context(), caller, w.policy(t), acting, me)
			return err
		}, true},
		{directory.FeatureLogout, "LogOut", func(caller directory.Caller, acting directory.User) error {
			return w.LogOut(t.Context(), caller, w.policy(t), acting)
		}, true},
	}
	guest, gus := logIn("gus", "guest")
	member, may := logIn("may", "default")
	for _, c := range calls {
		if _, err := w.RestrictFeatures(t.Context(), w.backend, "guest", []string{string(c.feature)}); err != nil {
			t.Fatal(err)
		}
		err := c.call(guest, gus)
		want := "Users with your role may not use " + string(c.feature) + "."
		if !directory.IsCode(err, directory.CodePermissionDenied) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s where %s is restricted: %v", c.name, c.feature, err)
		}
		if err := c.call(member, may); err != nil {
			t.Errorf("%s where %s is restricted for another role: %v", c.name, c.feature, err)
		}
		if !c.userOnly {
			if err := c.call(w.backend, gus); err != nil {
				t.Errorf("%s with a key, about a user who may not use %s: %v", c.name, c.feature, err)
			}
		}
		if err := w.AllowFeatures(t.Context(), w.backend, "guest", []string{string(c.feature)}, false); err != nil {
			t.Fatal(err)
		}
		if err := c.call(guest, gus); err != nil {
			t.Errorf("%s where %s is allowed again: %v", c.name, c.feature, err)
		}
	}
}

func hasPrivate(user directory.User) bool { return strings.Contains(string(user.Metadata), "@private") }

const secretive = `{"team":"engine","@private":{"email":"x@example.com"}}`

// TestDirectory_privateMetadata looks in everything that returns users for metadata that only a fullAccess key which
// acts for nobody may see.
func TestDirectory_privateMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	metadata := json.RawMessage(secretive)
	tokens := map[directory.UID]directory.Token{}
	for _, uid := range []string{"ada", "bob", "cy", "dan", "eve"} {
		created, err := w.CreateUser(t.Context(), w.backend, directory.NewUser{
			UID: uid, Name: "Name of " + uid, Metadata: metadata, WithAuthToken: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		tokens[created.User.UID] = created.Token
	}
	relations := []directory.RelationRow{
		{Kind: directory.Blocks, Pair: directory.Pair{UID: "ada", Other: "bob"}},
		{Kind: directory.Friendships, Pair: directory.Pair{UID: "ada", Other: "cy"}},
		{Kind: directory.FriendRequests, Pair: directory.Pair{UID: "dan", Other: "ada"}},
	}
	if _, err := w.PutRelations(t.Context(), w.backend, relations, nil); err != nil {
		t.Fatal(err)
	}
	w.SetOnline(w.app.ID, directory.OnlineUser{UID: "cy", Status: directory.StatusAvailable})

	type callers struct {
		caller directory.Caller
		acting directory.User
	}
	ada := w.get(t, "ada")
	onBehalf := w.backend
	onBehalf.User, onBehalf.Private = "ada", false
	kinds := map[string]callers{
		"a fullAccess key":                 {caller: w.backend},
		"a fullAccess key acting for ada":  {caller: onBehalf, acting: ada},
		"ada":                              {caller: w.user("ada", tokens["ada"]), acting: ada},
		"an authOnly key":                  {caller: w.authOnly(t)},
		"a caller without any credentials": {caller: directory.System(w.app.ID, "test")},
	}
	count := 0
	fresh := func(text string) string {
		count++
		return text + strconv.Itoa(count)
	}
	one := func(user directory.User, err error) ([]directory.User, error) { return []directory.User{user}, err }
	some := func(seen []directory.Seen, err error) (users []directory.User, _ error) {
		for _, item := range seen {
			users = append(users, *item.User)
		}
		return users, err
	}
	list := func(page directory.List[directory.Seen], err error) ([]directory.User, error) {
		return some(page.Items, err)
	}
	row := func(uid string) directory.UserRow {
		name := fresh("Name ")
		return directory.UserRow{UID: uid, Patch: directory.UserPatch{Name: &name, Metadata: &metadata}}
	}
	all := map[string]func(callers) ([]directory.User, error){
		"CreateUser": func(c callers) ([]directory.User, error) {
			created, err := w.CreateUser(
				t.Context(), c.caller, directory.NewUser{UID: fresh("new"), Name: "N", Metadata: metadata},
			)
			return one(created.User, err)
		},
		"UpdateUser": func(c callers) ([]directory.User, error) {
			return one(w.UpdateUser(t.Context(), c.caller, "eve", row("").Patch))
		},
		"UpsertUser, new": func(c callers) ([]directory.User, error) {
			result, err := w.UpsertUser(t.Context(), c.caller, row(fresh("new")))
			return one(result.User, err)
		},
		"UpsertUser": func(c callers) ([]directory.User, error) {
			result, err := w.UpsertUser(t.Context(), c.caller, row("eve"))
			return one(result.User, err)
		},
		"UpsertUsers": func(c callers) (users []directory.User, err error) {
			results, err := w.UpsertUsers(t.Context(), c.caller, []directory.UserRow{row("eve"), row(fresh("new"))}, nil)
			for _, result := range results {
				users = append(users, result.User)
			}
			return users, err
		},
		"a dry run of UpsertUsers": func(c callers) ([]directory.User, error) {
			results, err := w.UpsertUsers(t.Context(), c.caller, []directory.UserRow{row("eve")}, &directory.Trial{})
			if len(results) == 0 {
				return nil, err
			}
			return one(results[0].User, err)
		},
		"GetUser": func(c callers) ([]directory.User, error) {
			seen, err := w.GetUser(t.Context(), c.caller, w.policy(t), c.acting, "eve")
			return some([]directory.Seen{seen}, err)
		},
		"GetUser of the caller": func(c callers) ([]directory.User, error) {
			seen, err := w.GetUser(t.Context(), c.caller, w.policy(t), c.acting, "ada")
			return some([]directory.Seen{seen}, err)
		},
		"LookUpUsers": func(c callers) ([]directory.User, error) {
			found, _, err := w.LookUpUsers(t.Context(), c.caller, w.policy(t), c.acting, []string{"ada", "cy"})
			return some(found, err)
		},
		"QueryPresence": func(c callers) ([]directory.User, error) {
			found, _, err := w.QueryPresence(t.Context(), c.caller, w.policy(t), c.acting, []string{"eve", "cy"})
			return some(found, err)
		},
		"ListBlockedUsers": func(c callers) ([]directory.User, error) {
			return list(w.ListBlockedUsers(
				t.Context(), c.caller, w.policy(t), c.acting, "ada", directory.BlockedByMe, directory.UserFilter{},
			))
		},
		"ListFriends": func(c callers) ([]directory.User, error) {
			return list(w.ListFriends(t.Context(), c.caller, "ada", directory.UserFilter{}))
		},
		"ListFriendRequests": func(c callers) ([]directory.User, error) {
			return list(w.ListFriendRequests(t.Context(), c.caller, "ada", false, directory.UserFilter{}))
		},
		"ExplainVisibility": func(c callers) ([]directory.User, error) {
			e, err := w.ExplainVisibility(t.Context(), c.caller, w.policy(t), "ada", "eve")
			return []directory.User{e.Viewer, e.Subject}, err
		},
		"ExportUser": func(c callers) ([]directory.User, error) {
			dossier, err := w.ExportUser(t.Context(), c.caller, "eve")
			return one(dossier.User, err)
		},
	}
	for name, filter := range map[string]directory.UserFilter{
		"by default": {}, "by name": {SortBy: "name"}, "by activity": {SortBy: "lastActiveAt"},
		"of those online": {Status: directory.StatusAvailable}, "online first": {SortBy: "status"},
		"of those offline": {Status: directory.StatusOffline}, "of uids": {UIDs: []string{"cy", "eve"}},
	} {
		all["ListUsers "+name] = func(c callers) ([]directory.User, error) {
			return list(w.ListUsers(t.Context(), c.caller, w.policy(t), c.acting, filter))
		}
	}
	// What is about ada as that one sees it is so for everybody, and there is no list for those who see nothing.
	asAda := []string{"ListBlockedUsers", "ListFriends", "ListFriendRequests"}
	for kind, c := range kinds {
		for name, call := range all {
			users, err := call(c)
			if directory.IsCode(err, directory.CodeNoAccess) && strings.HasPrefix(name, "ListUsers") &&
				c.caller.User == "" && !c.caller.Private {
				continue
			}
			if err != nil || len(users) == 0 {
				t.Errorf("%s by %s: %d users, %v", name, kind, len(users), err)
				continue
			}
			sees := c.caller.Private && !slices.Contains(asAda, name)
			if shown := slices.ContainsFunc(users, hasPrivate); shown != sees {
				t.Errorf("%s shows private metadata to %s: %t", name, kind, shown)
			}
		}
	}
	// Nobody who does not see it has taken it away, or brought some.
	for _, uid := range []string{"ada", "bob", "cy", "dan", "eve"} {
		if user := w.get(t, uid); !hasPrivate(user) {
			t.Errorf("in the end %s has %s", uid, user.Metadata)
		}
	}
}

// TestDirectory_whoLogsInSeesNoPrivateMetadata follows a user from its login to what it changes about itself.
func TestDirectory_whoLogsInSeesNoPrivateMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	created, err := w.CreateUser(t.Context(), w.backend, directory.NewUser{
		UID: "ada", Name: "Ada", Metadata: json.RawMessage(secretive), WithAuthToken: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, user directory.User, err error) {
		t.Helper()
		if err != nil || hasPrivate(user) || !strings.Contains(string(user.Metadata), "team") {
			t.Errorf("%s: %s, %v", what, user.Metadata, err)
		}
	}
	ada := w.user("ada", created.Token)
	current, _, err := w.Authenticate(t.Context(), w.policy(t), created.Token.Text)
	check("Authenticate", current, err)
	again, _, ok := w.LoggedIn(w.policy(t), created.Token.Text)
	if !ok {
		t.Error("the login is not remembered")
	}
	check("LoggedIn", again, nil)
	me, err := w.GetMe(ada, w.policy(t), current)
	check("GetMe", me, err)
	public := json.RawMessage(`{"team":"engine"}`)
	name := "Ada L."
	for what, profile := range map[string]directory.UserPatch{
		"UpdateMe that opens a session": {}, "UpdateMe with what it sees": {Metadata: &public}, "UpdateMe": {Name: &name},
	} {
		user, err := w.UpdateMe(t.Context(), ada, w.policy(t), current, directory.Me{Profile: profile})
		check(what, user, err)
	}
	if user := w.get(t, "ada"); !hasPrivate(user) || user.Name != name {
		t.Errorf("what is left: %+v", user)
	}
}

// TestDirectory_revokedTokensAreTold revokes auth tokens in every way that is about one user, and looks at what the
// change log says and what still logs in.
func TestDirectory_revokedTokensAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "bob")
	mint := func() directory.Token {
		*w.clock = w.clock.Add(time.Minute)
		token, err := w.CreateToken(t.Context(), w.backend, "bob", directory.Device{})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first, second, third, fourth := mint(), mint(), mint(), mint()
	bob := w.get(t, "bob")
	for _, step := range []struct {
		name   string
		revoke func() error
		gone   []directory.Token
	}{
		{"DeleteToken", func() error {
			_, err := w.DeleteToken(t.Context(), w.backend, "bob", first.Text)
			return err
		}, []directory.Token{first}},
		{"LogOut", func() error {
			return w.LogOut(t.Context(), w.user("bob", second), w.policy(t), bob)
		}, []directory.Token{second}},
		{"LogOut again", func() error {
			return w.LogOut(t.Context(), w.user("bob", second), w.policy(t), bob)
		}, nil},
		{"DeleteTokens from before the fourth", func() error {
			done, err := w.DeleteTokens(t.Context(), w.backend, "bob", fourth.CreatedAt)
			if done.Tokens != 2 { // with the one that bob was made with
				t.Errorf("%d tokens were revoked", done.Tokens)
			}
			return err
		}, []directory.Token{third}},
		{"DeleteTokens", func() error {
			_, err := w.DeleteTokens(t.Context(), w.backend, "bob", 0)
			return err
		}, []directory.Token{fourth}},
		{"DeleteTokens of nobody any more", func() error {
			_, err := w.DeleteTokens(t.Context(), w.backend, "bob", 0)
			return err
		}, nil},
	} {
		_, before, err := w.ListChanges(t.Context(), w.backend, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := step.revoke(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		changes, _, err := w.ListChanges(t.Context(), w.backend, before, 10)
		if err != nil || len(changes) != min(1, len(step.gone)) {
			t.Errorf("%s: the changes are %+v, %v", step.name, changes, err)
			continue
		}
		for _, token := range step.gone {
			told := changes[0]
			if told.Kind != directory.TokenRevoked || told.Subject != "bob" || !slices.Contains(told.Fields, string(token.ID)) {
				t.Errorf("%s: the change is %+v", step.name, told)
			}
			_, _, err := w.Authenticate(t.Context(), w.policy(t), token.Text)
			if !directory.IsCode(err, directory.CodeTokenUnknown) {
				t.Errorf("%s: logging in with a token: %v", step.name, err)
			}
		}
	}
	last := mint()
	if _, err := w.EraseUser(t.Context(), w.backend, "bob"); err != nil {
		t.Fatal(err)
	}
	w.create(t, "bob")
	_, _, err := w.Authenticate(t.Context(), w.policy(t), last.Text)
	tokens, errList := w.ListTokens(t.Context(), w.backend, "bob", directory.Page{})
	if !directory.IsCode(err, directory.CodeTokenUnknown) || errList != nil || tokens.Total != 1 {
		t.Errorf("after another bob has come: %v, %d tokens, %v", err, tokens.Total, errList)
	}
}
