// Command cli-presence logs in to Rollcall as a user and prints who comes and goes, until it is interrupted:
//
//	go run ./examples/cli-presence --uid ada
//
// It creates the user when there is none, so that it works on a server that has just been started with make run.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:8080", "where Rollcall listens")
	credentials := flag.String("credentials", "data/credentials.json", "the file that Rollcall wrote at its first start")
	uid := flag.String("uid", "cli", "who to log in as")
	status := flag.String("status", "available", "available, away, busy or invisible")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *url, *credentials, *uid, *status); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, url, credentialsFile, uid, status string) error {
	user, err := logIn(ctx, url, credentialsFile, uid)
	if err != nil {
		return err
	}
	session := user.Presence.Session(client.SessionOptions{
		Subscribe: client.Subscription{All: true},
		Status:    status,
		OnState: func(state client.ConnectionState, err error) {
			if err != nil {
				state += client.ConnectionState(": " + err.Error())
			}
			fmt.Fprintln(out, "--", state)
		},
	})
	for presence, err := range session.Events(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, time.Now().Format(time.TimeOnly), line(presence))
	}
	return nil
}

// line is what is printed about a user.
func line(presence api.PresenceStatus) string {
	name := presence.UID
	if presence.User != nil {
		name = presence.User.Name
	}
	text := fmt.Sprintf("%-20s %s", name, presence.Status)
	if presence.StatusText != "" {
		text += " – " + presence.StatusText
	}
	return text
}

// logIn returns a client that acts as a user. An app's backend does this part; the API key stays with it.
func logIn(ctx context.Context, url, credentialsFile, uid string) (*client.Client, error) {
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
	backend, err := client.New(url, client.WithApp(credentials.AppID), client.WithAPIKey(credentials.RestAPIKey))
	if err != nil {
		return nil, err
	}
	_, err = backend.Users.Create(ctx, api.CreateUserRequest{UID: uid, Name: uid})
	if err != nil && !client.IsCode(err, api.CodeUIDAlreadyExists) {
		return nil, fmt.Errorf("create user: %w", err)
	}
	token, err := backend.AuthTokens.Create(ctx, uid, api.CreateAuthTokenRequest{})
	if err != nil {
		return nil, fmt.Errorf("mint auth token: %w", err)
	}
	return client.New(url, client.WithApp(credentials.AppID), client.WithAuthToken(token.Token))
}
