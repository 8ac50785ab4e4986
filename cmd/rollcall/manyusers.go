package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// uidsPerCall is how many users a call of the API takes at once.
const uidsPerCall = 25

// aboutLists is part of the help of commands that take many users.
const aboutLists = "\n\n" +
	"Takes any number of uids; - reads them from standard input, one a line. What became of each is told.\n" +
	"The exit code is 0 when all were found, 3 when some were not, 1 when none was or the server could not be asked\n" +
	"any further."

// named returns the uids that arguments name, where - is the lines of standard input, each once and in their order.
func named(cmd *cobra.Command, args []string) (uids []string, err error) {
	seen := map[string]bool{}
	add := func(uid string) {
		if folded := strings.ToLower(uid); uid != "" && !seen[folded] {
			seen[folded] = true
			uids = append(uids, uid)
		}
	}
	for _, arg := range args {
		if arg != "-" {
			add(arg)
			continue
		}
		lines := bufio.NewScanner(cmd.InOrStdin())
		for lines.Scan() {
			add(strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff")))
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read uids: %w", err)
		}
	}
	if len(uids) == 0 {
		return nil, usageError{errors.New("no uid is given")}
	}
	return uids, nil
}

const notThere = "does not exist"

// outcomes is what became of users, in the order in which they were named.
type outcomes struct {
	rows    [][]string
	found   int
	missing int
}

func newOutcomes(heading ...string) *outcomes { return &outcomes{rows: [][]string{heading}} }

func (o *outcomes) add(uid string, what ...string) {
	o.found++
	o.rows = append(o.rows, append([]string{uid}, what...))
}

func (o *outcomes) notFound(uid string) {
	o.missing++
	o.rows = append(o.rows, []string{uid, notThere})
}

// err is how a command ends that has come so far; failed says why not to the end.
func (o *outcomes) err(failed error) error {
	switch {
	case failed != nil:
		return outcomeError{failed, exitFailed}
	case o.missing == 0:
		return nil
	case o.found == 0:
		return outcomeError{errors.New("nobody of them exists"), exitFailed}
	default:
		return outcomeError{fmt.Errorf("%d of %d do not exist", o.missing, o.missing+o.found), exitPartly}
	}
}

// activation changes who is active, some at a time.
type activation struct {
	// did and was are what is said of who was changed, and of who was so already.
	did, was string
	// change changes some, and returns who was changed, who was so already, and who does not exist.
	change func(ctx context.Context, uids ...string) (changed, already, notFound []string, err error)
}

// apply changes users, each told of in the order in which it was named.
func (a activation) apply(ctx context.Context, uids []string) (*outcomes, error) {
	done := newOutcomes("UID", "OUTCOME")
	for len(uids) > 0 {
		part := uids[:min(uidsPerCall, len(uids))]
		uids = uids[len(part):]
		changed, already, notFound, err := a.change(ctx, part...)
		if err != nil {
			return done, err
		}
		became := map[string]string{}
		for what, those := range map[string][]string{a.did: changed, a.was: already, notThere: notFound} {
			for _, uid := range those {
				became[strings.ToLower(uid)] = what
			}
		}
		for _, uid := range part {
			if what := became[strings.ToLower(uid)]; what == notThere {
				done.notFound(uid)
			} else {
				done.add(strings.ToLower(uid), what)
			}
		}
	}
	return done, nil
}

func usersDeactivate(r *remote) *cobra.Command {
	return remoteCommand(r, &cobra.Command{
		Use: "deactivate UID…", Short: "Hide users and suspend their tokens",
		Long: "Hides users everywhere and suspends their auth tokens. `rollcall users reactivate` takes it back." +
			aboutLists,
		Example: "  rollcall users deactivate ada bob\n  rollcall users deactivate - < gone.txt",
		Args:    cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		uids, err := named(cmd, args)
		if err != nil {
			return nil, nil, err
		}
		var all api.DeactivateUsersResponse
		done, err := activation{
			did: "deactivated", was: "was deactivated already",
			change: func(ctx context.Context, uids ...string) (changed, already, notFound []string, err error) {
				part, err := c.Users.Deactivate(ctx, uids...)
				all.Deactivated = append(all.Deactivated, part.Deactivated...)
				all.AlreadyDeactivated = append(all.AlreadyDeactivated, part.AlreadyDeactivated...)
				all.NotFound = append(all.NotFound, part.NotFound...)
				all.ClosedSockets += part.ClosedSockets
				return part.Deactivated, part.AlreadyDeactivated, part.NotFound, err
			},
		}.apply(cmd.Context(), uids)
		return all, done.rows, done.err(err)
	})
}

func usersReactivate(r *remote) *cobra.Command {
	return remoteCommand(r, &cobra.Command{
		Use: "reactivate UID…", Short: "Take back a deactivation",
		Long:    "Makes deactivated users and their auth tokens work again." + aboutLists,
		Example: "  rollcall users reactivate ada\n  rollcall users reactivate - < back.txt",
		Args:    cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		uids, err := named(cmd, args)
		if err != nil {
			return nil, nil, err
		}
		var all api.ReactivateUsersResponse
		done, err := activation{
			did: "reactivated", was: "was not deactivated",
			change: func(ctx context.Context, uids ...string) (changed, already, notFound []string, err error) {
				part, err := c.Users.Reactivate(ctx, uids...)
				all.Reactivated = append(all.Reactivated, part.Reactivated...)
				all.NonDeactivated = append(all.NonDeactivated, part.NonDeactivated...)
				all.NotFound = append(all.NotFound, part.NotFound...)
				return part.Reactivated, part.NonDeactivated, part.NotFound, err
			},
		}.apply(cmd.Context(), uids)
		return all, done.rows, done.err(err)
	})
}

// erasure is what `rollcall users erase --json` prints.
type erasure struct {
	Erased   []string `json:"erasedUids,omitempty"`
	NotFound []string `json:"notFound,omitempty"`
}

func usersErase(r *remote) *cobra.Command {
	var sure bool
	cmd := remoteCommand(r, &cobra.Command{
		Use: "erase UID…", Aliases: []string{"delete"}, Short: "Erase users for good",
		Long: "Erases users with their auth tokens and all that is known of them, active or deactivated. It cannot be\n" +
			"taken back. `delete` is another word for it." + aboutLists,
		Example: "  rollcall users erase ada --permanently\n  rollcall users erase --permanently - < gone.txt",
		Args:    cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		uids, err := named(cmd, args)
		if err != nil {
			return nil, nil, err
		}
		var all erasure
		done := newOutcomes("UID", "OUTCOME")
		for _, uid := range uids {
			switch err := c.Users.Erase(cmd.Context(), uid); {
			case err == nil:
				all.Erased = append(all.Erased, strings.ToLower(uid))
				done.add(strings.ToLower(uid), "erased")
			case client.IsCode(err, api.CodeUIDNotFound):
				all.NotFound = append(all.NotFound, uid)
				done.notFound(uid)
			default:
				return all, done.rows, done.err(err)
			}
		}
		return all, done.rows, done.err(nil)
	})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !sure {
			return usageError{errNotSure}
		}
		return nil
	}
	cmd.Flags().BoolVar(&sure, "permanently", false, "say that you mean it")
	return cmd
}

