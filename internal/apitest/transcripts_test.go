package apitest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"golang.org/x/tools/txtar"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/apitest"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/server"
)

var update = flag.Bool("update", false, "rewrite the responses in the transcripts")

// exchange is a request of a transcript and the response to it, as they are written there.
type exchange struct {
	name     string
	request  []byte
	response []byte
}

// readTranscript reads a transcript: files "request: name" and "response" in turn.
func readTranscript(t *testing.T, path string) (*txtar.Archive, []exchange) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var exchanges []exchange
	for _, file := range archive.Files {
		if name, ok := strings.CutPrefix(file.Name, "request: "); ok {
			exchanges = append(exchanges, exchange{name: name, request: file.Data})
		} else if len(exchanges) > 0 {
			exchanges[len(exchanges)-1].response = file.Data
		}
	}
	return archive, exchanges
}

func transcripts(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("there are no transcripts", err)
	}
	return paths
}

func TestTranscripts(t *testing.T) {
	description := loadOpenAPI(t)
	for _, path := range transcripts(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, database string) { replay(t, path, database, description) })
		})
	}
}

// replay sends the requests of a transcript to a fresh server and compares the responses.
func replay(t *testing.T, path, database string, description routers.Router) {
	archive, exchanges := readTranscript(t, path)
	s := apitest.Start(t, database, func(config *server.Config) { config.RateLimits = httpapi.RateLimits{Core: -1, Standard: -1, Token: -1} })
	variables := variables(s.Credentials)
	for i, x := range exchanges {
		s.Clock().Advance(10 * time.Second)
		request := parseRequest(t, variables, x.request)
		got := send(t, s.URL, request, description)
		variables = variables.capture(string(got))
		got = []byte(variables.hide(string(got)))
		if *update && database == "" {
			exchanges[i].response = got
			continue
		}
		if !bytes.Equal(got, x.response) {
			t.Errorf("%s: the response is\n%s\nand should be\n%s", x.name, got, x.response)
		}
	}
	if *update && database == "" {
		rewrite(t, path, archive, exchanges)
	}
}

