package directory_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/searchtext"
)

// listed is a directory with many users, and how lists of it are checked: by looking at each user.
type listed struct {
	*testing.T
	w       *world
	viewers []directory.UID
	users   map[directory.UID]*directory.User // as they are stored
	blocks  map[[2]directory.UID]bool         // both ways
	friends map[[2]directory.UID]bool         // both ways
	online  map[directory.UID]string
}

const listedUsers = 1500

// common are tags by how many of a thousand users have them.
var common = map[string]int{"all": 1000, "half": 500, "tenth": 100, "hundredth": 10, "thousandth": 1}

func listedUID(n int) string { return fmt.Sprintf("u%d", n) }

// row makes a user anew at random.
func (l *listed) row(random *rand.Rand, n int) directory.UserRow {
	first := []string{"Ada", "Adam", "Ánn-Marie", "Bob", "Łukasz", "山田", "Øyvind"}[random.IntN(7)]
	name := fmt.Sprintf("%s %c%d", first, 'a'+random.IntN(26), random.IntN(40))
	var tags []string
	for tag, of := range common {
		if random.IntN(1000) < of {
			tags = append(tags, tag)
		}
	}
	role := []string{"default", "default", "default", "staff", "shy"}[random.IntN(5)]
	metadata := json.RawMessage(fmt.Sprintf(`{"city":%d,"list":["a%d","b"]}`, random.IntN(30), random.IntN(300)))
	created, active := int64(1000+random.IntN(50)), int64(random.IntN(20))
	return directory.UserRow{
		UID: listedUID(n), Patch: directory.UserPatch{Name: &name, Tags: &tags, Role: &role, Metadata: &metadata},
		CreatedAt: &created, LastActiveAt: &active,
	}
}

// TestListsOfManyUsers makes random changes by many at once, and then compares every kind of list, of every
// selectivity, in every order and on every page, with what looking at each user says.
func TestListsOfManyUsers(t *testing.T) {
	t.Parallel()
	for engine, open := range map[string]func(*testing.T) *world{
		"SQLite": func(t *testing.T) *world { return newWorld(t) }, "PostgreSQL": newPostgresWorld,
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			l := &listed{T: t, w: open(t), online: map[directory.UID]string{}}
			for _, role := range []directory.Role{
				{ID: "staff", Name: "Staff"},
				{ID: "shy", Name: "Shy", Settings: directory.RoleSettings{ListUsers: "friendsOnly"}},
			} {
				if _, err := l.w.CreateRole(t.Context(), l.w.backend, role); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := l.w.UpdateAppSettings(t.Context(), l.w.backend, directory.AppSettingsPatch{MetadataKeys: &[]string{"city", "list"}}); err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for first := 0; first < listedUsers; first += 500 {
				var rows []directory.UserRow
				for n := first; n < first+500; n++ {
					rows = append(rows, l.row(random, n))
				}
				if _, err := l.w.UpsertUsers(t.Context(), l.w.backend, rows, nil); err != nil {
					t.Fatal(err)
				}
			}
			for round := range 3 {
				l.disturb(uint64(round))
				l.read()
				if err := l.w.CheckIndex(t.Context(), l.w.app.ID); err != nil {
					t.Fatal(err)
				}
				l.compareAll(random)
			}
		})
	}
}

// disturb lets many change users at the same time.
func (l *listed) disturb(seed uint64) {
	l.Helper()
	var writers sync.WaitGroup
	for writer := range 12 {
		random := rand.New(rand.NewPCG(seed, uint64(writer)))
		writers.Go(func() {
			for range 25 {
				if err := l.change(l.Context(), random); err != nil && !directory.IsCode(err, directory.CodeUserNotFound) {
					l.Error(err)
				}
			}
		})
	}
	writers.Wait()
	random := rand.New(rand.NewPCG(seed, 99))
	for range 300 {
		uid := directory.UID(listedUID(random.IntN(listedUsers)))
		status := []string{directory.StatusAvailable, directory.StatusAway, directory.StatusBusy, "invisible", ""}[random.IntN(5)]
		if status == "" {
			delete(l.online, uid)
			l.w.SetOffline(l.w.app.ID, uid, 0)
			continue
		}
		l.online[uid] = status
		l.w.SetOnline(l.w.app.ID, directory.OnlineUser{UID: uid, Invisible: status == "invisible", Status: status})
	}
}

