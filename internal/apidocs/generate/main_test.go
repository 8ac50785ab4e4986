package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/rollcall/rollcall/api"
)

// TestCommittedIsGenerated keeps what is served equal to the description, which is changed by hand.
func TestCommittedIsGenerated(t *testing.T) {
	t.Parallel()
	files, err := render(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	for name, generated := range files {
		committed, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, generated) {
			t.Errorf("internal/apidocs/%s is not what api/openapi.yaml makes now: run make generate", name)
		}
	}
}
