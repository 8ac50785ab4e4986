package main

import (
	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

func newApps() *cobra.Command {
	r := &remote{}
	cmd := &cobra.Command{
		Use: "apps", Args: cobra.NoArgs, RunE: showHelp, Short: "Manage the apps of a running server",
		Long:    "Apps are separate worlds on one server, each with users, roles and keys of its own.",
		Example: "  rollcall apps list\n  rollcall apps create 'Second app'\n  rollcall apps delete 5f3c2b1a09e8d7c6",
	}
	r.register(cmd.PersistentFlags())

	list := remoteCommand(r, &cobra.Command{
		Use: "list", Short: "List the apps, newest first", Example: "  rollcall apps list --json", Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, c *client.Client, _ []string) (any, [][]string, error) {
		page, err := c.Apps.List(cmd.Context(), "", client.PageOptions{PerPage: 1000})
		rows := [][]string{{"ID", "NAME", "REGION", "STATE"}}
		for _, app := range page.Items {
			rows = append(rows, []string{app.ID, app.Name, app.Region, app.State})
		}
		return page.Items, rows, err
	})

	var id, region string
	var sample bool
	create := remoteCommand(r, &cobra.Command{
		Use: "create NAME", Short: "Make an app and show its keys",
		Example: "  rollcall apps create Chat --region eu --id chat-production",
		Args:    cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		app, err := c.Apps.Create(
			cmd.Context(), api.CreateAppRequest{ID: id, Name: args[0], Region: region, SkipSampleData: !sample},
		)
		rows := [][]string{{"ID", "NAME", "SCOPE", "KEY"}}
		for _, key := range app.APIKeys {
			rows = append(rows, []string{app.ID, app.Name, key.Scope, key.Key})
		}
		return app, rows, err
	})
	create.Flags().StringVar(&id, "id", "", "id of the app: letters, digits, - and _; empty means a random one")
	create.Flags().StringVar(&region, "region", "us", "us, eu or in")
	create.Flags().BoolVar(&sample, "sample", false, "add the sample users cometchat-uid-1 to 5")

	remove := remoteCommand(r, &cobra.Command{
		Use: "delete ID", Short: "Archive an app; it is purged after 30 days",
		Example: "  rollcall apps delete 5f3c2b1a09e8d7c6", Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		done, err := c.Apps.Delete(cmd.Context(), args[0])
		return done, [][]string{{args[0] + " is archived; take it back with `rollcall apps restore " + args[0] + "`"}}, err
	})

	restore := remoteCommand(r, &cobra.Command{
		Use: "restore ID", Short: "Take back the deletion of an app", Example: "  rollcall apps restore 5f3c2b1a09e8d7c6",
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		app, err := c.Apps.Restore(cmd.Context(), args[0])
		return app, [][]string{{args[0] + " is active again"}}, err
	})

	cmd.AddCommand(list, create, remove, restore)
	return cmd
}
