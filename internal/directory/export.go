package directory

import (
	"context"
	"iter"
)

// PairKind is a relation of two users.
type PairKind string

// The relations that are kept.
const (
	Blocks         PairKind = "block"
	Friendships    PairKind = "friend"
	FriendRequests PairKind = "friendRequest"
)

// Pair is a relation of two users: UID did it, or for friends, has the lower uid. At is in Unix seconds.
type Pair struct {
	UID, Other UID
	At         int64
}

// Record is one line of an export: exactly one of its fields is set.
type Record struct {
	Role *Role
	User *User
	Kind PairKind
	Pair *Pair
}

// exportPage is how many rows an export reads at once. It holds no snapshot open while they are written out.
const exportPage = 500

// Export returns everything of an app that another directory can be made of: its roles, users and relations, in this
// order. What is written meanwhile may be in it or not; whoever exists and does not change is in it once.
func (d *Directory) Export(ctx context.Context, app AppID) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var roles []Role
		err := d.store.View(ctx, func(tx Reader) (err error) {
			roles, err = tx.Roles(app)
			return err
		})
		for i := 0; i < len(roles) && err == nil; i++ {
			if !yield(Record{Role: &roles[i]}, nil) {
				return
			}
		}
		if err == nil {
			var more bool
			if more, err = d.exportUsers(ctx, app, yield); !more {
				return
			}
		}
		for _, kind := range []PairKind{Blocks, Friendships, FriendRequests} {
			if err == nil {
				var more bool
				if more, err = d.exportPairs(ctx, app, kind, yield); !more {
					return
				}
			}
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

func (d *Directory) exportUsers(
	ctx context.Context, app AppID, yield func(Record, error) bool,
) (more bool, err error) {
	return exportPages(ctx, d, func(tx Reader, last *User) ([]User, error) {
		var after UID
		if last != nil {
			after = last.UID
		}
		return tx.UsersAfter(app, after, exportPage)
	}, func(user *User) bool { return yield(Record{User: user}, nil) })
}

func (d *Directory) exportPairs(
	ctx context.Context, app AppID, kind PairKind, yield func(Record, error) bool,
) (more bool, err error) {
	return exportPages(ctx, d, func(tx Reader, last *Pair) ([]Pair, error) {
		var after Pair
		if last != nil {
			after = *last
		}
		return tx.Pairs(app, kind, after, exportPage)
	}, func(pair *Pair) bool { return yield(Record{Kind: kind, Pair: pair}, nil) })
}

// exportPages yields rows, which it reads a page of exportPage at a time from behind the last one on, each page in a
// view of its own. more is false when yield has had enough.
func exportPages[T any](
	ctx context.Context, d *Directory, read func(tx Reader, last *T) ([]T, error), yield func(*T) bool,
) (more bool, err error) {
	var last *T
	for {
		var page []T
		err := d.store.View(ctx, func(tx Reader) (err error) {
			page, err = read(tx, last)
			return err
		})
		if err != nil {
			return true, err
		}
		for i := range page {
			if !yield(&page[i]) {
				return false, nil
			}
		}
		if len(page) < exportPage {
			return true, nil
		}
		last = &page[len(page)-1]
	}
}

// Dossier is everything that is stored about one person.
type Dossier struct {
	User   User
	Tokens []Token
	Pairs  map[PairKind][]Pair
	// Changes are the first of the change log that are about the user.
	Changes []Change
	// Transitions are its presence timeline, latest first.
	Transitions []Transition
}

// dossierChanges bounds how much of the change log a dossier holds.
const dossierChanges = 10_000

// ExportUser returns everything stored about a user, active or deactivated, for the person to have. The tokens are
// without their texts. Errors: CodeUserNotFound.
func (d *Directory) ExportUser(ctx context.Context, caller Caller, rawUID string) (Dossier, error) {
	uid := FoldUID(rawUID)
	dossier := Dossier{Pairs: map[PairKind][]Pair{}}
	err := d.store.View(ctx, func(tx Reader) error {
		var found bool
		var err error
		if dossier.User, found, err = tx.User(caller.App, uid); err != nil || !found {
			return orNotFound(err, uid)
		}
		if dossier.Tokens, err = tx.Tokens(caller.App, uid, d.limits.TokensPerUser, 0); err != nil {
			return err
		}
		for _, kind := range []PairKind{Blocks, Friendships, FriendRequests} {
			if dossier.Pairs[kind], err = tx.PairsOf(caller.App, kind, uid); err != nil {
				return err
			}
		}
		if dossier.Changes, err = tx.ChangesAbout(caller.App, string(uid), kindsAboutUsers, 0, dossierChanges); err != nil {
			return err
		}
		dossier.Transitions, err = tx.Transitions(caller.App, uid)
		return err
	})
	dossier.User = caller.show(dossier.User)
	return dossier, err
}

// RelationRow is a relation to make.
type RelationRow struct {
	Kind PairKind
	Pair
}

// PutRelations makes many relations in one durable write, with their times; zero is now. Those that are there already
// stay as they are, and a friendship or a block settles what the two have asked each other. Each row has an outcome of
// its own: CodeUserNotFound, CodeSelfRelation, CodeAlreadyFriend for a request between friends, CodeBlockedReceiver or
// CodeBlockedSender for one across a block, CodeQuota. With a trial, nothing is kept.
// Errors: CodeBadRequest for no or too many rows.
func (d *Directory) PutRelations(
	ctx context.Context, caller Caller, rows []RelationRow, trial *Trial,
) ([]Outcome, error) {
	if err := d.checkBatch("relations", len(rows)); err != nil {
		return nil, err
	}
	return writeOrTry(ctx, d, caller, nil, trial, func(tx Writer, log *logbook) ([]Outcome, error) {
		batch := relationBatch{
			tx: tx, app: log.app, limits: d.limits, exists: map[UID]bool{}, counts: map[relationsOf]int{},
			there: map[RelationRow]bool{},
		}
		if trial != nil {
			for _, uid := range trial.UIDs {
				batch.exists[FoldUID(string(uid))] = true
			}
		}
		// Everything is asked before the first write: a question after one makes the store write out what it gathers.
		outcomes, fresh := make([]Outcome, len(rows)), make([]bool, len(rows))
		for i, row := range rows {
			var err error
			fresh[i], err = batch.take(row)
			outcomes[i] = Outcome{ID: string(row.UID) + " " + string(row.Other), Err: refusal(err)}
			if err != nil && outcomes[i].Err == nil {
				return nil, err
			}
			outcomes[i].Unchanged = err == nil && !fresh[i]
		}
		for i, row := range rows {
			if !fresh[i] || trial != nil {
				continue
			}
			if row.At == 0 {
				row.At = log.at
			}
			if err := putRelation(tx, log, row); err != nil {
				return nil, err
			}
		}
		return outcomes, nil
	})
}

// relationBatch decides about rows one after another, each as the ones before will have left the relations.
type relationBatch struct {
	tx     Writer
	app    AppID
	limits Limits
	exists map[UID]bool
	there  map[RelationRow]bool // by what named returns
	counts map[relationsOf]int
}

// relationsOf are those of one kind that a user has.
type relationsOf struct {
	kind PairKind
	uid  UID
}

// take reports whether a row makes a relation that is not there yet. An error that the rules give is about the row
// alone.
func (b *relationBatch) take(row RelationRow) (fresh bool, err error) {
	if row.UID == row.Other {
		return false, fail(CodeSelfRelation, "A user cannot have a relation to itself.")
	}
	for _, uid := range []UID{row.UID, row.Other} {
		if err := b.requireUser(uid); err != nil {
			return false, err
		}
	}
	row = row.named()
	if there, err := b.isThere(row); err != nil || there {
		return false, err
	}
	counted, most := []UID{row.UID}, b.limits.FriendsPerUser
	switch row.Kind {
	case Blocks:
		most = b.limits.BlocksPerUser
	case Friendships:
		counted = append(counted, row.Other)
	case FriendRequests:
		friends, err := b.isThere(RelationRow{Kind: Friendships, Pair: row.Pair}.named())
		if err != nil {
			return false, err
		}
		if friends {
			return false, errAlreadyFriends(row.UID, row.Other)
		}
		if err := b.requireNoBlock(row.Pair); err != nil {
			return false, err
		}
	}
	for _, uid := range counted {
		count, err := b.count(relationsOf{row.Kind, uid})
		if err != nil {
			return false, err
		}
		if count >= most {
			return false, fail(CodeQuota, "The user %s has %d of these relations, and may not have more.", uid, most)
		}
	}
	for _, uid := range counted {
		b.counts[relationsOf{row.Kind, uid}]++
	}
	b.there[row] = true
	if row.Kind != FriendRequests { // see putRelation
		for _, ended := range []Pair{{UID: row.UID, Other: row.Other}, {UID: row.Other, Other: row.UID}} {
			b.there[RelationRow{Kind: FriendRequests, Pair: ended}] = false
		}
	}
	return true, nil
}

func (b *relationBatch) requireNoBlock(pair Pair) error {
	byMe, err := b.isThere(RelationRow{Kind: Blocks, Pair: pair}.named())
	if err != nil {
		return err
	}
	me, err := b.isThere(RelationRow{Kind: Blocks, Pair: Pair{UID: pair.Other, Other: pair.UID}})
	if err != nil {
		return err
	}
	relation := Relation{}
	if byMe {
		relation.BlockedByMeAt = 1
	}
	if me {
		relation.HasBlockedMeAt = 1
	}
	return requireNoBlock(relation, pair.UID, pair.Other)
}

// named returns the row by which a relation is known: without its time, and of friends with the lower uid first.
func (r RelationRow) named() RelationRow {
	r.At = 0
	if r.Kind == Friendships && r.UID > r.Other {
		r.UID, r.Other = r.Other, r.UID
	}
	return r
}

func (b *relationBatch) requireUser(uid UID) error {
	exists, asked := b.exists[uid]
	if !asked {
		var err error
		if _, exists, err = b.tx.User(b.app, uid); err != nil {
			return err
		}
		b.exists[uid] = exists
	}
	if !exists {
		return ErrUserNotFound(string(uid))
	}
	return nil
}

func (b *relationBatch) isThere(row RelationRow) (there bool, err error) {
	if there, known := b.there[row]; known {
		return there, nil
	}
	if row.Kind == FriendRequests {
		_, there, err = b.tx.FriendRequest(b.app, row.UID, row.Other)
		b.there[row] = there
		return there, err
	}
	relation, err := relationTo(b.tx, b.app, row.UID, row.Other)
	if err != nil {
		return false, err
	}
	pair, reverse := Pair{UID: row.UID, Other: row.Other}, Pair{UID: row.Other, Other: row.UID}
	for _, read := range []struct {
		row   RelationRow
		since int64
	}{
		{RelationRow{Kind: Blocks, Pair: pair}, relation.BlockedByMeAt},
		{RelationRow{Kind: Blocks, Pair: reverse}, relation.HasBlockedMeAt},
		{RelationRow{Kind: Friendships, Pair: pair}.named(), relation.FriendsSince},
	} {
		if _, known := b.there[read.row]; !known { // what rows before have changed is known
			b.there[read.row] = read.since != 0
		}
	}
	return b.there[row], nil
}

func (b *relationBatch) count(of relationsOf) (count int, err error) {
	if count, known := b.counts[of]; known {
		return count, nil
	}
	switch of.kind {
	case Blocks:
		count, err = b.tx.CountBlocks(b.app, of.uid)
	case Friendships:
		count, err = b.tx.CountFriends(b.app, of.uid)
	case FriendRequests:
		count, err = b.tx.CountFriendRequests(b.app, of.uid)
	}
	b.counts[of] = count
	return count, err
}

func putRelation(tx Writer, log *logbook, row RelationRow) error {
	put, kind := tx.PutBlock, UserBlocked
	switch row.Kind {
	case Blocks:
	case Friendships:
		put, kind = tx.PutFriends, FriendAdded
	case FriendRequests:
		put, kind = tx.PutFriendRequest, FriendRequested
	}
	if row.Kind != FriendRequests {
		if err := settleRequests(tx, log.app, row.UID, row.Other); err != nil {
			return err
		}
	}
	if err := put(log.app, row.UID, row.Other, row.At); err != nil {
		return err
	}
	return log.appendPair(kind, row.UID, row.Other)
}
