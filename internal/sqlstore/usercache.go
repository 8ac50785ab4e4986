package sqlstore

import (
	"maps"

	"github.com/rollcall/rollcall/internal/directory"
)

// userFetcher is a transaction for which a question costs so much that users are worth fetching together.
type userFetcher interface {
	// fetchUsers returns the users among uids. The app is locked.
	fetchUsers(app directory.AppID, uids []directory.UID) ([]directory.User, error)
}

// userCache holds users within one write transaction: as the locks on their apps keep others from writing, what is in
// it stays true. A nil userCache knows nobody.
type userCache struct {
	// known holds nil for a user that does not exist.
	known map[userKey]*directory.User
	under *userCache
}

type userKey struct {
	app directory.AppID
	uid directory.UID
}

// fetchUsers fetches what updates are going to read, where that is worth it.
func (b *batch) fetchUsers(updates []*update) error {
	fetcher, ok := b.transaction.(userFetcher)
	if !ok {
		return nil
	}
	if b.users == nil {
		b.users = &userCache{known: map[userKey]*directory.User{}}
	}
	if len(updates) < 2 {
		return nil
	}
	wanted := map[directory.AppID][]directory.UID{}
	for _, u := range updates {
		wanted[u.app] = append(wanted[u.app], u.reads...)
	}
	for app, uids := range wanted {
		if err := b.lock(app); err != nil {
			return err
		}
		// The transaction has sent what earlier updates wrote, so that the answer is as they have left it.
		users, err := fetcher.fetchUsers(app, uids)
		if err != nil {
			return err
		}
		for _, uid := range uids {
			b.users.known[userKey{app, uid}] = nil
		}
		for _, user := range users {
			b.users.known[userKey{app, user.UID}] = &user
		}
	}
	return nil
}

// overlay returns a cache for one update, whose changes can be merged or dropped.
func (c *userCache) overlay() *userCache {
	if c == nil {
		return nil
	}
	return &userCache{under: c}
}

func (c *userCache) merge(overlay *userCache) {
	if c == nil {
		return
	}
	maps.Copy(c.known, overlay.known)
}

func (c *userCache) get(app directory.AppID, uid directory.UID) (user *directory.User, known bool) {
	for ; c != nil; c = c.under {
		if user, known = c.known[userKey{app, uid}]; known {
			return user, true
		}
	}
	return nil, false
}

// put notes a user that was written, nil for one that was deleted.
func (c *userCache) put(app directory.AppID, uid directory.UID, user *directory.User) {
	if c == nil {
		return
	}
	if c.known == nil {
		c.known = map[userKey]*directory.User{}
	}
	c.known[userKey{app, uid}] = user
}
