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
    app      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    version  BIGINT NOT NULL
);
INSERT INTO revisions (app, revision, version)
SELECT app, max(revision), 0 FROM (
    SELECT app, revision FROM changes
    UNION ALL
    SELECT app, revision FROM tombstones
) AS known GROUP BY app;

-- The metadata keys that apps declare are names: nothing is indexed in the database any more.
UPDATE apps SET settings = jsonb_set(settings::jsonb, '{metadataKeys}', (
    SELECT coalesce(jsonb_agg(declared -> 'key'), '[]') FROM jsonb_array_elements(settings::jsonb -> 'metadataKeys') AS declared
    WHERE NOT coalesce((declared ->> 'dropped')::boolean, false)
))::text WHERE settings::jsonb -> 'metadataKeys' IS NOT NULL;
