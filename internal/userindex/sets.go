package userindex

import (
	"iter"
	"math/bits"
	"slices"
)

// bitset is a set of numbers. Numbers behind its end are not in it.
type bitset []uint64

func (b bitset) has(number uint32) bool {
	word := int(number >> 6)
	return word < len(b) && b[word]>>(number&63)&1 != 0
}

// set adds a number, for which there is room.
func (b bitset) set(number uint32) { b[number>>6] |= 1 << (number & 63) }

func (b bitset) unset(number uint32) { b[number>>6] &^= 1 << (number & 63) }

func (b bitset) count() (count int) {
	for _, word := range b {
		count += bits.OnesCount64(word)
	}
	return count
}

// countOf counts those of numbers that are members. It takes no branch for a member, since nobody can foretell them.
func (b bitset) countOf(numbers []uint32) (count int) {
	for _, number := range numbers {
		if word := int(number >> 6); word < len(b) {
			count += int(b[word] >> (number & 63) & 1)
		}
	}
	return count
}

// or adds the members of another set that is not longer.
func (b bitset) or(other bitset) {
	for i, word := range other {
		b[i] |= word
	}
}

// and leaves the members of another set alone.
func (b bitset) and(other bitset) {
	common := min(len(b), len(other))
	for i, word := range other[:common] {
		b[i] &= word
	}
	clear(b[common:])
}

// andNot takes the members of another set out.
func (b bitset) andNot(other bitset) {
	for i, word := range other[:min(len(b), len(other))] {
		b[i] &^= word
	}
}

// all yields the members in order.
func (b bitset) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, word := range b {
			for ; word != 0; word &= word - 1 {
				if !yield(uint32(i<<6 + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// members is a set that is kept: its size is known, and it grows with what is added.
type members struct {
	bits  bitset
	count int
}

func (m *members) add(number uint32) {
	if word := int(number >> 6); word >= len(m.bits) {
		m.bits = append(m.bits, make(bitset, word+1-len(m.bits))...)
	}
	if !m.bits.has(number) {
		m.bits.set(number)
		m.count++
	}
}

func (m *members) remove(number uint32) {
	if m.bits.has(number) {
		m.bits.unset(number)
		m.count--
	}
}

// posting are the users who have a term: a sorted list while they are few, a bitset when that takes less room.
type posting struct {
	term Term
	few  []uint32
	many members
}

// fewPerUser is how many bits of a bitset are as large as an entry of a list.
const fewPerUser = 32

func (p *posting) count() int { return len(p.few) + p.many.count }

// add adds a user of so many.
func (p *posting) add(number uint32, users int) {
	if p.many.count > 0 {
		p.many.add(number)
		return
	}
	if last := len(p.few) - 1; last < 0 || p.few[last] < number {
		p.few = append(p.few, number)
	} else if at, there := slices.BinarySearch(p.few, number); !there {
		p.few = slices.Insert(p.few, at, number)
	}
	if len(p.few) > 64 && len(p.few)*fewPerUser > users {
		for _, number := range p.few {
			p.many.add(number)
		}
		p.few = nil
	}
}

// remove takes a user out. A set that has become much smaller than it was is a list again.
func (p *posting) remove(number uint32, users int) {
	if p.many.count == 0 {
		if at, there := slices.BinarySearch(p.few, number); there {
			p.few = slices.Delete(p.few, at, at+1)
		}
		return
	}
	p.many.remove(number)
	if p.many.count < 32 || p.many.count*fewPerUser*4 < users {
		p.few = make([]uint32, 0, p.many.count)
		for number := range p.many.bits.all() {
			p.few = append(p.few, number)
		}
		p.many = members{}
	}
}

// fill adds the users to a set.
func (p *posting) fill(into bitset) {
	into.or(p.many.bits)
	for _, number := range p.few {
		into.set(number)
	}
}

func (p *posting) has(number uint32) bool {
	if p.many.count > 0 {
		return p.many.bits.has(number)
	}
	_, there := slices.BinarySearch(p.few, number)
	return there
}

// terms are the postings of an index.
type terms struct {
	byTerm   map[Term]uint32
	postings []posting // by number
	free     []uint32
}

func (t *terms) init() { t.byTerm = map[Term]uint32{} }

// numbers appends the numbers of terms. Those that nobody has yet get one.
func (t *terms) numbers(of []Term, into []uint32) []uint32 {
	for _, term := range of {
		id, known := t.byTerm[term]
		if !known {
			id = uint32(len(t.postings))
			if last := len(t.free) - 1; last >= 0 {
				id, t.free = t.free[last], t.free[:last]
			} else {
				t.postings = append(t.postings, posting{})
			}
			term = Term{Kind: term.Kind, Value: string([]byte(term.Value))} // it may be part of a large text
			t.postings[id].term = term
			t.byTerm[term] = id
		}
		into = append(into, id)
	}
	return into
}

func (t *terms) add(id, number uint32, users int) { t.postings[id].add(number, users) }

func (t *terms) remove(id, number uint32, users int) {
	p := &t.postings[id]
	if p.remove(number, users); p.count() == 0 {
		delete(t.byTerm, p.term)
		*p = posting{}
		t.free = append(t.free, id)
	}
}

// of returns the users who have a term, nil when nobody has.
func (t *terms) of(term Term) *posting {
	id, known := t.byTerm[term]
	if !known {
		return nil
	}
	return &t.postings[id]
}
