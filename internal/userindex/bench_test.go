package userindex_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/userindex"
)

// crowd yields many users with names of two words, two tags and a role.
func crowd(count int) func(yield func(userindex.User, error) bool) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		letters := []byte("aeinorstlmkdbcghjpuvwyz")
		text := make([]byte, 4+random.IntN(5))
		for i := range text {
			text[i] = letters[min(random.IntN(len(letters)), random.IntN(len(letters)))]
		}
		return string(text)
	}
	names := make([]string, 3000)
	for i := range names {
		names[i] = word()
	}
	return func(yield func(userindex.User, error) bool) {
		for n := range count {
			user := userindex.User{
				UID: fmt.Sprintf("user-%d", n), Name: names[random.IntN(300)] + " " + names[random.IntN(3000)],
				Created: 1_700_000_000 + int64(n/100), Changed: 1_700_000_000 + int64(n/100),
				Terms: []userindex.Term{{Kind: "role", Value: "default"}, {Kind: "tag", Value: "half"[:random.IntN(2)]}},
			}
			if random.IntN(10) == 0 {
				user.Terms = append(user.Terms, userindex.Term{Kind: "tag", Value: "tenth"})
			}
			if !yield(user, nil) {
				return
			}
		}
	}
}

func BenchmarkFind(b *testing.B) {
	for _, count := range []int{100_000, 1_000_000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		x, err := userindex.Build(spaces, crowd(count))
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.Logf("%d users: %v, %d bytes a user", count, took, int(after.HeapAlloc-before.HeapAlloc)/count)
		var friends, few []string
		for n := range 1000 {
			friends = append(friends, fmt.Sprintf("user-%d", n*count/1000))
		}
		for n := range count / 20 {
			x.SetOnline(fmt.Sprintf("user-%d", n*20), userindex.Available)
		}
		few = friends[:25]
		known := []userindex.Online{userindex.Available, userindex.Away, userindex.Busy}
		part := func(order userindex.Order) []userindex.Part { return []userindex.Part{{Order: order}} }
		onlineFirst := []userindex.Part{
			{Order: userindex.ByName, Online: known, OnlineWithout: few},
			{Order: userindex.ByName, NotOnline: known, OnlineWithout: few},
		}
		tenth := [][]userindex.Term{{{Kind: "tag", Value: "tenth"}}}
		for _, q := range []struct {
			name  string
			query userindex.Query
		}{
			{"everybody", userindex.Query{Parts: part(userindex.ByName)}},
			{"everybody but 25", userindex.Query{Parts: part(userindex.ByName), Without: few, Offset: count / 2}},
			{"search a", userindex.Query{Parts: part(userindex.NewestFirst), NamePrefix: "a"}},
			{"tenth", userindex.Query{Parts: part(userindex.ByName), Terms: tenth}},
			{"tenth, page 50", userindex.Query{Parts: part(userindex.ByName), Terms: tenth, Offset: 5000}},
			{"friends", userindex.Query{Parts: part(userindex.ByName), Among: [][]userindex.Group{{{UIDs: friends}}}}},
			{"online first", userindex.Query{Parts: onlineFirst}},
			{"online first, middle", userindex.Query{Parts: onlineFirst, Offset: count / 2}},
			{"online first, tenth", userindex.Query{Parts: onlineFirst, Terms: tenth}},
		} {
			q.query.Limit = 100
			b.Run(fmt.Sprintf("%d/%s", count, q.name), func(b *testing.B) {
				for b.Loop() {
					x.Find(q.query)
				}
			})
		}
	}
}

func BenchmarkPut(b *testing.B) {
	x, err := userindex.Build(spaces, crowd(1_000_000))
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for user := range crowd(1 << 30) {
		n++
		user.UID = fmt.Sprintf("new-%d", n)
		user.Created, user.Changed = int64(1_800_000_000+n/1000), int64(1_800_000_000+n/1000)
		if !b.Loop() {
			break
		}
		x.Apply(func(w *userindex.Writer) { w.Put(user) })
	}
}

func BenchmarkBuild(b *testing.B) {
	users := make([]userindex.User, 0, 1_000_000)
	for user := range crowd(1_000_000) {
		users = append(users, user)
	}
	for b.Loop() {
		_, err := userindex.Build(spaces, func(yield func(userindex.User, error) bool) {
			for _, user := range users {
				yield(user, nil)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
