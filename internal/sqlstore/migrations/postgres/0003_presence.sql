-- +goose Up
-- Who is online. What is left here when the server starts was online when it was killed.
CREATE TABLE presence_online (
    app TEXT COLLATE "C" NOT NULL,
    uid TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, uid)
);

-- When the server was last known to be alive, in Unix seconds.
CREATE TABLE presence_alive (
    app TEXT COLLATE "C" PRIMARY KEY,
    at  BIGINT NOT NULL
);

-- What happened to the presence of each device; at is in Unix milliseconds.
CREATE TABLE presence_transitions (
    app    TEXT COLLATE "C" NOT NULL,
    uid    TEXT COLLATE "C" NOT NULL,
    device TEXT COLLATE "C" NOT NULL,
    at     BIGINT NOT NULL,
    status TEXT NOT NULL,
    cause  TEXT NOT NULL,
    PRIMARY KEY (app, uid, device, at)
);
