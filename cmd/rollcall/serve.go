package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/rollcall/rollcall/internal/directory"
	"github.com/rollcall/rollcall/internal/server"
)

func newServe() *cobra.Command {
	s := &settings{}
	var quiet bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Runs the server until it is interrupted. The first start makes an app with one fullAccess and one authOnly\n" +
			"key, a master key and a self-signed certificate, and writes the credentials to DATA/credentials.json; later\n" +
			"starts find all of it. Keys are shown once, by the first start, and on a terminal alone. /readyz answers 200\n" +
			"when the server is ready. Every option can also be set in the environment or in a file: see\n" +
			"`rollcall config`.",
		Example: "  rollcall serve\n" +
			"  rollcall serve --data /var/lib/rollcall --http 127.0.0.1:8080 --https ''\n" +
			"  rollcall serve --database postgres://rollcall@db.example.com/rollcall",
		Args:        noSettingsAsArguments,
		Annotations: map[string]string{reloadsOnHangup: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.withConfig(cmd, func(config server.Config) error {
				return serve(cmd, config, func(running *server.Server) {
					if !quiet {
						welcome(cmd, running, config)
					}
				})
			})
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing but the log")
	return cmd
}

// gcPercent spends a few megabytes on collecting garbage half as often.
const gcPercent = 200

// withConfig calls run with the configuration that the options make, and a logger to the standard error. Whatever
// becomes of the standard output and the standard error, it is not in the way.
func (s *settings) withConfig(cmd *cobra.Command, run func(server.Config) error) error {
	if err := s.load(os.LookupEnv); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // which a write would raise when the reader is gone
	words, log := newAsyncWriter(cmd.OutOrStdout()), newAsyncWriter(os.Stderr)
	defer log.Close()
	defer words.Close()
	words.eager = true
	cmd.SetOut(words)
	config, err := s.serverConfig(log)
	if err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return usageError{err}
	}
	for _, told := range s.unknown {
		about := []slog.Attr{slog.String("variable", told.name)}
		if told.nearest != "" {
			about = append(about, slog.String("nearest", told.nearest))
		}
		config.Logger.LogAttrs(cmd.Context(), slog.LevelWarn, "a variable looks like a setting and is none", about...)
	}
	config.LogLost = log.Lost
	return run(config)
}

// noSettingsAsArguments refuses arguments without repeating them: what stands there by mistake may be the URL of a
// database with its password.
func noSettingsAsArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errors.New("it takes options and no arguments")
	}
	return nil
}

// reloadsOnHangup marks a command that reads again what has changed when it gets SIGHUP, and goes on.
const reloadsOnHangup = "reloads on SIGHUP"

