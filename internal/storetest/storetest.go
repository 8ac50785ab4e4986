// Package storetest is the conformance suite of directory.Store: every promise of the interface as a test, run by each
// engine.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/directory"
)

const app directory.AppID = "app"

// Run exercises every promise of the store. open returns an empty store, which Run does not close.
func Run(t *testing.T, open func(t *testing.T) directory.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, directory.Store)
	}{
		{"apps", testApps},
		{"collaborators", testCollaborators},
		{"users read back whole", testUsersReadBack},
		{"user rows", testUserRows},
		{"last active", testLastActive},
		{"commits are followed", testFollow},
		{"relations", testRelations},
		{"more relations than are asked for", testManyRelations},
		{"pairs", testPairs},
		{"tokens", testTokens},
		{"keys", testKeys},
		{"roles", testRoles},
		{"changes", testChanges},
		{"erased changes", testEraseChanges},
		{"tombstones", testTombstones},
		{"answers", testAnswers},
		{"activity", testActivity},
		{"presence", testPresence},
		{"timeline", testTransitions},
		{"ids are compared byte by byte", testCollation},
		{"refused update leaves nothing", testRefusedUpdate},
		{"refused update that read its writes", testRefusedAfterReading},
		{"an update reads its own writes", testReadOwnWrites},
		{"view sees one state", testViewSnapshot},
		{"revisions have no gaps under concurrency", testRevisionsUnderConcurrency},
		{"no reader sees a later revision first", testRevisionsVisibleInOrder},
		{"concurrent creations of one user", testConcurrentCreation},
		{"failing update does not fail its neighbours", testNeighbours},
		{"canceled update does not happen", testCanceled},
		{"update of many apps", testManyApps},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

// update runs fn and fails the test when it fails.
func update(t *testing.T, s directory.Store, fn func(tx directory.Writer) error) {
	t.Helper()
	updateApp(t, s, app, fn)
}

// updateApp is update for another app.
func updateApp(t *testing.T, s directory.Store, app directory.AppID, fn func(tx directory.Writer) error) {
	t.Helper()
	if err := s.Update(t.Context(), app, nil, fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s directory.Store, fn func(tx directory.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

func testApps(t *testing.T, s directory.Store) {
	first := directory.App{
		ID: app, Name: "Shop_1", Region: "eu", Owner: "o@example.com", Salt: []byte{0, 1, 255}, CreatedAt: 10,
		Settings: directory.AppSettings{RevealSecrets: true, TokensValidFrom: 7},
	}
	second := directory.App{ID: "second", Name: "100% other", Salt: []byte("s"), CreatedAt: 20}
	update(t, s, func(tx directory.Writer) error { return errors.Join(tx.PutApp(first), tx.PutApp(second)) })
	first.Name, first.DeleteAt, first.Settings.RevealSecrets = "Renamed_1", 99, false
	update(t, s, func(tx directory.Writer) error { return tx.PutApp(first) })
	view(t, s, func(tx directory.Reader) error {
		got, found, err := tx.App(app)
		equal(t, got, first)
		equal(t, found, true)
		_, found, missing := tx.App("none")
		equal(t, found, false)
		all, errAll := tx.Apps()
		equal(t, all, []directory.App{second, first})
		count, errCount := tx.CountApps()
		equal(t, count, 2)
		return errors.Join(err, missing, errAll, errCount)
	})
	for _, app := range []directory.AppID{app, "second"} {
		updateApp(t, s, app, func(tx directory.Writer) error {
			return tx.PutUser(app, directory.User{UID: "u", Name: "U", Role: "default"})
		})
	}
	update(t, s, func(tx directory.Writer) error { return tx.DeleteApp(app) })
	view(t, s, func(tx directory.Reader) error {
		_, found, err := tx.App(app)
		equal(t, found, false)
		_, gone, errGone := tx.User(app, "u")
		equal(t, gone, false)
		_, kept, errKept := tx.User("second", "u")
		equal(t, kept, true)
		return errors.Join(err, errGone, errKept)
	})
}

func testCollaborators(t *testing.T, s directory.Store) {
	a := directory.Collaborator{Email: "a@example.com", Name: "A", Role: "admin", CreatedAt: 2}
	b := directory.Collaborator{Email: "b@example.com", Role: "developer", CreatedAt: 1}
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(tx.PutCollaborator(app, a), tx.PutCollaborator(app, b))
	})
	a.Role = "moderator"
	update(t, s, func(tx directory.Writer) error { return tx.PutCollaborator(app, a) })
	view(t, s, func(tx directory.Reader) error {
		got, err := tx.Collaborators(app)
		equal(t, got, []directory.Collaborator{b, a})
		return err
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteCollaborator(app, b.Email) })
	view(t, s, func(tx directory.Reader) error {
		got, err := tx.Collaborators(app)
		equal(t, got, []directory.Collaborator{a})
		return err
	})
}

// fullUser has every field set.
func fullUser() directory.User {
	return directory.User{
		UID: "u", Name: "Ünal 😀 O'Hara", Avatar: "https://example.com/a.png", Link: "https://example.com/u", Role: "default",
		StatusMessage: "busy\nuntil noon", Metadata: json.RawMessage(`{"a":{"b":[1,2.50,null]},"\u0000":"\u0000"}`),
		Tags:      []string{"b", "a,c", `"`},
		CreatedAt: 100, UpdatedAt: 200, LastActiveAt: 300, DeactivatedAt: 0,
	}
}

func testUsersReadBack(t *testing.T, s directory.Store) {
	user := fullUser()
	read := func() (directory.User, bool) {
		var user directory.User
		var found bool
		view(t, s, func(tx directory.Reader) (err error) {
			user, found, err = tx.User(app, "u")
			return err
		})
		return user, found
	}
	if _, found := read(); found {
		t.Fatal("found a user before there was one")
	}
	update(t, s, func(tx directory.Writer) error { return tx.PutUser(app, user) })
	got, found := read()
	equal(t, got, user)
	equal(t, found, true)
	for name, change := range map[string]func(){
		"name": func() { user.Name = "New" }, "avatar": func() { user.Avatar = "" }, "link": func() { user.Link = "" },
		"role":           func() { user.Role = "vip" },
		"status message": func() { user.StatusMessage = "" }, "metadata": func() { user.Metadata = nil },
		"tags":      func() { user.Tags = nil },
		"createdAt": func() { user.CreatedAt = 101 }, "updatedAt": func() { user.UpdatedAt = 201 },
		"lastActiveAt": func() { user.LastActiveAt = 301 }, "deactivatedAt": func() { user.DeactivatedAt = 400 },
	} {
		change()
		update(t, s, func(tx directory.Writer) error { return tx.PutUser(app, user) })
		if got, _ := read(); !cmp.Equal(got, user) {
			t.Errorf("after changing %s: %s", name, cmp.Diff(user, got))
		}
	}
	update(t, s, func(tx directory.Writer) error { return tx.DeleteUser(app, "u") })
	if _, found := read(); found {
		t.Error("found a deleted user")
	}
}

func uidsOf(users []directory.User) []directory.UID {
	uids := []directory.UID{}
	for _, user := range users {
		uids = append(uids, user.UID)
	}
	return uids
}

func testUserRows(t *testing.T, s directory.Store) {
	var all []directory.UID
	update(t, s, func(tx directory.Writer) error {
		for i := range 700 {
			user := fullUser()
			user.UID = directory.UID(fmt.Sprintf("u%03d", i))
			all = append(all[:i], user.UID)
			if err := tx.PutUser(app, user); err != nil {
				return err
			}
		}
		return nil
	})
	updateApp(t, s, "other", func(tx directory.Writer) error { return tx.PutUser("other", fullUser()) })
	for name, change := range map[string]func(tx directory.Writer) error{
		"put":         func(tx directory.Writer) error { return tx.PutUser(app, fullUser()) },
		"last active": func(tx directory.Writer) error { return tx.PutLastActive(app, "u001", 5) },
		"delete":      func(tx directory.Writer) error { return tx.DeleteUser(app, "u001") },
	} {
		if err := s.Update(t.Context(), "other", nil, change); err == nil {
			t.Errorf("an update of one app changed a user of another: %s", name)
		}
	}
	view(t, s, func(tx directory.Reader) error {
		named, err := tx.UsersNamed(app, append([]directory.UID{"nobody", "u650", "u007"}, all[10:500]...))
		equal(t, uidsOf(named), append([]directory.UID{"u650", "u007"}, all[10:500]...))
		want := fullUser()
		want.UID = "u650"
		equal(t, named[0], want)
		first, errFirst := tx.UsersAfter(app, "", 3)
		equal(t, uidsOf(first), all[:3])
		behind, errBehind := tx.UsersAfter(app, "u696x", 9)
		equal(t, uidsOf(behind), all[697:])
		var each []directory.UID
		errEach := tx.EachUser(app, true, func(user directory.User) error {
			each = append(each, user.UID)
			want := fullUser()
			want.UID, want.Avatar, want.Link, want.StatusMessage = user.UID, "", "", ""
			equal(t, user, want)
			return nil
		})
		slices.Sort(each)
		equal(t, each, all)
		if err := tx.EachUser(app, false, func(directory.User) error { return errRefused }); !errors.Is(err, errRefused) {
			t.Errorf("an error of each came back as %v", err)
		}
		return errors.Join(err, errFirst, errBehind, errEach)
	})
}

func testLastActive(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Writer) error { return tx.PutUser(app, fullUser()) })
	want := fullUser()
	want.LastActiveAt = 77
	update(t, s, func(tx directory.Writer) error {
		if err := tx.PutLastActive(app, "u", 77); err != nil {
			return err
		}
		user, _, err := tx.User(app, "u")
		equal(t, user, want)
		return errors.Join(err, tx.PutLastActive(app, "nobody", 77))
	})
	view(t, s, func(tx directory.Reader) error {
		user, _, err := tx.User(app, "u")
		equal(t, user, want)
		_, found, errNobody := tx.User(app, "nobody")
		equal(t, found, false)
		return errors.Join(err, errNobody)
	})
}

