-- +goose Up
CREATE TABLE apps (
    app        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL,
    region     TEXT COLLATE "C" NOT NULL,
    owner      TEXT COLLATE "C" NOT NULL,
    settings   TEXT COLLATE "C" NOT NULL,
    salt       BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    delete_at  BIGINT NOT NULL
);

CREATE TABLE changes (
    app      TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    actor    TEXT COLLATE "C" NOT NULL,
    kind     TEXT COLLATE "C" NOT NULL,
    subject  TEXT COLLATE "C" NOT NULL,
    fields   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, revision)
);
CREATE INDEX changes_by_subject ON changes (app, subject);

CREATE TABLE collaborators (
    app        TEXT COLLATE "C" NOT NULL,
    email      TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    role       TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app, email)
);

CREATE TABLE api_keys (
    app        TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    scope      TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL,
    sealed     BYTEA NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (app, id)
);

CREATE TABLE roles (
    app         TEXT COLLATE "C" NOT NULL,
    role        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    metadata    TEXT COLLATE "C" NOT NULL,
    settings    TEXT COLLATE "C" NOT NULL,
    permissions TEXT COLLATE "C" NOT NULL,
    restricted  TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (app, role)
);

CREATE TABLE users (
    app            TEXT COLLATE "C" NOT NULL,
    uid            TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    name_key       TEXT COLLATE "C" NOT NULL,
    avatar         TEXT COLLATE "C" NOT NULL,
    link           TEXT COLLATE "C" NOT NULL,
    role           TEXT COLLATE "C" NOT NULL,
    status_message TEXT COLLATE "C" NOT NULL,
    metadata       TEXT COLLATE "C" NOT NULL,
    tags           TEXT COLLATE "C" NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    last_active_at BIGINT NOT NULL,
    deactivated_at BIGINT NOT NULL,
    PRIMARY KEY (app, uid)
);
CREATE INDEX users_newest_first ON users (app, created_at DESC, uid);
CREATE INDEX users_by_name ON users (app, name_key, uid);
CREATE INDEX users_by_other_role ON users (app, role, uid) WHERE role <> 'default';

CREATE TABLE user_tags (
    app TEXT COLLATE "C" NOT NULL,
    uid TEXT COLLATE "C" NOT NULL,
    tag TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, uid, tag)
);
CREATE INDEX user_tags_by_tag ON user_tags (app, tag, uid);

CREATE TABLE auth_tokens (
    app        TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL,
    sealed     BYTEA NOT NULL,
    minted_by  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    platform   TEXT COLLATE "C" NOT NULL,
    user_agent TEXT COLLATE "C" NOT NULL,
    device_id  TEXT COLLATE "C" NOT NULL,
    app_info   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, id)
);
CREATE UNIQUE INDEX auth_tokens_of_user ON auth_tokens (app, uid, hash);
CREATE INDEX auth_tokens_by_age ON auth_tokens (app, created_at);
CREATE INDEX auth_tokens_of_key ON auth_tokens (app, minted_by);

CREATE TABLE tombstones (
    app      TEXT COLLATE "C" NOT NULL,
    hash     TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    notice   BIGINT NOT NULL,
    PRIMARY KEY (app, hash, at)
);
CREATE INDEX tombstones_with_notice ON tombstones (at) WHERE notice = 1;

CREATE TABLE answers (
    app    TEXT COLLATE "C" NOT NULL,
    key    BYTEA NOT NULL,
    sealed BYTEA NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (app, key)
);
CREATE INDEX answers_by_age ON answers (app, at);

CREATE TABLE answer_subjects (
    app TEXT COLLATE "C" NOT NULL,
    uid TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    PRIMARY KEY (app, uid, key)
);
CREATE INDEX answer_subjects_by_key ON answer_subjects (app, key);

CREATE TABLE activity (
    app TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    uid TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, day, uid)
);
CREATE INDEX activity_of_user ON activity (app, uid);
