package sqlstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

// openLater is for a server that is not as it should be.
func openLater(t *testing.T, url string) *Store {
	t.Helper()
	s, err := OpenLater(t.Context(), url, 100*time.Millisecond)
	return closing(t, s, err)
}

// A gateway that is started with a mistake, or before its database, says what
// is wrong and comes good without a restart.
func testWrongAtFirst(t *testing.T, p *authntest.Postgres) {
	good := newDatabase(t, p)
	password, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "correct-horse"
	password.User = url.UserPassword("late", secret)
	admin(t, p, "postgres", `CREATE ROLE late LOGIN PASSWORD 'another' SUPERUSER`)
	for _, c := range []struct {
		name, url, want, mend string
	}{
		{"wrong password", password.String(), "user or password is wrong", `ALTER ROLE late PASSWORD '` + secret + `'`},
		{"missing database", p.URL("later"), "make the database", `CREATE DATABASE later`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s, err := Open(t.Context(), c.url); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Open = %v, %v, want an error of one line with %q and no password", s, err, c.want)
			}
			s := openLater(t, c.url)
			await(t, 5*time.Second, "the reason", func() bool {
				err := s.Ping(t.Context())
				return err != nil && strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), secret)
			})
			_, err := s.UserByID(t.Context(), "a")
			wantBusy(t, "UserByID", err)
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the password: %v", err)
			}
			list := authn.NewRevocationList(s, time.Now)
			if err := list.Load(t.Context()); err == nil {
				t.Error("revocations were loaded from nowhere")
			}
			admin(t, p, "postgres", c.mend)
			await(t, 10*time.Second, "the store to come good", func() bool { return s.Ping(t.Context()) == nil })
			if _, err := s.UserByID(t.Context(), "a"); !errors.Is(err, authn.ErrUserNotFound) {
				t.Errorf("UserByID = %v, want ErrUserNotFound", err)
			}
			if err := list.Load(t.Context()); err != nil {
				t.Errorf("Load = %v", err)
			}
		})
	}
	t.Run("no server", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		began := time.Now()
		s := openLater(t, "postgres://u:"+secret+"@"+l.Addr().String()+"/db")
		if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), secret) {
			t.Errorf("Ping = %v, want connection refused", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v to go on without a server", took)
		}
	})
}

// An empty database in the place of the one that was there, as a container
// without a volume has after its restart.
func testTablesGone(t *testing.T, p *authntest.Postgres) {
	address := newDatabase(t, p)
	s := openLater(t, address)
	await(t, 5*time.Second, "the store to be open", func() bool { return s.Ping(t.Context()) == nil })
	if err := s.CreateUser(t.Context(), authn.User{ID: "a", Email: "a@example.com"}); err != nil {
		t.Fatal(err)
	}
	admin(t, p, databaseOf(t, address), `DROP SCHEMA public CASCADE`, `CREATE SCHEMA public`)
	_, err := s.UserByID(t.Context(), "a")
	wantBusy(t, "UserByID", err)
	await(t, 5*time.Second, "new tables", func() bool {
		_, err := s.UserByID(t.Context(), "a")
		return errors.Is(err, authn.ErrUserNotFound)
	})
}

// Connections that died are replaced, however the server ended, and nothing
// that was acknowledged is gone.
func testRestart(t *testing.T, p *authntest.Postgres) {
	s := openURL(t, newDatabase(t, p))
	list := authn.NewRevocationList(s, time.Now)
	if err := list.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go list.Follow(ctx)
	for i, end := range []struct {
		name string
		end  func()
	}{{"stop", p.Stop}, {"kill", p.Kill}} {
		t.Run(end.name, func(t *testing.T) {
			id := fmt.Sprint("u", i)
			if err := s.CreateUser(ctx, authn.User{ID: id, Email: id + "@example.com"}); err != nil {
				t.Fatal(err)
			}
			revoked := authn.Revocation{Kind: authn.RevokeToken, ID: id, Expires: time.Now().Add(time.Hour)}
			if err := list.Revoke(ctx, revoked); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup // several connections, all of which will be dead
			for range poolSize {
				wg.Go(func() { s.read.ExecContext(ctx, `SELECT pg_sleep(0.05)`) })
			}
			wg.Wait()
			end.end()
			_, err := s.UserByID(ctx, id)
			wantBusy(t, "UserByID without a server", err)
			if err := list.Revoke(ctx, revoked); !errors.Is(err, authn.ErrRevocation) {
				t.Errorf("Revoke without a server = %v, want ErrRevocation", err)
			}
			await(t, 5*time.Second, "the list to notice", func() bool { _, _, err := list.State(); return err != nil })
			p.Start()
			await(t, 5*time.Second, "the store to heal", func() bool { return s.Ping(ctx) == nil })
			if _, err := s.UserByID(ctx, id); err != nil {
				t.Errorf("UserByID after a restart = %v", err)
			}
			await(t, 5*time.Second, "the list to heal", func() bool { _, _, err := list.State(); return err == nil })
			again := authn.NewRevocationList(s, time.Now)
			if err := again.Load(ctx); err != nil {
				t.Fatal(err)
			}
			if err := again.Check(ctx, &authn.Identity{Token: id}); !errors.Is(err, authn.ErrInvalidToken) {
				t.Errorf("Check of what was revoked before = %v, want ErrInvalidToken", err)
			}
		})
	}
}