// revocation is what `rollcall users revoke-tokens --json` prints.
type revocation struct {
	RevokedTokens int      `json:"revokedTokens"`
	ClosedSockets int      `json:"closedSockets"`
	NotFound      []string `json:"notFound,omitempty"`
}

func usersRevokeTokens(r *remote) *cobra.Command {
	return remoteCommand(r, &cobra.Command{
		Use: "revoke-tokens UID…", Short: "Log users out everywhere",
		Long: "Revokes all auth tokens of users and closes the sockets that were opened with them. Your backend can mint\n" +
			"new ones at any time." + aboutLists,
		Example: "  rollcall users revoke-tokens ada", Args: cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		uids, err := named(cmd, args)
		if err != nil {
			return nil, nil, err
		}
		var all revocation
		done := newOutcomes("UID", "TOKENS REVOKED", "SOCKETS CLOSED")
		for _, uid := range uids {
			revoked, err := c.AuthTokens.RevokeOfUser(cmd.Context(), uid, 0)
			switch {
			case err == nil:
				all.RevokedTokens += revoked.RevokedTokens
				all.ClosedSockets += revoked.ClosedSockets
				done.add(strings.ToLower(uid), fmt.Sprint(revoked.RevokedTokens), fmt.Sprint(revoked.ClosedSockets))
			case isDeactivated(err):
				done.add(strings.ToLower(uid), "is deactivated, which suspends them")
			case client.IsCode(err, api.CodeUIDNotFound):
				all.NotFound = append(all.NotFound, uid)
				done.notFound(uid)
			default:
				return all, done.rows, done.err(err)
			}
		}
		return all, done.rows, done.err(nil)
	})
}

// isDeactivated reports whether the server says of a user that is not there that it is deactivated.
func isDeactivated(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Code == api.CodeUIDNotFound && len(refused.Details["deactivatedAt"]) > 0
}
