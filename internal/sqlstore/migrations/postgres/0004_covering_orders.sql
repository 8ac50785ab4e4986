-- +goose Up
-- Lists leave deactivated users out. With that in the indexes of the orders, they read no row of a user they need not show.
-- PostgreSQL cannot do so for an order by an expression.
DROP INDEX users_newest_first;
DROP INDEX users_by_name;
DROP INDEX users_last_active;
CREATE INDEX users_newest_first ON users (app, created_at DESC, uid) INCLUDE (deactivated_at);
CREATE INDEX users_by_name ON users (app, name_key, uid) INCLUDE (deactivated_at);
CREATE INDEX users_last_active ON users (app, last_active_at DESC, created_at DESC, uid) INCLUDE (deactivated_at);
