package sqlstore

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/directory"
)

// takenUIDs knows which uids of an app are free, so that people who register, nearly all of whom are new, need not be looked
// for in the database. It holds the uid of everybody who is there, and of some who were: who is not in it is not there.
//
// It belongs to the leader of the app's lane, the only one who makes users, and begins when some have been looked for in
// vain. Those who were there before are read aside; until that is done no uid is known to be free. A nil takenUIDs never
// knows one.
type takenUIDs struct {
	seed maphash.Seed
	// missed counts the uids that were looked for in vain since the last reading began.
	missed int
	// reading says that those who were there before are being read, or have been.
	reading atomic.Bool
	before  atomic.Pointer[uidSet]
	// since holds those who were made since the reading began.
	since uidSet
}

const (
	// worthReading is how many uids must be looked for in vain before all are read: only an app in which people register is
	// worth it.
	worthReading = 64
	// uidsRead is how many uids one view reads: it holds up neither the log's folding nor the end of the server.
	uidsRead = 10_000
)

// takenBy returns the taken uids of an app.
func (k known) takenBy(app directory.AppID) *takenUIDs {
	t := k.taken[app]
	if t == nil {
		t = &takenUIDs{seed: maphash.MakeSeed()}
		k.taken[app] = t
	}
	return t
}

// free reports whether it is certain that nobody has a uid.
func (t *takenUIDs) free(uid directory.UID) bool {
	if t == nil {
		return false
	}
	before := t.before.Load()
	if before == nil {
		return false
	}
	hash := t.hash(uid)
	return !before.has(hash) && !t.since.has(hash)
}

// take notes that a user is made.
func (t *takenUIDs) take(uid directory.UID) {
	if t != nil && t.reading.Load() {
		t.since.add(t.hash(uid))
	}
}

// miss notes how many uids were looked for in vain.
func (t *takenUIDs) miss(count int) {
	if t != nil {
		t.missed += count
	}
}

func (t *takenUIDs) hash(uid directory.UID) uint64 { return maphash.String(t.seed, string(uid)) }

// readTaken begins to read the uids of those apps of the updates where it is worth it. The updates have not run yet: what
// they make is noted, and what the batch before them makes is read when that has ended.
func (w *writer) readTaken(updates []*update, known known, before *batch) {
	for _, u := range updates {
		taken := known.taken[u.app]
		if taken == nil || taken.missed < worthReading || taken.reading.Load() {
			continue
		}
		taken.missed = 0
		taken.reading.Store(true)
		w.active.Go(func() {
			if before != nil {
				<-before.ended
			}
			uids, err := w.readUIDs(taken, u.app)
			if err != nil {
				taken.reading.Store(false) // until more have been looked for in vain
				return
			}
			taken.before.Store(uids)
		})
	}
}

// readUIDs reads the uids of an app's users.
func (w *writer) readUIDs(taken *takenUIDs, app directory.AppID) (*uidSet, error) {
	var uids uidSet
	for last, more := "", true; more && w.reading.Err() == nil; {
		err := w.engine.view(w.reading, func(s session) (err error) {
			t := &tx{session: s}
			if last == "" {
				users, err := t.total(directory.UserQuery{App: app, Activity: directory.ActiveOrDeactivated})
				if err != nil {
					return err
				}
				uids.reserve(users)
			}
			found := 0
			err = t.query(`SELECT uid FROM users WHERE app = $1 AND uid > $2 ORDER BY uid LIMIT $3`, []any{string(app), last, w.uidsRead}, func(r row) error {
				last = r.text(0)
				uids.add(taken.hash(directory.UID(last)))
				found++
				return nil
			})
			more = found == w.uidsRead
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return &uids, w.reading.Err()
}

// uidSet holds the hashes of uids, and seems to hold one in two hundred others (a Bloom filter). It takes 1.5 bytes for each.
type uidSet struct {
	layers []uidLayer
	// room is how many more the last layer is for.
	room int
}

// uidLayer is blocks of as many bits as the processor fetches at once. A hash has a block, and a bit in each word of it.
type uidLayer [][8]uint64

const (
	uidsPerBlock = 42
	leastBlocks  = 64
)

// reserve makes room for so many.
func (s *uidSet) reserve(count int) { s.grow(max(leastBlocks, count/uidsPerBlock+1)) }

func (s *uidSet) grow(blocks int) {
	s.layers = append(s.layers, make(uidLayer, blocks))
	s.room = blocks * uidsPerBlock
}

func (s *uidSet) add(hash uint64) {
	if s.has(hash) {
		return
	}
	if s.room == 0 {
		blocks := leastBlocks
		if len(s.layers) > 0 {
			blocks = 2 * len(s.layers[len(s.layers)-1])
		}
		s.grow(blocks)
	}
	s.room--
	block, word := s.layers[len(s.layers)-1].place(hash)
	for i := range block {
		block[i] |= word(i)
	}
}

func (s *uidSet) has(hash uint64) bool {
	for _, layer := range s.layers {
		if layer.has(hash) {
			return true
		}
	}
	return false
}

func (l uidLayer) has(hash uint64) bool {
	block, word := l.place(hash)
	for i := range block {
		if block[i]&word(i) == 0 {
			return false
		}
	}
	return true
}

// place returns the block of a hash, and its bit in each word.
func (l uidLayer) place(hash uint64) (block *[8]uint64, bit func(word int) uint64) {
	at, _ := bits.Mul64(hash, uint64(len(l)))
	// The first bits of the hash have chosen the block. A multiple, whose upper bits depend on all of them, chooses within.
	mixed := hash * 0x9e3779b97f4a7c15
	return &l[at], func(word int) uint64 { return 1 << (mixed >> (16 + 6*word) & 63) }
}
