-- +goose Up
-- Lists are answered by an index in memory, and the database is asked for rows by key: what served lists goes.
DROP INDEX users_fresh;
DROP INDEX users_newest_first;
DROP INDEX users_last_changed;
DROP INDEX users_last_active;
DROP INDEX users_by_name;
DROP INDEX users_by_other_role;
DROP INDEX users_deactivated;
DROP TABLE user_terms;
DROP TABLE user_tags;
DROP TABLE user_metadata;
DROP TABLE user_counts;
ALTER TABLE users DROP COLUMN name_key;

-- Where the change log of an app is. It stays when the app is purged, so that revisions never begin anew. The version is
-- raised by every commit, also by those that the log says nothing of.
CREATE TABLE revisions (
    app      TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    version  INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO revisions (app, revision, version)
SELECT app, max(revision), 0 FROM (
    SELECT app, revision FROM changes
    UNION ALL
    SELECT app, revision FROM tombstones
) AS known GROUP BY app;

DELETE FROM sqlite_stat1 WHERE tbl IN ('users', 'user_terms', 'user_tags', 'user_metadata', 'user_counts');
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('users', 'sqlite_autoindex_users_1', '100000000 1000000 1 noskipscan'),
    ('revisions', 'revisions', '1000 1 noskipscan');

-- The metadata keys that apps declare are names: nothing is indexed in the database any more.
UPDATE apps SET settings = json_set(settings, '$.metadataKeys', json((
    SELECT json_group_array(value ->> '$.key') FROM json_each(settings, '$.metadataKeys') WHERE coalesce(value ->> '$.dropped', 0) = 0
))) WHERE json_type(settings, '$.metadataKeys') = 'array';
