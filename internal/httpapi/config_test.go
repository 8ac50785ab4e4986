package httpapi_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/socketjwt"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// TestConfigRequires takes from a config that has just what is required one thing at a time.
func TestConfigRequires(t *testing.T) {
	t.Parallel()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "config.db"))
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := secret.NewKeyring(secret.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	d := directory.New(directory.Config{Store: store, Secrets: keyring})
	required := httpapi.Config{
		Directory: d, Signer: keyring, SocketSigner: socketjwt.NewSigner(keyring),
		Presence: presence.New(presence.Config{Directory: d}), Feed: changefeed.New(d),
	}
	t.Cleanup(func() {
		required.Presence.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := httpapi.New(required)
	if err != nil {
		t.Fatal("with everything that is required:", err)
	}
	a.Close()
	for field, without := range map[string]func(*httpapi.Config){
		"Directory":    func(c *httpapi.Config) { c.Directory = nil },
		"Signer":       func(c *httpapi.Config) { c.Signer = nil },
		"SocketSigner": func(c *httpapi.Config) { c.SocketSigner = nil },
		"Presence":     func(c *httpapi.Config) { c.Presence = nil },
		"Feed":         func(c *httpapi.Config) { c.Feed = nil },
	} {
		config := required
		without(&config)
		a, err := httpapi.New(config)
		if err == nil {
			a.Close()
			t.Errorf("without %s it was made", field)
		} else if !strings.Contains(err.Error(), "httpapi.Config."+field+" ") {
			t.Errorf("without %s: %v", field, err)
		}
	}
}
