package sqlstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgQuerier sends statements to PostgreSQL. Those that return nothing wait until there is a question to ask or the
// transaction ends, and then go out together, rows for the same table in one statement: one round trip for all.
type pgQuerier struct {
	ctx     context.Context
	conn    *pgxpool.Conn
	texts   *insertTexts
	pending []heldStatement
	// asked says that something has been sent.
	asked bool
}

func (s *pgQuerier) exec(sql string, args ...any) error {
	s.pending = append(s.pending, heldStatement{sql, args})
	if len(s.pending) >= maxPending {
		return s.flush("", nil, nil)
	}
	return nil
}

func (s *pgQuerier) query(sql string, args []any, each func(row) error) error {
	return s.flush(sql, args, each)
}

// flush sends what is pending, and behind it a question whose rows each gets, when there is one.
func (s *pgQuerier) flush(question string, args []any, each func(row) error) (err error) {
	s.asked = true
	var batch pgx.Batch
	for _, statement := range s.texts.groupInserts(s.pending) {
		batch.Queue(statement.sql, statement.args...)
	}
	s.pending = nil
	commands := batch.Len()
	if question != "" {
		batch.Queue(question, args...)
	}
	results := s.conn.SendBatch(s.ctx, &batch)
	defer func() {
		if closeErr := results.Close(); closeErr != nil && err == nil {
			err = postgresError(s.ctx, "execute", closeErr)
		}
	}()
	for range commands {
		if _, err := results.Exec(); err != nil {
			return postgresError(s.ctx, "execute", err)
		}
	}
	if question == "" {
		return nil
	}
	rows, err := results.Query()
	if err != nil {
		return postgresError(s.ctx, "query", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(pgRow{rows.FieldDescriptions(), rows.RawValues()}); err != nil {
			return err
		}
	}
	return postgresError(s.ctx, "query", rows.Err())
}

// end ends the transaction.
func (s *pgQuerier) end(statement string) error {
	s.pending = append(s.pending, heldStatement{sql: statement})
	return s.flush("", nil, nil)
}

// pgRow reads the columns of one row in the format they came in.
type pgRow struct {
	fields []pgconn.FieldDescription
	values [][]byte
}

func (r pgRow) text(column int) string { return string(r.values[column]) }

func (r pgRow) texts(into []string) {
	var joined []byte
	for i := range into {
		joined = append(joined, r.values[i]...)
	}
	share(string(joined), into, func(i int) int { return len(r.values[i]) })
}

func (r pgRow) blob(column int) []byte { return append([]byte(nil), r.values[column]...) }

func (r pgRow) bytes(column int) []byte { return r.values[column] }

func (r pgRow) integer(column int) int64 {
	value := r.values[column]
	if r.fields[column].Format == pgtype.BinaryFormatCode {
		switch len(value) {
		case 8:
			return int64(binary.BigEndian.Uint64(value))
		case 4:
			return int64(int32(binary.BigEndian.Uint32(value)))
		}
	}
	number, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		panic("column is not an integer: " + err.Error()) // the schema says that it is
	}
	return number
}

func postgresError(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	// When the transaction was ended from here, that its context was canceled says nothing about the caller.
	failure := &engineError{unsent: pgconn.SafeToRetry(err)}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errNoLease):
		failure.err = fmt.Errorf("postgres: %s: the database is not this server's any more", doing)
	case errors.Is(cause, errNoAnswer):
		failure.err = fmt.Errorf("postgres: %s: %w", doing, errNoAnswer)
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded): // not the caller's: that of a connection to be made
		failure.err = fmt.Errorf("postgres: %s: %s", doing, err.Error())
	default:
		failure.err = fmt.Errorf("postgres: %s: %w", doing, err)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "53100" || refused.Code == "25006") { // disk full, read-only
		failure.message = diskFull
	}
	if refused != nil && failure.message == "" {
		failure.message = fenceMessage(refused)
	}
	return failure
}
