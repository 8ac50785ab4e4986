package directory

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/rollcall/rollcall/internal/searchtext"
	"github.com/rollcall/rollcall/internal/userindex"
)

const (
	// indexPatience is how long a list waits for an index that is being made.
	indexPatience = 5 * time.Second
	// unusedFor is after how many seconds the index of an app is dropped that nobody has listed.
	unusedFor = 3600
)

// indexes are the indexes of the apps in use, which answer every list. An index is made when it is first needed, by
// reading the table once, and follows every commit from then on.
type indexes struct {
	dir *Directory
	// indexed is told of every index that was made, or could not be.
	indexed func(app AppID, users int, took time.Duration, err error)

	mu   sync.RWMutex
	apps map[AppID]*appIndex // guarded by mu

	// building are the goroutines that make indexes, until running ends.
	building sync.WaitGroup
	running  context.Context //nolint:containedctx // it ends with the directory
	stop     context.CancelFunc
}

// appIndex is the index of one app.
type appIndex struct {
	app  AppID
	used atomic.Int64 // in Unix seconds

	mu      sync.Mutex
	current *builtIndex // guarded by mu; nil until there is one
	next    *build      // guarded by mu; nil while none is being made
	// doubted are users of whom it is not known whether commits have changed them. Guarded by mu.
	doubted map[UID]struct{}
}

// builtIndex is an index with the metadata keys that it holds values of.
type builtIndex struct {
	*userindex.Index
	keys []string
}

// build is the making of an index.
type build struct {
	read atomic.Int64 // how many users
	done chan struct{}
	err  error    // may be read when done
	late []Commit // what was committed meanwhile; guarded by the mu of its app
}

func newIndexes(dir *Directory, indexed func(AppID, int, time.Duration, error)) *indexes {
	x := &indexes{dir: dir, indexed: indexed, apps: map[AppID]*appIndex{}}
	x.running, x.stop = context.WithCancel(context.Background())
	return x
}

// close ends the making of indexes, and waits for that.
func (x *indexes) close() {
	x.stop()
	x.building.Wait()
}

