package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/httpapi"
	"github.com/rollcall/rollcall/internal/sqlstore"
)

// gated is a database whose pages of users come when its gate is opened.
type gated struct {
	*sqlstore.Store
	arrived chan struct{}
	gate    chan struct{}
}

func (g gated) View(ctx context.Context, fn func(directory.Reader) error) error {
	return g.Store.View(ctx, func(tx directory.Reader) error { return fn(gatedTx{tx, g}) })
}

type gatedTx struct {
	directory.Reader
	gated
}

func (t gatedTx) UsersNamed(app directory.AppID, uids []directory.UID) ([]directory.User, error) {
	t.arrived <- struct{}{}
	<-t.gate
	return t.Reader.UsersNamed(app, uids)
}

// TestListsInLine asks for more lists at once than one key may read: no more than that begin, those in line are refused
// when their time is over, and what reads a single user does not stand in the line.
func TestListsInLine(t *testing.T) {
	t.Parallel()
	g := gated{arrived: make(chan struct{}, 100), gate: make(chan struct{})}
	s := serveOver(
		t,
		httpapi.Config{RequestTimeout: time.Second, Registerer: prometheus.NewRegistry()},
		func(store *sqlstore.Store) directory.Store {
			g.Store = store
			return g
		},
	)
	get := func(path string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		request.Header = http.Header{"Appid": {s.app}, "Apikey": {s.key}}
		recorder := httptest.NewRecorder()
		s.handler.ServeHTTP(recorder, request)
		return recorder
	}
	atOnce := g.Readers() / 2
	if atOnce > 2 {
		atOnce = atOnce * 3 / 4
	}
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			if answer := get("/users"); answer.Code != http.StatusOK {
				t.Errorf("a list that was let in: %d %s", answer.Code, answer.Body)
			}
		})
	}
	for range atOnce {
		<-g.arrived
	}
	if answer := get("/users/cometchat-uid-1"); answer.Code != http.StatusOK {
		t.Errorf("a user, beside lists: %d %s", answer.Code, answer.Body)
	}
	for range 3 {
		if answer := get("/users"); answer.Code != http.StatusTooManyRequests || answer.Header().Get("Retry-After") == "" {
			t.Errorf("a list in line to its end: %d %s", answer.Code, answer.Body)
		}
	}
	if len(g.arrived) > 0 {
		t.Errorf("%d lists more were begun", len(g.arrived))
	}
	close(g.gate)
	running.Wait()
	if answer := get("/users"); answer.Code != http.StatusOK {
		t.Errorf("a list when the others are read: %d %s", answer.Code, answer.Body)
	}
}
