package sqlstore

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// maxBatch is how many updates one commit makes durable at most: it bounds how long the first of them waits.
const maxBatch = 256

var errClosed = &directory.Error{
	Code: directory.CodeOperationFailed, RetryAfter: retryAfter,
	Message: "The server is shutting down. Nothing was changed; try again.",
}

// writer runs the updates of each write queue one after another and commits together whatever is waiting. Each update
// succeeds or fails by itself: nothing of a refused one is written, and when the database fails in the middle of a
// batch, all its updates are run again one by one, so that only the one at fault fails, and nobody is refused because
// of it.
//
// The caller who finds its write queue idle leads: it writes its own update, and those that come meanwhile, without a
// switch between goroutines. When more are waiting by then, a goroutine of the write queue's own goes on until nobody
// is: to hand the lead to one of those who wait would leave the write queue idle until the scheduler has come to it.
type writer struct {
	engine engine
	// hot and followers follow what commits do, before anybody is told of the commit.
	hot       *hotUsers
	followers atomic.Pointer[[]func(directory.Commit)]
	observer  Observer // nil when nobody observes
	mu        sync.Mutex
	queues    map[string]*writeQueue // guarded by mu
	closed    bool                   // guarded by mu
	active    sync.WaitGroup         // the callers within update, and the goroutines of busy queues
	// generation is raised when somebody else may have written.
	generation atomic.Uint64
}

// writeQueue is the queue of updates that run one after another.
type writeQueue struct {
	mu      sync.Mutex
	led     bool      // guarded by mu: somebody is writing
	waiting []*update // guarded by mu
	// late refuses those who have waited too long. Nil while nobody waits who could. Guarded by mu
	late *time.Timer
	// known is what the write queue's last commit left. It belongs to the leader.
	known known
}

// known is what need not be read again, since nobody but the write queue writes it.
type known struct {
	// heads holds where the logs of apps are. Should that be wrong, what builds on it fails.
	heads map[directory.AppID]head
	// apps holds apps as they were read or written last.
	apps map[directory.AppID]directory.App
	// generation is that of the writer when this was read.
	generation uint64
}

func newKnown() known {
	return known{heads: map[directory.AppID]head{}, apps: map[directory.AppID]directory.App{}}
}

func (k known) forget() {
	clear(k.heads)
	clear(k.apps)
}

// update is one caller's transaction on its way through the writer.
type update struct {
	ctx   context.Context
	app   directory.AppID
	reads []directory.UID
	fn    func(directory.Writer) error
	// beginBy is when it is too late for fn to begin. Zero for a caller who waits as long as it takes.
	beginBy time.Time
	limits  limits
	// answered is closed when err is the answer. It is nil for the caller who leads, who knows. told says, to the leader,
	// that it is closed.
	answered chan struct{}
	told     bool
	err      error
}

// limits say when a transaction is to be given up.
type limits struct {
	// endBy is zero when nobody's time runs out. reserve is the time that is left from then on to find out what became of
	// it.
	endBy   time.Time
	reserve time.Duration
}

// limitsOf returns the limits that satisfy all updates.
func limitsOf(updates ...*update) (within limits) {
	for _, u := range updates {
		if first := u.limits; !first.endBy.IsZero() && (within.endBy.IsZero() || first.endBy.Before(within.endBy)) {
			within = first
		}
	}
	return within
}

// limit divides the time that the caller has: two thirds to wait for the updates before, and of the rest, the last part
// to find out the outcome, should the database not tell.
func (u *update) limit() {
	deadline, ok := u.ctx.Deadline()
	if !ok {
		return
	}
	left := time.Until(deadline)
	u.beginBy = deadline.Add(-left / 3)
	u.limits = limits{endBy: deadline.Add(-left / 5), reserve: left / 6}
}

var errTooLate = &directory.Error{
	Code: directory.CodeOperationFailed, Message: tooLate, Cause: context.DeadlineExceeded,
}

// mayBegin tells why the function of an update may not be run any more.
func (u *update) mayBegin() error {
	if !u.beginBy.IsZero() && !time.Now().Before(u.beginBy) {
		return errTooLate
	}
	return u.ctx.Err()
}

func newWriter(engine engine) *writer {
	w := &writer{engine: engine, queues: map[string]*writeQueue{}}
	w.followers.Store(new([]func(directory.Commit)))
	return w
}

func (w *writer) update(
	ctx context.Context, app directory.AppID, reads []directory.UID, fn func(directory.Writer) error,
) error {
	l, err := w.enter(app)
	if err != nil {
		return err
	}
	defer w.active.Done()
	u := &update{ctx: ctx, app: app, reads: reads, fn: fn}
	u.limit()
	if !l.join(u) {
		<-u.answered // fn may be running: its variables are the caller's again only when it is answered
		return u.err
	}
	w.commit(l, w.prepare(l, []*update{u}))
	if next := l.next(); len(next) > 0 {
		w.active.Go(func() { w.lead(l, next) })
	}
	return u.err
}

// lead commits updates, and what is waiting in the write queue, until nothing is.
func (w *writer) lead(l *writeQueue, updates []*update) {
	for len(updates) > 0 {
		w.commit(l, w.prepare(l, updates))
		// Those who were answered, and those they make way for, come first: what they bring next makes the next batch fuller.
		runtime.Gosched()
		runtime.Gosched()
		updates = l.next()
	}
}

