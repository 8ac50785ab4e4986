package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/internal/directory"
)

func showChange(change directory.Change) api.Change {
	return api.Change{
		Revision: change.Revision, At: change.At, Actor: string(change.Actor), Kind: string(change.Kind),
		Subject: change.Subject, Object: change.Object, Fields: change.Fields,
	}
}

// listChanges reads the change log, or what of it is about one user, from a revision on, or, asked for
// text/event-stream, goes on to send what is appended.
func listChanges(c *call) (answer, error) {
	q := c.query()
	since := q.integer(math.MaxInt64, "since")
	limit := int(q.integer(int64(q.limits.PageSize), "limit", "perPage", "per_page"))
	uid := q.text("uid")
	if uid != "" && c.wantsEvents() {
		q.wrong.Add("uid", "The uid is for pages alone: the stream has the changes of everybody.")
	}
	err := q.err()
	if err != nil {
		return answer{}, err
	}
	if c.wantsEvents() {
		if id := headerValue(c.r, "Last-Event-Id"); id != "" {
			if since, err = strconv.ParseInt(id, 10, 64); err != nil || since < 0 {
				return answer{},
					errorf(api.CodeBadRequest, "The Last-Event-ID must be the id of an event of this stream, which is a revision.")
			}
		}
		if _, last, err := c.api.dir.ListChanges(c.ctx(), c.caller, since, 1); err != nil {
			return answer{}, err
		} else if since > last {
			return answer{},
				errorf(api.CodeBadRequest, "The log ends at revision %d, before %d: it may have been restored from a backup. "+
					"Start anew from 0.", last, since)
		}
		if c.beginEvents() {
			return written, nil
		}
		return written, c.streamChanges(since)
	}
	read := c.api.dir.ListChanges
	if uid != "" {
		read = func(
			ctx context.Context, caller directory.Caller, since int64, limit int,
		) ([]directory.Change, int64, error) {
			return c.api.dir.ListChangesAbout(ctx, caller, c.shownID(uid), since, limit)
		}
	}
	changes, last, err := read(c.ctx(), c.caller, since, limit)
	if err != nil {
		return answer{}, err
	}
	shown := make([]api.Change, len(changes))
	for i, change := range changes {
		shown[i] = showChange(change)
	}
	return answer{data: shown, meta: &api.Meta{Revision: &last}}, nil
}

// wantsEvents reports whether the caller asks for a stream of events.
func (c *call) wantsEvents() bool {
	return strings.Contains(headerValue(c.r, "Accept"), "text/event-stream")
}

// beginEvents sends the head of a stream of events. It returns true when that is all that the caller has asked for.
func (c *call) beginEvents() (whole bool) {
	c.w.Header()["Content-Type"] = eventStreamContentType
	c.w.WriteHeader(http.StatusOK)
	return c.r.Method == http.MethodHead
}

var eventStreamContentType = []string{"text/event-stream"}

const (
	streamHeartbeat = 15 * time.Second
	// streamWriteTimeout ends the stream of a reader that does not read. It resumes where it was.
	streamWriteTimeout = 30 * time.Second
)

// streamChanges sends the change log as server-sent events, each with its revision as id, until the client goes away,
// the server stops or the key is not good any more. What a slow client cannot be handed as it is committed is read from
// the log at its pace, so it costs no memory.
func (c *call) streamChanges(since int64) error {
	control := http.NewResponseController(c.w)
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(c.api.running, cancel)()
	follower := c.api.config.Feed.Follow(c.caller.App, since)
	defer follower.Close()
	fmt.Fprint(c.w, ": changes\n\n")
	for {
		// Deadlines are not to be had on every connection; those without one are closed when the server stops.
		_ = control.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
		if err := control.Flush(); err != nil {
			return nil // the client went away
		}
		waiting, cancel := context.WithTimeout(ctx, streamHeartbeat)
		commit, err := follower.Next(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case !c.keyIsGood():
			return nil // the stream ends, and the next attempt is told why
		case errors.Is(err, context.DeadlineExceeded):
			fmt.Fprint(c.w, ": still here\n\n")
		case err != nil:
			return err
		}
		for _, change := range commit.Changes {
			body, err := json.Marshal(showChange(change))
			if err != nil {
				return fmt.Errorf("encode change: %w", err)
			}
			fmt.Fprintf(c.w, "id: %d\nevent: change\ndata: %s\n\n", change.Revision, body)
		}
	}
}
