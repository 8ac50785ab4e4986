package sqlstore

import (
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/directory"
)

// hotUsers holds users that were read lately, so that views need not ask the database for them. What a view gets from it
// is what its snapshot holds.
//
// A view knows how many commits had ended before its snapshot was taken. Before a commit begins, the users that it
// changes are taken out; a view may put a user in only when no commit has changed it since the view began, and may take
// one out only when it was put in by a view no younger than itself.
type hotUsers struct {
	rows rowRing
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

func newHotUsers() *hotUsers {
	return &hotUsers{seed: maphash.MakeSeed(), unsettled: map[directory.AppID][]userKey{}}
}

func (h *hotUsers) hash(key userKey) uint64 { return maphash.Comparable(h.seed, key) }

func (h *hotUsers) gate(hash uint64) *gate { return &h.gates[hash%uint64(len(h.gates))] }

// hotView is the hot users as one view may use them. A nil hotView holds nobody.
type hotView struct {
	*hotUsers
	// began is how many commits had ended when the view began.
	began uint64
}

// view must be called before the view's snapshot is taken.
func (h *hotUsers) view() *hotView { return &hotView{h, h.commits.Load()} }

func (v *hotView) get(key userKey) (user directory.User, known bool) {
	if v == nil {
		return user, false
	}
	row, since, known := v.rows.get(v.hash(key))
	if !known || since > v.began {
		return user, false
	}
	packed := packedUser(row)
	if app := packed.text(); app != string(key.app) {
		return user, false
	}
	user = packed.user()
	return user, user.UID == key.uid
}

func (v *hotView) put(app directory.AppID, user *directory.User) {
	if v == nil {
		return
	}
	hash := v.hash(userKey{app, user.UID})
	var space [1024]byte // most users need no more
	row := packUser(space[:0], app, user)
	g := v.gate(hash)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changing == 0 && g.changed <= v.began {
		v.rows.put(hash, row, v.began)
	}
}

// changing takes the users out that a commit is about to change, and keeps them out until settle is called.
func (h *hotUsers) changing(keys []userKey) {
	for _, key := range keys {
		hash := h.hash(key)
		g := h.gate(hash)
		g.mu.Lock()
		g.changing++
		h.rows.remove(hash)
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
		g := h.gate(h.hash(key))
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
	h.rows.clear()
}

// packedUser is a user of an app in one piece of memory: numbers and lengths as varints, and texts.
type packedUser string

// packUser appends a user to row.
func packUser(row []byte, app directory.AppID, user *directory.User) []byte {
	row = appendText(row, string(app))
	for _, at := range []int64{user.CreatedAt, user.UpdatedAt, user.LastActiveAt, user.DeactivatedAt} {
		row = binary.AppendVarint(row, at)
	}
	for _, text := range []string{string(user.UID), user.Name, user.Avatar, user.Link, user.Role, user.StatusMessage} {
		row = appendText(row, text)
	}
	row = appendText(row, user.Metadata)
	row = binary.AppendUvarint(row, uint64(len(user.Tags)))
	for _, tag := range user.Tags {
		row = appendText(row, tag)
	}
	return row
}

func appendText[T string | json.RawMessage](row []byte, text T) []byte {
	return append(binary.AppendUvarint(row, uint64(len(text))), text...)
}

// number takes a varint off the front.
func (p *packedUser) number() int64 {
	n := p.length()
	return int64(n>>1) ^ -int64(n&1)
}

// length takes a varint without a sign off the front.
func (p *packedUser) length() (n uint64) {
	for i := 0; ; i++ {
		b := (*p)[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			*p = (*p)[i+1:]
			return n
		}
	}
}

// text takes a text off the front. It shares the row's memory.
func (p *packedUser) text() string {
	n := p.length()
	text := string((*p)[:n])
	*p = (*p)[n:]
	return text
}

// user takes the user off, behind the app.
func (p *packedUser) user() directory.User {
	user := directory.User{CreatedAt: p.number(), UpdatedAt: p.number(), LastActiveAt: p.number(), DeactivatedAt: p.number()}
	user.UID, user.Name, user.Avatar, user.Link = directory.UID(p.text()), p.text(), p.text(), p.text()
	user.Role, user.StatusMessage, user.Metadata = p.text(), p.text(), rawJSON(p.text())
	for range p.length() {
		user.Tags = append(user.Tags, p.text())
	}
	return user
}
