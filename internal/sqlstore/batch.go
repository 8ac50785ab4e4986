package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"

	"github.com/rollcall/rollcall/internal/directory"
)

// batch is one write transaction that holds many updates.
type batch struct {
	// transaction is nil until it has begun.
	transaction
	updates []*update
	// err is the database's failure that ended it.
	err error
	// written is closed when the next batch can read what this one wrote, or when it has ended without that: readable, which may
	// be read then, tells. ended is closed when all have their answers. committed, which may be read then, says that they were
	// committed together.
	written, ended      chan struct{}
	readable, committed bool
	// followed says that the next batch is prepared while this one is committed.
	followed bool
	// endsApp says that an app is gone with it, and users whom it did not name.
	endsApp bool
	// before is the batch that is still being committed, on which this one is built. Nil when there is none.
	before    *batch
	revisions map[directory.AppID]int64 // the last revision of each app that the batch has locked
	known     known
	// users holds users as the batch has left them so far, where the engine fetched them in advance.
	users *userCache
	// tallies hold what the batch does to the users of each app.
	tallies map[directory.AppID]tally
	census  *census
	hot     *hotUsers
}

// newBatch returns a batch that knows what the lane knows, and what the batch before will have left.
func (w *writer) newBatch(updates []*update, known known, before *batch) *batch {
	if before != nil {
		known.revisions = maps.Clone(known.revisions)
		maps.Copy(known.revisions, before.revisions)
	}
	return &batch{
		updates: updates, written: make(chan struct{}), ended: make(chan struct{}), before: before, revisions: map[directory.AppID]int64{}, known: known,
		tallies: map[directory.AppID]tally{}, census: w.census, hot: w.hot,
	}
}

func (b *batch) begin(ctx context.Context, engine engine, within limits) (err error) {
	// The batch serves more callers than the one whose context this is: only its values are passed on.
	b.transaction, err = engine.begin(context.WithoutCancel(ctx), b.before, within)
	return err
}

var errBuiltOnNothing = &engineError{err: errors.New("the batch before was not committed")}

// noteWritten notes that the next batch can read what this one wrote.
func (b *batch) noteWritten() {
	b.readable = true
	close(b.written)
}

// end notes that all have their answers.
func (b *batch) end() {
	if !b.readable {
		b.readable = b.committed
		close(b.written)
	}
	close(b.ended)
}

// wrote waits until what the batch wrote can be read, and fails when that will never be.
func (b *batch) wrote() error {
	<-b.written
	if !b.readable {
		return errBuiltOnNothing
	}
	return nil
}

// landed waits until the batch has ended, and fails unless it was committed.
func (b *batch) landed() error {
	<-b.ended
	if !b.committed {
		return errBuiltOnNothing
	}
	return nil
}

// landOn waits for the batch before to end. When that was not committed, nothing that this one has found is true.
func (b *batch) landOn(before *batch) {
	if err := before.landed(); err != nil {
		b.err = err
	}
	b.before = nil
}

// commit makes the batch durable.
func (b *batch) commit() (uncertain bool, err error) {
	if err := b.keepCounts(); err != nil {
		return false, err
	}
	changes, appsGone := b.changes()
	b.census.expect(b.tallies)
	b.hot.changing(changes)
	var written func()
	if b.followed {
		written = b.noteWritten
	}
	uncertain, err = b.transaction.commit(written)
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
	return uncertain, err
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
	if u.err = u.mayBegin(); u.err != nil {
		return nil //nolint:nilerr // the update failed, not the transaction
	}
	if err := b.lock(u.app); err != nil {
		return err
	}
	session := &updateSession{transaction: b.transaction, held: make([]heldStatement, 0, 6)}
	t := &tx{
		session: session, app: u.app, revision: b.revisions[u.app], users: b.users.overlay(), apps: b.known.apps, taken: b.known.takenBy(u.app),
		draft: new(draft),
	}
	u.err = u.call(t)
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
	raised := t.revision > b.revisions[u.app]
	b.revisions[u.app] = t.revision
	b.users.merge(t.users)
	t.draft.addTo(b.tallies, b.revisions, raised)
	b.endsApp = b.endsApp || len(t.draft.gone) > 0
	return session.keep()
}

// call runs the rules of the update. A panic of theirs is its failure alone: others share its batch, and all who come later its
// lane.
func (u *update) call(t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in an update: %v\n%s", p, debug.Stack())
		}
	}()
	return u.fn(t)
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
