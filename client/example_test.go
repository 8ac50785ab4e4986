package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
	"github.com/rollcall/rollcall/internal/server"
)

// startExample is startExampleServer with clients that act as users.
func startExample() (ctx context.Context, backend *client.Client, as func(uid string) *client.Client, stop func()) {
	ctx, backend, with, stop := startExampleServer()
	as = func(uid string) *client.Client {
		token, err := backend.AuthTokens.Create(ctx, uid, api.CreateAuthTokenRequest{})
		if err != nil {
			log.Fatal(err)
		}
		return with(client.WithAuthToken(token.Token))
	}
	return ctx, backend, as, stop
}

// startExampleServer runs a server for an example, and returns a client for it with a fullAccess key, and what makes
// others.
func startExampleServer() (
	ctx context.Context, backend *client.Client, with func(client.Option) *client.Client, stop func(),
) {
	ctx = context.Background()
	folder, err := os.MkdirTemp("", "rollcall-example-")
	if err != nil {
		log.Fatal(err)
	}
	running, err := server.Start(ctx, server.Config{DataDir: folder, HTTP: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	with = func(option client.Option) *client.Client {
		c, err := client.New("http://"+running.HTTPAddr, client.WithApp(running.Credentials.AppID), option)
		if err != nil {
			log.Fatal(err)
		}
		return c
	}
	backend = with(client.WithAPIKey(running.Credentials.RestAPIKey))
	return ctx, backend, with, func() {
		if err := errors.Join(running.Close(), os.RemoveAll(folder)); err != nil {
			log.Fatal(err)
		}
	}
}

// A backend makes a user for an account, and again does no harm; mints a token when the account has logged in, with
// which its holder changes what is its own to say; and updates, deactivates, reactivates and erases the user.
func Example() {
	ctx, backend, with, stop := startExampleServer()
	defer stop()
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	user, err := backend.Users.Upsert(ctx, "cy", api.UpdateUserRequest{Name: new("Cy")})
	must(err)
	token, err := backend.AuthTokens.Create(ctx, user.UID, api.CreateAuthTokenRequest{Platform: "web"})
	must(err)
	cy := with(client.WithAuthToken(token.Token))
	me, err := cy.Me.Update(ctx, api.UpdateUserRequest{StatusMessage: new("Hello")})
	must(err)
	fmt.Println(user.Name, user.Role, me.StatusMessage)
	user, err = backend.Users.Update(ctx, "cy", api.UpdateUserRequest{Name: new("Cyrus")})
	must(err)
	off, err := backend.Users.Deactivate(ctx, "cy")
	must(err)
	on, err := backend.Users.Reactivate(ctx, "cy")
	must(err)
	fmt.Println(user.Name, off.Deactivated, on.Reactivated)
	must(backend.Users.Erase(ctx, "cy"))
	// Output:
	// Cy default Hello
	// Cyrus [cy] [cy]
}

func ExampleError() {
	ctx, backend, _, stop := startExample()
	defer stop()
	_, err := backend.Users.Create(ctx, api.CreateUserRequest{UID: "not a uid", Name: "Ada"})
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(refused.Code, refused.Details["uid"][0])
	}
	// Output: ERR_BAD_REQUEST The uid may hold letters, digits, - and _, at most 100 of them.
}

func ExampleUsersService_All() {
	ctx, backend, _, stop := startExample()
	defer stop()
	for _, name := range []string{"Cy", "Ada", "Bob"} {
		if _, err := backend.Users.Create(ctx, api.CreateUserRequest{UID: name, Name: name}); err != nil {
			log.Fatal(err)
		}
	}
	for user, err := range backend.Users.All(ctx, client.UserListOptions{SortBy: "name"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(user.UID, user.Name)
	}
	// Output:
	// ada Ada
	// bob Bob
	// cy Cy
}

func ExampleWithIdempotencyKey() {
	ctx, backend, _, stop := startExample()
	defer stop()
	once := client.WithIdempotencyKey(ctx, "4d1c2b3a-registration-17")
	for range 2 { // the second time is answered as the first was
		user, err := backend.Users.Create(once, api.CreateUserRequest{UID: "ada", Name: "Ada"})
		fmt.Println(user.UID, err)
	}
	// Output:
	// ada <nil>
	// ada <nil>
}

func ExampleSession_Events() {
	ctx, backend, as, stop := startExample()
	defer stop()
	for _, uid := range []string{"ada", "bob"} {
		if _, err := backend.Users.Create(ctx, api.CreateUserRequest{UID: uid, Name: uid}); err != nil {
			log.Fatal(err)
		}
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	ada := as("ada").Presence.Session(client.SessionOptions{Subscribe: client.Subscription{All: true}})
	bob := as("bob").Presence.Session(client.SessionOptions{})
	whileBobIsThere, bobGoes := context.WithCancel(ctx)
	defer bobGoes()
	var bobIsThere sync.WaitGroup
	defer bobIsThere.Wait()
	bobIsThere.Go(func() {
		for _, err := range bob.Events(whileBobIsThere) { // he hears of nobody, and is seen
			log.Print(err)
		}
	})
	for presence, err := range ada.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(presence.UID, presence.Status)
		if presence.Status == "offline" {
			break
		}
		bobGoes()
	}
	// Output:
	// bob available
	// bob offline
}
