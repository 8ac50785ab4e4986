// Command generate renders what package apidocs holds from the description of the API. It is run by go generate, in the
// folder of that package.
package main

import (
	"fmt"
	"os"

	"github.com/rollcall/rollcall/api"
)

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate() error {
	files, err := render(api.OpenAPI)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render returns the files of package apidocs, by name, that a description of the API makes.
func render(description []byte) (map[string][]byte, error) {
	root, err := readDescription(description)
	if err != nil {
		return nil, err
	}
	openAPI, err := root.compactJSON()
	if err != nil {
		return nil, err
	}
	page, err := renderPage(root)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"openapi.json": openAPI, "reference.html": page}, nil
}
