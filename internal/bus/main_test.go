package bus_test

import (
	"os"
	"testing"

	"github.com/rollcall/rollcall/internal/pgserver"
	"github.com/rollcall/rollcall/internal/storetest"
)

var postgres *pgserver.Server

func TestMain(m *testing.M) { os.Exit(storetest.Main(m, &postgres)) }
