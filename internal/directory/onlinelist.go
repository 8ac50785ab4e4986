package directory

import (
	"cmp"
	"slices"
)

// listByStatus reads one page of a list that depends on who is online: in the order of ListUsers that begins with those
// online, or filtered by status. Those between whom and the viewer a block stands are offline to it.
func (d *Directory) listByStatus(tx Tx, query UserQuery, caller Caller, status string, onlineFirst bool, list *List[Seen]) (err error) {
	online, err := d.onlinePart(tx, query, caller, status)
	if err != nil {
		return err
	}
	rest := restPart{tx: tx, query: query, online: online}
	from, to := query.Offset, query.Offset+query.Limit
	var users []User
	switch {
	case isOnlineStatus(status):
		list.Total = online.count()
		users, err = online.page(tx, from, to, onlineOrder{query.Order, query.Backward})
	case status == StatusOffline:
		if rest.all, err = tx.CountUsers(countable(query)); err != nil {
			return err
		}
		list.Total = rest.all - online.count()
		users, err = rest.page(from, to)
	case onlineFirst:
		if rest.all, err = tx.CountUsers(countable(query)); err != nil {
			return err
		}
		list.Total = rest.all
		users, err = firstOnline(tx, online, rest, from, to)
	}
	if err != nil {
		return err
	}
	list.Items, err = seen(tx, query.App, caller.User, users)
	return err
}

func countable(query UserQuery) UserQuery {
	query.Limit, query.Offset, query.After = 0, 0, nil
	return query
}

// firstOnline returns a stretch of the order that begins with those online, or of its reverse.
func firstOnline(tx Tx, online *onlinePart, rest restPart, from, to int) (users []User, err error) {
	backward := rest.query.Backward
	rest.query.Backward = false
	if backward {
		from, to = max(0, rest.all-to), max(0, rest.all-from)
	}
	count := online.count()
	if from < count {
		if users, err = online.page(tx, from, min(to, count), onlineOrder{order: rest.query.Order}); err != nil {
			return nil, err
		}
	}
	if to > count {
		others, err := rest.page(max(0, from-count), to-count)
		if err != nil {
			return nil, err
		}
		users = append(users, others...)
	}
	if backward {
		slices.Reverse(users)
	}
	return users, nil
}

// onlinePart is those online whom a query selects and the caller may know as online, by name.
type onlinePart struct {
	index *onlineIndex
	// known are those of the index whom the caller may know as online. Guarded by the index.
	known *ranking
	// seesInvisible says that these are everybody, and status, when it is StatusAway or StatusBusy, that they present
	// themselves so.
	seesInvisible bool
	status        string
	// chosen are the entries, unless nothing but excluded is left out of the index.
	chosen   []*onlineEntry
	excluded []*onlineEntry // in order
	whole    bool
}

// maxExcluded is how many entries it pays to leave out one by one.
const maxExcluded = 256

func (d *Directory) onlinePart(tx Tx, query UserQuery, caller Caller, status string) (part *onlinePart, err error) {
	viewer := caller.User
	part = &onlinePart{index: d.online.of(query.App), seesInvisible: caller.seesInvisible(), status: status}
	part.known = part.index.knownTo(caller, status)
	hidden := map[UID]bool{}
	if viewer != "" {
		blocked, err := othersOf(tx, query.App, Blocks, viewer)
		if err != nil {
			return nil, err
		}
		for _, uid := range blocked {
			hidden[uid] = true
		}
	}
	if query.NotUID != "" {
		hidden[query.NotUID] = true
	}
	var related []map[UID]bool
	for _, wanted := range query.Related {
		friends, err := othersOf(tx, query.App, Friendships, wanted.To)
		if err != nil {
			return nil, err
		}
		set := make(map[UID]bool, len(friends))
		for _, uid := range friends {
			set[uid] = true
		}
		related = append(related, set)
	}
	selects := query.Activity == DeactivatedOnly || query.Search != "" || query.ChangedAfter != 0 || query.ChangedBefore != 0 ||
		len(query.Words)+len(query.Roles)+len(query.Tags)+len(query.UIDs)+len(query.Metadata)+len(related) > 0
	few := fewest(query.UIDs, related)
	if selects && few == nil && d.countKnownOnline(caller) > fewMatches {
		if few, err = matchesIfFew(tx, query); err != nil {
			return nil, err
		}
	}
	part.index.mu.RLock()
	defer part.index.mu.RUnlock()
	if part.whole = !selects && len(hidden) <= maxExcluded; part.whole {
		for uid := range hidden {
			if entry, online := part.index.byUID[uid]; online && part.knows(entry) {
				part.excluded = append(part.excluded, entry)
			}
		}
		slices.SortFunc(part.excluded, (*onlineEntry).compare)
		return part, nil
	}
	add := func(entry *onlineEntry) {
		if hidden[entry.User.UID] || !query.Selects(entry.User, entry.nameKey) {
			return
		}
		for _, set := range related {
			if !set[entry.User.UID] {
				return
			}
		}
		part.chosen = append(part.chosen, entry)
	}
	if few != nil {
		for _, uid := range few {
			if entry, online := part.index.byUID[uid]; online && part.knows(entry) {
				add(entry)
			}
		}
		slices.SortFunc(part.chosen, (*onlineEntry).compare)
		part.chosen = slices.Compact(part.chosen)
		return part, nil
	}
	for entry := range part.known.from(0) {
		add(entry)
	}
	return part, nil
}

