package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/api"
)

// ChangesService reads the change log of an app.
type ChangesService struct{ service }

// List returns at most limit changes with a revision above since, in order, and the app's last revision. Zero limit
// means 100.
func (s *ChangesService) List(ctx context.Context, since int64, limit int) (changes []api.Change, last int64, err error) {
	query := url.Values{"since": {strconv.FormatInt(since, 10)}}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	answer, err := call[[]api.Change](ctx, s.service, http.MethodGet, "/changes", query, nil)
	if err == nil && answer.Meta != nil && answer.Meta.Revision != nil {
		last = *answer.Meta.Revision
	}
	return answer.Data, last, err
}

// reconnectPause is the wait before a broken stream is taken up again.
const reconnectPause = time.Second

// Follow iterates over the changes above since as they happen, each exactly once, in order. When the connection
// breaks, it connects again and goes on where it was. It ends when ctx does, or with the server's refusal.
func (s *ChangesService) Follow(ctx context.Context, since int64) iter.Seq2[api.Change, error] {
	return func(yield func(api.Change, error) bool) {
		for {
			stopped := false
			err := s.stream(ctx, since, func(change api.Change) bool {
				since = change.Revision
				stopped = !yield(change, nil)
				return !stopped
			})
			if stopped || ctx.Err() != nil {
				return
			}
			var refused *Error
			if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
				yield(api.Change{}, err)
				return
			}
			select {
			case <-time.After(reconnectPause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// stream reads one connection's events until it breaks or each returns false.
func (s *ChangesService) stream(ctx context.Context, since int64, each func(api.Change) bool) error {
	request, err := s.client.request(ctx, http.MethodGet, "/changes", url.Values{"since": {strconv.FormatInt(since, 10)}}, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	streaming := *s.client.http
	streaming.Timeout = 0 // the stream has no end
	response, err := streaming.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		return refusal(response, body)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var change api.Change
		if err := json.Unmarshal([]byte(data), &change); err != nil {
			return fmt.Errorf("read change: %w", err)
		}
		if !each(change) {
			return nil
		}
	}
	return lines.Err()
}
