package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// directoryGoal is what a call of the directory must reach: so many times the CPU time of the echo.
type directoryGoal struct {
	operation string
	request   func(buffer []byte, n int64) []byte
	most      float64
}

// measureDirectory measures lists, searches, blocks and batches on the users that are there.
func (r *run) measureDirectory(ctx context.Context) error {
	r.say("measuring the directory")
	if err := r.serve(ctx); err != nil {
		return err
	}
	if err := r.measureLists(ctx, r.Users, ""); err != nil {
		return err
	}
	if err := r.measureBlocks(ctx); err != nil {
		return err
	}
	return r.measureBatches(ctx)
}

// actingUser is the header that makes a call on behalf of a user.
const actingUser = "onBehalfOf: user-1"

// list returns requests for a list of users.
func (r *run) list(query string, headers ...string) func([]byte, int64) []byte {
	headers = append(r.keyHeaders(), headers...)
	return func(buffer []byte, _ int64) []byte {
		return appendRequest(buffer, "GET", "/v3/users?"+query, headers, "")
	}
}

// searchFor111 is the query of a search that 111 of so many users match, if they are a thousand or more.
func searchFor111(users int) string {
	return "perPage=100&searchKey=user-" + strings.Repeat("7", max(1, len(strconv.Itoa(users))-3))
}

// measureLists measures lists of a directory that holds so many users. The names of the rows end with suffix.
func (r *run) measureLists(ctx context.Context, users int, suffix string) error {
	if err := r.prepareDirectory(ctx); err != nil {
		return fmt.Errorf("prepare the directory: %w", err)
	}
	acting := append(r.keyHeaders(), actingUser)
	uids := make([]string, 25)
	for i := range uids {
		uids[i] = fmt.Sprintf("user-%d", i*97%users)
	}
	goals := []directoryGoal{
		{"list 100, newest first", r.list("perPage=100"), 8},
		{"list 100, by name", r.list("perPage=100&sortBy=name"), 8},
		{"list 100, last changed first", r.list("perPage=100&sortBy=updatedAt"), 8},
		{"list 100, last active first", r.list("perPage=100&sortBy=lastActiveAt"), 8},
		{"list 100, as a user", r.list("perPage=100", actingUser), 8},
		{"prefix search, about 100 results", r.list(searchFor111(users)), 8},
		{"filter by a rare tag", r.list("perPage=100&tags=rare"), 5},
		{"filter by a rare role", r.list("perPage=100&role=vip"), 5},
		{"filter by 25 uids", r.list("perPage=100&uids=" + strings.Join(uids, ",")), 5},
		{"get with onBehalfOf", func(buffer []byte, n int64) []byte {
			return appendRequest(buffer, "GET", fmt.Sprintf("/v3/users/user-%d", n*7919%int64(users)), acting, "")
		}, 2.5},
	}
	for _, goal := range goals {
		if _, _, _, err := r.againstEcho(ctx, goal.operation+suffix, load{concurrency: 16, request: goal.request}, goal.most); err != nil {
			return err
		}
	}
	page := func(n int) load {
		return load{concurrency: 16, request: r.list(fmt.Sprintf("perPage=100&page=%d", n))}
	}
	last := users / 100
	if err := r.againstAnother(ctx, "list 100, page "+strconv.Itoa(min(5000, last-1))+suffix, "the first page", page(min(5000, last-1)), page(1)); err != nil {
		return err
	}
	return r.againstAnother(ctx, "list 100, the last page"+suffix, "the first page", page(last), page(1))
}

func (r *run) client() (*client.Client, error) {
	return client.New("http://"+r.server.address, client.WithApp(r.credentials.AppID), client.WithAPIKey(r.credentials.RestAPIKey))
}

// prepareDirectory gives every 4,000th user a role, and every second of them a tag.
func (r *run) prepareDirectory(ctx context.Context) error {
	if r.prepared {
		return nil
	}
	r.prepared = true
	c, err := r.client()
	if err != nil {
		return err
	}
	if _, err := c.Roles.Create(ctx, api.CreateRoleRequest{Role: "vip", Name: "VIP"}); err != nil {
		return err
	}
	role, tags := "vip", []string{"rare"}
	var rows []api.UserRow
	for n := 0; n < r.Users; n += 4000 {
		row := api.UserRow{UID: fmt.Sprintf("user-%d", n)}
		row.Role = &role
		if n%8000 == 0 {
			row.Tags = &tags
		}
		rows = append(rows, row)
	}
	for len(rows) > 0 {
		some := rows[:min(len(rows), 1000)]
		if _, err := c.Users.Batch(ctx, some); err != nil {
			return err
		}
		rows = rows[len(some):]
	}
	return nil
}

// measureBlocks compares blocking and unblocking with updating a user, in turns.
func (r *run) measureBlocks(ctx context.Context) error {
	headers := r.keyHeaders()
	update := load{concurrency: 16, request: func(buffer []byte, n int64) []byte {
		return appendRequest(buffer, "PUT", fmt.Sprintf("/v3/users/user-%d", n*7919%int64(r.Users)), headers, fmt.Sprintf(`{"statusMessage":"%d"}`, n))
	}}
	block := load{concurrency: 16, request: func(buffer []byte, n int64) []byte {
		method := "POST"
		if n/1000%2 == 1 {
			method = "DELETE"
		}
		pair := n % 1000
		return appendRequest(buffer, method, fmt.Sprintf("/v3/users/user-%d/blockedusers", pair*7%int64(r.Users)), headers, fmt.Sprintf(`{"blockedUids":["user-%d"]}`, (pair*7+1)%int64(r.Users)))
	}}
	return r.againstAnother(ctx, "block and unblock, durable", "an update", block, update)
}

// againstAnother measures an operation and another one in turns. It may take twice the CPU time of the other.
func (r *run) againstAnother(ctx context.Context, operation, another string, l, other load) error {
	others, measured, err := compare(ctx, r.Duration, other.against(r.server), l.against(r.server))
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	row := r.addLoad(operation, l.concurrency, measured)
	ratio := microseconds(measured.perOp()) / microseconds(others.perOp())
	row.Ratio = fmt.Sprintf("%.2fx CPU of %s", ratio, another)
	row.goal("<= 2.0x", ratio <= 2)
	return nil
}

// measureBatches upserts batches of 1,000 new users.
func (r *run) measureBatches(ctx context.Context) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	const size = 1000
	started, users := time.Now(), 0
	for time.Since(started) < r.Duration {
		rows := make([]api.UserRow, size)
		for i := range rows {
			name := fmt.Sprintf("Batch User %d", users+i)
			rows[i] = api.UserRow{UID: fmt.Sprintf("batch-%d", users+i)}
			rows[i].Name = &name
		}
		if _, err := c.Users.Batch(ctx, rows); err != nil {
			return fmt.Errorf("batch: %w", err)
		}
		users += size
	}
	rate := float64(users) / time.Since(started).Seconds()
	row := Row{Operation: "batch upsert, users", Concurrency: 1, Rate: rate}
	row.goal(">= 15000/s", rate >= 15000)
	r.rows = append(r.rows, row)
	return nil
}
