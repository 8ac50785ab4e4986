package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	neturl "net/url"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// exchange is one request and its response: what is worth knowing about it is gathered here on the way and logged
// once at the end.
type exchange struct {
	http.ResponseWriter
	id       string
	started  time.Time
	route    string
	observer *observer
	from     client
	app      string
	actor    string
	status   int
	written  int
	code     api.Code
	cause    error
	// routine says that the request is worth no record in the log: it is one of many alike, which are counted.
	routine bool
	// second says that the path has the prefix of version 2.
	second bool
	// ctx ends with the time that a request has.
	ctx context.Context //nolint:containedctx // it is the request's
	// call is the request on its way through a handler, when a route has taken it.
	call call
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func exchangeOf(w http.ResponseWriter) *exchange {
	return w.(*exchange) //nolint:forcetypeassert // ServeHTTP hands it to the mux
}

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(body []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(body)
	x.written += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// noStore keeps what is meant for one caller out of caches, which do not know this API's credential headers.
var noStore = []string{"no-store"}

// requestIDHeader carries the id under which a request is logged. A proxy may send one.
const requestIDHeader = "X-Request-Id"

func requestID(r *http.Request) string {
	if sent := r.Header.Get(requestIDHeader); sent != "" && len(sent) <= 64 &&
		!strings.ContainsFunc(sent, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return sent
	}
	return strconv.FormatUint(rand.Uint64(), 36)
}

// ServeHTTP serves one request: every answer, whatever happens, is the contract's envelope, with CORS and a log record.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.serve(w, r, nil) }

// Refuse answers a request, which is not one for the API, with an error in the contract's envelope.
func (a *API) Refuse(w http.ResponseWriter, r *http.Request, status int, err *directory.Error) {
	a.serve(w, r, &statusError{domain: err, status: status})
}

// serve answers a request, and records it. refused, unless it is nil, is the answer.
func (a *API) serve(w http.ResponseWriter, r *http.Request, refused error) {
	x := exchanges.Get().(*exchange) //nolint:forcetypeassert // the pool holds nothing else
	started := time.Now()
	ctx, end := context.WithDeadline(r.Context(), started.Add(a.config.RequestTimeout))
	*x = exchange{
		ResponseWriter: w, id: requestID(r), started: started, observer: a.metrics.unrouted,
		ctx: ctx, from: a.proxies.clientOf(r),
	}
	header := w.Header()
	header[requestIDHeader] = []string{x.id}
	a.metrics.inFlight.Add(1)
	defer func() {
		failure := recover()
		if err, ok := failure.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			defer panic(failure) // net/http's own way to drop a connection
		} else if failure != nil {
			a.writeError(x, fmt.Errorf("panic: %v\n%s", failure, debug.Stack()))
		}
		a.metrics.inFlight.Add(-1)
		a.record(x, r)
		end()
		*x = exchange{}
		exchanges.Put(x)
	}()
	header["Cache-Control"] = noStore
	allowOrigin(header, r)
	if r.Method == http.MethodOptions {
		x.route = "OPTIONS"
		answerPreflight(x)
		return
	}
	if r.ProtoMajor < 2 && len(r.TransferEncoding) > 0 {
		// A Content-Length beside it is gone by now, and who sent both may see requests begin in another place than this
		// server does.
		header["Connection"] = []string{"close"}
	}
	if refused != nil {
		a.writeError(x, refused)
		return
	}
	if r.RequestURI == "*" {
		header["Connection"] = []string{"close"}
		a.writeError(x, errAboutEverything(r))
		return
	}
	routed, second, err := a.normalize(r)
	x.second = second
	if err != nil {
		a.writeError(x, err)
		return
	}
	if isForOperators(routed.URL.Path) && r.URL.EscapedPath() != routed.URL.Path {
		a.writeError(x, errorf(api.CodeAPINotFound, "This is served as %s alone, without a prefix.", routed.URL.Path))
		return
	}
	a.mux.ServeHTTP(x, routed)
}

// errAboutEverything refuses a request for *, which is what OPTIONS alone is sent to, and clients that begin to speak
// HTTP/2.
func errAboutEverything(r *http.Request) error {
	if r.Method == "PRI" {
		return errorf(api.CodeBadRequest, "This address speaks HTTP/1.1, and HTTP/2 over TLS alone.")
	}
	return errorf(api.CodeAPINotFound, "There is no %s *. See /docs for what there is.", shorten(r.Method, maxPrinted))
}

// notFound answers for every path and verb that has no route.
func (a *API) notFound(w http.ResponseWriter, r *http.Request) {
	a.writeError(exchangeOf(w), errorf(
		api.CodeAPINotFound, "There is no %s %s. See /docs for what there is.", shorten(r.Method, maxPrinted),
		shorten(r.URL.EscapedPath(), maxPrinted),
	))
}

// maxPrinted is how much of a request is repeated in an error, in bytes.
const maxPrinted = 100

func shorten(text string, limit int) string {
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

// normalize returns the request with a path as the route table has it: without version prefix, doubled slashes and
// trailing slash. second is what splitVersion says.
func (a *API) normalize(r *http.Request) (routed *http.Request, second bool, err error) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/v3/"); ok && r.URL.RawPath == "" && isPlain(rest) {
		return withPath(r, r.URL.Path[len("/v3"):], ""), false, nil
	}
	escaped := r.URL.EscapedPath()
	plain := escaped
	for strings.Contains(plain, "//") {
		plain = strings.ReplaceAll(plain, "//", "/")
	}
	if plain, second, err = splitVersion(plain); err != nil {
		return nil, false, err
	}
	if len(plain) > 1 {
		plain = strings.TrimSuffix(plain, "/")
	}
	if path.Clean(plain) != plain {
		return nil, false, errorf(api.CodeAPINotFound, "There is no such path. See /docs for what there is.")
	}
	if plain == escaped {
		return r, second, nil
	}
	unescaped, err := neturl.PathUnescape(plain)
	if err != nil {
		return nil, false, errorf(api.CodeBadRequest, "The path is not well-formed.")
	}
	return withPath(r, unescaped, plain), second, nil
}

