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
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	readers     = 4
	busyTimeout = 5 * time.Second
)

func (s *Store) prepareSQLite(url string) error {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if !ok || path == "" || path == ":memory:" || strings.ContainsRune(path, 0) {
		return errors.New("users database: want sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")
	}
	s.name = path
	if err := s.openFile(path); err != nil {
		return fmt.Errorf("open users database %q: %w", path, explainSQLite(err))
	}
	return nil
}

func (s *Store) openFile(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := prepareFile(path); err != nil {
		return err
	}
	opened, err := os.Stat(path)
	if err != nil {
		return err
	}
	s.engine = engine{
		migrations: "migrations/sqlite",
		patience:   busyTimeout + time.Second,
		fit:        func() error { return sameFile(path, opened) },
		fault:      faultOfSQLite,
		explain:    explainSQLite,
	}
	// The order matters: waiting for a lock has to work before WAL, which two
	// first starts may want to set at once.
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)", // a commit is on the disk before it is acknowledged
		"foreign_keys(1)",
		"cache_size(-1000)",  // KiB for each connection
		"temp_store(MEMORY)", // a container may have no /tmp
	}
	if s.write, err = connect(path, 1, pragmas, "immediate"); err != nil {
		return err
	}
	if s.read, err = connect(path, readers, append(pragmas, "query_only(1)"), "deferred"); err != nil {
		return errors.Join(err, s.write.Close())
	}
	return nil
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

// sameFile refuses to go on with a file that has no name any more. Whoever
// removes or replaces it under a running gateway would have two databases: what
// the command line revokes would go into the new one and never be read, and
// what the gateway revokes would be gone after its next start.
func sameFile(path string, opened os.FileInfo) error {
	now, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case err != nil || !os.SameFile(opened, now):
		return errors.New("the file was removed or replaced while it was open: restart the gateway to use what is there now")
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

func faultOfSQLite(err error) fault {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		if errors.Is(err, context.DeadlineExceeded) {
			return faultAway
		}
		return faultBug
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM:
		return faultAway
	}
	return faultBug
}

func explainSQLite(err error) error {
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
