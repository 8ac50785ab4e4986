package httpapi

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/rollcall/rollcall/api"
)

// RateLimits are requests per minute (contract rest.md section 10.3). Zero means the default, a negative number no
// limit. A limit may be used up at once and comes back evenly.
type RateLimits struct {
	// Core is for logging in and creating and deleting users, per API key. Zero means 10,000.
	Core int
	// Standard is for every other call, per API key. Zero means 20,000.
	Standard int
	// Token is for all calls with one auth token. Zero means 1,000.
	Token int
	// Import is for data_import, per API key. Zero means 60.
	Import int
	// WrongCredentials is for calls with a wrong app, key, token or secret, per client address; of IPv6 addresses those
	// with the same first 64 bits are one. Zero means 6,000. Right credentials that the server remembers are never refused
	// by it.
	WrongCredentials int
}

// OrDefault returns the limits with the defaults in the place of those that are zero.
func (l RateLimits) OrDefault() RateLimits {
	return RateLimits{
		Core: cmp.Or(l.Core, 10_000), Standard: cmp.Or(l.Standard, 20_000), Token: cmp.Or(l.Token, 1_000),
		Import: cmp.Or(l.Import, 60), WrongCredentials: cmp.Or(l.WrongCredentials, 6_000),
	}
}

// maxLimiters bounds the memory that limiters take; the least used are forgotten.
const maxLimiters = 200_000

// limiter counts the requests of each key and each token.
type limiter struct {
	limits   RateLimits
	now      func() time.Time
	limiters *otter.Cache[string, *rate.Limiter]
}

func newLimiter(limits RateLimits, now func() time.Time) (*limiter, error) {
	cache, err := otter.New(&otter.Options[string, *rate.Limiter]{
		MaximumSize:      maxLimiters,
		ExpiryCalculator: otter.ExpiryAccessing[string, *rate.Limiter](10 * time.Minute),
	})
	if err != nil {
		return nil, err
	}
	return &limiter{limits: limits.OrDefault(), now: now, limiters: cache}, nil
}

// guesses is the bucket of the wrong credentials of an address, nil when there is no limit, or none has come and make
// is false.
func (l *limiter) guesses(from client, make bool) *rate.Limiter {
	if l.limits.WrongCredentials < 0 {
		return nil
	}
	name := "wrong " + addressOf(from)
	bucket, ok := l.limiters.GetIfPresent(name)
	if !ok && make {
		bucket, _ = l.limiters.SetIfAbsent(name, l.bucket(l.limits.WrongCredentials))
	}
	return bucket
}

// mayGuess refuses to look for a credential that nobody remembers, when the address has sent too many that were wrong.
func (l *limiter) mayGuess(c *call, credential string) error {
	bucket := l.guesses(c.w.from, false)
	if now := l.now(); bucket != nil && bucket.TokensAt(now) < 1 {
		return l.refuseGuess(c, credential, bucket, now)
	}
	return nil
}

// wrong counts a wrong credential, and returns what to answer.
func (l *limiter) wrong(c *call, credential string, refused error) error {
	bucket := l.guesses(c.w.from, true)
	if now := l.now(); bucket != nil && !bucket.AllowN(now, 1) {
		return l.refuseGuess(c, credential, bucket, now)
	}
	c.api.metrics.wrongCredentials.WithLabelValues(credential, "refused").Inc()
	return refused
}

func (l *limiter) refuseGuess(c *call, credential string, bucket *rate.Limiter, now time.Time) error {
	c.api.metrics.wrongCredentials.WithLabelValues(credential, "limited").Inc()
	c.w.routine = true
	wait := max(1, int(math.Ceil((1-bucket.TokensAt(now))/float64(bucket.Limit()))))
	c.w.Header()["Retry-After"] = []string{strconv.Itoa(wait)}
	return errorf(api.CodeTooManyRequests,
		"More than %d wrong keys, tokens or app ids a minute came from this address. Wait %d s and try again.",
		l.limits.WrongCredentials, wait)
}

// addressOf returns the address that a client is counted under: without its port, and of an IPv6 address the network.
func addressOf(from client) string {
	address := from.address.Addr()
	switch {
	case !address.IsValid():
		return throughUnix
	case address.Is4():
		return address.String()
	}
	network, err := address.Prefix(64)
	if err != nil {
		return address.String()
	}
	return network.String()
}

func (l *limiter) bucket(perMinute int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(perMinute)/60), perMinute)
}

// take counts a request, tells the caller in headers where it stands, and refuses it when its limit is used up.
func (l *limiter) take(c *call) error {
	var name string
	var perMinute int
	switch {
	case c.route.Class == Unlimited:
		return nil
	case c.caller.Token != "":
		// Tokens of two apps may have one id.
		name, perMinute = string(c.caller.App)+" "+string(c.caller.Token), l.limits.Token
	case c.caller.Key != "" && c.route.Class == Core:
		name, perMinute = "core "+string(c.caller.Key), l.limits.Core
	case c.caller.Key != "" && c.route.Class == Import:
		name, perMinute = "import "+string(c.caller.Key), l.limits.Import
	case c.caller.Key != "":
		name, perMinute = string(c.caller.Key), l.limits.Standard
	default:
		return nil
	}
	if perMinute < 0 {
		return nil
	}
	bucket, ok := l.limiters.GetIfPresent(name)
	if !ok {
		bucket, _ = l.limiters.SetIfAbsent(name, l.bucket(perMinute))
	}
	now := l.now()
	allowed := bucket.AllowN(now, 1)
	left := bucket.TokensAt(now)
	perSecond := float64(perMinute) / 60
	full := now.Add(time.Duration((float64(perMinute) - left) / perSecond * float64(time.Second)))
	header := c.w.Header()
	limit, remaining := strconv.Itoa(perMinute), strconv.Itoa(max(0, int(left)))
	reset := strconv.FormatInt(full.Unix(), 10)
	setRateHeaders(header, limit, remaining, reset)
	if allowed {
		return nil
	}
	wait := int(math.Ceil((1 - left) / perSecond))
	header["Retry-After"] = []string{strconv.Itoa(max(1, wait))}
	return errorf(
		api.CodeTooManyRequests, "More than %d requests a minute. Wait %d s, as the Retry-After header says, and try again.",
		perMinute, max(1, wait),
	)
}

// setRateHeaders sends the numbers in both spellings that clients know (contract rest.md section 12, A18).
func setRateHeaders(header http.Header, limit, remaining, reset string) {
	values := &[...]string{limit, remaining, reset} // one piece of memory for all
	header["X-Rate-Limit"], header["X-RateLimit-Limit"] = values[0:1:1], values[0:1:1]
	header["X-Rate-Limit-Remaining"], header["X-RateLimit-Remaining"] = values[1:2:2], values[1:2:2]
	header["X-Rate-Limit-Reset"], header["X-RateLimit-Reset"] = values[2:3:3], values[2:3:3]
}
