package directory

import "context"

// Store keeps the data of all apps. Every engine passes internal/storetest.
type Store interface {
	// View runs fn on a consistent snapshot that holds every update answered before. What fn returns is returned. fn
	// must not wait for an Update: that could wait for this view to end. fn may be run a second time, after which nothing of
	// the first may be left.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn in a transaction that is durable before Update returns nil. Updates of one app run one after
	// another, so what fn reads stays true until it commits. When fn returns an error, nothing it wrote is kept and
	// the error is returned as it is. fn may run more than once, and must not have effects outside the transaction
	// but for setting variables it always sets.
	//
	// Many callers' updates are committed together. When the commit fails, none of them has happened and each gets
	// an error; when the database goes away during the commit, all or none may have happened, and the error says so. reads
	// names users that fn is going to read: the store may fetch them in advance for many updates at once. It may be nil. An
	// update whose ctx ends before fn runs, or leaves too little time for it, does not happen; once fn runs, Update waits for the
	// outcome. A database that does not answer is given up in time to answer before a deadline of ctx.
	Update(ctx context.Context, app AppID, reads []UID, fn func(Tx) error) error
}

// Tx reads and writes rows. It decides nothing: the rules are checked before. It is valid until its function
// returns, and is for one goroutine. Reads that find nothing return false, not an error. The context of the View or
// Update that made it bounds every call.
type Tx interface {
	AppRows
	UserRows
	RelationRows
	TokenRows
	KeyRows
	RoleRows
	ChangeRows
	TombstoneRows
	IdempotencyRows
	ActivityRows
	PresenceRows
}

// AppRows are the apps of the server and the people who manage them.
type AppRows interface {
	App(app AppID) (App, bool, error)
	// Apps lists all apps, newest first.
	Apps() ([]App, error)
	CountApps() (int, error)
	PutApp(App) error
	// DeleteApp removes an app and every row of it but its tombstones.
	DeleteApp(app AppID) error
	// Collaborators lists the collaborators of an app, oldest first.
	Collaborators(app AppID) ([]Collaborator, error)
	PutCollaborator(AppID, Collaborator) error
	DeleteCollaborator(app AppID, email string) error
}

// UserRows are the users of an app.
type UserRows interface {
	User(app AppID, uid UID) (User, bool, error)
	// Users lists the users that match, in the query's order.
	Users(UserQuery) ([]User, error)
	// UserPage lists the users that match, and counts all of them, whatever After and Offset say.
	UserPage(UserQuery) (users []User, total int, err error)
	CountUsers(UserQuery) (int, error)
	// PutUser fails for another app than the one that is updated.
	PutUser(AppID, User) error
	// PutUserTags replaces the tags under which Users finds a user.
	PutUserTags(app AppID, uid UID, tags []string) error
	// MoveUserTerms changes the terms under which Users finds a user beside its name and uid.
	MoveUserTerms(app AppID, uid UID, from, to []string) error
	// MoveUserMetadata changes the values of declared metadata keys under which Users finds a user.
	MoveUserMetadata(app AppID, uid UID, from, to []MetadataValue) error
	// DeleteMetadataValues removes at most limit values of a key from the index, and returns how many.
	DeleteMetadataValues(app AppID, key string, limit int) (int, error)
	// DeleteUser removes a user and everything that hangs on it but its terms and metadata values: tags, blocks, friends, auth tokens and
	// activity.
	DeleteUser(app AppID, uid UID) error
}

// RelationRows are who has blocked whom, who are friends, and who has asked to be.
type RelationRows interface {
	// Relations returns what is between a user and others. Those without any relation are left out; some who were not asked
	// for may be there.
	Relations(app AppID, of UID, others []UID) (map[UID]Relation, error)
	PutBlock(app AppID, uid, blocked UID, at int64) error
	DeleteBlock(app AppID, uid, blocked UID) error
	// CountBlocks counts those whom a user has blocked.
	CountBlocks(app AppID, uid UID) (int, error)
	// PutFriends makes two users friends of each other.
	PutFriends(app AppID, a, b UID, at int64) error
	DeleteFriends(app AppID, a, b UID) error
	CountFriends(app AppID, uid UID) (int, error)
	// FriendRequest returns when a user asked another.
	FriendRequest(app AppID, uid, receiver UID) (at int64, found bool, err error)
	PutFriendRequest(app AppID, uid, receiver UID, at int64) error
	DeleteFriendRequest(app AppID, uid, receiver UID) error
	// Pairs lists the relations of a kind in the order of their uids, from behind a pair on. A friendship is listed once,
	// with the lower uid first.
	Pairs(app AppID, kind PairKind, after Pair, limit int) ([]Pair, error)
	// PairsOf lists the relations of a kind that a user is part of.
	PairsOf(app AppID, kind PairKind, uid UID) ([]Pair, error)
	// CountFriendRequests counts those whom a user has asked and who have not answered.
	CountFriendRequests(app AppID, uid UID) (int, error)
}

