package directory

import (
	"context"
	"sync"
)

// OnlineUser is a user with a live session.
type OnlineUser struct {
	// User is shared, and must not be changed.
	User *User
	// Invisible users have chosen not to be seen: only an API key that acts for nobody is told that they are there.
	Invisible bool
	// Status is how the user presents itself: StatusAvailable, StatusAway or StatusBusy. Lists can be filtered by it.
	Status string
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

// ForgetLastActive drops when a user was last active who was erased before that was stored.
func (d *Directory) ForgetLastActive(app AppID, uid UID) {
	index := d.online.of(app)
	index.mu.Lock()
	defer index.mu.Unlock()
	delete(index.left, uid)
}

// CountOnline counts the users of an app who are online and do not hide it.
func (d *Directory) CountOnline(app AppID) int {
	index := d.online.of(app)
	index.mu.RLock()
	defer index.mu.RUnlock()
	return index.visible.count
}

// CountOnlineAs counts the users who are online as a viewer may know it, the viewer itself among them: those whom a
// list of everybody online would show it.
func (d *Directory) CountOnlineAs(
	ctx context.Context, caller Caller, policy *Policy, viewer User,
) (count int, err error) {
	query := UserQuery{App: caller.App}
	some, err := policy.narrow(viewer, &query)
	if err == nil && some {
		err = d.store.View(ctx, func(tx Tx) error {
			online, err := d.onlinePart(tx, query, caller, StatusAvailable)
			if err == nil {
				count = online.count()
			}
			return err
		})
	}
	if err != nil && !IsCode(err, CodePermissionDenied) { // who may not list users knows of itself
		return 0, err
	}
	if online, _ := d.online.of(caller.App).status(viewer.UID, false); online {
		count++
	}
	return count, nil
}

// countKnownOnline counts those online whom a caller may know as online.
func (d *Directory) countKnownOnline(caller Caller) int {
	index := d.online.of(caller.App)
	index.mu.RLock()
	defer index.mu.RUnlock()
	return index.knownTo(caller, "").count
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

// onlineIndex is who is online in an app.
type onlineIndex struct {
	app   AppID
	mu    sync.RWMutex
	byUID map[UID]*onlineEntry // guarded by mu
	// visible are all but those invisible, and away and busy those of them who present themselves so. Guarded by mu, as
	// everybody is.
	visible, away, busy, everybody ranking
	// left is when those were last active who went offline and are not stored yet. Guarded by mu.
	left map[UID]int64
}

// knownTo returns those whom a caller may know as online, with StatusAway or StatusBusy those of them who present
// themselves so. What it returns is guarded by mu.
func (x *onlineIndex) knownTo(caller Caller, status string) *ranking {
	switch {
	case status == StatusAway:
		return &x.away
	case status == StatusBusy:
		return &x.busy
	case caller.seesInvisible():
		return &x.everybody
	}
	return &x.visible
}

// rankings returns those that an entry is in.
func (x *onlineIndex) rankings(entry *onlineEntry) []*ranking {
	in := []*ranking{&x.everybody}
	if entry.Invisible {
		return in
	}
	in = append(in, &x.visible)
	switch entry.Status {
	case StatusAway:
		in = append(in, &x.away)
	case StatusBusy:
		in = append(in, &x.busy)
	}
	return in
}

// seesInvisible reports whether a caller is told of those who have chosen not to be seen.
func (c Caller) seesInvisible() bool { return c.Private && c.User == "" }

// onlineEntry is immutable but for stale.
type onlineEntry struct {
	OnlineUser
	nameKey string
	stale   bool
}

func (x *onlineIndex) put(online OnlineUser) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(online.User.UID)
	delete(x.left, online.User.UID)
	entry := &onlineEntry{OnlineUser: online, nameKey: FoldText(online.User.Name)}
	x.byUID[online.User.UID] = entry
	for _, ranking := range x.rankings(entry) {
		ranking.insert(entry)
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
	for _, ranking := range x.rankings(entry) {
		ranking.remove(entry)
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
