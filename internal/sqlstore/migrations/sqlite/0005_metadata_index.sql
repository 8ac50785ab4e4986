-- +goose Up
-- The values that users have under the metadata keys that their app declares.
CREATE TABLE user_metadata (
    app   TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    uid   TEXT NOT NULL,
    PRIMARY KEY (app, key, value, uid)
) WITHOUT ROWID;
