-- +goose Up
-- A database on SQLite has one server, which needs no row to be known by.
SELECT 1;
