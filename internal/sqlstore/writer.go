package sqlstore

import (
	"cmp"
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/directory"
)

// maxBatch is how many updates one commit makes durable at most: it bounds how long the first of them waits.
const maxBatch = 256

var errClosed = &directory.Error{Code: directory.CodeOperationFailed, Message: "The server is shutting down. Nothing was changed; try again."}

// writer runs the updates of each lane one after another and commits together whatever is waiting. Each update
// succeeds or fails by itself: nothing of a refused one is written, and when the database fails in the middle of a
// batch, its updates are run again one by one, so that only the one at fault fails.
//
// The caller who finds its lane idle leads: it writes its own update, and those that come meanwhile, without a switch
// between goroutines. When more are waiting by then, a goroutine of the lane's own goes on until nobody is: to hand the
// lead to one of those who wait would leave the lane idle until the scheduler has come to it.
type writer struct {
	engine engine
	// census and hot follow what commits do to users, before anybody is told of the commit.
	census *census
	hot    *hotUsers
	mu     sync.Mutex
	lanes  map[string]*lane // guarded by mu
	closed bool             // guarded by mu
	active sync.WaitGroup   // the callers within update, and the goroutines of busy lanes
	// generation is raised when somebody else may have written.
	generation atomic.Uint64
}

// lane is the queue of updates that run one after another.
type lane struct {
	mu      sync.Mutex
	led     bool      // guarded by mu: somebody is writing
	waiting []*update // guarded by mu
	// known is what the lane's last commit left. It belongs to the leader.
	known known
}

// known is what need not be read again, since nobody but the lane writes it.
type known struct {
	// revisions holds the last revisions of apps. Should they be wrong, the change log refuses what builds on them.
	revisions map[directory.AppID]int64
	// apps holds apps as they were read or written last.
	apps map[directory.AppID]directory.App
	// generation is that of the writer when this was read.
	generation uint64
}

func newKnown() known {
	return known{revisions: map[directory.AppID]int64{}, apps: map[directory.AppID]directory.App{}}
}

func (k known) forget() {
	clear(k.revisions)
	clear(k.apps)
}

// update is one caller's transaction on its way through the writer.
type update struct {
	ctx   context.Context
	app   directory.AppID
	reads []directory.UID
	fn    func(directory.Tx) error
	// answered is closed when err is the answer. It is nil for the caller who leads, who knows.
	answered chan struct{}
	err      error
}

func newWriter(engine engine) *writer {
	return &writer{engine: engine, lanes: map[string]*lane{}}
}

func (w *writer) update(ctx context.Context, app directory.AppID, reads []directory.UID, fn func(directory.Tx) error) error {
	l, err := w.enter(app)
	if err != nil {
		return err
	}
	defer w.active.Done()
	u := &update{ctx: ctx, app: app, reads: reads, fn: fn}
	if !l.join(u) {
		<-u.answered // fn may be running: its variables are the caller's again only when it is answered
		return u.err
	}
	w.commitTogether(l, []*update{u})
	if next := l.next(); len(next) > 0 {
		w.active.Go(func() { w.lead(l, next) })
	}
	return u.err
}

// lead commits what is waiting in a lane until nothing is.
func (w *writer) lead(l *lane, next []*update) {
	for ; len(next) > 0; next = l.next() {
		w.commitTogether(l, next)
	}
}