func (l *listed) change(ctx context.Context, random *rand.Rand) error {
	uid, other := listedUID(random.IntN(listedUsers)), listedUID(random.IntN(30))
	var err error
	switch random.IntN(8) {
	case 0:
		_, err = l.w.DeactivateUsers(ctx, l.w.backend, []string{uid})
	case 1:
		_, err = l.w.ReactivateUsers(ctx, l.w.backend, []string{uid})
	case 2:
		_, err = l.w.EraseUser(ctx, l.w.backend, uid)
	case 3:
		_, err = l.w.BlockUsers(ctx, l.w.backend, nil, other, []string{uid})
	case 4:
		_, err = l.w.AddFriends(ctx, l.w.backend, other, []string{uid})
	default:
		_, err = l.w.UpsertUsers(ctx, l.w.backend, []directory.UserRow{l.row(random, random.IntN(listedUsers))}, nil)
	}
	return err
}

// read reads everything that is stored.
func (l *listed) read() {
	l.Helper()
	l.users, l.viewers = map[directory.UID]*directory.User{}, nil
	l.blocks, l.friends = map[[2]directory.UID]bool{}, map[[2]directory.UID]bool{}
	for record, err := range l.w.Export(l.Context(), l.w.app.ID) {
		switch {
		case err != nil:
			l.Fatal(err)
		case record.User != nil:
			l.users[record.User.UID] = record.User
		case record.Pair != nil:
			pairs := map[directory.PairKind]map[[2]directory.UID]bool{directory.Blocks: l.blocks, directory.Friendships: l.friends}[record.Kind]
			pairs[[2]directory.UID{record.Pair.UID, record.Pair.Other}] = true
			pairs[[2]directory.UID{record.Pair.Other, record.Pair.UID}] = true
		}
	}
	for n := range 30 {
		if user := l.users[directory.UID(listedUID(n))]; user != nil && user.DeactivatedAt == 0 && len(l.viewers) < 3 {
			l.viewers = append(l.viewers, user.UID)
		}
	}
	for uid := range l.online {
		if user := l.users[uid]; user == nil || user.DeactivatedAt != 0 { // whose sessions end
			delete(l.online, uid)
			l.w.SetOffline(l.w.app.ID, uid, 0)
		}
	}
}

// condition is a filter, and what it says of a user.
type condition struct {
	name   string
	filter func(*directory.UserFilter)
	holds  func(*directory.User) bool
}

func conditions() (all []condition) {
	add := func(name string, filter func(*directory.UserFilter), holds func(*directory.User) bool) {
		all = append(all, condition{name, filter, holds})
	}
	add("everybody", func(*directory.UserFilter) {}, func(*directory.User) bool { return true })
	for tag := range common {
		add("tag "+tag, func(f *directory.UserFilter) { f.Tags = []string{tag} }, func(u *directory.User) bool { return slices.Contains(u.Tags, tag) })
	}
	add("either tag", func(f *directory.UserFilter) { f.Tags = []string{"hundredth", "tenth", "none"} }, func(u *directory.User) bool {
		return slices.Contains(u.Tags, "hundredth") || slices.Contains(u.Tags, "tenth")
	})
	for _, role := range []string{"default", "staff"} {
		add("role "+role, func(f *directory.UserFilter) { f.Roles = []string{role} }, func(u *directory.User) bool { return u.Role == role })
	}
	for _, text := range []string{"a", "ad", "adam", "ann", "marie", "lukasz", "田", "u1", "u12", "ada a1", "nobody"} {
		add("search "+text, func(f *directory.UserFilter) { f.Search = text }, func(u *directory.User) bool {
			return strings.HasPrefix(string(u.UID), text) || named(u, text)
		})
	}
	add("words", func(f *directory.UserFilter) { f.NameContains = "a1 ADA" }, func(u *directory.User) bool { return named(u, "a1") && named(u, "ada") })
	add("number", func(f *directory.UserFilter) {
		f.Metadata = []directory.MetadataFilter{{Key: "city", Values: []string{"7.0", "x"}}}
	},
		func(u *directory.User) bool { return strings.Contains(string(u.Metadata), `"city":7,`) })
	add("item of a list", func(f *directory.UserFilter) {
		f.Metadata = []directory.MetadataFilter{{Key: "list", Values: []string{"b"}}}
	},
		func(u *directory.User) bool { return true })
	add("one in 300", func(f *directory.UserFilter) {
		f.Metadata = []directory.MetadataFilter{{Key: "list", Values: []string{"a9"}}}
	},
		func(u *directory.User) bool { return strings.Contains(string(u.Metadata), `"a9"`) })
	add("uids", func(f *directory.UserFilter) { f.UIDs = []string{"u5", "U77", "u1400", "none"} }, func(u *directory.User) bool {
		return slices.Contains([]directory.UID{"u5", "u77", "u1400"}, u.UID)
	})
	add("no uids", func(f *directory.UserFilter) { f.UIDs = []string{} }, func(*directory.User) bool { return false })
	return all
}

