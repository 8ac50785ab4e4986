package api

import _ "embed" // the API description is part of the program

// OpenAPI is the description of the API in OpenAPI 3.1, as YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
