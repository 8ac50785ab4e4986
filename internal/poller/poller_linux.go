package poller

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer is how much is read from one connection before the next has its turn.
	readBuffer = 64 << 10
	maxEvents  = 256
	// interest is what is always waited for.
	interest = unix.EPOLLIN | unix.EPOLLRDHUP
)

// native is the part of a Poller that the kernel does.
type native struct {
	waiters []*waiter // none before the first connection that can be adopted
	next    int
}

// waiter is one epoll instance and the goroutine that serves it.
type waiter struct {
	file *os.File
	raw  syscall.RawConn
	fd   int

	mu    sync.Mutex
	links map[int32]*polled // guarded by mu
}

func (n *native) start(work *sync.WaitGroup) error {
	for range min(2, runtime.GOMAXPROCS(0)) {
		w, err := newWaiter()
		if err != nil {
			return err
		}
		n.waiters = append(n.waiters, w)
		work.Go(w.serve)
	}
	return nil
}

func (n *native) close() error {
	var failures []error
	for _, w := range n.waiters {
		failures = append(failures, w.file.Close())
	}
	return errors.Join(failures...)
}

func newWaiter() (*waiter, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	// As a non-blocking file, the epoll instance is itself waited for by the runtime: no thread is spent on it.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(fd))
	}
	w := &waiter{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), links: map[int32]*polled{}}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), w.file.Close())
	}
	return w, nil
}

func (n *native) adopt(
	conn net.Conn, work *sync.WaitGroup, handler func(Link) Handler,
) (link Link, adopted bool, err error) {
	plain, secure := beneath(conn)
	if plain == nil {
		return nil, false, nil
	}
	source, ok := plain.Conn.(syscall.Conn)
	if !ok {
		return nil, false, nil
	}
	if len(n.waiters) == 0 {
		if err := n.start(work); err != nil {
			return nil, false, err
		}
	}
	n.next++
	link, err = n.waiters[n.next%len(n.waiters)].adopt(source, plain, secure, handler)
	return link, err == nil, err
}

// adopt moves a connection from the runtime's poller to this one: its file descriptor is duplicated, and the first
// closed.
func (w *waiter) adopt(source syscall.Conn, conn *Conn, secure *tls.Conn, handler func(Link) Handler) (Link, error) {
	raw, err := source.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("adopt connection: %w", err)
	}
	link := &polled{waiter: w, fd: -1, secure: secure}
	duplicate := func(fd uintptr) { link.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }
	if controlErr := raw.Control(duplicate); controlErr != nil {
		err = controlErr
	}
	if err != nil {
		return nil, fmt.Errorf("adopt connection: %w", err)
	}
	if err := conn.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("adopt connection: %w", err), unix.Close(link.fd))
	}
	conn.adopted, conn.Conn = link, nil
	fd := link.fd // from the time it is watched, the waiter may close it
	link.handler = handler(link)
	w.mu.Lock()
	w.links[int32(fd)] = link
	w.mu.Unlock()
	events := uint32(interest)
	if secure != nil {
		// TLS may have read and decrypted already what comes first: the waiter is made to look.
		events |= unix.EPOLLOUT
	}
	if err := w.control(unix.EPOLL_CTL_ADD, fd, events); err != nil {
		w.mu.Lock()
		delete(w.links, int32(fd))
		w.mu.Unlock()
		link.mu.Lock()
		link.fd, link.ended = -1, true
		link.mu.Unlock()
		return nil, errors.Join(err, unix.Close(fd))
	}
	return link, nil
}

