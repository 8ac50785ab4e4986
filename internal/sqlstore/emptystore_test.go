package sqlstore

import (
	"path/filepath"
	"testing"
)

// emptyStore returns a store on SQLite that is closed with the test.
func emptyStore(t *testing.T) *Store {
	t.Helper()
	store, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}
