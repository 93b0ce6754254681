// Package sqlstore keeps users, sessions and revocations in an SQL database.
//
// Three words: a [Store] is the database; it has one connection that writes
// and a few that read; the revocation log is a table whose seq is the cursor.
//
// # Why
//
// Statements are what SQLite and PostgreSQL both accept: $1 placeholders, ON
// CONFLICT DO NOTHING instead of reading driver errors, times as integers, no
// type that only one of them has. Only the opening differs, and the numbered
// migrations.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Store is an authn.UserStore, authn.SessionStore and authn.RevocationLog. Any
// number of processes may have the same database open.
type Store struct {
	// Now is time.Now but in tests. It decides what has expired.
	Now func() time.Time

	// SQLite has one writer at a time. Our own queue in line for the one
	// connection; other processes are waited for by busy_timeout.
	write *sql.DB
	read  *sql.DB

	mu     sync.Mutex
	purged time.Time     // when expired rows were last dropped
	grown  chan struct{} // closed by the next Append of this process
}

const (
	readers     = 4
	busyTimeout = 5 * time.Second
)

// Open opens the database at url, "sqlite:PATH", and creates it if need be: the
// file with mode 0600, missing folders with 0700. The caller closes the Store.
func Open(ctx context.Context, url string) (*Store, error) {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if !ok || path == "" || path == ":memory:" || strings.ContainsRune(path, 0) {
		return nil, errors.New("users database: want sqlite:PATH")
	}
	s, err := open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open users database %q: %w", path, explain(err))
	}
	return s, nil
}

func open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := prepareFile(path); err != nil {
		return nil, err
	}
	s := &Store{Now: time.Now, grown: make(chan struct{})}
	// The order matters: waiting for a lock has to work before WAL, which two
	// first starts may want to set at once.
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)", // a commit is on the disk before it is acknowledged
		"foreign_keys(1)",
		"cache_size(-1000)", // KiB for each connection
	}
	if s.write, err = connect(path, 1, pragmas, "immediate"); err != nil {
		return nil, err
	}
	if s.read, err = connect(path, readers, append(pragmas, "query_only(1)"), "deferred"); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	if err := migrate(ctx, s.write); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepareFile makes the database file before SQLite does, which would go by
// the umask. SQLite gives the -wal and -shm files the mode of this one.
func prepareFile(path string) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		if info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(name, 0o600); err != nil {
			return fmt.Errorf("others may read password hashes: %w", err)
		}
	}
	return nil
}

func connect(path string, connections int, pragmas []string, lock string) (*sql.DB, error) {
	// A path may hold what has a meaning in a URI.
	name := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	query := url.Values{"_pragma": pragmas, "_txlock": {lock}}
	db, err := sql.Open("sqlite", name+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// explain adds what to do to the errors that operators meet.
func explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged or no SQLite database; restore it from a backup or move it away: %w", err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("the file and its folder must be writable, for the -wal and -shm files as well: %w", err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("another process keeps it locked: %w", err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the disk is full: %w", err)
	}
	return err
}

// Ping reports whether the database answers, for readiness.
func (s *Store) Ping(ctx context.Context) error {
	var version int
	err := s.read.QueryRowContext(ctx, `SELECT version FROM gatehouse_schema`).Scan(&version)
	if err != nil {
		return fmt.Errorf("users database: %w", explain(err))
	}
	return nil
}

// Close closes the database. It waits for statements under way.
func (s *Store) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}
