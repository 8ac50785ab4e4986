package bench

import (
	"context"
	"fmt"
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
	c, err := r.client()
	if err != nil {
		return err
	}
	if err := r.prepareDirectory(ctx, c); err != nil {
		return fmt.Errorf("prepare the directory: %w", err)
	}
	headers := r.keyHeaders()
	acting := append([]string{"onBehalfOf: user-1"}, headers...)
	list := func(headers []string, query string) func([]byte, int64) []byte {
		return func(buffer []byte, _ int64) []byte {
			return appendRequest(buffer, "GET", "/v3/users?"+query, headers, "")
		}
	}
	uids := make([]string, 25)
	for i := range uids {
		uids[i] = fmt.Sprintf("user-%d", i*97%r.Users)
	}
	last := r.Users / 100
	deep := min(5000, last-1)
	goals := []directoryGoal{
		{"list 100, newest first", list(headers, "perPage=100"), 8},
		{"list 100, by name", list(headers, "perPage=100&sortBy=name"), 8},
		{"list 100, last changed first", list(headers, "perPage=100&sortBy=updatedAt"), 8},
		{"list 100, last active first", list(headers, "perPage=100&sortBy=lastActiveAt"), 8},
		{"list 100, as a user", list(acting, "perPage=100"), 8},
		{"prefix search, about 100 results", list(headers, "perPage=100&searchKey=user-777"), 8},
		{"filter by a rare tag", list(headers, "perPage=100&tags=rare"), 5},
		{"filter by a rare role", list(headers, "perPage=100&role=vip"), 5},
		{"filter by 25 uids", list(headers, "perPage=100&uids="+strings.Join(uids, ",")), 5},
		{"get with onBehalfOf", func(buffer []byte, n int64) []byte {
			return appendRequest(buffer, "GET", fmt.Sprintf("/v3/users/user-%d", n*7919%int64(r.Users)), acting, "")
		}, 2.5},
	}
	for _, goal := range goals {
		if _, _, _, err := r.againstEcho(ctx, goal.operation, load{concurrency: 16, request: goal.request}, goal.most); err != nil {
			return err
		}
	}
	for operation, page := range map[string]int{"list 100, a deep page": deep, "list 100, the last page": last} {
		err := r.againstAnother(ctx, operation, "the first page", 2,
			load{concurrency: 16, request: list(headers, fmt.Sprintf("perPage=100&page=%d", page))}, load{concurrency: 16, request: list(headers, "perPage=100")})
		if err != nil {
			return err
		}
	}
	if err := r.measureBlocks(ctx, headers); err != nil {
		return err
	}
	return r.measureBatches(ctx, c)
}

func (r *run) client() (*client.Client, error) {
	return client.New("http://"+r.server.address, client.WithApp(r.credentials.AppID), client.WithAPIKey(r.credentials.RestAPIKey))
}

// prepareDirectory gives every 4,000th user a role, and every second of them a tag.
func (r *run) prepareDirectory(ctx context.Context, c *client.Client) error {
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
func (r *run) measureBlocks(ctx context.Context, headers []string) error {
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
	return r.againstAnother(ctx, "block and unblock, durable", "an update", 2, block, update)
}

// againstAnother measures an operation and another one in turns, and compares their CPU time.
func (r *run) againstAnother(ctx context.Context, operation, another string, most float64, l, other load) error {
	others, measured, err := compare(ctx, r.Duration, other.against(r.server), l.against(r.server))
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	row := r.addLoad(operation, l.concurrency, measured)
	ratio := microseconds(measured.perOp()) / microseconds(others.perOp())
	row.Ratio = fmt.Sprintf("%.2fx CPU of %s", ratio, another)
	row.goal(fmt.Sprintf("<= %.1fx", most), ratio <= most)
	return nil
}

// measureBatches upserts batches of 1,000 new users.
func (r *run) measureBatches(ctx context.Context, c *client.Client) error {
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
