package authn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var someKey = &key{}

// remember puts the n-th of many tokens into v, which nobody has signed.
func remember(v *Verified, n uint64) *verifiedEntry {
	id := &Identity{
		ID: fmt.Sprintf("01JNQ8ZK%014d", n), Email: fmt.Sprintf("user%07d@example.com", n), Name: fmt.Sprintf("User Number %d", n),
		Roles: []string{"user", "editor"}, Token: fmt.Sprintf("%022d", n), Session: fmt.Sprintf("%026d", n),
		Issued: time.Unix(1e9, 0), Expires: time.Unix(1e10, 0),
	}
	e := v.entry(id, proof{key: someKey})
	e.hash = sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	v.set.add(e)
	e.identity.Keep(v, []string{e.identity.Email, "user,editor", e.identity.Name, e.identity.ID})
	return e
}

func (v *Verified) has(n uint64) bool {
	hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	e := v.set.find(&hash)
	if e != nil {
		e.use()
	}
	return e != nil
}

// TestVerifiedMemory: the promise is 100,000 tokens in 64 MB.
func TestVerifiedMemory(t *testing.T) {
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	const many = 100_000
	v := newVerifiedBed(t, "HS256", nil).verified
	before := heap()
	for n := range uint64(many) {
		remember(v, n)
	}
	for n := range uint64(many) {
		if !v.has(n) {
			t.Fatalf("token %d of %d is forgotten", n, many)
		}
	}
	size := heap() - before
	_, counted := v.count()
	t.Logf("%d tokens: %d bytes each, counted as %d", many, size/many, counted/many)
	if size > 64<<20 {
		t.Errorf("%d tokens take %d bytes, want at most 64 MB", many, size)
	}
	runtime.KeepAlive(v)

	// More than fit do not take more.
	const limit = 4 << 20
	v = NewVerified(VerifiedOptions{Tokens: v.provers[0].(*Tokens), Bytes: limit})
	before = heap()
	for n := range uint64(30_000) {
		remember(v, n)
	}
	if size := heap() - before; size < limit*8/10 || size > limit*11/10 {
		t.Errorf("%d bytes of tokens without end, want about %d", size, limit)
	}
	runtime.KeepAlive(v)
}

// TestVerifiedFlood: tokens that are good but shown once or twice displace
// hardly anybody who comes again and again.
func TestVerifiedFlood(t *testing.T) {
	b := newTokenBed(t, "HS256")
	v := NewVerified(VerifiedOptions{Tokens: b.Tokens, Bytes: 4 << 20})
	const regulars = 2000
	for round := range 3 {
		for n := range uint64(regulars) {
			if !v.has(n) && round == 0 {
				remember(v, n)
			}
		}
	}
	lost := 0
	next := uint64(1 << 32)
	for range 20 {
		for range 2000 {
			remember(v, next)
			v.has(next) // twice in all
			next++
		}
		for n := range uint64(regulars) {
			if !v.has(n) {
				lost++
				remember(v, n)
				v.has(n)
			}
		}
	}
	if lost > regulars/20 {
		t.Errorf("regular tokens were displaced %d times by %d others, want hardly ever", lost, next-1<<32)
	}
	if _, bytes := v.count(); bytes > 4<<20 {
		t.Errorf("%d bytes, want at most %d", bytes, 4<<20)
	}
}

// TestVerifiedAtOnce is for the race detector.
func TestVerifiedAtOnce(t *testing.T) {
	b := newVerifiedBed(t, "HS256", nil)
	v := NewVerified(VerifiedOptions{Tokens: b.Tokens, Checks: []Check{b.list.Check}, Bytes: 64 << 10})
	var tokens []string
	for range 100 {
		tokens = append(tokens, b.issue(t))
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 3 {
				for _, token := range tokens {
					id, err := v.Verify(t.Context(), token)
					if err != nil {
						t.Error(err)
						return
					}
					id.Keep(t, []string{id.Email})
					if kept := id.Kept(t); kept != nil && kept[0] != "ann@example.com" {
						t.Errorf("kept %q", kept)
					}
				}
				v.sweep()
			}
		})
	}
	running.Wait()
	if _, bytes := v.count(); bytes > 64<<10 {
		t.Errorf("%d bytes, want at most %d", bytes, 64<<10)
	}
}

func TestVerifiedRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	newVerifiedBed(t, "HS256", nil).verified.Run(ctx) // returns
}

// BenchmarkVerified is a token seen before, and one seen the first time beside
// golang-jwt's own parser.
func BenchmarkVerified(b *testing.B) {
	for _, algorithm := range []string{"HS256", "RS256", "ES256"} {
		bed := newVerifiedBed(b, algorithm, nil)
		token := bed.issue(b)
		b.Run(algorithm+"/seen", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bed.verified.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+"/unseen", func(b *testing.B) {
			hash := hashToken(token)
			b.ReportAllocs()
			for b.Loop() {
				hash[0]++ // another each time
				hash = sha256.Sum256(hash[:])
				if _, err := bed.verified.prove(b.Context(), token, hash); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+"/golang-jwt", func(b *testing.B) {
			parser := jwt.NewParser(jwt.WithValidMethods([]string{algorithm}), jwt.WithIssuer(bed.Issuer), jwt.WithAudience(bed.Audience),
				jwt.WithTimeFunc(bed.now), jwt.WithExpirationRequired())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parser.Parse(token, func(*jwt.Token) (any, error) { return bed.Keys.signer.public, nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
