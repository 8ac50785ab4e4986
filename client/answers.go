package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"unicode"
)

// maxAnswer bounds what is read of one answer, in bytes, after it is decompressed: whatever calls itself a server must
// not take the memory of the client. The longest that a Rollcall server sends is a page of 1,000 users with all that
// they may hold. Streams and exports are bounded by the event and the line.
const maxAnswer = 64 << 20

// maxRefusal bounds what is read of an answer that refuses a call, in bytes.
const maxRefusal = 1 << 20

// unusableError says that what answers is not what was asked for, and will answer the same again.
type unusableError struct {
	words string
	cause error
}

func (e *unusableError) Error() string { return e.words }
func (e *unusableError) Unwrap() error { return e.cause }

func unusable(format string, args ...any) *unusableError {
	return &unusableError{words: fmt.Sprintf(format, args...)}
}

// isUnusable reports whether it is no use to try again.
func isUnusable(err error) bool {
	_, ok := errors.AsType[*unusableError](err)
	return ok
}

// mayFollow returns an error for a redirect that would hand the credentials of the client to somebody else, or turn a
// call into another. The headers with them are of this API, and net/http would send them along to any host.
func mayFollow(request *http.Request, via []*http.Request) error {
	first, to := via[0], request.URL
	address := to.Scheme + "://" + to.Host
	from := first.URL
	switch {
	case request.Method != first.Method:
		return unusable(
			"%s redirects to %s, which a %s cannot follow; give the client that address", from.Host, address, first.Method,
		)
	case sameServer(from, to):
	default:
		return unusable(
			"%s redirects to %s, which is another server: its credentials are not sent there; give the client that address "+
				"if it is the right one", from.Host, address,
		)
	}
	const most = 10
	if len(via) >= most {
		return unusable("%s redirects in a circle", from.Host)
	}
	return nil
}

// sameServer reports whether an address is on the server of another one: at the same host and port, or at the same host
// over TLS where the other is without.
func sameServer(from, to *url.URL) bool {
	if !strings.EqualFold(from.Hostname(), to.Hostname()) {
		return false
	}
	return from.Scheme == to.Scheme && port(from) == port(to) || from.Scheme == "http" && to.Scheme == "https"
}

func port(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// guarded returns an HTTP client like another that follows no redirect to other servers.
func guarded(given *http.Client) *http.Client {
	guarded := *given
	guarded.CheckRedirect = func(request *http.Request, via []*http.Request) error {
		if err := mayFollow(request, via); err != nil {
			return err
		}
		if given.CheckRedirect != nil {
			return given.CheckRedirect(request, via)
		}
		return nil
	}
	return &guarded
}

// readAnswer reads the body of an answer, which is at most so long.
func readAnswer(response *http.Response, most int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", inWords(response.Request, err))
	}
	if int64(len(body)) > most {
		return nil, unusable(
			"the answer of %s is longer than %d MB: ask for less at once, or see whether that is a Rollcall server",
			serverOf(response.Request), most>>20,
		)
	}
	return body, nil
}

// inWords says why a server could not be asked, or not be heard out.
func inWords(request *http.Request, err error) error {
	if unusable, ok := errors.AsType[*unusableError](err); ok {
		return unusable
	}
	if request.Context().Err() != nil {
		return err
	}
	cause := err
	if wrapped, ok := errors.AsType[*url.Error](err); ok { // which repeats the address
		cause = wrapped.Err
	}
	return fmt.Errorf("%s: %s (%w)", serverOf(request), troubleOf(err), cause)
}

// socketOf is the key of a request's context under which the Unix socket is that it goes to.
type socketOf struct{}

// serverOf returns the address of the server that a request goes to.
func serverOf(request *http.Request) string {
	if path, ok := request.Context().Value(socketOf{}).(string); ok {
		return unixScheme + path
	}
	return request.URL.Scheme + "://" + request.URL.Host
}

// troubleOf says in words what went wrong on the way to a server.
func troubleOf(err error) string {
	var noHost *net.DNSError
	var noTLS tls.RecordHeaderError
	var untrusted *tls.CertificateVerificationError
	var slow net.Error
	var failed *net.OpError
	switch {
	case errors.As(err, &noHost):
		return "the host is not known"
	case errors.As(err, &failed) && failed.Net == "unix" && errors.Is(err, fs.ErrPermission):
		return "you may not use that socket; run it as the server's user, or as one in its group"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return "nothing listens there; is the server running, and is the address right?"
	case errors.As(err, &untrusted):
		return "its certificate is not trusted; the environment variable SSL_CERT_FILE can name a self-signed one, or that " +
			"of its authority"
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return "it does not speak TLS; is it http://?"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "there was no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection broke before the whole answer had come"
	default:
		return "the server cannot be asked"
	}
}

// notOurs says that an answer is none of a Rollcall server.
func notOurs(response *http.Response, cause error) error {
	kind := response.Header.Get("Content-Type")
	if kind == "" {
		kind = "nothing that is named"
	}
	return &unusableError{
		words: fmt.Sprintf(
			"%s %s%s: the answer is not one of a Rollcall server (%s): is the address right?", response.Request.Method,
			serverOf(response.Request), response.Request.URL.Path, kind,
		),
		cause: cause,
	}
}

// firstLine returns the beginning of a text for people, empty for anything else.
func firstLine(response *http.Response, body []byte) string {
	const most = 200
	if kind := response.Header.Get("Content-Type"); kind != "" && !strings.HasPrefix(kind, "text/plain") {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if len(line) > most {
		line = line[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, ""))
}
