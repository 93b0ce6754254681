package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

// TestPostgres shares one server: what needs it to be well comes first.
func TestPostgres(t *testing.T) {
	p := authntest.StartPostgres(t, "fsync = off")
	for _, part := range []struct {
		name string
		test func(*testing.T, *authntest.Postgres)
	}{
		{"conformance", testPostgresConformance},
		{"highest cost", testPostgresHighestCost},
		{"processes", testPostgresProcesses},
		{"order", testRevocationOrder},
		{"rollback", testRolledBack},
		{"conflicts", testConflicts},
		{"settings", testSettings},
		{"pool", testPool},
		{"rights", testRights},
		{"wrong at first", testWrongAtFirst},
		{"tables gone", testTablesGone},
		{"restart", testRestart},
		{"hang", testHang},
		{"tls", testTLS},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, p) })
	}
}

func testPostgresConformance(t *testing.T, p *authntest.Postgres) {
	fresh := func(t *testing.T) *Store { return openURL(t, newDatabase(t, p)) }
	t.Run("users", func(t *testing.T) {
		authntest.TestUserStore(t, func(t *testing.T) authn.UserStore { return fresh(t) })
	})
	t.Run("sessions", func(t *testing.T) {
		authntest.TestSessionStore(t, func(t *testing.T) (authn.SessionStore, authn.UserStore) {
			s := fresh(t)
			s.Now = authntest.NewClock().Now
			return s, s
		})
	})
	t.Run("revocations", func(t *testing.T) {
		authntest.TestRevocationLog(t, func(t *testing.T) authn.RevocationLog { return fresh(t) })
	})
	// The other modes are for servers behind a pooler, which keep no prepared
	// statements.
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		fresh := func(t *testing.T) *Store { return openURL(t, with(newDatabase(t, p), "default_query_exec_mode="+mode)) }
		t.Run("list and delete, "+mode, func(t *testing.T) { testListAndDelete(t, fresh(t)) })
		t.Run("create users, "+mode, func(t *testing.T) { testCreateUsers(t, fresh(t)) })
		t.Run("purge, "+mode, func(t *testing.T) { testPurge(t, fresh(t)) })
	}
}

// What processes do to each other when they start, register and die.
func testPostgresProcesses(t *testing.T, p *authntest.Postgres) {
	t.Run("three first starts", func(t *testing.T) {
		for range 3 {
			url := newDatabase(t, p)
			var out []interface{ Scan() bool }
			for range 3 {
				_, scanner := startHelper(t, "open", url)
				out = append(out, scanner)
			}
			for i, o := range out {
				if !o.Scan() {
					t.Errorf("process %d did not open the database", i)
				}
			}
		}
	})
	url := newDatabase(t, p)
	s := openURL(t, url)
	t.Run("an address goes to one of them", func(t *testing.T) { testRivals(t, s, url) })
	t.Run("an address goes to one of two stores", func(t *testing.T) {
		stores := [2]*Store{s, openURL(t, url)}
		for round := range 10 {
			var created atomic.Int64
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					u := authn.User{ID: fmt.Sprint("r", round, "-", i), Email: fmt.Sprint("race", round, "@example.com")}
					switch err := stores[i%2].CreateUser(t.Context(), u); {
					case err == nil:
						created.Add(1)
					case !errors.Is(err, authn.ErrUserExists):
						t.Errorf("CreateUser = %v, want nil or ErrUserExists", err)
					}
				})
			}
			wg.Wait()
			if created.Load() != 1 {
				t.Errorf("round %d: %d were created, want 1", round, created.Load())
			}
		}
	})
	t.Run("what was acknowledged survives kill", func(t *testing.T) { testSurvivesKill(t, newDatabase(t, p)) })
}

