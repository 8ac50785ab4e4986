-- +goose Up
-- How many users of each role there are, active and deactivated: the totals of lists, kept with every commit.
CREATE TABLE user_counts (
    app         TEXT COLLATE "C" NOT NULL,
    role        TEXT COLLATE "C" NOT NULL,
    deactivated BIGINT NOT NULL, -- 0 or 1
    users       BIGINT NOT NULL,
    PRIMARY KEY (app, role, deactivated)
);

INSERT INTO user_counts (app, role, deactivated, users)
SELECT app, role, CASE WHEN deactivated_at = 0 THEN 0 ELSE 1 END, count(*) FROM users
GROUP BY app, role, CASE WHEN deactivated_at = 0 THEN 0 ELSE 1 END;
