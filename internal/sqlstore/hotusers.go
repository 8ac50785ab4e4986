package sqlstore

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/rollcall/rollcall/internal/directory"
)

// hotUsers holds users that were read lately, so that views need not ask the database for them. What a view gets from it
// is what its snapshot holds.
//
// A view knows how many commits had ended before its snapshot was taken. Before a commit begins, the users that it
// changes are taken out; a view may put a user in only when no commit has changed it since the view began, and may take
// one out only when it was put in by a view no younger than itself.
type hotUsers struct {
	users *otter.Cache[userKey, hotUser]
	// commits counts the commits that have ended.
	commits atomic.Uint64
	seed    maphash.Seed
	gates   [1024]gate

	mu sync.Mutex
	// unsettled are users of whom it is not known whether a commit has changed them. They are settled by the next commit
	// of their app, which had to wait for that one to end.
	unsettled map[directory.AppID][]userKey // guarded by mu
}

// gate tells of the users that share it whether a commit changes any of them, and which was the last that did.
type gate struct {
	mu       sync.Mutex
	changing int
	changed  uint64
}

type hotUser struct {
	user *directory.User
	// since is how many commits the view knew of that put the user in.
	since uint64
}

// hotUsersBytes is about how much memory hot users take.
const hotUsersBytes = 32 << 20

func newHotUsers() *hotUsers {
	return &hotUsers{
		seed:      maphash.MakeSeed(),
		unsettled: map[directory.AppID][]userKey{},
		users: otter.Must(&otter.Options[userKey, hotUser]{
			MaximumWeight: hotUsersBytes,
			Weigher: func(key userKey, hot hotUser) uint32 {
				const overhead = 450 // the structs and what the cache adds
				size := overhead + len(key.app) + 2*len(key.uid) + len(hot.user.Name) + len(hot.user.Avatar) + len(hot.user.Link) + len(hot.user.StatusMessage) + len(hot.user.Metadata)
				for _, tag := range hot.user.Tags {
					size += 16 + len(tag)
				}
				return uint32(size)
			},
		}),
	}
}

func (h *hotUsers) gate(key userKey) *gate {
	return &h.gates[maphash.Comparable(h.seed, key)%uint64(len(h.gates))]
}

// hotView is the hot users as one view may use them. A nil hotView holds nobody.
type hotView struct {
	*hotUsers
	// began is how many commits had ended when the view began.
	began uint64
}

// view must be called before the view's snapshot is taken.
func (h *hotUsers) view() *hotView { return &hotView{h, h.commits.Load()} }

func (v *hotView) get(key userKey) (user *directory.User, known bool) {
	if v == nil {
		return nil, false
	}
	hot, known := v.users.GetIfPresent(key)
	if !known || hot.since > v.began {
		return nil, false
	}
	return hot.user, true
}

func (v *hotView) put(key userKey, user *directory.User) {
	if v == nil {
		return
	}
	g := v.gate(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changing == 0 && g.changed <= v.began {
		v.users.Set(key, hotUser{user, v.began})
	}
}

// changing takes the users out that a commit is about to change, and keeps them out until settle is called.
func (h *hotUsers) changing(keys []userKey) {
	for _, key := range keys {
		g := h.gate(key)
		g.mu.Lock()
		g.changing++
		h.users.Invalidate(key)
		g.mu.Unlock()
	}
}

// settle ends what changing began, and whatever was left unsettled of the apps, since a commit to them has ended.
func (h *hotUsers) settle(keys []userKey, apps map[directory.AppID]int64) {
	h.mu.Lock()
	if len(h.unsettled) > 0 {
		for app := range apps {
			keys = slices.Concat(keys, h.unsettled[app])
			delete(h.unsettled, app)
		}
	}
	h.mu.Unlock()
	ended := h.commits.Add(1)
	for _, key := range keys {
		g := h.gate(key)
		g.mu.Lock()
		g.changing--
		g.changed = max(g.changed, ended)
		g.mu.Unlock()
	}
}

// doubt notes that the outcome of a commit that was to change users is not known.
func (h *hotUsers) doubt(keys []userKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		h.unsettled[key.app] = append(h.unsettled[key.app], key)
	}
}

// forgetAll drops everything, because somebody else may have written, or an app is gone.
func (h *hotUsers) forgetAll() {
	ended := h.commits.Add(1)
	for i := range h.gates {
		g := &h.gates[i]
		g.mu.Lock()
		g.changed = max(g.changed, ended)
		g.mu.Unlock()
	}
	h.users.InvalidateAll()
}
