package directory

import (
	"context"
	"errors"

	"github.com/google/go-cmp/cmp"
)

// CheckIndex compares the index of an app, as commits have kept it, with one that is made of the table now. Nobody may
// write meanwhile.
func (d *Directory) CheckIndex(ctx context.Context, app AppID) error {
	kept, err := d.indexes.get(ctx, app)
	if err != nil {
		return err
	}
	fresh, err := d.indexes.read(app, &build{})
	if err != nil {
		return err
	}
	if diff := cmp.Diff(fresh.Users(), kept.Users()); diff != "" {
		return errors.New("the index is not the table:\n" + diff)
	}
	return errors.Join(kept.Check(), fresh.Check())
}
