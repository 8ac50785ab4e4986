package sqlstore

import (
	"context"
	"maps"
	"sync"

	"github.com/rollcall/rollcall/internal/directory"
)

// maxBatch is how many updates one commit makes durable at most: it bounds how long the first of them waits.
const maxBatch = 256

var errClosed = &directory.Error{Code: directory.CodeOperationFailed, Message: "The server is shutting down. Nothing was changed; try again."}

// writer runs the updates of each lane one after another and commits together whatever is waiting. Each update
// succeeds or fails by itself: what a refused one wrote is undone, and when the database fails in the middle of a
// batch, its updates are run again one by one, so that only the one at fault fails.
type writer struct {
	engine engine
	mu     sync.Mutex
	lanes  map[string]chan *update // guarded by mu until closed; each is drained by a goroutine of its own
	closed bool                    // guarded by mu
	// entering counts the updates on their way into a queue, running the lanes.
	entering, running sync.WaitGroup
}

// update is one caller's transaction on its way through the writer.
type update struct {
	ctx     context.Context
	app     directory.AppID
	fn      func(directory.Tx) error
	outcome chan error
}

func newWriter(engine engine) *writer {
	return &writer{engine: engine, lanes: map[string]chan *update{}}
}

func (w *writer) update(ctx context.Context, app directory.AppID, fn func(directory.Tx) error) error {
	u := &update{ctx: ctx, app: app, fn: fn, outcome: make(chan error, 1)}
	queue, err := w.queue(app)
	if err != nil {
		return err
	}
	select {
	case queue <- u:
	case <-ctx.Done():
		w.entering.Done()
		return ctx.Err()
	}
	w.entering.Done()
	return <-u.outcome // fn may be running: its variables are the caller's again only now
}

// queue returns the queue of the app's lane, and holds close off until entering is done.
func (w *writer) queue(app directory.AppID) (chan *update, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errClosed
	}
	lane := w.engine.lane(app)
	queue, running := w.lanes[lane]
	if !running {
		queue = make(chan *update, maxBatch)
		w.lanes[lane] = queue
		w.running.Go(func() { w.run(queue) })
	}
	w.entering.Add(1)
	return queue, nil
}

// close refuses new updates, lets those under way finish, and ends the lanes.
func (w *writer) close() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	w.mu.Unlock()
	w.entering.Wait() // everybody let in has put its update into its queue
	for _, queue := range w.lanes {
		close(queue)
	}
	w.running.Wait() // every lane has emptied its queue
}

func (w *writer) run(queue chan *update) {
	for u := range queue {
		w.commitTogether(u, queue)
	}
}

// outcome is an update that was run and what its function answered.
type outcome struct {
	update *update
	err    error
}

// commitTogether runs an update and whatever else arrives meanwhile in one transaction.
func (w *writer) commitTogether(first *update, queue chan *update) {
	batch, err := w.begin(first.ctx)
	if err != nil {
		first.outcome <- err
		return
	}
	var outcomes []outcome
	for u := first; u != nil; u = waiting(queue, len(outcomes)) {
		spoiled, err := false, u.ctx.Err()
		if err == nil {
			spoiled, err = batch.apply(u)
		}
		if isEngineError(err) {
			err = nil // it is run again
		}
		outcomes = append(outcomes, outcome{u, err})
		if spoiled {
			batch.rollback()
			w.commitAlone(outcomes)
			return
		}
	}
	uncertain, err := batch.commit()
	if err != nil {
		batch.rollback()
	}
	if err != nil && !uncertain {
		w.commitAlone(outcomes)
		return
	}
	answer(outcomes, err)
}

// waiting returns the next update that is waiting already, nil when there is none or the batch is full.
func waiting(queue chan *update, size int) *update {
	if size >= maxBatch {
		return nil
	}
	select {
	case u := <-queue: // nil when the queue is closed
		return u
	default:
		return nil
	}
}

