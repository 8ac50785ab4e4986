package directory

import (
	"context"
	"slices"
	"time"
)

// Actor is who made a change: "key:<id>", "user:<uid>", "operator", or "system:<task>".
type Actor string

// Kind says what a change did.
type Kind string

// The kinds of change. A kind is never renamed: consumers of the change feed depend on it.
const (
	AppCreated          Kind = "app.created"
	AppUpdated          Kind = "app.updated"
	AppArchived         Kind = "app.archived"
	AppRestored         Kind = "app.restored"
	CollaboratorAdded   Kind = "collaborator.added"
	CollaboratorRemoved Kind = "collaborator.removed"
	KeyCreated          Kind = "key.created"
	KeyUpdated          Kind = "key.updated"
	KeyDeleted          Kind = "key.deleted"
	RoleCreated         Kind = "role.created"
	RoleUpdated         Kind = "role.updated"
	RoleDeleted         Kind = "role.deleted"
	UserCreated         Kind = "user.created"
	UserUpdated         Kind = "user.updated"
	UserDeactivated     Kind = "user.deactivated"
	UserReactivated     Kind = "user.reactivated"
	UserDeleted         Kind = "user.deleted"
	UserBlocked         Kind = "user.blocked"
	UserUnblocked       Kind = "user.unblocked"
	FriendAdded         Kind = "friend.added"
	FriendRemoved       Kind = "friend.removed"
	FriendRequested     Kind = "friend.requested"
	FriendRefused       Kind = "friend.refused"
	FriendWithdrawn     Kind = "friend.withdrawn"
	TokenCreated        Kind = "token.created"
	TokenUpdated        Kind = "token.updated"
	TokenRevoked        Kind = "token.revoked"
)

// Change is one row of an app's change log.
type Change struct {
	// Revision counts the changes of the app from 1, without a gap.
	Revision int64
	// At is when, in Unix seconds.
	At    int64
	Actor Actor
	Kind  Kind
	// Subject is what was changed: a uid for users and their tokens, a role id, a key id, the app id, an e-mail
	// address for collaborators. For an erased user it is a pseudonym that starts with "~".
	Subject string
	// Object is the other user of a change that is about two: Subject did something with it. Else it is empty.
	Object string
	// Fields names what was changed, never its content. For tokens it holds their ids.
	Fields []string
}

// write runs fn, which reads the given users, as one update of the caller's app. fn appends to the log what it
// changes; when it appends nothing, nothing was changed.
//
// Under an idempotency key (see WithIdempotencyKey) the first result is kept with the write, and a later call with
// the same key gets it instead of running fn again.
func write[T any](
	ctx context.Context, d *Directory, caller Caller, reads []UID, fn func(tx Writer, log *logbook) (T, error),
) (T, error) {
	result, _, err := writeCounting(ctx, d, caller, reads, fn)
	return result, err
}

// writeCounting is write, and returns also how many sockets were closed because of what was written.
func writeCounting[T any](
	ctx context.Context, d *Directory, caller Caller, reads []UID, fn func(tx Writer, log *logbook) (T, error),
) (result T, closed int, err error) {
	var forbidding []Change
	spreads := false
	err = d.store.Update(ctx, caller.App, reads, func(tx Writer) error {
		var zero T
		result, forbidding, spreads = zero, nil, false
		replayed, err := d.replay(ctx, tx, caller.App, &result)
		if err != nil || replayed {
			return err
		}
		log := logbook{tx: tx, app: caller.App, at: d.Now(), actor: caller.Actor}
		if result, err = fn(tx, &log); err != nil {
			return err
		}
		forbidding, spreads = log.forbidding, log.spreads
		return d.remember(ctx, tx, caller.App, result, log.users)
	})
	if err != nil {
		var zero T
		return zero, 0, err
	}
	if spreads {
		if err := d.everywhere(ctx); err != nil {
			var zero T
			return zero, 0, err
		}
	}
	if len(forbidding) > 0 {
		closed = d.sessions.EndForbidden(ctx, caller.App, forbidding)
	}
	return result, closed, nil
}

// spreadWithin bounds how long a write waits for the other servers: longer than the lease of one that has died.
const spreadWithin = 15 * time.Second

// everywhere returns when no server acts on what was so before.
func (d *Directory) everywhere(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spreadWithin)
	defer cancel()
	if err := d.store.Everywhere(ctx); err != nil {
		return &Error{
			Code: CodeOperationFailed, Cause: err,
			Message: "It was done, but not every server has said that it knows. Try again under the same Idempotency-Key, or look.",
		}
	}
	return nil
}

