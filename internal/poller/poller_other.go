//go:build !linux

package poller

import (
	"net"
	"sync"
)

// native does nothing here: every adopted connection has goroutines of its own.
type native struct{}

func (native) close() error { return nil }

func (native) adopt(net.Conn, *sync.WaitGroup, func(Link) Handler) (Link, bool, error) {
	return nil, false, nil
}