func (x *indexes) of(app AppID) *appIndex {
	x.mu.RLock()
	a := x.apps[app]
	x.mu.RUnlock()
	if a != nil {
		return a
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if a = x.apps[app]; a == nil {
		a = &appIndex{app: app}
		x.apps[app] = a
	}
	return a
}

// get returns the index of an app, which holds every commit that was answered before. Errors: CodeOperationFailed while
// it is being made.
func (x *indexes) get(ctx context.Context, app AppID) (*builtIndex, error) {
	a := x.of(app)
	a.used.Store(x.dir.Now())
	for {
		a.mu.Lock()
		current, next, doubted := a.current, a.next, len(a.doubted) > 0
		if current == nil && next == nil {
			next = x.buildLocked(a)
		}
		a.mu.Unlock()
		switch {
		case doubted:
			if err := x.settle(ctx, a); err != nil {
				return nil, err
			}
		case current != nil:
			return current, nil
		default:
			if err := next.await(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// await waits until an index is made.
func (b *build) await(ctx context.Context) error {
	late := time.NewTimer(indexPatience)
	defer late.Stop()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		failure := fail(CodeOperationFailed, "The users are being read, so that they can be listed: %d so far. Try again.",
			b.read.Load())
		failure.RetryAfter = time.Second
		return failure
	}
}

// buildLocked begins to make the index of an app anew, whose mu is held.
func (x *indexes) buildLocked(a *appIndex) *build {
	b := &build{done: make(chan struct{})}
	a.next = b
	x.building.Go(func() {
		began := time.Now()
		built, err := x.read(a.app, b)
		if x.running.Err() == nil {
			x.indexed(a.app, int(b.read.Load()), time.Since(began), err)
		}
		x.install(a, b, built, err)
	})
	return b
}

// read makes an index of the table as one snapshot has it.
func (x *indexes) read(app AppID, b *build) (built *builtIndex, err error) {
	err = x.dir.store.View(x.running, func(tx Reader) error {
		b.read.Store(0)
		row, _, err := tx.App(app)
		if err != nil {
			return err
		}
		revision, err := tx.Revision(app)
		if err != nil {
			return err
		}
		keys := row.Settings.MetadataKeys
		index, err := b.readUsers(tx, app, keys)
		if err != nil {
			return err
		}
		index.Apply(func(w *userindex.Writer) { w.SetRevision(revision) })
		built = &builtIndex{index, keys}
		return nil
	})
	return built, err
}

// readAtOnce is how many users are handed from who reads them to who puts them into an index.
const readAtOnce = 500

// readUsers makes an index of all users of an app: one reads the table, and another one makes of it what is listed.
func (b *build) readUsers(tx Reader, app AppID, keys []string) (index *userindex.Index, err error) {
	read := make(chan []User, 4)
	var building sync.WaitGroup
	building.Go(func() {
		index, err = userindex.Build(searchtext.AppendWordStarts, func(yield func(userindex.User, error) bool) {
			for users := range read {
				for i := range users {
					yield(indexed(&users[i], keys), nil) // which takes all
				}
				b.read.Add(int64(len(users)))
			}
		})
	})
	var users []User
	failed := tx.EachUser(app, len(keys) > 0, func(user User) error {
		if users = append(users, user); len(users) == readAtOnce {
			read <- users
			users = make([]User, 0, readAtOnce)
		}
		return nil
	})
	read <- users
	close(read)
	building.Wait()
	if failed != nil {
		return nil, failed
	}
	return index, err
}

// install puts an index into use that was read, with what was committed meanwhile.
func (x *indexes) install(a *appIndex, b *build, built *builtIndex, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(b.done)
	if a.next != b {
		return // nobody knows whether it is right: those who wait look again
	}
	a.next = nil
	if b.err = err; err != nil {
		return
	}
	for _, commit := range b.late {
		built.apply(commit)
	}
	x.dir.online.of(a.app).follow(built.Index)
	a.current = built
	for _, commit := range b.late {
		if commit.AppRow != nil && !slices.Equal(commit.AppRow.Settings.MetadataKeys, built.keys) {
			x.buildLocked(a)
			return
		}
	}
}

// apply brings the index of an app up to a commit.
func (x *indexes) apply(commit Commit) {
	x.mu.RLock()
	a := x.apps[commit.App]
	x.mu.RUnlock()
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case commit.Gone:
		x.dropLocked(a)
		return
	case commit.Uncertain:
		if a.doubted == nil {
			a.doubted = map[UID]struct{}{}
		}
		for _, change := range commit.Users {
			a.doubted[change.UID] = struct{}{}
		}
		return
	}
	if a.next != nil {
		a.next.late = append(a.next.late, commit)
	}
	if a.current == nil {
		return
	}
	a.current.apply(commit)
	x.dir.online.of(a.app).tellAgain(commit.Users)
	if commit.AppRow != nil && a.next == nil && !slices.Equal(commit.AppRow.Settings.MetadataKeys, a.current.keys) {
		x.buildLocked(a)
	}
}

// settle finds out about users of whom it is not known whether commits have changed them: it writes them as they are,
// which waits until that is decided.
func (x *indexes) settle(ctx context.Context, a *appIndex) error {
	a.mu.Lock()
	var uids []UID
	for uid := range a.doubted {
		uids = append(uids, uid)
	}
	a.mu.Unlock()
	err := x.dir.store.Update(ctx, a.app, uids, func(tx Writer) error {
		users, err := tx.UsersNamed(a.app, uids)
		if err != nil {
			return err
		}
		there := map[UID]bool{}
		for _, user := range users {
			there[user.UID] = true
			if err := tx.PutUser(a.app, user); err != nil {
				return err
			}
		}
		for _, uid := range uids {
			if there[uid] {
				continue
			}
			if err := tx.DeleteUser(a.app, uid); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, uid := range uids {
		delete(a.doubted, uid)
	}
	return nil
}

// dropLocked forgets the index of an app, whose mu is held.
func (x *indexes) dropLocked(a *appIndex) {
	a.current, a.next, a.doubted = nil, nil, nil
	x.dir.online.of(a.app).follow(nil)
}

// dropAll forgets every index, because the store may have changed behind them.
func (x *indexes) dropAll() {
	x.drop(func(*appIndex) bool { return true })
}

// dropUnused forgets the indexes that nobody has used for long.
func (x *indexes) dropUnused(now int64) {
	x.drop(func(a *appIndex) bool { return a.used.Load()+unusedFor < now })
}

func (x *indexes) drop(wanted func(*appIndex) bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, a := range x.apps {
		if wanted(a) {
			a.mu.Lock()
			x.dropLocked(a)
			a.mu.Unlock()
		}
	}
}

// apply brings an index up to a commit.
func (x *builtIndex) apply(commit Commit) {
	if len(commit.Users) == 0 && commit.Revision == 0 {
		return
	}
	x.Apply(func(w *userindex.Writer) {
		for i := range commit.Users {
			switch change := &commit.Users[i]; {
			case change.Gone:
				w.Delete(string(change.UID))
			case change.User != nil:
				w.Put(indexed(change.User, x.keys))
			default:
				w.SetActive(string(change.UID), change.LastActiveAt)
			}
		}
		w.SetRevision(commit.Revision)
	})
}

// indexed returns what an index holds of a user.
func indexed(user *User, keys []string) userindex.User {
	entry := userindex.User{
		UID: string(user.UID), Name: beginning(searchtext.Fold(user.Name)), Created: user.CreatedAt,
		Changed: user.changedAt(),
		Active:  user.LastActiveAt, Deactivated: user.DeactivatedAt != 0,
		Terms: make([]userindex.Term, 1, 1+len(user.Tags)),
	}
	entry.Terms[0] = userindex.Term{Kind: roleTerm, Value: user.Role}
	for _, tag := range user.Tags {
		if term := tagged(tag); !slices.Contains(entry.Terms, term) { // two spellings of one
			entry.Terms = append(entry.Terms, term)
		}
	}
	entry.Terms = append(entry.Terms, metadataTerms(user.Metadata, keys)...)
	return entry
}

// beginning cuts a text off where the index would: nobody has such a name.
func beginning(text string) string { return text[:min(len(text), math.MaxUint16)] }

func tagged(tag string) userindex.Term {
	return userindex.Term{Kind: tagTerm, Value: norm.NFC.String(tag)}
}

// MetadataKeysIndexing returns those of the keys that an app declares by which lists cannot be filtered yet, since the
// users are being read again.
func (d *Directory) MetadataKeysIndexing(app AppID, declared []string) (indexing []string) {
	a := d.indexes.of(app)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == nil {
		return nil // the first list waits
	}
	for _, key := range declared {
		if !slices.Contains(a.current.keys, key) {
			indexing = append(indexing, key)
		}
	}
	return indexing
}

// AwaitIndex returns when lists of an app can be answered, by all the keys that it declares.
func (d *Directory) AwaitIndex(ctx context.Context, app AppID) error {
	a := d.indexes.of(app)
	a.used.Store(d.Now())
	for {
		a.mu.Lock()
		next := a.next
		if next == nil && a.current == nil {
			next = d.indexes.buildLocked(a)
		}
		a.mu.Unlock()
		if next == nil {
			return nil
		}
		select {
		case <-next.done:
			if next.err != nil {
				return next.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// IndexProgress tells in words which apps' users are being read so that they can be listed; empty when none are.
func (d *Directory) IndexProgress() (progress []string) {
	d.indexes.mu.RLock()
	defer d.indexes.mu.RUnlock()
	for app, a := range d.indexes.apps {
		a.mu.Lock()
		if a.current == nil && a.next != nil {
			progress = append(progress, fmt.Sprintf("%d users of app %s are read", a.next.read.Load(), app))
		}
		a.mu.Unlock()
	}
	return progress
}

// IndexSize returns how many users are held in memory so that they can be listed, and about how many bytes that takes.
func (d *Directory) IndexSize() (users int, bytes int64) {
	for _, index := range d.indexes.built() {
		users += index.Len()
		bytes += index.Memory()
	}
	return users, bytes
}

// built returns all indexes that are in use.
func (x *indexes) built() (built []*builtIndex) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, a := range x.apps {
		a.mu.Lock()
		if a.current != nil {
			built = append(built, a.current)
		}
		a.mu.Unlock()
	}
	return built
}
