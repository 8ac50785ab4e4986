package directory

import (
	"context"
	"sync"

	"github.com/rollcall/rollcall/internal/userindex"
)

// OnlineUser is a user with a live session.
type OnlineUser struct {
	UID UID
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
	here := d.online.of(app)
	here.mu.Lock()
	defer here.mu.Unlock()
	delete(here.left, uid)
}

// CountOnline counts the users of an app who are online and do not hide it.
func (d *Directory) CountOnline(app AppID) int {
	here := d.online.of(app)
	here.mu.RLock()
	defer here.mu.RUnlock()
	return len(here.byUID) - here.invisible
}

// CountOnlineAs counts the users who are online as a viewer may know it, the viewer itself among them: those whom a
// list of everybody online would show it.
func (d *Directory) CountOnlineAs(
	ctx context.Context, caller Caller, policy *Policy, viewer User,
) (count int, err error) {
	list := UserFilter{Status: StatusAvailable, Page: Page{Size: 1}}
	online, err := d.ListUsers(ctx, caller, policy, viewer, list)
	if err != nil && !IsCode(err, CodePermissionDenied) { // who may not list users knows of itself
		return 0, err
	}
	if itself, _ := d.online.of(caller.App).status(viewer.UID, false); itself {
		online.Total++
	}
	return online.Total, nil
}

// onlineUsers is who is online, by app.
type onlineUsers struct {
	mu   sync.RWMutex
	apps map[AppID]*onlineApp // guarded by mu
}

func newOnlineUsers() *onlineUsers { return &onlineUsers{apps: map[AppID]*onlineApp{}} }

func (o *onlineUsers) of(app AppID) *onlineApp {
	o.mu.RLock()
	here, ok := o.apps[app]
	o.mu.RUnlock()
	if ok {
		return here
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if here, ok = o.apps[app]; !ok {
		here = &onlineApp{byUID: map[UID]userindex.Online{}, left: map[UID]int64{}}
		o.apps[app] = here
	}
	return here
}

// onlineApp is who is online in an app.
type onlineApp struct {
	mu        sync.RWMutex
	byUID     map[UID]userindex.Online // guarded by mu
	invisible int                      // how many of them are; guarded by mu
	// index is told of all of it. Nil when there is none. Guarded by mu.
	index *userindex.Index
	// left is when those were last active who went offline and are not stored yet. Guarded by mu.
	left map[UID]int64
}

// follow makes an index know who is online, from now on too.
func (o *onlineApp) follow(index *userindex.Index) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.index = index; index == nil {
		return
	}
	for uid, how := range o.byUID {
		index.SetOnline(string(uid), how)
	}
}

// tellAgain tells the index of users who are online and were put into it: one may have been made anew.
func (o *onlineApp) tellAgain(changes []UserChange) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.index == nil || len(o.byUID) == 0 {
		return
	}
	for i := range changes {
		if how, online := o.byUID[changes[i].UID]; online && changes[i].User != nil {
			o.index.SetOnline(string(changes[i].UID), how)
		}
	}
}

// The ways to be online that callers may know of.
var (
	visibleOnline = []userindex.Online{userindex.Available, userindex.Away, userindex.Busy}
	everyOnline   = []userindex.Online{userindex.Available, userindex.Away, userindex.Busy, userindex.Invisible}
)

// knownOnline returns the ways to be online that a caller may know of, with StatusAway or StatusBusy that one.
func (c Caller) knownOnline(status string) []userindex.Online {
	switch {
	case status == StatusAway:
		return []userindex.Online{userindex.Away}
	case status == StatusBusy:
		return []userindex.Online{userindex.Busy}
	case c.seesInvisible():
		return everyOnline
	}
	return visibleOnline
}

// seesInvisible reports whether a caller is told of those who have chosen not to be seen.
func (c Caller) seesInvisible() bool { return c.Private && c.User == "" }

func (o OnlineUser) how() userindex.Online {
	switch {
	case o.Invisible:
		return userindex.Invisible
	case o.Status == StatusAway:
		return userindex.Away
	case o.Status == StatusBusy:
		return userindex.Busy
	}
	return userindex.Available
}

func (o *onlineApp) put(online OnlineUser) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.left, online.UID)
	o.set(online.UID, online.how())
}

func (o *onlineApp) remove(uid UID, lastActiveAt int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set(uid, userindex.Offline) && lastActiveAt != 0 {
		o.left[uid] = lastActiveAt
	}
}

// set notes how a user is online, and returns whether it was. It needs mu.
func (o *onlineApp) set(uid UID, how userindex.Online) (was bool) {
	before, was := o.byUID[uid]
	if before == how {
		return was
	}
	if before == userindex.Invisible {
		o.invisible--
	}
	switch how {
	case userindex.Offline:
		delete(o.byUID, uid)
	case userindex.Invisible:
		o.invisible++
		o.byUID[uid] = how
	default:
		o.byUID[uid] = how
	}
	if o.index != nil {
		o.index.SetOnline(string(uid), how)
	}
	return was
}

// stored forgets when users were last active, since the store knows now.
func (o *onlineApp) stored(left map[UID]int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for uid, at := range left {
		if o.left[uid] == at {
			delete(o.left, uid)
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
func (o *onlineApp) status(uid UID, seesInvisible bool) (online bool, lastActiveAt int64) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if how, ok := o.byUID[uid]; ok {
		return seesInvisible || how != userindex.Invisible, 0
	}
	return false, o.left[uid]
}
