-- +goose Up
-- Tables with large rows keep their rowid: without it, the inner pages of the tree would hold whole rows, and be many.
CREATE TABLE apps (
    app        TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    settings   TEXT    NOT NULL,
    salt       BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    delete_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE changes (
    app      TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    fields   TEXT    NOT NULL,
    PRIMARY KEY (app, revision)
) WITHOUT ROWID;
CREATE INDEX changes_by_subject ON changes (app, subject);

CREATE TABLE collaborators (
    app        TEXT    NOT NULL,
    email      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, email)
) WITHOUT ROWID;

CREATE TABLE api_keys (
    app        TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    sealed     BLOB    NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;

CREATE TABLE roles (
    app         TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    settings    TEXT    NOT NULL,
    permissions TEXT    NOT NULL,
    restricted  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (app, role)
) WITHOUT ROWID;

CREATE TABLE users (
    app            TEXT    NOT NULL,
    uid            TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    name_key       TEXT    NOT NULL,
    avatar         TEXT    NOT NULL,
    link           TEXT    NOT NULL,
    role           TEXT    NOT NULL,
    status_message TEXT    NOT NULL,
    metadata       TEXT    NOT NULL,
    tags           TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    deactivated_at INTEGER NOT NULL,
    PRIMARY KEY (app, uid)
);
CREATE INDEX users_newest_first ON users (app, created_at DESC, uid);
CREATE INDEX users_by_name ON users (app, name_key, uid);
CREATE INDEX users_by_other_role ON users (app, role, uid) WHERE role <> 'default';

CREATE TABLE user_tags (
    app TEXT NOT NULL,
    uid TEXT NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (app, uid, tag)
) WITHOUT ROWID;
CREATE INDEX user_tags_by_tag ON user_tags (app, tag, uid);

CREATE TABLE auth_tokens (
    app        TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    uid        TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    sealed     BLOB    NOT NULL,
    minted_by  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL,
    platform   TEXT    NOT NULL,
    user_agent TEXT    NOT NULL,
    device_id  TEXT    NOT NULL,
    app_info   TEXT    NOT NULL,
    PRIMARY KEY (app, id)
);
CREATE UNIQUE INDEX auth_tokens_of_user ON auth_tokens (app, uid, hash);
CREATE INDEX auth_tokens_by_age ON auth_tokens (app, created_at);
CREATE INDEX auth_tokens_of_key ON auth_tokens (app, minted_by);

CREATE TABLE tombstones (
    app      TEXT    NOT NULL,
    hash     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    notice   INTEGER NOT NULL,
    PRIMARY KEY (app, hash, at)
) WITHOUT ROWID;
CREATE INDEX tombstones_with_notice ON tombstones (at) WHERE notice = 1;

CREATE TABLE answers (
    app    TEXT    NOT NULL,
    key    BLOB    NOT NULL,
    sealed BLOB    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (app, key)
) WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (app, at);

CREATE TABLE answer_subjects (
    app TEXT NOT NULL,
    uid TEXT NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (app, uid, key)
) WITHOUT ROWID;
CREATE INDEX answer_subjects_by_key ON answer_subjects (app, key);

CREATE TABLE activity (
    app TEXT    NOT NULL,
    day INTEGER NOT NULL,
    uid TEXT    NOT NULL,
    PRIMARY KEY (app, day, uid)
) WITHOUT ROWID;
CREATE INDEX activity_of_user ON activity (app, uid);
