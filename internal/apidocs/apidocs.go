// Package apidocs holds the reference of the API, for people and for programs. Both are rendered from api/openapi.yaml
// beforehand, so that the server need not read YAML: run make generate after a change of the description.
package apidocs

import _ "embed" // the pages are part of the program

//go:generate go run ./generate

// OpenAPI is the description of the API in OpenAPI 3.1, as JSON.
//
//go:embed openapi.json
var OpenAPI []byte

// Page is the reference for people, as HTML.
//
//go:embed reference.html
var Page []byte
