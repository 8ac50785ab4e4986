package directory

import "context"

// CatchUp returns when lists of an app are as new as a revision that another server may have written. Everything else
// always is. A revision that there is not yet is not waited for.
func (d *Directory) CatchUp(ctx context.Context, app AppID, revision int64) error {
	return d.store.CatchUp(ctx, app, revision)
}
