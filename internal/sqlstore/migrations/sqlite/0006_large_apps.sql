-- +goose Up
-- How many users of each role there are, active and deactivated: the totals of lists, kept with every commit.
CREATE TABLE user_counts (
    app         TEXT NOT NULL,
    role        TEXT NOT NULL,
    deactivated INTEGER NOT NULL, -- 0 or 1
    users       INTEGER NOT NULL,
    PRIMARY KEY (app, role, deactivated)
) WITHOUT ROWID;

INSERT INTO user_counts (app, role, deactivated, users)
SELECT app, role, CASE WHEN deactivated_at = 0 THEN 0 ELSE 1 END, count(*) FROM users
GROUP BY app, role, CASE WHEN deactivated_at = 0 THEN 0 ELSE 1 END;

-- What the query planner must know of the tables: that an app is large. Without statistics it takes an app for as selective
-- as a uid, and reads all blocks of an app to find those of a user. It is told, and not left to ANALYZE, so that plans are the
-- same on every database. The numbers are rows, then rows for each further column of the index; noskipscan keeps SQLite from
-- trying every app.
ANALYZE sqlite_schema;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('apps', 'apps', '100 1 noskipscan'),
    ('collaborators', 'collaborators', '1000 10 1 noskipscan'),
    ('api_keys', 'api_keys', '1000 10 1 noskipscan'),
    ('roles', 'roles', '1000 10 1 noskipscan'),
    ('user_counts', 'user_counts', '2000 20 2 1 noskipscan'),
    ('users', 'sqlite_autoindex_users_1', '100000000 1000000 1 noskipscan'),
    ('users', 'users_newest_first', '100000000 1000000 10 1 1 noskipscan'),
    ('users', 'users_by_name', '100000000 1000000 2 1 1 noskipscan'),
    ('users', 'users_last_changed', '100000000 1000000 10 1 1 noskipscan'),
    ('users', 'users_last_active', '100000000 1000000 10 2 1 1 noskipscan'),
    ('users', 'users_by_other_role', '1000000 10000 1000 1 noskipscan'),
    ('users', 'users_deactivated', '1000000 10000 1 noskipscan'),
    ('user_terms', 'user_terms', '100000000 1000000 2 1 noskipscan'),
    ('user_tags', 'user_tags', '100000000 1000000 3 1 noskipscan'),
    ('user_tags', 'user_tags_by_tag', '100000000 1000000 1000 1 noskipscan'),
    ('user_metadata', 'user_metadata', '100000000 1000000 200000 1000 1 noskipscan'),
    ('blocks', 'blocks', '100000000 1000000 5 1 noskipscan'),
    ('blocks', 'blocks_received', '100000000 1000000 5 1 noskipscan'),
    ('friends', 'friends', '100000000 1000000 10 1 noskipscan'),
    ('friend_requests', 'friend_requests', '100000000 1000000 3 1 noskipscan'),
    ('friend_requests', 'friend_requests_received', '100000000 1000000 3 1 noskipscan'),
    ('auth_tokens', 'sqlite_autoindex_auth_tokens_1', '100000000 1000000 1 noskipscan'),
    ('auth_tokens', 'auth_tokens_of_user', '100000000 1000000 3 1 noskipscan'),
    ('auth_tokens', 'auth_tokens_by_age', '100000000 1000000 10 noskipscan'),
    ('auth_tokens', 'auth_tokens_of_key', '100000000 1000000 200000 noskipscan'),
    ('changes', 'changes', '1000000000 10000000 1 noskipscan'),
    ('changes', 'changes_by_subject', '1000000000 10000000 10 noskipscan'),
    ('changes', 'changes_by_object', '100000000 1000000 10 noskipscan'),
    ('tombstones', 'tombstones', '10000000 100000 1 1 noskipscan'),
    ('tombstones', 'tombstones_with_notice', '100 10 noskipscan'),
    ('answers', 'answers', '10000000 100000 1 noskipscan'),
    ('answers', 'answers_by_age', '10000000 100000 10 noskipscan'),
    ('answer_subjects', 'answer_subjects', '10000000 100000 2 1 noskipscan'),
    ('answer_subjects', 'answer_subjects_by_key', '10000000 100000 1 noskipscan'),
    ('activity', 'activity', '1000000000 10000000 100000 1 noskipscan'),
    ('activity', 'activity_of_user', '1000000000 10000000 20 noskipscan'),
    ('presence_alive', 'presence_alive', '100 1 noskipscan'),
    ('presence_online', 'presence_online', '10000000 100000 1 noskipscan'),
    ('presence_transitions', 'presence_transitions', '100000000 1000000 20 10 1 noskipscan');
