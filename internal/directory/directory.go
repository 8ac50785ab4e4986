// Package directory holds the rules of Rollcall: apps, users, roles and permissions, API keys, auth tokens, who may
// see whom, and the change log that every write appends to. It decides; it knows nothing of HTTP, SQL, files or the
// network, and reaches storage only through Store.
package directory

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"sync"
	"time"
)

// Secrets turns keys and tokens into what may be stored. Implementations are safe for concurrent use.
type Secrets interface {
	// Hash returns the keyed hash under which a new secret is stored.
	Hash(text string) []byte
	// Hashes returns every hash under which the secret may have been stored, the likeliest first.
	Hashes(text string) [][]byte
	// Seal encrypts text so that Open gives it back for the same context only.
	Seal(text, context string) []byte
	Open(sealed []byte, context string) (string, error)
	// SealedByCurrent reports whether sealed needs no re-encryption after a master key rotation.
	SealedByCurrent(sealed []byte) bool
}

// Config is what a Directory needs. Store and Secrets are required; everything else has a useful zero value.
type Config struct {
	Store   Store
	Secrets Secrets
	// Limits of names, lists and counts. Zero fields mean the contract's limits.
	Limits Limits
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Random is the source of keys, tokens and ids. Nil means crypto/rand.
	Random io.Reader
	// Erased is called with the tombstone of every permanent deletion, after it is durable and before it is
	// acknowledged. Nil means that nobody wants to know.
	Erased func(Tombstone)
	// Indexed is called when the users of an app have been read so that they can be listed, or could not be. Nil means
	// that nobody wants to know.
	Indexed func(app AppID, users int, took time.Duration, err error)
}

// Directory applies the rules to the data of all apps. It is safe for concurrent use.
type Directory struct {
	store   Store
	secrets Secrets
	limits  Limits
	now     func() time.Time
	erased  func(Tombstone)
	apps    *appCache
	logins  *logins
	online  *onlineUsers
	indexes *indexes
	ties    *tiesCache
	keyUses keyUses
	// sessions are told what forbids them.
	sessions Sessions

	randomMu sync.Mutex
	random   io.Reader // guarded by randomMu

	// makingApp has room for one: who makes an app.
	makingApp chan struct{}
}

// New returns a Directory over the given store, whose only follower it is. Close it before the store.
func New(config Config) *Directory {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Random == nil {
		config.Random = rand.Reader
	}
	if config.Erased == nil {
		config.Erased = func(Tombstone) {}
	}
	if config.Indexed == nil {
		config.Indexed = func(AppID, int, time.Duration, error) {}
	}
	d := &Directory{
		erased:   config.Erased,
		store:    config.Store,
		secrets:  config.Secrets,
		limits:   config.Limits.OrDefault(),
		now:      config.Now,
		random:   config.Random,
		apps:     newAppCache(),
		logins:   newLogins(),
		online:   newOnlineUsers(),
		ties:     newTiesCache(),
		sessions: noSessions{},

		makingApp: make(chan struct{}, 1),
	}
	d.indexes = newIndexes(d, config.Indexed)
	d.store.Follow(d.follow)
	return d
}

// closingWrites is how long Close waits for what it stores.
const closingWrites = 2 * time.Second

// Close stores when API keys were last used, ends what the directory does by itself, and waits for that.
func (d *Directory) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closingWrites)
	defer cancel()
	_ = d.storeKeyUses(ctx) // what is lost is a few minutes of it, as after a crash
	d.indexes.close()
}

// Limits returns the limits in force.
func (d *Directory) Limits() Limits { return d.limits }

// Now returns the directory's time, in Unix seconds.
func (d *Directory) Now() int64 { return d.now().Unix() }

// Time returns the directory's time. What is stored and told is stamped with it.
func (d *Directory) Time() time.Time { return d.now() }

// Forget drops what is held in memory, because the store may have changed behind it.
func (d *Directory) Forget() {
	d.apps.dropAll()
	d.logins.touchAll()
	d.ties.dropAll()
	d.indexes.dropAll()
}

// Check reports whether the store answers, for readiness.
func (d *Directory) Check(ctx context.Context) error {
	return d.store.View(ctx, func(tx Reader) error {
		_, err := tx.CountApps()
		return err
	})
}

// randomHex returns n random bytes as 2n lower-case hex digits.
func (d *Directory) randomHex(n int) string {
	raw := make([]byte, n)
	d.randomMu.Lock()
	defer d.randomMu.Unlock()
	if _, err := io.ReadFull(d.random, raw); err != nil {
		panic("random source failed: " + err.Error()) // crypto/rand never does; going on would make guessable secrets
	}
	return hex.EncodeToString(raw)
}

// Caller is on whose behalf a call is made.
type Caller struct {
	App AppID
	// Actor goes into the change log.
	Actor Actor
	// User is the acting user: the owner of the auth token. Empty for an API key.
	User UID
	// Token is the auth token the call was made with. Empty for an API key.
	Token TokenID
	// Key is the API key the call was made with. Empty for an auth token.
	Key KeyID
	// Private lets the caller see metadata["@private"]: a fullAccess key acting for nobody.
	Private bool
}

// hasAuthOnlyKey reports whether the call was made with an API key of scope authOnly.
func (c Caller) hasAuthOnlyKey() bool { return c.Key != "" && c.User == "" && !c.Private }

// System is the caller for what the server does by itself in an app.
func System(app AppID, task string) Caller {
	return Caller{App: app, Actor: Actor("system:" + task)}
}

// Operator is the caller for what is done to an app with the management credentials or on the server's machine.
func Operator(app AppID) Caller {
	return Caller{App: app, Actor: "operator"}
}

// Page selects a slice of a list.
type Page struct {
	// Number counts from 1. Zero means 1.
	Number int
	// Size is how many items a page holds. Zero means 100.
	Size int
}

func (p Page) orDefault() Page {
	if p.Number == 0 {
		p.Number = 1
	}
	if p.Size == 0 {
		p.Size = 100
	}
	return p
}

func (p Page) offset() int { return (p.Number - 1) * p.Size }

// List is one page of a list and the true number of items in all pages.
type List[T any] struct {
	Items []T
	Total int
	Page  Page
	// Next is the cursor behind the last item, for lists that can be walked; empty when there is no more.
	Next string
}

// PageOf cuts one page out of a list that is small enough to be held whole.
func PageOf[T any](all []T, page Page) List[T] {
	page = page.orDefault()
	from := min(page.offset(), len(all))
	to := min(from+page.Size, len(all))
	return List[T]{Items: all[from:to], Total: len(all), Page: page}
}
