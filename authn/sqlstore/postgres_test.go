package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

var databases atomic.Int64

// newDatabase is the URL of an empty database of its own.
func newDatabase(t testing.TB, p *authntest.Postgres) string {
	t.Helper()
	name := fmt.Sprint("test", databases.Add(1))
	admin(t, p, "CREATE DATABASE "+name)
	return p.URL(name)
}

// admin carries out a statement as an operator would.
func admin(t testing.TB, p *authntest.Postgres, statement string) {
	t.Helper()
	s, err := prepare(p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.write.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func openURL(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

// await asks again until a server that was started, stopped or hung is seen to
// be so.
func await(t *testing.T, within time.Duration, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !reached(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}

// TestPostgres shares one server: what needs it to be well comes first.
func TestPostgres(t *testing.T) {
	p := authntest.StartPostgres(t, "fsync = off")
	for _, part := range []struct {
		name string
		test func(*testing.T, *authntest.Postgres)
	}{
		{"conformance", testPostgresConformance},
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
}

var _ = strings.Contains
