package presence

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
)

// followRetry is how soon following goes on that has failed.
const followRetry = time.Second

// follow acts on what is committed, until ctx ends.
func (r *roster) follow(ctx context.Context) {
	defer r.feed.Close()
	for ctx.Err() == nil {
		commit, err := r.feed.Next(ctx)
		for err == nil && len(commit.Changes) > 0 {
			if err = r.apply(ctx, commit); err == nil {
				r.noteFollowed(commit.Revision)
				break
			}
			r.tellTrouble(ctx, err)
			err = nil
			if !r.pause(ctx) {
				return
			}
		}
		if err != nil && ctx.Err() == nil {
			r.tellTrouble(ctx, err)
			r.pause(ctx)
		}
	}
}

func (r *roster) tellTrouble(ctx context.Context, err error) {
	if ctx.Err() == nil {
		r.presence.config.Logger.Error("presence cannot follow the change log; it tries again",
			slog.String("app", string(r.app)), slog.Any("error", err))
	}
}

// pause waits before following is tried again. It returns false when ctx has ended.
func (r *roster) pause(ctx context.Context) bool {
	retry := time.NewTimer(followRetry)
	defer retry.Stop()
	select {
	case <-retry.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *roster) noteFollowed(revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followed = revision
	close(r.progress)
	r.progress = make(chan struct{})
}

// catchUp waits until all has been acted on that was committed before. Who opens a session has then read nothing that
// is newer than what the roster is going to be told, and who resumes is told all that it has missed.
func (r *roster) catchUp(ctx context.Context) error {
	handed := r.feed.Handed()
	for {
		r.mu.Lock()
		done, progress := r.followed >= handed || r.closed, r.progress
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-progress:
		case <-r.presence.running.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply acts on a commit. It does no harm to do so twice.
func (r *roster) apply(ctx context.Context, commit directory.Commit) error {
	changes := commit.Changes
	if forbidding := slices.DeleteFunc(
		slices.Clone(changes), func(c directory.Change) bool { return !c.ForbidsSessions() },
	); len(forbidding) > 0 {
		r.endForbidden(ctx, forbidding)
	}
	pairs := map[[2]directory.UID]bool{}
	erased := map[directory.UID]struct{}{}
	policy := false
	for _, change := range changes {
		subject, object := directory.UID(change.Subject), directory.UID(change.Object)
		switch change.Kind {
		case directory.UserDeleted:
			erased[subject] = struct{}{}
		case directory.UserBlocked, directory.UserUnblocked, directory.FriendAdded, directory.FriendRemoved:
			pairs[[2]directory.UID{subject, object}] = true
		case directory.RoleCreated, directory.RoleUpdated, directory.RoleDeleted, directory.AppUpdated, directory.AppRestored:
			policy = true
		default: // the others change nothing that presence depends on
		}
	}
	if policy {
		if err := r.reloadPolicy(ctx); err != nil {
			return err
		}
	}
	if len(erased) > 0 {
		r.dropTies(erased)
	}
	for i := range commit.Users {
		r.takeUser(&commit.Users[i])
	}
	for pair := range pairs {
		if err := r.reloadPair(ctx, pair[0], pair[1]); err != nil {
			return err
		}
	}
	r.notifyFriends(changes)
	return nil
}

// notifyFriends tells both sides of what has happened to friendships and to requests.
func (r *roster) notifyFriends(changes []directory.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, change := range changes {
		switch change.Kind {
		case directory.FriendAdded, directory.FriendRemoved,
			directory.FriendRequested, directory.FriendRefused, directory.FriendWithdrawn:
			notice := Notice{
				App: r.app, Kind: change.Kind, Subject: directory.UID(change.Subject), Object: directory.UID(change.Object),
			}
			r.notify(notice.Subject, notice)
			r.notify(notice.Object, notice)
		default:
		}
	}
}

// profileNotice tells a user how it is now.
func (r *roster) profileNotice(user *directory.User) Notice {
	return Notice{App: r.app, Kind: directory.UserUpdated, Subject: user.UID, User: user}
}

// notify tells the sessions of a user. It needs the lock.
func (r *roster) notify(uid directory.UID, notice Notice) {
	p, known := r.people[uid]
	if !known {
		return
	}
	for _, s := range p.sessions {
		if s.extended {
			s.listener.Notify(notice)
		}
	}
}

// touch notes that what is being read of a user who opens a session may be outdated, and reports whether anybody needs
// to know how the user is now.
func (r *roster) touch(uid directory.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reread(uid)
	_, known := r.people[uid]
	return known
}

// takeUser takes over what a user is now. The sessions of those who are gone have ended with the change itself.
func (r *roster) takeUser(change *directory.UserChange) {
	if !r.touch(change.UID) || change.User == nil || change.User.DeactivatedAt != 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, known := r.people[change.UID]; known {
		r.setUser(p, *change.User, r.presence.now())
	}
}

func (r *roster) reloadPair(ctx context.Context, a, b directory.UID) error {
	knownA, knownB := r.touch(a), r.touch(b)
	if !knownA && !knownB {
		r.markPair(a, b) // somebody who resumes may have been told of the other
		return nil
	}
	relation, err := r.presence.dir.Between(ctx, r.app, a, b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setRelation(a, b, relation)
	r.setRelation(b, a, relation)
	return nil
}
