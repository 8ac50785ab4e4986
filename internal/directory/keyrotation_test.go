package directory_test

import (
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/secret"
)

func (w *world) makeKey(t *testing.T, name string, scope directory.Scope) directory.Key {
	t.Helper()
	key, err := w.CreateKey(t.Context(), w.backend, directory.NewKey{Name: name, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) rotate(t *testing.T, key directory.Key, grace time.Duration) directory.RotatedKey {
	t.Helper()
	rotated, err := w.RotateKey(t.Context(), w.backend, key.Text, grace)
	if err != nil {
		t.Fatal(err)
	}
	return rotated
}

// accepts reports whether a directory accepts a key now.
func accepts(t *testing.T, d *directory.Directory, app directory.AppID, key directory.Key) bool {
	t.Helper()
	policy, err := d.Policy(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Key(policy, key.Text)
	if err != nil && !directory.IsCode(err, directory.CodeKeyUnknown) {
		t.Fatal(err)
	}
	return err == nil
}

func (w *world) keyIDs(t *testing.T, d *directory.Directory) map[directory.KeyID]directory.Key {
	t.Helper()
	list, err := d.ListKeys(t.Context(), w.backend, directory.KeyQuery{})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[directory.KeyID]directory.Key{}
	for _, key := range list.Items {
		ids[key.ID] = key
	}
	return ids
}

// TestRotatedKeyExpires replaces a key, and looks at both before and after the grace, also with the policy that was
// read before, after a restart and when the old one has been cleared away.
func TestRotatedKeyExpires(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, w *world) {
		old := w.makeKey(t, "Backend", directory.FullAccess)
		rotated := w.rotate(t, old, time.Hour)
		made := rotated.Key
		if made.Name != old.Name || made.Scope != old.Scope || made.ID == old.ID || made.Text == old.Text {
			t.Errorf("the new key is %+v", made)
		}
		if want := w.clock.Add(time.Hour).Unix(); rotated.Replaced.ID != old.ID || rotated.Replaced.ExpiresAt != want {
			t.Errorf("replaced is %+v, want expiry at %d", rotated.Replaced, want)
		}
		policy := w.policy(t)
		if _, err := w.Key(policy, old.Text); err != nil {
			t.Fatalf("within the grace: %v", err)
		}
		if !accepts(t, w.Directory, w.app.ID, made) {
			t.Error("the new key is not accepted")
		}

		*w.clock = w.clock.Add(time.Hour)
		if _, err := w.Key(policy, old.Text); !directory.IsCode(err, directory.CodeKeyUnknown) {
			t.Errorf("after the grace, with a policy of before: %v", err)
		}
		if accepts(t, w.Directory, w.app.ID, old) || !accepts(t, w.Directory, w.app.ID, made) {
			t.Error("after the grace, the old key is accepted or the new one is not")
		}
		if _, listed := w.keyIDs(t, w.Directory)[old.ID]; listed {
			t.Error("an expired key is listed")
		}
		if _, err := w.GetKey(t.Context(), w.backend, old.Text); !directory.IsCode(err, directory.CodeKeyNotFound) {
			t.Errorf("an expired key is found: %v", err)
		}
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		changes, _, err := w.ListChanges(t.Context(), w.backend, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		last := changes[len(changes)-1]
		if last.Kind != directory.KeyDeleted || last.Subject != string(old.ID) || last.Actor != "system:key-expiry" {
			t.Errorf("the last change is %+v", last)
		}
		_ = w.store.View(t.Context(), func(tx directory.Reader) error {
			keys, err := tx.Keys(w.app.ID)
			for _, key := range keys {
				if key.ID == old.ID {
					t.Error("an expired key is kept")
				}
			}
			return err
		})
	})
}

// TestRotatedKeyOutlivesRestart opens the database of a rotation again.
func TestRotatedKeyOutlivesRestart(t *testing.T) {
	t.Parallel()
	masters := []secret.MasterKey{secret.NewMasterKey()}
	w := newWorld(t, masters...)
	old := w.makeKey(t, "Backend", directory.FullAccess)
	made := w.rotate(t, old, time.Hour).Key
	again := w.over(t, masters...)
	if !accepts(t, again, w.app.ID, old) || !accepts(t, again, w.app.ID, made) {
		t.Error("a key is not accepted within the grace")
	}
	*w.clock = w.clock.Add(time.Hour)
	if accepts(t, again, w.app.ID, old) || !accepts(t, again, w.app.ID, made) {
		t.Error("after the grace, the old key is accepted or the new one is not")
	}
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("without a grace the old key is gone at once", func(t *testing.T) {
		old := w.makeKey(t, "K", directory.AuthOnly)
		made := w.rotate(t, old, 0).Key
		if made.Scope != directory.AuthOnly || accepts(t, w.Directory, w.app.ID, old) ||
			!accepts(t, w.Directory, w.app.ID, made) {
			t.Error("the old key is accepted or the new one is not")
		}
	})
	t.Run("again it expires no later", func(t *testing.T) {
		old := w.makeKey(t, "K", directory.AuthOnly)
		first := w.rotate(t, old, time.Hour).Replaced.ExpiresAt
		if later := w.rotate(t, old, 2*time.Hour).Replaced.ExpiresAt; later != first {
			t.Errorf("it expires at %d, and then at %d", first, later)
		}
		if sooner := w.rotate(t, old, time.Minute).Replaced.ExpiresAt; sooner != w.clock.Add(time.Minute).Unix() {
			t.Errorf("it expires at %d", sooner)
		}
	})
	t.Run("a key rotates itself", func(t *testing.T) {
		old := w.makeKey(t, "K", directory.FullAccess)
		caller := w.backend
		caller.Key = old.ID
		if _, err := w.RotateKey(t.Context(), caller, string(old.ID), time.Hour); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		for text, want := range map[string]directory.Code{"key_000000000000": directory.CodeKeyNotFound} {
			if _, err := w.RotateKey(t.Context(), w.backend, text, 0); !directory.IsCode(err, want) {
				t.Errorf("%s: %v", text, err)
			}
		}
		key := w.makeKey(t, "K", directory.AuthOnly)
		for _, grace := range []time.Duration{-time.Second, directory.MaxKeyGrace + time.Second} {
			if _, err := w.RotateKey(t.Context(), w.backend, key.Text, grace); !directory.IsCode(err, directory.CodeBadRequest) {
				t.Errorf("a grace of %v: %v", grace, err)
			}
		}
	})
	t.Run("an app with all keys that it may have", func(t *testing.T) {
		w := newWorld(t)
		var key directory.Key
		for range 23 { // beside those it was made with
			key = w.makeKey(t, "K", directory.AuthOnly)
		}
		oneMore := directory.NewKey{Name: "K"}
		if _, err := w.CreateKey(t.Context(), w.backend, oneMore); !directory.IsCode(err, directory.CodeQuota) {
			t.Errorf("one more: %v", err)
		}
		for range 25 {
			key = w.rotate(t, key, time.Hour).Key
		}
		if _, err := w.RotateKey(t.Context(), w.backend, key.Text, time.Hour); !directory.IsCode(err, directory.CodeQuota) {
			t.Errorf("one rotation more: %v", err)
		}
		if _, err := w.CreateKey(t.Context(), w.backend, oneMore); !directory.IsCode(err, directory.CodeQuota) {
			t.Errorf("one more: %v", err)
		}
	})
}

// TestKeyLastUsed uses keys, and looks at what is told at once, after a sweep, after a crash and after a stop.
func TestKeyLastUsed(t *testing.T) {
	t.Parallel()
	masters := []secret.MasterKey{secret.NewMasterKey()}
	w := newWorld(t, masters...)
	key, idle := w.makeKey(t, "Used", directory.FullAccess), w.makeKey(t, "Idle", directory.AuthOnly)
	lastUsed := func(d *directory.Directory) int64 {
		t.Helper()
		keys := w.keyIDs(t, d)
		if at := keys[idle.ID].LastUsedAt; at != 0 {
			t.Errorf("a key that nobody uses was used at %d", at)
		}
		return keys[key.ID].LastUsedAt
	}
	use := func() int64 {
		t.Helper()
		*w.clock = w.clock.Add(time.Minute)
		if !accepts(t, w.Directory, w.app.ID, key) {
			t.Fatal("the key is not accepted")
		}
		return w.clock.Unix()
	}
	first := use()
	if at := lastUsed(w.Directory); at != first {
		t.Errorf("used at %d, and told is %d", first, at)
	}
	if at := lastUsed(w.over(t, masters...)); at != 0 { // nothing is written for a call
		t.Errorf("stored is %d", at)
	}
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := lastUsed(w.over(t, masters...)); at != first {
		t.Errorf("after a sweep, stored is %d, want %d", at, first)
	}
	_, before, err := w.ListChanges(t.Context(), w.backend, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	second := use()
	renamed := directory.KeyPatch{Name: new("Renamed")}
	if _, err := w.UpdateKey(t.Context(), w.backend, string(key.ID), renamed); err != nil {
		t.Fatal(err)
	}
	third := use()
	w.Close()
	if at := lastUsed(w.over(t, masters...)); at != third || third <= second {
		t.Errorf("after a stop, stored is %d, want %d", at, third)
	}
	if _, after, err := w.ListChanges(t.Context(), w.backend, 0, 1); err != nil || after != before+1 {
		t.Errorf("%d changes, %v; want the new name alone", after-before, err)
	}
}
