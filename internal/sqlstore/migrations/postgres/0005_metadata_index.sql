-- +goose Up
-- The values that users have under the metadata keys that their app declares.
CREATE TABLE user_metadata (
    app   TEXT COLLATE "C" NOT NULL,
    key   TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    uid   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, key, value, uid)
);