// testFollow checks that a follower gets what is committed, all of it, in order, before it is answered.
func testFollow(t *testing.T, s directory.Store) {
	var mu sync.Mutex
	var commits []directory.Commit
	s.Follow(func(commit directory.Commit) {
		mu.Lock()
		defer mu.Unlock()
		commits = append(commits, commit)
	})
	next := func(fn func(tx directory.Writer) error) directory.Commit {
		t.Helper()
		update(t, s, fn)
		mu.Lock()
		defer mu.Unlock()
		if len(commits) != 1 {
			t.Fatalf("%d commits were told before one was answered", len(commits))
		}
		commit := commits[0]
		commits = nil
		return commit
	}
	u, v := fullUser(), fullUser()
	v.UID = "v"
	made := next(func(tx directory.Writer) error {
		_, err := appendChange(tx, app, "u")
		return errors.Join(err, tx.PutUser(app, u), tx.PutUser(app, v))
	})
	equal(t, made.Revision, int64(1))
	equal(t, made.Changes[0].Subject, "u")
	equal(t, made.Users, []directory.UserChange{{UID: "u", User: &u}, {UID: "v", User: &v}})
	seen := next(func(tx directory.Writer) error {
		return errors.Join(tx.PutLastActive(app, "u", 9), tx.DeleteUser(app, "v"))
	})
	equal(t, seen, directory.Commit{
		App: app, Revision: 1, Version: made.Version + 1,
		Users: []directory.UserChange{{UID: "u", LastActiveAt: 9}, {UID: "v", Gone: true}},
	})
	row := directory.App{ID: app, Name: "A", Salt: []byte("salt")}
	changed := next(func(tx directory.Writer) error { return tx.PutApp(row) })
	equal(t, *changed.AppRow, row)
	gone := next(func(tx directory.Writer) error { return tx.DeleteApp(app) })
	equal(t, gone.Gone, true)
	again := next(func(tx directory.Writer) error {
		_, err := appendChange(tx, app, "u")
		return err
	})
	equal(t, []int64{again.Revision, again.Version}, []int64{2, made.Version + 4}) // nothing begins anew
	if err := s.Update(
		t.Context(), app, nil, func(directory.Writer) error { return errRefused },
	); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	update(t, s, func(directory.Writer) error { return nil })
	equal(t, len(commits), 0)
}

