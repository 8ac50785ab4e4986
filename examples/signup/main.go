// Command signup is a small web app with user accounts of its own that gives its members a chat user in Rollcall.
// It shows what an app's backend has to do, and no more:
//
//   - registering stores the account in the app's own database, and then creates the user in Rollcall;
//   - logging in checks the app's own password, and then mints the auth token that the page hands to the SDK;
//   - Rollcall being down never loses or halves a registration: what is pending is made up for at the next log-in.
//
// Read chat.go first. README.md says how to run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], logger)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		logger.Error("stopped", slog.Any("error", err))
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	listen          string
	rollcall        string
	rollcallBrowser string
	credentials     string
	database        string
	sdk             string
	sdkFile         string
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("signup", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:3000", "address to serve the app on")
	flags.StringVar(&o.rollcall, "rollcall", "http://127.0.0.1:8080", "URL under which this backend calls Rollcall")
	flags.StringVar(
		&o.rollcallBrowser, "rollcall-browser", "",
		"where browsers call Rollcall; empty is the URL of --rollcall, and 127.0.0.1:8443, over https, with the official SDK",
	)
	flags.StringVar(
		&o.credentials, "credentials", "data/credentials.json", "credentials.json in Rollcall's data directory",
	)
	flags.StringVar(&o.database, "db", "data/signup.db", "the app's own database; made when missing")
	flags.StringVar(&o.sdk, "sdk", ourSDK, "the SDK that the page uses: "+ourSDK+" or "+officialSDK)
	flags.StringVar(
		&o.sdkFile, "sdk-file", "", "the file of the SDK; empty looks for it under web/ here and in the folders above",
	)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if _, known := sdkFiles[o.sdk]; !known {
		return o, fmt.Errorf("there is no SDK %q: use %s or %s", o.sdk, ourSDK, officialSDK)
	}
	if o.rollcallBrowser == "" {
		o.rollcallBrowser = o.rollcall
		if o.sdk == officialSDK { // which calls over https, and names hosts without a scheme
			o.rollcallBrowser = "127.0.0.1:8443"
		}
	}
	if _, host, isURL := strings.Cut(o.rollcallBrowser, "://"); isURL && o.sdk == officialSDK {
		o.rollcallBrowser = strings.TrimSuffix(host, "/")
	}
	return o, nil
}

// run serves the app until ctx ends.
func run(ctx context.Context, args []string, logger *slog.Logger) (err error) {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, o.database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	site, err := newSite(o, db, logger)
	if err != nil {
		return err
	}
	return serve(ctx, o.listen, site.handler(), logger)
}

// serve listens on address until ctx ends, and then finishes the requests in flight.
func serve(ctx context.Context, address string, handler http.Handler, logger *slog.Logger) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	logger.InfoContext(ctx, "serving", slog.String("url", "http://"+listener.Addr().String()+"/"))
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
