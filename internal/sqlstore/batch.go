package sqlstore

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// batch is one write transaction that holds many updates.
type batch struct {
	// transaction is nil until it has begun.
	transaction
	updates []*update
	began   time.Time
	// err is the database's failure that ended it.
	err error
	// committed says that all updates were committed together.
	committed bool
	// endsApp says that an app is gone with it, and users whom it did not name.
	endsApp bool
	// heads are where the batch has found the logs of the apps that it has locked, and commits what it does to them.
	heads   map[directory.AppID]head
	commits map[directory.AppID]*directory.Commit
	known   known
	// users holds users as the batch has left them so far, where the engine fetched them in advance.
	users     *userCache
	hot       *hotUsers
	followers *atomic.Pointer[[]func(directory.Commit)]
	// cluster is nil where nobody else writes. entered are the apps of which the others' commits were handed on.
	cluster *cluster
	entered map[directory.AppID]*appHead
}

// newBatch returns a batch that knows what the write queue knows.
func (w *writer) newBatch(updates []*update, known known) *batch {
	b := &batch{
		updates: updates, known: known, heads: map[directory.AppID]head{}, commits: map[directory.AppID]*directory.Commit{},
		hot: w.hot, followers: &w.followers,
	}
	if e, ok := w.engine.(*postgres); ok && e.cluster != nil {
		b.cluster, b.entered = e.cluster, map[directory.AppID]*appHead{}
	}
	return b
}

// leaves returns where the batch leaves the logs of its apps.
func (b *batch) leaves() map[directory.AppID]head {
	heads := maps.Clone(b.heads)
	for app, commit := range b.commits {
		heads[app] = head{commit.Revision, commit.Version}
	}
	return heads
}

func (b *batch) begin(ctx context.Context, engine engine, within limits) (err error) {
	// The batch serves more callers than the one whose context this is: only its values are passed on.
	b.transaction, err = engine.begin(context.WithoutCancel(ctx), within)
	return err
}

// commit makes the batch durable, and tells who follows of it before anybody else learns.
func (b *batch) commit() (uncertain bool, err error) {
	for app, commit := range b.commits {
		if err := b.exec(putHead, string(app), commit.Revision, commit.Version); err != nil {
			return false, err
		}
	}
	changes := b.changes()
	b.hot.changing(changes)
	uncertain, err = b.transaction.commit()
	if uncertain {
		b.hot.doubt(changes)
	} else {
		b.hot.settle(changes, b.heads, err == nil)
	}
	if b.endsApp {
		b.hot.forgetAll()
	}
	if err == nil || uncertain {
		for _, commit := range b.commits {
			commit.Uncertain = uncertain
			for _, follow := range *b.followers.Load() {
				follow(*commit)
			}
		}
	}
	b.leaveApps(err == nil)
	return uncertain, err
}

// leaveApps lets the others' commits to the apps of the batch be handed on again, when its own were, if there are any.
func (b *batch) leaveApps(committed bool) {
	for app, h := range b.entered {
		left := b.heads[app]
		if commit := b.commits[app]; commit != nil && committed {
			left = head{commit.Revision, commit.Version}
			if len(commit.Changes) > 0 && !b.cluster.isAlone() {
				b.cluster.publish(subjectCommitted, string(app))
			}
		}
		h.leave(left)
	}
	clear(b.entered)
}

// changes returns what the batch does to users, in the order in which it does it.
func (b *batch) changes() (changes []userChange) {
	for app, commit := range b.commits {
		for _, change := range commit.Users {
			changes = append(changes, userChange{userKey{app, change.UID}, change.User})
		}
	}
	return changes
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
	revision := b.heads[u.app].revision
	if commit := b.commits[u.app]; commit != nil {
		revision = commit.Revision
	}
	querier := &updateQuerier{transaction: b.transaction, held: make([]heldStatement, 0, 6)}
	t := &tx{querier: querier, app: u.app, revision: revision, users: b.users.overlay(), apps: b.known.apps}
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
		return querier.undo()
	}
	b.users.merge(t.users)
	if querier.wrote {
		b.note(t)
	}
	return querier.keep()
}

// note adds what an update has done to what the batch does.
func (b *batch) note(t *tx) {
	commit := b.commits[t.app]
	if commit == nil {
		commit = &directory.Commit{App: t.app, Version: b.heads[t.app].version + 1}
		b.commits[t.app] = commit
	}
	if t.did.Gone {
		commit.Users, commit.Gone, b.endsApp = nil, true, true
	}
	commit.Revision = t.revision
	commit.Changes = append(commit.Changes, t.did.Changes...)
	commit.Users = append(commit.Users, t.did.Users...)
	if t.did.AppRow != nil {
		commit.AppRow = t.did.AppRow
	}
}

// call runs the rules of the update. A panic of theirs is its failure alone: others share its batch, and all who come
// later its writeQueue.
func (u *update) call(t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in an update: %v\n%s", p, debug.Stack())
		}
	}()
	return u.fn(t)
}

// lock reads where the app's log is. On PostgreSQL it also keeps other transactions from appending to the app's log
// until the batch is committed: revisions become visible in order.
func (b *batch) lock(app directory.AppID) error {
	if _, locked := b.heads[app]; locked {
		return nil
	}
	var expected *head
	if known, ok := b.known.heads[app]; ok && b.cluster.isAlone() {
		expected = &known
	}
	found, err := b.lockApp(app, expected)
	if err != nil {
		return err
	}
	if b.cluster != nil {
		if b.entered[app], err = b.cluster.enter(&tx{querier: b.transaction}, app, found, b.known); err != nil {
			delete(b.entered, app)
			return err
		}
	}
	b.heads[app] = found
	return nil
}

// updateQuerier is the querier of one update. It holds back what the update writes until the update has succeeded, so
// that there is nothing to undo when it is refused; an update that reads what it has written gets a savepoint.
type updateQuerier struct {
	transaction
	held  []heldStatement
	saved bool
	// wrote says that there was something to write.
	wrote bool
}

type heldStatement struct {
	sql  string
	args []any
}

func (s *updateQuerier) exec(sql string, args ...any) error {
	s.held, s.wrote = append(s.held, heldStatement{sql, args}), true
	return nil
}

func (s *updateQuerier) query(sql string, args []any, each func(row) error) error {
	if len(s.held) > 0 {
		if err := s.save(); err != nil {
			return err
		}
	}
	return s.transaction.query(sql, args, each)
}

func (s *updateQuerier) save() error {
	if !s.saved {
		if err := s.transaction.exec(`SAVEPOINT one_update`); err != nil {
			return err
		}
		s.saved = true
	}
	return s.write()
}

func (s *updateQuerier) write() error {
	for _, statement := range s.held {
		if err := s.transaction.exec(statement.sql, statement.args...); err != nil {
			return err
		}
	}
	s.held = s.held[:0]
	return nil
}

func (s *updateQuerier) keep() error {
	if err := s.write(); err != nil || !s.saved {
		return err
	}
	return s.transaction.exec(`RELEASE SAVEPOINT one_update`)
}

func (s *updateQuerier) undo() error {
	if !s.saved {
		return nil
	}
	if err := s.transaction.exec(`ROLLBACK TO SAVEPOINT one_update`); err != nil {
		return err
	}
	return s.transaction.exec(`RELEASE SAVEPOINT one_update`)
}
