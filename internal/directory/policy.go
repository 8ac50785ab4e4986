package directory

import (
	"context"
	"sync"
)

// Policy is what every request to an app needs of it, held in memory: the app, its keys and its roles.
type Policy struct {
	App   App
	keys  map[string]Key // by hash
	roles map[string]Role
	// recognized holds a *recognizedKey of the app by its text, as keys are used: it spares hashing one again on each
	// request.
	recognized sync.Map
}

// Policy returns the current policy of an app.
// Errors: CodeInvalidApp for an unknown app, CodeAppArchived for one that is scheduled for deletion.
func (d *Directory) Policy(ctx context.Context, id AppID) (*Policy, error) {
	if err := d.store.Current(); err != nil {
		return nil, err
	}
	policy, generation := d.apps.get(id)
	if policy == nil {
		loaded, err := d.loadPolicy(ctx, id)
		if err != nil {
			return nil, err
		}
		d.apps.put(id, loaded, generation)
		policy = loaded
	}
	if policy.App.DeleteAt != 0 {
		return nil, fail(CodeAppArchived, "The app %s is scheduled for deletion. Restore it to use it again.", id)
	}
	return policy, nil
}

// appCache holds the policies of apps. A policy loaded before a change is never stored after it: drop raises the
// generation, and put refuses what was loaded under an older one.
type appCache struct {
	mu         sync.RWMutex
	policies   map[AppID]*Policy  // guarded by mu
	seen       map[AppID]struct{} // all whose policy was ever here. Guarded by mu
	generation uint64             // guarded by mu
}

func newAppCache() *appCache {
	return &appCache{policies: map[AppID]*Policy{}, seen: map[AppID]struct{}{}}
}

func (c *appCache) hasSeen(id AppID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, seen := c.seen[id]
	return seen
}

func (c *appCache) get(id AppID) (*Policy, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.policies[id], c.generation
}

func (c *appCache) put(id AppID, policy *Policy, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[id] = struct{}{}
	if c.generation == generation {
		c.policies[id] = policy
	}
}

func (c *appCache) drop(id AppID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.policies, id)
	c.generation++
}

func (c *appCache) dropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.policies)
	c.generation++
}