func token(id directory.TokenID, uid directory.UID, revision int64) directory.Token {
	return directory.Token{
		ID: id, UID: uid, Hash: []byte("hash of " + id), Sealed: []byte{0, 255, byte(revision)}, MintedBy: "key_1",
		CreatedAt: revision * 10, Revision: revision,
		Device: directory.Device{Platform: "WEB", UserAgent: "UA", DeviceID: "d", AppInfo: json.RawMessage(`{"v":1}`)},
	}
}

func testTokens(t *testing.T, s directory.Store) {
	a, b, c, other := token("tok_a", "u", 1), token("tok_b", "u", 2), token("tok_c", "u", 3), token("tok_d", "v", 4)
	other.MintedBy = "key_2"
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(tx.PutToken(app, a), tx.PutToken(app, b), tx.PutToken(app, c), tx.PutToken(app, other))
	})
	b.Device, b.Sealed, b.Hash = directory.Device{Platform: "IOS"}, []byte("new"), []byte("new hash")
	update(t, s, func(tx directory.Writer) error { return tx.PutToken(app, b) })
	view(t, s, func(tx directory.Reader) error {
		got, found, err := tx.Token(app, b.UID, []byte("new hash"))
		equal(t, got, b)
		equal(t, found, true)
		_, found, errOld := tx.Token(app, b.UID, []byte("hash of tok_b"))
		equal(t, found, false)
		_, found, errApp := tx.Token("other app", b.UID, b.Hash)
		equal(t, found, false)
		byID, _, errID := tx.TokenByID(app, "tok_a")
		equal(t, byID, a)
		list, errList := tx.Tokens(app, "u", 2, 0)
		equal(t, list, []directory.Token{c, b})
		rest, errRest := tx.Tokens(app, "u", 2, 2)
		equal(t, rest, []directory.Token{a})
		count, errCount := tx.CountTokens(app, "u")
		equal(t, count, 3)
		issued, errIssued := tx.CountTokensIssued(app, 20, 40)
		equal(t, issued, 2)
		after, errAfter := tx.TokensAfter(app, "tok_b", 10)
		equal(t, after, []directory.Token{c, other})
		return errors.Join(err, errOld, errApp, errID, errList, errRest, errCount, errIssued, errAfter)
	})
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(tx.DeleteToken(app, "tok_a"), tx.DeleteToken(app, "tok_b"))
	})
	update(t, s, func(tx directory.Writer) error {
		older := token("tok_0", "w", 0)
		if err := tx.PutToken(app, older); err != nil {
			return err
		}
		count, err := tx.DeleteTokensIssued(app, 30, 5)
		equal(t, count, 1)
		return err
	})
	update(t, s, func(tx directory.Writer) error {
		count, err := tx.DeleteTokensOfKey(app, "key_2")
		equal(t, count, 1)
		return err
	})
	view(t, s, func(tx directory.Reader) error {
		left, err := tx.TokensAfter(app, "", 10)
		equal(t, left, []directory.Token{c})
		return err
	})
}

