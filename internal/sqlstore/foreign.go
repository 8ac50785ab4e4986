package sqlstore

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/internal/bus"
	"github.com/rollcall/rollcall/internal/directory"
)

// What servers tell each other. subjectJoined says that a server waits to be known. subjectCommitted carries an app to
// which somebody has committed; subjectApply asks everybody to apply what was committed before, and carries a text with
// which they answer on subjectApplied, before their own name.
const (
	subjects         = "store"
	subjectJoined    = subjects + ".joined"
	subjectCommitted = subjects + ".committed"
	subjectApply     = subjects + ".apply"
	subjectApplied   = subjects + ".applied"
)

const (
	// readAtOnce is how many changes of others are handed on together.
	readAtOnce = 500
	// askApplied is how often it is looked in the database who has applied what was committed, beside what the bus says.
	askApplied = 100 * time.Millisecond
)

// appHead is up to where the commits of an app have been handed on.
type appHead struct {
	mu   sync.Mutex
	head head // guarded by mu
	// revision is that of head, for those who do not wait.
	revision atomic.Int64
}

// move notes how far the commits have been handed on. h is locked.
func (h *appHead) move(to head) {
	h.head = to
	h.revision.Store(to.revision)
}

func (c *cluster) app(id directory.AppID) *appHead {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.apps[id]
	if h == nil {
		h = &appHead{}
		c.apps[id] = h
	}
	return h
}

// handedOn returns the last revision of an app that has been handed on.
func (c *cluster) handedOn(id directory.AppID) int64 {
	return c.app(id).revision.Load()
}

// subscribe hears the others, until the returned function is called.
func (c *cluster) subscribe() (unsubscribe func(), err error) {
	if c.Bus == nil {
		return func() {}, nil
	}
	return c.Bus.Subscribe(subjects, bus.Subscriber{Message: c.hear, Missed: func() { c.lookAtAll("") }})
}

// hear takes a message of another server.
func (c *cluster) hear(subject string, message []byte) {
	switch subject {
	case subjectJoined:
		select {
		case c.beatNow <- struct{}{}:
		default: // it is awake
		}
	case subjectCommitted:
		c.mu.Lock()
		c.dirty[directory.AppID(message)] = struct{}{}
		c.mu.Unlock()
		c.wakeUp()
	case subjectApply:
		c.lookAtAll(string(message))
	case subjectApplied:
		if len(message) < questionLength {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case c.answers[string(message[:questionLength])] <- string(message[questionLength:]):
		default: // nobody waits, or it knows
		}
	}
}

func (c *cluster) publish(subject, message string) {
	if c.Bus != nil {
		_ = c.Bus.Publish(subject, []byte(message)) // the next beat does without
	}
}

func (c *cluster) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
}

// lookAtAll has the heads of all apps compared with what was handed on. A question is answered then.
func (c *cluster) lookAtAll(question string) {
	c.mu.Lock()
	c.look = true
	if question != "" {
		c.asked = append(c.asked, question)
	}
	c.mu.Unlock()
	c.wakeUp()
}

// follow hands on what others commit, until ctx ends.
func (c *cluster) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		dirty, asked, look := c.dirty, c.asked, c.look
		c.dirty, c.asked, c.look = map[directory.AppID]struct{}{}, nil, false
		c.mu.Unlock()
		if c.engine.held() == nil {
			continue // joining begins with a look at all
		}
		if look {
			at, err := c.compare(ctx, false)
			if err != nil {
				continue // the next beat looks again, and whoever asks looks in the database
			}
			c.applied.Store(&at)
			for _, question := range asked {
				c.publish(subjectApplied, question+c.Server)
			}
			continue
		}
		for app := range dirty {
			_ = c.catchUp(ctx, app) // the next beat looks again
		}
	}
}

// compare hands on what others have committed to any app, and returns the moment before which everything is. A server
// that has nothing in memory yet begins there.
func (c *cluster) compare(ctx context.Context, begin bool) (at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, longestTransaction)
	defer cancel()
	// The moment is before the snapshot in which the heads are read.
	if err := c.pool.QueryRow(ctx, `SELECT statement_timestamp()`).Scan(&at); err != nil {
		return at, err
	}
	heads := map[directory.AppID]head{}
	rows, err := c.pool.Query(ctx, `SELECT app, revision, version FROM revisions`)
	if err != nil {
		return at, err
	}
	var app string
	var found head
	_, err = pgx.ForEachRow(rows, []any{&app, &found.revision, &found.version}, func() error {
		heads[directory.AppID(app)] = found
		return nil
	})
	if err != nil {
		return at, err
	}
	for app, found := range heads {
		h := c.app(app)
		h.mu.Lock()
		if begin {
			h.move(found)
		}
		behind := h.head.revision < found.revision
		h.mu.Unlock()
		if behind {
			if err := c.catchUp(ctx, app); err != nil {
				return at, err
			}
		}
	}
	return at, nil
}

