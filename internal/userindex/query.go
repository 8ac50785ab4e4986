package userindex

import (
	"cmp"
	"slices"
	"strings"
)

// Order is an order of users. Each ends with the uid, so that no two users are equal.
type Order int

// The orders. Times run downward, the latest first.
const (
	NewestFirst Order = iota
	ByName
	LastChangedFirst
	// LastActiveFirst is by the last activity, and of the same by creation, latest first.
	LastActiveFirst

	orderCount = iota
)

// Activity selects users by whether they are deactivated.
type Activity int

// The activities.
const (
	ActiveOnly Activity = iota
	DeactivatedOnly
	ActiveOrDeactivated
)

// Query selects users, and a page of them. Zero fields do not restrict.
type Query struct {
	Activity Activity
	// UIDPrefix and NamePrefix are what a uid begins with, or a name from one of its words on: one of both.
	UIDPrefix, NamePrefix string
	// Words are texts that a name has, each from one of its words on.
	Words []string
	// Terms select users who have one of each list's.
	Terms [][]Term
	// Among selects users who are in one of each list's groups.
	Among [][]Group
	// Without leaves users out.
	Without []string
	// ChangedAfter and ChangedBefore select by when users were last changed, in Unix seconds.
	ChangedAfter, ChangedBefore int64
	// Parts are what the page goes through, one behind the other.
	Parts []Part
	// Backward reverses all of it: the parts, and the order of each.
	Backward bool
	// After starts behind a position, without which the first Offset users are left out.
	After         *Position
	Offset, Limit int
}

// Group is users by uid: those of them who have one of the terms, unless there are none. An empty group is nobody.
type Group struct {
	UIDs  []string
	Terms []Term
}

// Part is some of the users that a query selects, in an order.
type Part struct {
	Order Order
	// Among selects those in one of the groups, unless it is nil, and Without leaves users out.
	Among   []Group
	Without []string
	// Online selects those who are online in one of the ways, and NotOnline leaves them out.
	Online, NotOnline []Online
	// OnlineWithout are taken for offline.
	OnlineWithout []string
}

// Position is a place behind a user in a part.
type Position struct {
	Part int
	Name string
	// Times are what the order compares before the uid.
	Times [2]int64
	UID   string
}

// Page is what a query selects.
type Page struct {
	UIDs []string
	// Total is how many users the query selects, on all pages.
	Total int
	// Last is the position behind the last of UIDs.
	Last Position
	// Revision is the index's.
	Revision int64
}

// Count returns how many users a query selects.
func (x *Index) Count(q Query) int {
	q.Limit, q.After = 0, nil
	return x.Find(q).Total
}

// Find returns a page of the users that a query selects.
func (x *Index) Find(q Query) Page {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f := finder{x: x, q: &q}
	defer f.release()
	return f.find()
}

// With returns the uids of all users who have a term, in no order, and the revision at which they have it.
func (x *Index) With(term Term) (uids []string, revision int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if p := x.terms.of(term); p != nil {
		set := make(bitset, x.words64())
		p.fill(set)
		for number := range set.all() {
			uids = append(uids, strings.Clone(x.uid(number)))
		}
	}
	return uids, x.revision
}

// Len returns how many users the index holds.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.uids.count
}

// words64 is how long a bitset is that has room for everybody.
func (x *Index) words64() int { return (len(x.users) + 63) / 64 }

// finder answers one query. It holds the lock.
type finder struct {
	x       *Index
	q       *Query
	scratch []*bitset
}

// set returns an empty set with room for everybody.
func (f *finder) set() bitset {
	pooled, _ := f.x.sets.Get().(*bitset)
	if pooled == nil {
		pooled = new(bitset)
	}
	f.scratch = append(f.scratch, pooled)
	length := f.x.words64()
	if cap(*pooled) < length {
		*pooled = make(bitset, length, length+length/8)
		return *pooled
	}
	*pooled = (*pooled)[:length]
	clear(*pooled)
	return *pooled
}

func (f *finder) release() {
	for _, pooled := range f.scratch {
		f.x.sets.Put(pooled)
	}
}

