// Package userindex holds in memory what lists need of every user of one app, and answers every list: who matches, how
// many, in which order, which page. It knows users by number, keeps their texts in one arena that the collector need
// not walk, and combines the conditions of a query as sets of numbers. It imports nothing of the rest of Rollcall:
// what a user, a search or a filter is, its caller says.
package userindex

import (
	"slices"
	"sync"
)

// User is what an index holds of a user. Texts are compared byte by byte, as they are given.
type User struct {
	UID string
	// Name is the name as searches and orders compare it: at most 65,535 bytes.
	Name string
	// Created, Changed and Active are Unix seconds.
	Created, Changed, Active int64
	Deactivated              bool
	// Terms are what filters find the user by, without repetition.
	Terms []Term
}

// Term is something that users have in common, such as a role or a tag: the kind says which, and for values of several
// fields, of which field it is.
type Term struct{ Kind, Value string }

// Online says how a user is online.
type Online uint8

// The ways to be online. Offline is none of them.
const (
	Offline Online = iota
	Available
	Away
	Busy
	// Invisible users are online for those alone who may know.
	Invisible
)

// Index holds the users of one app. It is safe for concurrent use: many read it at a time, and one writes.
type Index struct {
	// wordStarts appends the places in a name, but for its beginning, at which a search may find it.
	wordStarts func(into []int, name string) []int

	mu sync.RWMutex
	// Everything below is guarded by mu.

	revision int64
	users    []record // by number
	free     []uint32 // numbers of users who are gone
	texts    arena
	// wide are the created, changed and active times that do not fit in a record.
	wide  map[uint32][3]int64
	byUID lookup
	// uids holds everybody, and words the places in their names at which words begin.
	uids, words *sorted
	// orders hold active users, and deactivated ones.
	orders [2][orderCount]*sorted
	// byState are active users, and deactivated ones.
	byState [2]members
	terms   terms
	// online are those who are online, by how.
	online [Invisible + 1]members
	places []int // scratch of the writer
	ids    [2][]uint32
	sets   sync.Pool // of *bitset
}

// record is a user. Its texts lie in the arena: the uid, the name, and the numbers of its terms.
type record struct {
	text                     uint32
	created, changed, active uint32
	uidLength, nameLength    uint16
	flags                    uint8
}

const (
	isThere = 1 << iota
	isDeactivated
	isWide // its times are in wide
)

const maxTime = 1<<32 - 1

// New returns an index of nobody. wordStarts appends to into the places in a name, but for 0, at which a search may
// find it, in order.
func New(wordStarts func(into []int, name string) []int) *Index {
	x := &Index{wordStarts: wordStarts, wide: map[uint32][3]int64{}}
	x.terms.init()
	x.byUID.init()
	x.uids = newSorted(x, inUIDs{x})
	x.words = newSorted(x, inWords{x})
	x.words.offsets = true
	for state := range x.orders {
		for order := range x.orders[state] {
			x.orders[state][order] = newSorted(x, ordering(x, Order(order)))
		}
	}
	return x
}

// Revision returns what SetRevision was told last.
func (x *Index) Revision() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.revision
}

// Apply makes several changes at once, so that no list sees some of them alone.
func (x *Index) Apply(fn func(w *Writer)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fn(&Writer{x})
}

// Writer changes an index within Apply.
type Writer struct{ x *Index }

// SetRevision notes up to where the index has followed its source.
func (w *Writer) SetRevision(revision int64) { w.x.revision = revision }

// Put adds a user, or puts it in the place of the one with its uid. It keeps nothing of the memory of user.
func (w *Writer) Put(user User) {
	x := w.x
	number, exists := x.find(user.UID)
	if !exists {
		x.add(&user, false)
		return
	}
	x.change(number, &user)
}

// SetActive notes when a user was last active. Who is not there is left alone.
func (w *Writer) SetActive(uid string, at int64) {
	x := w.x
	number, exists := x.find(uid)
	if !exists || x.time(number, 2) == at {
		return
	}
	order := x.orders[x.state(number)][LastActiveFirst]
	order.remove(entry{user: number})
	x.setTimes(number, x.time(number, 0), x.time(number, 1), at)
	order.insert(entry{user: number})
}

// Delete takes a user out, if it is there.
func (w *Writer) Delete(uid string) {
	x := w.x
	number, exists := x.find(uid)
	if !exists {
		return
	}
	x.uids.remove(entry{user: number})
	x.moveWords(number, (*sorted).remove)
	for _, order := range x.orders[x.state(number)] {
		order.remove(entry{user: number})
	}
	x.byState[x.state(number)].remove(number)
	for how := range x.online {
		x.online[how].remove(number)
	}
	x.ids[0] = x.termsOf(number, x.ids[0][:0])
	for _, id := range x.ids[0] {
		x.terms.remove(id, number, len(x.users))
	}
	x.forget(number)
	x.dropText(number)
	delete(x.wide, number)
	x.users[number] = record{}
	x.free = append(x.free, number)
}

