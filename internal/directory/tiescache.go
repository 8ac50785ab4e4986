package directory

import "sync"

// tiesCache holds what stands between users and others, for those who have asked for lists lately: a people list asks
// again with every letter that is typed. It is told of every commit, before that is answered.
type tiesCache struct {
	mu   sync.Mutex
	apps map[AppID]*tiesOfApp // guarded by mu
	held int                  // how many relations; guarded by mu
}

// tiesOfApp are guarded by the cache's mu.
type tiesOfApp struct {
	users map[UID]*knownTies
	// changes counts the commits that have changed ties, so that what was read before one is not kept after it.
	changes uint64
	// uncertain says that it is not known whether a commit has happened: nothing is kept until the next one, which waits
	// for that.
	uncertain bool
}

// knownTies are those of one user, and are not changed.
type knownTies struct {
	blocks map[UID]Relation
	// blocked are those between whom and the user a block stands.
	blocked []string
	// friends are sorted.
	friends []string
}

// maxTies is how many relations are held, at some 60 bytes each.
const maxTies = 500_000

func newTiesCache() *tiesCache { return &tiesCache{apps: map[AppID]*tiesOfApp{}} }

// get returns the ties of a user, nil when they are not held, and what put needs.
func (c *tiesCache) get(app AppID, uid UID) (ties *knownTies, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[app]
	if a == nil {
		a = &tiesOfApp{users: map[UID]*knownTies{}}
		c.apps[app] = a
	}
	return a.users[uid], a.changes
}

// put keeps ties that were read after get, unless any have changed since.
func (c *tiesCache) put(app AppID, uid UID, ties *knownTies, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[app]
	if a == nil || a.changes != changes || a.uncertain {
		return
	}
	if c.held > maxTies {
		for _, other := range c.apps {
			clear(other.users)
		}
		c.held = 0
	}
	a.users[uid] = ties
	c.held += ties.size()
}

func (t *knownTies) size() int { return 1 + len(t.blocked) + len(t.friends) }

// apply drops what a commit changes.
func (c *tiesCache) apply(commit Commit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[commit.App]
	if a == nil {
		return
	}
	if commit.Gone || commit.Uncertain || a.uncertain {
		a.changes++
		a.uncertain = commit.Uncertain
		c.dropLocked(a)
		return
	}
	for i := range commit.Changes {
		change := &commit.Changes[i]
		switch user, other := change.about(); {
		case change.Kind == UserDeleted: // the relations of others go with it
			a.changes++
			c.dropLocked(a)
		case other != "":
			a.changes++
			for _, uid := range []UID{user, other} {
				if ties := a.users[uid]; ties != nil {
					c.held -= ties.size()
					delete(a.users, uid)
				}
			}
		}
	}
}

func (c *tiesCache) dropLocked(a *tiesOfApp) {
	for _, ties := range a.users {
		c.held -= ties.size()
	}
	clear(a.users)
}

// dropAll drops everything, because the store may have changed behind it.
func (c *tiesCache) dropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.apps {
		a.changes++
		c.dropLocked(a)
	}
}

// tiesFor returns what stands between a viewer and others. An empty viewer has no ties.
func (d *Directory) tiesFor(tx Reader, app AppID, viewer UID) (*knownTies, error) {
	if viewer == "" {
		return &knownTies{}, nil
	}
	ties, changes := d.ties.get(app, viewer)
	if ties != nil {
		return ties, nil
	}
	ties = &knownTies{}
	pairs, err := tx.PairsOf(app, Blocks, viewer)
	if err != nil {
		return nil, err
	}
	ties.addBlocks(pairs, viewer)
	friends, err := othersOf(tx, app, Friendships, viewer)
	if err != nil {
		return nil, err
	}
	ties.friends = texts(friends)
	d.ties.put(app, viewer, ties, changes)
	return ties, nil
}

func (t *knownTies) addBlocks(pairs []Pair, viewer UID) {
	if len(pairs) == 0 {
		return
	}
	t.blocks, t.blocked = make(map[UID]Relation, len(pairs)), make([]string, 0, len(pairs))
	for _, pair := range pairs {
		other, byMe := pair.Other, pair.UID == viewer
		if !byMe {
			other = pair.UID
		}
		relation, again := t.blocks[other]
		if byMe {
			relation.BlockedByMeAt = pair.At
		} else {
			relation.HasBlockedMeAt = pair.At
		}
		if t.blocks[other] = relation; !again {
			t.blocked = append(t.blocked, string(other))
		}
	}
}
