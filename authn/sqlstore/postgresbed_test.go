package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
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
	admin(t, p, "postgres", "CREATE DATABASE "+name)
	return p.URL(name)
}

// admin carries out statements as an operator would.
func admin(t testing.TB, p *authntest.Postgres, database string, statements ...string) {
	t.Helper()
	s, err := prepare(p.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, statement := range statements {
		if _, err := s.write.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func databaseOf(t testing.TB, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// with is a URL with one more parameter.
func with(text, parameter string) string { return text + "&" + parameter }

func closing(t testing.TB, s *Store, err error) *Store {
	t.Helper()
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

func openURL(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), url)
	return closing(t, s, err)
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

func wantBusy(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, authn.ErrBusy) {
		t.Errorf("%s = %v, want ErrBusy", what, err)
	}
}
