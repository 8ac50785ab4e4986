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

// arrange fills the orders with everybody, two at a time.
func (x *Index) arrange() {
	x.noteAll()
	byUID := x.arrangeUIDs()
	var sorting sync.WaitGroup
	room := make(chan struct{}, 2)
	sort := func(s *sorted, entries func() []keyed, tie func(a, b entry) int) {
		room <- struct{}{}
		sorting.Go(func() {
			s.load(entries(), tie)
			<-room
		})
	}
	sort(x.words, x.everyWord, x.words.compare)
	for state := range x.orders {
		for order, s := range x.orders[state] {
			tie := s.compare
			if Order(order) != ByName && len(x.wide) == 0 { // the keys say all of the times
				tie = nil
			}
			sort(s, func() []keyed {
				entries := make([]keyed, 0, x.byState[state].count)
				for _, e := range byUID {
					if x.state(e.user) == state {
						entries = append(entries, keyed{s.prefix(e), e})
					}
				}
				return entries
			}, tie)
		}
	}
	sorting.Wait()
}

// arrangeUIDs fills the order of uids, and returns it.
func (x *Index) arrangeUIDs() []entry {
	common := 0 // how many bytes all begin with, which tell nothing
	if len(x.users) > 0 {
		first := x.uid(0)
		common = len(first)
		for i := range x.users {
			uid := x.uid(uint32(i))
			for common = min(common, len(uid)); uid[:common] != first[:common]; common-- {
			}
		}
	}
	uids := make([]keyed, len(x.users))
	for i := range x.users {
		e := entry{user: uint32(i)}
		uids[i] = keyed{prefixOf(x.uid(e.user)[common:]), e}
	}
	x.uids.load(uids, x.uids.compare)
	sorted := make([]entry, 0, len(x.users))
	for _, b := range x.uids.blocks {
		for _, number := range b.users {
			sorted = append(sorted, entry{user: number})
		}
	}
	return sorted
}

// everyWord returns the places at which words begin in names.
func (x *Index) everyWord() []keyed {
	words := make([]keyed, 0, 2*len(x.users))
	var places []int
	for i := range x.users {
		e := entry{user: uint32(i)}
		places = x.wordStarts(places[:0], x.name(e.user))
		for _, at := range places {
			e.offset = uint16(at)
			words = append(words, keyed{x.words.prefix(e), e})
		}
	}
	return words
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
		number := uint32(i)
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

// Memory returns about how many bytes the index takes.
func (x *Index) Memory() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	const record, word, term = 24, 8, 120 // what a user, 64 bits, and a term without its users take
	bytes := len(x.texts.chunks)*chunkSize + cap(x.users)*record + 4*len(x.byUID.slots) + 4*cap(x.free)
	for _, s := range []*sorted{x.uids, x.words} {
		bytes += s.memory()
	}
	for state := range x.orders {
		bytes += word * cap(x.byState[state].bits)
		for _, s := range x.orders[state] {
			bytes += s.memory()
		}
	}
	for how := range x.online {
		bytes += word * cap(x.online[how].bits)
	}
	for i := range x.terms.postings {
		p := &x.terms.postings[i]
		bytes += term + len(p.term.Value) + 4*cap(p.few) + word*cap(p.many.bits)
	}
	return int64(bytes)
}

func (s *sorted) memory() (bytes int) {
	for i := range s.blocks {
		bytes += 48 + 4*cap(s.blocks[i].users) + 2*cap(s.blocks[i].offsets)
	}
	return bytes + 8*cap(s.firsts)
}
