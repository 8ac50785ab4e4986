package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rollcall/rollcall/internal/directory"
)

// census knows, in memory, how many users of an app there are and roughly where in each order they stand, so that the
// totals and the deep pages of large apps cost no more than those of small ones. It is this process's alone, as is the
// database: nobody else changes the users.
//
// Each part of it is read from the database when it is first needed, and then kept up with every commit. Commits and
// what is read are told apart by the app's revision: what a part was read with is not applied to it again. A commit without a
// revision, such as one of when users were last active, is told apart by when it began; a part that was just being read
// then is read again.
type census struct {
	store *Store
	// bucketSize, deepOffset and keptFrom are the constants of these names, but for tests.
	bucketSize, deepOffset, keptFrom int
	// reading is held by the one who reads a part: it needs a second connection, and if many waited for one, none would
	// be left.
	reading sync.Mutex
	mu      sync.Mutex
	apps    map[directory.AppID]map[partKey]*part // guarded by mu
	// clock orders the beginnings of commits and what is read of the database. Guarded by mu
	clock int64
}

type partKey struct {
	app  directory.AppID
	kind int // an Order, partCounts or partFilter
	// filter is what a partFilter counts: see filterName.
	filter string
}

const (
	// partCounts counts users by role and activity.
	partCounts = -1
	// partFilter counts the users whom a filter leaves, when they are many.
	partFilter = -2
)

const (
	// maxFilters is how many filters an app's census keeps counts of.
	maxFilters = 100
	// keptFrom is how many users a filter must leave to be kept: fewer are counted sooner than everything is compared with it
	// that is written.
	keptFrom = 1000
)

type part struct {
	loaded bool
	// looked is when what it is read from was fixed, by the census's clock. Zero before that.
	looked   int64
	revision int64   // of the last commit that is in it
	late     []tally // what was committed while it was read
	counts   map[group]int
	ranking  *ranking
	filter   directory.UserQuery
	found    int
}

// tally is what one commit did to the users of one app.
type tally struct {
	// revision is the app's after the last of the moves, if the commit has raised it.
	revision int64
	raised   bool
	// began is when the commit began, by the census's clock, if it has not raised the revision.
	began int64
	moves []move
	// forget says that the app is gone.
	forget bool
}

// group is the users who are counted together.
type group struct {
	role        string
	deactivated bool
}

func groupOf(user *directory.User) group {
	return group{role: user.Role, deactivated: user.DeactivatedAt != 0}
}

// growth returns by how much the commit changes the number of users in each group.
func (t tally) growth() map[group]int {
	growth := map[group]int{}
	for _, m := range t.moves {
		if m.before != nil {
			growth[groupOf(m.before)]--
		}
		if m.after != nil {
			growth[groupOf(m.after)]++
		}
	}
	maps.DeleteFunc(growth, func(_ group, by int) bool { return by == 0 })
	return growth
}

// move is a change of one user: before is nil for one who was created, after for one who was erased.
type move struct{ before, after *directory.User }

func newCensus(store *Store) *census {
	return &census{store: store, bucketSize: bucketSize, deepOffset: deepOffset, keptFrom: keptFrom, apps: map[directory.AppID]map[partKey]*part{}}
}

// expect is called before a commit with what it does.
func (c *census) expect(tallies map[directory.AppID]tally) {
	for app, t := range tallies {
		if !t.raised {
			t.began = c.tick()
			tallies[app] = t
		}
	}
}

// tick moves the clock on.
func (c *census) tick() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	return c.clock
}

// note applies what was committed. It is called before anybody is told of the commit.
func (c *census) note(tallies map[directory.AppID]tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for app, t := range tallies {
		if t.forget {
			delete(c.apps, app)
		}
		for key, p := range c.apps[app] {
			switch {
			case !t.raised && (p.looked == 0 || t.began < p.looked): // nothing tells whether it is in what is read
				delete(c.apps[app], key)
			case p.loaded:
				p.apply(key, t)
			default:
				p.late = append(p.late, t)
			}
		}
	}
}

