// Package httpapi serves the REST API and the client API of the contract over HTTP: the route table, who may call
// what, decoding, encoding, errors, rate limits and CORS. What a call means is decided in package directory; this
// package knows no SQL and starts no listeners.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/changefeed"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/presence"
	"github.com/rollcall/rollcall/internal/socketjwt"
)

// Signer has the keys of the tokens that tell others who a user is.
type Signer interface {
	// IdentityKeys returns the seeds of the asymmetric keys by id, the current id first.
	IdentityKeys() (ids []string, seeds map[string][]byte)
}

// Config is what an API needs. Directory, Signer, SocketSigner, Presence and Feed are required; everything else has a
// useful zero value.
type Config struct {
	// Directory decides what calls mean. Required.
	Directory *directory.Directory
	// Signer has the keys of the identity tokens of users. Required.
	Signer Signer
	// SocketSigner signs the JWTs that sockets authenticate with. Required.
	SocketSigner *socketjwt.Signer
	// Presence is who is online. Required.
	Presence *presence.Presence
	// Feed hands over what is committed to the directory, for streams of changes. Required.
	Feed *changefeed.Feed
	// OpensManagement reports whether a key and secret open the management calls. Nil means that none do.
	OpensManagement func(key, secret string) bool
	// TrustedProxies are those whose headers are believed about who their clients are.
	TrustedProxies Proxies
	// PublicHost is the host[:port] that clients are told to use. Empty means the one they called.
	PublicHost string
	// BodyLimit is the largest body in bytes. Zero means DefaultBodyLimit.
	BodyLimit int64
	// RequestTimeout bounds a request, from its arrival to its answer. Zero means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// JWTLifetime is how long a socket JWT is valid. Zero means 15 minutes.
	JWTLifetime time.Duration
	RateLimits  RateLimits
	// Logger gets one record per request. Nil discards them.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil keeps them unregistered.
	Registerer prometheus.Registerer
	// Ready reports why the server cannot serve, nil when it can; callers are told the message of a directory.Error. When
	// it can, they are told the remark, if there is one. Nil means always ready.
	Ready func(context.Context) (remark string, err error)
	// Metrics serves /metrics. Nil means 404.
	Metrics http.Handler
}

// What the zero value of a Config means.
const (
	DefaultBodyLimit      = 10 << 10 // bytes, the contract's
	DefaultRequestTimeout = 15 * time.Second
)

// API is the HTTP handler of the product. It is safe for concurrent use.
type API struct {
	config  Config
	dir     *directory.Directory
	mux     *http.ServeMux
	limiter *limiter
	lists   *lists
	metrics *metrics
	proxies Proxies
	// running ends when the API is closed.
	running context.Context //nolint:containedctx // it is the API's life
	end     context.CancelFunc
}

// missing returns the name of a required field that is not set, empty when all are.
func (c Config) missing() string {
	switch {
	case c.Directory == nil:
		return "Directory"
	case c.Signer == nil:
		return "Signer"
	case c.SocketSigner == nil:
		return "SocketSigner"
	case c.Presence == nil:
		return "Presence"
	case c.Feed == nil:
		return "Feed"
	}
	return ""
}

