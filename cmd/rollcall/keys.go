package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/server"
)

func newKeys() *cobra.Command {
	r := &remote{}
	cmd := &cobra.Command{
		Use: "keys", Args: cobra.NoArgs, RunE: showHelp, Short: "Manage the API keys of an app",
		Long: "Keys are shown in full only when they are made; later they go by their id. When the key is not accepted\n" +
			"any more, the management credentials of the data directory are used.",
		Example: "  rollcall keys list\n" +
			"  rollcall keys create 'CI' --scope fullAccess\n" +
			"  rollcall keys rotate\n" +
			"  rollcall keys delete key_1b2c3d4e5f60",
	}
	r.register(cmd.PersistentFlags())
	cmd.AddCommand(keysList(r), keysCreate(r), keysRotate(r), keysDelete(r))
	return cmd
}

// keyCommand is remoteCommand for calls that can be made with the management credentials too, which it does when the
// API key is not accepted.
func keyCommand(
	r *remote, cmd *cobra.Command,
	run func(cmd *cobra.Command, c *client.Client, args []string) (value any, rows [][]string, err error),
) *cobra.Command {
	return remoteCommand(r, cmd, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		value, rows, err := run(cmd, c, args)
		if r.managementKey == "" || !client.IsCode(err, api.CodeAPIKeyUnknown) {
			return value, rows, err
		}
		manager, err := r.manage()
		if err != nil {
			return nil, nil, err
		}
		return run(cmd, manager, args)
	})
}

func keyRows(keys ...api.APIKey) [][]string {
	rows := [][]string{{"ID", "NAME", "SCOPE", "KEY", "CREATED", "LAST USED", "EXPIRES"}}
	for _, key := range keys {
		rows = append(rows, []string{
			key.ID, key.Name, key.Scope, key.Key, timeOf(key.CreatedAt, ""), timeOf(key.LastUsedAt, "not yet"),
			timeOf(key.ExpiresAt, "never"),
		})
	}
	return rows
}

func keysList(r *remote) *cobra.Command {
	return keyCommand(r, &cobra.Command{
		Use: "list", Short: "List the keys, newest first",
		Long: "Lists the keys that are accepted, newest first. When a key was last used is exact while the server runs\n" +
			"and after it was stopped; after a crash it may be up to ten minutes too early. Times are in UTC.",
		Example: "  rollcall keys list", Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, c *client.Client, _ []string) (any, [][]string, error) {
		page, err := c.APIKeys.List(cmd.Context(), client.APIKeyListOptions{PageOptions: client.PageOptions{PerPage: 1000}})
		return page.Items, keyRows(page.Items...), err
	})
}

func keysCreate(r *remote) *cobra.Command {
	var scope string
	cmd := keyCommand(r, &cobra.Command{
		Use: "create NAME", Short: "Make a key and show it", Example: "  rollcall keys create Backend --scope fullAccess",
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		key, err := c.APIKeys.Create(cmd.Context(), api.CreateAPIKeyRequest{Name: args[0], Scope: scope})
		return key, keyRows(key), err
	})
	cmd.Flags().StringVar(&scope, "scope", "authOnly", "authOnly or fullAccess")
	return cmd
}

