package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
	"gatehouse/config"
)

// BenchmarkLogin and BenchmarkRefresh measure the stores under the service,
// with passwords that cost next to nothing to hash. All writes are on the disk
// when they are acknowledged.
func BenchmarkLogin(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, service *authn.Service) {
		users := benchmarkUsers(b, service)
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			me := users[int(next.Add(1))%len(users)]
			for pb.Next() {
				if _, err := service.Login(b.Context(), me, benchmarkPassword, benchmarkClient); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkRefresh(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, service *authn.Service) {
		users := benchmarkUsers(b, service)
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			me := users[int(next.Add(1))%len(users)]
			g, err := service.Login(b.Context(), me, benchmarkPassword, benchmarkClient)
			for pb.Next() && err == nil {
				g, err = service.Refresh(b.Context(), g.RefreshToken, benchmarkClient)
			}
			if err != nil {
				b.Error(err)
			}
		})
	})
}

// BenchmarkRevoke is what recording a revocation for good costs.
func BenchmarkRevoke(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, service *authn.Service) {
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				id := &authn.Identity{ID: "u", Token: fmt.Sprint("t", next.Add(1)), Expires: service.Now().Add(service.Tokens.TTL)}
				if err := service.RevokeToken(b.Context(), id); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

const benchmarkPassword = "correct horse battery staple"

var benchmarkClient = authn.Client{Address: netip.MustParseAddr("192.0.2.1"), UserAgent: "benchmark"}

// benchmarkStores runs measure on SQLite and on PostgreSQL, with sixteen at once
// as a busy gateway has.
func benchmarkStores(b *testing.B, measure func(*testing.B, *authn.Service)) {
	server := authntest.StartPostgres(b)
	for _, kind := range []string{"sqlite", "postgres"} {
		b.Run(kind, func(b *testing.B) {
			database := "sqlite"
			if kind == "postgres" {
				database = server.URL("postgres")
			}
			yaml := fmt.Sprintf("data_dir: %s\nusers: {database: %q, bcrypt_cost: 4, throttle: {attempts: 1000}}\nroutes: [{path: /, upstream: \"echo:\"}]\n", b.TempDir(), database)
			cfg, err := config.Parse(filepath.Join(b.TempDir(), "gateway.yaml"), []byte(yaml), nil)
			if err != nil {
				b.Fatal(err)
			}
			s, err := openStores(b.Context(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			acc, err := s.accounts(cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(8)
			b.ResetTimer()
			measure(b, acc.service)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func benchmarkUsers(b *testing.B, service *authn.Service) (emails []string) {
	for i := range 16 {
		email := fmt.Sprintf("u%d@example.com", i)
		_, err := service.AddUser(b.Context(), email, benchmarkPassword, "", nil)
		if err != nil && !errors.Is(err, authn.ErrUserExists) { // from a shorter run before
			b.Fatal(err)
		}
		emails = append(emails, email)
	}
	b.ResetTimer()
	return emails
}
