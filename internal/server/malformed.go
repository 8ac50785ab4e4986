package server

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"github.com/rollcall/rollcall/internal/httpapi"
)

// envelopeMalformed returns a listener that puts what net/http answers by itself, before any handler runs, into the
// contract's envelope: net/http has no hook for that, and writes such an answer in one piece. Under TLS it sees only
// what net/http says to those who do not speak TLS.
func envelopeMalformed(listener net.Listener) net.Listener { return envelopingListener{listener} }

type envelopingListener struct{ net.Listener }

func (l envelopingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if stream, ok := conn.(streamConn); ok {
		return &envelopingConn{stream}, nil
	}
	return conn, err
}

// streamConn is a connection over TCP or over a Unix socket.
type streamConn interface {
	net.Conn
	syscall.Conn // else the poller could not take sockets over
	CloseWrite() error
}

type envelopingConn struct{ streamConn }

func (c *envelopingConn) Write(data []byte) (int, error) {
	envelope := envelopeOf(data)
	if envelope == nil {
		return c.streamConn.Write(data)
	}
	if _, err := c.streamConn.Write(envelope); err != nil {
		return 0, err
	}
	return len(data), nil
}

const (
	// plainHeaders stand in no answer that a handler gives: it has more of them.
	plainHeaders     = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	plainOverTLS     = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
	plainUnknownTE   = "Unsupported transfer encoding"
	statusLinePrefix = "HTTP/1.1 "
)

// envelopeOf returns what to answer in the place of what net/http says by itself, nil for everything else that is
// written.
func envelopeOf(written []byte) []byte {
	if len(written) < len(statusLinePrefix)+3 || string(written[:5]) != "HTTP/" || written[len(statusLinePrefix)] < '4' {
		return nil
	}
	if string(written) == plainOverTLS {
		return malformed(http.StatusBadRequest, "This address speaks HTTPS: call it with https://.")
	}
	line, rest, _ := bytes.Cut(written[len(statusLinePrefix):], []byte("\r\n"))
	status, err := strconv.Atoi(string(line[:3]))
	if err != nil {
		return nil
	}
	if status == http.StatusExpectationFailed && bytes.HasSuffix(rest, []byte("\r\n\r\n")) { // no handler expects anything
		return malformed(status, "The server cannot do what the Expect header asks for; it knows 100-continue.")
	}
	body, plain := bytes.CutPrefix(rest, []byte(plainHeaders))
	if !plain {
		return nil
	}
	_, detail, detailed := bytes.Cut(body, []byte(": "))
	switch {
	case string(body) == plainUnknownTE:
		return malformed(status, "The server does not know this transfer encoding.")
	case !bytes.Equal(body, line):
		return nil
	case status == http.StatusRequestHeaderFieldsTooLarge:
		return malformed(status, "The headers of the request are larger than the server takes.")
	case detailed:
		return malformed(status, fmt.Sprintf("The request is not HTTP as it should be: %s.", detail))
	}
	return malformed(status, "The request is not HTTP as it should be.")
}

func malformed(status int, message string) []byte {
	body := httpapi.EncodeMalformed(message)
	head := fmt.Sprintf(
		"HTTP/1.1 %d %s\r\n"+
			"Content-Type: application/json; charset=utf-8\r\n"+
			"Content-Length: %d\r\n"+
			"Connection: close\r\n\r\n",
		status, http.StatusText(status), len(body),
	)
	return append([]byte(head), body...)
}
