package directory

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// maxLogins bounds how many logins are held in memory, about 1 kB each; the least used are forgotten.
const maxLogins = 10_000

// logins remembers which user an auth token belongs to, so that a client's requests do not look both up every time.
//
// What it returns is as true as the store. Every committed write gets a number; for each user the number of the last
// write about it is kept, and a login that was loaded before that write is not used again. Users share these numbers
// with others by a hash: that costs a lookup now and then, and never the truth.
type logins struct {
	cache   *otter.Cache[string, login]
	seed    maphash.Seed
	writes  atomic.Uint64
	all     atomic.Uint64 // the last write about more than single users
	ofUsers [4096]atomic.Uint64
}

type login struct {
	user     User
	token    Token
	loadedAt uint64
	usedAt   *atomic.Int64 // in Unix seconds
}

func newLogins() *logins {
	return &logins{seed: maphash.MakeSeed(), cache: otter.Must(&otter.Options[string, login]{MaximumSize: maxLogins})}
}

func loginKey(app AppID, hash []byte) string { return string(app) + "\x00" + string(hash) }

func (l *logins) ofUser(app AppID, uid UID) *atomic.Uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	_, _ = h.WriteString(string(app)) // never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(string(uid))
	return &l.ofUsers[h.Sum64()%uint64(len(l.ofUsers))]
}

// begin returns the moment to hand to put. Call it before reading the store.
func (l *logins) begin() uint64 { return l.writes.Load() }

func (l *logins) get(app AppID, key string) (login, bool) {
	found, ok := l.cache.GetIfPresent(key)
	if !ok || found.token.ID == "" {
		return login{}, false
	}
	if found.loadedAt < l.all.Load() || found.loadedAt < l.ofUser(app, found.user.UID).Load() {
		return login{}, false
	}
	return found, true
}

// expect notes that a login is going to be looked up, without what it is.
func (l *logins) expect(key string) {
	if _, known := l.cache.GetIfPresent(key); !known {
		l.cache.Set(key, login{usedAt: new(atomic.Int64)})
	}
}

// knows reports whether a login has been found before, or is expected, whatever has become of it.
func (l *logins) knows(key string) bool {
	_, known := l.cache.GetIfPresent(key)
	return known
}

// forget takes a login back that there is not.
func (l *logins) forget(key string) { l.cache.Invalidate(key) }

// put remembers what was read from the store after begin returned loadedAt.
func (l *logins) put(key string, user User, token Token, loadedAt uint64) login {
	known := login{user: user, token: token, loadedAt: loadedAt, usedAt: new(atomic.Int64)}
	l.cache.Set(key, known)
	return known
}

// usedAt returns when a token was last used, in Unix seconds: 0 when that is not known any more.
func (l *logins) usedAt(app AppID, hash []byte) int64 {
	if known, ok := l.cache.GetEntryQuietly(loginKey(app, hash)); ok {
		return known.Value.usedAt.Load()
	}
	return 0
}

// touch forgets the logins of users. Call it when a write about them may have been committed, before anybody is told.
func (l *logins) touch(app AppID, users []UID) {
	for _, uid := range users {
		l.noteWrite(l.ofUser(app, uid))
	}
}

// touchAll forgets every login.
func (l *logins) touchAll() { l.noteWrite(&l.all) }

// noteWrite numbers a write and notes it as the last. Of two at once the later number stays: with the earlier one, what
// was read between the two would be taken for true.
func (l *logins) noteWrite(last *atomic.Uint64) {
	number := l.writes.Add(1)
	for noted := last.Load(); noted < number && !last.CompareAndSwap(noted, number); noted = last.Load() {
	}
}
