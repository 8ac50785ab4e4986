package sqlstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rollcall/rollcall/internal/directory"
)

// hotUsers holds users that were read lately, so that views need not ask the database for them. What a view gets from
// it is what its snapshot holds.
//
// A view knows how many commits had ended before its snapshot was taken. Before a commit begins, the users that it
// changes are taken out, and when it has ended they are put in anew; a view may put a user in only when no commit has
// changed it since the view began, and may take one out only when it was put in by a commit that had ended by then, or
// by a view no younger than itself.
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
	// shared is where the others' commits come from, nil when nobody else writes. Of what is remembered, some may be older
	// than the snapshot then.
	shared *cluster
	given  []uint64
}

// view must be called before the view's snapshot is taken.
func (h *hotUsers) view() *hotView { return &hotView{hotUsers: h, began: h.commits.Load()} }

// get fills in a user of whom nothing is known, and returns whether it could: else it leaves it as it is.
func (v *hotView) get(key userKey, user *directory.User) (known bool) {
	if v == nil {
		return false
	}
	hash, app := v.hash(key), v.number(key.app)
	v.rows.read(hash, func(row []byte, since uint64) {
		known = since <= v.began && unpackUser(row, app, key.uid, user)
	})
	if known && !v.asked {
		v.given = append(v.given, hash)
	}
	return known
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

// mayBeOld reports whether others may have changed what is remembered before the snapshot was taken.
func (v *hotView) mayBeOld() bool { return v != nil && v.shared != nil }

func (v *hotView) put(app directory.AppID, user *directory.User) {
	if v == nil {
		return
	}
	hash := v.hash(userKey{app, user.UID})
	if !v.rows.welcomes(hash) {
		return
	}
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
	h.rows.put(hash, packUser(space[:0], h.number(app), user), since)
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

// settle ends what changing began, and whatever was left unsettled of the apps, since a commit to them has ended. When
// it has succeeded, the users are put in as it has left them: who was written just now is likely to be read.
func (h *hotUsers) settle(changes []userChange, apps map[directory.AppID]head, succeeded bool) {
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

// commonRole stands for the role that nearly all users have.
const commonRole = "\x00"

// packUser appends a user to row: varints, which are the number of its app, its times, and the lengths of its texts;
// behind them the texts with nothing between them, and the metadata.
func packUser(row []byte, app uint64, user *directory.User) []byte {
	texts := [...]string{string(user.UID), user.Name, user.Avatar, user.Link, user.StatusMessage, user.Role}
	if user.Role == directory.DefaultRole {
		texts[5] = commonRole
	}
	row = binary.AppendUvarint(row, app)
	for _, at := range [...]int64{user.CreatedAt, user.UpdatedAt, user.LastActiveAt, user.DeactivatedAt} {
		row = binary.AppendVarint(row, at)
	}
	for _, text := range texts {
		row = binary.AppendUvarint(row, uint64(len(text)))
	}
	row = binary.AppendUvarint(row, uint64(len(user.Tags)))
	for _, tag := range user.Tags {
		row = binary.AppendUvarint(row, uint64(len(tag)))
	}
	for _, text := range texts {
		row = append(row, text...)
	}
	for _, tag := range user.Tags {
		row = append(row, tag...)
	}
	return append(row, user.Metadata...)
}

// unpackUser fills in a user of whom nothing is known, and returns whether it is the one with that uid, of the app with
// that number: else it leaves it as it is. The user keeps nothing of the row's memory.
func unpackUser(row []byte, app uint64, uid directory.UID, user *directory.User) bool {
	numbers := varints(row)
	if numbers.next() != app {
		return false
	}
	var times [4]int64
	for i := range times {
		times[i] = numbers.nextSigned()
	}
	var lengths [6]int
	size := 0
	for i := range lengths {
		lengths[i] = int(numbers.next())
		size += lengths[i]
	}
	tags := numbers.next()
	tagLengths := numbers
	for range tags {
		size += int(numbers.next())
	}
	texts, metadata := numbers[:size], numbers[size:]
	if string(texts[:lengths[0]]) != string(uid) {
		return false
	}
	memory := append(make([]byte, 0, size+len(metadata)), numbers[:size+len(metadata)]...)
	joined := unsafe.String(unsafe.SliceData(memory), size) //nolint:gosec // nobody changes it any more
	cut := func(length int) (text string) {
		text, joined = joined[:length], joined[length:]
		return text
	}
	user.CreatedAt, user.UpdatedAt, user.LastActiveAt, user.DeactivatedAt = times[0], times[1], times[2], times[3]
	user.UID = directory.UID(cut(lengths[0]))
	user.Name, user.Avatar, user.Link, user.StatusMessage = cut(lengths[1]), cut(lengths[2]), cut(lengths[3]), cut(lengths[4])
	if user.Role = cut(lengths[5]); user.Role == commonRole {
		user.Role = directory.DefaultRole
	}
	if tags > 0 {
		user.Tags = make([]string, tags)
		for i := range user.Tags {
			user.Tags[i] = cut(int(tagLengths.next()))
		}
	}
	if len(metadata) > 0 {
		user.Metadata = json.RawMessage(memory[size:])
	}
	return true
}

// varints is bytes that begin with numbers.
type varints []byte

// next takes a number off the front.
func (v *varints) next() (n uint64) {
	for i := 0; ; i++ {
		b := (*v)[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			*v = (*v)[i+1:]
			return n
		}
	}
}

// nextSigned takes a number with a sign off the front.
func (v *varints) nextSigned() int64 {
	n := v.next()
	return int64(n>>1) ^ -int64(n&1)
}