// New returns the API. Close ends the streams that would otherwise keep a server from shutting down. It refuses a
// config in which a required field is not set.
func New(config Config) (*API, error) {
	if field := config.missing(); field != "" {
		return nil, fmt.Errorf("httpapi.Config.%s is not set, and is required", field)
	}
	if config.BodyLimit <= 0 {
		config.BodyLimit = DefaultBodyLimit
	}
	if config.RequestTimeout <= 0 {
		config.RequestTimeout = DefaultRequestTimeout
	}
	if config.JWTLifetime <= 0 {
		config.JWTLifetime = 15 * time.Minute
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.OpensManagement == nil {
		config.OpensManagement = func(string, string) bool { return false }
	}
	if config.Ready == nil {
		config.Ready = func(context.Context) (string, error) { return "", nil }
	}
	limiter, err := newLimiter(config.RateLimits, time.Now)
	if err != nil {
		return nil, err
	}
	a := &API{
		config: config, dir: config.Directory, mux: http.NewServeMux(), limiter: limiter,
		lists: newLists(config.Directory.ListsAtOnce(), config.Registerer), metrics: newMetrics(config.Registerer),
		proxies: config.TrustedProxies,
	}
	a.running, a.end = context.WithCancel(context.Background())
	for _, route := range Routes() {
		a.mount(route)
	}
	a.mux.HandleFunc("/", a.notFound)
	return a, nil
}

// InFlight returns how many requests are being served.
func (a *API) InFlight() int64 { return a.metrics.inFlight.Load() }

// Close ends the event streams and the background work. Call it once, before shutting down the server.
func (a *API) Close() {
	a.end()
	a.limiter.limiters.StopAllGoroutines()
}

// mount registers a route with what every route needs around its handler.
func (a *API) mount(route Route) {
	observer := a.metrics.observer(route.Method + " " + route.Path)
	a.mux.HandleFunc(route.Method+" "+route.Path, func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(w)
		x.route, x.observer = route.Method+" "+route.Path, observer
		x.call = call{api: a, route: &route, w: x, r: r}
		if x.second && !inVersion2[route.Path] {
			a.writeError(x, errorf(api.CodeInvalidAPIVersion,
				"%s %s is not a call that is the same in version v2. Use the path prefix /v3, or none.", route.Method, route.Path))
			return
		}
		answer, err := x.call.serve() //nolint:contextcheck // a call carries its request, and the context with it
		switch {
		case err != nil:
			a.writeError(x, err)
		case !answer.written:
			a.writeAnswer(x, answer)
		}
	})
}

// answer is what a handler returns.
type answer struct {
	data any
	meta *api.Meta
	// written says that the handler has written the response itself.
	written bool
}

func data(value any) (answer, error) { return answer{data: value}, nil }

func success(message string) (answer, error) {
	return answer{data: api.Success{Success: true, Message: message}}, nil
}

var written = answer{written: true}

// call is one request on its way through a handler. It is used again when the request is answered.
type call struct {
	api   *API
	route *Route
	w     *exchange
	r     *http.Request

	policy *directory.Policy
	caller directory.Caller
	// user and token are set for calls with an auth token.
	user  directory.User
	token directory.Token
	// key is set for calls with an API key.
	key directory.Key

	body     []byte
	bodyRead bool
	// decoded and asked are the body and the query string, once somebody has asked for them.
	decoded *fields
	asked   *query
	// idempotent is the context of a request with an Idempotency-Key.
	idempotent context.Context
}

func (c *call) ctx() context.Context {
	if c.idempotent != nil {
		return c.idempotent
	}
	return c.w.ctx
}

// path returns what of the path has this name. What no database can hold, and so names nothing, is still escaped.
func (c *call) path(name string) string {
	value := c.r.PathValue(name)
	if !directory.IsText(value) {
		return url.PathEscape(value)
	}
	return value
}

// serve authenticates the caller as the route demands, counts the request against its limits, and runs the handler.
func (c *call) serve() (answer, error) {
	if err := c.authenticate(); err != nil {
		return answer{}, err
	}
	if err := c.api.limiter.take(c); err != nil {
		return answer{}, err
	}
	if err := c.useIdempotencyKey(); err != nil {
		return answer{}, err
	}
	var answer answer
	var err error
	if readsLists[c.w.route] {
		answer, err = c.handleList(c.route.handle)
	} else {
		answer, err = c.route.handle(c)
	}
	if err == nil && c.asked == nil && !answer.written && c.r.URL.RawQuery != "" {
		err = c.query().err() // of a call that has no parameters
	}
	return answer, err
}

// splitVersion takes the version prefix off a path: /v3/users, /v3.0/users and /users are the same. second says that it
// is the one of version 2, which some calls are served under too.
func splitVersion(path string) (rest string, second bool, err error) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if len(first) < 2 || first[0] != 'v' || first[1] < '0' || first[1] > '9' ||
		strings.Trim(first[1:], "0123456789.") != "" {
		return path, false, nil
	}
	switch first {
	case "v3", "v3.0":
		return "/" + rest, false, nil
	case "v2", "v2.0":
		return "/" + rest, true, nil
	}
	return "", false, errorf(api.CodeInvalidAPIVersion, "This server speaks version v3. Use the path prefix /v3, or none.")
}
