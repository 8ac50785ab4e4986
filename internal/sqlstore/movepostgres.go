package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// moveLock is the advisory lock of a move: "rollmove" in ASCII. On the source it is what the fence asks for.
const moveLock = 0x726f6c6c6d6f7665

// fenceFunction is called before every statement that writes to a table of a source.
const fenceFunction = "rollcall_move_fence"

// pgReader is a connection that asks one question after another.
type pgReader struct {
	ctx  context.Context //nolint:containedctx // a querier has that of its transaction
	conn *pgx.Conn
}

func (r *pgReader) query(sql string, args []any, each func(row) error) error {
	rows, err := r.conn.Query(r.ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(pgRow{rows.FieldDescriptions(), rows.RawValues()}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// postgresSide is a PostgreSQL database that a move reads.
type postgresSide struct {
	place  string
	reader *pgx.Conn
}

// connectForMove connects so that a move's connection can be told from a server's.
func connectForMove(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := parsePostgresURL(url)
	if err != nil {
		return nil, fmt.Errorf("read database address: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, connectError(config.ConnConfig, err)
	}
	// Else PostgreSQL would finish what it is at, and keep its locks, when the move was killed.
	_, err = conn.Exec(ctx, `SET application_name = 'rollcall move'; SET client_connection_check_interval = '500ms'`)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "22023" { // not on this system
		err = nil
	}
	var isCopy bool
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&isCopy)
	}
	if isCopy {
		err = fmt.Errorf("PostgreSQL at %s is a standby, which may be behind: give the address of the primary",
			PlaceOfURL(url))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// postgresCatalog asks what describeTable wants to know.
const postgresCatalog = `SELECT a.attname::text, format_type(a.atttypid, NULL), coalesce(k.place, 0)::bigint,
	(NOT a.attnotnull)::int
	FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
	LEFT JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place) ON k.attnum = a.attnum
	WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped`

func (s *postgresSide) table(ctx context.Context, name string) (movedTable, error) {
	return describeTable(&pgReader{ctx, s.reader}, postgresCatalog, name)
}

func (s *postgresSide) snapshot(ctx context.Context, fn func(movedReader) error) error {
	if _, err := s.reader.Exec(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
		return err
	}
	if err := fn(&pgReader{ctx, s.reader}); err != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseAnswers)
		defer cancel()
		_, _ = s.reader.Exec(ending, `ROLLBACK`) // where it fails the connection is of no use any more
		return err
	}
	_, err := s.reader.Exec(ctx, `COMMIT`)
	return err
}

func (s *postgresSide) close(ctx context.Context) error {
	if s.reader == nil {
		return nil
	}
	return s.reader.Close(ctx)
}

// postgresVersion returns the version of the schema, 0 for none.
func postgresVersion(ctx context.Context, conn *pgx.Conn) (version int64, err error) {
	var used bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&used); err != nil || !used {
		return 0, err
	}
	err = conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&version)
	return version, err
}

// storedMark returns the mark of one side, nil when there is none.
func storedMark(ctx context.Context, conn *pgx.Conn, side string) (*moveMark, error) {
	var there bool
	err := conn.QueryRow(ctx, moveTableIsThere).Scan(&there)
	if err != nil || !there {
		return nil, err
	}
	var mark moveMark
	err = conn.QueryRow(ctx, `SELECT id, place, at FROM `+moveTable+` WHERE side = $1`, side).
		Scan(&mark.ID, &mark.Place, &mark.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // as said
	}
	return &mark, err
}

const makeMoveTable = `CREATE TABLE IF NOT EXISTS ` + moveTable +
	` (side TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL, place TEXT NOT NULL, at BIGINT NOT NULL)`

const putMark = `INSERT INTO ` + moveTable + ` (side, id, place, at) VALUES ($1, $2, $3, $4)`

type postgresSource struct {
	postgresSide
	url string
}

