package rollcall_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "github.com/rollcall/rollcall/"

// allowed says which of our own packages each package may import. What is not listed may import nothing of ours. The
// reasons are in ARCHITECTURE.md.
var allowed = map[string][]string{
	"api":    {},
	"client": {"api"},
	"cmd/rollcall": {
		"api", "client", "internal/bench", "internal/directory", "internal/secret", "internal/server", "internal/sqlstore",
		"internal/transfer",
	},
	"examples/cli-presence":        {"api", "client"},
	"examples/people":              {"api", "client"},
	"examples/signup":              {"api", "client"},
	"internal/apidocs":             {},
	"internal/apidocs/generate":    {"api"},
	"internal/apitest":             {"api", "client", "internal/server"},
	"internal/apitest/clockserver": {"internal/server"},
	"internal/awake":               {},
	"internal/bench":               {"api", "client", "internal/pgserver", "internal/poller", "internal/server"},
	"internal/bus":                 {},
	"internal/changefeed":          {"internal/directory"},
	"internal/directory":           {"internal/searchtext", "internal/userindex"},
	"internal/gateway":             {"api", "internal/awake", "internal/directory", "internal/poller", "internal/presence", "internal/socketjwt"},
	"internal/httpapi":             {"api", "internal/apidocs", "internal/changefeed", "internal/directory", "internal/presence", "internal/socketjwt"},
	"internal/poller":              {},
	"internal/presence":            {"internal/awake", "internal/changefeed", "internal/directory"},
	"internal/socketjwt":           {},
	"internal/pgserver":            {},
	"internal/secret":              {},
	"internal/server": {
		"internal/changefeed", "internal/directory", "internal/gateway", "internal/httpapi", "internal/poller", "internal/presence", "internal/secret",
		"internal/socketjwt", "internal/sqlstore",
	},
	"internal/searchtext": {},
	"internal/sqlstore":   {"internal/bus", "internal/directory"},
	"internal/userindex":  {},
	"internal/transfer":   {"api", "client"},
	"internal/storetest":  {"internal/directory", "internal/pgserver"},
}

// outside are packages of others that only some packages may touch, and why.
var outside = []struct {
	prefix, why string
	only        []string
}{
	{"net/http", "the domain and the storage know no transport", []string{
		"api", "client", "examples/people", "examples/signup", "internal/apitest", "internal/bench", "internal/gateway",
		"internal/httpapi", "internal/server",
	}},
	{"github.com/goccy/go-yaml", "the server reads no YAML; what it serves is rendered beforehand", []string{
		"cmd/rollcall", "internal/apidocs/generate",
	}},
	{"github.com/gobwas/ws", "sockets are the gateway's", []string{"internal/bench", "internal/gateway"}},
	{"database/sql", "queries go through the native drivers", []string{"examples/signup", "internal/sqlstore"}},
	{"github.com/jackc/pgx", "storage is behind directory.Store", []string{
		"internal/bench", "internal/bus", "internal/pgserver", "internal/sqlstore",
	}},
	{"github.com/nats-io", "servers talk to each other through bus.Bus", []string{"internal/bus"}},
	{"github.com/ncruces/go-sqlite3", "storage is behind directory.Store", []string{"examples/signup", "internal/bench", "internal/sqlstore"}},
	{"github.com/prometheus", "metrics are made where requests are served, and handed in", []string{"internal/httpapi", "internal/server"}},
	{"github.com/spf13", "flags are for commands", []string{"cmd/rollcall"}},
	{"testing", "tests are not part of the product", []string{"internal/apitest", "internal/storetest"}},
}

// TestLayout reads the imports itself: what a child process such as `go list` reads, the test cache does not see.
func TestLayout(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	eachGoFile(t, func(folder string, file *ast.File) {
		documented[folder] = documented[folder] || file.Doc != nil
		imports, known := allowed[folder]
		if !known {
			t.Errorf("package %s is not in the table of this test", folder)
		}
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if own, ok := strings.CutPrefix(path, module); ok && !slices.Contains(imports, own) {
				t.Errorf("%s imports %s", folder, own)
			}
			if folder == "api" && strings.Contains(path, ".") {
				t.Errorf("api imports %s: it is for the standard library alone", path)
			}
			for _, rule := range outside {
				if (path == rule.prefix || strings.HasPrefix(path, rule.prefix+"/")) && !slices.Contains(rule.only, folder) {
					t.Errorf("%s imports %s: %s", folder, path, rule.why)
				}
			}
		}
		for _, declaration := range file.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Name.Name == "init" && function.Recv == nil {
				t.Errorf("%s has an init function", folder)
			}
		}
	})
	for folder := range allowed {
		if has, there := documented[folder]; !there {
			t.Errorf("package %s is in the table of this test and not in the tree", folder)
		} else if !has {
			t.Errorf("package %s says nowhere what it is for", folder)
		}
	}
}

// TestLineLength keeps the lines of the edges, of the program and of the client readable side by side, tests included.
func TestLineLength(t *testing.T) {
	t.Parallel()
	const longest = 120 // characters
	for _, folder := range []string{"client", "cmd/rollcall", "internal/httpapi", "internal/server"} {
		paths, err := filepath.Glob(filepath.Join(filepath.FromSlash(folder), "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no Go files in %s: %v", folder, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			number := 0
			for line := range strings.Lines(string(text)) {
				number++
				if length := utf8.RuneCountInString(strings.TrimRight(line, "\r\n")); length > longest {
					t.Errorf("%s:%d has %d characters; break lines at %d", path, number, length, longest)
				}
			}
		}
	}
}

// eachGoFile parses every Go file of the product that is not a test.
func eachGoFile(t *testing.T, visit func(folder string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && path != ".") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err == nil {
			visit(filepath.ToSlash(filepath.Dir(path)), file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
