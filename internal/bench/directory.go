package bench

import (
	"context"
	"fmt"
	"net/url"
	"slices"
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
	if err := r.measureLists(ctx, r.Users, "", 0); err != nil {
		return err
	}
	if err := r.measureBlocks(ctx); err != nil {
		return err
	}
	return r.measureBatches(ctx)
}

// actingUser is the header that makes a call on behalf of a user: one with friends and blocks.
const actingUser = "onBehalfOf: user-1"

// list returns requests for a list of users.
func (r *run) list(query string, headers ...string) func([]byte, int64) []byte {
	return r.lists(func(int64) string { return query }, headers...)
}

// listAsUsers returns requests for a list of users on behalf of a thousand of them in turn.
func (r *run) listAsUsers(query string) func([]byte, int64) []byte {
	headers := r.keyHeaders()
	return func(buffer []byte, n int64) []byte {
		acting := fmt.Sprintf("onBehalfOf: user-%d", n%1000)
		return appendRequest(buffer, "GET", "/v3/users?"+query, append(slices.Clip(headers), acting), "")
	}
}

// lists returns requests for lists of users, each for a query of its own.
func (r *run) lists(query func(n int64) string, headers ...string) func([]byte, int64) []byte {
	headers = append(r.keyHeaders(), headers...)
	return func(buffer []byte, n int64) []byte {
		return appendRequest(buffer, "GET", "/v3/users?"+query(n), headers, "")
	}
}

// typed is what a people list asks while names are typed: so many of them in turn, letter by letter.
func typed(names int64) func(n int64) string {
	return func(n int64) string {
		name := nameOf(n / 4 % names * 7)
		if n/4%2 == 1 {
			_, name, _ = strings.Cut(name, " ")
		}
		letters := []rune(name)
		return "perPage=100&searchKey=" + url.QueryEscape(string(letters[:min(len(letters), 1+int(n%4))]))
	}
}

// Goals of lists, as times the echo's CPU, of the smaller directory and of the larger one.
var (
	pageGoal   = [2]float64{5, 5}
	filterGoal = [2]float64{8, 16}
	hardGoal   = [2]float64{12, 40}
)

// measureLists measures lists of a directory that holds so many users, for which goals count that are 0 or 1. The names
// of the rows end with suffix.
func (r *run) measureLists(ctx context.Context, users int, suffix string, goals int) error {
	if err := r.prepareDirectory(ctx); err != nil {
		return fmt.Errorf("prepare the directory: %w", err)
	}
	acting := append(r.keyHeaders(), actingUser)
	uids := make([]string, 25)
	for i := range uids {
		uids[i] = fmt.Sprintf("user-%d", i*97%users)
	}
	middle, last := users/200, users/100-1
	rows := []directoryGoal{
		{"list 100, newest first", r.list("perPage=100"), pageGoal[goals]},
		{"list 100, by name", r.list("perPage=100&sortBy=name"), pageGoal[goals]},
		{"list 100, last changed first", r.list("perPage=100&sortBy=updatedAt"), pageGoal[goals]},
		{"list 100, last active first", r.list("perPage=100&sortBy=lastActiveAt"), pageGoal[goals]},
		{"list 100, as a user", r.listAsUsers("perPage=100"), pageGoal[goals]},
		{
			fmt.Sprintf("list 100, newest first, page %d", middle), r.list(fmt.Sprintf("perPage=100&page=%d", middle)),
			pageGoal[goals],
		},
		{"list 100, by name, the last page", r.list(fmt.Sprintf("perPage=100&sortBy=name&page=%d", last)), pageGoal[goals]},
		{
			fmt.Sprintf("list 100, as a user, page %d", middle), r.listAsUsers(fmt.Sprintf("perPage=100&page=%d", middle)),
			pageGoal[goals],
		},
		{"names typed letter by letter", r.lists(typed(1000)), filterGoal[goals]},
	}
	for _, filter := range []struct{ name, query string }{
		{"tag of 50 %", "tags=eu"},
		{"tag of 10 %", "tags=tenth"},
		{"tag of 1 %", "tags=hundredth"},
		{"tag of 0.1 %", "tags=thousandth"},
		{"role of 1 %", "role=staff"},
		{"metadata value of 1 %", "metadata%5Bcity%5D=city-7"},
	} {
		rows = append(rows,
			directoryGoal{filter.name + ", newest first", r.list("perPage=100&" + filter.query), filterGoal[goals]},
			directoryGoal{filter.name + ", by name", r.list("perPage=100&sortBy=name&" + filter.query), filterGoal[goals]})
	}
	rows = append(rows,
		directoryGoal{"tag of 50 %, by name, page 50", r.list("perPage=100&sortBy=name&tags=eu&page=50"), hardGoal[goals]},
		directoryGoal{"tag of 10 %, newest first, page 50", r.list("perPage=100&tags=tenth&page=50"), hardGoal[goals]},
		directoryGoal{"one of two tags", r.list("perPage=100&tags=tenth,thousandth"), hardGoal[goals]},
		directoryGoal{
			"tag of 10 % and names typed", r.lists(func(n int64) string { return typed(1000)(n) + "&tags=tenth" }),
			hardGoal[goals],
		},
		directoryGoal{"nameContains of two words", r.lists(func(n int64) string {
			first, second, _ := strings.Cut(nameOf(n%1000*7), " ")
			return "perPage=100&nameContains=" + url.QueryEscape(second[:1]+" "+first)
		}), hardGoal[goals]},
		directoryGoal{"hideBlockedUsers", r.list("perPage=100&hideBlockedUsers=true", actingUser), hardGoal[goals]},
		directoryGoal{"friendsOnly, 1,000 friends", r.list("perPage=100&friendsOnly=true", actingUser), hardGoal[goals]},
		directoryGoal{"filter by 25 uids", r.list("perPage=100&uids=" + strings.Join(uids, ",")), pageGoal[goals]},
		directoryGoal{"get with onBehalfOf", func(buffer []byte, n int64) []byte {
			return appendRequest(buffer, "GET", fmt.Sprintf("/v3/users/user-%d", n*7919%int64(users)), acting, "")
		}, 2.2},
	)
	c, err := r.client()
	if err != nil {
		return err
	}
	if _, err := c.Users.List(ctx, client.UserListOptions{}); err != nil { // it makes the index
		return err
	}
	for _, row := range rows {
		l := load{concurrency: 16, request: row.request}
		if _, _, _, err := r.againstEcho(ctx, row.operation+suffix, l, row.most); err != nil {
			return err
		}
	}
	fresh, again := load{
		concurrency: 16, request: r.lists(typed(1000)),
	}, load{concurrency: 16, request: r.lists(typed(10))}
	return r.againstAnother(ctx, "1,000 names typed"+suffix, "10 typed again and again", fresh, again, 1.5)
}