// selection is a set of users.
type selection struct {
	// everybody says that it is all users of the query's activity, but for except, who are sorted by number.
	everybody bool
	except    []uint32
	// bits are the users otherwise.
	bits  bitset
	count int
}

func (f *finder) find() Page {
	page := Page{Revision: f.x.revision}
	selected := f.selected()
	parts := make([]int, len(f.q.Parts))
	for i := range parts {
		parts[i] = i
	}
	if f.q.Backward {
		slices.Reverse(parts)
	}
	numbers := make([]uint32, 0, min(f.q.Limit, 1000))
	offset, after, last := f.q.Offset, f.q.After, 0
	for _, i := range parts {
		part := &f.q.Parts[i]
		some := selected
		if len(parts) > 1 || !part.whole() {
			some = f.part(selected, part)
		}
		page.Total += some.count
		switch {
		case after != nil && after.Part != i: // the page begins in a part behind this one
			continue
		case len(numbers) == f.q.Limit:
			continue
		case offset >= some.count && after == nil:
			offset -= some.count
			continue
		}
		before := len(numbers)
		numbers = f.page(numbers, some, part.Order, after, offset)
		if len(numbers) > before {
			last = i
		}
		offset, after = 0, nil
	}
	page.UIDs = f.texts(numbers)
	if len(numbers) > 0 {
		page.Last = f.x.position(numbers[len(numbers)-1], last, f.q.Parts[last].Order)
	}
	return page
}

// whole reports whether a part is all that the query selects.
func (p *Part) whole() bool {
	return p.Among == nil && len(p.Without)+len(p.Online)+len(p.NotOnline) == 0
}

// base are the users of the query's activity.
func (f *finder) base() (sets []bitset, count int) {
	x := f.x
	switch f.q.Activity {
	case DeactivatedOnly:
		return []bitset{x.byState[1].bits}, x.byState[1].count
	case ActiveOrDeactivated:
		return []bitset{x.byState[0].bits, x.byState[1].bits}, x.byState[0].count + x.byState[1].count
	case ActiveOnly:
	}
	return []bitset{x.byState[0].bits}, x.byState[0].count
}

// inBase reports whether a user is one of the query's activity.
func (f *finder) inBase(number uint32) bool {
	switch f.q.Activity {
	case DeactivatedOnly:
		return f.x.state(number) == 1
	case ActiveOrDeactivated:
		return true
	case ActiveOnly:
	}
	return f.x.state(number) == 0
}

// selected returns whom the query selects, whatever its parts say.
func (f *finder) selected() selection {
	q, x := f.q, f.x
	all := selection{everybody: true}
	if q.UIDPrefix != "" || q.NamePrefix != "" {
		all = f.narrow(all, func(into bitset) {
			if q.UIDPrefix != "" {
				x.fillPrefix(x.uids, into, q.UIDPrefix, func(e entry) string { return x.uid(e.user) })
			}
			if q.NamePrefix != "" {
				x.fillName(into, q.NamePrefix)
			}
		})
	}
	for _, word := range q.Words {
		all = f.narrow(all, func(into bitset) { x.fillName(into, word) })
	}
	for _, any := range q.Terms {
		all = f.narrow(all, func(into bitset) { x.fillTerms(into, any) })
	}
	for _, groups := range q.Among {
		all = f.narrow(all, func(into bitset) { x.fillGroups(into, groups) })
	}
	if q.ChangedAfter != 0 || q.ChangedBefore != 0 {
		all = f.narrow(all, f.fillChanged)
	}
	return f.without(f.counted(all), x.numbersOf(q.Without))
}

// narrow leaves those of a selection whom fill adds to a set.
func (f *finder) narrow(all selection, fill func(into bitset)) selection {
	set := f.set()
	fill(set)
	if all.everybody {
		return selection{bits: set}
	}
	all.bits.and(set)
	return all
}

// counted leaves those of the query's activity, and counts.
func (f *finder) counted(all selection) selection {
	base, count := f.base()
	if all.everybody {
		all.count = count
		return all
	}
	if len(base) == 1 && count < f.x.uids.count { // else nobody is of another activity
		all.bits.and(base[0])
	}
	all.count = all.bits.count()
	return all
}

