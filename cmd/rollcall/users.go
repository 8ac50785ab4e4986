package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// errNotSure keeps a slip of the finger from erasing somebody.
var errNotSure = errors.New("erasing cannot be taken back: add --permanently, or use `rollcall users deactivate`")

func newUsers() *cobra.Command {
	r := &remote{}
	cmd := &cobra.Command{
		Use: "users", Args: cobra.NoArgs, RunE: showHelp, Short: "Manage the users of an app",
		Example: "  rollcall users list --search ad\n  rollcall users create ada --name Ada\n  rollcall users token ada",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(
		usersList(r), usersGet(r), usersCreate(r), usersUpdate(r), usersToken(r), usersDeactivate(r), usersReactivate(r),
		usersErase(r), usersRevokeTokens(r), usersExport(r),
	)
	return cmd
}

func userRows(users ...api.User) [][]string {
	rows := [][]string{{"UID", "NAME", "ROLE", "STATE", "CREATED"}}
	for _, user := range users {
		rows = append(rows, []string{user.UID, user.Name, user.Role, stateOf(user), timeOf(user.CreatedAt, "")})
	}
	return rows
}

// The states of a user, for people. One who is online is active too.
const (
	stateActive      = "active"
	stateOnline      = "online"
	stateDeactivated = "deactivated"
)

func stateOf(user api.User) string {
	switch {
	case user.DeactivatedAt != 0:
		return stateDeactivated
	case user.Status == "available": // the contract's word for online
		return stateOnline
	default:
		return stateActive
	}
}

func usersList(r *remote) *cobra.Command {
	var options client.UserListOptions
	cmd := remoteCommand(r, &cobra.Command{
		Use: "list", Short: "List one page of users, newest first",
		Long:    "Lists one page of users, newest first. STATE is active, online, which is active too, or deactivated.",
		Example: "  rollcall users list --search ad --per-page 20", Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, c *client.Client, _ []string) (any, [][]string, error) {
		page, err := c.Users.List(cmd.Context(), options)
		if at := page.Pagination; err == nil && at.CurrentPage < at.TotalPages {
			fmt.Fprintf(
				cmd.ErrOrStderr(), "page %d of %d, of %d users; --page %d has the next\n", at.CurrentPage, at.TotalPages, at.Total,
				at.CurrentPage+1,
			)
		}
		return page.Items, userRows(page.Items...), err
	})
	flags := cmd.Flags()
	flags.StringVar(&options.SearchKey, "search", "", "prefix of the uid or the name")
	flags.StringSliceVar(&options.Roles, "role", nil, "only users with any of these roles")
	flags.StringSliceVar(&options.Tags, "tag", nil, "only users with any of these tags")
	flags.BoolVar(&options.WithDeactivated, "deactivated", false, "deactivated users too")
	flags.IntVar(&options.Page, "page", 1, "which page")
	flags.IntVar(&options.PerPage, "per-page", 100, "users on a page, up to 1000")
	return cmd
}

func usersGet(r *remote) *cobra.Command {
	return remoteCommand(r, &cobra.Command{
		Use: "get UID", Short: "Show a user, also a deactivated one", Example: "  rollcall users get ada --json",
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		user, err := c.Users.GetWithDeactivated(cmd.Context(), args[0])
		if err == nil && user.DeactivatedAt != 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), deactivation(user))
		}
		return user, userRows(user), err
	})
}

// deactivation says that a user is deactivated, and how to take it back.
func deactivation(user api.User) string {
	return fmt.Sprintf(
		"%s is deactivated since %s UTC; `rollcall users reactivate %s` takes it back", user.UID,
		timeOf(user.DeactivatedAt, ""), user.UID,
	)
}

func usersCreate(r *remote) *cobra.Command {
	var request api.CreateUserRequest
	cmd := remoteCommand(r, &cobra.Command{
		Use: "create UID", Short: "Create a user", Example: "  rollcall users create ada --name 'Ada Lovelace' --tag founder",
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		if request.Name == "" {
			return nil, nil, usageError{errors.New("a user needs a name: give --name")}
		}
		request.UID = args[0]
		user, err := c.Users.Create(cmd.Context(), request)
		return user, userRows(user), err
	})
	flags := cmd.Flags()
	flags.StringVar(&request.Name, "name", "", "name (required)")
	flags.StringVar(&request.Role, "role", "", "role; empty means default")
	flags.StringVar(&request.Avatar, "avatar", "", "URL of a picture")
	flags.StringVar(&request.Link, "link", "", "URL of a profile page")
	flags.StringSliceVar(&request.Tags, "tag", nil, "tags")
	return cmd
}

func usersUpdate(r *remote) *cobra.Command {
	var name, role, avatar, link, status string
	var tags []string
	cmd := remoteCommand(r, &cobra.Command{
		Use: "update UID", Short: "Change a user; what is not given stays",
		Example: "  rollcall users update ada --name 'Countess Lovelace'", Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		var request api.UpdateUserRequest
		for flag, field := range map[string]struct {
			value *string
			into  **string
		}{
			"name": {&name, &request.Name}, "role": {&role, &request.Role}, "avatar": {&avatar, &request.Avatar},
			"link": {&link, &request.Link}, "status-message": {&status, &request.StatusMessage},
		} {
			if cmd.Flags().Changed(flag) {
				*field.into = field.value
			}
		}
		if cmd.Flags().Changed("tag") {
			request.Tags = &tags
		}
		user, err := c.Users.Update(cmd.Context(), args[0], request)
		return user, userRows(user), err
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "name")
	flags.StringVar(&role, "role", "", "role")
	flags.StringVar(&avatar, "avatar", "", "URL of a picture; empty clears it")
	flags.StringVar(&link, "link", "", "URL of a profile page; empty clears it")
	flags.StringVar(&status, "status-message", "", "status message; empty clears it")
	flags.StringSliceVar(&tags, "tag", nil, "all tags; empty clears them")
	return cmd
}

func usersToken(r *remote) *cobra.Command {
	return remoteCommand(r, &cobra.Command{
		Use: "token UID", Short: "Mint an auth token for a user", Example: "  rollcall users token ada",
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		token, err := c.AuthTokens.Create(cmd.Context(), args[0], api.CreateAuthTokenRequest{Force: true})
		return token, [][]string{{token.Token}}, err
	})
}

func usersExport(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "export UID", Short: "Print everything that is stored about a user, as JSON",
		Example: "  rollcall users export ada > ada.json", Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect()
		if err != nil {
			return err
		}
		dossier, err := c.Users.Export(cmd.Context(), args[0])
		if err != nil {
			return r.explain(err)
		}
		return printJSON(cmd, dossier)
	}
	return cmd
}
