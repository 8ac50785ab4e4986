package directory

import "context"

// Store keeps the data of all apps: rows by key. Every engine passes internal/storetest.
type Store interface {
	// View runs fn on a consistent snapshot that holds every update answered before. What fn returns is returned. fn
	// must not wait for an Update: that could wait for this view to end. fn may be run a second time, after which nothing
	// of the first may be left.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in a transaction that is durable before Update returns nil. Updates of one app run one after
	// another, so what fn reads stays true until it commits. When fn returns an error, nothing it wrote is kept and
	// the error is returned as it is. fn may run more than once, and must not have effects outside the transaction
	// but for setting variables it always sets.
	//
	// Many callers' updates are committed together. When the commit fails, none of them has happened and each gets
	// an error; when the database goes away during the commit, all or none may have happened, and the error says so.
	// reads names users that fn is going to read: the store may fetch them in advance for many updates at once. It may be
	// nil. An update whose ctx ends before fn runs, or leaves too little time for it, does not happen; once fn runs,
	// Update waits for the outcome. A database that does not answer is given up in time to answer before a deadline of
	// ctx.
	Update(ctx context.Context, app AppID, reads []UID, fn func(Writer) error) error
	// Follow adds a function that is called with every commit from now on, in order for each app, before anybody is
	// answered who waits for it. fn must not wait for the store.
	Follow(fn func(Commit))
	// Everywhere returns when every server that shares the store has followed what was committed before, or may not use
	// what it remembers any more.
	Everywhere(ctx context.Context) error
	// CatchUp returns when everything that was committed to an app up to a revision has been followed. One that there is
	// not yet is not waited for.
	CatchUp(ctx context.Context, app AppID, revision int64) error
	// Current tells why what was followed may not be used: others may have written since. It is nil as a rule.
	Current() error
}

// Commit is what one durable transaction did to an app.
type Commit struct {
	App AppID
	// Revision is the last of the app's change log, and Version a number that every commit raises by one.
	Revision, Version int64
	// Changes are what it appended to the change log, in order.
	Changes []Change
	// Users are what became of users, in the order in which it was done.
	Users []UserChange
	// AppRow is the app when it was changed itself. Gone says that it was purged, before what Users says.
	AppRow *App
	Gone   bool
	// Uncertain says that it is not known whether this has happened. The next update of the app waits until that is
	// settled.
	Uncertain bool
}

// UserChange is what became of a user.
type UserChange struct {
	UID UID
	// User is the user from then on. It is nil when the user is Gone, or when only LastActiveAt was changed.
	User         *User
	LastActiveAt int64
	Gone         bool
}

// Reader reads rows. It is valid until its function returns, and is for one goroutine. Reads that find nothing return
// false, not an error. The context of the View or Update that made it bounds every call.
type Reader interface {
	AppReader
	UserReader
	RelationReader
	TokenReader
	KeyReader
	RoleReader
	ChangeReader
	TombstoneReader
	IdempotencyReader
	ActivityReader
	PresenceReader
}

// Writer reads and writes rows. It decides nothing: the rules are checked before.
type Writer interface {
	Reader
	AppWriter
	UserWriter
	RelationWriter
	TokenWriter
	KeyWriter
	RoleWriter
	ChangeWriter
	TombstoneWriter
	IdempotencyWriter
	ActivityWriter
	PresenceWriter
}

// AppReader reads the apps of the server and the people who manage them.
type AppReader interface {
	App(app AppID) (App, bool, error)
	// Apps lists all apps, newest first.
	Apps() ([]App, error)
	CountApps() (int, error)
	// Collaborators lists the collaborators of an app, oldest first.
	Collaborators(app AppID) ([]Collaborator, error)
}

// AppWriter writes them.
type AppWriter interface {
	PutApp(App) error
	// DeleteApp removes an app and every row of it but its tombstones.
	DeleteApp(app AppID) error
	PutCollaborator(AppID, Collaborator) error
	DeleteCollaborator(app AppID, email string) error
}