// SetOnline notes how a user is online. Who is not there is left alone.
func (x *Index) SetOnline(uid string, how Online) {
	x.mu.Lock()
	defer x.mu.Unlock()
	number, exists := x.find(uid)
	if !exists {
		return
	}
	for other := range x.online {
		x.online[other].remove(number)
	}
	if how != Offline {
		x.online[how].add(number)
	}
}

// add adds a user who is not there. When many are added at once, they are found and come into the orders at the end of
// that: see arrange.
func (x *Index) add(user *User, many bool) {
	number := uint32(len(x.users))
	if last := len(x.free) - 1; last >= 0 {
		number, x.free = x.free[last], x.free[:last]
	} else {
		x.users = append(x.users, record{})
	}
	x.fill(number, user)
	for _, id := range x.ids[0] {
		x.terms.add(id, number, len(x.users))
	}
	x.byState[x.state(number)].add(number)
	if many {
		return
	}
	x.note(number)
	x.uids.insert(entry{user: number})
	x.moveWords(number, (*sorted).insert)
	for _, order := range x.orders[x.state(number)] {
		order.insert(entry{user: number})
	}
}

// fill writes the record and the texts of a user, and leaves the numbers of its terms in ids[0].
func (x *Index) fill(number uint32, user *User) {
	x.ids[0] = x.terms.numbers(user.Terms, x.ids[0][:0])
	r := &x.users[number]
	r.flags = isThere
	if user.Deactivated {
		r.flags |= isDeactivated
	}
	x.setTimes(number, user.Created, user.Changed, user.Active)
	x.putText(number, user.UID, user.Name, x.ids[0])
}

// change turns a user who is there into another one with the same uid. Only the orders whose keys differ are touched.
func (x *Index) change(number uint32, user *User) {
	r := &x.users[number]
	from := x.state(number)
	to := 0
	if user.Deactivated {
		to = 1
	}
	times := [3]int64{user.Created, user.Changed, user.Active}
	old := [3]int64{x.time(number, 0), x.time(number, 1), x.time(number, 2)}
	renamed := user.Name != x.name(number)
	moved := [orderCount]bool{
		NewestFirst: times[0] != old[0], ByName: renamed, LastChangedFirst: times[1] != old[1],
		LastActiveFirst: times[0] != old[0] || times[2] != old[2],
	}
	for order, sorted := range x.orders[from] {
		if moved[order] = moved[order] || from != to; moved[order] {
			sorted.remove(entry{user: number})
		}
	}
	if renamed {
		x.moveWords(number, (*sorted).remove)
	}
	x.ids[0] = x.termsOf(number, x.ids[0][:0])
	x.ids[1] = x.terms.numbers(user.Terms, x.ids[1][:0])
	for _, id := range x.ids[1] {
		if !slices.Contains(x.ids[0], id) {
			x.terms.add(id, number, len(x.users))
		}
	}
	for _, id := range x.ids[0] {
		if !slices.Contains(x.ids[1], id) {
			x.terms.remove(id, number, len(x.users))
		}
	}
	if renamed || !slices.Equal(x.ids[0], x.ids[1]) {
		x.dropText(number)
		x.putText(number, user.UID, user.Name, x.ids[1])
	}
	r.flags = r.flags&isWide | isThere
	if user.Deactivated {
		r.flags |= isDeactivated
	}
	x.setTimes(number, times[0], times[1], times[2])
	if from != to {
		x.byState[from].remove(number)
		x.byState[to].add(number)
	}
	for order, sorted := range x.orders[to] {
		if moved[order] {
			sorted.insert(entry{user: number})
		}
	}
	if renamed {
		x.moveWords(number, (*sorted).insert)
	}
}

// moveWords puts the words of a user's name into their order, or takes them out.
func (x *Index) moveWords(number uint32, move func(*sorted, entry)) {
	x.places = x.wordStarts(x.places[:0], x.name(number))
	for _, at := range x.places {
		move(x.words, entry{user: number, offset: uint16(at)})
	}
}

// state returns 0 for an active user, 1 for a deactivated one.
func (x *Index) state(number uint32) int {
	if x.users[number].flags&isDeactivated != 0 {
		return 1
	}
	return 0
}

// time returns when a user was created (0), changed (1) or active (2).
func (x *Index) time(number uint32, which int) int64 {
	r := &x.users[number]
	if r.flags&isWide != 0 {
		return x.wide[number][which]
	}
	switch which {
	case 0:
		return int64(r.created)
	case 1:
		return int64(r.changed)
	default:
		return int64(r.active)
	}
}

// setTimes writes the times of a user. Those that are no numbers of 32 bits are kept aside.
func (x *Index) setTimes(number uint32, created, changed, active int64) {
	r := &x.users[number]
	narrow := func(at int64) uint32 { return uint32(min(max(at, 0), maxTime)) }
	r.created, r.changed, r.active = narrow(created), narrow(changed), narrow(active)
	if int64(r.created) != created || int64(r.changed) != changed || int64(r.active) != active {
		r.flags |= isWide
		x.wide[number] = [3]int64{created, changed, active}
	} else if r.flags&isWide != 0 {
		r.flags &^= isWide
		delete(x.wide, number)
	}
}
