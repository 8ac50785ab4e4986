package bench

import (
	"context"
	"errors"
	"fmt"
)

const (
	// manyOnline is how many users are online in the list that begins with them, but no more than half of all.
	manyOnline = 50_000
	// wave is how many sockets there are at the same time: a process may have so many files.
	wave = 12_500
)

// measureOnline compares the list that begins with who is online with the one by name, with many users online. More of
// them than there can be sockets on one machine: those of earlier waves are within their grace.
func (r *run) measureOnline(ctx context.Context) (err error) {
	number := min(manyOnline, r.Users/2)
	if err := r.stop(ctx); err != nil {
		return err
	}
	if r.server, err = r.startServer(ctx, "sqlite", "--grace", "15m"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop(ctx)) }()
	r.say("logging %d users in", number)
	users, err := r.logIn(ctx, number)
	if err != nil {
		return err
	}
	r.say("bringing them online")
	for first := 0; first < number; first += wave {
		c := r.newCrowd(r.server.address, false)
		_, err = c.gather(ctx, r.server.cmd.Process.Pid, min(wave, number-first), func(n int) (*subscriber, error) {
			return c.login(ctx, users.auth(first+n, toNobody), ignore)
		})
		if err := errors.Join(err, c.close()); err != nil {
			return err
		}
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	online, err := c.Presence.OnlineCount(ctx)
	if err != nil {
		return err
	}
	if online != number {
		return fmt.Errorf("%d users are online, not %d", online, number)
	}
	online50000 := fmt.Sprintf(", %d online", number)
	for _, page := range []int{1, number / 200, number / 100} {
		query := fmt.Sprintf("perPage=100&sortBy=status&page=%d", page)
		l := load{concurrency: 16, request: r.list(query)}
		operation := fmt.Sprintf("list 100, online first, page %d", page)
		if _, _, _, err := r.againstEcho(ctx, operation+online50000, l, hardGoal[0]); err != nil {
			return err
		}
	}
	l := load{concurrency: 16, request: r.list("perPage=100&sortBy=status&tags=tenth")}
	_, _, _, err = r.againstEcho(ctx, "tag of 10 %, online first"+online50000, l, hardGoal[0])
	return err
}
