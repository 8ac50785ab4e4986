package directory

import (
	"iter"
	"slices"
	"sync"
)

// OnlineUser is a user with a live session.
type OnlineUser struct {
	// User is shared, and must not be changed.
	User *User
	// Invisible users have chosen not to be seen: only an API key that acts for nobody is told that they are there.
	Invisible bool
}

// SetOnline makes a user known as online, or what is known of an online user new. Lists, looks and filters show it from
// then on. It is for whoever keeps the sessions, who calls it in order for each user.
func (d *Directory) SetOnline(app AppID, online OnlineUser) {
	d.online.of(app).put(online)
}

// SetOffline takes SetOnline back. lastActiveAt, in Unix seconds, is shown until SavePresence has stored it.
func (d *Directory) SetOffline(app AppID, uid UID, lastActiveAt int64) {
	d.online.of(app).remove(uid, lastActiveAt)
}

// CountOnline counts the users of an app who are online and do not hide it.
func (d *Directory) CountOnline(app AppID) int {
	index := d.online.of(app)
	index.mu.RLock()
	defer index.mu.RUnlock()
	return index.visible
}

// onlineUsers is who is online, by app.
type onlineUsers struct {
	mu   sync.RWMutex
	apps map[AppID]*onlineIndex // guarded by mu
}

func newOnlineUsers() *onlineUsers { return &onlineUsers{apps: map[AppID]*onlineIndex{}} }

func (o *onlineUsers) of(app AppID) *onlineIndex {
	o.mu.RLock()
	index, ok := o.apps[app]
	o.mu.RUnlock()
	if ok {
		return index
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if index, ok = o.apps[app]; !ok {
		index = &onlineIndex{app: app, byUID: map[UID]*onlineEntry{}, left: map[UID]int64{}}
		o.apps[app] = index
	}
	return index
}

// touch notes that what is held of users may be outdated. It is called before a write about them is answered.
func (o *onlineUsers) touch(app AppID, users []UID) {
	o.mu.RLock()
	index, ok := o.apps[app]
	o.mu.RUnlock()
	if !ok {
		return
	}
	index.mu.Lock()
	defer index.mu.Unlock()
	for _, uid := range users {
		if entry, online := index.byUID[uid]; online {
			entry.stale = true
		}
	}
}

// onlineIndex is who is online in an app, in the order of ByName, so that a page of any depth is found without looking at
// those before it. Those invisible are in byUID alone.
type onlineIndex struct {
	app   AppID
	mu    sync.RWMutex
	byUID map[UID]*onlineEntry // guarded by mu
	// chunks hold the visible in order, at most maxChunk in each. Guarded by mu.
	chunks  [][]*onlineEntry
	visible int // guarded by mu
	// left is when those were last active who went offline and are not stored yet. Guarded by mu.
	left map[UID]int64
}

// onlineEntry is immutable but for stale.
type onlineEntry struct {
	OnlineUser
	nameKey string
	stale   bool
}

const maxChunk = 512

func (e *onlineEntry) before(nameKey string, uid UID) bool {
	if e.nameKey != nameKey {
		return e.nameKey < nameKey
	}
	return e.User.UID < uid
}

// locate returns the place of the first visible entry that is not before a position. It needs mu.
func (x *onlineIndex) locate(nameKey string, uid UID) (chunk, at int) {
	chunk, _ = slices.BinarySearchFunc(x.chunks, 0, func(entries []*onlineEntry, _ int) int {
		if entries[len(entries)-1].before(nameKey, uid) {
			return -1
		}
		return 1
	})
	if chunk == len(x.chunks) {
		return chunk, 0
	}
	at, _ = slices.BinarySearchFunc(x.chunks[chunk], 0, func(entry *onlineEntry, _ int) int {
		if entry.before(nameKey, uid) {
			return -1
		}
		return 1
	})
	return chunk, at
}

func (x *onlineIndex) put(online OnlineUser) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(online.User.UID)
	delete(x.left, online.User.UID)
	entry := &onlineEntry{OnlineUser: online}
	x.byUID[online.User.UID] = entry
	if online.Invisible {
		return
	}
	entry.nameKey = FoldText(online.User.Name)
	x.visible++
	chunk, at := x.locate(entry.nameKey, online.User.UID)
	switch {
	case len(x.chunks) == 0:
		x.chunks = append(x.chunks, []*onlineEntry{entry})
		return
	case chunk == len(x.chunks): // behind all
		chunk--
		at = len(x.chunks[chunk])
	}
	x.chunks[chunk] = slices.Insert(x.chunks[chunk], at, entry)
	if full := x.chunks[chunk]; len(full) > maxChunk {
		half := len(full) / 2
		x.chunks = slices.Insert(x.chunks, chunk+1, slices.Clone(full[half:]))
		x.chunks[chunk] = slices.Clone(full[:half])
	}
}

func (x *onlineIndex) remove(uid UID, lastActiveAt int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.drop(uid) && lastActiveAt != 0 {
		x.left[uid] = lastActiveAt
	}
}

// drop takes an entry out, if it is there. It needs mu.
func (x *onlineIndex) drop(uid UID) bool {
	entry, online := x.byUID[uid]
	if !online {
		return false
	}
	delete(x.byUID, uid)
	if entry.Invisible {
		return true
	}
	x.visible--
	chunk, at := x.locate(entry.nameKey, uid)
	x.chunks[chunk] = slices.Delete(x.chunks[chunk], at, at+1)
	if len(x.chunks[chunk]) == 0 {
		x.chunks = slices.Delete(x.chunks, chunk, chunk+1)
	}
	return true
}

// stored forgets when users were last active, since the store knows now.
func (x *onlineIndex) stored(left map[UID]int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for uid, at := range left {
		if x.left[uid] == at {
			delete(x.left, uid)
		}
	}
}

// rank returns how many visible entries are before a position. It needs mu.
func (x *onlineIndex) rank(nameKey string, uid UID) int {
	chunk, rank := x.locate(nameKey, uid)
	for _, entries := range x.chunks[:chunk] {
		rank += len(entries)
	}
	return rank
}

// from yields the visible entries in order, from the one with a number on. It needs mu.
func (x *onlineIndex) from(number int) iter.Seq[*onlineEntry] {
	return func(yield func(*onlineEntry) bool) {
		for _, entries := range x.chunks {
			if number >= len(entries) {
				number -= len(entries)
				continue
			}
			for _, entry := range entries[number:] {
				if !yield(entry) {
					return
				}
			}
			number = 0
		}
	}
}

// PresenceOf returns whether a user is online, as far as the caller may know of those invisible, and when it was last
// active, in Unix seconds: 0 when what is stored with the user says it.
func (d *Directory) PresenceOf(caller Caller, uid UID) (online bool, lastActiveAt int64) {
	online, lastActiveAt = d.online.of(caller.App).status(uid, caller.Private || caller.User == uid)
	if online {
		lastActiveAt = d.Now()
	}
	return online, lastActiveAt
}

// status returns what is known of a user, for a caller that sees those invisible or not.
func (x *onlineIndex) status(uid UID, seesInvisible bool) (online bool, lastActiveAt int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if entry, ok := x.byUID[uid]; ok {
		return seesInvisible || !entry.Invisible, 0
	}
	return false, x.left[uid]
}
