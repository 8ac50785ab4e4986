package main

import (
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"net/http"
	"time"
)

const (
	cookieName      = "signup_session"
	sessionLifetime = 30 * 24 * time.Hour
)

// sessionStore holds the app's own log-ins: a random cookie each, of which the database has the hash.
type sessionStore struct{ db *sql.DB }

func cookieHash(cookie string) []byte {
	sum := sha256.Sum256([]byte(cookie))
	return sum[:]
}

// open starts a session and gives the browser its cookie.
func (s *sessionStore) open(w http.ResponseWriter, r *http.Request, accountID int64) error {
	cookie, now := rand.Text(), time.Now()
	if _, err := s.db.ExecContext(r.Context(), "DELETE FROM sessions WHERE expires_at <= ?", now.Unix()); err != nil {
		return fmt.Errorf("forget expired sessions: %w", err)
	}
	_, err := s.db.ExecContext(r.Context(), "INSERT INTO sessions (hash, account_id, expires_at) VALUES (?, ?, ?)",
		cookieHash(cookie), accountID, now.Add(sessionLifetime).Unix())
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	setCookie(w, r, cookie, int(sessionLifetime.Seconds()))
	return nil
}

// setCookie sets the session cookie: no script can read it, and no other site's form can use it.
func setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure is for https; behind a proxy that ends TLS, set it in any case
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: r.TLS != nil,
	})
}

// account returns whose session the request belongs to; errNoAccount when it belongs to none.
func (s *sessionStore) account(r *http.Request) (account, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return account{}, errNoAccount
	}
	return scanAccount(s.db.QueryRowContext(r.Context(),
		"SELECT "+accountColumns+" FROM sessions JOIN accounts ON accounts.id = account_id WHERE hash = ? AND expires_at > ?",
		cookieHash(cookie.Value), time.Now().Unix()))
}

// end ends the request's session, if it has one.
func (s *sessionStore) end(w http.ResponseWriter, r *http.Request) error {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil //nolint:nilerr // the only error is that there is no cookie
	}
	if _, err := s.db.ExecContext(r.Context(), "DELETE FROM sessions WHERE hash = ?", cookieHash(cookie.Value)); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	setCookie(w, r, "", -1)
	return nil
}
