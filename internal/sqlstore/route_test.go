package sqlstore_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall/rollcall/internal/sqlstore"
)

// TestSilentHost names a server first that takes connections and never says a word, as one does that hangs.
func TestSilentHost(t *testing.T) {
	t.Parallel()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	only, err := postgres.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(only)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(silent.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	both := fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%s,%d",
		config.Database, url.QueryEscape(host+","+config.Host), port, config.Port)
	store, err := sqlstore.OpenPostgres(t.Context(), both)
	if err != nil {
		t.Fatal(err)
	}
	if route, _ := store.Route(); !strings.HasPrefix(route.Host, config.Host) {
		t.Errorf("it has reached %s", route.Host)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