func named(u *directory.User, text string) bool {
	name := searchtext.Fold(u.Name)
	return strings.HasPrefix(name, text) || slices.ContainsFunc(searchtext.AppendWordStarts(nil, name), func(at int) bool {
		return strings.HasPrefix(name[at:], text)
	})
}

// compareAll compares lists by each condition, with another one or without, in each order.
func (l *listed) compareAll(random *rand.Rand) {
	l.Helper()
	all := conditions()
	for _, viewer := range append([]directory.UID{""}, l.viewers...) {
		for _, one := range all {
			for _, sortBy := range []string{"", "name", "createdAt", "updatedAt", "lastActiveAt", "status"} {
				other := all[random.IntN(len(all))]
				filter := directory.UserFilter{SortBy: sortBy, SortOrder: []string{"", "asc", "desc"}[random.IntN(3)]}
				filter.Activity = directory.Activity(random.IntN(3))
				filter.Status = []string{"", "", "", directory.StatusAvailable, directory.StatusAway, directory.StatusOffline}[random.IntN(6)]
				filter.HideBlockedUsers, filter.FriendsOnly = random.IntN(4) == 0, viewer != "" && random.IntN(6) == 0
				if random.IntN(2) == 0 {
					other = all[0]
				}
				one.filter(&filter)
				if !sameKind(one, other) {
					other.filter(&filter)
				} else {
					other = all[0]
				}
				name := fmt.Sprintf("%s and %s for %q: %+v", one.name, other.name, viewer, filter)
				l.compare(name, viewer, filter, func(u *directory.User) bool { return one.holds(u) && other.holds(u) }, random)
			}
		}
	}
}

// sameKind reports whether two conditions use the same field of a filter.
func sameKind(a, b condition) bool {
	var x, y directory.UserFilter
	a.filter(&x)
	b.filter(&y)
	return x.Tags != nil && y.Tags != nil || x.Roles != nil && y.Roles != nil || x.UIDs != nil && y.UIDs != nil ||
		x.Search != "" && y.Search != "" || x.Metadata != nil && y.Metadata != nil || x.NameContains != "" && y.NameContains != ""
}

func (l *listed) compare(
	name string, viewer directory.UID, filter directory.UserFilter, holds func(*directory.User) bool, random *rand.Rand,
) {
	l.Helper()
	want := l.expected(viewer, filter, holds, false)
	caller, policy, user := l.w.backend, l.policy(), directory.User{}
	if viewer != "" {
		caller.User, caller.Private, user = viewer, false, *l.users[viewer]
	}
	list := func(filter directory.UserFilter) directory.List[directory.Seen] {
		got, err := l.w.ListUsers(l.Context(), caller, policy, user, filter)
		if err != nil {
			l.Fatalf("%s: %v", name, err)
		}
		return got
	}
	size := []int{1, 7, 100, 1000}[random.IntN(4)]
	for _, number := range []int{1, 2, 1 + len(want)/size, 2 + len(want)/size} {
		filter.Page = directory.Page{Number: number, Size: size}
		got := list(filter)
		page := want[min(len(want), (number-1)*size):min(len(want), number*size)]
		if got.Total != len(want) || !slices.Equal(uidsOf(got.Items), page) {
			l.Fatalf("%s\npage %d of %d: %d of %d %v\nwant %d of %d %v", name, number, size, len(got.Items), got.Total, uidsOf(got.Items),
				len(page), len(want), page)
		}
	}
	if filter.Status != "" {
		return
	}
	want = l.expected(viewer, filter, holds, true)
	var walked []directory.UID
	filter.Page, filter.Cursor = directory.Page{Size: 1 + len(want)/2}, directory.CursorStart
	for filter.Cursor != "" {
		got := list(filter)
		walked = append(walked, uidsOf(got.Items)...)
		filter.Cursor = got.Next
	}
	if !slices.Equal(walked, want) {
		l.Fatalf("%s\nwalks %v\nwant %v", name, walked, want)
	}
}

