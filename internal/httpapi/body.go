package httpapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

// bodyLimit returns how many bytes the body may have: more for the calls that take many users at once.
func (c *call) bodyLimit() int64 {
	limits, single := c.api.dir.Limits(), c.api.config.BodyLimit
	switch c.route.Path {
	case "/users/batch", "/relations/batch", "/roles/batch":
		return single * int64(limits.BatchUsers)
	case "/users/lookup":
		return single + int64(limits.BatchUsers*(limits.UID+len(`"",`)))
	case "/data_import/users":
		return single * int64(limits.ImportUsers)
	}
	return single
}

// gzipOverhead is how much longer than its text a gzip body may be, in bytes: more than it ever needs to be.
const gzipOverhead = 1 << 10

// readBody returns the body of the request, unpacked, at most bodyLimit bytes of it.
func (c *call) readBody() ([]byte, error) {
	if c.bodyRead {
		return c.body, nil
	}
	packed, err := c.isPacked()
	if err != nil {
		return nil, err
	}
	limit := c.bodyLimit()
	onWire := limit
	if packed {
		onWire += gzipOverhead
	}
	if c.r.ContentLength > onWire { // it is not waited for, before the answer or after it
		c.w.Header().Set("Connection", "close")
		return nil, errTooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w.ResponseWriter, c.r.Body, onWire))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errTooLarge(limit)
		}
		bad := errorf(api.CodeBadRequest, "The body could not be read to its end.")
		if bad.Cause = err; isTrailerError(err) {
			bad.Cause = errBadTrailer
		}
		return nil, bad
	}
	if packed && len(body) > 0 {
		if body, err = unpack(body, limit); err != nil {
			return nil, err
		}
	}
	c.body, c.bodyRead = body, true
	return body, nil
}

// isPacked reports whether the body is compressed by gzip. Another encoding is refused.
func (c *call) isPacked() (bool, error) {
	encodings := c.r.Header["Content-Encoding"]
	if len(encodings) == 0 {
		return false, nil
	}
	switch strings.ToLower(strings.TrimSpace(strings.Join(encodings, ","))) {
	case "", "identity":
		return false, nil
	case "gzip", "x-gzip":
		return true, nil
	}
	c.w.Header()["Accept-Encoding"] = []string{"gzip, identity"}
	return false, &statusError{
		errorf(api.CodeBadRequest, "The Content-Encoding of a body may be gzip. Send it so, or as it is without the header."),
		http.StatusUnsupportedMediaType,
	}
}

// unpackers keeps gzip readers, which are large, for the next bodies.
var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

func unpack(packed []byte, limit int64) ([]byte, error) {
	reader := unpackers.Get().(*gzip.Reader) //nolint:forcetypeassert // the pool holds nothing else
	defer unpackers.Put(reader)
	err := reader.Reset(bytes.NewReader(packed))
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(reader, limit+1))
	}
	if err != nil {
		bad := errorf(api.CodeBadRequest, "The body is not well-formed gzip, as its Content-Encoding says it is.")
		bad.Cause = err
		return nil, bad
	}
	if int64(len(body)) > limit {
		return nil, errTooLarge(limit)
	}
	return body, nil
}

// errBadTrailer stands in the log for what net/http says about a trailer, which repeats it.
var errBadTrailer = errors.New("what follows the body is no trailer")

func isTrailerError(err error) bool {
	_, ok := errors.AsType[textproto.ProtocolError](err)
	return ok
}

func errTooLarge(limit int64) error {
	tooLarge := errorf(api.CodeBadRequest, "The body may not be larger than %d bytes.", limit)
	return &statusError{tooLarge, http.StatusRequestEntityTooLarge}
}

// isForm reports whether the request says that its body is what an HTML form sends.
func (c *call) isForm() bool {
	return slices.ContainsFunc(c.r.Header["Content-Type"], func(value string) bool {
		value = strings.ToLower(strings.TrimSpace(value))
		return strings.HasPrefix(value, "application/x-www-form-urlencoded") || strings.HasPrefix(value, "multipart/")
	})
}

// useIdempotencyKey makes the write of this request repeatable when it carries an Idempotency-Key.
func (c *call) useIdempotencyKey() error {
	key := headerValue(c.r, "Idempotency-Key")
	if key == "" || c.r.Method == http.MethodGet || c.route.Access == Public || c.route.Access == MaybeToken {
		return nil
	}
	if c.caller.App == "" { // the answer is kept with the app's data, and this app is not there yet
		return errorf(api.CodeBadRequest,
			"POST /apps takes no Idempotency-Key: give the app an id to be safe against making it twice.")
	}
	if len(key) > 255 {
		return errorf(api.CodeBadRequest, "An Idempotency-Key may not be longer than 255 characters.")
	}
	body, err := c.readBody()
	if err != nil {
		return err
	}
	request := sha256.New()
	for _, part := range []string{c.r.Method, c.r.URL.Path, c.r.URL.RawQuery, string(body)} {
		request.Write([]byte(part))
		request.Write([]byte{0})
	}
	sum := hex.EncodeToString(request.Sum(nil))
	c.idempotent = directory.WithIdempotencyKey(c.ctx(), string(c.caller.Actor)+" "+key, sum)
	return nil
}
