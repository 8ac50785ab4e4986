package presence

import (
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/directory"
)

// readers are the users of an app who have read who is online since the server was started, while others are expected
// back. Those found them offline, and are told when they come; everybody else has not noticed the restart.
type readers struct {
	over atomic.Bool
	mu   sync.Mutex
	uids map[directory.UID]struct{} // guarded by mu
}

func newReaders() *readers { return &readers{uids: map[directory.UID]struct{}{}} }

func (r *readers) note(uid directory.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.uids != nil {
		r.uids[uid] = struct{}{}
	}
}

func (r *readers) has(uid directory.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, reads := r.uids[uid]
	return reads
}

// end forgets everybody, when nobody is expected back any more.
func (r *readers) end() {
	r.over.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uids = nil
}

// NoteReader notes that a user is shown whether others are online.
func (p *Presence) NoteReader(app directory.AppID, uid directory.UID) {
	if readers := p.readers[app]; readers != nil && !readers.over.Load() {
		readers.note(uid)
	}
}