func testKeys(t *testing.T, s directory.Store) {
	old := directory.Key{
		ID: "key_1", Name: "Old", Scope: directory.FullAccess, Hash: []byte{1}, Sealed: []byte{2}, CreatedBy: "operator",
		CreatedAt: 1,
	}
	recent := directory.Key{
		ID: "key_2", Name: "New", Scope: directory.AuthOnly, Hash: []byte{3}, Sealed: []byte{4}, CreatedBy: "key:key_1",
		CreatedAt: 2,
	}
	update(t, s, func(tx directory.Writer) error { return errors.Join(tx.PutKey(app, old), tx.PutKey(app, recent)) })
	old.Name, old.Scope, old.Hash, old.Sealed = "Renamed", directory.AuthOnly, []byte{5}, []byte{6}
	update(t, s, func(tx directory.Writer) error { return tx.PutKey(app, old) })
	view(t, s, func(tx directory.Reader) error {
		keys, err := tx.Keys(app)
		equal(t, keys, []directory.Key{recent, old})
		return err
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteKey(app, "key_2") })
	view(t, s, func(tx directory.Reader) error {
		keys, err := tx.Keys(app)
		equal(t, keys, []directory.Key{old})
		return err
	})
}

func testRoles(t *testing.T, s directory.Store) {
	role := directory.Role{
		ID: "vip", Name: "VIP", Description: "d", Metadata: json.RawMessage(`{"a":1}`),
		Settings:    directory.RoleSettings{ListUsers: "friendsOnly"},
		Permissions: map[string]json.RawMessage{"listUsers": json.RawMessage(`"deny"`)},
		Restricted:  map[string]int64{"u.logout": 5}, CreatedAt: 2, UpdatedAt: 3,
	}
	plain := directory.Role{ID: "default", Name: "Default", CreatedAt: 1}
	update(t, s, func(tx directory.Writer) error { return errors.Join(tx.PutRole(app, role), tx.PutRole(app, plain)) })
	role.Name, role.Description, role.Metadata, role.Settings, role.Permissions, role.Restricted, role.UpdatedAt = "V", "", nil, directory.RoleSettings{}, nil, nil, 9
	update(t, s, func(tx directory.Writer) error { return tx.PutRole(app, role) })
	view(t, s, func(tx directory.Reader) error {
		got, found, err := tx.Role(app, "vip")
		equal(t, got, role)
		equal(t, found, true)
		all, errAll := tx.Roles(app)
		equal(t, all, []directory.Role{plain, role})
		return errors.Join(err, errAll)
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteRole(app, "vip") })
	view(t, s, func(tx directory.Reader) error {
		_, found, err := tx.Role(app, "vip")
		equal(t, found, false)
		return err
	})
}

