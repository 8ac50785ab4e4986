-- +goose Up
-- The servers that share the database. A row is a lease: the server may use what it holds in memory until lease_until,
-- which it moves on again and again. Everything committed before applied_at it has in memory, and it knows of all servers
-- up to the epoch seen_epoch. An epoch is never used twice.
CREATE SEQUENCE server_epochs;
CREATE TABLE servers (
    server TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    address TEXT NOT NULL,
    release TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    lease_until TIMESTAMPTZ NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL,
    seen_epoch BIGINT NOT NULL
);
