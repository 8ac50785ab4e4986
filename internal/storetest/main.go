package storetest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/rollcall/rollcall/internal/pgserver"
)

// Main runs the tests of a package with a PostgreSQL that they share, and returns the exit code. A goroutine that
// outlives the tests fails them.
func Main(m *testing.M, postgres **pgserver.Server, ignore ...goleak.Option) int {
	complain := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server, err := pgserver.Start(context.Background(), false)
	if err != nil {
		return complain(err)
	}
	*postgres = server
	code := m.Run()
	if err := server.Close(); err != nil {
		return complain(err)
	}
	if err := goleak.Find(ignore...); err != nil && code == 0 {
		return complain(err)
	}
	return code
}

// OwnPostgres starts a PostgreSQL that a test may do to what it likes, and returns it with the URL of an empty
// database.
func OwnPostgres(t *testing.T) (*pgserver.Server, string) {
	t.Helper()
	server, err := pgserver.Start(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	url, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return server, url
}