func (w *waiter) control(operation, fd int, events uint32) error {
	if err := unix.EpollCtl(w.fd, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (w *waiter) link(fd int32) *polled {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.links[fd]
}

// serve handles what happens on the connections until the epoll instance is closed, and closes them then.
func (w *waiter) serve() {
	buffer := make([]byte, readBuffer)
	events := make([]unix.EpollEvent, maxEvents)
	for {
		count := 0
		err := w.raw.Read(func(fd uintptr) bool {
			var err error
			for {
				if count, err = unix.EpollWait(int(fd), events, 0); !errors.Is(err, unix.EINTR) {
					break
				}
			}
			return count != 0 || err != nil
		})
		if err != nil || count < 0 {
			break
		}
		for _, event := range events[:count] {
			link := w.link(event.Fd)
			if link == nil {
				continue
			}
			first := link.secure != nil && !link.looked
			link.looked = true
			if event.Events&unix.EPOLLOUT != 0 {
				link.flush()
			}
			if event.Events&^unix.EPOLLOUT != 0 || first {
				link.receive(buffer)
			}
		}
	}
	w.mu.Lock()
	rest := w.links
	w.links = map[int32]*polled{}
	w.mu.Unlock()
	for _, link := range rest {
		link.finish(net.ErrClosed)
	}
}

// polled is a link that its waiter watches. Its file descriptor is read and closed by the waiter's goroutine alone, so
// that a number is never used that has become another connection's.
type polled struct {
	waiter  *waiter
	handler Handler
	secure  *tls.Conn // nil without TLS
	looked  bool      // the waiter has looked at it; its own

	mu      sync.Mutex
	fd      int    // guarded by mu; -1 when closed
	waiting []byte // what the network has not taken yet. Guarded by mu
	ended   bool   // nothing may be written any more. Guarded by mu
}

// receive reads what has come and hands it on.
func (l *polled) receive(buffer []byte) {
	for {
		var n int
		var err error
		if l.secure != nil {
			n, err = l.secure.Read(buffer)
		} else {
			n, err = l.read(buffer)
		}
		if n > 0 {
			l.handler.Receive(buffer[:n])
		}
		switch {
		case errors.Is(err, errWouldBlock):
			return
		case err != nil:
			l.waiter.mu.Lock()
			delete(l.waiter.links, int32(l.fd)) // only this goroutine changes it
			l.waiter.mu.Unlock()
			l.finish(err)
			return
		case l.secure == nil:
			return // if there is more, it is announced again when others have had their turn
		}
	}
}

// finish closes the connection and tells the handler. Only the waiter's goroutine calls it.
func (l *polled) finish(err error) {
	l.mu.Lock()
	if l.fd >= 0 {
		_ = unix.Close(l.fd) // there is nothing to be done about it
		l.fd = -1
	}
	l.ended, l.waiting = true, nil
	l.mu.Unlock()
	l.handler.Closed(err)
}

// read reads from the socket beneath any TLS.
func (l *polled) read(into []byte) (int, error) {
	for {
		n, err := unix.Read(l.fd, into)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, errWouldBlock
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// write writes to the socket beneath any TLS. What the socket does not take waits.
func (l *polled) write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, net.ErrClosed
	}
	if len(l.waiting) > 0 {
		l.waiting = append(l.waiting, data...)
		return len(data), nil
	}
	rest, err := l.send(data)
	if err != nil {
		return 0, err
	}
	if len(rest) > 0 {
		l.waiting = append([]byte(nil), rest...)
		if err := l.waiter.control(unix.EPOLL_CTL_MOD, l.fd, interest|unix.EPOLLOUT); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

// send gives the socket what it takes and returns the rest. It needs mu.
func (l *polled) send(data []byte) (rest []byte, err error) {
	for len(data) > 0 {
		n, err := unix.Write(l.fd, data)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return data, nil
		case err != nil:
			return nil, os.NewSyscallError("write", err)
		default:
			data = data[n:]
		}
	}
	return nil, nil
}

// Write is Link.Write.
func (l *polled) Write(data []byte) (waiting bool, err error) {
	if l.secure != nil {
		_, err = l.secure.Write(data)
	} else {
		_, err = l.write(data)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0, err
}

// flush sends what waits, when the socket takes more.
func (l *polled) flush() {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return
	}
	rest, err := l.send(l.waiting)
	l.waiting = append([]byte(nil), rest...)
	done := len(rest) == 0
	if done && err == nil {
		l.waiting = nil
		err = l.waiter.control(unix.EPOLL_CTL_MOD, l.fd, interest)
	}
	l.mu.Unlock()
	if err != nil {
		l.Close()
		return
	}
	if done {
		l.handler.Writable()
	}
}

// CloseWrite is Link.CloseWrite.
func (l *polled) CloseWrite() {
	if l.secure != nil {
		_ = l.secure.CloseWrite() // the other side is told as far as it can be
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd >= 0 && !l.ended {
		_ = unix.Shutdown(l.fd, unix.SHUT_WR)
	}
}

// HasUnread is Link.HasUnread.
func (l *polled) HasUnread() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return false
	}
	waiting, err := unix.IoctlGetInt(l.fd, unix.TIOCINQ)
	return err == nil && waiting > 0
}

// Close is Link.Close.
func (l *polled) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd >= 0 && !l.ended {
		l.ended = true
		_ = unix.Shutdown(l.fd, unix.SHUT_RDWR) // the waiter is told, and closes it
	}
}