// logbook appends the changes of one update.
type logbook struct {
	tx       Writer
	app      AppID
	at       int64
	actor    Actor
	revision int64
	users    []UID            // whom the changes are about, once each
	touched  map[UID]struct{} // those in users, when there is more than one
	// forbidding are the changes after which sessions may have to end.
	forbidding []Change
	// spreads says that a change takes rights away, so that no server may act on what was so before once it is answered.
	spreads bool
}

func (l *logbook) append(kind Kind, subject string, fields ...string) error {
	return l.add(Change{Kind: kind, Subject: subject, Fields: fields})
}

// appendPair appends what subject did with another user.
func (l *logbook) appendPair(kind Kind, subject, object UID) error {
	return l.add(Change{Kind: kind, Subject: string(subject), Object: string(object)})
}

func (l *logbook) add(change Change) error {
	change.At, change.Actor = l.at, l.actor
	revision, err := l.tx.AppendChange(l.app, change)
	if err != nil {
		return err
	}
	l.revision, change.Revision = revision, revision
	if change.ForbidsSessions() {
		l.forbidding = append(l.forbidding, change)
	}
	l.spreads = l.spreads || change.takesRightsAway()
	switch user, other := change.about(); {
	case user == "":
	case other == "":
		l.touch(user)
	default:
		l.touch(user)
		l.touch(other)
	}
	return nil
}

// Kinds of changes about one user, and about two.
var (
	kindsAboutOne = []Kind{
		UserCreated, UserUpdated, UserDeactivated, UserReactivated, UserDeleted, TokenCreated, TokenUpdated, TokenRevoked,
	}
	kindsAboutTwo = []Kind{
		UserBlocked, UserUnblocked, FriendAdded, FriendRemoved, FriendRequested, FriendRefused, FriendWithdrawn,
	}
	kindsAboutUsers = slices.Concat(kindsAboutOne, kindsAboutTwo)
)

// about returns the user whom a change is about, and the other one when it is about two. Both are empty when it is
// about the app.
func (c Change) about() (user, other UID) {
	switch {
	case slices.Contains(kindsAboutOne, c.Kind):
		return UID(c.Subject), ""
	case slices.Contains(kindsAboutTwo, c.Kind):
		return UID(c.Subject), UID(c.Object)
	default:
		return "", ""
	}
}

// actorOf is a user who does something.
func actorOf(uid UID) Actor { return Actor("user:" + string(uid)) }

// ForbidsSessions reports whether sessions may have to end after the change.
func (c Change) ForbidsSessions() bool {
	switch c.Kind {
	case TokenRevoked, UserDeactivated, UserDeleted, AppArchived:
		return true
	case AppUpdated:
		return slices.Contains(c.Fields, fieldTokensValidFrom)
	case KeyDeleted:
		return slices.Contains(c.Fields, fieldTokens)
	default:
		return false
	}
}

// takesRightsAway reports whether somebody may not do or see any more what was allowed before the change.
func (c Change) takesRightsAway() bool {
	switch c.Kind {
	case UserBlocked, FriendRemoved:
		return true
	case UserUpdated:
		return slices.Contains(c.Fields, "role")
	default:
		return c.isAboutApp() || c.ForbidsSessions()
	}
}

// Fields of changes that end sessions.
const (
	fieldTokensValidFrom = "settings.tokensValidFrom"
	// fieldTokens of a deleted key says that the tokens it minted are revoked with it.
	fieldTokens = "tokens"
)

func (l *logbook) touch(uid UID) {
	if len(l.users) > 0 && l.users[len(l.users)-1] == uid {
		return // most updates are about one user
	}
	if len(l.users) == 1 {
		l.touched = map[UID]struct{}{l.users[0]: {}}
	}
	if _, known := l.touched[uid]; known {
		return
	}
	if l.touched != nil {
		l.touched[uid] = struct{}{}
	}
	l.users = append(l.users, uid)
}

// ListChanges returns changes of the caller's app with a revision above since, in order, at most limit, and the app's
// last revision. Zero limit means 100.
func (d *Directory) ListChanges(
	ctx context.Context, caller Caller, since int64, limit int,
) (changes []Change, last int64, err error) {
	return d.listChanges(ctx, caller, limit, func(tx Reader, limit int) ([]Change, error) {
		return tx.Changes(caller.App, since, limit)
	})
}

