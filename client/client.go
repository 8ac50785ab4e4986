// Package client calls a Rollcall server from Go. Make a Client with New, and use its services by noun:
//
//	c, err := client.New("http://127.0.0.1:8080", client.WithApp(appID), client.WithAPIKey(restAPIKey))
//	user, err := c.Users.Create(ctx, api.CreateUserRequest{UID: "ada", Name: "Ada"})
//
// Every call takes a context and returns an *Error when the server refuses it. A Client is safe for concurrent use.
// Calls that the server did not take (rate limited) are tried again after the time it asks for; calls that only read
// are also tried again when the connection fails. Calls that write are not, unless their context carries an
// idempotency key: see WithIdempotencyKey.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/api"
)

// Client calls one app on one server, or the server's management calls.
type Client struct {
	Users      *UsersService
	AuthTokens *AuthTokensService
	APIKeys    *APIKeysService
	Roles      *RolesService
	Blocks     *BlocksService
	Friends    *FriendsService
	Visibility *VisibilityService
	Presence   *PresenceService
	Me         *MeService
	Changes    *ChangesService
	Stats      *StatsService
	Apps       *AppsService

	base string
	// socket is the path of the Unix socket that the server listens on; empty for one on the network.
	socket string
	// trusted are certificates in PEM that are trusted besides those of the system.
	trusted []byte
	http    *http.Client
	headers http.Header
	tries   int
	// managementKey and managementSecret go with the calls alone that they are for.
	managementKey, managementSecret string
}

// service is what the services share.
type service struct{ client *Client }

// Option sets up a Client.
type Option func(*Client)

// WithApp names the app that calls are for.
func WithApp(appID string) Option { return header("appId", appID) }

// WithAPIKey authenticates calls with an API key. It belongs on servers only.
func WithAPIKey(key string) Option { return header("apikey", key) }

// WithAuthToken authenticates calls as a user.
func WithAuthToken(token string) Option { return header("authToken", token) }

// WithManagement authenticates the calls of the Apps service, and without WithAPIKey those of the APIKeys service. They
// are sent with no other call.
func WithManagement(key, secret string) Option {
	return func(c *Client) { c.managementKey, c.managementSecret = key, secret }
}

// WithTrusted has the certificates of a PEM file trusted besides those of the system, such as the one that a server
// made for itself.
func WithTrusted(certificates []byte) Option { return func(c *Client) { c.trusted = certificates } }

// WithHTTPClient replaces the HTTP client. The default has a timeout of 30 s. No redirect to another server is followed
// with either: the credentials would go there. What WithTrusted and the address of a Unix socket ask for is done to a
// copy of its *http.Transport; another kind of transport has to do it itself.
func WithHTTPClient(client *http.Client) Option {
	return func(c *Client) { c.http = client }
}

// WithTries sets how often a call that may be repeated is tried. Zero or one means once; the default is 3.
func WithTries(tries int) Option { return func(c *Client) { c.tries = tries } }

func header(name, value string) Option {
	return func(c *Client) { c.headers.Set(name, value) }
}

// New returns a client for the server at an address such as https://chat.example.com, http://127.0.0.1:8080 or
// unix:/run/rollcall/rollcall.sock.
func New(address string, options ...Option) (*Client, error) {
	c := &Client{http: &http.Client{Timeout: 30 * time.Second}, headers: http.Header{}, tries: 3}
	c.base = strings.TrimSuffix(address, "/")
	if path, ok := strings.CutPrefix(address, unixScheme); ok && strings.Trim(path, "/") != "" {
		c.socket, c.base = strings.TrimPrefix(path, "//"), "http://localhost"
	}
	parsed, err := url.Parse(c.base)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, fmt.Errorf(
			"%q is not the address of a server, such as https://chat.example.com or unix:/run/rollcall/rollcall.sock", address,
		)
	}
	c.base += "/v3"
	for _, option := range options {
		option(c)
	}
	c.http = guarded(c.http)
	if c.socket != "" || c.trusted != nil {
		c.http.Transport = c.transport(c.http.Transport)
	}
	c.serve()
	return c, nil
}

// unixScheme is what the address of a server on a Unix socket begins with; the path follows.
const unixScheme = "unix:"