func (r *run) client() (*client.Client, error) {
	return client.New(
		"http://"+r.server.address, client.WithApp(r.credentials.AppID), client.WithAPIKey(r.credentials.RestAPIKey),
	)
}

// friendsOfActing is how many friends the acting user has.
const friendsOfActing = 1000

// prepareDirectory gives the acting user friends and blocks.
func (r *run) prepareDirectory(ctx context.Context) error {
	if r.prepared {
		return nil
	}
	r.prepared = true
	c, err := r.client()
	if err != nil {
		return err
	}
	for first := 0; first < friendsOfActing; first += 25 {
		var friends []string
		for n := first; n < first+25; n++ {
			friends = append(friends, fmt.Sprintf("user-%d", 2+n*(r.Users-2)/friendsOfActing))
		}
		if _, err := c.Friends.Add(ctx, "user-1", friends...); err != nil {
			return err
		}
	}
	var blocked []string
	for n := range 25 {
		blocked = append(blocked, fmt.Sprintf("user-%d", 3+n*(r.Users-3)/25))
	}
	_, err = c.Blocks.Block(ctx, "user-1", blocked...)
	return err
}

// measureBlocks compares blocking and unblocking with updating a user, in turns.
func (r *run) measureBlocks(ctx context.Context) error {
	headers := r.keyHeaders()
	update := load{concurrency: 16, request: func(buffer []byte, n int64) []byte {
		return appendRequest(
			buffer, "PUT", fmt.Sprintf("/v3/users/user-%d", n*7919%int64(r.Users)), headers,
			fmt.Sprintf(`{"statusMessage":"%d"}`, n),
		)
	}}
	block := load{concurrency: 16, request: func(buffer []byte, n int64) []byte {
		method := "POST"
		if n/1000%2 == 1 {
			method = "DELETE"
		}
		pair := n % 1000
		return appendRequest(
			buffer, method, fmt.Sprintf("/v3/users/user-%d/blockedusers", pair*7%int64(r.Users)), headers,
			fmt.Sprintf(`{"blockedUids":["user-%d"]}`, (pair*7+1)%int64(r.Users)),
		)
	}}
	return r.againstAnother(ctx, "block and unblock, durable", "an update", block, update, 2)
}

// againstAnother measures an operation and another one in turns. It may take most times the CPU time of the other.
func (r *run) againstAnother(ctx context.Context, operation, another string, l, other load, most float64) error {
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
func (r *run) measureBatches(ctx context.Context) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	const size = 1000
	users := 0
	measured, echo, err := r.besideEcho(ctx, 128, func() (result, error) {
		started := time.Now()
		for time.Since(started) < r.Duration {
			rows := make([]api.UserRow, size)
			for i := range rows {
				name := fmt.Sprintf("Batch User %d", users+i)
				rows[i] = api.UserRow{UID: fmt.Sprintf("batch-%d", users+i)}
				rows[i].Name = &name
			}
			if _, err := c.Users.Batch(ctx, rows); err != nil {
				return result{}, fmt.Errorf("batch: %w", err)
			}
			users += size
		}
		return result{ops: int64(users), elapsed: time.Since(started)}, nil
	})
	if err != nil {
		return err
	}
	r.rows = append(r.rows, Row{Operation: "batch upsert, users", Concurrency: 1, Rate: measured.rate()})
	r.rows[len(r.rows)-1].atLeastEchoes(measured.rate(), echo, 0.4)
	return nil
}