// enter returns the app's write queue, and holds close off until the caller is no longer active.
func (w *writer) enter(app directory.AppID) (*writeQueue, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errClosed
	}
	name := w.engine.writeQueue(app)
	l := w.queues[name]
	if l == nil {
		l = &writeQueue{known: newKnown()}
		w.queues[name] = l
	}
	w.active.Add(1)
	return l, nil
}

// close refuses new updates and waits for those under way.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.active.Wait()
}

// join makes the caller the leader of an idle write queue and returns true, or queues its update.
func (l *writeQueue) join(u *update) (leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.led {
		l.led = true
		return true
	}
	u.answered = make(chan struct{})
	l.waiting = append(l.waiting, u)
	l.watchLocked()
	return false
}

// watchLocked has those refused who are still waiting when it is too late for them to begin: whoever leads may be
// waiting for a database that does not answer. The first in the queue is the first whose time runs out, as a rule; the
// others are looked at then.
func (l *writeQueue) watchLocked() {
	if l.late != nil {
		return
	}
	for _, u := range l.waiting {
		if !u.beginBy.IsZero() {
			l.late = time.AfterFunc(time.Until(u.beginBy), l.refuseLate)
			return
		}
	}
}

func (l *writeQueue) refuseLate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = nil
	l.waiting = slices.DeleteFunc(l.waiting, func(u *update) bool {
		if u.err = u.mayBegin(); u.err != nil {
			u.tell()
		}
		return u.err != nil
	})
	l.watchLocked()
}

// take returns the updates that are waiting, at most limit.
func (l *writeQueue) take(limit int) []*update {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeLocked(limit)
}

func (l *writeQueue) takeLocked(limit int) []*update {
	count := min(limit, len(l.waiting))
	taken := l.waiting[:count:count] // whoever adds to it leaves the others alone
	l.waiting = l.waiting[count:]
	if len(l.waiting) == 0 {
		l.waiting = nil // the array goes with the batch
	}
	return taken
}

// next returns the updates of the next batch. When there are none, the write queue is idle.
func (l *writeQueue) next() []*update {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.takeLocked(maxBatch)
	l.led = len(taken) > 0
	return taken
}

// settle notes what a batch has left, or forgets what is known when it failed. Only the leader may call it.
func (l *writeQueue) settle(b *batch) {
	if b.committed {
		maps.Copy(l.known.heads, b.leaves())
	} else {
		l.known.forget()
	}
}

// prepare runs updates in one transaction that is not committed yet, and others that arrive meanwhile, as long as there
// is room.
func (w *writer) prepare(l *writeQueue, updates []*update) *batch {
	if generation := w.generation.Load(); generation != l.known.generation {
		l.known.forget()
		l.known.generation = generation
	}
	b := w.newBatch(updates, l.known)
	b.began = time.Now()
	b.err = b.begin(updates[0].ctx, w.engine, limitsOf(updates...))
	for ran := 0; ran < len(b.updates) && b.err == nil; {
		b.err = b.fetchUsers(b.updates[ran:])
		for ; ran < len(b.updates) && b.err == nil; ran++ {
			b.err = b.run(b.updates[ran])
		}
		if room := maxBatch - len(b.updates); room > 0 {
			more := l.take(room)
			b.updates = append(b.updates, more...)
			if b.err == nil {
				b.narrow(limitsOf(more...))
			}
		}
	}
	return b
}

// commit finishes a batch, and notes what it has left.
func (w *writer) commit(l *writeQueue, b *batch) {
	w.finish(b)
	l.settle(b)
}

// finish commits a batch and answers its updates.
func (w *writer) finish(b *batch) {
	w.decide(b)
	if w.observer != nil {
		w.observer.Wrote(len(b.updates), time.Since(b.began), !b.committed)
	}
	for _, u := range b.updates {
		u.tell()
	}
}

// tell gives an update its answer.
func (u *update) tell() {
	if u.answered != nil && !u.told {
		u.told = true
		close(u.answered)
	}
}

// decide commits a batch and leaves each update its answer.
func (w *writer) decide(b *batch) {
	err, uncertain := b.err, false
	if err == nil {
		uncertain, err = b.commit()
	}
	b.committed = err == nil
	if err != nil && b.transaction != nil {
		b.rollback()
	}
	b.leaveApps(false) // what is left of them
	for i, u := range b.updates {
		switch {
		case err == nil: // the rules have left the answer
		case uncertain, b.transaction == nil:
			u.err = err // refusals too: what they were found on may not be so
		default:
			u.err = w.commitAlone(u, b.updates[i+1:])
			u.tell() // the others may take long
		}
	}
}

// commitAlone runs an update in a transaction of its own, after the database failed to run it with others. Those who
// come after it are not kept waiting beyond their limits.
func (w *writer) commitAlone(u *update, after []*update) error {
	if err := u.mayBegin(); err != nil {
		return err
	}
	b := w.newBatch(nil, newKnown())
	err := b.begin(u.ctx, w.engine, limitsOf(append(slices.Clip(after), u)...))
	if err != nil {
		return err
	}
	if err = b.run(u); err == nil {
		err = u.err
	}
	if err == nil {
		_, err = b.commit()
	}
	if err != nil {
		b.rollback()
	}
	b.leaveApps(false) // what is left of them
	return err
}