// UserReader reads the users of an app.
type UserReader interface {
	User(app AppID, uid UID) (User, bool, error)
	// UsersNamed returns those of the users that exist, in the order of uids, each of which is given once.
	UsersNamed(app AppID, uids []UID) ([]User, error)
	// UsersAfter lists users in the order of their uids, from after a uid on.
	UsersAfter(app AppID, after UID, limit int) ([]User, error)
	// EachUser calls each for every user of an app, in no order, with what the index needs: uid, name, role, tags, times,
	// and when it is asked for, metadata. An error of each ends it.
	EachUser(app AppID, metadata bool, each func(User) error) error
}

// UserWriter writes them.
type UserWriter interface {
	// PutUser fails for another app than the one that is updated, as the others that change users do.
	PutUser(AppID, User) error
	// PutLastActive notes when a user was last active who exists.
	PutLastActive(app AppID, uid UID, at int64) error
	// DeleteUser removes a user and everything that hangs on it: blocks, friends, auth tokens, activity and presence.
	DeleteUser(app AppID, uid UID) error
}

// RelationReader reads who has blocked whom, who are friends, and who has asked to be.
type RelationReader interface {
	// Relations returns what is between a user and others. Those without any relation are left out; some who were not
	// asked for may be there.
	Relations(app AppID, of UID, others []UID) (map[UID]Relation, error)
	// CountBlocks counts those whom a user has blocked.
	CountBlocks(app AppID, uid UID) (int, error)
	CountFriends(app AppID, uid UID) (int, error)
	// FriendRequest returns when a user asked another.
	FriendRequest(app AppID, uid, receiver UID) (at int64, found bool, err error)
	// Pairs lists the relations of a kind in the order of their uids, from behind a pair on. A friendship is listed once,
	// with the lower uid first.
	Pairs(app AppID, kind PairKind, after Pair, limit int) ([]Pair, error)
	// PairsOf lists the relations of a kind that a user is part of.
	PairsOf(app AppID, kind PairKind, uid UID) ([]Pair, error)
	// CountFriendRequests counts those whom a user has asked and who have not answered.
	CountFriendRequests(app AppID, uid UID) (int, error)
}

// RelationWriter writes them.
type RelationWriter interface {
	PutBlock(app AppID, uid, blocked UID, at int64) error
	DeleteBlock(app AppID, uid, blocked UID) error
	// PutFriends makes two users friends of each other.
	PutFriends(app AppID, a, b UID, at int64) error
	DeleteFriends(app AppID, a, b UID) error
	PutFriendRequest(app AppID, uid, receiver UID, at int64) error
	DeleteFriendRequest(app AppID, uid, receiver UID) error
}

// TokenReader reads the auth tokens of users.
type TokenReader interface {
	Token(app AppID, uid UID, hash []byte) (Token, bool, error)
	TokenByID(app AppID, id TokenID) (Token, bool, error)
	// Tokens lists the tokens of a user, newest first.
	Tokens(app AppID, uid UID, limit, offset int) ([]Token, error)
	CountTokens(app AppID, uid UID) (int, error)
	// CountTokensIssued counts the tokens of all users that were issued in [from, before).
	CountTokensIssued(app AppID, from, before int64) (int, error)
	// TokensAfter lists tokens of all users in the order of their ids, from after an id on.
	TokensAfter(app AppID, after TokenID, limit int) ([]Token, error)
}

// TokenWriter writes them.
type TokenWriter interface {
	PutToken(AppID, Token) error
	DeleteToken(app AppID, id TokenID) error
	// DeleteTokensIssued removes at most limit tokens of all users that were issued before a time, and returns how many.
	DeleteTokensIssued(app AppID, before int64, limit int) (int, error)
	// DeleteTokensOfKey removes the tokens that an API key minted, and returns how many there were.
	DeleteTokensOfKey(app AppID, key KeyID) (int, error)
}

// KeyReader reads the API keys of an app: few, so they are read whole.
type KeyReader interface {
	// Keys lists the keys of an app, newest first.
	Keys(app AppID) ([]Key, error)
}

// KeyWriter writes them.
type KeyWriter interface {
	PutKey(AppID, Key) error
	DeleteKey(app AppID, id KeyID) error
}

// RoleReader reads the roles of an app: few, so they are read whole.
type RoleReader interface {
	Role(app AppID, role string) (Role, bool, error)
	// Roles lists the roles of an app, oldest first.
	Roles(app AppID) ([]Role, error)
}