func appendChange(tx directory.Writer, to directory.AppID, subject string) (int64, error) {
	return tx.AppendChange(
		to,
		directory.Change{
			At: 5, Actor: "key:k", Kind: directory.UserUpdated, Subject: subject, Fields: []string{"name", "tags"},
		},
	)
}

func testChanges(t *testing.T, s directory.Store) {
	for want := int64(1); want <= 3; want++ {
		update(t, s, func(tx directory.Writer) error {
			revision, err := appendChange(tx, app, fmt.Sprint("u", want))
			equal(t, revision, want)
			last, errLast := tx.Revision(app)
			equal(t, last, want)
			return errors.Join(err, errLast)
		})
	}
	view(t, s, func(tx directory.Reader) error {
		changes, err := tx.Changes(app, 1, 1)
		equal(
			t, changes,
			[]directory.Change{
				{Revision: 2, At: 5, Actor: "key:k", Kind: directory.UserUpdated, Subject: "u2", Fields: []string{"name", "tags"}},
			},
		)
		last, errLast := tx.Revision(app)
		equal(t, last, int64(3))
		none, errNone := tx.Revision("none")
		equal(t, none, int64(0))
		return errors.Join(err, errLast, errNone)
	})
	err := s.Update(t.Context(), app, nil, func(tx directory.Writer) error {
		_, err := appendChange(tx, "another app", "u")
		return err
	})
	if err == nil {
		t.Error("a change was appended to the log of an app that the update did not name")
	}
}

func testEraseChanges(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Writer) error {
		for _, change := range []directory.Change{
			{Kind: directory.UserCreated, Subject: "u", Actor: "key:k"},
			{Kind: directory.UserUpdated, Subject: "u", Actor: "user:u"},
			{Kind: directory.RoleCreated, Subject: "u", Actor: "key:k"},
			{Kind: directory.UserCreated, Subject: "uu", Actor: "key:k"},
			{Kind: directory.UserDeleted, Subject: "u", Actor: "key:k"},
		} {
			if _, err := tx.AppendChange(app, change); err != nil {
				return err
			}
		}
		return tx.EraseChanges(app, directory.ErasedChanges{
			Kinds: []directory.Kind{directory.UserCreated, directory.UserUpdated, directory.UserDeleted}, Subject: "u",
			Becomes: "~x",
			Actor:   "user:u", ActorBecomes: "user:~x", Keep: 5,
		})
	})
	subjects := func() (subjects []string) {
		view(t, s, func(tx directory.Reader) error {
			changes, err := tx.Changes(app, 0, 10)
			for _, change := range changes {
				subjects = append(subjects, change.Subject+" "+string(change.Actor))
			}
			return err
		})
		return subjects
	}
	equal(t, subjects(), []string{"~x key:k", "~x user:~x", "u key:k", "uu key:k", "u key:k"})
	view(t, s, func(tx directory.Reader) error {
		kinds := []directory.Kind{directory.UserCreated, directory.UserDeleted}
		about, err := tx.ChangesAbout(app, "uu", kinds, 0, 10)
		equal(t, len(about), 1)
		role, errRole := tx.ChangesAbout(app, "u", kinds, 0, 10)
		equal(t, len(role), 1) // the deletion that was kept, not the role of that name
		return errors.Join(err, errRole)
	})
	update(t, s, func(tx directory.Writer) error { return tx.EraseChange(app, 5, "~x") })
	equal(t, subjects()[4], "~x key:k")
}

