package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	return openURL(t, "sqlite:"+path)
}

func openTemp(t *testing.T) *Store {
	return openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
}

func TestConformance(t *testing.T) {
	t.Run("users", func(t *testing.T) {
		authntest.TestUserStore(t, func(t *testing.T) authn.UserStore { return openTemp(t) })
	})
	t.Run("sessions", func(t *testing.T) {
		authntest.TestSessionStore(t, func(t *testing.T) (authn.SessionStore, authn.UserStore) {
			s := openTemp(t)
			s.Now = authntest.NewClock().Now
			return s, s
		})
	})
	t.Run("revocations", func(t *testing.T) {
		authntest.TestRevocationLog(t, func(t *testing.T) authn.RevocationLog { return openTemp(t) })
	})
}

func TestListAndDelete(t *testing.T) { testListAndDelete(t, openTemp(t)) }

func testListAndDelete(t *testing.T, s *Store) {
	ctx := context.Background()
	if empty, err := s.Empty(ctx); err != nil || !empty {
		t.Errorf("Empty = %v, %v, want true", empty, err)
	}
	for _, name := range []string{"b", "a", "C"} {
		if err := s.CreateUser(ctx, authn.User{ID: name, Email: name + "@example.com"}); err != nil {
			t.Fatal(err)
		}
	}
	session := authn.Session{ID: "s", UserID: "a", Expires: time.Now().Add(time.Hour)}
	if err := s.CreateSession(ctx, session); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteUser(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteUser(ctx, "a"); !errors.Is(err, authn.ErrUserNotFound) {
		t.Errorf("second DeleteUser = %v, want ErrUserNotFound", err)
	}
	if _, err := s.SessionByID(ctx, "s"); !errors.Is(err, authn.ErrSessionNotFound) {
		t.Errorf("session of a deleted user: %v, want ErrSessionNotFound", err)
	}
	if empty, err := s.Empty(ctx); err != nil || empty {
		t.Errorf("Empty = %v, %v, want false", empty, err)
	}
	users, err := s.List(ctx)
	if err != nil || len(users) != 2 || users[1].ID != "b" || users[0].ID != "C" {
		t.Errorf("List = %+v, %v, want C, b", users, err)
	}
}

func TestCreateUsers(t *testing.T) { testCreateUsers(t, openTemp(t)) }

func testCreateUsers(t *testing.T, s *Store) {
	ctx := context.Background()
	if err := s.CreateUser(ctx, authn.User{ID: "old", Email: "b@example.com", Name: "Bob"}); err != nil {
		t.Fatal(err)
	}
	created, err := s.CreateUsers(ctx, []authn.User{
		{ID: "1", Email: "c@example.com"}, {ID: "2", Email: "b@example.com"}, {ID: "3", Email: "a@example.com"}, {ID: "4", Email: "c@example.com"},
	})
	if err != nil || !slices.Equal(created, []bool{true, false, true, false}) {
		t.Errorf("CreateUsers = %v, %v, want the first and the third", created, err)
	}
	if u, err := s.UserByEmail(ctx, "b@example.com"); err != nil || u.ID != "old" || u.Name != "Bob" {
		t.Errorf("the account that was there = %+v, %v, want it unchanged", u, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.CreateUsers(ended, []authn.User{{ID: "5", Email: "e@example.com"}}); err == nil {
		t.Error("CreateUsers with an ended context: no error")
	}
	if _, err := s.UserByID(ctx, "5"); !errors.Is(err, authn.ErrUserNotFound) {
		t.Errorf("UserByID of one whose batch failed = %v, want ErrUserNotFound", err)
	}
}

func TestFileModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "new", "data")
	path := filepath.Join(dir, "gate#house ?%.db")
	s := openAt(t, path)
	if err := s.CreateUser(context.Background(), authn.User{ID: "a", Email: "a@example.com"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{filepath.Dir(dir): 0o700, dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600}
	for name, mode := range want {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %o", name, info, err, mode)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("folder has %v, %v, want the three files", entries, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a readable database after Open = %o, want 600", info.Mode().Perm())
	}
}

func TestOpenErrors(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	damaged := filepath.Join(dir, "damaged.db")
	if err := os.WriteFile(damaged, []byte(strings.Repeat("this is no database\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	s := openAt(t, newer)
	if _, err := s.write.Exec(`UPDATE gatehouse_schema SET version = 99`); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"":                              "want sqlite:PATH",
		"sqlite:":                       "want sqlite:PATH",
		"sqlite::memory:":               "want sqlite:PATH",
		"mysql://u:secret@localhost/db": "want sqlite:PATH",
		"sqlite:" + damaged:             "damaged or no SQLite database",
		"sqlite:" + newer:               "schema is version 99",
		"sqlite:" + dir:                 "is a directory",
		"sqlite:/proc/gatehouse.db":     `open users database "/proc/gatehouse.db"`,
	} {
		s, err := Open(ctx, url)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%q) = %v, want an error with %q", url, err, want)
		}
	}
}

func TestReadOnlyFolder(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("as root, whom no mode stops: a file that cannot be replaced stands in for the folder")
	}
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	s, err := Open(context.Background(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// SQLite cannot make its -wal file where there is a folder of that name.
	if err := os.Mkdir(path+"-wal", 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(context.Background(), "sqlite:"+path); err == nil {
		s.Close()
		t.Fatal("Open without a place for the -wal file: no error")
	}
	if !strings.Contains(err.Error(), "-wal") {
		t.Errorf("Open = %v, want the file named", err)
	}
}

func TestManyFirstStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(context.Background(), "sqlite:"+path)
			if err != nil {
				t.Errorf("Open = %v", err)
				return
			}
			if err := s.Ping(context.Background()); err != nil {
				t.Errorf("Ping = %v", err)
			}
			s.Close()
		})
	}
	wg.Wait()
}