// transport returns a transport like another that connects to the socket of the client, and trusts what it trusts.
func (c *Client) transport(given http.RoundTripper) http.RoundTripper {
	if given == nil {
		given = http.DefaultTransport
	}
	transport, ok := given.(*http.Transport)
	if !ok {
		return given
	}
	transport = transport.Clone()
	if socket := c.socket; socket != "" {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	if c.trusted != nil {
		transport.TLSClientConfig = trusting(transport.TLSClientConfig, c.trusted)
	}
	return transport
}

// trusting returns a configuration like another, or like none, that trusts certificates in PEM besides.
func trusting(given *tls.Config, certificates []byte) *tls.Config {
	if given == nil {
		given = new(tls.Config)
	}
	config := given.Clone()
	if config.RootCAs != nil {
		config.RootCAs = config.RootCAs.Clone()
	} else if system, err := x509.SystemCertPool(); err == nil {
		config.RootCAs = system
	} else {
		config.RootCAs = x509.NewCertPool()
	}
	config.RootCAs.AppendCertsFromPEM(certificates)
	return config
}

// OnBehalfOf returns a client whose lists and look-ups with an API key give exactly what a user would see.
func (c *Client) OnBehalfOf(uid string) *Client {
	acting := *c
	acting.headers = c.headers.Clone()
	acting.headers.Set("onBehalfOf", uid)
	acting.serve()
	return &acting
}

// serve makes the services of the client.
func (c *Client) serve() {
	s := service{c}
	c.Users, c.AuthTokens, c.APIKeys = &UsersService{s}, &AuthTokensService{s}, &APIKeysService{s}
	c.Roles, c.Blocks, c.Friends = &RolesService{s}, &BlocksService{s}, &FriendsService{s}
	c.Visibility, c.Presence = &VisibilityService{s}, &PresenceService{s}
	c.Me, c.Changes, c.Stats, c.Apps = &MeService{s}, &ChangesService{s}, &StatsService{s}, &AppsService{s}
}

// Error is the server's refusal of a call. Find it with errors.As.
type Error struct {
	Code api.Code
	// Message says what is wrong and what to do about it.
	Message string
	// Details holds what is wrong field by field.
	Details map[string][]string
	// Status is the HTTP status.
	Status int
	// RequestID finds the call in the server's log.
	RequestID string
	// RetryAfter is how long the server asks to wait; zero when it does not say.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Code == "" { // not in the words of a Rollcall server
		return e.Message
	}
	return string(e.Code) + ": " + e.Message
}

// IsCode reports whether err is the server's refusal with the given code.
func IsCode(err error, code api.Code) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Code == code
}

type idempotencyKey struct{}

// WithIdempotencyKey makes the one writing call made with the returned context safe to repeat: the server answers a
// repetition with its first answer, for a day. Use a fresh key, such as a UUID, for every call.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var reader io.Reader
	if body != nil {
		var encoded bytes.Buffer
		encoder := json.NewEncoder(&encoded)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(body); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		reader = &encoded
	}
	if c.socket != "" {
		ctx = context.WithValue(ctx, socketOf{}, c.socket)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return nil, err
	}
	request.Header = c.headers.Clone()
	if c.managementKey != "" && c.managed(path) {
		request.Header.Set("key", c.managementKey)
		request.Header.Set("secret", c.managementSecret)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key, ok := ctx.Value(idempotencyKey{}).(string); ok {
		request.Header.Set("Idempotency-Key", key)
	}
	return request, nil
}

// managed reports whether a call is made with the management credentials: those about apps, and those about API keys
// when there is no API key.
func (c *Client) managed(path string) bool {
	noun, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return noun == "apps" || noun == "apikeys" && c.headers.Get("apikey") == ""
}

// call makes a call and returns the answer with its meta, and what of that belongs to the data joined to it.
func call[T any](ctx context.Context, s service, method, path string, query url.Values, body any) (api.Body[T], error) {
	var answer api.Body[T]
	for try := 1; ; try++ {
		request, err := s.client.request(ctx, method, path, query, body)
		if err != nil {
			return answer, err
		}
		err = s.client.once(request, &answer)
		wait, again := s.client.mayTryAgain(request, err)
		if err == nil || !again || try >= s.client.tries {
			join(&answer.Data, answer.Meta)
			return answer, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return answer, err
		}
	}
}