// fewMatches is how many users it is quicker to look for one by one than to look at everybody online.
const fewMatches = 1000

// matchesIfFew returns the users that a query selects, nil when they are not few: a search must not cost more because more
// are online.
func matchesIfFew(tx Tx, query UserQuery) ([]UID, error) {
	query = countable(query)
	query.Order, query.Limit = ByUID, fewMatches+1
	users, err := tx.Users(query)
	if err != nil || len(users) > fewMatches {
		return nil, err
	}
	few := make([]UID, len(users))
	for i, user := range users {
		few[i] = user.UID
	}
	return few, nil
}

// fewest returns the users that a query names, when it does.
func fewest(uids []UID, related []map[UID]bool) []UID {
	if len(uids) > 0 {
		return uids
	}
	if len(related) == 0 {
		return nil
	}
	few := make([]UID, 0, len(related[0]))
	for uid := range related[0] {
		few = append(few, uid)
	}
	return few
}

func (e *onlineEntry) compare(other *onlineEntry) int {
	return cmp.Or(cmp.Compare(e.nameKey, other.nameKey), cmp.Compare(e.User.UID, other.User.UID))
}

func (o *onlinePart) knows(entry *onlineEntry) bool {
	if o.status == StatusAway || o.status == StatusBusy {
		return entry.Status == o.status && !entry.Invisible
	}
	return o.seesInvisible || !entry.Invisible
}

func (o *onlinePart) count() int {
	if !o.whole {
		return len(o.chosen)
	}
	o.index.mu.RLock()
	defer o.index.mu.RUnlock()
	return max(0, o.known.count-len(o.excluded))
}

// before returns how many entries are before a position.
func (o *onlinePart) before(nameKey string, uid UID) int {
	if !o.whole {
		at, _ := slices.BinarySearchFunc(o.chosen, 0, func(entry *onlineEntry, _ int) int { return side(entry.before(nameKey, uid)) })
		return at
	}
	o.index.mu.RLock()
	defer o.index.mu.RUnlock()
	left, _ := slices.BinarySearchFunc(o.excluded, 0, func(entry *onlineEntry, _ int) int { return side(entry.before(nameKey, uid)) })
	return o.known.rank(nameKey, uid) - left
}

// holds reports whether a user is among the entries.
func (o *onlinePart) holds(user User) bool {
	nameKey := FoldText(user.Name)
	if !o.whole {
		at, _ := slices.BinarySearchFunc(o.chosen, 0, func(entry *onlineEntry, _ int) int { return side(entry.before(nameKey, user.UID)) })
		if at < len(o.chosen) && o.chosen[at].User.UID == user.UID {
			return true
		}
		// It may have been renamed a moment ago.
		o.index.mu.RLock()
		defer o.index.mu.RUnlock()
		return slices.ContainsFunc(o.chosen, func(entry *onlineEntry) bool { return entry.stale && entry.User.UID == user.UID })
	}
	o.index.mu.RLock()
	defer o.index.mu.RUnlock()
	entry, online := o.index.byUID[user.UID]
	return online && o.knows(entry) && !slices.ContainsFunc(o.excluded, func(e *onlineEntry) bool { return e.User.UID == user.UID })
}

// onlineOrder is an order of those online.
type onlineOrder struct {
	order    Order
	backward bool
}

// page returns the users of a stretch of the entries in an order. What may be outdated is read again.
func (o *onlinePart) page(tx Tx, from, to int, order onlineOrder) ([]User, error) {
	entries := o.stretch(from, to, order)
	users := make([]User, 0, len(entries))
	for _, entry := range entries {
		if !entry.stale {
			users = append(users, *entry.User)
			continue
		}
		user, found, err := tx.User(o.index.app, entry.User.UID)
		if err != nil {
			return nil, err
		}
		if found && user.DeactivatedAt == 0 {
			users = append(users, user)
		}
	}
	return users, nil
}