// A server that hangs keeps connections open and says nothing. No call waits
// for it longer than it may, however many there are.
func testHang(t *testing.T, p *authntest.Postgres) {
	s := openURL(t, newDatabase(t, p))
	if err := s.CreateUser(t.Context(), authn.User{ID: "a", Email: "a@example.com"}); err != nil {
		t.Fatal(err)
	}
	p.Pause()
	defer p.Resume()
	calls := map[string]func(context.Context) error{
		"UserByID":      func(ctx context.Context) error { _, err := s.UserByID(ctx, "a"); return err },
		"CreateUser":    func(ctx context.Context) error { return s.CreateUser(ctx, authn.User{ID: "b", Email: "b@example.com"}) },
		"UpdateUser":    func(ctx context.Context) error { return s.UpdateUser(ctx, "a", func(*authn.User) error { return nil }) },
		"RotateSession": func(ctx context.Context) error { _, err := s.RotateSession(ctx, "x", authn.Session{}); return err },
		"Append": func(ctx context.Context) error {
			return s.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: "a", Expires: time.Now().Add(time.Hour)})
		},
	}
	began := time.Now()
	var wg sync.WaitGroup
	for name, call := range calls {
		for range poolSize { // more than there are connections
			wg.Go(func() { wantBusy(t, name, call(context.Background())) })
		}
	}
	wg.Wait()
	if took := time.Since(began); took > postgresPatience+time.Second {
		t.Errorf("calls took %v, want at most %v", took, postgresPatience)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began = time.Now()
	if err := s.Ping(ctx); err == nil || !strings.Contains(err.Error(), "no answer in time") || time.Since(began) > time.Second {
		t.Errorf("Ping = %v after %v, want no answer in time", err, time.Since(began))
	}
	p.Resume()
	await(t, 5*time.Second, "the store to heal", func() bool { return s.Ping(t.Context()) == nil })
	for name, call := range calls {
		if err := call(t.Context()); err != nil && !errors.Is(err, authn.ErrUserExists) {
			t.Errorf("%s afterwards = %v", name, err)
		}
	}
}

// TLS is as the URL says; its files are read again for each connection.
func testTLS(t *testing.T, p *authntest.Postgres) {
	cert, key := certificate(t)
	p.Put("server.crt", cert)
	p.Put("server.key", key)
	root := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(root, []byte(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	address := newDatabase(t, p)
	admin(t, p, "postgres", "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
	secure := strings.Replace(address, "sslmode=disable", "sslmode=verify-full&sslrootcert="+url.QueryEscape(root), 1)
	s := openLater(t, secure)
	await(t, 5*time.Second, "the server to offer TLS", func() bool { return s.Ping(t.Context()) == nil })
	var encrypted bool
	if err := s.read.QueryRow(`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&encrypted); err != nil || !encrypted {
		t.Errorf("the connection is encrypted: %v, %v", encrypted, err)
	}
	other, _ := certificate(t)
	if err := os.WriteFile(root, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), secure); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Open with the certificate of another = %v, %v, want an error about it", s, err)
	}
}

// certificate is a new one for 127.0.0.1, signed by itself.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postgres"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// What is wrong with a URL is said without showing the password, also where a
// parser takes part of it for something else.
func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://u:hunter2@db/x":                                                   "",
		"postgresql://u:hunter2@db:5433/x?sslmode=require":                            "",
		"postgres://u:hunter2@a:5432,b:5433/x":                                        "",
		"postgres://u:hunter2@/x?host=/run/postgresql":                                "",
		"postgres://u:hunter2@db/x?pool_max_conns=5":                                  "",
		"postgres://u:hunter2/more@db/x":                                              "want postgres://USER",
		"postgres://u:hunter2%zz@db/x":                                                "want postgres://USER",
		"postgres://u:hunter2#more@db/x":                                              "want postgres://USER",
		"postgres://u:hunter2@db:port/x":                                              "want postgres://USER",
		"postgres://u:hunter2@db/x?sslmode=sometimes":                                 "sslmode",
		"postgres://u:hunter2@db/x?sslmode=verify-full&sslrootcert=/nowhere/root.crt": "/nowhere/root.crt",
		"postgres://u:hunter2@db/x?pool_max_conns=0":                                  "pool_max_conns: want 1 to",
		"postgres://u:hunter2@db/x?target_session_attrs=hunter2":                      "",
		"postgres://u@db/x?password=hunter2&connect_timeout=hunter2":                  "the URL has a parameter",
	} {
		err := CheckURL(text)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("CheckURL(%q) shows the password: %v", text, err)
		}
		switch {
		case strings.Contains(text, "attrs=hunter2"):
			if err == nil {
				t.Errorf("CheckURL(%q): no error", text)
			}
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("CheckURL(%q) = %v, want %q", text, err, want)
		}
	}
}
