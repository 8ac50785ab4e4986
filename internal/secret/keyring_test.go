package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/secret"
)

func newKeyring(t *testing.T, masters ...secret.MasterKey) *secret.Keyring {
	t.Helper()
	ring, err := secret.NewKeyring(masters...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestKeyring_Rotation(t *testing.T) {
	t.Parallel()
	old, current := secret.NewMasterKey(), secret.NewMasterKey()
	before, after, pruned := newKeyring(t, old), newKeyring(t, current, old), newKeyring(t, current)
	sealed := before.Seal("token", "row 1")
	if text, err := after.Open(sealed, "row 1"); err != nil || text != "token" {
		t.Errorf("after the rotation: %q, %v", text, err)
	}
	if after.SealedByCurrent(sealed) || !after.SealedByCurrent(after.Seal("token", "row 1")) {
		t.Error("the keyring does not know what is under the current key")
	}
	if _, err := pruned.Open(sealed, "row 1"); !errors.Is(err, secret.ErrUnknownMasterKey) {
		t.Errorf("after pruning: %v", err)
	}
	if hashes := after.Hashes("token"); !bytes.Equal(hashes[0], after.Hash("token")) || !bytes.Equal(hashes[1], before.Hash("token")) {
		t.Error("what was stored before the rotation is not found after it")
	}
	key, managementSecret := before.ManagementCredentials()
	if !after.OpensManagement(key, managementSecret) || pruned.OpensManagement(key, managementSecret) {
		t.Error("management credentials live as long as their master key")
	}
	id, signing := before.SigningKey()
	if verifying, ok := after.VerifyingKey(id); !ok || !bytes.Equal(verifying, signing) {
		t.Error("what was signed before the rotation cannot be checked after it")
	}
}

func TestKeyring_SealIsBoundToItsContext(t *testing.T) {
	t.Parallel()
	ring := newKeyring(t, secret.NewMasterKey())
	sealed := ring.Seal("token", "row 1")
	if _, err := ring.Open(sealed, "row 2"); err == nil {
		t.Error("a sealed text was opened in another row")
	}
	if bytes.Contains(sealed, []byte("token")) || bytes.Equal(sealed, ring.Seal("token", "row 1")) {
		t.Error("sealing tells something about the text")
	}
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		if _, err := ring.Open(broken, "row 1"); err == nil {
			t.Errorf("a change of byte %d went unnoticed", i)
		}
		if _, err := ring.Open(sealed[:i], "row 1"); err == nil {
			t.Errorf("a text cut off at %d was opened", i)
		}
	}
}

func TestKeyring_HashesDependOnTheMasterKey(t *testing.T) {
	t.Parallel()
	a, b := newKeyring(t, secret.NewMasterKey()), newKeyring(t, secret.NewMasterKey())
	if bytes.Equal(a.Hash("x"), b.Hash("x")) || bytes.Equal(a.Hash("x"), a.Hash("y")) || !bytes.Equal(a.Hash("x"), a.Hash("x")) {
		t.Error("the hash is not keyed")
	}
	if len(a.Hash("x")) != secret.HashSize {
		t.Errorf("a hash has %d bytes", len(a.Hash("x")))
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	made := secret.NewMasterKey()
	if err := secret.WriteFile(path, []secret.MasterKey{made}); err != nil {
		t.Fatal(err)
	}
	found, err := secret.ReadFile(path)
	if err != nil || len(found) != 1 || found[0] != made {
		t.Errorf("what was written reads as something else: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ReadFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
}

func TestParseMasterKeys(t *testing.T) {
	t.Parallel()
	one, two := secret.NewMasterKey(), secret.NewMasterKey()
	text := base64.StdEncoding.EncodeToString(one[:]) + ",\n " + base64.StdEncoding.EncodeToString(two[:])
	if masters, err := secret.ParseMasterKeys(text); err != nil || len(masters) != 2 || masters[0] != one || masters[1] != two {
		t.Errorf("got %d keys, %v", len(masters), err)
	}
	for _, wrong := range []string{"", " ", "short", base64.StdEncoding.EncodeToString([]byte("too short")), text + ",x"} {
		if _, err := secret.ParseMasterKeys(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}