// stretch returns copies of entries.
func (o *onlinePart) stretch(from, to int, order onlineOrder) []onlineEntry {
	o.index.mu.RLock()
	defer o.index.mu.RUnlock()
	if o.whole && order.order == ByName {
		if order.backward {
			count := max(0, o.known.count-len(o.excluded))
			entries := o.unexcluded(max(0, count-to), count-from)
			slices.Reverse(entries)
			return entries
		}
		return o.unexcluded(from, to)
	}
	all := o.chosen
	if o.whole {
		for entry := range o.known.from(0) {
			if !slices.Contains(o.excluded, entry) {
				all = append(all, entry)
			}
		}
	}
	if order.order != ByName {
		all = slices.Clone(all)
		slices.SortFunc(all, func(a, b *onlineEntry) int { return compareOnline(order.order, a, b) })
	}
	if order.backward {
		all = slices.Clone(all)
		slices.Reverse(all)
	}
	from = min(from, len(all))
	return copies(all[from:min(to, len(all))])
}

func copies(entries []*onlineEntry) []onlineEntry {
	copied := make([]onlineEntry, len(entries))
	for i, entry := range entries {
		copied[i] = *entry
	}
	return copied
}

// unexcluded returns copies of the entries with the numbers from to to, not counting those excluded. It needs the lock.
func (o *onlinePart) unexcluded(from, to int) []onlineEntry {
	if from >= to {
		return nil
	}
	start := from
	for _, entry := range o.excluded {
		if o.known.rank(entry.nameKey, entry.User.UID) <= start {
			start++
		}
	}
	entries := make([]onlineEntry, 0, to-from)
	for entry := range o.known.from(start) {
		if slices.Contains(o.excluded, entry) {
			continue
		}
		if entries = append(entries, *entry); len(entries) == to-from {
			break
		}
	}
	return entries
}

// compareOnline compares two users who are online, and so alike in when they were last active.
func compareOnline(order Order, a, b *onlineEntry) int {
	if order == LastActiveFirst {
		order = NewestFirst
	}
	return order.Compare(a.User, b.User, a.nameKey, b.nameKey)
}

// restPart is those whom a query selects and who are not in the online part.
type restPart struct {
	tx     Tx
	query  UserQuery
	online *onlinePart
	all    int // how many the query selects
}

// scanAhead is how many rows are read at once where those online are skipped.
const scanAhead = 256

// page returns the users with the numbers from to to of those who are not online.
func (r restPart) page(from, to int) ([]User, error) {
	start, skip, err := r.start(from)
	if err != nil {
		return nil, err
	}
	var users []User
	query := r.query
	for wanted := to - from; len(users) < wanted && start < r.all; {
		query.Offset, query.Limit = start, min(scanAhead+wanted-len(users), 1000)
		rows, err := r.tx.Users(query)
		if err != nil {
			return nil, err
		}
		for _, user := range rows {
			switch {
			case r.online.holds(user):
			case skip > 0:
				skip--
			case len(users) < wanted:
				users = append(users, user)
			}
		}
		if len(rows) < query.Limit {
			break
		}
		start += len(rows)
	}
	return users, nil
}

// start returns from which row on the query has the user with a number among those who are not online, and how many of
// those who are not online come before it from there on.
func (r restPart) start(number int) (row, skip int, err error) {
	count := r.online.count()
	if number == 0 || count == 0 || r.query.Order != ByName {
		if count == 0 {
			return number, 0, nil
		}
		return 0, number, nil
	}
	// Of the rows before a row those online are known by rank. The last row with at most number others before it is where
	// to begin; it is between these two.
	low, high := number, min(number+count, r.all-1)
	for low < high {
		middle := (low + high + 1) / 2
		others, err := r.othersBefore(middle)
		if err != nil {
			return 0, 0, err
		}
		if others <= number {
			low = middle
		} else {
			high = middle - 1
		}
		if others == number {
			break
		}
	}
	others, err := r.othersBefore(low)
	return low, max(0, number-others), err
}

// othersBefore returns how many of the rows before a row are not online.
func (r restPart) othersBefore(row int) (int, error) {
	query := r.query
	query.Offset, query.Limit = row, 1
	rows, err := r.tx.Users(query)
	if err != nil || len(rows) == 0 {
		return row - r.online.count(), err
	}
	nameKey, uid := FoldText(rows[0].Name), rows[0].UID
	before := r.online.before(nameKey, uid)
	if query.Backward {
		before = r.online.count() - before
		if r.online.holds(rows[0]) {
			before--
		}
	}
	return row - before, nil
}
