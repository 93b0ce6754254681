package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"gatehouse/authn"
)

const (
	// pollEvery is how soon what another process appends is seen. One look is
	// a step to the end of an index, some ten microseconds.
	pollEvery  = 100 * time.Millisecond
	readAtOnce = 10000
	purgeEvery = 10 * time.Minute
)

// Append returns once r is on the disk.
func (s *Store) Append(ctx context.Context, r authn.Revocation) error {
	s.purge(ctx)
	_, err := s.write.ExecContext(ctx,
		`INSERT INTO revocations (kind, issuer, id, generation, expires) VALUES ($1, $2, $3, $4, $5)`,
		string(r.Kind), r.Issuer, r.ID, r.Generation, micros(r.Expires))
	if err != nil {
		return failed("append revocation", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
	return nil
}

// Read returns what follows cursor, waiting up to wait for the first entry.
// What this process appends it sees at once, what others do within pollEvery.
func (s *Store) Read(ctx context.Context, cursor string, wait time.Duration) ([]authn.Revocation, string, error) {
	after := int64(0)
	if cursor != "" {
		var err error
		if after, err = strconv.ParseInt(cursor, 10, 64); err != nil || after < 0 {
			return nil, "", fmt.Errorf("cursor %q: want one that Read returned", cursor)
		}
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		grown := s.growth()
		entries, last, err := s.entries(ctx, after)
		if err != nil {
			return nil, "", err
		}
		if len(entries) > 0 || wait <= 0 {
			return entries, strconv.FormatInt(last, 10), nil
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-deadline.C:
			return nil, strconv.FormatInt(after, 10), nil
		case <-grown:
		case <-time.After(pollEvery):
		}
	}
}

func (s *Store) growth() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grown
}

func (s *Store) entries(ctx context.Context, after int64) ([]authn.Revocation, int64, error) {
	last := after
	scan := func(r row) (e authn.Revocation, err error) {
		var expires int64
		err = r.Scan(&last, &e.Kind, &e.Issuer, &e.ID, &e.Generation, &expires)
		e.Expires = fromMicros(expires)
		return e, failed("read revocation", err)
	}
	found, err := list(ctx, s.read, scan, `SELECT seq, kind, issuer, id, generation, expires
		FROM revocations WHERE seq > $1 ORDER BY seq LIMIT $2`, after, readAtOnce)
	return found, last, err
}

// purge drops what has expired, now and then. An error is no matter: it is
// tried again, and expired rows are ignored anyway.
func (s *Store) purge(ctx context.Context) {
	now := s.Now()
	s.mu.Lock()
	due := now.Sub(s.purged) >= purgeEvery
	if due {
		s.purged = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	_, _ = s.write.ExecContext(ctx, `DELETE FROM sessions WHERE expires <= $1`, micros(now))
	_, _ = s.write.ExecContext(ctx, `DELETE FROM revocations WHERE expires <= $1`, micros(now.Add(-authn.RevocationMargin)))
}

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}
