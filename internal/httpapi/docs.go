package httpapi

import (
	"fmt"
	"net/http"

	"github.com/goccy/go-yaml"

	"github.com/rollcall/rollcall/api"
)

// docs are the pages about the API, made once from its description.
type docs struct {
	openAPI []byte // JSON
	page    []byte // HTML
}

func newDocs() (*docs, error) {
	openAPI, err := yaml.YAMLToJSON(api.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("read API description: %w", err)
	}
	return &docs{openAPI: openAPI, page: frontPage}, nil
}

func getOpenAPI(c *call) (answer, error) {
	c.w.Header()["Content-Type"] = jsonContentType
	c.w.WriteHeader(http.StatusOK)
	_, err := c.w.Write(c.api.docs.openAPI)
	return written, err
}

func getDocs(c *call) (answer, error) { return written, writeHTML(c.w, c.api.docs.page) }

var frontPage = []byte(`<!doctype html><title>Rollcall</title><h1>Rollcall</h1><p><a href="/docs">API reference</a></p>`)
