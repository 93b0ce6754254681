package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

// What happens to the file of an SQLite database while a gateway has it open.

func createUser(s *Store, id string) error {
	return s.CreateUser(context.Background(), authn.User{ID: id, Email: id + "@example.com"})
}

func TestFileReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	s := openAt(t, path)
	if err := createUser(s, "a"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"removed", func() error { return os.Rename(path, path+".old") }},
		{"another in its place", func() error { return os.WriteFile(path, nil, 0o600) }},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		_, byID := s.UserByID(t.Context(), "a")
		wantBusy(t, c.name+": UserByID", byID)
		revoked := authn.Revocation{Kind: authn.RevokeToken, ID: "a", Expires: time.Now().Add(time.Hour)}
		wantBusy(t, c.name+": Append", s.Append(t.Context(), revoked))
		_, _, read := s.Read(t.Context(), "", 0)
		ping := s.Ping(t.Context())
		for what, err := range map[string]error{"Read": read, "Ping": ping} {
			if err == nil || !strings.Contains(err.Error(), "restart the gateway") {
				t.Errorf("%s: %s = %v, want an error that says what to do", c.name, what, err)
			}
		}
	}
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UserByID(t.Context(), "a"); err != nil {
		t.Errorf("UserByID with the file in its place again = %v", err)
	}
}

// A full disk refuses what has to be written, and nothing else, until there is
// room again.
func TestDiskFull(t *testing.T) {
	s := openTemp(t)
	if err := createUser(s, "a"); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		if _, err := s.write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		err = createUser(s, fmt.Sprint("u", i))
	}
	wantBusy(t, "CreateUser on a full disk", err)
	if !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("CreateUser on a full disk = %v, want the reason", err)
	}
	if _, err := s.UserByID(t.Context(), "a"); err != nil {
		t.Errorf("UserByID on a full disk = %v", err)
	}
	limit(1 << 20)
	if err := createUser(s, "afterwards"); err != nil {
		t.Errorf("CreateUser with room again = %v", err)
	}
}

// A process that keeps the write lock holds up nobody for longer than a call
// may take, however many wait in line; reading goes on.
func TestLockedByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	s := openAt(t, path)
	s.engine.patience = 300 * time.Millisecond
	if err := createUser(s, "a"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { wantBusy(t, "CreateUser", createUser(s, fmt.Sprint("u", i))) })
	}
	if _, err := s.UserByID(t.Context(), "a"); err != nil {
		t.Errorf("UserByID beside a lock = %v", err)
	}
	wg.Wait()
	if took := time.Since(began); took > busyTimeout+2*time.Second {
		t.Errorf("20 calls took %v", took)
	}
	if _, err := conn.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := createUser(s, "afterwards"); err != nil {
		t.Errorf("CreateUser afterwards = %v", err)
	}
}

// A file whose pages were overwritten is told as such. It is no reason to try
// again, and nothing is made up from what is left.
func TestDamagedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	s := openAt(t, path)
	for i := range 300 {
		if err := createUser(s, fmt.Sprint("u", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	garbage := []byte(strings.Repeat("\xde\xad", 2048))
	for at := int64(4096); at < info.Size(); at += 4096 {
		if _, err := f.WriteAt(garbage, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// What the process has in memory it may still answer from.
	damaged := openAgain(t, path)
	_, err = damaged.UserByEmail(t.Context(), "u7@example.com")
	if err == nil || errors.Is(err, authn.ErrUserNotFound) || errors.Is(err, authn.ErrBusy) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("UserByEmail in a damaged file = %v, want an error that says so", err)
	}
	if err := damaged.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Ping of a damaged file = %v, want an error that says so", err)
	}
}

// openAgain opens without looking at the schema.
func openAgain(t *testing.T, path string) *Store {
	t.Helper()
	s, err := prepare("sqlite:" + path)
	if err != nil {
		t.Fatal(err)
	}
	s.setClosed(nil)
	t.Cleanup(func() { s.Close() })
	return s
}