func testTombstones(t *testing.T, s directory.Store) {
	first := directory.Tombstone{App: app, Hash: "h1", At: 10, Revision: 3, Notice: true}
	second := directory.Tombstone{App: app, Hash: "h2", At: 20, Revision: 4, Notice: true}
	update(t, s, func(tx directory.Writer) error { return errors.Join(tx.PutTombstone(second), tx.PutTombstone(first)) })
	view(t, s, func(tx directory.Reader) error {
		all, err := tx.Tombstones()
		equal(t, all, []directory.Tombstone{first, second})
		due, errDue := tx.TombstonesWithNotice(15, 10)
		equal(t, due, []directory.Tombstone{first})
		return errors.Join(err, errDue)
	})
	first.Notice = false
	update(t, s, func(tx directory.Writer) error { return tx.PutTombstone(first) })
	view(t, s, func(tx directory.Reader) error {
		due, err := tx.TombstonesWithNotice(100, 10)
		equal(t, due, []directory.Tombstone{second})
		return err
	})
}

func testAnswers(t *testing.T, s directory.Store) {
	answer := directory.Answer{Key: []byte{1, 2}, Sealed: []byte{3}, At: 10}
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(
			tx.PutAnswer(app, answer, []directory.UID{"u", "v"}),
			tx.PutAnswer(app, directory.Answer{Key: []byte{9}, Sealed: []byte{9}, At: 30}, nil),
		)
	})
	view(t, s, func(tx directory.Reader) error {
		got, found, err := tx.Answer(app, []byte{1, 2})
		equal(t, got, answer)
		equal(t, found, true)
		_, found, errOther := tx.Answer("other", []byte{1, 2})
		equal(t, found, false)
		all, errAll := tx.AnswersAfter(app, []byte{}, 1)
		equal(t, all, []directory.Answer{answer})
		rest, errRest := tx.AnswersAfter(app, []byte{1, 2}, 10)
		equal(t, len(rest), 1)
		return errors.Join(err, errOther, errAll, errRest)
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteAnswersAbout(app, "w") })
	view(t, s, func(tx directory.Reader) error {
		_, found, err := tx.Answer(app, []byte{1, 2})
		equal(t, found, true)
		return err
	})
	update(t, s, func(tx directory.Writer) error { return tx.DeleteAnswersAbout(app, "v") })
	view(t, s, func(tx directory.Reader) error {
		_, found, err := tx.Answer(app, []byte{1, 2})
		equal(t, found, false)
		return err
	})
	update(t, s, func(tx directory.Writer) error { return tx.PutAnswer(app, answer, []directory.UID{"u"}) })
	for _, want := range []int{1, 0} {
		update(t, s, func(tx directory.Writer) error {
			forgotten, err := tx.DeleteAnswers(app, 20, 10)
			equal(t, forgotten, want)
			return err
		})
	}
}

func testActivity(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Writer) error {
		return errors.Join(
			tx.PutActive(app, 1, "u"), tx.PutActive(app, 2, "u"), tx.PutActive(app, 2, "v"), tx.PutActive(app, 2, "v"),
			tx.PutActive(app, 9, "w"),
		)
	})
	view(t, s, func(tx directory.Reader) error {
		for span, want := range map[[2]int64]int{{1, 1}: 1, {1, 2}: 2, {0, 9}: 3, {3, 8}: 0} {
			count, err := tx.CountActive(app, span[0], span[1])
			if err != nil || count != want {
				t.Errorf("active on days %v: %d, %v; want %d", span, count, err, want)
			}
		}
		active, err := tx.Active(app, 2, "v")
		equal(t, active, true)
		inactive, errInactive := tx.Active(app, 1, "v")
		equal(t, inactive, false)
		return errors.Join(err, errInactive)
	})
}

