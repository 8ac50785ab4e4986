-- +goose Up
-- Who is online. What is left here when the server starts was online when it was killed.
CREATE TABLE presence_online (
    app TEXT NOT NULL,
    uid TEXT NOT NULL,
    PRIMARY KEY (app, uid)
) WITHOUT ROWID;

-- When the server was last known to be alive, in Unix seconds.
CREATE TABLE presence_alive (
    app TEXT PRIMARY KEY,
    at  INTEGER NOT NULL
) WITHOUT ROWID;

-- What happened to the presence of each device; at is in Unix milliseconds.
CREATE TABLE presence_transitions (
    app    TEXT NOT NULL,
    uid    TEXT NOT NULL,
    device TEXT NOT NULL,
    at     INTEGER NOT NULL,
    status TEXT NOT NULL,
    cause  TEXT NOT NULL,
    PRIMARY KEY (app, uid, device, at)
) WITHOUT ROWID;