func openPostgresSource(ctx context.Context, url string) (*postgresSource, error) {
	conn, err := connectForMove(ctx, url)
	if err != nil {
		return nil, err
	}
	s := &postgresSource{postgresSide{place: PlaceOfURL(url), reader: conn}, url}
	version, err := postgresVersion(ctx, conn)
	if err == nil {
		err = checkVersion(version, s.place)
	}
	if err == nil {
		var into *moveMark
		if into, err = storedMark(ctx, conn, sideInto); into != nil {
			err = &MoveUnfinishedError{From: into.Place}
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return s, nil
}

func (s *postgresSource) movedTo(ctx context.Context) (*moveMark, error) {
	return storedMark(ctx, s.reader, sideAway)
}

// fenceBody raises the error with which writes are refused, when a condition is so.
func fenceBody(condition, code, message string) string {
	return `CREATE OR REPLACE FUNCTION ` + fenceFunction + `() RETURNS trigger LANGUAGE plpgsql AS $fence$ BEGIN
		IF ` + condition + ` THEN RAISE EXCEPTION '` + message + `' USING ERRCODE = '` + code + `'; END IF;
		RETURN NULL;
	END $fence$`
}

// postgresFence is a trigger on every table, which refuses writes as long as a connection holds a lock.
type postgresFence struct {
	conn   *pgx.Conn
	sealed bool
}

func (s *postgresSource) fence(ctx context.Context) (_ moveFence, err error) {
	conn, err := connectForMove(ctx, s.url)
	if err != nil {
		return nil, err
	}
	f := &postgresFence{conn: conn}
	defer func() {
		if err != nil {
			lifting, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseAnswers)
			defer cancel()
			err = errors.Join(err, f.lift(lifting))
		}
	}()
	body := fenceBody(fmt.Sprintf(`NOT pg_try_advisory_xact_lock_shared(%d)`, int64(moveLock)), codeBeingMoved,
		"rollcall: the data is being moved to another database")
	if _, err := conn.Exec(ctx, body); err != nil {
		return nil, err
	}
	// One by one: whoever holds two tables at a time may have to wait for somebody who waits for it. Each waits for those
	// who write to the table.
	for _, table := range movedTables {
		_, err := conn.Exec(ctx, `CREATE OR REPLACE TRIGGER `+fenceFunction+` BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
			ON `+table+` FOR EACH STATEMENT EXECUTE FUNCTION `+fenceFunction+`()`)
		if err != nil {
			return nil, err
		}
	}
	// Everybody who writes from now on holds the lock with others: when it is ours alone, nobody does any more.
	_, err = conn.Exec(ctx, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, int64(moveLock)))
	return f, err
}

// seal runs on the connection that holds the lock: when that is broken, it fails.
func (f *postgresFence) seal(ctx context.Context, mark moveMark) error {
	// The lock of the tables waits for statements that have begun: those that begin later see the new function.
	err := pgx.BeginFunc(ctx, f.conn, func(tx pgx.Tx) error {
		var stands bool
		err := tx.QueryRow(ctx, holdsMoveLock, int64(moveLock)).Scan(&stands)
		if err == nil && !stands {
			err = errors.New("the connection to the source is not one session: give an address that leads to PostgreSQL itself")
		}
		if err != nil {
			return err
		}
		for _, statement := range []string{
			`LOCK TABLE ` + strings.Join(movedTables, ", ") + ` IN SHARE ROW EXCLUSIVE MODE`,
			fenceBody(`true`, codeMovedAway, "rollcall: the data was moved to another database"),
			makeMoveTable,
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, putMark, sideAway, mark.ID, mark.Place, mark.At)
		return err
	})
	f.sealed = err == nil
	return err
}

// holdsMoveLock tells whether the session holds the lock of the fence: one that a pooler has exchanged does not.
const holdsMoveLock = `SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'
	AND granted AND mode = 'ExclusiveLock' AND (classid::bigint << 32 | objid::bigint) = $1)`