func testCollation(t *testing.T, s directory.Store) {
	uids := []directory.UID{"-", "0", "_", "a", "a-b", "a_b", "ab", "b"}
	update(t, s, func(tx directory.Writer) error {
		for _, uid := range []directory.UID{"b", "ab", "a_b", "a-b", "a", "_", "0", "-"} {
			if err := tx.PutUser(app, directory.User{UID: uid, Name: "same", Role: "default"}); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(tx directory.Reader) error {
		users, err := tx.UsersAfter(app, "", 20)
		equal(t, uidsOf(users), uids)
		_, found, errUpper := tx.User(app, "A")
		equal(t, found, false)
		return errors.Join(err, errUpper)
	})
}

var errRefused = errors.New("refused")

func testRefusedUpdate(t *testing.T, s directory.Store) {
	err := s.Update(t.Context(), app, nil, func(tx directory.Writer) error {
		_, err := appendChange(tx, app, "u")
		return errors.Join(err, tx.PutUser(app, fullUser()), errRefused)
	})
	if !errors.Is(err, errRefused) {
		t.Errorf("got %v, want the function's own error", err)
	}
	expectNothing(t, s)
}

func expectNothing(t *testing.T, s directory.Store) {
	t.Helper()
	view(t, s, func(tx directory.Reader) error {
		_, found, err := tx.User(app, "u")
		equal(t, found, false)
		last, errLast := tx.Revision(app)
		equal(t, last, int64(0))
		return errors.Join(err, errLast)
	})
}

func testRefusedAfterReading(t *testing.T, s directory.Store) {
	err := s.Update(t.Context(), app, []directory.UID{"u"}, func(tx directory.Writer) error {
		if err := tx.PutUser(app, fullUser()); err != nil {
			return err
		}
		users, err := tx.UsersAfter(app, "", 2)
		equal(t, uidsOf(users), []directory.UID{"u"})
		return errors.Join(err, errRefused)
	})
	if !errors.Is(err, errRefused) {
		t.Errorf("got %v, want the function's own error", err)
	}
	expectNothing(t, s)
}

func testReadOwnWrites(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Writer) error {
		if err := tx.PutUser(app, fullUser()); err != nil {
			return err
		}
		got, found, err := tx.User(app, "u")
		equal(t, got, fullUser())
		equal(t, found, true)
		errDelete := tx.DeleteUser(app, "u")
		_, found, errGone := tx.User(app, "u")
		equal(t, found, false)
		return errors.Join(err, errDelete, errGone)
	})
}

func testViewSnapshot(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Writer) error {
		return tx.PutUser(app, directory.User{UID: "u", Name: "before", Role: "default"})
	})
	updated := false
	view(t, s, func(tx directory.Reader) error {
		first, _, err := tx.User(app, "u")
		if err != nil {
			return err
		}
		if !updated { // a view may be run again
			updated = true
			update(t, s, func(tx directory.Writer) error {
				return tx.PutUser(app, directory.User{UID: "u", Name: "after", Role: "default"})
			})
		}
		listed, err := tx.UsersAfter(app, "", 1)
		if err != nil {
			return err
		}
		second, _, err := tx.User(app, "u")
		equal(t, second, first)
		equal(t, listed, []directory.User{first})
		return err
	})
}

func testRevisionsUnderConcurrency(t *testing.T, s directory.Store) {
	const writers, writes = 16, 25
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range writes {
				err := s.Update(t.Context(), app, nil, func(tx directory.Writer) error {
					if _, err := appendChange(tx, app, fmt.Sprintf("u%d-%d", w, i)); err != nil {
						return err
					}
					if i%5 == 4 {
						return errRefused
					}
					return nil
				})
				if (err != nil) != (i%5 == 4) {
					t.Errorf("write %d: %v", i, err)
				}
			}
		})
	}
	group.Wait()
	view(t, s, func(tx directory.Reader) error {
		changes, err := tx.Changes(app, 0, writers*writes)
		equal(t, len(changes), writers*writes*4/5)
		for i, change := range changes {
			if change.Revision != int64(i+1) {
				t.Fatalf("change %d has revision %d", i+1, change.Revision)
			}
		}
		return err
	})
}