// enter returns the app's lane, and holds close off until the caller is no longer active.
func (w *writer) enter(app directory.AppID) (*lane, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errClosed
	}
	name := w.engine.lane(app)
	l := w.lanes[name]
	if l == nil {
		l = &lane{known: newKnown()}
		w.lanes[name] = l
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

// join makes the caller the leader of an idle lane and returns true, or queues its update.
func (l *lane) join(u *update) (leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.led {
		l.led = true
		return true
	}
	u.answered = make(chan struct{})
	l.waiting = append(l.waiting, u)
	return false
}

// take returns the updates that are waiting, at most limit.
func (l *lane) take(limit int) []*update {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeLocked(limit)
}

func (l *lane) takeLocked(limit int) []*update {
	taken := l.waiting[:min(limit, len(l.waiting))]
	l.waiting = l.waiting[len(taken):]
	if len(l.waiting) == 0 {
		l.waiting = nil // the array goes with the batch
	}
	return taken
}

// next returns the updates of the next batch. When there are none, the lane is idle.
func (l *lane) next() []*update {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.takeLocked(maxBatch)
	l.led = len(taken) > 0
	return taken
}

// commitTogether runs the updates, and whatever else arrives meanwhile, in one transaction, and answers them.
func (w *writer) commitTogether(l *lane, done []*update) {
	done = append(done, l.take(maxBatch-len(done))...)
	if generation := w.generation.Load(); generation != l.known.generation {
		l.known.forget()
		l.known.generation = generation
	}
	batch, err := w.begin(done[0].ctx, l.known)
	if err != nil {
		answer(done, err)
		return
	}
	ran := 0
	for ran < len(done) && err == nil {
		err = batch.fetchUsers(done[ran:])
		for ; ran < len(done) && err == nil; ran++ {
			err = batch.run(done[ran])
		}
		if !batch.fetches() {
			done = append(done, l.take(maxBatch-len(done))...)
		}
	}
	uncertain := false
	if err == nil {
		uncertain, err = batch.commit()
	}
	if err != nil {
		batch.rollback()
		l.known.forget()
	}
	if err != nil && !uncertain {
		for i, u := range done {
			if i >= ran || u.err == nil { // those that the rules refused have their answer
				u.err = w.commitAlone(u)
			}
		}
		err = nil
	}
	answer(done, err)
}

// commitAlone runs an update in a transaction of its own, after the database failed to run it with others.
func (w *writer) commitAlone(u *update) error {
	batch, err := w.begin(u.ctx, newKnown())
	if err != nil {
		return err
	}
	if err = batch.run(u); err == nil {
		err = u.err
	}
	if err == nil {
		_, err = batch.commit()
	}
	if err != nil {
		batch.rollback()
	}
	return err
}

// answer tells everybody its outcome: commitErr where the update itself succeeded.
func answer(done []*update, commitErr error) {
	for _, u := range done {
		if u.err == nil {
			u.err = commitErr
		}
		if u.answered != nil {
			close(u.answered)
		}
	}
}

// batch is one write transaction that holds many updates.
type batch struct {
	transaction
	revisions map[directory.AppID]int64 // the last revision of each app that the batch has locked
	known     known
	// users holds users as the batch has left them so far, where the engine fetched them in advance.
	users *userCache
	// tallies hold what the batch does to the users of each app.
	tallies map[directory.AppID]tally
	census  *census
	hot     *hotUsers
}

func (w *writer) begin(ctx context.Context, known known) (*batch, error) {
	// The batch serves more callers than the one whose context this is: only its values are passed on.
	transaction, err := w.engine.begin(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	return &batch{
		transaction: transaction, revisions: map[directory.AppID]int64{}, known: known, tallies: map[directory.AppID]tally{}, census: w.census, hot: w.hot,
	}, nil
}

// commit makes the batch durable, and remembers the revisions that it ends with.
func (b *batch) commit() (uncertain bool, err error) {
	if err := b.keepCounts(); err != nil {
		return false, err
	}
	changes, appsGone := b.changes()
	b.hot.changing(changes)
	uncertain, err = b.transaction.commit()
	if uncertain {
		b.hot.doubt(changes)
		for app := range b.tallies {
			b.tallies[app] = tally{forget: true}
		}
	} else {
		b.hot.settle(changes, b.revisions, err == nil)
	}
	if appsGone {
		b.hot.forgetAll()
	}
	if err == nil || uncertain {
		b.census.note(b.tallies)
	}
	if err != nil {
		return uncertain, err
	}
	maps.Copy(b.known.revisions, b.revisions)
	return false, nil
}

// keepCounts brings the numbers of users up to what the batch does.
func (b *batch) keepCounts() error {
	for app, t := range b.tallies {
		for group, by := range t.growth() {
			deactivated := 0
			if group.deactivated {
				deactivated = 1
			}
			if err := b.exec(`INSERT INTO user_counts (app, role, deactivated, users) VALUES ($1, $2, $3, $4)
				ON CONFLICT (app, role, deactivated) DO UPDATE SET users = user_counts.users + excluded.users`,
				string(app), group.role, deactivated, by); err != nil {
				return err
			}
		}
	}
	return nil
}

// changes returns what the batch does to users, in the order in which it does it, and whether whole apps go.
func (b *batch) changes() (changes []userChange, appsGone bool) {
	for app, t := range b.tallies {
		appsGone = appsGone || t.forget
		for _, m := range t.moves {
			if user := cmp.Or(m.before, m.after); user != nil {
				changes = append(changes, userChange{userKey{app, user.UID}, m.after})
			}
		}
	}
	return changes, appsGone
}

// run runs one update and leaves the rules' answer in it. Nothing of a refused one stays in the transaction. The error
// is the database's: the transaction is of no use then.
func (b *batch) run(u *update) error {
	u.err = u.ctx.Err()
	if u.err != nil {
		return nil //nolint:nilerr // the update failed, not the transaction
	}
	if err := b.lock(u.app); err != nil {
		return err
	}
	session := &updateSession{transaction: b.transaction}
	t := &tx{session: session, revisions: maps.Clone(b.revisions), users: b.users.overlay(), apps: b.known.apps, draft: newDraft()}
	u.err = u.fn(t)
	if t.appsChanged {
		clear(b.known.apps)
	}
	if isEngineError(u.err) {
		err := u.err
		u.err = nil
		return err
	}
	if u.err != nil {
		return session.undo()
	}
	b.revisions = t.revisions
	b.users.merge(t.users)
	t.draft.addTo(b.tallies, b.revisions)
	return session.keep()
}

// lock reads the app's last revision. On PostgreSQL it also keeps other transactions from appending to the app's log
// until the batch is committed: revisions become visible in order.
func (b *batch) lock(app directory.AppID) error {
	if _, locked := b.revisions[app]; locked {
		return nil
	}
	if err := b.lockApp(app); err != nil {
		return err
	}
	revision, known := b.known.revisions[app]
	if !known {
		var err error
		if revision, err = (&tx{session: b.transaction}).Revision(app); err != nil {
			return err
		}
	}
	b.revisions[app] = revision
	return nil
}

// updateSession is the session of one update. It holds back what the update writes until the update has succeeded, so
// that there is nothing to undo when it is refused; an update that reads what it has written gets a savepoint.
type updateSession struct {
	transaction
	held  []heldStatement
	saved bool
}

type heldStatement struct {
	sql  string
	args []any
}

func (s *updateSession) exec(sql string, args ...any) error {
	s.held = append(s.held, heldStatement{sql, args})
	return nil
}

func (s *updateSession) query(sql string, args []any, each func(row) error) error {
	if len(s.held) > 0 {
		if err := s.save(); err != nil {
			return err
		}
	}
	return s.transaction.query(sql, args, each)
}

func (s *updateSession) save() error {
	if !s.saved {
		if err := s.transaction.exec(`SAVEPOINT one_update`); err != nil {
			return err
		}
		s.saved = true
	}
	return s.write()
}

func (s *updateSession) write() error {
	for _, statement := range s.held {
		if err := s.transaction.exec(statement.sql, statement.args...); err != nil {
			return err
		}
	}
	s.held = s.held[:0]
	return nil
}

func (s *updateSession) keep() error {
	if err := s.write(); err != nil || !s.saved {
		return err
	}
	return s.transaction.exec(`RELEASE SAVEPOINT one_update`)
}

func (s *updateSession) undo() error {
	if !s.saved {
		return nil
	}
	if err := s.transaction.exec(`ROLLBACK TO SAVEPOINT one_update`); err != nil {
		return err
	}
	return s.transaction.exec(`RELEASE SAVEPOINT one_update`)
}
