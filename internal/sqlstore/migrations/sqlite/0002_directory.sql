-- +goose Up
-- The name of a user from its second, third … word on: search finds the beginning of any word.
CREATE TABLE user_terms (
    app  TEXT NOT NULL,
    term TEXT NOT NULL,
    uid  TEXT NOT NULL,
    PRIMARY KEY (app, term, uid)
) WITHOUT ROWID;
INSERT INTO user_terms (app, term, uid)
WITH RECURSIVE rest (app, uid, term) AS (
    SELECT app, uid, substr(name_key, instr(name_key, ' ') + 1) FROM users WHERE instr(name_key, ' ') > 0
    UNION ALL
    SELECT app, uid, substr(term, instr(term, ' ') + 1) FROM rest WHERE instr(term, ' ') > 0
)
SELECT DISTINCT app, term, uid FROM rest;

CREATE INDEX users_last_changed ON users (app, (CASE WHEN updated_at = 0 THEN created_at ELSE updated_at END) DESC, uid);
CREATE INDEX users_last_active ON users (app, last_active_at DESC, created_at DESC, uid);
CREATE INDEX users_deactivated ON users (app, uid) WHERE deactivated_at <> 0;

CREATE TABLE blocks (
    app     TEXT    NOT NULL,
    uid     TEXT    NOT NULL,
    blocked TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (app, uid, blocked)
) WITHOUT ROWID;
CREATE INDEX blocks_received ON blocks (app, blocked, uid);

-- A friendship is two rows, one for each side.
CREATE TABLE friends (
    app    TEXT    NOT NULL,
    uid    TEXT    NOT NULL,
    friend TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (app, uid, friend)
) WITHOUT ROWID;

CREATE TABLE friend_requests (
    app      TEXT    NOT NULL,
    uid      TEXT    NOT NULL,
    receiver TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (app, uid, receiver)
) WITHOUT ROWID;
CREATE INDEX friend_requests_received ON friend_requests (app, receiver, uid);

-- The other user of a change that is about two.
ALTER TABLE changes ADD COLUMN object TEXT NOT NULL DEFAULT '';
CREATE INDEX changes_by_object ON changes (app, object) WHERE object <> '';
