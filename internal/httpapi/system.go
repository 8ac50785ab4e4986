package httpapi

import (
	_ "embed" // the front page is part of the program
	"errors"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apidocs"
	"github.com/rollcall/rollcall/internal/directory"
)

func getHealth(*call) (answer, error) { return success("alive") }

func getReadiness(c *call) (answer, error) {
	remark, err := c.api.config.Ready(c.ctx())
	if err != nil {
		unready := errorf(api.CodeOperationFailed, "The server is not ready to serve.")
		unready.Cause = err
		if why, ok := errors.AsType[*directory.Error](err); ok {
			unready.Message += " " + why.Message
			unready.Cause = why.Cause
		}
		return answer{}, &statusError{unready, http.StatusServiceUnavailable}
	}
	ready := "ready"
	if remark != "" {
		ready += "; " + remark
	}
	if reading := c.api.dir.IndexProgress(); len(reading) > 0 {
		ready += "; lists are not: " + strings.Join(reading, ", ") + " so far"
	}
	return success(ready)
}

func getMetrics(c *call) (answer, error) {
	if c.api.config.Metrics == nil {
		return answer{}, errorf(api.CodeAPINotFound, "Metrics are turned off.")
	}
	c.api.config.Metrics.ServeHTTP(c.w, c.r)
	return written, nil
}

func getOpenAPI(c *call) (answer, error) {
	c.w.Header()["Content-Type"] = jsonContentType
	c.w.WriteHeader(http.StatusOK)
	_, err := c.w.Write(apidocs.OpenAPI)
	return written, err
}

func getDocs(c *call) (answer, error) {
	return written, writeHTML(c.w, apidocs.Page)
}

//go:embed front.html
var frontPage []byte

func getFrontPage(c *call) (answer, error) {
	return written, writeHTML(c.w, frontPage)
}

func writeHTML(w http.ResponseWriter, page []byte) error {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set(
		"Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	)
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(page)
	return err
}
