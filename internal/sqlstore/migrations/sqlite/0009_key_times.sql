-- +goose Up
-- When an API key that was replaced expires, 0 for never, and about when a key was last used, 0 for not yet.
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER NOT NULL DEFAULT 0;
