package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// row is what QueryRow and Query have in common.
type row interface{ Scan(dest ...any) error }

// one reads one row, or returns none if there is no such row.
func one[T any](ctx context.Context, s *Store, step string, none error, scan func(row) (T, error), query string, args ...any) (item T, err error) {
	if !storable(args) {
		return item, none
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return item, s.failed(step, err)
	}
	defer cancel()
	item, err = scan(s.read.QueryRowContext(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return item, none
	}
	return item, s.failed(step, err)
}

// storable reports whether text can be in a database at all: PostgreSQL takes
// no NUL and nothing but UTF-8, and a client that asks for such an ID, as in
// the refresh token "gr_\u0000.…", is to be told that there is none.
func storable(args []any) bool {
	for _, arg := range args {
		if text, ok := arg.(string); ok && (!utf8.ValidString(text) || strings.ContainsRune(text, 0)) {
			return false
		}
	}
	return true
}

// list reads all rows.
func list[T any](ctx context.Context, s *Store, step string, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, s.failed(step, err)
	}
	defer cancel()
	all, err := rows(ctx, s.read, scan, query, args...)
	return all, s.failed(step, err)
}

func rows[T any](ctx context.Context, db *sql.DB, scan func(row) (T, error), query string, args ...any) (all []T, err error) {
	found, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		item, err := scan(found)
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, found.Err()
}

// exec carries out a statement by itself and tells how many rows it changed.
func (s *Store) exec(ctx context.Context, step, statement string, args ...any) (n int64, err error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return 0, s.failed(step, err)
	}
	defer cancel()
	err = s.persist(ctx, []fault{faultConflict}, func() (err error) {
		n, err = affected(s.write.ExecContext(ctx, statement, args...))
		return err
	})
	return n, s.failed(step, err)
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// transact carries out do in one transaction, and again if the database wants
// it repeated. A mistake of the caller's own comes back as it is.
func (s *Store) transact(ctx context.Context, step string, do func(context.Context, *sql.Tx) error) error {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return s.failed(step, err)
	}
	defer cancel()
	// A value that another has just taken is there to be seen the next time.
	err = s.persist(ctx, []fault{faultConflict, faultTaken}, func() error {
		tx, err := s.write.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := do(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
	var own *callerError
	if errors.As(err, &own) {
		return own.error
	}
	return s.failed(step, err)
}

// callerError is an error that did not come from the database, so that none of
// its faults is to blame.
type callerError struct{ error }

// persist tries again while the error is one of faults, until ctx ends.
func (s *Store) persist(ctx context.Context, faults []fault, try func() error) error {
	for {
		err := try()
		var own *callerError
		if err == nil || errors.As(err, &own) {
			return err
		}
		if !slices.Contains(faults, s.engine.fault(err)) || ctx.Err() != nil {
			return err
		}
		// Two that met once must not meet again in step.
		select {
		case <-time.After(time.Millisecond + rand.N(10*time.Millisecond)):
		case <-ctx.Done():
			return err
		}
	}
}