// without takes users out of a selection, whose set it changes.
func (f *finder) without(from selection, out []uint32) selection {
	if len(out) == 0 {
		return from
	}
	if from.everybody && len(from.except)+len(out) > maxExcept {
		from = f.listed(from)
	}
	if !from.everybody {
		for _, number := range out {
			if from.bits.has(number) {
				from.bits.unset(number)
				from.count--
			}
		}
		return from
	}
	before := len(from.except)
	from.except = slices.Clone(from.except)
	for _, number := range out {
		if f.inBase(number) {
			from.except = append(from.except, number)
		}
	}
	slices.Sort(from.except)
	from.except = slices.Compact(from.except)
	from.count -= len(from.except) - before
	return from
}

// maxExcept is how many users it pays to leave out of everybody one by one.
const maxExcept = 1000

// listed returns a selection as a set of its own.
func (f *finder) listed(from selection) selection {
	set := f.set()
	if !from.everybody {
		copy(set, from.bits)
		return selection{bits: set, count: from.count}
	}
	base, _ := f.base()
	for _, some := range base {
		set.or(some)
	}
	for _, number := range from.except {
		set.unset(number)
	}
	return selection{bits: set, count: from.count}
}

// part returns those of a selection who are in a part of it.
func (f *finder) part(from selection, part *Part) selection {
	x := f.x
	if part.Among != nil {
		set := f.set()
		x.fillGroups(set, part.Among)
		from = f.both(from, set)
	}
	if len(part.Without) > 0 && !from.everybody {
		from = f.listed(from) // other parts are of the same selection
	}
	from = f.without(from, x.numbersOf(part.Without))
	count := 0
	for _, ways := range [2][]Online{part.Online, part.NotOnline} {
		for _, how := range ways {
			count += x.online[how].count
		}
	}
	switch {
	case count == 0 && len(part.Online) > 0:
		return selection{}
	case count == 0:
		return from
	case len(part.Online) > 0:
		return f.both(from, f.online(part.Online, part.OnlineWithout))
	}
	online := f.online(part.NotOnline, part.OnlineWithout)
	if from.everybody && count+len(from.except) <= maxExcept {
		numbers := make([]uint32, 0, count)
		for number := range online.all() {
			numbers = append(numbers, number)
		}
		return f.without(from, numbers)
	}
	from = f.listed(from)
	from.bits.andNot(online)
	from.count = from.bits.count()
	return from
}

// both leaves those of a selection who are in a set, which it may change.
func (f *finder) both(from selection, set bitset) selection {
	if !from.everybody {
		set.and(from.bits)
		return selection{bits: set, count: set.count()}
	}
	except := from.except
	from = f.counted(selection{bits: set})
	return f.without(from, except)
}

// online returns those online in some ways, but for some users.
func (f *finder) online(ways []Online, without []string) bitset {
	set := f.set()
	for _, how := range ways {
		set.or(f.x.online[how].bits)
	}
	for _, number := range f.x.numbersOf(without) {
		set.unset(number)
	}
	return set
}

