// Command people serves the example's page and its backend: it makes some people in Rollcall, and mints the auth token
// with which the page logs in. README.md says how to run it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
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

func run(ctx context.Context, args []string, logger *slog.Logger) error {
	flags := flag.NewFlagSet("people", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:3001", "address to serve the app on")
	rollcall := flags.String(
		"rollcall", "http://127.0.0.1:8080", "where Rollcall listens, for this backend and for browsers",
	)
	credentials := flags.String("credentials", "data/credentials.json", "credentials.json in Rollcall's data directory")
	page := flags.String("page", "examples/people/dist", "the built page")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(*page, "index.html")); err != nil {
		return fmt.Errorf("the page is not built, use make people: %w", err)
	}
	b, err := newBackend(*rollcall, *credentials, logger)
	if err != nil {
		return err
	}
	if err := b.makePeople(ctx); err != nil {
		return err
	}
	return serve(ctx, *listen, b.handler(*page), logger)
}

func serve(ctx context.Context, address string, handler http.Handler, logger *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	logger.InfoContext(ctx, "serving", slog.String("url", "http://"+listener.Addr().String()+"/"))
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(stopping)
}

// backend is what an app has on its own server. It holds the key that opens everything; pages get auth tokens.
type backend struct {
	rollcall *client.Client
	address  string
	appID    string
	logger   *slog.Logger
}

func newBackend(address, credentialsFile string, logger *slog.Logger) (*backend, error) {
	var credentials struct {
		AppID      string `json:"appId"`
		RestAPIKey string `json:"restApiKey"`
	}
	text, err := os.ReadFile(credentialsFile)
	if err == nil {
		err = json.Unmarshal(text, &credentials)
	}
	if err != nil {
		return nil, fmt.Errorf("read Rollcall's credentials (has it been started once?): %w", err)
	}
	rollcall, err := client.New(address, client.WithApp(credentials.AppID), client.WithAPIKey(credentials.RestAPIKey))
	return &backend{rollcall: rollcall, address: address, appID: credentials.AppID, logger: logger}, err
}

// visitors are those whom the page offers to log in as.
var visitors = []string{
	"Ada Lovelace", "Grace Hopper", "Alan Turing", "Katherine Johnson", "Edsger Dijkstra", "Barbara Liskov",
}

// others are more people, so that the list is long.
const others = 240

func visitorUID(n int) string { return fmt.Sprintf("visitor-%d", n+1) }

// makePeople creates everybody who is not there yet.
func (b *backend) makePeople(ctx context.Context) error {
	_, err := b.rollcall.Roles.Create(ctx, api.CreateRoleRequest{Role: "team", Name: "Team"})
	if err != nil && !client.IsCode(err, api.CodeRoleAlreadyExists) {
		return fmt.Errorf("create role: %w", err)
	}
	uids := make([]string, 0, len(visitors)+others)
	rows := make([]api.UserRow, 0, cap(uids))
	add := func(uid, name, role string) {
		row := api.UserRow{UID: uid}
		row.Name, row.Role = &name, &role
		uids, rows = append(uids, uid), append(rows, row)
	}
	for n, name := range visitors {
		add(visitorUID(n), name, "team")
	}
	for n := range others {
		add(
			fmt.Sprintf("person-%d", n+1),
			fmt.Sprintf("%s %s", firstNames[n%len(firstNames)], lastNames[n/len(firstNames)%len(lastNames)]), "default",
		)
	}
	found, err := b.rollcall.Users.Lookup(ctx, uids...)
	if err != nil {
		return fmt.Errorf("look up people: %w", err)
	}
	if len(found.NotFound) < len(uids) {
		return nil // they were made before, and may have changed their names
	}
	if _, err := b.rollcall.Users.Batch(ctx, rows); err != nil {
		return fmt.Errorf("create people: %w", err)
	}
	_, err = b.rollcall.Friends.Add(ctx, visitorUID(0), visitorUID(1), "person-1")
	return err
}

var (
	firstNames = []string{
		"Noor", "Mateo", "Yuki", "Amara", "Lars", "Priya", "Tomás", "Ines", "Kofi", "Zoë", "Ivan", "Mei", "Omar", "Freya",
		"Luca", "Aisha",
	}
	lastNames = []string{
		"Haddad", "Silva", "Tanaka", "Okafor", "Berg", "Rao", "Novák", "Costa", "Mensah", "Dupont", "Petrov", "Chen", "Aziz",
		"Lund", "Rossi",
	}
)

func (b *backend) handler(page string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(page)))
	mux.HandleFunc("GET /api/config", func(w http.ResponseWriter, _ *http.Request) {
		b.answer(w, map[string]string{"appId": b.appID, "host": b.address})
	})
	mux.HandleFunc("GET /api/people", func(w http.ResponseWriter, _ *http.Request) {
		people := make([]map[string]string, len(visitors))
		for n, name := range visitors {
			people[n] = map[string]string{"uid": visitorUID(n), "name": name}
		}
		b.answer(w, people)
	})
	mux.HandleFunc("POST /api/token", b.mint)
	return mux
}

// mint answers with an auth token for one of the visitors. An app checks a password first.
func (b *backend) mint(w http.ResponseWriter, r *http.Request) {
	uid := r.PostFormValue("uid")
	for n := range visitors {
		if uid != visitorUID(n) {
			continue
		}
		token, err := b.rollcall.AuthTokens.Create(r.Context(), uid, api.CreateAuthTokenRequest{Platform: "web"})
		if err != nil {
			b.logger.ErrorContext(r.Context(), "mint auth token", slog.Any("error", err))
			http.Error(w, "The chat cannot be reached. Try again.", http.StatusBadGateway)
			return
		}
		b.answer(w, map[string]string{"token": token.Token})
		return
	}
	http.Error(w, "There is no such visitor.", http.StatusForbidden)
}

func (b *backend) answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		b.logger.Warn("answer not delivered", slog.Any("error", err))
	}
}