// Numbers come from a sequence before rows can be seen. A reader that passes by
// a number whose row comes later never sees that revocation: the appends of one
// writer are held back between the two, as a busy server would.
func testRevocationOrder(t *testing.T, p *authntest.Postgres) {
	const writers, each = 8, 100
	url := newDatabase(t, p)
	reader := openURL(t, url)
	admin(t, p, databaseOf(t, url), `CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.seq % 7 = 0 THEN PERFORM pg_sleep(0.003); END IF; RETURN NEW; END $$`,
		`CREATE TRIGGER dawdle BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION dawdle()`)
	var wg sync.WaitGroup
	for w := range writers {
		s := openURL(t, url)
		wg.Go(func() {
			for i := range each {
				r := authn.Revocation{Kind: authn.RevokeToken, ID: fmt.Sprint(w, "-", i), Expires: time.Now().Add(time.Hour)}
				if err := s.Append(t.Context(), r); err != nil {
					t.Errorf("Append = %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen, cursor := map[string]int{}, ""
	read := func() int {
		entries, next, err := reader.Read(t.Context(), cursor, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			seen[e.ID]++
		}
		cursor = next
		return len(entries)
	}
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		read()
	}
	for read() > 0 {
	}
	if len(seen) != writers*each {
		t.Errorf("read %d of %d revocations", len(seen), writers*each)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("revocation %s was read %d times", id, times)
		}
	}
}

// A standby that lagged, or a backup, gives numbers out again that a reader has
// passed.
func testRolledBack(t *testing.T, p *authntest.Postgres) {
	url := newDatabase(t, p)
	s := openURL(t, url)
	add := func(id string) {
		t.Helper()
		if err := s.Append(t.Context(), authn.Revocation{Kind: authn.RevokeToken, ID: id, Expires: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a", "b", "lost1", "lost2"} {
		add(id)
	}
	list := authn.NewRevocationList(s, time.Now)
	if err := list.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	admin(t, p, databaseOf(t, url), `DELETE FROM revocations WHERE id LIKE 'lost%'`, `ALTER TABLE revocations ALTER COLUMN seq RESTART WITH 3`)
	add("new1")
	add("new2")
	go list.Follow(ctx)
	for _, id := range []string{"a", "lost1", "lost2", "new1", "new2"} {
		await(t, 5*time.Second, "revocation "+id, func() bool {
			return errors.Is(list.Check(ctx, &authn.Identity{Token: id}), authn.ErrInvalidToken)
		})
	}
	// What is lost is put back, for gateways that start from now on.
	await(t, 5*time.Second, "what was lost to be put back", func() bool {
		fresh := authn.NewRevocationList(s, time.Now)
		if err := fresh.Load(ctx); err != nil {
			t.Fatal(err)
		}
		entries, _, _ := fresh.State()
		return entries == 6
	})
	if n := list.Counts(); n.Losses != 1 || n.PutBack != 2 {
		t.Errorf("counts %+v, want one loss and two entries put back", n)
	}
}

func testConflicts(t *testing.T, p *authntest.Postgres) {
	ctx := t.Context()
	url := newDatabase(t, p)
	a, b := openURL(t, url), openURL(t, url)
	t.Run("batches in opposite order", func(t *testing.T) {
		for round := range 5 {
			var users [2][]authn.User
			const n = 200
			for i := range n {
				email := fmt.Sprint(round, "-", i, "@example.com")
				users[0] = append(users[0], authn.User{ID: fmt.Sprint("a", round, "-", i), Email: email})
				users[1] = append([]authn.User{{ID: fmt.Sprint("b", round, "-", i), Email: email}}, users[1]...)
			}
			var total atomic.Int64
			var wg sync.WaitGroup
			for i, s := range []*Store{a, b} {
				wg.Go(func() {
					created, err := s.CreateUsers(ctx, users[i])
					if err != nil {
						t.Errorf("CreateUsers = %v", err)
					}
					for _, c := range created {
						if c {
							total.Add(1)
						}
					}
				})
			}
			wg.Wait()
			if total.Load() != n {
				t.Errorf("%d created, want %d", total.Load(), n)
			}
		}
	})
	t.Run("two users want one address", func(t *testing.T) {
		for round := range 10 {
			var moved atomic.Int64
			var wg sync.WaitGroup
			for i, s := range []*Store{a, b} {
				id := fmt.Sprint("m", round, "-", i)
				if err := s.CreateUser(ctx, authn.User{ID: id, Email: id + "@example.com"}); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					err := s.UpdateUser(ctx, id, func(u *authn.User) error { u.Email = fmt.Sprint("moved", round, "@example.com"); return nil })
					switch {
					case err == nil:
						moved.Add(1)
					case !errors.Is(err, authn.ErrUserExists):
						t.Errorf("UpdateUser = %v, want nil or ErrUserExists", err)
					}
				})
			}
			wg.Wait()
			if moved.Load() != 1 {
				t.Errorf("%d users have the address, want 1", moved.Load())
			}
		}
	})
}

// Defaults that an operator chose for other programs do not weaken ours.
func testSettings(t *testing.T, p *authntest.Postgres) {
	url := newDatabase(t, p)
	name := databaseOf(t, url)
	admin(t, p, "postgres", "ALTER DATABASE "+name+" SET synchronous_commit = off",
		"ALTER DATABASE "+name+" SET default_transaction_isolation = 'serializable'")
	s := openURL(t, url)
	for setting, want := range map[string]string{
		"synchronous_commit": "on", "transaction_isolation": "read committed",
		"idle_in_transaction_session_timeout": "10s", "application_name": "gatehouse",
	} {
		var got string
		if err := s.read.QueryRow(`SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", setting, got, err, want)
		}
	}
	admin(t, p, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	if s, err := Open(t.Context(), p.URL("latin")); err == nil || !strings.Contains(err.Error(), "encoding LATIN1: want UTF8") {
		t.Errorf("Open of a LATIN1 database = %v, %v, want an error about its encoding", s, err)
	}
}

func testPool(t *testing.T, p *authntest.Postgres) {
	url := newDatabase(t, p)
	s := openURL(t, with(url, "pool_max_conns=2"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.read.Exec(`SELECT pg_sleep(0.01)`); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.read.Stats().OpenConnections; n > 2 {
		t.Errorf("%d connections are open, want at most 2", n)
	}
}

// Nothing but the first start needs the right to make tables.
func testRights(t *testing.T, p *authntest.Postgres) {
	address := newDatabase(t, p)
	name := databaseOf(t, address)
	admin(t, p, "postgres", `CREATE ROLE plain LOGIN PASSWORD 'plain'`)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("plain", "plain")
	s, err := Open(t.Context(), u.String())
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "must own the database") {
		t.Errorf("Open without the right to make tables = %v, want an error that says so", err)
	}
	openURL(t, address)
	admin(t, p, name, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain`)
	s = openURL(t, u.String())
	if err := s.CreateUser(t.Context(), authn.User{ID: "a", Email: "a@example.com"}); err != nil {
		t.Errorf("CreateUser = %v", err)
	}
	if err := s.Append(t.Context(), authn.Revocation{Kind: authn.RevokeToken, ID: "a", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Errorf("Append = %v", err)
	}
}
