package httpapi

import (
	"context"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/api"
)

// lists bounds how many lists are read at a time, of one caller and in all: those who wait for one stand in line, and
// reads of single users never stand behind it.
type lists struct {
	all           chan struct{}
	ofKey, ofUser int
	waiting       prometheus.Gauge

	mu      sync.Mutex
	callers map[string]*lister // guarded by mu
}

// lister is a caller who reads lists, or waits to.
type lister struct {
	slots chan struct{}
	calls int
}

// newLists makes room for so many lists at a time. A key, which is a whole backend, may take most of it, and a user
// half.
func newLists(atOnce int, registerer prometheus.Registerer) *lists {
	l := &lists{
		all: make(chan struct{}, atOnce), ofKey: min(atOnce, max(2, atOnce*3/4)), ofUser: max(1, atOnce/2),
		callers: map[string]*lister{},
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_lists_waiting", Help: "Lists that wait for others to be read.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(l.waiting)
	}
	return l
}

// enter waits until the caller may read a list, at most as long as the request has. Call leave when it is read.
func (l *lists) enter(ctx context.Context, c *call) (leave func(), err error) {
	name, most := "key "+string(c.caller.Key), l.ofKey
	if c.caller.User != "" {
		name, most = "user "+string(c.caller.App)+" "+string(c.caller.User), l.ofUser
	}
	l.mu.Lock()
	of, known := l.callers[name]
	if !known {
		of = &lister{slots: make(chan struct{}, most)}
		l.callers[name] = of
	}
	of.calls++
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if of.calls--; of.calls == 0 {
			delete(l.callers, name)
		}
	}
	if !l.take(ctx, of.slots) {
		forget()
		return nil, c.errListsInLine()
	}
	if !l.take(ctx, l.all) {
		<-of.slots
		forget()
		return nil, c.errListsInLine()
	}
	return func() {
		<-l.all
		<-of.slots
		forget()
	}, nil
}

func (l *lists) take(ctx context.Context, slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	l.waiting.Inc()
	defer l.waiting.Dec()
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *call) errListsInLine() error {
	if err := c.r.Context().Err(); err != nil {
		return err
	}
	c.w.Header()["Retry-After"] = []string{"1"}
	return errorf(api.CodeTooManyRequests,
		"Too many lists are being read. Wait for those that you have asked for, and try again in a second.")
}

// handleList handles a call that reads lists when its turn has come.
func (c *call) handleList(handle func(*call) (answer, error)) (answer, error) {
	if c.r.Method == http.MethodPost { // whose body may come slowly
		if _, err := c.readBody(); err != nil {
			return answer{}, err
		}
	}
	leave, err := c.api.lists.enter(c.ctx(), c)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	return handle(c)
}