// lift gives up the lock with the connection, and takes the triggers away where nobody is in the way: they do nothing
// any more.
func (f *postgresFence) lift(ctx context.Context) error {
	if f.sealed || f.conn.IsClosed() {
		return f.conn.Close(ctx)
	}
	_, err := f.conn.Exec(ctx, fmt.Sprintf(`SELECT pg_advisory_unlock_all(); SET lock_timeout = '%s'`, liftWithin))
	for _, table := range movedTables {
		if err == nil {
			_, err = f.conn.Exec(ctx, `DROP TRIGGER IF EXISTS `+fenceFunction+` ON `+table)
		}
	}
	if err == nil {
		_, err = f.conn.Exec(ctx, `DROP FUNCTION IF EXISTS `+fenceFunction+`()`)
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "55P03" { // somebody reads for long
		err = nil
	}
	return errors.Join(err, f.conn.Close(ctx))
}

// liftWithin is how long readers may be kept waiting, at most, to take a trigger away.
const liftWithin = "200ms"

// postgresTarget is a PostgreSQL database into which a move goes. Servers refuse it as long as the mark is in it.
type postgresTarget struct {
	postgresSide
	url    string
	writer *pgx.Conn
}

// inspectPostgresTarget tells whether a move into a database was begun, or why none can be.
func inspectPostgresTarget(ctx context.Context, url, from string) (goesOn bool, err error) {
	conn, err := connectForMove(ctx, url)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	mark, err := checkPostgresTarget(ctx, conn, url)
	if err == nil && mark != nil && mark.Place != from {
		err = fmt.Errorf("the target holds a part of a move from %s: %w", mark.Place, errTargetUsed)
	}
	if err != nil || mark != nil {
		return mark != nil, err
	}
	var may bool
	err = conn.QueryRow(ctx, `SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`).Scan(&may)
	if err == nil && !may {
		err = errors.New(mayNotCreate(conn.Config().User))
	}
	return false, err
}

// checkPostgresTarget returns the mark of a move into a database, nil when it is empty, and fails when it has other
// data.
func checkPostgresTarget(ctx context.Context, conn *pgx.Conn, url string) (*moveMark, error) {
	mark, err := storedMark(ctx, conn, sideInto)
	if err != nil || mark != nil {
		return mark, err
	}
	if away, err := storedMark(ctx, conn, sideAway); err != nil || away != nil {
		return nil, errors.Join(err, fmt.Errorf("the data of the target was itself moved away: %w", errTargetUsed))
	}
	version, err := postgresVersion(ctx, conn)
	if err != nil {
		return nil, err
	}
	if version != 0 {
		if err := checkVersion(version, PlaceOfURL(url)); err != nil {
			return nil, err
		}
	}
	for _, table := range movedTables {
		var used bool
		if version == 0 {
			err := conn.QueryRow(ctx, `SELECT to_regclass($1::text) IS NOT NULL`, table).Scan(&used)
			if err != nil || used {
				return nil, errors.Join(err, fmt.Errorf("somebody else has a table %s in it: %w", table, errTargetUsed))
			}
			continue
		}
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+table+`)`).Scan(&used); err != nil {
			return nil, err
		}
		if used {
			return nil, &movePublishedError{fmt.Errorf("table %s has rows: %w", table, errTargetUsed)}
		}
	}
	return nil, nil //nolint:nilnil // as said
}

func openPostgresTarget(ctx context.Context, url string) (_ *postgresTarget, err error) {
	t := &postgresTarget{postgresSide: postgresSide{place: PlaceOfURL(url)}, url: url}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close(ctx))
		}
	}()
	if t.writer, err = connectForMove(ctx, url); err != nil {
		return nil, err
	}
	if err := awaitMoveLock(ctx, t.writer); err != nil {
		return nil, err
	}
	if _, err := checkPostgresTarget(ctx, t.writer, url); err != nil {
		return nil, err
	}
	if holder := describeHolder(ctx, t.writer); holder != "" {
		return nil, fmt.Errorf("a server uses the target%s: %w", holder, errTargetUsed)
	}
	if t.reader, err = connectForMove(ctx, url); err != nil {
		return nil, err
	}
	return t, nil
}