// serve runs a server until the command is interrupted.
func serve(cmd *cobra.Command, config server.Config, started func(*server.Server)) (err error) {
	hangups := make(chan os.Signal, 1)
	terminal := isatty.IsTerminal(os.Stdin.Fd()) && !signal.Ignored(syscall.SIGHUP)
	if _, reloads := cmd.Annotations[reloadsOnHangup]; reloads {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	systemd, err := newSupervisor(os.LookupEnv, config.Logger)
	if err != nil {
		return err
	}
	defer systemd.close()
	if config.Passed, err = passedSockets(os.LookupEnv); err != nil {
		return err
	}
	syscall.Umask(0o077) // whatever is written is for the user who runs the server
	tuneRuntime(config)
	running, err := server.Start(cmd.Context(), config)
	if err != nil {
		return err
	}
	started(running)
	systemd.tell(tellReady, "serving")
	for {
		select {
		case <-hangups:
			if terminal && !isatty.IsTerminal(os.Stdin.Fd()) {
				config.Logger.Info("told to stop", slog.String("by", "its terminal, which is closed"))
				systemd.tell(tellStopping, "stopping")
				return running.Close()
			}
			systemd.tell(tellReloading(), "reloading")
			running.Reload()
			systemd.tell(tellReady, "serving")
		case <-systemd.watchdog:
			systemd.tell(tellAlive, "")
		case <-cmd.Context().Done():
			config.Logger.Info("told to stop", slog.Any("by", context.Cause(cmd.Context())))
			systemd.tell(tellStopping, "stopping")
			return running.Close()
		case err := <-running.Failed():
			config.Logger.Error("a listener has ended", slog.Any("error", err))
			systemd.tell(tellStopping, "a listener has ended")
			return errors.Join(err, running.Close())
		}
	}
}

// tuneRuntime sets what the environment leaves to the program.
func tuneRuntime(config server.Config) {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	if _, set := os.LookupEnv("GOMAXPROCS"); !set && config.Database == "" {
		// Whoever writes to the embedded database waits for the disk in a system call. Coming back, it would queue for a
		// processor behind the requests, while everybody who writes waits for it.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

// welcome prints what a newcomer needs next. Keys are shown on a terminal alone, and only when they were made just now:
// what a program prints is kept by journald, by containers and by CI. Otherwise the lines read the keys from their
// file.
func welcome(cmd *cobra.Command, running *server.Server, config server.Config) {
	credentials := running.Credentials
	printf(cmd, "Rollcall is running.\n\n")
	base, flags := "", ""
	if running.HTTPSAddr != "" {
		var shown string
		shown, base, flags = reachedAt("https", running.HTTPSAddr)
		flags += "-k "
		printf(
			cmd, "  https      %s   (self-signed certificate unless you gave one: open it once in the browser and accept it)\n",
			shown,
		)
	}
	if running.HTTPAddr != "" {
		var shown string
		shown, base, flags = reachedAt("http", running.HTTPAddr)
		printf(cmd, "  http       %s\n", shown)
	}
	if flags == "" || flags == "-k " { // else no browser gets there
		printf(cmd, "  reference  %s/docs\n", base)
	}
	path := filepath.Join(config.DataDir, server.CredentialsFile)
	if credentials.AppID == "" {
		printf(
			cmd,
			"\n%s is gone: list the apps with `rollcall apps list`, and make it again with\n"+
				"`rollcall keys rotate --app APP`.\n",
			path,
		)
		return
	}
	printf(cmd, "\n  app id     %s\n", credentials.AppID)
	show := running.FirstStart && isatty.IsTerminal(os.Stdout.Fd())
	restKey := shownKey(show && config.FirstApp.FullAccessKey == "", credentials.RestAPIKey, path, "restApiKey")
	authKey := shownKey(show && config.FirstApp.AuthOnlyKey == "", credentials.AuthKey, path, "authKey")
	if restKey.shown {
		printf(cmd, "  REST key   %s   (fullAccess: for your backend only)\n", restKey.text)
	}
	if authKey.shown {
		printf(cmd, "  auth key   %s   (authOnly)\n", authKey.text)
	}
	printf(cmd, "  all in     %s\n", path)
	if running.LostKeys != "" {
		printf(cmd, "\n%s.\n", running.LostKeys)
	}
	printf(
		cmd, "\nCreate a user:\n\n  curl %s%s/v3/users -H 'appId: %s' -H \"apikey: %s\" "+
			"-H 'content-type: application/json' -d '{\"uid\":\"ada\",\"name\":\"Ada\"}'\n",
		flags, base, credentials.AppID, restKey.inShell,
	)
	if running.HTTPSAddr == "" || strings.HasPrefix(running.HTTPSAddr, "unix:") {
		return
	}
	printf(cmd, `
Log in with the JavaScript SDK (npm install @cometchat/chat-sdk-javascript@4.2.0):

  import { CometChat } from "@cometchat/chat-sdk-javascript";
  const settings = new CometChat.AppSettingsBuilder()
    .setRegion("us").overrideAdminHost("%s").overrideClientHost("%s").build();
  await CometChat.init("%s", settings);
  const user = await CometChat.login("ada", %s);

`, running.HTTPSAddr, running.HTTPSAddr, credentials.AppID, authKey.inScript)
}

// reachedAt returns how the address of a listener is shown, and the URL and the flags with which curl reaches it.
func reachedAt(scheme, address string) (shown, base, flags string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return address, scheme + "://localhost", "--unix-socket " + inQuotes(path) + " "
	}
	base = scheme + "://" + address
	return base, base, ""
}

// keyWords is how a key stands in what is printed.
type keyWords struct {
	text  string
	shown bool
	// inShell is for a command line, between double quotes, and inScript for JavaScript.
	inShell, inScript string
}

// shownKey returns how to write a key, or what reads it from a field of the credentials file.
func shownKey(show bool, key, path, field string) keyWords {
	if show {
		return keyWords{text: key, shown: true, inShell: key, inScript: strconv.Quote(key)}
	}
	return keyWords{
		inShell:  fmt.Sprintf(`$(sed -n 's/.*"%s": "\(.*\)".*/\1/p' %s)`, field, inQuotes(path)),
		inScript: fmt.Sprintf("AUTH_KEY /* %s of %s */", field, path),
	}
}

// inQuotes returns a text as one word of a shell's command line.
func inQuotes(text string) string {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func newDev() *cobra.Command {
	s := &settings{}
	var appID, restKey, authKey string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a throw-away server with sample users, for a laptop or CI",
		Long: "Runs a server on a temporary data directory that is removed at the end, with the sample users\n" +
			"cometchat-uid-1 to cometchat-uid-5, whose API shows keys and tokens in full. The app id and the keys can be\n" +
			"given, so that tests need not read them from anywhere; those that are made up are shown on a terminal, and\n" +
			"are in credentials.json, which is named. A key that was given is not shown.",
		Example: "  rollcall dev\n" +
			"  rollcall dev --http 127.0.0.1:0 --https '' --app-id testapp --rest-api-key $(openssl rand -hex 20)",
		Args: noSettingsAsArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.withConfig(cmd, func(config server.Config) error {
				config.FirstApp = directory.NewApp{
					ID: directory.AppID(appID), Name: "Development", FullAccessKey: restKey, AuthOnlyKey: authKey, SampleUsers: true,
					Settings: directory.AppSettings{RevealSecrets: true},
				}
				end := "Everything is forgotten when this stops."
				if cmd.Flags().Changed("data") {
					end = "All is kept in " + config.DataDir + "."
				} else {
					folder, err := os.MkdirTemp("", "rollcall-dev-")
					if err != nil {
						return fmt.Errorf("make data directory: %w", err)
					}
					defer os.RemoveAll(folder)
					config.DataDir = folder
				}
				return serve(cmd, config, func(running *server.Server) {
					welcome(cmd, running, config)
					printf(cmd, "\nSample users: cometchat-uid-1 to cometchat-uid-5. %s\n", end)
				})
			})
		},
	}
	s.registerShowing(cmd, "config", "data", "http", "https", "public-host", "log-level")
	data := cmd.Flags().Lookup("data")
	data.Usage, data.DefValue = "data directory to use and keep, in place of a temporary one", ""
	cmd.Flags().StringVar(&appID, "app-id", "", "id of the app; empty means a random one")
	cmd.Flags().StringVar(&restKey, "rest-api-key", "", "fullAccess key, 40 hex digits; empty means a random one")
	cmd.Flags().StringVar(&authKey, "auth-key", "", "authOnly key, 40 hex digits; empty means a random one")
	return cmd
}