// forgetAll drops everything, because somebody else may have written.
func (c *census) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.apps)
}

// get returns a part, which it reads from the database when nobody has. While somebody else reads it there is none.
// filter is what a partFilter counts.
func (c *census) get(ctx context.Context, key partKey, filter directory.UserQuery) (*part, error) {
	c.mu.Lock()
	p := c.apps[key.app][key]
	if p != nil {
		defer c.mu.Unlock()
		if !p.loaded {
			return nil, nil //nolint:nilnil // the caller has another way
		}
		return p, nil
	}
	if !c.reading.TryLock() {
		c.mu.Unlock()
		return nil, nil //nolint:nilnil // the caller has another way
	}
	defer c.reading.Unlock()
	c.makeRoom(key)
	p = &part{filter: filter}
	c.apps[key.app][key] = p
	c.mu.Unlock()

	err := c.store.engine.view(ctx, func(s session) error { return c.read(&tx{session: s}, p, key) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apps[key.app][key] != p { // forgotten meanwhile
		return nil, err
	}
	if err != nil {
		delete(c.apps[key.app], key)
		return nil, err
	}
	for _, t := range p.late {
		p.apply(key, t)
	}
	p.late, p.loaded = nil, true
	if key.kind == partFilter && p.found < c.keptFrom {
		delete(c.apps[key.app], key)
	}
	return p, nil
}

// makeRoom makes sure that there is room for another part: it forgets some filter when there are many. The caller holds
// the lock.
func (c *census) makeRoom(wanted partKey) {
	parts := c.apps[wanted.app]
	if parts == nil {
		c.apps[wanted.app] = map[partKey]*part{}
	}
	if wanted.kind != partFilter || len(parts) < maxFilters {
		return
	}
	for key := range parts {
		if key.kind == partFilter {
			delete(parts, key)
			return
		}
	}
}

func (c *census) read(t *tx, p *part, key partKey) (err error) {
	app := key.app
	if p.revision, err = t.Revision(app); err != nil {
		return err
	}
	c.mu.Lock()
	c.clock++
	p.looked = c.clock
	c.mu.Unlock()
	switch key.kind {
	case partCounts:
		p.counts, err = t.counts(app)
	case partFilter:
		p.found, err = t.countMatches(p.filter)
	default:
		p.ranking, err = readRanking(t, app, directory.Order(key.kind), c.bucketSize)
	}
	return err
}

// apply brings the part up to a commit. The caller holds the lock.
func (p *part) apply(key partKey, t tally) {
	if t.raised {
		if t.revision <= p.revision {
			return
		}
		p.revision = t.revision
	}
	for _, m := range t.moves {
		for _, side := range []struct {
			user *directory.User
			by   int
		}{{m.before, -1}, {m.after, 1}} {
			switch {
			case side.user == nil:
			case key.kind == partFilter:
				if selects(&p.filter, side.user) {
					p.found += side.by
				}
			case p.ranking != nil:
				p.ranking.count(*side.user, side.by)
			default:
				p.counts[groupOf(side.user)] += side.by
			}
		}
	}
}

// counted reports whether the counts tell how many users a query selects, but for those who are blocked.
func counted(query directory.UserQuery) bool {
	return query.Search == "" && len(query.Words)+len(query.UIDs)+len(query.Tags)+len(query.Metadata)+len(query.Related) == 0 && query.ChangedAfter == 0 && query.ChangedBefore == 0
}

// counts returns how many users there are in each group, from memory if they are known there.
func (t *tx) counts(app directory.AppID) (map[group]int, error) {
	if t.census != nil {
		p, err := t.census.get(t.ctx, partKey{app: app, kind: partCounts}, directory.UserQuery{})
		if err != nil {
			return nil, err
		}
		if p != nil {
			t.census.mu.Lock()
			defer t.census.mu.Unlock()
			return maps.Clone(p.counts), nil
		}
	}
	counts := map[group]int{}
	err := t.query(`SELECT role, deactivated, users FROM user_counts WHERE app = $1`, []any{string(app)}, func(r row) error {
		counts[group{r.text(0), r.integer(1) != 0}] = int(r.integer(2))
		return nil
	})
	return counts, err
}

// total returns how many users a query selects that counted is true of.
func (t *tx) total(query directory.UserQuery) (int, error) {
	counts, err := t.counts(query.App)
	if err != nil {
		return 0, err
	}
	selected := func(g group) bool {
		return (len(query.Roles) == 0 || slices.Contains(query.Roles, g.role)) &&
			(query.Activity == directory.ActiveOrDeactivated || g.deactivated == (query.Activity == directory.DeactivatedOnly))
	}
	total := 0
	for group, count := range counts {
		if selected(group) {
			total += count
		}
	}
	return t.withoutHidden(query, total)
}

// found returns how many users a query selects that filterOnly is true of; false when it is not known at the moment.
func (c *census) found(ctx context.Context, t *tx, query directory.UserQuery) (int, bool, error) {
	filter := directory.UserQuery{
		App: query.App, Search: query.Search, SearchUID: query.SearchUID, SearchName: query.SearchName, Words: query.Words,
		Roles: query.Roles, Tags: query.Tags, Metadata: query.Metadata, Activity: query.Activity,
	}
	p, err := c.get(ctx, partKey{app: query.App, kind: partFilter, filter: filterName(filter)}, filter)
	if err != nil || p == nil {
		return 0, false, err
	}
	c.mu.Lock()
	total := p.found
	c.mu.Unlock()
	total, err = t.withoutHidden(query, total)
	return total, err == nil, err
}

// filterName returns a text that no other filter has.
func filterName(f directory.UserQuery) string {
	return fmt.Sprintf("%q %t %t %q %q %q %q %d", f.Search, f.SearchUID, f.SearchName, f.Words, f.Roles, f.Tags, f.Metadata, f.Activity)
}

// filterOnly reports whether a query filters by nothing but what users are themselves, beside whom it hides.
func filterOnly(query directory.UserQuery) bool {
	return len(query.UIDs)+len(query.Related) == 0 && query.ChangedAfter == 0 && query.ChangedBefore == 0
}

// selects reports whether a filter leaves a user.
func selects(filter *directory.UserQuery, user *directory.User) bool {
	nameKey := ""
	if filter.AsksForName(user) {
		nameKey = directory.FoldText(user.Name)
	}
	return filter.Selects(user, nameKey)
}

// withoutHidden takes those off a total whom the query leaves out though its filters select them: one user, and those
// between whom and a viewer there is a block.
func (t *tx) withoutHidden(query directory.UserQuery, total int) (int, error) {
	left, err := t.leftOut(query)
	if err != nil {
		return 0, err
	}
	everybody := query
	everybody.NotUID = ""
	if left != nil && selects(&everybody, left) {
		total--
	}
	if query.NotBlockedWith == "" {
		return total, nil
	}
	hidden := query
	hidden.NotBlockedWith, hidden.Related = "", []directory.Related{{To: query.NotBlockedWith, Blocked: true, Blockers: true}}
	blocked, err := t.countMatches(hidden)
	return total - blocked, err
}

// leftOut returns the one user whom a query leaves out, nil when there is none.
func (t *tx) leftOut(query directory.UserQuery) (*directory.User, error) {
	if query.NotUID == "" {
		return nil, nil //nolint:nilnil // nobody is left out
	}
	user, found, err := t.User(query.App, query.NotUID)
	if err != nil || !found {
		return nil, err
	}
	return &user, nil
}

// ranking knows how many active users stand between places in an order.
type ranking struct {
	order directory.Order
	// buckets follow each other in the order. The first one begins before everybody.
	buckets []bucket
}

type bucket struct {
	first directory.Position
	count int
}

const (
	// bucketSize is how many users a bucket has when it is read: how many rows a deep page has to skip at most.
	bucketSize = 256
	// bucketTooLarge is when so many came into one bucket that the ranking is worth reading anew.
	bucketTooLarge = 32 * bucketSize
	// deepOffset is from where on a page is worth a ranking.
	deepOffset = 2000
)

// readRanking walks along the indexes of an order, and reads nothing else.
func readRanking(t *tx, app directory.AppID, order directory.Order, bucketSize int) (*ranking, error) {
	r := &ranking{order: order, buckets: []bucket{{}}}
	query := directory.UserQuery{App: app, Order: order}
	columns := `uid`
	if order == directory.ByName {
		columns = `uid, name_key`
	}
	for _, stretch := range stretchesOf(order, start{}, false, alongOrder) {
		s, err := t.stretchStatement(query, stretch, alongOrder, columns, 0)
		if err != nil {
			return nil, err
		}
		varying := len(timesOf(order)) - len(stretch.same)
		err = t.query(s.sql.String(), s.args, func(row row) error {
			last := &r.buckets[len(r.buckets)-1]
			if last.count == bucketSize {
				first := directory.Position{UID: directory.UID(row.text(0)), Times: slices.Clone(stretch.same)}
				for i := range varying {
					first.Times = append(first.Times, row.integer(1+i))
				}
				if order == directory.ByName {
					first.Name = row.text(1)
				}
				r.buckets = append(r.buckets, bucket{first: first})
				last = &r.buckets[len(r.buckets)-1]
			}
			last.count++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// comparePositions tells which of two positions in an order comes first.
func comparePositions(a, b directory.Position) int {
	for i := range a.Times {
		if c := cmp.Compare(b.Times[i], a.Times[i]); c != 0 { // times run downward
			return c
		}
	}
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

// find returns the bucket that a position is in.
func (r *ranking) find(position directory.Position) int {
	i, exact := slices.BinarySearchFunc(r.buckets[1:], position, func(b bucket, p directory.Position) int { return comparePositions(b.first, p) })
	if exact {
		return i + 1
	}
	return i
}

func (r *ranking) count(user directory.User, by int) {
	if user.DeactivatedAt == 0 {
		r.buckets[r.find(directory.PositionOf(r.order, user))].count += by
	}
}

// ranked reports whether a ranking serves a page.
func (c *census) ranked(query directory.UserQuery) bool {
	return query.Offset >= c.deepOffset && counted(query) && len(query.Roles) == 0 && query.NotBlockedWith == "" && query.After == nil &&
		query.Activity == directory.ActiveOnly && query.Order != directory.ByUID
}

// seek turns a large offset into a start near it and a small one. The query stays as it is when there is no ranking.
func (c *census) seek(ctx context.Context, t *tx, query directory.UserQuery) (directory.UserQuery, start, error) {
	p, err := c.get(ctx, partKey{app: query.App, kind: int(query.Order)}, directory.UserQuery{})
	if err != nil || p == nil {
		return query, start{}, err
	}
	left, err := t.leftOut(query)
	if err != nil {
		return query, start{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := p.ranking
	passed, without, buckets := 0, -1, len(r.buckets)
	if left != nil && left.DeactivatedAt == 0 {
		without = r.find(directory.PositionOf(query.Order, *left))
	}
	for n := range buckets {
		i := n
		if query.Backward {
			i = buckets - 1 - n
		}
		count := r.buckets[i].count
		if i == without { // the one who is left out
			count--
		}
		if passed+count <= query.Offset && n < buckets-1 {
			passed += count
			continue
		}
		if r.buckets[i].count > bucketTooLarge {
			delete(c.apps[query.App], partKey{app: query.App, kind: int(query.Order)})
		}
		query.Offset -= passed
		switch {
		case query.Backward && i < buckets-1:
			return query, start{at: &r.buckets[i+1].first}, nil
		case !query.Backward && i > 0:
			return query, start{at: &r.buckets[i].first, inclusive: true}, nil
		}
		break
	}
	return query, start{}, nil
}