// numbersOf returns the numbers of those of the uids that are there.
func (x *Index) numbersOf(uids []string) []uint32 {
	if len(uids) == 0 {
		return nil
	}
	numbers := make([]uint32, 0, len(uids))
	for _, uid := range uids {
		if number, exists := x.find(uid); exists {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

func (x *Index) fillGroups(into bitset, groups []Group) {
	for _, group := range groups {
		for _, number := range x.numbersOf(group.UIDs) {
			if len(group.Terms) == 0 || x.hasAny(number, group.Terms) {
				into.set(number)
			}
		}
	}
}

func (x *Index) hasAny(number uint32, terms []Term) bool {
	return slices.ContainsFunc(terms, func(term Term) bool {
		p := x.terms.of(term)
		return p != nil && p.has(number)
	})
}

func (x *Index) fillTerms(into bitset, any []Term) {
	for _, term := range any {
		if p := x.terms.of(term); p != nil {
			p.fill(into)
		}
	}
}

// fillName adds those whose name has a text from one of its words on.
func (x *Index) fillName(into bitset, text string) {
	for state := range x.orders {
		x.fillPrefix(x.orders[state][ByName], into, text, func(e entry) string { return x.name(e.user) })
	}
	x.fillPrefix(x.words, into, text, func(e entry) string { return x.name(e.user)[e.offset:] })
}

// fillPrefix adds the users of the entries of an order by text whose text begins with a prefix.
func (x *Index) fillPrefix(s *sorted, into bitset, prefix string, text func(entry) string) {
	from := s.rank(s.search(prefixOf(prefix), func(e entry) bool { return text(e) < prefix }))
	to := s.rank(s.search(lastPrefixOf(prefix), func(e entry) bool {
		t := text(e)
		return t < prefix || strings.HasPrefix(t, prefix)
	}))
	s.fill(into, from, to)
}

// lastPrefixOf returns the largest number that prefixOf gives for a text that begins with prefix.
func lastPrefixOf(prefix string) uint64 {
	if len(prefix) >= 8 {
		return prefixOf(prefix)
	}
	return prefixOf(prefix) | (1<<(8*(8-len(prefix))) - 1)
}

// fillChanged adds those who were changed in the query's span.
func (f *finder) fillChanged(into bitset) {
	for state := range f.x.orders {
		s := f.x.orders[state][LastChangedFirst]
		from, to := 0, s.count
		if before := f.q.ChangedBefore; before != 0 {
			from = s.rank(s.search(^narrowed(before), func(e entry) bool { return f.x.time(e.user, 1) >= before }))
		}
		if after := f.q.ChangedAfter; after != 0 {
			to = s.rank(s.search(^narrowed(after), func(e entry) bool { return f.x.time(e.user, 1) > after }))
		}
		s.fill(into, from, to)
	}
}

// narrowed is a time as the prefixes of the orders by time have it.
func narrowed(at int64) uint64 { return uint64(min(max(at, 0), maxTime)) }

// texts returns the uids of users, which share their memory.
func (f *finder) texts(numbers []uint32) []string {
	length := 0
	for _, number := range numbers {
		length += int(f.x.users[number].uidLength)
	}
	var joined strings.Builder
	joined.Grow(length)
	for _, number := range numbers {
		joined.WriteString(f.x.uid(number))
	}
	uids, rest := make([]string, len(numbers)), joined.String()
	for i, number := range numbers {
		length := f.x.users[number].uidLength
		uids[i], rest = rest[:length], rest[length:]
	}
	return uids
}

// position returns the place behind a user.
func (x *Index) position(number uint32, part int, order Order) Position {
	position := Position{Part: part, UID: strings.Clone(x.uid(number))}
	switch order {
	case ByName:
		position.Name = strings.Clone(x.name(number))
	case NewestFirst:
		position.Times[0] = x.time(number, 0)
	case LastChangedFirst:
		position.Times[0] = x.time(number, 1)
	case LastActiveFirst:
		position.Times = [2]int64{x.time(number, 2), x.time(number, 0)}
	}
	return position
}

// behind tells on which side of a position a user is: negative before it, zero at it.
func (x *Index) behind(number uint32, order Order, p *Position) int {
	c := 0
	switch order {
	case ByName:
		c = cmp.Compare(x.name(number), p.Name)
	case NewestFirst:
		c = cmp.Compare(p.Times[0], x.time(number, 0))
	case LastChangedFirst:
		c = cmp.Compare(p.Times[0], x.time(number, 1))
	case LastActiveFirst:
		if c = cmp.Compare(p.Times[0], x.time(number, 2)); c == 0 {
			c = cmp.Compare(p.Times[1], x.time(number, 0))
		}
	}
	if c == 0 {
		c = cmp.Compare(x.uid(number), p.UID)
	}
	return c
}

// prefixIn returns the prefix of a position in an order.
func (p *Position) prefixIn(order Order) uint64 {
	switch order {
	case ByName:
		return prefixOf(p.Name)
	case LastActiveFirst:
		active, created := narrowed(p.Times[0]), narrowed(p.Times[1])
		if active == maxTime {
			created = maxTime
		}
		return ^(active<<32 | created)
	case NewestFirst, LastChangedFirst:
	}
	return ^narrowed(p.Times[0])
}