func (l *listed) policy() *directory.Policy {
	l.Helper()
	policy, err := l.w.Policy(l.Context(), l.w.app.ID)
	if err != nil {
		l.Fatal(err)
	}
	return policy
}

func uidsOf(items []directory.Seen) []directory.UID {
	uids := make([]directory.UID, len(items))
	for i := range items {
		uids[i] = items[i].UID
	}
	return uids
}

// expected lists users by looking at each. In a walk nobody is online.
func (l *listed) expected(
	viewer directory.UID, filter directory.UserFilter, holds func(*directory.User) bool, walk bool,
) []directory.UID {
	blocked := func(u *directory.User) bool { return l.blocks[[2]directory.UID{viewer, u.UID}] }
	friend := func(u *directory.User) bool { return l.friends[[2]directory.UID{viewer, u.UID}] }
	online := func(u *directory.User) bool {
		status := l.online[u.UID]
		return !walk && status != "" && (status != "invisible" || viewer == "") && !blocked(u)
	}
	matches := []*directory.User{}
	for _, u := range l.users {
		activity := filter.Activity
		if viewer != "" && activity == directory.ActiveOrDeactivated {
			activity = directory.ActiveOnly
		}
		switch {
		case activity == directory.ActiveOnly && u.DeactivatedAt != 0, activity == directory.DeactivatedOnly && (u.DeactivatedAt == 0 || viewer != ""),
			viewer == u.UID, !holds(u),
			filter.FriendsOnly && !friend(u), filter.HideBlockedUsers && blocked(u),
			viewer != "" && l.users[viewer].Role == "shy" && !friend(u),
			filter.Status == directory.StatusAvailable && !online(u), filter.Status == directory.StatusOffline && online(u),
			filter.Status == directory.StatusAway && (!online(u) || l.online[u.UID] != directory.StatusAway):
			continue
		}
		matches = append(matches, u)
	}
	sortBy := filter.SortBy
	if sortBy == "" {
		sortBy = map[bool]string{true: "status", false: "createdAt"}[viewer != ""]
	}
	first := func(x, y bool) int {
		return cmp.Compare(map[bool]int{true: 0, false: 1}[x], map[bool]int{true: 0, false: 1}[y])
	}
	newest := func(a, b *directory.User) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) }
	changed := func(u *directory.User) int64 { return cmp.Or(u.UpdatedAt, u.CreatedAt) }
	slices.SortFunc(matches, func(a, b *directory.User) int {
		byName := cmp.Or(cmp.Compare(searchtext.Fold(a.Name), searchtext.Fold(b.Name)), cmp.Compare(a.UID, b.UID))
		order := 0
		switch sortBy {
		case "name":
			order = byName
		case "status":
			order = cmp.Or(first(online(a), online(b)), byName)
		case "createdAt":
			order = newest(a, b)
		case "updatedAt":
			order = cmp.Compare(changed(b), changed(a))
		case "lastActiveAt":
			hides := !filter.HideBlockedUsers
			switch {
			case online(a) != online(b):
				order = first(online(a), online(b))
			case online(a):
				order = newest(a, b)
			case hides && blocked(a) != blocked(b):
				order = first(blocked(b), blocked(a))
			case hides && blocked(a):
				order = newest(a, b)
			default:
				order = cmp.Or(cmp.Compare(b.LastActiveAt, a.LastActiveAt), newest(a, b))
			}
		}
		order = cmp.Or(order, cmp.Compare(a.UID, b.UID))
		downward := sortBy != "name" && sortBy != "status"
		if filter.SortOrder != "" && (filter.SortOrder == "desc") != downward {
			order = -order
		}
		return order
	})
	uids := make([]directory.UID, len(matches))
	for i, u := range matches {
		uids[i] = u.UID
	}
	return uids
}