// RoleWriter writes them.
type RoleWriter interface {
	PutRole(AppID, Role) error
	DeleteRole(app AppID, role string) error
}

// ChangeReader reads the change log.
type ChangeReader interface {
	// Changes lists changes with a revision above since, in order.
	Changes(app AppID, since int64, limit int) ([]Change, error)
	// ChangesAbout lists the changes of some kinds that have a subject or an object, with a revision above since, in
	// order.
	ChangesAbout(app AppID, subject string, kinds []Kind, since int64, limit int) ([]Change, error)
	// Revision returns the last revision of an app, 0 before the first change.
	Revision(app AppID) (int64, error)
}

// ChangeWriter writes them.
type ChangeWriter interface {
	// AppendChange gives the change the app's next revision and returns it.
	AppendChange(app AppID, change Change) (int64, error)
	// EraseChange puts pseudonym in the place of the subject of one change.
	EraseChange(app AppID, revision int64, pseudonym string) error
	// EraseChanges takes somebody out of the change log.
	EraseChanges(app AppID, erased ErasedChanges) error
}

// ErasedChanges says what in a change log becomes what: in changes of some Kinds with a Subject, also as their object,
// but for the one with revision Keep.
type ErasedChanges struct {
	Kinds               []Kind
	Subject, Becomes    string
	Actor, ActorBecomes Actor
	Keep                int64
}

// TombstoneReader reads what remembers permanent deletions without remembering who was deleted.
type TombstoneReader interface {
	// Tombstones lists all tombstones, oldest first.
	Tombstones() ([]Tombstone, error)
	// TombstonesWithNotice lists tombstones made before a time whose notice is still in the change log.
	TombstonesWithNotice(before int64, limit int) ([]Tombstone, error)
}

// TombstoneWriter writes them.
type TombstoneWriter interface {
	PutTombstone(Tombstone) error
}

// IdempotencyReader reads what remembers the first answer given under an idempotency key.
type IdempotencyReader interface {
	Answer(app AppID, key []byte) (Answer, bool, error)
	// AnswersAfter lists answers in the order of their keys, from after a key on.
	AnswersAfter(app AppID, after []byte, limit int) ([]Answer, error)
}

// IdempotencyWriter writes them.
type IdempotencyWriter interface {
	// PutAnswer keeps an answer that tells something about the given users.
	PutAnswer(AppID, Answer, []UID) error
	// DeleteAnswersAbout forgets the answers that tell something about a user.
	DeleteAnswersAbout(app AppID, uid UID) error
	// DeleteAnswers forgets at most limit answers given before a time and returns how many it forgot.
	DeleteAnswers(app AppID, before int64, limit int) (int, error)
}

// ActivityReader counts the users who logged in, by day.
type ActivityReader interface {
	// Active reports whether the user's login on that day is recorded.
	Active(app AppID, day int64, uid UID) (bool, error)
	// CountActive counts the distinct users with a login on a day in [from, to].
	CountActive(app AppID, from, to int64) (int, error)
}

// ActivityWriter writes them.
type ActivityWriter interface {
	PutActive(app AppID, day int64, uid UID) error
}

// PresenceReader reads what outlives the sessions of users.
type PresenceReader interface {
	// Online lists users who are noted as online, in no order.
	Online(app AppID, limit int) ([]UID, error)
	Alive(app AppID) (at int64, err error)
	// Transitions returns the timeline of a user, latest first.
	Transitions(app AppID, uid UID) ([]Transition, error)
}

// PresenceWriter writes them.
type PresenceWriter interface {
	// PutOnline notes that a user is online, and DeleteOnline that it is not any more.
	PutOnline(app AppID, uid UID) error
	DeleteOnline(app AppID, uid UID) error
	// PutAlive notes when, in Unix seconds, the server was alive. Alive returns the last note, 0 for none.
	PutAlive(app AppID, at int64) error
	// AddTransitions appends to the timeline of a user.
	AddTransitions(app AppID, uid UID, transitions []Transition) error
	// TrimTransitions removes from the timeline of a user what is from before a time in Unix milliseconds, and of a device
	// what is older than the newest kept.
	TrimTransitions(app AppID, uid UID, device string, kept int, before int64) error
}
