package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/authn"
)

const (
	// pollEvery is how soon what another process appends is seen. One look is
	// a step to the end of an index, some ten microseconds of a database's time.
	pollEvery  = 100 * time.Millisecond
	readAtOnce = 10000
	purgeEvery = 10 * time.Minute
	// purgeAtOnce bounds what one request does for the others. More is dropped
	// by the next ones, so that no heap of old rows is too large to be dropped
	// in time.
	purgeAtOnce = 1000
)

// Append returns once r is on the disk.
func (s *Store) Append(ctx context.Context, r authn.Revocation) error {
	return s.add(ctx, "append revocation", []authn.Revocation{r})
}

// PutBack records what a database that was rolled back has lost. What several
// gateways put back is there several times, until it expires.
func (s *Store) PutBack(ctx context.Context, list []authn.Revocation) error {
	for part := range slices.Chunk(list, authn.RevocationPage) {
		if err := s.add(ctx, "put back revocations", part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) add(ctx context.Context, step string, list []authn.Revocation) error {
	var values strings.Builder
	var args []any
	for i, r := range list {
		if i > 0 {
			values.WriteString(", ")
		}
		n := len(args)
		fmt.Fprintf(&values, "(CAST($%d AS TEXT), CAST($%d AS TEXT), CAST($%d AS TEXT), CAST($%d AS BIGINT), CAST($%d AS BIGINT))", n+1, n+2, n+3, n+4, n+5)
		args = append(args, string(r.Kind), r.Issuer, r.ID, r.Generation, micros(r.Expires))
	}
	_, err := s.exec(ctx, step, `INSERT INTO revocations (kind, issuer, id, generation, expires)
		SELECT column1, column2, column3, column4, column5 FROM (VALUES `+values.String()+`) AS added`+s.engine.turn, args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()
	s.purge(ctx)
	return nil
}

// Read returns what follows cursor, waiting up to wait for the first entry.
// What this process appends it sees at once, what others do within pollEvery.
//
// If the entry that the cursor stands at is not there any more, the error is
// authn.ErrLogGap: either the database was rolled back (a failover to a standby
// that lagged, a restored backup), numbers that were read already are given a
// second time, and what was lost is to be put back; or the reader was away until
// even that entry had expired.
func (s *Store) Read(ctx context.Context, cursor string, wait time.Duration) ([]authn.Revocation, string, error) {
	at, err := parsePosition(cursor)
	if err != nil {
		return nil, "", err
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		grown := s.growth()
		entries, next, err := s.entries(ctx, at)
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		if errors.Is(err, authn.ErrLogGap) {
			return nil, "", err
		}
		if err != nil {
			return nil, "", fmt.Errorf("read revocations: %w", s.explained(err))
		}
		at = next
		if len(entries) > 0 || wait <= 0 {
			return entries, at.String(), nil
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-deadline.C:
			return nil, at.String(), nil
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

// A position is the last entry that was read: its number, and a hash of it,
// which tells it from another of the same number.
type position struct {
	seq int64
	sum string
}

func (p position) String() string {
	if p == (position{}) {
		return ""
	}
	return strconv.FormatInt(p.seq, 10) + "." + p.sum
}

func parsePosition(cursor string) (position, error) {
	if cursor == "" {
		return position{}, nil
	}
	number, sum, found := strings.Cut(cursor, ".")
	seq, err := strconv.ParseInt(number, 10, 64)
	if err != nil || seq < 1 || !found {
		return position{}, fmt.Errorf("cursor %q: want one that Read returned", cursor)
	}
	return position{seq, sum}, nil
}

// logged is an entry and where it stands.
type logged struct {
	authn.Revocation
	at position
}

func scanLogged(r row) (e logged, err error) {
	var expires int64
	err = r.Scan(&e.at.seq, &e.Kind, &e.Issuer, &e.ID, &e.Generation, &expires)
	e.Expires = fromMicros(expires)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d %d", e.Kind, e.Issuer, e.ID, e.Generation, expires))
	e.at.sum = hex.EncodeToString(sum[:8])
	return e, err
}

// entries are those that follow at, and where the last of them stands.
func (s *Store) entries(ctx context.Context, at position) ([]authn.Revocation, position, error) {
	limited, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, at, err
	}
	defer cancel()
	// The one at the cursor is read again, to see that it is still the same.
	found, err := rows(limited, s.read, scanLogged, `SELECT seq, kind, issuer, id, generation, expires
		FROM revocations WHERE seq >= $1 ORDER BY seq LIMIT $2`, at.seq, readAtOnce)
	if err != nil {
		return nil, at, err
	}
	if at != (position{}) {
		if len(found) == 0 || found[0].at != at {
			return nil, at, authn.ErrLogGap
		}
		found = found[1:]
	}
	entries := make([]authn.Revocation, len(found))
	for i, e := range found {
		entries[i], at = e.Revocation, e.at
	}
	return entries, at, nil
}

// purge, after a call that went well, drops some of what has expired, now and then. An error is no matter: it
// is tried again, and expired rows are ignored anyway. The last revocation
// stays whatever its age: those who follow the log stand there.
func (s *Store) purge(ctx context.Context) {
	now := s.Now()
	s.mu.Lock()
	due := !now.Before(s.due)
	if due {
		s.due = now.Add(purgeEvery)
	}
	s.mu.Unlock()
	if !due {
		return
	}
	sessions, err := s.exec(ctx, "purge", `DELETE FROM sessions WHERE id IN
		(SELECT id FROM sessions WHERE expires <= $1 LIMIT $2)`, micros(now), purgeAtOnce)
	if err != nil {
		return
	}
	revocations, _ := s.exec(ctx, "purge", `DELETE FROM revocations WHERE seq IN
		(SELECT seq FROM revocations WHERE expires <= $1 AND seq < (SELECT max(seq) FROM revocations) LIMIT $2)`,
		micros(now.Add(-authn.RevocationMargin)), purgeAtOnce)
	if sessions < purgeAtOnce && revocations < purgeAtOnce {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = now
}
