package userindex

import (
	"cmp"
	"slices"
)

// page appends to numbers, up to the query's limit, the users of a selection in an order: behind a position, or else
// without the first offset ones.
func (f *finder) page(numbers []uint32, from selection, order Order, after *Position, offset int) []uint32 {
	line := f.line(order)
	wanted := f.q.Limit - len(numbers)
	if wanted <= 0 {
		return numbers
	}
	if from.everybody {
		return line.page(numbers, from.except, after, offset, wanted)
	}
	// To gather a user and sort it costs some forty times as much as to look at one along the way.
	const gather = 40
	looks := line.count()
	if passed := (offset + wanted) * looks; from.count > 0 && passed/from.count < looks {
		looks = passed / from.count
	}
	if after != nil { // nobody knows how many are before it, but they are not looked at
		looks = min(line.count(), wanted*line.count()/max(1, from.count))
	}
	if from.count*gather < looks {
		return f.gathered(numbers, from.bits, order, after, offset, wanted)
	}
	return line.walk(numbers, from.bits, after, offset, wanted)
}

// gathered is page for few users, who are sorted.
func (f *finder) gathered(
	numbers []uint32, from bitset, order Order, after *Position, offset, wanted int,
) []uint32 {
	by := ordering(f.x, order)
	var found []keyed
	for number := range from.all() {
		if after != nil {
			if side := f.x.behind(number, order, after); side == 0 || side < 0 != f.q.Backward {
				continue
			}
		}
		e := entry{user: number}
		found = append(found, keyed{by.prefix(e), e})
	}
	slices.SortFunc(found, func(a, b keyed) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		return by.compare(a.entry, b.entry)
	})
	if f.q.Backward {
		slices.Reverse(found)
	}
	found = found[min(offset, len(found)):]
	for _, k := range found[:min(wanted, len(found))] {
		numbers = append(numbers, k.user)
	}
	return numbers
}

// line is the users of the query's activity in an order, in the query's direction. It is one sorted order, or two that
// are walked together.
type line struct {
	x        *Index
	order    Order
	sorted   []*sorted
	backward bool
}

func (f *finder) line(order Order) line {
	l := line{x: f.x, order: order, backward: f.q.Backward}
	active, deactivated := f.x.orders[0][order], f.x.orders[1][order]
	if f.q.Activity != DeactivatedOnly && (active.count > 0 || f.q.Activity == ActiveOnly) {
		l.sorted = append(l.sorted, active)
	}
	if f.q.Activity != ActiveOnly && (deactivated.count > 0 || len(l.sorted) == 0) {
		l.sorted = append(l.sorted, deactivated)
	}
	return l
}

func (l line) count() (count int) {
	for _, s := range l.sorted {
		count += s.count
	}
	return count
}

// rank returns how many users of the line are before a user in the order.
func (l line) rank(number uint32) (rank int) {
	for _, s := range l.sorted {
		rank += s.rank(s.locate(entry{user: number}))
	}
	return rank
}

// cursor is where in each sorted order a walk is: at the next entry, or behind it when it goes backward.
type cursor struct {
	line
	at []placeIn
}

type placeIn struct{ block, at int }

// behind returns a walk from behind a position on.
func (l line) behind(p *Position) cursor {
	c := cursor{line: l}
	prefix := p.prefixIn(l.order)
	for _, s := range l.sorted {
		b, at := s.search(prefix, func(e entry) bool {
			side := l.x.behind(e.user, l.order, p)
			return side < 0 || side == 0 && !l.backward
		})
		c.at = append(c.at, placeIn{b, at})
	}
	return c
}

// nth returns a walk from the user on who has so many before it, in the direction of the line.
func (l line) nth(n int) cursor {
	c := cursor{line: l}
	n = min(n, l.count())
	if l.backward {
		n = l.count() - n
	}
	ranks := []int{n}
	if len(l.sorted) == 2 {
		first := l.among(n)
		ranks = []int{first, n - first}
	}
	for i, s := range l.sorted {
		b, at := s.place(ranks[i])
		c.at = append(c.at, placeIn{b, at})
	}
	return c
}

