// Package poller keeps connections that are idle most of the time without a goroutine for each. A connection begins as
// any other, so that net/http can shake hands on it, and is adopted afterwards: from then on a few goroutines wait for
// all adopted connections together, with TLS or without.
//
// That needs the kernel's help, which this package knows how to ask on Linux. Elsewhere, and for connections that did
// not come from Listen, adopted connections get goroutines of their own and behave the same.
package poller

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// Handler is told what happens to an adopted connection. Its methods are called one at a time.
type Handler interface {
	// Receive hands over bytes that have come. They are valid until it returns.
	Receive(received []byte)
	// Writable tells that everything written has left, after a write that could not leave at once.
	Writable()
	// Closed is the last call: nothing comes any more. err is io.EOF when the other side has ended it in order.
	Closed(err error)
}

// Link is an adopted connection.
type Link interface {
	// Write takes all of the data and never waits. It returns true when something of it waits for the network; Writable is
	// called when it has left. It may be called from any goroutine.
	Write(data []byte) (waiting bool, err error)
	// CloseWrite tells the other side that nothing more is sent. What it still sends is received, so that it has the time
	// to read what was sent before.
	CloseWrite()
	// HasUnread reports whether something has come that was not handed over yet, as far as that is known.
	HasUnread() bool
	// Close ends the connection; what has been written before is sent if the network takes it at once. Closed is called
	// soon after, unless it has been already.
	Close()
}

// Poller waits for adopted connections. It is safe for concurrent use.
type Poller struct {
	native native
	work   sync.WaitGroup

	mu       sync.Mutex
	threaded map[*threaded]struct{} // guarded by mu
	closed   bool                   // guarded by mu
}

// New returns a poller. Close it.
func New() *Poller { return &Poller{threaded: map[*threaded]struct{}{}} }

// Adopt takes over a connection on which nothing is being read or written any more, and reports from now on to the
// handler that it is given. What has been read from the connection already is the caller's.
func (p *Poller) Adopt(conn net.Conn, handler func(Link) Handler) (Link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	if link, adopted, err := p.native.adopt(conn, &p.work, handler); adopted || err != nil {
		return link, err
	}
	_ = conn.SetDeadline(time.Time{}) // not every connection has deadlines
	t := &threaded{conn: conn}
	t.handler = handler(t)
	p.threaded[t] = struct{}{}
	p.work.Go(func() {
		t.read()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.threaded, t)
	})
	return t, nil
}

// Close closes every adopted connection and waits until all handlers know.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	for t := range p.threaded {
		t.Close()
	}
	err := p.native.close()
	p.mu.Unlock()
	p.work.Wait()
	return err
}

// Conn is a connection that can be adopted.
type Conn struct {
	net.Conn
	// adopted replaces Conn for reading and writing once the connection is adopted.
	adopted socket
}

// socket is what is beneath any TLS of an adopted connection.
type socket interface {
	read(into []byte) (int, error)
	write(data []byte) (int, error)
}

func (c *Conn) Read(into []byte) (int, error) {
	if c.adopted != nil {
		return c.adopted.read(into)
	}
	return c.Conn.Read(into)
}

func (c *Conn) Write(data []byte) (int, error) {
	if c.adopted != nil {
		return c.adopted.write(data)
	}
	return c.Conn.Write(data)
}

// Close closes a connection that is not adopted. An adopted one is closed by its Link.
func (c *Conn) Close() error {
	if c.adopted != nil {
		return nil
	}
	return c.Conn.Close()
}

// SetWriteDeadline sets the deadline of a connection. An adopted one never waits, and has none.
func (c *Conn) SetWriteDeadline(at time.Time) error {
	if c.adopted != nil {
		return nil
	}
	return c.Conn.SetWriteDeadline(at)
}

// Listen returns a listener whose connections can be adopted.
func Listen(listener net.Listener) net.Listener { return adoptable{listener} }

type adoptable struct{ net.Listener }

func (l adoptable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn}, nil
}

// beneath returns the connection that can be adopted and the TLS on it, nil for neither.
func beneath(conn net.Conn) (*Conn, *tls.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		plain, _ := secure.NetConn().(*Conn)
		return plain, secure
	}
	plain, _ := conn.(*Conn)
	return plain, nil
}

// errWouldBlock says that there is nothing to read now. crypto/tls goes on after it, as it is temporary.
var errWouldBlock net.Error = wouldBlockError{}

type wouldBlockError struct{}

func (wouldBlockError) Error() string   { return "nothing to read now" }
func (wouldBlockError) Timeout() bool   { return true }
func (wouldBlockError) Temporary() bool { return true }

// threaded is a link with goroutines of its own.
type threaded struct {
	conn    net.Conn
	handler Handler

	calls sync.Mutex // one call of the handler at a time

	mu      sync.Mutex
	waiting []byte // guarded by mu
	writing bool   // guarded by mu
	closed  bool   // guarded by mu
}

// writeTimeout bounds how long a write may wait for the other side on a link with goroutines.
const writeTimeout = 30 * time.Second

func (t *threaded) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := t.conn.Read(buffer)
		t.calls.Lock()
		if n > 0 {
			t.handler.Receive(buffer[:n])
		}
		if err != nil {
			t.Close()
			t.handler.Closed(err)
			t.calls.Unlock()
			return
		}
		t.calls.Unlock()
	}
}

func (t *threaded) Write(data []byte) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false, net.ErrClosed
	}
	t.waiting = append(t.waiting, data...)
	if !t.writing {
		t.writing = true
		go t.drain() // it ends with the link, or when everything is written
	}
	return true, nil
}

func (t *threaded) drain() {
	for {
		t.mu.Lock()
		data := t.waiting
		t.waiting = nil
		if len(data) == 0 || t.closed {
			t.writing = false
			t.mu.Unlock()
			break
		}
		t.mu.Unlock()
		_ = t.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := t.conn.Write(data); err != nil {
			t.Close()
			return
		}
	}
	t.calls.Lock()
	defer t.calls.Unlock()
	t.handler.Writable()
}

// HasUnread is Link.HasUnread. A goroutine reads what comes at once.
func (t *threaded) HasUnread() bool { return false }

func (t *threaded) CloseWrite() {
	if half, ok := t.conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		t.Close()
	}
}

func (t *threaded) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		_ = t.conn.Close()
	}
}
