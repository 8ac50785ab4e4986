package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
)

const schema = `
CREATE TABLE IF NOT EXISTS accounts (
	id            INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out twice: the chat user is named after it
	email         TEXT NOT NULL UNIQUE,              -- in lower case
	name          TEXT NOT NULL,                     -- as registered; from then on the name lives in Rollcall
	password_hash BLOB NOT NULL,
	chat_proof    TEXT NOT NULL,                     -- what the chat user carries to be known as this account's
	chat_ready    INTEGER NOT NULL DEFAULT 0,        -- 0 while the chat user is pending
	created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS sessions (
	hash       BLOB PRIMARY KEY, -- of the cookie, so that the database alone opens no session
	account_id INTEGER NOT NULL REFERENCES accounts (id),
	expires_at INTEGER NOT NULL
) STRICT;`

// openDatabase opens the app's own database and makes it when it is missing.
func openDatabase(ctx context.Context, path string) (*sql.DB, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // it holds password hashes: for nobody else to read
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	options := url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(wal)", "foreign_keys(on)"},
		"modeof":  {path}, // the files that SQLite adds get the mode of this one
	}
	query := strings.ReplaceAll(options.Encode(), "+", "%20") // SQLite knows no other blank
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // SQLite writes one at a time; an app this small reads one at a time too
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
	}
	return db, nil
}