func keysRotate(r *remote) *cobra.Command {
	var scope string
	var grace time.Duration
	var show bool
	cmd := keyCommand(r, &cobra.Command{
		Use: "rotate [ID]", Short: "Replace a key by a new one of the same name and scope",
		Long: "Makes a new key in the place of one, which is still accepted for the time that --grace says, and then is\n" +
			"gone. Without an ID it is the key in credentials.json of --scope; when that one is not accepted any more, a new\n" +
			"key takes its place all the same. Where credentials.json has the key that is replaced, it gets the new one;\n" +
			"where that file is gone and DATA/master.key is there, it is made again for the app of --app.\n" +
			"Auth tokens stay good. `rollcall keys list` shows whether the old key is still used. Keys that were replaced\n" +
			"before are accepted until their own time is over: those are told too. A key that credentials.json has is shown\n" +
			"on a terminal, with --show, and with --json.",
		Example: "  rollcall keys rotate\n" +
			"  rollcall keys rotate --scope authOnly --grace 720h\n" +
			"  rollcall keys rotate key_1b2c3d4e5f60 --grace 0s",
		Args: cobra.MaximumNArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		rotation := keyRotation{r: r, c: c, scope: scope, grace: grace}
		key, err := rotation.run(cmd, args)
		if key.Key == "" {
			return nil, nil, err
		}
		shown := key
		if rotation.written && !show && !isatty.IsTerminal(os.Stdout.Fd()) {
			shown.Key = "in " + r.credentialsFile()
		}
		rows := keyRows(shown)
		if err != nil { // the key is there, and nobody else will ever show it
			err = outcomeError{err, exitFailed}
		}
		return key, rows, err
	})
	flags := cmd.Flags()
	flags.StringVar(&scope, "scope", "fullAccess", "without an ID, which key of credentials.json: fullAccess or authOnly")
	flags.DurationVar(
		&grace, "grace", directory.DefaultKeyGrace, "how long the replaced key is still accepted; 0s ends it at once",
	)
	flags.BoolVar(&show, "show", false, "show the new key also when this is no terminal and credentials.json has it")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if scope != string(directory.FullAccess) && scope != string(directory.AuthOnly) {
			return usageError{fmt.Errorf("the --scope %s is neither fullAccess nor authOnly", scope)}
		}
		if grace < 0 || grace > directory.MaxKeyGrace || grace%time.Second != 0 {
			return usageError{fmt.Errorf("a --grace of %v is not whole seconds up to 2160h", grace)}
		}
		return nil
	}
	return cmd
}

// keyRotation replaces one key.
type keyRotation struct {
	r     *remote
	c     *client.Client
	scope string
	grace time.Duration
	// written says that the credentials file has the new key.
	written bool
}

// run returns the new key, also when it could not be written to the credentials file.
func (k *keyRotation) run(cmd *cobra.Command, args []string) (api.APIKey, error) {
	ctx := client.WithIdempotencyKey(cmd.Context(), rand.Text())
	inFile := k.r.stored.RestAPIKey
	if k.scope == string(directory.AuthOnly) {
		inFile = k.r.stored.AuthKey
	}
	replaced := inFile
	if len(args) > 0 {
		replaced = args[0]
		inFile = k.inFile(cmd, replaced)
	}
	if replaced == "" && k.scope == string(directory.FullAccess) {
		replaced = k.r.apiKey
	}
	if replaced == "" && k.mayAdd() {
		return k.add(cmd)
	}
	if replaced == "" {
		return api.APIKey{}, usageError{
			fmt.Errorf("there is no %s key in %s; name one by its id", k.scope, k.r.credentialsFile()),
		}
	}
	all := client.APIKeyListOptions{PageOptions: client.PageOptions{PerPage: 1000}}
	before, err := k.c.APIKeys.List(cmd.Context(), all)
	if err != nil {
		return api.APIKey{}, err
	}
	key, err := k.c.APIKeys.Rotate(ctx, replaced, k.grace)
	if client.IsCode(err, api.CodeAPIKeyNotFound) && len(args) == 0 {
		key, err = k.create(cmd)
		fmt.Fprintln(cmd.ErrOrStderr(), "the key was not accepted any more; this one takes its place")
	}
	if err != nil {
		return api.APIKey{}, err
	}
	if key.Replaces != nil {
		k.tellExpiry(cmd, *key.Replaces)
	}
	k.tellOthers(cmd, key, before.Items)
	if inFile == "" {
		return key, nil
	}
	k.written, err = server.ReplaceKey(k.r.credentialsFile(), inFile, key.Key)
	switch {
	case err != nil:
		return key, fmt.Errorf(
			"the new key is not in %s: %w; put it there in place of the old one", k.r.credentialsFile(), err,
		)
	case k.written:
		fmt.Fprintf(cmd.ErrOrStderr(), "%s has the new key\n", k.r.credentialsFile())
	}
	return key, nil
}

func (k *keyRotation) create(cmd *cobra.Command) (api.APIKey, error) {
	name := map[string]string{"fullAccess": "REST API Key", "authOnly": "Auth Key"}[k.scope]
	return k.c.APIKeys.Create(cmd.Context(), api.CreateAPIKeyRequest{Name: name, Scope: k.scope})
}