// isPlain reports whether a path without its first slash is as the route table has it, at a glance: most are.
func isPlain(path string) bool {
	slash := true
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '/' && slash, c == '.', c == '%':
			return false
		}
		slash = c == '/'
	}
	return !slash
}

// withPath returns the request for another path.
func withPath(r *http.Request, unescaped, escaped string) *http.Request {
	routed := new(http.Request)
	*routed = *r
	url := *r.URL
	url.Path, url.RawPath = unescaped, escaped
	routed.URL = &url
	return routed
}

// maxLoggedMethod is how much of a request's method is logged, in bytes: it can be anything.
const maxLoggedMethod = 16

// record logs and counts a finished request. User content is never logged: paths are logged as route patterns.
func (a *API) record(x *exchange, r *http.Request) {
	duration := time.Since(x.started)
	x.observer.observe(x.status, duration)
	level := slog.LevelInfo
	switch {
	case x.status >= 500:
		level = slog.LevelError
	case x.routine:
		level = slog.LevelDebug
	}
	handler := a.config.Logger.Handler()
	if !handler.Enabled(r.Context(), level) {
		return
	}
	// Where in the code it is made tells nobody anything.
	record := slog.NewRecord(x.started.Add(duration), level, "request", 0)
	record.AddAttrs(
		slog.String("request_id", x.id), slog.String("method", shorten(r.Method, maxLoggedMethod)))
	if x.route != "" {
		record.AddAttrs(slog.String("route", x.route))
	}
	record.AddAttrs(
		slog.Int("status", x.status),
		slog.Int64("duration_us", duration.Microseconds()), slog.Int("bytes", x.written),
		slog.String("remote", x.from.String()),
		slog.Bool("secure", x.from.secure),
		slog.String("app", x.app), slog.String("actor", x.actor))
	if x.code != "" {
		record.AddAttrs(slog.String("code", string(x.code)))
	}
	if x.cause != nil {
		record.AddAttrs(slog.String("error", x.cause.Error()))
	}
	_ = handler.Handle(r.Context(), record) // nowhere to tell that nothing can be told
}

// metrics are the numbers about requests.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight atomic.Int64
	unrouted *observer
	// wrongCredentials counts by what was wrong, and whether it was refused for that or because there were too many.
	wrongCredentials *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_http_requests_total", Help: "Requests answered, by route and status.",
		}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_http_request_duration_seconds", Help: "Time from a request's arrival to its answer, by route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
		wrongCredentials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_wrong_credentials_total",
			Help: "Requests with a wrong app, key, token or management secret, refused for that or limited.",
		}, []string{"credential", "answer"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.duration, m.wrongCredentials, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_http_requests_in_flight", Help: "Requests being served.",
		}, func() float64 { return float64(m.inFlight.Load()) }))
	}
	m.unrouted = m.observer("none")
	return m
}

// observer counts the requests of one route.
type observer struct {
	metrics  *metrics
	route    string
	duration prometheus.Observer
	ok       prometheus.Counter
}

func (m *metrics) observer(route string) *observer {
	return &observer{
		metrics: m, route: route, duration: m.duration.WithLabelValues(route), ok: m.requests.WithLabelValues(route, "200"),
	}
}

func (o *observer) observe(status int, duration time.Duration) {
	o.duration.Observe(duration.Seconds())
	if status == http.StatusOK {
		o.ok.Inc()
		return
	}
	o.metrics.requests.WithLabelValues(o.route, fmt.Sprint(status)).Inc()
}