// among returns how many of the first n users of two orders are of the first one.
func (l line) among(n int) int {
	low, high := max(0, n-l.sorted[1].count), min(n, l.sorted[0].count)
	for low < high {
		middle := (low + high) / 2
		b, at := l.sorted[0].place(middle)
		e := l.sorted[0].entry(b, at)
		if l.sorted[1].rank(l.sorted[1].locate(e))+middle < n { // it is one of them
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// next returns the next user, and moves on.
func (c *cursor) next() (number uint32, more bool) {
	if len(c.sorted) == 1 {
		return c.step(0)
	}
	best := -1
	for i := range c.sorted {
		candidate, there := c.peek(i)
		if !there {
			continue
		}
		if best >= 0 {
			side := c.sorted[i].compare(entry{user: candidate}, entry{user: number})
			if side < 0 == c.backward {
				continue
			}
		}
		best, number = i, candidate
	}
	if best < 0 {
		return 0, false
	}
	return c.step(best)
}

func (c *cursor) peek(i int) (number uint32, there bool) {
	before := c.at[i]
	number, there = c.step(i)
	c.at[i] = before
	return number, there
}

func (c *cursor) step(i int) (number uint32, more bool) {
	s, p := c.sorted[i], &c.at[i]
	if c.backward {
		for p.at == 0 {
			if p.block == 0 {
				return 0, false
			}
			p.block--
			p.at = len(s.blocks[p.block].users)
		}
		p.at--
		return s.blocks[p.block].users[p.at], true
	}
	for p.block < len(s.blocks) && p.at == len(s.blocks[p.block].users) {
		p.block, p.at = p.block+1, 0
	}
	if p.block == len(s.blocks) {
		return 0, false
	}
	number = s.blocks[p.block].users[p.at]
	p.at++
	return number, true
}

// page is the page of everybody but for some, sorted by number.
func (l line) page(numbers, except []uint32, after *Position, offset, wanted int) []uint32 {
	if after != nil {
		c := l.behind(after)
		return c.take(numbers, wanted, func(number uint32) bool {
			_, out := slices.BinarySearch(except, number)
			return !out
		})
	}
	start, ranks := offset, make([]int, len(except))
	for i, number := range except {
		if ranks[i] = l.rank(number); l.backward {
			ranks[i] = l.count() - 1 - ranks[i]
		}
	}
	slices.Sort(ranks)
	for _, rank := range ranks {
		if rank > start {
			break
		}
		start++
	}
	c := l.nth(start)
	return c.take(numbers, wanted, func(number uint32) bool {
		_, out := slices.BinarySearch(except, number)
		return !out
	})
}

// take appends to numbers as many users as are wanted, of those who are selected.
func (c *cursor) take(numbers []uint32, wanted int, selected func(uint32) bool) []uint32 {
	for wanted > 0 {
		number, more := c.next()
		if !more {
			break
		}
		if selected(number) {
			numbers = append(numbers, number)
			wanted--
		}
	}
	return numbers
}

// walk is the page of the users of a set.
func (l line) walk(numbers []uint32, set bitset, after *Position, offset, wanted int) []uint32 {
	var c cursor
	if after != nil {
		c = l.behind(after)
	} else {
		c = l.nth(0)
	}
	if len(l.sorted) == 1 {
		return c.walkOne(numbers, set, offset, wanted)
	}
	return c.take(numbers, wanted, func(number uint32) bool {
		in := set.has(number)
		if in && offset > 0 {
			offset--
			return false
		}
		return in
	})
}

// walkOne is walk along one order, block by block: it may look at everybody. A block whose users all come before the
// page is only counted, which costs a fraction of looking for each of them.
func (c *cursor) walkOne(numbers []uint32, set bitset, offset, wanted int) []uint32 {
	s, p := c.sorted[0], c.at[0]
	first, end, step := p.block, len(s.blocks), 1
	if c.backward {
		first, end, step = min(p.block, len(s.blocks)-1), -1, -1
	}
	for b := first; b != end; b += step {
		users := s.blocks[b].users
		switch {
		case b != p.block:
		case c.backward:
			users = users[:p.at]
		default:
			users = users[p.at:]
		}
		if offset > 0 {
			if before := set.countOf(users); before <= offset {
				offset -= before
				continue
			}
		}
		for i := range users {
			number := users[i]
			if c.backward {
				number = users[len(users)-1-i]
			}
			if !set.has(number) {
				continue
			}
			if offset > 0 {
				offset--
				continue
			}
			if numbers = append(numbers, number); wanted == 1 {
				return numbers
			}
			wanted--
		}
	}
	return numbers
}