// mayAdd reports whether the credentials file is the app's and has no key of the scope, or is gone.
func (k *keyRotation) mayAdd() bool {
	known, err := server.ReadCredentials(k.r.credentialsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return k.r.appID != "" && k.r.stored.ManagementKey != "" // which the master key of the data directory gives
	}
	return err == nil && known.AppID == k.r.appID
}

// add makes a key and puts it into the credentials file, which is made when it is gone.
func (k *keyRotation) add(cmd *cobra.Command) (api.APIKey, error) {
	key, err := k.create(cmd)
	if err != nil {
		return api.APIKey{}, err
	}
	known := k.r.stored
	known.AppID = k.r.appID
	if err := server.AddKey(k.r.credentialsFile(), known, directory.Scope(k.scope), key.Key); err != nil {
		return key, fmt.Errorf("the new key is not in %s: %w", k.r.credentialsFile(), err)
	}
	k.written = true
	fmt.Fprintf(cmd.ErrOrStderr(), "%s has the new key\n", k.r.credentialsFile())
	return key, nil
}

// tellOthers names the keys of the same name and scope that the rotation did not end: they may be what is meant to be
// gone.
func (k *keyRotation) tellOthers(cmd *cobra.Command, made api.APIKey, before []api.APIKey) {
	for _, key := range before {
		isReplaced := made.Replaces != nil && key.ID == made.Replaces.ID
		if key.Name != made.Name || key.Scope != made.Scope || isReplaced {
			continue
		}
		until := "without an end"
		if key.ExpiresAt != 0 {
			until = "until " + timeOf(key.ExpiresAt, "") + " UTC"
		}
		fmt.Fprintf(
			cmd.ErrOrStderr(),
			"%s, an older key of the same name, is still accepted %s; `rollcall keys delete %s` ends it\n",
			key.ID, until, key.ID,
		)
	}
}

func (k *keyRotation) tellExpiry(cmd *cobra.Command, replaced api.ReplacedKey) {
	until := fmt.Sprintf(
		"is accepted until %s UTC; `rollcall keys list` shows whether it is still used, and "+
			"`rollcall keys delete %s` ends it",
		timeOf(replaced.ExpiresAt, ""), replaced.ID,
	)
	if replaced.ExpiresAt <= time.Now().Unix() {
		until = "is not accepted any more"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %s\n", replaced.ID, until)
}

// inFile returns the text of the key that an id or a text names, if the credentials file has it.
func (k *keyRotation) inFile(cmd *cobra.Command, named string) string {
	for _, text := range k.r.storedKeys() {
		if text == named {
			return text
		}
		if key, err := k.c.APIKeys.Get(cmd.Context(), text); err == nil && key.ID == named {
			return text
		}
	}
	return ""
}

func keysDelete(r *remote) *cobra.Command {
	var tokensToo bool
	cmd := keyCommand(r, &cobra.Command{
		Use: "delete ID", Short: "Revoke a key", Example: "  rollcall keys delete key_1b2c3d4e5f60 --revoke-tokens",
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, [][]string, error) {
		inFile := (&keyRotation{r: r, c: c}).inFile(cmd, args[0])
		done, err := c.APIKeys.Delete(cmd.Context(), args[0], api.DeleteAPIKeyRequest{RevokeTokens: tokensToo})
		if client.IsCode(err, api.CodeAPIKeyNoSelfAction) {
			return nil, nil, fmt.Errorf("%w\n%s", err, strings.Join([]string{
				"The command itself uses this key. To have a new one in its place: `rollcall keys rotate`, or when it has leaked,",
				"`rollcall keys rotate --grace 0s`. To be without it, call with another fullAccess key in ROLLCALL_API_KEY.",
			}, "\n"))
		}
		if err == nil && inFile != "" {
			scope := directory.FullAccess
			if inFile == r.stored.AuthKey {
				scope = directory.AuthOnly
			}
			fmt.Fprintf(
				cmd.ErrOrStderr(), "%s still has this key; `rollcall keys rotate --scope %s` puts a new one there\n",
				r.credentialsFile(), scope,
			)
		}
		return done, [][]string{{args[0] + " is revoked"}}, err
	})
	cmd.Flags().BoolVar(&tokensToo, "revoke-tokens", false, "also revoke the auth tokens that the key minted")
	return cmd
}