func TestPurge(t *testing.T) { testPurge(t, openTemp(t)) }

func testPurge(t *testing.T, s *Store) {
	ctx := context.Background()
	clock := authntest.NewClock()
	s.Now = clock.Now
	if err := s.CreateUser(ctx, authn.User{ID: "a", Email: "a@example.com"}); err != nil {
		t.Fatal(err)
	}
	add := func(id string, life time.Duration) {
		t.Helper()
		err := errors.Join(
			s.CreateSession(ctx, authn.Session{ID: id, UserID: "a", Expires: clock.Now().Add(life)}),
			s.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: id, Expires: clock.Now().Add(life)}))
		if err != nil {
			t.Fatal(err)
		}
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := s.read.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	add("short", time.Hour)
	add("long", 2*time.Hour)
	_, cursor, err := s.Read(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	clock.Move(time.Hour + authn.RevocationMargin - time.Second)
	add("next", 3*time.Hour)
	if sessions, revocations := count("sessions"), count("revocations"); sessions != 2 || revocations != 3 {
		t.Errorf("within the margin: %d sessions, %d revocations, want 2, 3", sessions, revocations)
	}
	clock.Move(purgeEvery)
	add("last", time.Hour)
	if sessions, revocations := count("sessions"), count("revocations"); sessions != 3 || revocations != 3 {
		t.Errorf("afterwards: %d sessions, %d revocations, want 3, 3", sessions, revocations)
	}
	// Those who follow the log stand at its last entry, which stays.
	_, follower, err := s.Read(ctx, cursor, 0)
	if err != nil {
		t.Fatal(err)
	}
	clock.Move(24 * time.Hour)
	s.purge(ctx)
	if n := count("revocations"); n != 1 {
		t.Fatalf("%d revocations left, want the last", n)
	}
	add("after", time.Hour)
	if entries, _, err := s.Read(ctx, follower, 0); err != nil || len(entries) != 1 || entries[0].ID != "after" {
		t.Errorf("Read after a purge = %+v, %v, want after", entries, err)
	}
	// Who was away for so long begins again.
	if entries, _, err := s.Read(ctx, cursor, 0); !errors.Is(err, authn.ErrLogGap) {
		t.Errorf("Read from a cursor that was dropped = %+v, %v, want ErrLogGap", entries, err)
	}
}

func TestPragmas(t *testing.T) {
	s := openTemp(t)
	for name, db := range map[string]*sql.DB{"writer": s.write, "reader": s.read} {
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		} {
			var got string
			if err := db.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s = %q, %v, want %q", name, pragma, got, err, want)
			}
		}
	}
	if _, err := s.read.Exec(`DELETE FROM users`); err == nil {
		t.Error("a reading connection wrote")
	}
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "gatehouse.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := 0; b.Loop(); i++ {
		r := authn.Revocation{Kind: authn.RevokeToken, ID: fmt.Sprint(i), Expires: time.Now().Add(time.Hour)}
		if err := s.Append(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdleRead is what following the log costs ten times a second.
func BenchmarkIdleRead(b *testing.B) {
	s, err := Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "gatehouse.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if _, _, err := s.Read(context.Background(), "", 0); err != nil {
			b.Fatal(err)
		}
	}
}

// What expires beyond every calendar is kept; its time must not turn negative.
func TestFarExpiry(t *testing.T) {
	ctx := t.Context()
	url := "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db")
	far := authn.Revocation{Kind: authn.RevokeToken, ID: "far", Expires: time.Unix(1<<53, 0)}
	for _, write := range []bool{true, false} { // and after a restart
		s, err := Open(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		if write {
			if err := s.Append(ctx, far); err != nil {
				t.Fatal(err)
			}
		}
		found, _, err := s.Read(ctx, "", 0)
		if err != nil || len(found) != 1 || found[0].Expires.Year() < 200_000 {
			t.Errorf("Read = %+v, %v, want the revocation with its far expiry", found, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
