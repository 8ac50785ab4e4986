package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// account is somebody who has registered.
type account struct {
	ID           int64
	Email        string
	Name         string
	PasswordHash []byte
	// ChatProof is a secret that the account's user in Rollcall carries.
	ChatProof string
	// ChatReady says that the user in Rollcall has been created. Until then it is pending.
	ChatReady bool
}

// registration is what somebody fills in.
type registration struct {
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// normalize trims what people cannot see, so that one address is one account.
func (r *registration) normalize() {
	r.Email = normalizeEmail(r.Email)
	r.Name = strings.TrimSpace(r.Name)
}

func normalizeEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// Limits of what a registration may hold. A name must fit into Rollcall as well: one that did not would leave the chat
// user pending for ever.
const (
	maxEmail    = 254
	maxName     = 100
	minPassword = 8
	maxPassword = 72 // bytes: bcrypt looks at no more
)

// check refuses a registration that cannot become an account.
func (r *registration) check() error {
	address, err := mail.ParseAddress(r.Email)
	switch {
	case err != nil || address.Address != r.Email || len(r.Email) > maxEmail:
		return refuseField("email", "Enter an e-mail address, such as ada@example.com.")
	case r.Name == "" || utf8.RuneCountInString(r.Name) > maxName || strings.ContainsFunc(r.Name, unicode.IsControl):
		return refuseField("name", fmt.Sprintf("Enter a name of 1 to %d characters.", maxName))
	case utf8.RuneCountInString(r.Password) < minPassword || len(r.Password) > maxPassword:
		return refuseField(
			"password",
			fmt.Sprintf("Choose a password of at least %d characters and at most %d bytes.", minPassword, maxPassword),
		)
	}
	return nil
}

// accountStore holds the app's own records of who has registered.
type accountStore struct{ db *sql.DB }

var errEmailTaken = errors.New("there is an account with this e-mail address already")

// create stores a new account whose chat user is pending. It returns errEmailTaken when the address has one.
func (a *accountStore) create(ctx context.Context, r registration) (account, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(r.Password), bcrypt.DefaultCost)
	if err != nil {
		return account{}, fmt.Errorf("hash password: %w", err)
	}
	made := account{Email: r.Email, Name: r.Name, PasswordHash: hash, ChatProof: rand.Text()}
	err = a.db.QueryRowContext(ctx,
		`INSERT INTO accounts (email, name, password_hash, chat_proof, created_at) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (email) DO NOTHING RETURNING id`,
		made.Email, made.Name, made.PasswordHash, made.ChatProof, time.Now().Unix()).Scan(&made.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, errEmailTaken
	}
	if err != nil {
		return account{}, fmt.Errorf("store account: %w", err)
	}
	return made, nil
}

// errNoAccount is what a look-up returns when there is nobody.
var errNoAccount = errors.New("no such account")

const accountColumns = "accounts.id, email, name, password_hash, chat_proof, chat_ready"

func scanAccount(row *sql.Row) (account, error) {
	var found account
	err := row.Scan(&found.ID, &found.Email, &found.Name, &found.PasswordHash, &found.ChatProof, &found.ChatReady)
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, errNoAccount
	}
	if err != nil {
		return account{}, fmt.Errorf("read account: %w", err)
	}
	return found, nil
}

// withPassword returns the account with an e-mail address and password; errNoAccount when either is wrong. It takes as
// long for an address that nobody registered, so that the time does not tell which addresses are.
func (a *accountStore) withPassword(ctx context.Context, email, password string) (account, error) {
	found, err := scanAccount(
		a.db.QueryRowContext(ctx, "SELECT "+accountColumns+" FROM accounts WHERE email = ?", normalizeEmail(email)),
	)
	if errors.Is(err, errNoAccount) {
		found.PasswordHash = []byte(nobodysHash)
	} else if err != nil {
		return account{}, err
	}
	wrong := bcrypt.CompareHashAndPassword(found.PasswordHash, []byte(password))
	if err != nil || wrong != nil {
		return account{}, errNoAccount
	}
	return found, nil
}

// nobodysHash is a bcrypt hash at the cost of the others.
const nobodysHash = "$2a$10$Yd7w8GoYK5SNP6gUIbzAc.7mVd5cO.gR7Pogm56zY4yx/2GxIvepC"

// markChatReady records that the account's user in Rollcall exists.
func (a *accountStore) markChatReady(ctx context.Context, id int64) error {
	if _, err := a.db.ExecContext(ctx, "UPDATE accounts SET chat_ready = 1 WHERE id = ?", id); err != nil {
		return fmt.Errorf("record that the chat user of account %d exists: %w", id, err)
	}
	return nil
}
