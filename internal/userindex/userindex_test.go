package userindex_test

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/userindex"
)

// spaces are word starts as simple as can be: what follows a space.
func spaces(into []int, name string) []int {
	for i := range len(name) {
		if name[i] == ' ' {
			into = append(into, i+1)
		}
	}
	return into
}

// model is users and who of them is online, answered by looking at each.
type model struct {
	users  map[string]userindex.User
	online map[string]userindex.Online
}

func (m *model) find(q userindex.Query) (page userindex.Page) {
	all := []string{}
	parts := slices.Clone(q.Parts)
	if q.Backward {
		slices.Reverse(parts)
	}
	for _, part := range parts {
		var users []userindex.User
		for _, user := range m.users {
			if m.selects(&q, &user) && m.inPart(&part, &user) {
				users = append(users, user)
			}
		}
		slices.SortFunc(users, func(a, b userindex.User) int {
			if q.Backward {
				a, b = b, a
			}
			return compare(part.Order, &a, &b)
		})
		for _, user := range users {
			all = append(all, user.UID)
		}
	}
	page.Total = len(all)
	page.UIDs = all[min(q.Offset, len(all)):min(q.Offset+q.Limit, len(all))]
	return page
}

func compare(order userindex.Order, a, b *userindex.User) int {
	switch order {
	case userindex.NewestFirst:
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(a.UID, b.UID))
	case userindex.LastChangedFirst:
		return cmp.Or(cmp.Compare(b.Changed, a.Changed), cmp.Compare(a.UID, b.UID))
	case userindex.LastActiveFirst:
		return cmp.Or(cmp.Compare(b.Active, a.Active), cmp.Compare(b.Created, a.Created), cmp.Compare(a.UID, b.UID))
	default:
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	}
}

func inName(user *userindex.User, text string) bool {
	return strings.HasPrefix(user.Name, text) || strings.Contains(user.Name, " "+text)
}

func (m *model) selects(q *userindex.Query, user *userindex.User) bool {
	switch {
	case q.Activity == userindex.ActiveOnly && user.Deactivated,
		q.Activity == userindex.DeactivatedOnly && !user.Deactivated,
		slices.Contains(q.Without, user.UID),
		q.ChangedAfter != 0 && user.Changed <= q.ChangedAfter,
		q.ChangedBefore != 0 && user.Changed >= q.ChangedBefore:
		return false
	case q.UIDPrefix != "" || q.NamePrefix != "":
		byUID := q.UIDPrefix != "" && strings.HasPrefix(user.UID, q.UIDPrefix)
		if !byUID && (q.NamePrefix == "" || !inName(user, q.NamePrefix)) {
			return false
		}
	}
	for _, word := range q.Words {
		if !inName(user, word) {
			return false
		}
	}
	for _, terms := range q.Terms {
		if !hasAny(user, terms) {
			return false
		}
	}
	for _, groups := range q.Among {
		if !inAny(user, groups) {
			return false
		}
	}
	return true
}

func hasAny(user *userindex.User, terms []userindex.Term) bool {
	return slices.ContainsFunc(terms, func(term userindex.Term) bool { return slices.Contains(user.Terms, term) })
}

func inAny(user *userindex.User, groups []userindex.Group) bool {
	return slices.ContainsFunc(groups, func(group userindex.Group) bool {
		return slices.Contains(group.UIDs, user.UID) && (len(group.Terms) == 0 || hasAny(user, group.Terms))
	})
}

func (m *model) inPart(part *userindex.Part, user *userindex.User) bool {
	how := m.online[user.UID]
	if slices.Contains(part.OnlineWithout, user.UID) {
		how = userindex.Offline
	}
	return (part.Among == nil || inAny(user, part.Among)) && !slices.Contains(part.Without, user.UID) &&
		(len(part.Online) == 0 || slices.Contains(part.Online, how)) && !slices.Contains(part.NotOnline, how)
}

// random makes users and queries of which many have something in common.
type random struct{ *rand.Rand }

func (r random) uid() string { return fmt.Sprintf("u%c-%d", 'a'+rune(r.IntN(3)), r.IntN(400)) }

func (r random) uids(most int) []string {
	uids := map[string]bool{}
	for range r.IntN(most) {
		uids[r.uid()] = true
	}
	return slices.Collect(maps.Keys(uids))
}

func (r random) name() string {
	words := make([]string, 1+r.IntN(3))
	for i := range words {
		words[i] = r.word()
	}
	return strings.Join(words, " ")
}

func (r random) word() string {
	words := []string{"a", "ad", "ada", "adam", "lovelace", "lovelock-with-a-long-name", "лев", "山田", "o'brien"}
	return words[r.IntN(len(words))]
}

// time is one of few, most of which fit in 32 bits.
func (r random) time() int64 {
	return []int64{0, 1, 5, 5, 1_700_000_000, 1_700_000_001, 1<<32 - 1, 1 << 32, 1 << 40}[r.IntN(9)]
}

// terms have every frequency: one of all, of half, of few and of nobody.
func (r random) terms() []userindex.Term {
	terms := []userindex.Term{{Kind: "role", Value: "all"}}
	for _, of := range []int{2, 10, 60} {
		if r.IntN(of) == 0 {
			terms = append(terms, userindex.Term{Kind: "tag", Value: fmt.Sprint(of)})
		}
	}
	if r.IntN(20) == 0 {
		terms = append(terms, userindex.Term{Kind: "tag", Value: "own of " + r.uid()})
	}
	return terms
}

func (r random) someTerms() (terms []userindex.Term) {
	for range r.IntN(3) {
		of := []string{"2", "10", "60", "none"}[r.IntN(4)]
		terms = append(terms, userindex.Term{Kind: "tag", Value: of})
	}
	return append(terms, r.terms()[r.IntN(2):]...)
}

