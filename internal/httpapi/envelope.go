package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

func errorf(code api.Code, format string, args ...any) *directory.Error {
	return &directory.Error{Code: directory.Code(code), Message: fmt.Sprintf(format, args...)}
}

// statusError gives an error another HTTP status than its code has.
type statusError struct {
	domain *directory.Error
	status int
}

func (e *statusError) Error() string { return e.domain.Error() }
func (e *statusError) Unwrap() error { return e.domain }

// buffers hold responses while they are encoded.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBuffer keeps one huge list from staying in memory.
const maxPooledBuffer = 64 << 10

// shortBody is the length in bytes up to which net/http counts by itself.
const shortBody = 2 << 10

var jsonContentType = []string{"application/json; charset=utf-8"}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	return writeEncoded(w, status, func(buffer *bytes.Buffer) error { return encode(buffer, body) })
}

func writeEncoded(w http.ResponseWriter, status int, encode func(*bytes.Buffer) error) error {
	buffer := buffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool holds nothing else
	buffer.Reset()
	defer func() {
		if buffer.Cap() <= maxPooledBuffer {
			buffers.Put(buffer)
		}
	}()
	if err := encode(buffer); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	header := w.Header()
	header["Content-Type"] = jsonContentType
	if buffer.Len() > shortBody {
		header["Content-Length"] = []string{strconv.Itoa(buffer.Len())}
	}
	w.WriteHeader(status)
	_, err := w.Write(buffer.Bytes())
	return err
}

func (a *API) writeAnswer(x *exchange, answer answer) {
	err := writeEncoded(x, http.StatusOK, func(buffer *bytes.Buffer) error { return encodeAnswer(buffer, answer) })
	if err != nil {
		a.writeError(x, err)
	}
}

// writeError answers with the contract's envelope. What is not a domain error is a fault of the server: its text goes
// to the log and not to the caller.
func (a *API) writeError(x *exchange, err error) {
	var domain *directory.Error
	if x.status != 0 { // too late for an answer: the response has begun
		if x.cause = err; errors.As(err, &domain) { // whose message may name users
			x.code, x.cause = api.Code(domain.Code), domain.Cause
		}
		return
	}
	status := 0
	var withStatus *statusError
	switch {
	case errors.As(err, &withStatus):
		domain, status = withStatus.domain, withStatus.status
	case errors.As(err, &domain):
		if errors.Is(domain.Cause, context.DeadlineExceeded) || domain.RetryAfter > 0 {
			status = http.StatusServiceUnavailable
		}
	case errors.Is(err, context.DeadlineExceeded):
		domain = errorf(
			api.CodeOperationFailed, "The server did not finish this request in time. It may be overloaded; try again.",
		)
		domain.Cause, status = err, http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		domain, status = errorf(api.CodeOperationFailed, "The request was canceled."), 499
	default:
		domain = errorf(
			api.CodeException, "Something went wrong in the server. Its log has the details under request id %s.", x.id,
		)
		domain.Cause = err
	}
	if status == 0 {
		status = api.Code(domain.Code).Status()
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if status == http.StatusServiceUnavailable && x.Header()["Retry-After"] == nil {
		wait := max(1, int(math.Ceil(domain.RetryAfter.Seconds())))
		x.Header()["Retry-After"] = []string{strconv.Itoa(wait)}
	}
	x.code, x.cause = api.Code(domain.Code), domain.Cause
	if err := writeJSON(x, status, envelope(x.call.caller.Told(domain))); err != nil && x.cause == nil {
		x.cause = err
	}
}

func envelope(err *directory.Error) api.ErrorBody {
	return api.ErrorBody{Error: api.Error{
		Code: api.Code(err.Code), Message: err.Message, DevMessage: err.Message, Source: api.Source, Details: err.Details,
	}}
}

// EncodeMalformed returns the envelope that says what is wrong with a request that is not HTTP, and so reaches no
// handler.
func EncodeMalformed(message string) []byte {
	var buffer bytes.Buffer
	_ = encode(&buffer, envelope(errorf(api.CodeBadRequest, "%s", message))) // texts can always be encoded
	return buffer.Bytes()
}
