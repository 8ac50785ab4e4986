package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/secret"
	"github.com/rollcall/rollcall/internal/server"
)

// remote is how the commands that call a running server find it and authenticate.
type remote struct {
	// url is the address of the server. Unless it is given it is found by connect.
	url, data                       string
	appID, apiKey                   string
	managementKey, managementSecret string
	json                            bool
	// stored is what credentials.json of the data directory holds for the app; empty when there is none.
	stored server.Credentials
}

// credentialsFile is where the credentials are that are not given.
func (r *remote) credentialsFile() string { return filepath.Join(r.data, server.CredentialsFile) }

// storedKeys returns the API keys of the app that credentials.json holds.
func (r *remote) storedKeys() []string {
	return slices.DeleteFunc([]string{r.stored.RestAPIKey, r.stored.AuthKey}, func(key string) bool { return key == "" })
}

func (r *remote) register(flags *pflag.FlagSet) {
	flags.StringVar(
		&r.url, "url", os.Getenv("ROLLCALL_URL"), "address of the server, such as https://chat.example.com or unix:PATH; "+
			"empty means that of the server that uses the data directory, or "+usualURL+" (ROLLCALL_URL)",
	)
	flags.StringVar(
		&r.data, "data", envOr("ROLLCALL_DATA", "./data"),
		"data directory whose server and credentials.json are used for what is not given (ROLLCALL_DATA)",
	)
	flags.StringVar(&r.appID, "app", os.Getenv("ROLLCALL_APP_ID"), "app id (ROLLCALL_APP_ID)")
	flags.BoolVar(&r.json, "json", false, "print JSON")
	// Secrets come from the environment or the file: on a command line everybody on the machine can read them.
	r.apiKey = os.Getenv("ROLLCALL_API_KEY")
	r.managementKey, r.managementSecret = os.Getenv("ROLLCALL_MANAGEMENT_KEY"), os.Getenv("ROLLCALL_MANAGEMENT_SECRET")
}

// usualURL is where a server is looked for that is not told of otherwise.
const usualURL = "http://127.0.0.1:8080"

// find sets the address of the server, unless it is given.
func (r *remote) find() {
	if r.url != "" {
		return
	}
	r.url = usualURL
	if found := server.FindServer(r.data); len(found) > 0 {
		r.url = found[0]
	}
}

// options returns what a client of the server needs besides an API key: the certificate that a server made for itself
// in the data directory is trusted too.
func (r *remote) options() []client.Option {
	options := []client.Option{client.WithApp(r.appID), client.WithManagement(r.managementKey, r.managementSecret)}
	if certificate, err := os.ReadFile(server.SelfSignedCertificate(r.data)); err == nil {
		options = append(options, client.WithTrusted(certificate))
	}
	return options
}

func envOr(name, standby string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return standby
}

// connect returns a client with whatever credentials there are.
func (r *remote) connect() (*client.Client, error) {
	r.find()
	stored, err := server.ReadCredentials(r.credentialsFile())
	if err != nil {
		stored.ManagementKey, stored.ManagementSecret = r.derivedManagement()
	}
	complete := r.appID != "" && r.apiKey != "" || r.managementKey != "" || stored.ManagementKey != ""
	if err != nil && !complete {
		return nil, fmt.Errorf("no credentials: %w; give --data, or set ROLLCALL_APP_ID and ROLLCALL_API_KEY "+
			"(ROLLCALL_MANAGEMENT_KEY and ROLLCALL_MANAGEMENT_SECRET for apps)", err)
	}
	if r.appID != "" && r.appID != stored.AppID {
		stored.RestAPIKey, stored.AuthKey = "", "" // which are another app's
	}
	r.stored = stored
	for _, value := range []struct {
		field  *string
		stored string
	}{
		{&r.appID, stored.AppID},
		{&r.apiKey, stored.RestAPIKey},
		{&r.managementKey, stored.ManagementKey},
		{&r.managementSecret, stored.ManagementSecret},
	} {
		if *value.field == "" {
			*value.field = value.stored
		}
	}
	return client.New(r.url, append(r.options(), client.WithAPIKey(r.apiKey))...)
}

// manage returns a client with the management credentials alone, after connect.
func (r *remote) manage() (*client.Client, error) {
	return client.New(r.url, r.options()...)
}

// explain adds to what went wrong with a call which server it was about, and what the operator of this command can do
// about it.
func (r *remote) explain(err error) error {
	if _, wrong := errors.AsType[usageError](err); wrong {
		return err
	}
	if outcome, ok := errors.AsType[outcomeError](err); ok {
		return outcomeError{r.named(outcome.error), outcome.code}
	}
	var refused *client.Error
	if !errors.As(err, &refused) {
		return r.named(err)
	}
	switch about := refused.Details["uid"]; {
	case refused.Code == api.CodeEmptyAppID || refused.Code == api.CodeEmptyAPIKey:
		return fmt.Errorf(
			"%s has no API key for this: give --app (see `rollcall apps list`) and ROLLCALL_API_KEY.\n"+
				"Where the file is gone, `rollcall keys rotate --app APP` makes a key and the file again (%s)",
			r.credentialsFile(), refused.Code,
		)
	case refused.Code == api.CodeUIDNotFound && len(about) > 0:
		return r.named(fmt.Errorf("%s: %s `rollcall users reactivate UID` does", refused.Code, about[0]))
	case refused.Code == api.CodeAPIKeyUnknown && r.apiKey == r.stored.RestAPIKey && r.apiKey != "":
		return r.named(fmt.Errorf(
			"%w\nThe key is that of %s: `rollcall keys rotate` makes a new one and writes it there", err, r.credentialsFile(),
		))
	default:
		return r.named(err)
	}
}

// named says which server an error is about, unless it does.
func (r *remote) named(err error) error {
	if strings.Contains(err.Error(), r.url) {
		return err
	}
	return fmt.Errorf("%s: %w", r.url, err)
}

// derivedManagement returns the management credentials that come from the data directory's master key, empty when it
// cannot be read.
func (r *remote) derivedManagement() (key, managementSecret string) {
	masters, err := secret.ReadFile(filepath.Join(r.data, server.MasterKeyFile))
	if err != nil {
		return "", ""
	}
	keyring, err := secret.NewKeyring(masters...)
	if err != nil {
		return "", ""
	}
	return keyring.ManagementCredentials()
}

// print prints a value with --json, and its table without.
func (r *remote) print(cmd *cobra.Command, value any, rows [][]string) error {
	if r.json {
		return printJSON(cmd, value)
	}
	return printTable(cmd, rows)
}

// outcomeError is the error of a command that has something to print all the same, and how it ends.
type outcomeError struct {
	error
	code int
}

func (e outcomeError) Unwrap() error { return e.error }

// remoteCommand makes a command that calls the server: run returns what to print with --json, and its table. What comes
// with an outcomeError is printed too.
func remoteCommand(
	r *remote, cmd *cobra.Command,
	run func(cmd *cobra.Command, c *client.Client, args []string) (value any, rows [][]string, err error),
) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect()
		if err != nil {
			return err
		}
		value, rows, err := run(cmd, c, args)
		if err != nil {
			err = r.explain(err)
		}
		if _, printed := errors.AsType[outcomeError](err); err != nil && !printed {
			return err
		}
		return errors.Join(err, r.print(cmd, value, rows))
	}
	return cmd
}
