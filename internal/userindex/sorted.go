package userindex

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// entry is a place in an order: a user, and where in its name, for words.
type entry struct {
	user   uint32
	offset uint16
}

// ordering tells what comes first. No two entries are equal.
type orderingOf interface {
	// prefix is a number that orders entries as compare does, but may be the same for different ones.
	prefix(entry) uint64
	compare(a, b entry) int
}

// sorted keeps entries in an order, in blocks, so that an entry comes in with a search and a short move, and the
// k-th is found by counting.
type sorted struct {
	orderingOf
	of     *Index
	blocks []block
	// firsts are the prefixes of the first entries of the blocks.
	firsts []uint64
	count  int
	// offsets says that the entries have them.
	offsets bool
}

type block struct {
	users   []uint32
	offsets []uint16
}

// blockSize is how many entries a block has at most.
const blockSize = 512

func newSorted(of *Index, by orderingOf) *sorted { return &sorted{of: of, orderingOf: by} }

func (s *sorted) entry(b, at int) entry {
	e := entry{user: s.blocks[b].users[at]}
	if s.offsets {
		e.offset = s.blocks[b].offsets[at]
	}
	return e
}

// search returns the place of the first entry that is not before what is looked for, which has a prefix: the block
// behind the last one when there is none.
func (s *sorted) search(prefix uint64, before func(entry) bool) (b, at int) {
	low, high := 0, len(s.blocks) // the blocks below low begin before it
	for low < high {
		middle := (low + high) / 2
		first := s.firsts[middle]
		if first < prefix || first == prefix && before(s.entry(middle, 0)) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return 0, 0
	}
	b = low - 1
	low, high = 1, len(s.blocks[b].users)
	for low < high {
		middle := (low + high) / 2
		if before(s.entry(b, middle)) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(s.blocks[b].users) {
		return b + 1, 0
	}
	return b, low
}

// locate returns the place of an entry, or where it would be.
func (s *sorted) locate(e entry) (b, at int) {
	return s.search(s.prefix(e), func(other entry) bool { return s.compare(other, e) < 0 })
}

func (s *sorted) insert(e entry) {
	s.count++
	b, at := s.locate(e)
	switch {
	case len(s.blocks) == 0:
		s.insertBlock(0, block{})
	case at == 0 && b > 0: // it is as well at the end of the block before
		b--
		at = len(s.blocks[b].users)
	}
	if full := len(s.blocks[b].users); full == blockSize {
		switch {
		case at == full && b == len(s.blocks)-1: // entries that come in order leave full blocks behind
			b, at = b+1, 0
			s.insertBlock(b, block{})
		case at == 0:
			s.insertBlock(b, block{})
		default:
			s.split(b)
			if half := len(s.blocks[b].users); at > half {
				b, at = b+1, at-half
			}
		}
	}
	s.blocks[b].users = slices.Insert(s.blocks[b].users, at, e.user)
	if s.offsets {
		s.blocks[b].offsets = slices.Insert(s.blocks[b].offsets, at, e.offset)
	}
	if at == 0 {
		s.firsts[b] = s.prefix(e)
	}
}

func (s *sorted) insertBlock(b int, new block) {
	s.blocks = slices.Insert(s.blocks, b, new)
	s.firsts = slices.Insert(s.firsts, b, 0)
}

// split cuts a block into two.
func (s *sorted) split(b int) {
	full := s.blocks[b]
	half := len(full.users) / 2
	low, high := block{users: slices.Clone(full.users[:half])}, block{users: slices.Clone(full.users[half:])}
	if s.offsets {
		low.offsets, high.offsets = slices.Clone(full.offsets[:half]), slices.Clone(full.offsets[half:])
	}
	s.blocks[b] = low
	s.insertBlock(b+1, high)
	s.firsts[b+1] = s.prefix(s.entry(b+1, 0))
}

// remove takes out an entry that is there.
func (s *sorted) remove(e entry) {
	s.count--
	b, at := s.locate(e)
	s.blocks[b].users = slices.Delete(s.blocks[b].users, at, at+1)
	if s.offsets {
		s.blocks[b].offsets = slices.Delete(s.blocks[b].offsets, at, at+1)
	}
	switch {
	case len(s.blocks[b].users) == 0:
		s.blocks = slices.Delete(s.blocks, b, b+1)
		s.firsts = slices.Delete(s.firsts, b, b+1)
	case at == 0:
		s.firsts[b] = s.prefix(s.entry(b, 0))
	case b > 0 && len(s.blocks[b].users)+len(s.blocks[b-1].users) < blockSize/2:
		s.join(b)
	}
}

// join puts a block behind the one before it.
func (s *sorted) join(b int) {
	s.blocks[b-1].users = append(s.blocks[b-1].users, s.blocks[b].users...)
	s.blocks[b-1].offsets = append(s.blocks[b-1].offsets, s.blocks[b].offsets...)
	s.blocks = slices.Delete(s.blocks, b, b+1)
	s.firsts = slices.Delete(s.firsts, b, b+1)
}

// rank returns how many entries are before a place.
func (s *sorted) rank(b, at int) int {
	if b > len(s.blocks)/2 { // fewer blocks are behind it
		rank := s.count
		for _, behind := range s.blocks[b:] {
			rank -= len(behind.users)
		}
		return rank + at
	}
	for _, before := range s.blocks[:b] {
		at += len(before.users)
	}
	return at
}

// place returns the place of the entry with so many before it: the block behind the last one when there is none.
func (s *sorted) place(rank int) (b, at int) {
	for b = range s.blocks {
		if rank < len(s.blocks[b].users) {
			return b, rank
		}
		rank -= len(s.blocks[b].users)
	}
	return len(s.blocks), 0
}

// fill adds the users of the entries with a rank in [from, to) to a set.
func (s *sorted) fill(into bitset, from, to int) {
	if from >= to {
		return
	}
	b, at := s.place(from)
	for left := to - from; left > 0; b, at = b+1, 0 {
		users := s.blocks[b].users[at:]
		users = users[:min(left, len(users))]
		for _, user := range users {
			into.set(user)
		}
		left -= len(users)
	}
}

// keyed is an entry with a number by which many are sorted.
type keyed struct {
	key uint64
	entry
}

// load fills an empty order with entries, sorted by their keys, and by tie where these are the same. Without a tie
// those stay as they are.
func (s *sorted) load(entries []keyed, tie func(a, b entry) int) {
	entries = sortedByKey(entries)
	for from := 0; tie != nil && from < len(entries); {
		to := from + 1
		for to < len(entries) && entries[to].key == entries[from].key {
			to++
		}
		if to-from > 1 {
			slices.SortFunc(entries[from:to], func(a, b keyed) int { return tie(a.entry, b.entry) })
		}
		from = to
	}
	s.count = len(entries)
	for some := range slices.Chunk(entries, blockSize) {
		b := block{users: make([]uint32, len(some))}
		for i := range some {
			b.users[i] = some[i].user
		}
		if s.offsets {
			b.offsets = make([]uint16, len(some))
			for i := range some {
				b.offsets[i] = some[i].offset
			}
		}
		s.blocks = append(s.blocks, b)
		s.firsts = append(s.firsts, s.prefix(some[0].entry))
	}
}

// digitBits is how many bits of the keys are sorted by at a time.
const digitBits = 16

// sortedByKey sorts entries by their keys, those with the same as they are: digit by digit, from the last on, which for
// many is several times as quick as comparing them. It may use the memory of entries.
func sortedByKey(entries []keyed) []keyed {
	if len(entries) < 1<<digitBits/4 {
		slices.SortStableFunc(entries, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
		return entries
	}
	differ, first := uint64(0), entries[0].key
	for i := range entries {
		differ |= entries[i].key ^ first
	}
	spare, counts := make([]keyed, len(entries)), make([]int, 1<<digitBits)
	for shift := 0; shift < 64; shift += digitBits {
		if differ>>shift&(1<<digitBits-1) == 0 { // this digit is the same in all
			continue
		}
		clear(counts)
		for i := range entries {
			counts[entries[i].key>>shift&(1<<digitBits-1)]++
		}
		sum := 0
		for digit, count := range counts {
			counts[digit] = sum
			sum += count
		}
		for i := range entries {
			at := &counts[entries[i].key>>shift&(1<<digitBits-1)]
			spare[*at] = entries[i]
			*at++
		}
		entries, spare = spare, entries
	}
	return entries
}

// prefixOf returns the first bytes of a text as a number.
func prefixOf(text string) uint64 {
	if len(text) >= 8 {
		return binary.BigEndian.Uint64([]byte(text[:8]))
	}
	var first [8]byte
	copy(first[:], text)
	return binary.BigEndian.Uint64(first[:])
}

// The orders, each of which ends with the uid.
type (
	inUIDs      struct{ *Index }
	inWords     struct{ *Index }
	inNames     struct{ *Index }
	inCreations struct{ *Index }
	inChanges   struct{ *Index }
	inActivity  struct{ *Index }
)

func ordering(x *Index, order Order) orderingOf {
	switch order {
	case ByName:
		return inNames{x}
	case LastChangedFirst:
		return inChanges{x}
	case LastActiveFirst:
		return inActivity{x}
	case NewestFirst:
	}
	return inCreations{x}
}

func (x inUIDs) prefix(e entry) uint64 { return prefixOf(x.uid(e.user)) }

func (x inUIDs) compare(a, b entry) int { return cmp.Compare(x.uid(a.user), x.uid(b.user)) }

func (x inWords) prefix(e entry) uint64 { return prefixOf(x.name(e.user)[e.offset:]) }

func (x inWords) compare(a, b entry) int {
	if c := cmp.Compare(x.name(a.user)[a.offset:], x.name(b.user)[b.offset:]); c != 0 {
		return c
	}
	if a.user == b.user {
		return cmp.Compare(a.offset, b.offset)
	}
	return cmp.Compare(a.user, b.user)
}

func (x inNames) prefix(e entry) uint64 { return prefixOf(x.name(e.user)) }

func (x inNames) compare(a, b entry) int {
	if c := cmp.Compare(x.name(a.user), x.name(b.user)); c != 0 {
		return c
	}
	return inUIDs(x).compare(a, b)
}

// Times run downward, so their prefixes are turned round.

func (x inCreations) prefix(e entry) uint64 { return ^uint64(x.users[e.user].created) }

func (x inCreations) compare(a, b entry) int {
	if c := cmp.Compare(x.time(b.user, 0), x.time(a.user, 0)); c != 0 {
		return c
	}
	return inUIDs(x).compare(a, b)
}

func (x inChanges) prefix(e entry) uint64 { return ^uint64(x.users[e.user].changed) }

func (x inChanges) compare(a, b entry) int {
	if c := cmp.Compare(x.time(b.user, 1), x.time(a.user, 1)); c != 0 {
		return c
	}
	return inUIDs(x).compare(a, b)
}

func (x inActivity) prefix(e entry) uint64 {
	r := &x.users[e.user]
	created := r.created
	if r.active == maxTime { // it may stand for a later one, which decides before the other time
		created = maxTime
	}
	return ^(uint64(r.active)<<32 | uint64(created))
}

func (x inActivity) compare(a, b entry) int {
	if c := cmp.Compare(x.time(b.user, 2), x.time(a.user, 2)); c != 0 {
		return c
	}
	return inCreations(x).compare(a, b)
}
