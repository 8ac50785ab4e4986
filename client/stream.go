package client

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// reconnectPause is the wait before a broken stream is taken up again.
const reconnectPause = time.Second

// serverEvent is one server-sent event.
type serverEvent struct{ id, name, data string }

// follow reads a stream of server-sent events until ctx ends, each returns false or an error, or the server refuses.
// When the connection breaks, it connects again: request says from where on.
func (c *Client) follow(
	ctx context.Context, path string, request func() (query url.Values, lastEventID string),
	each func(serverEvent) (more bool, err error),
) error {
	for {
		query, lastEventID := request()
		more, err := c.stream(ctx, path, query, lastEventID, each)
		if !more || ctx.Err() != nil {
			return err
		}
		var refused *Error
		if errors.As(err, &refused) && refused.final() || isUnusable(err) {
			return err
		}
		select {
		case <-time.After(reconnectPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// final reports whether the server will say the same again.
func (e *Error) final() bool {
	return e.Status < 500 && e.Status != http.StatusTooManyRequests
}

// stream reads one connection's events until it breaks. It returns false when each wanted no more.
func (c *Client) stream(
	ctx context.Context, path string, query url.Values, lastEventID string, each func(serverEvent) (bool, error),
) (more bool, err error) {
	request, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		request.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := c.open(request)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	var event serverEvent
	lines := bufio.NewReaderSize(response.Body, 64<<10)
	for {
		line, err := readLine(lines, maxEvent)
		if err != nil {
			return true, err
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "id":
			event.id = value
		case "event":
			event.name = value
		case "data":
			event.data = value
		case "":
			if event.data != "" {
				if more, err := each(event); err != nil || !more {
					return false, err
				}
			}
			event = serverEvent{}
		}
	}
}

// readLine reads a line of at most so many bytes. What it reads it looks at once, however long the line gets.
func readLine(from *bufio.Reader, most int) (string, error) {
	var line []byte
	for {
		part, err := from.ReadSlice('\n')
		if len(line)+len(part) > most {
			return "", unusable("the server sends an event that is longer than %d MB", most>>20)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return strings.TrimRight(string(line), "\r\n"), err
		}
	}
}

// maxEvent bounds one event, in bytes. The longest is a snapshot of everybody who is online: some million users.
const maxEvent = 128 << 20