// catchUp hands on what others have committed to an app.
func (c *cluster) catchUp(ctx context.Context, app directory.AppID) error {
	h := c.app(app)
	h.mu.Lock() // a commit of our own waits for its turn, or is handed on before
	defer h.mu.Unlock()
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // a connection still in a transaction is thrown away
	q := &pgQuerier{
		ctx: ctx, conn: conn, texts: &c.engine.texts,
		pending: []heldStatement{{sql: `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`}},
	}
	t := &tx{querier: q}
	found, err := t.head(app)
	if err != nil {
		return err
	}
	if err := c.handOn(t, app, h, found); err != nil {
		return err
	}
	return q.end(`COMMIT`)
}

// handOn hands on what is between a head and the one that was found, read in the transaction in which it was. h is
// locked.
func (c *cluster) handOn(t *tx, app directory.AppID, h *appHead, found head) error {
	for h.head.revision < found.revision {
		commit, err := directory.ReadCommit(t, app, h.head.revision, readAtOnce)
		if err != nil {
			return err
		}
		if len(commit.Changes) == 0 || commit.Changes[0].Revision != h.head.revision+1 { // the app was purged, and its log with it
			c.tell(directory.Commit{App: app, Revision: h.head.revision, Version: found.version, Gone: true})
		}
		if len(commit.Changes) > 0 {
			commit.Version = found.version
			c.tell(commit)
		}
		h.move(head{commit.Revision, h.head.version})
	}
	h.move(head{h.head.revision, max(h.head.version, found.version)})
	return nil
}

// enter hands on what others have committed to an app that a batch has locked, so that the batch's own commit comes
// behind it. The returned app is to be left when the batch is over.
// Of what is known, what the others may have changed is forgotten.
func (c *cluster) enter(t *tx, app directory.AppID, found head, known known) (*appHead, error) {
	h := c.app(app)
	h.mu.Lock()
	if h.head != found {
		known.forget()
	}
	if err := c.handOn(t, app, h, found); err != nil {
		h.mu.Unlock()
		return nil, err
	}
	return h, nil
}

// leave ends what enter began. left is where the log is, as far as anybody knows.
func (h *appHead) leave(left head) {
	h.move(left)
	h.mu.Unlock()
}

// questionLength is how many bytes a question has.
const questionLength = 26

// everywhere returns when every other server has applied what was committed before, or has no lease any more.
func (c *cluster) everywhere(ctx context.Context) error {
	if c.isAlone() {
		return nil
	}
	question := rand.Text()
	answers := make(chan string, 64)
	c.mu.Lock()
	c.answers[question] = answers
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.answers, question)
	}()
	missing := slices.Clone(*c.peers.Load())
	without := func(server string) {
		missing = slices.DeleteFunc(missing, func(peer Peer) bool { return peer.Server == server })
	}
	c.publish(subjectApply, question)
	ask := time.NewTicker(askApplied)
	defer ask.Stop()
	var since time.Time
	for len(missing) > 0 {
		select {
		case server := <-answers:
			without(server)
		case <-ask.C:
			now, behind, err := c.behind(ctx, since)
			if err != nil {
				return postgresError(ctx, "wait for the other servers", err)
			}
			if since.IsZero() {
				since = now
				continue
			}
			missing = slices.DeleteFunc(missing, func(peer Peer) bool { return !slices.Contains(behind, peer.Epoch) })
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// behind returns the epochs of those with a lease who have not applied what was committed before a moment, and the
// database's time.
func (c *cluster) behind(ctx context.Context, since time.Time) (now time.Time, behind []int64, err error) {
	if err := c.pool.QueryRow(ctx, `SELECT statement_timestamp()`).Scan(&now); err != nil {
		return now, nil, err
	}
	rows, err := c.pool.Query(
		ctx, `SELECT epoch FROM servers WHERE lease_until > statement_timestamp() AND applied_at < $1`, since,
	)
	if err != nil {
		return now, nil, err
	}
	behind, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	return now, behind, err
}

// CatchUp implements directory.Store.
func (s *Store) CatchUp(ctx context.Context, app directory.AppID, revision int64) error {
	if c := s.shared(); c != nil && c.handedOn(app) < revision {
		return explain(postgresError(ctx, "catch up with the other servers", c.catchUp(ctx, app)))
	}
	return nil
}

// Current implements directory.Store.
func (s *Store) Current() error {
	if e, ok := s.engine.(*postgres); ok && e.held() == nil {
		return explain(errNoLease)
	}
	return nil
}

// Everywhere implements directory.Store.
func (s *Store) Everywhere(ctx context.Context) error {
	if e, ok := s.engine.(*postgres); ok && e.cluster != nil {
		return explain(e.cluster.everywhere(ctx))
	}
	return nil
}
