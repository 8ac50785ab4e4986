package poller_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/poller"
	"github.com/rollcall/rollcall/internal/storetest"
)

// echo sends back what comes, and notes what happens.
type echo struct {
	link   poller.Link
	closed chan error
}

func (e *echo) Receive(received []byte) {
	if _, err := e.link.Write(received); err != nil {
		e.link.Close()
	}
}

func (*echo) Writable() {}

func (e *echo) Closed(err error) { e.closed <- err }

// certificate is good for a test.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// pair returns two ends of a connection: the near one is to be adopted.
func pair(t *testing.T, secure bool) (near, far net.Conn) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	adoptable := poller.Listen(listener)
	far, err = new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if near, err = adoptable.Accept(); err != nil {
		t.Fatal(err)
	}
	if !secure {
		return near, far
	}
	server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12})
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	ctx, cancel := context.WithTimeout(t.Context(), storetest.Patience)
	defer cancel()
	shaken := make(chan error, 1)
	go func() { shaken <- client.HandshakeContext(ctx) }()
	if err := errors.Join(server.HandshakeContext(ctx), <-shaken); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// TestAdopted sends much through adopted connections of every kind, reading late, so that writes have to wait.
func TestAdopted(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(t *testing.T) (near, far net.Conn){
		"plain":                   func(t *testing.T) (net.Conn, net.Conn) { return pair(t, false) },
		"TLS":                     func(t *testing.T) (net.Conn, net.Conn) { return pair(t, true) },
		"with its own goroutines": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := poller.New()
			defer func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}()
			near, far := connect(t)
			defer far.Close()
			if err := far.SetDeadline(time.Now().Add(storetest.Patience)); err != nil {
				t.Fatal(err)
			}
			handler := &echo{closed: make(chan error, 1)}
			if _, err := p.Adopt(near, func(link poller.Link) poller.Handler {
				handler.link = link
				return handler
			}); err != nil {
				t.Fatal(err)
			}
			sent := make([]byte, 8<<20)
			_, _ = io.ReadFull(rand.Reader, sent) // it never fails
			written := make(chan error, 1)
			go func() {
				_, err := far.Write(sent)
				written <- err
			}()
			if name == "plain" {
				if err := storetest.Await(t, written, "all to be written"); err != nil { // all of it, before anything is read
					t.Fatal(err)
				}
				written <- nil
			}
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
			if err := storetest.Await(t, written, "all to be written"); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("what came back is something else, %v", err)
			}
			if err := far.Close(); err != nil {
				t.Fatal(err)
			}
			if err := storetest.Await(t, handler.closed, "the handler to know the end"); !errors.Is(err, io.EOF) {
				t.Errorf("closed with %v", err)
			}
			if _, err := handler.link.Write([]byte("late")); err == nil {
				t.Error("wrote to a closed connection")
			}
			handler.link.Close()
		})
	}
}

// TestCloseEndsAll closes a poller with connections of every kind.
func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	p := poller.New()
	plain, far := pair(t, false)
	defer far.Close()
	secure, farther := pair(t, true)
	defer farther.Close()
	piped, farthest := net.Pipe()
	defer farthest.Close()
	closed := make(chan error, 3)
	for _, conn := range []net.Conn{plain, secure, piped} {
		if _, err := p.Adopt(conn, func(link poller.Link) poller.Handler { return &echo{link: link, closed: closed} }); err != nil {
			t.Fatal(err)
		}
	}
	storetest.AwaitReturn(t, func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}, "the poller to close")
	if len(closed) != 3 {
		t.Errorf("%d handlers know", len(closed))
	}
	late, other := net.Pipe()
	defer other.Close()
	if _, err := p.Adopt(late, nil); err == nil {
		t.Error("adopted by a closed poller")
	}
}