func rewrite(t *testing.T, path string, archive *txtar.Archive, exchanges []exchange) {
	t.Helper()
	archive.Files = nil
	for _, x := range exchanges {
		archive.Files = append(archive.Files, txtar.File{Name: "request: " + x.name, Data: x.request}, txtar.File{Name: "response", Data: x.response})
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// names stand in transcripts for what the server's credentials are.
type names [][2]string

func variables(c server.Credentials) names {
	return names{{"$APP", c.AppID}, {"$REST_API_KEY", c.RestAPIKey}, {"$AUTH_KEY", c.AuthKey}, {"$MANAGEMENT_KEY", c.ManagementKey}, {"$MANAGEMENT_SECRET", c.ManagementSecret}}
}

func (n names) fill(text string) string {
	for _, pair := range n {
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

func (n names) hide(text string) string {
	for _, pair := range n {
		text = strings.ReplaceAll(text, pair[1], pair[0])
	}
	return text
}

// captured are values of responses that later requests name: the first of each in a transcript.
var captured = map[string]*regexp.Regexp{
	"$ADA_TOKEN": regexp.MustCompile(`"authToken":"(ada_[0-9a-f]{40})"`),
	"$BOB_TOKEN": regexp.MustCompile(`"authToken":"(bob_[0-9a-f]{40})"`),
	"$TOKEN_ID":  regexp.MustCompile(`"id":"(tok_[0-9a-f]+)"`),
	"$ADA_JWT":   regexp.MustCompile(`"jwt":"([^"]+)"`),
}

func (n names) capture(response string) names {
	for name, pattern := range captured {
		match := pattern.FindStringSubmatch(response)
		known := slices.ContainsFunc(n, func(pair [2]string) bool { return pair[0] == name })
		if match != nil && !known {
			n = append(n, [2]string{name, match[1]})
		}
	}
	return n
}

// credentials that a request names in a line of their own, in the place of headers.
var credentials = map[string][]string{
	"as: backend":  {"appId: $APP", "apikey: $REST_API_KEY"},
	"as: frontend": {"appId: $APP", "apikey: $AUTH_KEY"},
	"as: operator": {"key: $MANAGEMENT_KEY", "secret: $MANAGEMENT_SECRET"},
}

// parseRequest reads a request as it is on the wire, but for line ends and lengths. "as: user TOKEN" stands for a
// logged-in user.
func parseRequest(t *testing.T, variables names, text []byte) *http.Request {
	t.Helper()
	head, body, _ := strings.Cut(string(text), "\n\n")
	var lines []string
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if headers, ok := credentials[line]; ok {
			lines = append(lines, headers...)
		} else if token, ok := strings.CutPrefix(line, "as: user "); ok {
			lines = append(lines, "appId: $APP", "authToken: "+token)
		} else {
			lines = append(lines, line)
		}
	}
	body = strings.TrimSpace(variables.fill(body))
	method, path, found := strings.Cut(lines[0], " ")
	if !found {
		t.Fatalf("not a request: %q", lines[0])
	}
	request, err := http.NewRequestWithContext(apitest.Context(t), method, "http://server"+variables.fill(path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		request.Body = nil
	} else {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if name == "host" {
			request.Host = variables.fill(value)
			continue
		}
		request.Header.Set(name, variables.fill(value))
	}
	return request
}

// send sends a request, checks both directions against the API description, and returns the response as transcripts
// have it: the status and the body.
func send(t *testing.T, address string, request *http.Request, description routers.Router) []byte {
	t.Helper()
	var sent []byte
	if request.Body != nil {
		var err error
		if sent, err = io.ReadAll(request.Body); err != nil {
			t.Fatal(err)
		}
	}
	wire := request.Clone(t.Context())
	wire.URL.Host = strings.TrimPrefix(address, "http://")
	if wire.Host == "server" {
		wire.Host = "chat.example.com"
	}
	wire.Body = io.NopCloser(bytes.NewReader(sent))
	wire.ContentLength = int64(len(sent))
	ctx, cancel := context.WithTimeout(t.Context(), outagePatience)
	defer cancel()
	response, err := http.DefaultTransport.RoundTrip(wire.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := readResponse(t, response)
	request.Body = io.NopCloser(bytes.NewReader(sent))
	checkDescription(t, description, request, response, body)
	if isHTML(response) {
		body = []byte("(a page)\n")
	}
	return fmt.Appendf(nil, "%d\n%s", response.StatusCode, body)
}

// readResponse reads a body; of a stream, which has no end, up to the first blank line behind an event.
func readResponse(t *testing.T, response *http.Response) []byte {
	t.Helper()
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	var body []byte
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, line...)
		if len(line) == 1 && bytes.Contains(body, []byte("data: ")) {
			return body
		}
	}
}

func isHTML(response *http.Response) bool {
	return strings.HasPrefix(response.Header.Get("Content-Type"), "text/html")
}

func loadOpenAPI(t *testing.T) routers.Router {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	document.Servers = nil
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

var version = regexp.MustCompile(`^/+v3(\.0)?/+`)

// checkDescription checks a response against the API description, and, where the server took it, the request.
func checkDescription(
	t *testing.T, description routers.Router, request *http.Request, response *http.Response, body []byte,
) {
	t.Helper()
	plain := request.Clone(t.Context())
	plain.URL.Path = version.ReplaceAllString(strings.TrimSuffix(plain.URL.Path, "/"), "/")
	if plain.URL.Path == "" {
		plain.URL.Path = "/"
	}
	plain.URL.RawPath = ""
	route, parameters, err := description.FindRoute(plain)
	if err != nil {
		if response.StatusCode == http.StatusOK {
			t.Errorf("%s %s is not described: %v", request.Method, request.URL.Path, err)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: plain, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if response.StatusCode == http.StatusOK {
		if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
			t.Errorf("%s %s: the request differs from the description: %v", request.Method, request.URL.Path, err)
		}
	}
	if content := response.Header.Get("Content-Type"); strings.HasPrefix(content, "text/") || content == "application/x-ndjson" {
		return
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: input.Options,
	})
	if err != nil {
		t.Errorf("%s %s: the response differs from the description: %v\n%s", request.Method, request.URL.Path, err, body)
	}
}

// notReplayed are routes whose answers are not the same every time; what they are tested by stands beside them.
var notReplayed = map[string]string{
	"GET /metrics":      "TestMetrics",
	"GET /openapi.json": "TestOpenAPIIsServed",
}

func TestEveryRouteHasATranscript(t *testing.T) {
	answered := map[string]bool{}
	routes := httpapi.Routes()
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.HandleFunc(route.Method+" "+route.Path, func(http.ResponseWriter, *http.Request) {})
	}
	for _, path := range transcripts(t) {
		_, exchanges := readTranscript(t, path)
		for _, x := range exchanges {
			if !bytes.HasPrefix(x.response, []byte("200\n")) {
				continue
			}
			first, _, _ := strings.Cut(string(x.request), "\n")
			method, target, _ := strings.Cut(first, " ")
			request, err := http.NewRequestWithContext(apitest.Context(t), method, "http://server"+version.ReplaceAllString(target, "/"), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, pattern := mux.Handler(request)
			answered[pattern] = true
		}
	}
	for _, route := range routes {
		pattern := route.Method + " " + route.Path
		if !answered[pattern] && notReplayed[pattern] == "" {
			t.Errorf("no transcript has a successful %s", pattern)
		}
	}
}

// TestTranscriptsReadBack keeps a transcript from being blind: an answer made from memory proves no write.
func TestTranscriptsReadBack(t *testing.T) {
	for _, path := range transcripts(t) {
		_, exchanges := readTranscript(t, path)
		lastWrite, lastRead := -1, -1
		for i, x := range exchanges {
			if !bytes.HasPrefix(x.response, []byte("200\n")) {
				continue
			}
			if bytes.HasPrefix(x.request, []byte("GET ")) {
				lastRead = i
			} else {
				lastWrite = i
			}
		}
		if lastWrite > lastRead {
			t.Errorf("%s ends with a write (%s) and does not read it back", path, exchanges[lastWrite].name)
		}
	}
}

func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, "", nil)
	request, err := http.NewRequestWithContext(apitest.Context(t), http.MethodGet, s.URL+"/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var document struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	var described, served []string
	for path, operations := range document.Paths {
		for method := range operations {
			if method == strings.ToLower(method) && slices.Contains([]string{"get", "put", "post", "delete"}, method) {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, route := range httpapi.Routes() {
		served = append(served, route.Method+" "+strings.ReplaceAll(route.Path, "{$}", ""))
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described and served differ:\n%v\n%v", described, served)
	}
}