// commitAlone runs each update in a transaction of its own, after the database failed to run them together.
func (w *writer) commitAlone(outcomes []outcome) {
	for _, o := range outcomes {
		if o.err != nil {
			o.update.outcome <- o.err // refused by the rules; it wrote nothing
			continue
		}
		o.update.outcome <- w.commitOne(o.update)
	}
}

func (w *writer) commitOne(u *update) error {
	batch, err := w.begin(u.ctx)
	if err != nil {
		return err
	}
	if _, err := batch.apply(u); err != nil {
		batch.rollback()
		return err
	}
	if _, err := batch.commit(); err != nil {
		batch.rollback()
		return err
	}
	return nil
}

func answer(outcomes []outcome, commitErr error) {
	for _, o := range outcomes {
		if o.err == nil {
			o.err = commitErr
		}
		o.update.outcome <- o.err
	}
}

// batch is one write transaction that holds many updates.
type batch struct {
	transaction
	revisions map[directory.AppID]int64 // as of the last update that was kept
	stored    map[directory.AppID]int64 // as the database has them
	updates   int
}

func (w *writer) begin(ctx context.Context) (*batch, error) {
	// The batch serves more callers than the one whose context this is: only its values are passed on.
	transaction, err := w.engine.begin(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	return &batch{transaction: transaction, revisions: map[directory.AppID]int64{}, stored: map[directory.AppID]int64{}}, nil
}

// apply runs one update. When it is refused, nothing that it wrote stays in the transaction; where that takes giving
// up the whole transaction, spoiled is true.
func (b *batch) apply(u *update) (spoiled bool, err error) {
	if err := b.lock(u.app); err != nil {
		return true, err
	}
	// The first update needs no savepoint: when it is refused, there is nothing else to keep.
	session := &undoable{transaction: b.transaction, needed: b.updates > 0}
	b.updates++
	revisions := maps.Clone(b.revisions)
	err = u.fn(&tx{session: session, revisions: revisions})
	switch {
	case isEngineError(err):
		return true, err
	case err == nil:
		b.revisions = revisions
		err = session.keep()
		return err != nil, err
	case session.saved:
		if undoErr := session.undo(); undoErr != nil {
			return true, undoErr
		}
		return false, err
	default:
		return session.wrote, err
	}
}

// lock reads the app's last revision. On PostgreSQL it also keeps other nodes from appending to the app's log until
// the batch is committed: revisions become visible in order.
func (b *batch) lock(app directory.AppID) error {
	if _, locked := b.revisions[app]; locked {
		return nil
	}
	var revision int64
	found := false
	err := b.query(`SELECT revision FROM revisions WHERE app = $1`+b.lockClause(), []any{string(app)}, func(r row) error {
		revision, found = r.integer(0), true
		return nil
	})
	if err == nil && !found {
		err = b.exec(`INSERT INTO revisions (app, revision) VALUES ($1, 0)`, string(app))
	}
	if err != nil {
		return err
	}
	b.revisions[app], b.stored[app] = revision, revision
	return nil
}

func (b *batch) commit() (uncertain bool, err error) {
	for app, revision := range b.revisions {
		if revision == b.stored[app] {
			continue
		}
		if err := b.exec(`UPDATE revisions SET revision = $2 WHERE app = $1`, string(app), revision); err != nil {
			return false, err
		}
	}
	return b.transaction.commit()
}

// undoable is the session of one update: it sets a savepoint before the first write, where one is needed.
type undoable struct {
	transaction
	needed bool
	saved  bool
	wrote  bool
}

func (s *undoable) exec(sql string, args ...any) error {
	if s.needed && !s.saved {
		if err := s.transaction.exec(`SAVEPOINT one_update`); err != nil {
			return err
		}
		s.saved = true
	}
	s.wrote = true
	return s.transaction.exec(sql, args...)
}

func (s *undoable) keep() error {
	if !s.saved {
		return nil
	}
	return s.transaction.exec(`RELEASE SAVEPOINT one_update`)
}

func (s *undoable) undo() error {
	if err := s.transaction.exec(`ROLLBACK TO SAVEPOINT one_update`); err != nil {
		return err
	}
	return s.transaction.exec(`RELEASE SAVEPOINT one_update`)
}
