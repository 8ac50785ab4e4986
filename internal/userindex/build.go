package userindex

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Build returns an index of many users, no two of whom have the same uid. It keeps nothing of their memory.
func Build(wordStarts func(into []int, name string) []int, users iter.Seq2[User, error]) (*Index, error) {
	x := New(wordStarts)
	for user, err := range users {
		if err != nil {
			return nil, err
		}
		x.add(&user, true)
	}
	x.arrange()
	return x, nil
}

// arrange fills the orders with everybody.
func (x *Index) arrange() {
	var sorting sync.WaitGroup
	load := func(s *sorted, entries []keyed) {
		sorting.Go(func() { s.load(entries) })
	}
	for state := range x.orders {
		for order, s := range x.orders[state] {
			entries := make([]keyed, 0, x.byState[state].count)
			for number := range x.byState[state].bits.all() {
				e := entry{user: number}
				entries = append(entries, keyed{s.prefix(e), e})
			}
			if order%2 == 1 { // not all at once: each takes memory
				sorting.Wait()
			}
			load(s, entries)
		}
	}
	uids := make([]keyed, 0, len(x.users))
	var words []keyed
	for i := range x.users {
		e := entry{user: uint32(i)} //nolint:gosec // see add
		uids = append(uids, keyed{x.uids.prefix(e), e})
		x.places = x.wordStarts(x.places[:0], x.name(e.user))
		for _, at := range x.places {
			e.offset = uint16(at) //nolint:gosec // names are no longer
			words = append(words, keyed{x.words.prefix(e), e})
		}
	}
	sorting.Wait()
	load(x.uids, uids)
	load(x.words, words)
	sorting.Wait()
}

// Users returns everybody as the index holds them, by uid, with their terms in order.
func (x *Index) Users() []User {
	x.mu.RLock()
	defer x.mu.RUnlock()
	users := make([]User, 0, x.uids.count)
	for _, b := range x.uids.blocks {
		for _, number := range b.users {
			user := User{
				UID: strings.Clone(x.uid(number)), Name: strings.Clone(x.name(number)), Deactivated: x.state(number) == 1,
				Created: x.time(number, 0), Changed: x.time(number, 1), Active: x.time(number, 2),
			}
			for _, id := range x.termsOf(number, nil) {
				user.Terms = append(user.Terms, x.terms.postings[id].term)
			}
			slices.SortFunc(user.Terms, func(a, b Term) int {
				return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
			})
			users = append(users, user)
		}
	}
	return users
}

// Check returns what is wrong with the index in itself: orders that are out of order or lack users, sets that
// disagree with what users have.
func (x *Index) Check() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	there, words, postings := [2]int{}, 0, 0
	for i := range x.users {
		number := uint32(i) //nolint:gosec // see add
		if x.users[i].flags&isThere == 0 {
			continue
		}
		there[x.state(number)]++
		words += len(x.wordStarts(nil, x.name(number)))
		for _, id := range x.termsOf(number, nil) {
			postings++
			if !x.terms.postings[id].has(number) {
				return fmt.Errorf("%s is not among those with %v", x.uid(number), x.terms.postings[id].term)
			}
		}
		if !x.byState[x.state(number)].bits.has(number) {
			return fmt.Errorf("%s is not among those of its state", x.uid(number))
		}
	}
	for id := range x.terms.postings {
		postings -= x.terms.postings[id].count()
	}
	if postings != 0 {
		return fmt.Errorf("users have %d more terms than terms have users", postings)
	}
	failures := []error{x.uids.check("uids", there[0]+there[1]), x.words.check("words", words)}
	for state := range x.orders {
		if x.byState[state].count != there[state] || x.byState[state].bits.count() != there[state] {
			failures = append(failures, fmt.Errorf("state %d counts %d of %d", state, x.byState[state].count, there[state]))
		}
		for order, s := range x.orders[state] {
			failures = append(failures, s.check(fmt.Sprintf("order %d of state %d", order, state), there[state]))
		}
	}
	return errors.Join(failures...)
}

// check returns what is wrong with an order that should have so many entries.
func (s *sorted) check(name string, want int) error {
	count := 0
	var last entry
	for b := range s.blocks {
		if s.firsts[b] != s.prefix(s.entry(b, 0)) {
			return fmt.Errorf("%s: block %d does not begin as it says", name, b)
		}
		for at := range s.blocks[b].users {
			e := s.entry(b, at)
			if count > 0 && s.compare(last, e) >= 0 {
				return fmt.Errorf("%s: entry %d is out of order", name, count)
			}
			last = e
			count++
		}
	}
	if count != want || s.count != want {
		return fmt.Errorf("%s: has %d entries and counts %d, of %d", name, count, s.count, want)
	}
	return nil
}
