package sqlstore

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestAddressesKeepTheirPassword has passwords with what must be escaped written as they are, in every place of a URL.
func TestAddressesKeepTheirPassword(t *testing.T) {
	t.Parallel()
	const first, second = "Qwrt", "Zxcv"
	passwords := []string{first + second}
	for _, between := range []string{
		"@", "@@", "/", "?", "#", "%", "%4", "%zz", ":", "[", "]", "<", "\\", "`", "&", "=", ";", ",", "+", "|", "^", "{", "}", "~",
		"!", "$", "'", "\"", "(", ")", "*", "//", "/?", "?x=", "`: ", " ", "\x00", "\n", "é", "＠",
	} {
		passwords = append(
			passwords, first+between+second, between+first+second, first+second+between, first+between+second+between,
			first+"@"+second+between, first+between+"@"+second, first+between+second+":5432",
		)
	}
	for _, password := range passwords {
		for _, url := range []string{
			"postgres://roll:" + password + "@127.0.0.1:1/rollcall",
			"postgresql://roll:" + password + "@127.0.0.1:1,127.0.0.1:2/rollcall?sslmode=disable",
			"postgres://roll:" + password + "@[::1]/rollcall?sslmode=perhaps&connect_timeout=x",
			"postgres://roll:" + password + "@/rollcall",
			"postgres://:" + password + "@127.0.0.1:port",
			"postgres:/roll:" + password + "@127.0.0.1/rollcall",
			"postgres://127.0.0.1:1/rollcall?user=roll&password=" + password,
			"postgres://127.0.0.1:1/rollcall?password=" + password + "&pool_max_conns=many",
			"host=127.0.0.1 password=" + password,
		} {
			told := PlaceOfURL(url)
			if err := CheckPostgresURL(url); err != nil {
				told += " " + err.Error()
			}
			for _, part := range []string{first, second} {
				if strings.Contains(told, part) {
					t.Errorf("of %q is told %q", url, told)
				}
			}
		}
	}
}

// TestAddressesThatAreRight says which URLs are taken, and what is told of them.
func TestAddressesThatAreRight(t *testing.T) {
	t.Parallel()
	for url, place := range map[string]string{
		"postgres://roll:pass%40word@db.example.com/rollcall":       "db.example.com:5432/rollcall",
		"postgres://db.example.com:5433/rollcall?user=roll%40admin": "db.example.com:5433/rollcall",
		"postgres:///rollcall?host=/run/postgresql":                 "/run/postgresql/rollcall",
	} {
		if err := CheckPostgresURL(url); err != nil || PlaceOfURL(url) != place {
			t.Errorf("%s: is at %q (%v), want %q", url, PlaceOfURL(url), err, place)
		}
	}
}

// TestUnknownParametersAreNotRepeated has a password with an & in the parameters, so that the rest of it is one.
func TestUnknownParametersAreNotRepeated(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig("postgres://127.0.0.1/rollcall?user=roll&password=Qwrt&Zxcv=1")
	if err != nil {
		t.Fatal(err)
	}
	refused := &pgconn.PgError{Code: "42704", Message: `unrecognized configuration parameter "Zxcv"`}
	if told := connectError(config, refused).Error(); strings.Contains(told, "Zxcv") || !strings.Contains(told, "%26") {
		t.Errorf("told is %q", told)
	}
}