// TokenRows are the auth tokens of users.
type TokenRows interface {
	Token(app AppID, uid UID, hash []byte) (Token, bool, error)
	TokenByID(app AppID, id TokenID) (Token, bool, error)
	// Tokens lists the tokens of a user, newest first.
	Tokens(app AppID, uid UID, limit, offset int) ([]Token, error)
	CountTokens(app AppID, uid UID) (int, error)
	// CountTokensIssued counts the tokens of all users that were issued in [from, before).
	CountTokensIssued(app AppID, from, before int64) (int, error)
	PutToken(AppID, Token) error
	DeleteToken(app AppID, id TokenID) error
	// DeleteTokens removes the tokens of a user that were issued before a time, and returns their ids.
	DeleteTokens(app AppID, uid UID, before int64) ([]TokenID, error)
	// DeleteTokensIssued removes at most limit tokens of all users that were issued before a time, and returns how many.
	DeleteTokensIssued(app AppID, before int64, limit int) (int, error)
	// DeleteTokensOfKey removes the tokens that an API key minted, and returns how many there were.
	DeleteTokensOfKey(app AppID, key KeyID) (int, error)
	// TokensAfter lists tokens of all users in the order of their ids, from after an id on.
	TokensAfter(app AppID, after TokenID, limit int) ([]Token, error)
}

// KeyRows are the API keys of an app: few, so they are read whole.
type KeyRows interface {
	// Keys lists the keys of an app, newest first.
	Keys(app AppID) ([]Key, error)
	PutKey(AppID, Key) error
	DeleteKey(app AppID, id KeyID) error
}

// RoleRows are the roles of an app: few, so they are read whole.
type RoleRows interface {
	Role(app AppID, role string) (Role, bool, error)
	// Roles lists the roles of an app, oldest first.
	Roles(app AppID) ([]Role, error)
	PutRole(AppID, Role) error
	DeleteRole(app AppID, role string) error
}

// ChangeRows are the change log.
type ChangeRows interface {
	// AppendChange gives the change the app's next revision and returns it.
	AppendChange(app AppID, change Change) (int64, error)
	// Changes lists changes with a revision above since, in order.
	Changes(app AppID, since int64, limit int) ([]Change, error)
	// ChangesAbout lists the changes about a user and, of pairs, those with it, in order.
	ChangesAbout(app AppID, uid UID, limit int) ([]Change, error)
	// Revision returns the last revision of an app, 0 before the first change.
	Revision(app AppID) (int64, error)
	// EraseChange puts pseudonym in the place of the subject of one change.
	EraseChange(app AppID, revision int64, pseudonym string) error
	// EraseChanges takes a user's uid out of the change log, putting pseudonym in its place. The row with revision
	// keep is left as it is.
	EraseChanges(app AppID, uid UID, pseudonym string, keep int64) error
}

// TombstoneRows remember permanent deletions without remembering who was deleted.
type TombstoneRows interface {
	PutTombstone(Tombstone) error
	// Tombstones lists all tombstones, oldest first.
	Tombstones() ([]Tombstone, error)
	// TombstonesWithNotice lists tombstones made before a time whose notice is still in the change log.
	TombstonesWithNotice(before int64, limit int) ([]Tombstone, error)
}

// IdempotencyRows remember the first answer given under an idempotency key.
type IdempotencyRows interface {
	Answer(app AppID, key []byte) (Answer, bool, error)
	// PutAnswer keeps an answer that tells something about the given users.
	PutAnswer(AppID, Answer, []UID) error
	// AnswersAfter lists answers in the order of their keys, from after a key on.
	AnswersAfter(app AppID, after []byte, limit int) ([]Answer, error)
	// DeleteAnswersAbout forgets the answers that tell something about a user.
	DeleteAnswersAbout(app AppID, uid UID) error
	// DeleteAnswers forgets at most limit answers given before a time and returns how many it forgot.
	DeleteAnswers(app AppID, before int64, limit int) (int, error)
}

// ActivityRows count the users who logged in, by day.
type ActivityRows interface {
	// Active reports whether the user's login on that day is recorded.
	Active(app AppID, day int64, uid UID) (bool, error)
	PutActive(app AppID, day int64, uid UID) error
	// CountActive counts the distinct users with a login on a day in [from, to].
	CountActive(app AppID, from, to int64) (int, error)
}

// PresenceRows are what outlives the sessions of users.
type PresenceRows interface {
	// PutOnline notes that a user is online, and DeleteOnline that it is not any more.
	PutOnline(app AppID, uid UID) error
	DeleteOnline(app AppID, uid UID) error
	// Online lists users who are noted as online, in no order.
	Online(app AppID, limit int) ([]UID, error)
	// PutAlive notes when, in Unix seconds, the server was alive. Alive returns the last note, 0 for none.
	PutAlive(app AppID, at int64) error
	Alive(app AppID) (at int64, err error)
	// AddTransitions appends to the timeline of a user.
	AddTransitions(app AppID, uid UID, transitions []Transition) error
	// TrimTransitions removes from the timeline of a user what is from before a time in Unix milliseconds, and of a device
	// what is older than the newest kept.
	TrimTransitions(app AppID, uid UID, device string, kept int, before int64) error
	// Transitions returns the timeline of a user, latest first.
	Transitions(app AppID, uid UID) ([]Transition, error)
}
