package apitest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/pgserver"
	"github.com/rollcall/rollcall/internal/storetest"
)

// postgres is the server that the tests of this package share; each test has a database of its own.
var postgres *pgserver.Server

func TestMain(m *testing.M) {
	// Idle connections of the tests' own HTTP client.
	os.Exit(storetest.Main(m, &postgres, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop")))
}

// onEveryEngine runs a test on SQLite and on PostgreSQL.
func onEveryEngine(t *testing.T, test func(t *testing.T, database string)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		url, err := postgres.NewDatabase(apitest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		test(t, url)
	})
}
