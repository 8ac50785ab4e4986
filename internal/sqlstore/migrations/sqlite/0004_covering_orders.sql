-- +goose Up
-- Lists leave deactivated users out. With that in the indexes of the orders, they read no row of a user they need not show.
DROP INDEX users_newest_first;
DROP INDEX users_by_name;
DROP INDEX users_last_changed;
DROP INDEX users_last_active;
CREATE INDEX users_newest_first ON users (app, created_at DESC, uid, deactivated_at);
CREATE INDEX users_by_name ON users (app, name_key, uid, deactivated_at);
CREATE INDEX users_last_changed ON users (app, (CASE WHEN updated_at = 0 THEN created_at ELSE updated_at END) DESC, uid, deactivated_at);
CREATE INDEX users_last_active ON users (app, last_active_at DESC, created_at DESC, uid, deactivated_at);
