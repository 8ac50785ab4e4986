-- +goose Up
-- The name of a user from its second, third … word on: search finds the beginning of any word.
CREATE TABLE user_terms (
    app  TEXT COLLATE "C" NOT NULL,
    term TEXT COLLATE "C" NOT NULL,
    uid  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, term, uid)
);
INSERT INTO user_terms (app, term, uid)
WITH RECURSIVE rest (app, uid, term) AS (
    SELECT app, uid, substr(name_key, strpos(name_key, ' ') + 1) FROM users WHERE strpos(name_key, ' ') > 0
    UNION ALL
    SELECT app, uid, substr(term, strpos(term, ' ') + 1) FROM rest WHERE strpos(term, ' ') > 0
)
SELECT DISTINCT app, term, uid FROM rest;

CREATE INDEX users_last_changed ON users (app, (CASE WHEN updated_at = 0 THEN created_at ELSE updated_at END) DESC, uid);
CREATE INDEX users_last_active ON users (app, last_active_at DESC, created_at DESC, uid);
CREATE INDEX users_deactivated ON users (app, uid) WHERE deactivated_at <> 0;

CREATE TABLE blocks (
    app     TEXT COLLATE "C"    NOT NULL,
    uid     TEXT COLLATE "C"    NOT NULL,
    blocked TEXT COLLATE "C"    NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (app, uid, blocked)
);
CREATE INDEX blocks_received ON blocks (app, blocked, uid);

-- A friendship is two rows, one for each side.
CREATE TABLE friends (
    app    TEXT COLLATE "C"    NOT NULL,
    uid    TEXT COLLATE "C"    NOT NULL,
    friend TEXT COLLATE "C"    NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (app, uid, friend)
);

CREATE TABLE friend_requests (
    app      TEXT COLLATE "C"    NOT NULL,
    uid      TEXT COLLATE "C"    NOT NULL,
    receiver TEXT COLLATE "C"    NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (app, uid, receiver)
);
CREATE INDEX friend_requests_received ON friend_requests (app, receiver, uid);

-- The other user of a change that is about two.
ALTER TABLE changes ADD COLUMN object TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX changes_by_object ON changes (app, object) WHERE object <> '';