// mayTryAgain reports whether repeating a request cannot do harm, and how long to wait before.
func (c *Client) mayTryAgain(request *http.Request, err error) (time.Duration, bool) {
	const pause = 200 * time.Millisecond
	if err == nil || request.Context().Err() != nil || isUnusable(err) {
		return 0, false
	}
	repeatable := request.Method == http.MethodGet || request.Header.Get("Idempotency-Key") != ""
	var refused *Error
	if !errors.As(err, &refused) {
		return pause, repeatable
	}
	switch refused.Status {
	case http.StatusTooManyRequests:
		return max(refused.RetryAfter, pause), true
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return max(refused.RetryAfter, pause), repeatable
	default:
		return 0, false
	}
}

func (c *Client) once(request *http.Request, answer any) error {
	response, err := c.http.Do(request)
	if err != nil {
		return inWords(request, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return refusal(response)
	}
	body, err := readAnswer(response, maxAnswer)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return notOurs(response, err)
	}
	return nil
}

// ErrIncomplete means that an export ended before its last line.
var ErrIncomplete = errors.New("the export is not complete: the server ended it early")

// Export writes everything of the app that another directory can be made of to w, a JSON object a line: see
// api.ExportLine. Errors: ErrIncomplete when the server ended early.
func (c *Client) Export(ctx context.Context, w io.Writer) (lines int, err error) {
	request, err := c.request(ctx, http.MethodGet, "/export", nil, nil)
	if err != nil {
		return 0, err
	}
	response, err := c.open(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	scanner := bufio.NewScanner(response.Body)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	var last []byte
	for scanner.Scan() {
		last = append(last[:0], scanner.Bytes()...)
		if _, err := w.Write(append(last, '\n')); err != nil {
			return lines, err
		}
		lines++
	}
	var end api.ExportLine
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return lines, errors.Join(ErrIncomplete, unusable("a line of the export is longer than %d MB", maxLine>>20))
	}
	if scanner.Err() != nil || json.Unmarshal(last, &end) != nil || end.Type != "end" {
		return lines, errors.Join(ErrIncomplete, scanner.Err())
	}
	return end.Lines, nil
}

// maxLine bounds a line of an export, in bytes. The longest is that of a user with all that a user may have.
const maxLine = 4 << 20

// patient returns the HTTP client without its timeout, for what takes as long as it takes.
func (c *Client) patient() *http.Client {
	patient := *c.http
	patient.Timeout = 0
	return &patient
}

// open makes a request whose answer may take any time to read. Anything but OK is an error.
func (c *Client) open(request *http.Request) (*http.Response, error) {
	response, err := c.patient().Do(request)
	if err != nil {
		return nil, inWords(request, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	return nil, refusal(response)
}

// refusal returns the error that an answer is which is not OK.
func refusal(response *http.Response) error {
	body, err := readAnswer(response, maxRefusal)
	if err != nil && !isUnusable(err) {
		return err
	}
	var envelope api.ErrorBody
	if json.Unmarshal(body, &envelope) != nil || envelope.Error.Code == "" {
		message := "the server answered " + response.Status
		if line := firstLine(response, body); line != "" {
			message += ": " + line
		}
		return &Error{Message: message, Status: response.StatusCode}
	}
	refused := &Error{
		Code: envelope.Error.Code, Message: envelope.Error.Message, Details: envelope.Error.Details,
		Status: response.StatusCode, RequestID: response.Header.Get("X-Request-Id"),
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		refused.RetryAfter = time.Duration(seconds) * time.Second
	}
	return refused
}

// get, post, put and remove make a call whose answer is its data alone.
func get[T any](ctx context.Context, s service, path string, query url.Values) (T, error) {
	answer, err := call[T](ctx, s, http.MethodGet, path, query, nil)
	return answer.Data, err
}

func post[T any](ctx context.Context, s service, path string, body any) (T, error) {
	answer, err := call[T](ctx, s, http.MethodPost, path, nil, body)
	return answer.Data, err
}

func put[T any](ctx context.Context, s service, path string, body any) (T, error) {
	answer, err := call[T](ctx, s, http.MethodPut, path, nil, body)
	return answer.Data, err
}

func remove[T any](ctx context.Context, s service, path string, body any) (T, error) {
	answer, err := call[T](ctx, s, http.MethodDelete, path, nil, body)
	return answer.Data, err
}

// segment escapes a part of a path.
func segment(text string) string { return url.PathEscape(text) }