// testRevisionsVisibleInOrder follows the log while others write: whoever reads up to a revision and goes on from there
// must miss nothing, so no transaction may become visible after one with a later revision.
func testRevisionsVisibleInOrder(t *testing.T, s directory.Store) {
	const writers, writes = 8, 30
	var group sync.WaitGroup
	done := make(chan struct{})
	for range writers {
		group.Go(func() {
			for range writes {
				err := s.Update(t.Context(), app, nil, func(tx directory.Writer) error {
					_, err := appendChange(tx, app, "u")
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { group.Wait(); close(done) }()
	seen := int64(0)
	for finished := false; !finished || seen < writers*writes; {
		select {
		case <-done:
			finished = true
		default:
		}
		before := seen
		view(t, s, func(tx directory.Reader) error {
			changes, err := tx.Changes(app, seen, 10)
			for _, change := range changes {
				if change.Revision != seen+1 {
					t.Fatalf("revision %d became visible before %d", change.Revision, seen+1)
				}
				seen = change.Revision
			}
			return err
		})
		if finished && before == seen && seen < writers*writes {
			t.Fatalf("the log ends at %d", seen)
		}
	}
}

func testConcurrentCreation(t *testing.T, s directory.Store) {
	const rivals = 32
	errExists := errors.New("exists")
	var group sync.WaitGroup
	outcomes := make([]error, rivals)
	for i := range rivals {
		group.Go(func() {
			outcomes[i] = s.Update(t.Context(), app, []directory.UID{"u"}, func(tx directory.Writer) error {
				_, exists, err := tx.User(app, "u")
				if err != nil {
					return err
				}
				if exists {
					return errExists
				}
				if _, err := appendChange(tx, app, "u"); err != nil {
					return err
				}
				return tx.PutUser(app, directory.User{UID: "u", Name: fmt.Sprint(i), Role: "default"})
			})
		})
	}
	group.Wait()
	winner := slices.Index(outcomes, nil)
	for i, err := range outcomes {
		if i != winner && !errors.Is(err, errExists) {
			t.Errorf("rival %d: %v", i, err)
		}
	}
	view(t, s, func(tx directory.Reader) error {
		user, _, err := tx.User(app, "u")
		equal(t, user.Name, fmt.Sprint(winner))
		last, errLast := tx.Revision(app)
		equal(t, last, int64(1))
		return errors.Join(err, errLast)
	})
}

// testNeighbours makes the database itself fail in the middle of a batch: the token hash is unique.
func testNeighbours(t *testing.T, s directory.Store) {
	update(t, s, func(tx directory.Writer) error { return tx.PutToken(app, token("tok_first", "u", 1)) })
	const neighbours = 40
	var group sync.WaitGroup
	outcomes := make([]error, neighbours)
	for i := range neighbours {
		group.Go(func() {
			outcomes[i] = s.Update(t.Context(), app, nil, func(tx directory.Writer) error {
				fresh := token(directory.TokenID(fmt.Sprint("tok_", i)), "u", int64(i+2))
				if i%10 == 0 {
					fresh.Hash = []byte("hash of tok_first")
				}
				_, err := appendChange(tx, app, "u")
				return errors.Join(err, tx.PutToken(app, fresh))
			})
		})
	}
	group.Wait()
	for i, err := range outcomes {
		if failed := err != nil; failed != (i%10 == 0) {
			t.Errorf("update %d: %v", i, err)
		}
	}
	view(t, s, func(tx directory.Reader) error {
		count, err := tx.CountTokens(app, "u")
		equal(t, count, 1+neighbours-neighbours/10)
		last, errLast := tx.Revision(app)
		equal(t, last, int64(neighbours-neighbours/10))
		return errors.Join(err, errLast)
	})
}

func testCanceled(t *testing.T, s directory.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Update(ctx, app, nil, func(tx directory.Writer) error { return tx.PutUser(app, fullUser()) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	expectNothing(t, s)
}

func testManyApps(t *testing.T, s directory.Store) {
	const apps, writes = 5, 20
	var group sync.WaitGroup
	for a := range apps {
		id := directory.AppID(fmt.Sprint("app", a))
		for range writes {
			group.Go(func() {
				err := s.Update(t.Context(), id, nil, func(tx directory.Writer) error {
					_, err := appendChange(tx, id, "u")
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	view(t, s, func(tx directory.Reader) error {
		for a := range apps {
			last, err := tx.Revision(directory.AppID(fmt.Sprint("app", a)))
			if err != nil || last != writes {
				t.Errorf("app %d ends at revision %d, %v", a, last, err)
			}
		}
		return nil
	})
}
