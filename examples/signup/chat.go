package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/rollcall/rollcall/api"
	"github.com/rollcall/rollcall/client"
)

// credentials are what this app needs of Rollcall's credentials.json. The REST key opens everything and stays on this
// side; browsers get nothing but auth tokens.
type credentials struct {
	AppID      string `json:"appId"`
	RestAPIKey string `json:"restApiKey"`
}

func readCredentials(path string) (credentials, error) {
	var found credentials
	text, err := os.ReadFile(path)
	if err != nil {
		return found, fmt.Errorf("read Rollcall's credentials (has it been started once?): %w", err)
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return found, fmt.Errorf("read %s: %w", path, err)
	}
	return found, nil
}

// chatTimeout is how long a visitor waits for Rollcall before the app goes on without.
const chatTimeout = 5 * time.Second

// chat gives the accounts their users in Rollcall.
type chat struct {
	rollcall *client.Client
	accounts *accountStore
}

func newChat(rollcallURL string, keys credentials, records *accountStore) (*chat, error) {
	rollcall, err := client.New(rollcallURL, client.WithApp(keys.AppID), client.WithAPIKey(keys.RestAPIKey),
		client.WithHTTPClient(&http.Client{Timeout: chatTimeout}))
	if err != nil {
		return nil, err
	}
	return &chat{rollcall: rollcall, accounts: records}, nil
}

// uid is the account's id in Rollcall.
func (a account) uid() string { return "member-" + strconv.FormatInt(a.ID, 10) }

// token returns a fresh auth token for the account's chat user, and creates that user first if it is pending.
func (c *chat) token(ctx context.Context, member account) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, chatTimeout)
	defer cancel()
	if err := c.ensureUser(ctx, member); err != nil {
		return "", err
	}
	minted, err := c.rollcall.AuthTokens.Create(ctx, member.uid(), api.CreateAuthTokenRequest{Platform: "web"})
	if err != nil {
		return "", fmt.Errorf("mint auth token for %s: %w", member.uid(), err)
	}
	return minted.Token, nil
}

// ensureUser creates the account's chat user if it is pending. It can be repeated and run twice at the same time: when
// an earlier attempt got through but its answer was lost, the user is there already and is taken for what it is.
func (c *chat) ensureUser(ctx context.Context, member account) error {
	if member.ChatReady {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, chatTimeout)
	defer cancel()
	metadata, err := json.Marshal(userMetadata{Private: privateMetadata{Proof: member.ChatProof}})
	if err != nil {
		return fmt.Errorf("create chat user: %w", err)
	}
	_, err = c.rollcall.Users.Create(ctx, api.CreateUserRequest{UID: member.uid(), Name: member.Name, Metadata: metadata})
	if client.IsCode(err, api.CodeUIDAlreadyExists) {
		err = c.checkOurs(ctx, member)
	}
	if err != nil {
		return fmt.Errorf("create chat user %s: %w", member.uid(), err)
	}
	return c.accounts.markChatReady(ctx, member.ID)
}

// userMetadata is what this app keeps on its users in Rollcall. Only a fullAccess key sees the private part.
type userMetadata struct {
	Private privateMetadata `json:"@private"`
}

type privateMetadata struct {
	Proof string `json:"signupProof"`
}

var errNotOurs = errors.New(
	"the uid belongs to somebody else: does another database of this app use the same Rollcall app?",
)

// checkOurs makes sure that a chat user that exists was created for this very account. Without it, an app that starts
// over with an empty database would hand its new members the chat users of the old ones.
func (c *chat) checkOurs(ctx context.Context, member account) error {
	user, err := c.rollcall.Users.Get(ctx, member.uid())
	if err != nil {
		return err
	}
	var metadata userMetadata
	if len(user.Metadata) > 0 {
		if err := json.Unmarshal(user.Metadata, &metadata); err != nil {
			return errors.Join(errNotOurs, err)
		}
	}
	if metadata.Private.Proof != member.ChatProof {
		return errNotOurs
	}
	return nil
}