// awaitMoveLock takes the lock of the moves into a database. PostgreSQL takes a moment to notice that a move which had
// it was killed.
func awaitMoveLock(ctx context.Context, conn *pgx.Conn) error {
	for began := time.Now(); ; {
		var owned bool
		err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(moveLock)).Scan(&owned)
		if err != nil || owned {
			return err
		}
		if time.Since(began) > leaseAnswers {
			return errors.New("another move is writing to the target")
		}
		select {
		case <-time.After(leaseGone / 40):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *postgresTarget) begin(ctx context.Context, mark moveMark) (moveMark, error) {
	known, err := storedMark(ctx, t.writer, sideInto)
	if err != nil {
		return mark, err
	}
	if known == nil {
		err = pgx.BeginFunc(ctx, t.writer, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, makeMoveTable); err != nil {
				return explainMigration(err, t.writer.Config().User)
			}
			_, err := tx.Exec(ctx, putMark, sideInto, mark.ID, mark.Place, mark.At)
			return err
		})
		if err != nil {
			return mark, err
		}
		known = &mark
	}
	db := stdlib.OpenDB(*t.writer.Config())
	err = explainMigration(migrate(ctx, db, postgresDialect), t.writer.Config().User)
	if err := errors.Join(err, db.Close()); err != nil {
		return mark, err
	}
	_, err = t.writer.Exec(ctx, `SET synchronous_commit = off`) // settle makes all of it durable
	return *known, err
}

func (t *postgresTarget) apply(ctx context.Context, table movedTable, deletes, inserts []movedRow) error {
	return pgx.BeginFunc(ctx, t.writer, func(tx pgx.Tx) error {
		if len(deletes) > 0 {
			sql, args := table.deletion(deletes)
			if _, err := tx.Exec(ctx, sql, args...); err != nil {
				return err
			}
		}
		next := 0
		_, err := tx.CopyFrom(ctx, pgx.Identifier{table.name}, table.columns, pgx.CopyFromFunc(func() ([]any, error) {
			if next == len(inserts) {
				return nil, nil
			}
			next++
			return table.args(inserts[next-1], len(table.columns)), nil
		}))
		return err
	})
}

// deletion deletes the rows that have the keys of these.
func (t movedTable) deletion(rows []movedRow) (sql string, args []any) {
	keys := make([][]any, len(rows))
	for i, cells := range rows {
		keys[i] = t.args(cells, t.keys)
	}
	arrays := make([]string, t.keys)
	for i := range arrays {
		array, arrayType := columnOf(keys, i)
		args = append(args, array)
		arrays[i] = fmt.Sprintf("$%d::%s", i+1, arrayType)
	}
	return `DELETE FROM ` + t.name + ` WHERE (` + strings.Join(t.columns[:t.keys], ", ") + `) IN (SELECT * FROM unnest(` +
		strings.Join(arrays, ", ") + `))`, args
}

func (t *postgresTarget) settle(ctx context.Context) error {
	if _, err := t.writer.Exec(ctx, `SET synchronous_commit = on`); err != nil { // what is written from now on is little
		return err
	}
	_, err := t.writer.Exec(ctx, `ANALYZE `+strings.Join(movedTables, ", "))
	return err
}

func (t *postgresTarget) publish(ctx context.Context) error {
	_, err := t.writer.Exec(ctx, `DROP TABLE `+moveTable)
	return err
}

func (t *postgresTarget) close(ctx context.Context) error {
	failures := []error{t.postgresSide.close(ctx)}
	if t.writer != nil {
		failures = append(failures, t.writer.Close(ctx))
	}
	return errors.Join(failures...)
}
