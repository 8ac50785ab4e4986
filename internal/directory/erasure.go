package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
)

// Tombstone remembers that a user was permanently deleted, so that restoring an older backup deletes it again. It
// holds a salted hash: who it was cannot be read from it.
type Tombstone struct {
	App  AppID
	Hash string
	At   int64
	// Revision is the change that announced the deletion.
	Revision int64
	// Notice says that the change still names the uid, for consumers of the change log to erase their copies.
	Notice bool
}

// Erased says what a permanent deletion left, and ended.
type Erased struct {
	Tombstone
	// Sockets is how many live sockets were closed.
	Sockets int
}

// noticeFor is how long, in seconds, the change log still names a permanently deleted uid.
const noticeFor = 7 * secondsPerDay

func tombstoneHash(app App, uid UID) string {
	sum := sha256.Sum256([]byte(string(app.Salt) + "\x00" + string(app.ID) + "\x00" + string(uid)))
	return hex.EncodeToString(sum[:16])
}

func (t Tombstone) pseudonym() string { return "~" + t.Hash }

// EraseUser erases a user with its auth tokens and everything else about it, active or deactivated.
// What is left is a Tombstone, and, for seven days, the uid in the change that announces the deletion.
// Errors: CodeUserNotFound.
func (d *Directory) EraseUser(ctx context.Context, caller Caller, rawUID string) (Erased, error) {
	uid := FoldUID(rawUID)
	tombstone, sockets, err := writeCounting(ctx, d, caller, nil, func(tx Writer, log *logbook) (Tombstone, error) {
		user, found, err := tx.User(caller.App, uid)
		if err != nil || !found {
			return Tombstone{}, orNotFound(err, uid)
		}
		return d.erase(tx, log, user)
	})
	if err == nil {
		d.erased(tombstone)
	}
	return Erased{tombstone, sockets}, err
}

func (d *Directory) erase(tx Writer, log *logbook, user User) (Tombstone, error) {
	uid := user.UID
	app, err := requireApp(tx, log.app)
	if err != nil {
		return Tombstone{}, err
	}
	if err := tx.DeleteAnswersAbout(log.app, uid); err != nil {
		return Tombstone{}, err
	}
	if err := tx.DeleteUser(log.app, uid); err != nil {
		return Tombstone{}, err
	}
	if err := log.append(UserDeleted, string(uid)); err != nil {
		return Tombstone{}, err
	}
	tombstone := Tombstone{App: log.app, Hash: tombstoneHash(app, uid), At: log.at, Revision: log.revision, Notice: true}
	if err := tx.PutTombstone(tombstone); err != nil {
		return Tombstone{}, err
	}
	return tombstone, tx.EraseChanges(log.app, ErasedChanges{
		Kinds: kindsAboutUsers, Subject: string(uid), Becomes: tombstone.pseudonym(), Keep: log.revision,
		Actor: actorOf(uid), ActorBecomes: actorOf(UID(tombstone.pseudonym())),
	})
}

// Tombstones lists all tombstones, oldest first.
func (d *Directory) Tombstones(ctx context.Context) (tombstones []Tombstone, err error) {
	err = d.store.View(ctx, func(tx Reader) error {
		tombstones, err = tx.Tombstones()
		return err
	})
	return tombstones, err
}

// ApplyTombstones erases again the users that known tombstones name and that are back, because an older backup was
// restored, and returns how many there were. A user created after its tombstone is somebody new and is kept. A
// tombstone is stored when it has been applied, and never applied again: who comes after that is somebody new, whenever
// created.
func (d *Directory) ApplyTombstones(ctx context.Context, known []Tombstone) (int, error) {
	erased := 0
	byApp := map[AppID]map[string]Tombstone{}
	stored, err := d.Tombstones(ctx)
	if err != nil {
		return 0, err
	}
	have := map[Tombstone]bool{}
	for _, tombstone := range stored {
		have[Tombstone{App: tombstone.App, Hash: tombstone.Hash, At: tombstone.At}] = true
	}
	for _, tombstone := range known {
		key := Tombstone{App: tombstone.App, Hash: tombstone.Hash, At: tombstone.At}
		if have[key] {
			continue
		}
		if byApp[tombstone.App] == nil {
			byApp[tombstone.App] = map[string]Tombstone{}
		}
		byApp[tombstone.App][tombstone.Hash] = tombstone
	}
	for id, missing := range byApp {
		count, err := d.applyTombstonesTo(ctx, id, missing)
		erased += count
		if err != nil {
			return erased, err
		}
	}
	return erased, nil
}

func (d *Directory) applyTombstonesTo(ctx context.Context, id AppID, missing map[string]Tombstone) (int, error) {
	erased := 0
	var back []UID
	err := d.store.View(ctx, func(tx Reader) error {
		back = nil
		app, found, err := tx.App(id)
		if err != nil || !found {
			return err
		}
		return tx.EachUser(id, false, func(user User) error {
			if tombstone, dead := missing[tombstoneHash(app, user.UID)]; dead && user.CreatedAt <= tombstone.At {
				back = append(back, user.UID)
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	for _, uid := range back {
		if _, err := d.EraseUser(ctx, System(id, "restore"), string(uid)); err != nil {
			return erased, err
		}
		erased++
	}
	return erased, d.store.Update(ctx, id, nil, func(tx Writer) error {
		if _, found, err := tx.App(id); err != nil || !found {
			return err
		}
		for _, tombstone := range missing {
			if err := tx.PutTombstone(tombstone); err != nil {
				return err
			}
		}
		return nil
	})
}
