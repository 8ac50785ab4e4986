package sqlstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/directory"
)

// hotUsers holds users that were read lately, so that views need not ask the database for them. What a view gets from it
// is what its snapshot holds.
//
// A view knows how many commits had ended before its snapshot was taken. Before a commit begins, the users that it
// changes are taken out, and when it has ended they are put in anew; a view may put a user in only when no commit has
// changed it since the view began, and may take one out only when it was put in by a commit that had ended by then, or by
// a view no younger than itself.
type hotUsers struct {
	rows *rowRing
	// commits counts the commits that have ended.
	commits atomic.Uint64
	seed    maphash.Seed
	gates   [4096]gate
	// apps numbers the apps: rows say by number whose they are. Its values are uint64.
	apps  sync.Map
	known atomic.Uint64

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
	return &hotUsers{rows: new(rowRing), seed: maphash.MakeSeed(), unsettled: map[directory.AppID][]userKey{}}
}

func (h *hotUsers) hash(key userKey) uint64 { return maphash.Comparable(h.seed, key) }

func (h *hotUsers) gate(hash uint64) *gate { return &h.gates[hash%uint64(len(h.gates))] }

// hotView is the hot users as one view may use them. A nil hotView holds nobody.
type hotView struct {
	*hotUsers
	// began is how many commits had ended when the view began.
	began uint64
	// asked says that the database was asked, so that the snapshot is taken. Before, given gathers the hashes of the users
	// that were given away: the snapshot may turn out to be younger than them, and then the view is spoiled.
	asked, spoiled bool
	given          []uint64
}

// view must be called before the view's snapshot is taken.
func (h *hotUsers) view() *hotView { return &hotView{hotUsers: h, began: h.commits.Load()} }

func (v *hotView) get(key userKey) (user directory.User, known bool) {
	if v == nil {
		return user, false
	}
	hash := v.hash(key)
	row, since, known := v.rows.get(hash)
	if !known || since > v.began {
		return user, false
	}
	packed := packedUser(row)
	if packed.length() != v.number(key.app) {
		return user, false
	}
	user = packed.user()
	if user.UID != key.uid {
		return user, false
	}
	if !v.asked {
		v.given = append(v.given, hash)
	}
	return user, true
}

// errSpoiled ends a view that has to be run again.
var errSpoiled = errors.New("a user has changed before the snapshot was taken")

// noteAsked notes that the snapshot is taken, and fails when it may not hold a user as it was given away.
func (v *hotView) noteAsked() error {
	if v == nil || v.asked {
		return nil
	}
	v.asked = true
	for _, hash := range v.given {
		g := v.gate(hash)
		g.mu.Lock()
		v.spoiled = v.spoiled || g.changing > 0 || g.changed > v.began
		g.mu.Unlock()
	}
	if v.spoiled {
		return errSpoiled
	}
	return nil
}

func (v *hotView) put(app directory.AppID, user *directory.User) {
	if v == nil {
		return
	}
	hash := v.hash(userKey{app, user.UID})
	g := v.gate(hash)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changing == 0 && g.changed <= v.began {
		v.keep(hash, app, user, v.began)
	}
}

// keep puts a user in. The gate is locked.
func (h *hotUsers) keep(hash uint64, app directory.AppID, user *directory.User, since uint64) {
	var space [1024]byte // most users need no more
	h.rows.put(hash, packUser(binary.AppendUvarint(space[:0], h.number(app)), user), since)
}

// number returns the number of an app.
func (h *hotUsers) number(app directory.AppID) uint64 {
	number, numbered := h.apps.Load(app)
	if !numbered {
		number, _ = h.apps.LoadOrStore(app, h.known.Add(1))
	}
	return number.(uint64) //nolint:forcetypeassert // nothing else is stored
}

// userChange is what a commit does to a user: after is how it leaves it, nil when it is gone.
type userChange struct {
	key   userKey
	after *directory.User
}

// changing takes the users out that a commit is about to change, and keeps them out until settle is called.
func (h *hotUsers) changing(changes []userChange) {
	for _, change := range changes {
		hash := h.hash(change.key)
		g := h.gate(hash)
		g.mu.Lock()
		g.changing++
		h.rows.remove(hash)
		g.mu.Unlock()
	}
}

// settle ends what changing began, and whatever was left unsettled of the apps, since a commit to them has ended. When it
// has succeeded, the users are put in as it has left them: who was written just now is likely to be read.
func (h *hotUsers) settle(changes []userChange, apps map[directory.AppID]int64, succeeded bool) {
	h.mu.Lock()
	var late []userKey
	if len(h.unsettled) > 0 {
		for app := range apps {
			late = append(late, h.unsettled[app]...)
			delete(h.unsettled, app)
		}
	}
	h.mu.Unlock()
	ended := h.commits.Add(1)
	for _, key := range late {
		h.settleUser(userChange{key: key}, ended)
	}
	for _, change := range changes {
		if !succeeded {
			change.after = nil
		}
		h.settleUser(change, ended)
	}
}

// settleUser ends the change of one user, and puts it in unless another change that passes the same gate is still under
// way: it may be of the same user.
func (h *hotUsers) settleUser(change userChange, ended uint64) {
	hash := h.hash(change.key)
	g := h.gate(hash)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changing--
	g.changed = max(g.changed, ended)
	if g.changing == 0 && change.after != nil {
		h.keep(hash, change.key.app, change.after, ended)
	}
}

// doubt notes that the outcome of a commit that was to change users is not known.
func (h *hotUsers) doubt(changes []userChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, change := range changes {
		h.unsettled[change.key.app] = append(h.unsettled[change.key.app], change.key)
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

// packedUser is a user in one piece of memory: numbers and lengths as varints, and texts.
type packedUser string

// packUser appends a user to row.
func packUser(row []byte, user *directory.User) []byte {
	for _, at := range []int64{user.CreatedAt, user.UpdatedAt, user.LastActiveAt, user.DeactivatedAt} {
		row = binary.AppendVarint(row, at)
	}
	for _, text := range []string{string(user.UID), user.Name, user.Avatar, user.Link, user.StatusMessage} {
		row = appendText(row, text)
	}
	row = appendText(row, user.Metadata)
	row = binary.AppendUvarint(row, uint64(len(user.Tags)))
	for _, tag := range user.Tags {
		row = appendText(row, tag)
	}
	if user.Role == directory.DefaultRole { // as nearly all have
		return row
	}
	return appendText(row, user.Role)
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

// user takes the user off.
func (p *packedUser) user() directory.User {
	user := directory.User{CreatedAt: p.number(), UpdatedAt: p.number(), LastActiveAt: p.number(), DeactivatedAt: p.number()}
	user.UID, user.Name, user.Avatar, user.Link = directory.UID(p.text()), p.text(), p.text(), p.text()
	user.StatusMessage, user.Metadata = p.text(), rawJSON(p.text())
	for range p.length() {
		user.Tags = append(user.Tags, p.text())
	}
	if user.Role = directory.DefaultRole; len(*p) > 0 {
		user.Role = p.text()
	}
	return user
}