// ListChangesAbout is ListChanges of those that are about one user, who may be gone, also as the other one of two.
func (d *Directory) ListChangesAbout(
	ctx context.Context, caller Caller, rawUID string, since int64, limit int,
) (changes []Change, last int64, err error) {
	return d.listChanges(ctx, caller, limit, func(tx Reader, limit int) ([]Change, error) {
		return tx.ChangesAbout(caller.App, string(FoldUID(rawUID)), kindsAboutUsers, since, limit)
	})
}

func (d *Directory) listChanges(
	ctx context.Context, caller Caller, limit int, read func(tx Reader, limit int) ([]Change, error),
) (changes []Change, last int64, err error) {
	if limit == 0 {
		limit = 100
	}
	err = d.store.View(ctx, func(tx Reader) error {
		var err error
		if changes, err = read(tx, limit); err != nil {
			return err
		}
		last, err = tx.Revision(caller.App)
		return err
	})
	return changes, last, err
}

// Follow adds a function that is called with every commit from now on, in order for each app, before anybody is
// answered who waits for it, and when what this directory holds in memory is as new. fn must not wait for a write.
func (d *Directory) Follow(fn func(Commit)) { d.store.Follow(fn) }

// CommitsSince returns what was committed to an app after a revision as one commit, as ReadCommit does. What this
// directory holds in memory is as new from then on.
func (d *Directory) CommitsSince(ctx context.Context, app AppID, since int64, limit int) (commit Commit, err error) {
	err = d.store.View(ctx, func(tx Reader) (err error) {
		commit, err = ReadCommit(tx, app, since, limit)
		return err
	})
	if err == nil && len(commit.Changes) > 0 {
		d.invalidate(commit)
	}
	return commit, err
}

// ReadCommit reads what was committed to an app after a revision as one commit: at most limit changes, and the users
// and the app that they are about as they are now. Without any changes its revision is the app's last.
func ReadCommit(tx Reader, app AppID, since int64, limit int) (commit Commit, err error) {
	commit.App = app
	if commit.Changes, err = tx.Changes(app, since, limit); err != nil {
		return commit, err
	}
	if len(commit.Changes) == 0 {
		commit.Revision, err = tx.Revision(app)
		return commit, err
	}
	commit.Revision = commit.Changes[len(commit.Changes)-1].Revision
	if commit.Users, err = usersOf(tx, app, commit.Changes); err != nil {
		return commit, err
	}
	if slices.ContainsFunc(commit.Changes, Change.isAboutApp) {
		row, there, err := tx.App(app)
		if err != nil {
			return commit, err
		}
		if commit.Gone = !there; there {
			commit.AppRow = &row
		}
	}
	return commit, nil
}

// isAboutApp reports whether a change is about no user: then it may concern everybody.
func (c Change) isAboutApp() bool {
	user, _ := c.about()
	return user == ""
}

// usersOf returns the users whom changes are about, as they are now.
func usersOf(tx Reader, app AppID, changes []Change) ([]UserChange, error) {
	at := map[UID]int{}
	var uids []UID
	for _, change := range changes {
		user, other := change.about()
		if _, known := at[user]; user != "" && other == "" && !known {
			at[user] = len(uids)
			uids = append(uids, user)
		}
	}
	users, err := tx.UsersNamed(app, uids)
	changed := make([]UserChange, len(uids))
	for i, uid := range uids {
		changed[i] = UserChange{UID: uid, Gone: true}
	}
	for i := range users {
		changed[at[users[i].UID]] = UserChange{UID: users[i].UID, User: &users[i]}
	}
	return changed, err
}

// follow brings what is held in memory up to a commit, before anybody is answered who waits for it.
func (d *Directory) follow(commit Commit) {
	d.invalidate(commit)
	d.ties.apply(commit)
	d.indexes.apply(commit)
}

// invalidate drops what is held in memory of the users whom a commit is about, and of the app if it is about that. A
// commit of which it is not known whether it has happened is about everybody.
func (d *Directory) invalidate(commit Commit) {
	touchesApp := commit.Gone || commit.Uncertain || commit.AppRow != nil
	users := make([]UID, 0, len(commit.Users)+len(commit.Changes))
	for i := range commit.Changes {
		switch user, other := commit.Changes[i].about(); {
		case user == "":
			touchesApp = true
		case other == "":
			users = append(users, user)
		default:
			users = append(users, user, other)
		}
	}
	for i := range commit.Users { // some without a word in the log
		users = append(users, commit.Users[i].UID)
	}
	d.logins.touch(commit.App, users)
	if touchesApp {
		d.apps.drop(commit.App)
		d.logins.touchAll()
	}
}
