package directory_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/pgserver"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/sqlstore"
	"github.com/rollcall/rollcall/internal/storetest"
)

// world is a directory over a real database, with a clock that the test moves.
type world struct {
	*directory.Directory
	store   *sqlstore.Store
	app     directory.App
	backend directory.Caller
	clock   *time.Time
	// url is that of a database which many share.
	url string
	// mostApps is the limit of apps.
	mostApps int

	erasedMu sync.Mutex
	erased   []directory.Tombstone // guarded by erasedMu while others write
}

const day = 24 * time.Hour

func newWorld(t *testing.T, masters ...secret.MasterKey) *world {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, store, masters...)
}

// postgres is the server that the tests of this package share; each test has a database of its own.
var postgres *pgserver.Server

func TestMain(m *testing.M) { os.Exit(storetest.Main(m, &postgres)) }

func newPostgresWorld(t *testing.T) *world {
	t.Helper()
	url, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, store)
}

// onBothEngines runs a test on a world over each engine.
func onBothEngines(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for name, open := range map[string]func(*testing.T) *world{
		"SQLite": func(t *testing.T) *world { return newWorld(t) }, "PostgreSQL": newPostgresWorld,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// newWorldOn returns a directory over an empty store, which is closed with the test.
func newWorldOn(t *testing.T, store *sqlstore.Store, masters ...secret.MasterKey) *world {
	t.Helper()
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(masters) == 0 {
		masters = []secret.MasterKey{secret.NewMasterKey()}
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	w := &world{store: store, clock: &now, mostApps: 1_000_000}
	w.Directory = w.over(t, masters...)
	created, err := w.CreateApp(t.Context(), "operator", directory.NewApp{Name: "Test"})
	if err != nil {
		t.Fatal(err)
	}
	w.app = created.App
	w.backend = directory.Caller{App: created.App.ID, Actor: "key:test", Key: created.FullAccess.ID, Private: true}
	return w
}

// over returns another directory over the same database, with other master keys.
func (w *world) over(t *testing.T, masters ...secret.MasterKey) *directory.Directory {
	t.Helper()
	keyring, err := secret.NewKeyring(masters...)
	if err != nil {
		t.Fatal(err)
	}
	d := directory.New(directory.Config{
		Store: w.store, Secrets: keyring, Now: func() time.Time { return *w.clock }, Limits: directory.Limits{Apps: w.mostApps},
		Erased: func(tombstone directory.Tombstone) {
			w.erasedMu.Lock()
			defer w.erasedMu.Unlock()
			w.erased = append(w.erased, tombstone)
		},
	})
	t.Cleanup(d.Close)
	return d
}

// TestLeastUsedTokenGoes uses one token all day and another once, and mints until one of them has to go.
func TestLeastUsedTokenGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "bob")
	mint := func() directory.Token {
		token, err := w.CreateToken(t.Context(), w.backend, "bob", directory.Device{})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	policy, err := w.Policy(t.Context(), w.app.ID)
	if err != nil {
		t.Fatal(err)
	}
	use := func(token directory.Token) { // as a call does
		*w.clock = w.clock.Add(time.Hour)
		if _, _, remembered := w.LoggedIn(policy, token.Text); remembered {
			return
		}
		if _, _, err := w.Authenticate(t.Context(), policy, token.Text); err != nil {
			t.Fatal(err)
		}
	}
	has := func(token directory.Token) bool {
		_, err := w.GetToken(t.Context(), w.backend, "bob", string(token.ID))
		return err == nil
	}
	always, once := mint(), mint()
	use(always)
	use(once)
	use(always)
	for range 200 {
		*w.clock = w.clock.Add(time.Minute)
		if mint(); !has(once) {
			break
		}
	}
	if !has(always) || has(once) {
		t.Errorf("the token used always is there: %t, the one used once: %t", has(always), has(once))
	}
}

func (w *world) create(t *testing.T, uid string) directory.CreatedUser {
	t.Helper()
	created, err := w.CreateUser(t.Context(), w.backend, directory.NewUser{UID: uid, Name: "Name of " + uid, WithAuthToken: true})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func (w *world) policy(t *testing.T) *directory.Policy {
	t.Helper()
	policy, err := w.Policy(t.Context(), w.app.ID)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// everything returns the whole change log as text.
func (w *world) everything(t *testing.T) string {
	t.Helper()
	changes, last, err := w.ListChanges(t.Context(), w.backend, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, change := range changes {
		if change.Revision != int64(i+1) {
			t.Fatalf("change %d has revision %d", i+1, change.Revision)
		}
	}
	if last != int64(len(changes)) {
		t.Fatalf("the log has %d changes and ends at %d", len(changes), last)
	}
	text, err := json.Marshal(changes)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDirectory_DeleteUser_leavesOnlyATombstone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	created := w.create(t, "ada")
	w.create(t, "adam")
	if _, err := w.UpdateMe(t.Context(), directory.Caller{App: w.app.ID, Actor: "user:ada", User: "ada", Token: created.Token.ID}, w.policy(t), created.User,
		directory.Me{Profile: directory.UserPatch{StatusMessage: new(string)}}); err != nil {
		t.Fatal(err)
	}
	erased, err := w.EraseUser(t.Context(), w.backend, "Ada")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.erased, []directory.Tombstone{erased.Tombstone}) {
		t.Errorf("announced %v", w.erased)
	}
	if n := strings.Count(w.everything(t), `"ada"`); n != 1 || strings.Contains(w.everything(t), "user:ada") {
		t.Errorf("the log names the user %d times: %s", n, w.everything(t))
	}
	*w.clock = w.clock.Add(8 * day)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.everything(t), `"ada"`) {
		t.Errorf("after a week the log still names the user: %s", w.everything(t))
	}
	if !strings.Contains(w.everything(t), `"adam"`) || strings.Contains(erased.Hash, hex.EncodeToString([]byte("ada"))) {
		t.Error("somebody else was erased, or the tombstone tells who it is for")
	}
	if _, _, err := w.Authenticate(t.Context(), w.policy(t), created.Token.Text); !directory.IsCode(err, directory.CodeTokenUnknown) {
		t.Errorf("the token of the erased user: %v", err)
	}
}

func TestDirectory_ApplyTombstones(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "ada")
	erased, err := w.EraseUser(t.Context(), w.backend, "ada")
	if err != nil {
		t.Fatal(err)
	}
	// An older backup has the user and not the tombstone; here another time in the tombstone stands for that.
	known := erased.Tombstone
	known.At++
	*w.clock = w.clock.Add(time.Second)
	w.create(t, "ada")
	w.create(t, "bob")
	if erased, err := w.ApplyTombstones(t.Context(), []directory.Tombstone{known}); err != nil || erased != 1 {
		t.Errorf("erased %d, %v", erased, err)
	}
	back := w.clock.Unix() - 3600 // an import keeps the time at which somebody was made before
	name := "Ada"
	if _, err := w.UpsertUser(t.Context(), w.backend, directory.UserRow{UID: "ada", Patch: directory.UserPatch{Name: &name}, CreatedAt: &back}); err != nil {
		t.Fatal(err)
	}
	if erased, err := w.ApplyTombstones(t.Context(), []directory.Tombstone{known}); err != nil || erased != 0 {
		t.Errorf("a tombstone that has been applied erased %d, %v", erased, err)
	}
	if _, err := w.EraseUser(t.Context(), w.backend, "ada"); err != nil {
		t.Fatal(err)
	}
	*w.clock = w.clock.Add(day)
	w.create(t, "ada")
	known.At++
	if erased, err := w.ApplyTombstones(t.Context(), []directory.Tombstone{known}); err != nil || erased != 0 {
		t.Errorf("erased %d created after the tombstone, %v", erased, err)
	}
	if _, err := w.GetUser(t.Context(), w.backend, w.policy(t), directory.User{}, "bob"); err != nil {
		t.Error(err)
	}
}

func TestDirectory_ListApps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"École Élan", "Shop_1", "100% other"} {
		if _, err := w.CreateApp(t.Context(), "operator", directory.NewApp{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for search, want := range map[string]int{"école": 1, "ÉLAN": 1, "shop_": 1, "p_1": 1, "%": 1, "OTHER": 1, "nothing": 0, "": 4} {
		list, err := w.ListApps(t.Context(), search, directory.Page{Size: 1})
		if err != nil || list.Total != want || len(list.Items) != min(want, 1) {
			t.Errorf("%q finds %d with %d on a page, %v; want %d", search, list.Total, len(list.Items), err, want)
		}
	}
	if list, err := w.ListApps(t.Context(), "", directory.Page{Size: 3, Number: 2}); err != nil || len(list.Items) != 1 || list.Total != 4 {
		t.Errorf("page 2: %+v, %v", list, err)
	}
}

func TestDirectory_CreateApp_limit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	strict := directory.New(directory.Config{Store: w.store, Secrets: keyring, Limits: directory.Limits{Apps: 3}})
	var made atomic.Int64
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() {
			switch _, err := strict.CreateApp(t.Context(), "operator", directory.NewApp{Name: "A"}); {
			case err == nil:
				made.Add(1)
			case !directory.IsCode(err, directory.CodeAppLimit):
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if made.Load() != 2 {
		t.Errorf("%d were made beside the first, with a limit of 3", made.Load())
	}
}

func TestDirectory_Sweep_purgesArchivedApps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, "ada")
	operator := directory.Operator(w.app.ID)
	if _, err := w.DeleteApp(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Policy(t.Context(), w.app.ID); !directory.IsCode(err, directory.CodeAppArchived) {
		t.Errorf("an archived app: %v", err)
	}
	*w.clock = w.clock.Add(29 * day)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RestoreApp(t.Context(), operator); err != nil {
		t.Fatalf("after 29 days it cannot be restored: %v", err)
	}
	w.policy(t)
	if _, err := w.DeleteApp(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	*w.clock = w.clock.Add(31 * day)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.GetApp(t.Context(), w.app.ID); !directory.IsCode(err, directory.CodeAppNotFound) {
		t.Errorf("after 31 days: %v", err)
	}
}

func TestDirectory_ResealSecrets(t *testing.T) {
	t.Parallel()
	old, current := secret.NewMasterKey(), secret.NewMasterKey()
	w := newWorld(t, old)
	var tokens []string
	for i := range 3 {
		tokens = append(tokens, w.create(t, fmt.Sprint("user-", i)).Token.Text)
	}
	created, err := w.CreateKey(t.Context(), w.backend, directory.NewKey{Name: "K", Scope: directory.FullAccess})
	if err != nil {
		t.Fatal(err)
	}
	works := func(d *directory.Directory) error {
		policy, err := d.Policy(t.Context(), w.app.ID)
		if err != nil {
			return err
		}
		if _, err := d.Key(policy, created.Text); err != nil {
			return err
		}
		for _, token := range tokens {
			if _, _, err := d.Authenticate(t.Context(), policy, token); err != nil {
				return err
			}
		}
		list, err := d.ListKeys(t.Context(), w.backend, directory.KeyQuery{})
		if err == nil && !slices.ContainsFunc(list.Items, func(key directory.Key) bool { return key.Text == created.Text }) {
			err = fmt.Errorf("the key is not listed with its text")
		}
		return err
	}
	if _, err := w.CreateApp(t.Context(), "operator", directory.NewApp{Name: "Newer"}); err != nil {
		t.Fatal(err)
	}
	w.mostApps = 1 // fewer than there are by now
	both := w.over(t, current, old)
	if err := works(both); err != nil {
		t.Errorf("before resealing: %v", err)
	}
	if resealed, err := both.ResealSecrets(t.Context()); err != nil || resealed != 8 {
		t.Errorf("resealed %d of 5 keys and 3 tokens, %v", resealed, err)
	}
	if resealed, err := both.ResealSecrets(t.Context()); err != nil || resealed != 0 {
		t.Errorf("resealed %d again, %v", resealed, err)
	}
	if err := works(w.over(t, current)); err != nil {
		t.Errorf("without the old master key: %v", err)
	}
	if err := works(w.over(t, old)); err == nil {
		t.Error("the old master key still opens everything")
	}
}

func TestDirectory_idempotencyKeysAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := directory.WithIdempotencyKey(t.Context(), "key", "request")
	first, err := w.CreateUser(ctx, w.backend, directory.NewUser{UID: "ada", Name: "Ada", WithAuthToken: true})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.CreateUser(ctx, w.backend, directory.NewUser{UID: "ada", Name: "Ada", WithAuthToken: true})
	if err != nil || again.Token.Text != first.Token.Text || again.User.Metadata != nil {
		t.Errorf("the repetition: %+v, %v", again, err)
	}
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateUser(ctx, w.backend, directory.NewUser{UID: "ada", Name: "Ada"}); err != nil {
		t.Errorf("forgotten too early: %v", err)
	}
	*w.clock = w.clock.Add(25 * time.Hour)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateUser(ctx, w.backend, directory.NewUser{UID: "ada", Name: "Ada"}); !directory.IsCode(err, directory.CodeUserExists) {
		t.Errorf("not forgotten: %v", err)
	}
}

// TestDirectory_policyNeverOutlivesAChange reads policies while keys come and go: a key deleted before a read began
// must not be in what was read.
func TestDirectory_policyNeverOutlivesAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := w.Policy(t.Context(), w.app.ID); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 50 {
		key, err := w.CreateKey(t.Context(), w.backend, directory.NewKey{Name: "K"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Key(w.policy(t), key.Text); err != nil {
			t.Errorf("a key just made: %v", err)
		}
		if _, err := w.DeleteKey(t.Context(), w.backend, string(key.ID), false); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Key(w.policy(t), key.Text); err == nil {
			t.Error("a key just deleted still works")
		}
	}
	close(stop)
	readers.Wait()
}

func TestDirectory_DeleteRole_movesManyUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.CreateRole(t.Context(), w.backend, directory.Role{ID: "vip", Name: "VIP"}); err != nil {
		t.Fatal(err)
	}
	const users = 1203
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() {
			if _, err := w.CreateUser(t.Context(), w.backend, directory.NewUser{UID: fmt.Sprint("u", i), Name: "U", Role: "VIP"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if _, err := w.DeactivateUser(t.Context(), w.backend, "u7"); err != nil {
		t.Fatal(err)
	}
	_, before, err := w.ListChanges(t.Context(), w.backend, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteRole(t.Context(), w.backend, "vip"); err != nil {
		t.Fatal(err)
	}
	_, after, err := w.ListChanges(t.Context(), w.backend, 0, 1)
	if err != nil || after-before != users+1 {
		t.Errorf("%d changes, %v; want one a user and one for the role", after-before, err)
	}
	list, err := w.ListUsers(t.Context(), w.backend, w.policy(t), directory.User{}, directory.UserFilter{Roles: []string{"default"}, Activity: directory.ActiveOrDeactivated})
	if err != nil || list.Total != users {
		t.Errorf("%d users have the default role, %v", list.Total, err)
	}
}

// TestDirectory_PutRelations puts rows that say the same twice, that exceed what a user may have, and that contradict
// each other.
func TestDirectory_PutRelations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	strict := directory.New(directory.Config{
		Store: w.store, Secrets: keyring, Now: func() time.Time { return *w.clock }, Limits: directory.Limits{FriendsPerUser: 2, BlocksPerUser: 2},
	})
	for _, uid := range []string{"a", "b", "c", "d", "e"} {
		w.create(t, uid)
	}
	_, before, err := w.ListChanges(t.Context(), w.backend, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	put := func(rows ...directory.RelationRow) (codes []directory.Code) {
		t.Helper()
		outcomes, err := strict.PutRelations(t.Context(), w.backend, rows, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, outcome := range outcomes {
			code := directory.Code("")
			if outcome.Err != nil {
				code = outcome.Err.Code
			}
			codes = append(codes, code)
		}
		return codes
	}
	row := func(kind directory.PairKind, uid, other directory.UID) directory.RelationRow {
		return directory.RelationRow{Kind: kind, Pair: directory.Pair{UID: uid, Other: other}}
	}
	for _, test := range []struct {
		rows []directory.RelationRow
		want []directory.Code
	}{
		{
			[]directory.RelationRow{row(directory.Blocks, "a", "b"), row(directory.Blocks, "a", "b"), row(directory.Blocks, "a", "c"), row(directory.Blocks, "a", "d"), row(directory.Blocks, "b", "a")},
			[]directory.Code{"", "", "", directory.CodeQuota, ""},
		},
		{[]directory.RelationRow{row(directory.Blocks, "a", "c"), row(directory.Blocks, "a", "e")}, []directory.Code{"", directory.CodeQuota}},
		{
			[]directory.RelationRow{row(directory.FriendRequests, "c", "a"), row(directory.Friendships, "c", "a"), row(directory.Friendships, "a", "c"), row(directory.FriendRequests, "a", "c")},
			[]directory.Code{directory.CodeBlockedSender, "", "", directory.CodeAlreadyFriend},
		},
		{
			[]directory.RelationRow{
				row(directory.FriendRequests, "d", "e"), row(directory.FriendRequests, "e", "d"),
				row(directory.Blocks, "e", "d"), row(directory.FriendRequests, "d", "e"), row(directory.FriendRequests, "e", "d"),
			},
			[]directory.Code{"", "", "", directory.CodeBlockedSender, directory.CodeBlockedReceiver},
		},
		{
			[]directory.RelationRow{row(directory.Friendships, "d", "a"), row(directory.Friendships, "e", "a"), row(directory.Friendships, "a", "a"), row(directory.Friendships, "a", "nobody")},
			[]directory.Code{"", directory.CodeQuota, directory.CodeSelfRelation, directory.CodeUserNotFound},
		},
	} {
		if got := put(test.rows...); !slices.Equal(got, test.want) {
			t.Errorf("%v: got %q, want %q", test.rows, got, test.want)
		}
	}
	changes, _, err := w.ListChanges(t.Context(), w.backend, before, 100)
	if err != nil {
		t.Fatal(err)
	}
	var logged []string
	for _, change := range changes {
		logged = append(logged, fmt.Sprint(change.Kind, " ", change.Subject, " ", change.Object))
	}
	want := []string{
		"user.blocked a b", "user.blocked a c", "user.blocked b a", "friend.added a c",
		"friend.requested d e", "friend.requested e d", "user.blocked e d", "friend.added a d",
	}
	for i := range logged { // a friendship has no direction
		logged[i] = strings.Replace(strings.Replace(logged[i], "friend.added c a", "friend.added a c", 1), "friend.added d a", "friend.added a d", 1)
	}
	if !slices.Equal(logged, want) {
		t.Errorf("logged %q, want %q", logged, want)
	}
	for _, uid := range []string{"a", "d", "e"} {
		dossier, err := w.ExportUser(t.Context(), w.backend, uid)
		if err != nil || len(dossier.Pairs[directory.FriendRequests]) != 0 {
			t.Errorf("requests between friends, or across a block, are left: %v, %v", dossier.Pairs, err)
		}
	}
}

// TestDirectory_AnswerFriends_acrossABlock accepts requests that stand across blocks, as databases have them from
// before blocks ended requests.
func TestDirectory_AnswerFriends_acrossABlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, uid := range []string{"ada", "bob", "cy"} {
		w.create(t, uid)
	}
	err := w.store.Update(t.Context(), w.app.ID, nil, func(tx directory.Writer) error {
		return errors.Join(
			tx.PutFriendRequest(w.app.ID, "bob", "ada", 1), tx.PutBlock(w.app.ID, "ada", "bob", 2),
			tx.PutFriendRequest(w.app.ID, "cy", "ada", 1), tx.PutBlock(w.app.ID, "cy", "ada", 2),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := w.AnswerFriends(t.Context(), w.backend, "ada", directory.FriendAnswers{Accept: []string{"bob", "cy"}})
	if err != nil || len(outcomes) != 2 {
		t.Fatal(outcomes, err)
	}
	for i, code := range []directory.Code{directory.CodeBlockedReceiver, directory.CodeBlockedSender} {
		if refused := outcomes[i].Err; refused == nil || refused.Code != code {
			t.Errorf("%s: %v", outcomes[i].ID, refused)
		}
	}
	if dossier, err := w.ExportUser(t.Context(), w.backend, "ada"); err != nil ||
		len(dossier.Pairs[directory.Friendships]) != 0 {
		t.Errorf("friends across a block: %v %v", dossier.Pairs, err)
	}
}