func (r random) user() userindex.User {
	return userindex.User{
		UID: r.uid(), Name: r.name(), Created: r.time(), Changed: r.time(), Active: r.time(),
		Deactivated: r.IntN(4) == 0, Terms: r.terms(),
	}
}

func (r random) groups() (groups []userindex.Group) {
	for range 1 + r.IntN(2) {
		group := userindex.Group{UIDs: r.uids(600)}
		if r.IntN(3) == 0 {
			group.Terms = r.someTerms()
		}
		groups = append(groups, group)
	}
	return groups
}

func (r random) query() userindex.Query {
	q := userindex.Query{
		Activity: userindex.Activity(r.IntN(3)), Backward: r.IntN(2) == 0, Limit: []int{1, 3, 100, 2000}[r.IntN(4)],
	}
	chance := func(of int) bool { return r.IntN(of) == 0 }
	if chance(3) {
		name := r.name()
		q.NamePrefix = name[:1+r.IntN(len(name))]
	}
	if chance(6) {
		q.UIDPrefix = []string{"u", "ua", "ub-1", "uc-12", "x"}[r.IntN(5)]
	}
	for chance(4) {
		q.Words = append(q.Words, r.word())
	}
	for chance(3) {
		q.Terms = append(q.Terms, r.someTerms())
	}
	if chance(5) {
		q.Among = append(q.Among, r.groups())
	}
	if chance(3) {
		q.Without = r.uids([]int{2, 10, 1500}[r.IntN(3)])
	}
	if chance(5) {
		q.ChangedAfter = r.time()
	}
	if chance(5) {
		q.ChangedBefore = r.time()
	}
	if chance(2) {
		q.Offset = r.IntN(900)
	}
	order := userindex.Order(r.IntN(4))
	known := []userindex.Online{userindex.Available, userindex.Away, userindex.Busy}
	switch hidden := r.uids(10); r.IntN(5) {
	case 0: // online first
		q.Parts = []userindex.Part{
			{Order: order, Online: known, OnlineWithout: hidden}, {Order: order, NotOnline: known, OnlineWithout: hidden},
		}
	case 1:
		q.Parts = []userindex.Part{{Order: order, Online: known[r.IntN(3):]}}
	case 2: // blocked last
		blocked := []userindex.Group{{UIDs: hidden}}
		q.Parts = []userindex.Part{{Order: order, Without: hidden}, {Order: userindex.NewestFirst, Among: blocked}}
	default:
		q.Parts = []userindex.Part{{Order: order}}
	}
	return q
}

func TestIndexAnswersAsLookingAtEachUserDoes(t *testing.T) {
	for seed := range uint64(8) {
		r := random{rand.New(rand.NewPCG(seed, 1))}
		m := &model{users: map[string]userindex.User{}, online: map[string]userindex.Online{}}
		x := userindex.New(spaces)
		for step := range 4000 {
			var w *userindex.Writer
			x.Apply(func(writer *userindex.Writer) { w = writer })
			uid := r.uid()
			switch before, there := m.users[uid]; r.IntN(12) {
			case 0, 1:
				w.Delete(uid)
				delete(m.users, uid)
				delete(m.online, uid)
			case 2:
				before.Active = r.time()
				w.SetActive(uid, before.Active)
				if there {
					m.users[uid] = before
				}
			case 3, 4, 5:
				how := userindex.Online(r.IntN(5))
				x.SetOnline(uid, how)
				if there {
					m.online[uid] = how
				}
			default:
				user := r.user()
				if seed%2 == 0 && step%3 == 0 { // change one thing alone
					user = before
					user.UID, user.Deactivated = uid, !user.Deactivated
				}
				w.Put(user)
				m.users[user.UID] = user
			}
			if step%500 == 499 {
				compareIndex(t, r, x, m)
			}
			if step == 3000 { // what is built from everybody goes on as well
				rebuilt, err := userindex.Build(spaces, each(m.users))
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(x.Users(), rebuilt.Users()); diff != "" {
					t.Fatal(diff)
				}
				for uid, how := range m.online {
					rebuilt.SetOnline(uid, how)
				}
				x = rebuilt
			}
		}
	}
}

func each(users map[string]userindex.User) iter.Seq2[userindex.User, error] {
	return func(yield func(userindex.User, error) bool) {
		for _, user := range users {
			if !yield(user, nil) {
				return
			}
		}
	}
}

func compareIndex(t *testing.T, r random, x *userindex.Index, m *model) {
	t.Helper()
	if err := x.Check(); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		q := r.query()
		want, got := m.find(q), x.Find(q)
		if got.Total != want.Total || !slices.Equal(got.UIDs, want.UIDs) {
			t.Fatalf("%+v\nfinds %d of %d: %v\nwant %d of %d: %v", q, len(got.UIDs), got.Total, got.UIDs, len(want.UIDs),
				want.Total, want.UIDs)
		}
		compareWalk(t, x, m, q)
	}
}

// compareWalk follows positions through everything that a query selects.
func compareWalk(t *testing.T, x *userindex.Index, m *model, q userindex.Query) {
	t.Helper()
	q.Offset, q.Limit = 0, 1<<20
	want := m.find(q).UIDs
	q.Limit = 1 + len(want)/3
	var walked []string
	for {
		page := x.Find(q)
		walked = append(walked, page.UIDs...)
		if len(page.UIDs) < q.Limit {
			break
		}
		q.After = &page.Last
	}
	if !slices.Equal(walked, want) {
		t.Fatalf("%+v\nwalks %d: %v\nwant %d: %v", q, len(walked), walked, len(want), want)
	}
}
