package authn_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

var ctx = context.Background()

// listBed is a list that has read its log, and the clock it goes by.
type listBed struct {
	t     *testing.T
	clock *authntest.Clock
	log   *brokenLog
	*authn.RevocationList
}

// brokenLog fails while broken is set.
type brokenLog struct {
	authn.MemoryStore
	broken atomic.Bool
}

var errBroken = errors.New("the log cannot be reached")

func (l *brokenLog) Append(ctx context.Context, r authn.Revocation) error {
	if l.broken.Load() {
		return errBroken
	}
	return l.MemoryStore.Append(ctx, r)
}

func (l *brokenLog) Read(ctx context.Context, cursor string, wait time.Duration) ([]authn.Revocation, string, error) {
	if l.broken.Load() {
		return nil, "", errBroken
	}
	return l.MemoryStore.Read(ctx, cursor, wait)
}

func newListBed(t *testing.T) *listBed {
	b := &listBed{t: t, clock: authntest.NewClock(), log: new(brokenLog)}
	b.RevocationList = authn.NewRevocationList(b.log, b.clock.Now)
	if err := b.Load(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *listBed) in(d time.Duration) time.Time { return b.clock.Now().Add(d) }

func (b *listBed) revoke(r authn.Revocation) {
	b.t.Helper()
	if err := b.Revoke(ctx, r); err != nil {
		b.t.Fatalf("Revoke(%+v) = %v", r, err)
	}
}

func (b *listBed) allow(id authn.Identity) {
	b.t.Helper()
	if err := b.Check(ctx, &id); err != nil {
		b.t.Errorf("Check(%+v) = %v, want nil", id, err)
	}
}

func (b *listBed) deny(id authn.Identity, cause string) {
	b.t.Helper()
	err := b.Check(ctx, &id)
	if r := authn.AsRefusal(err); !errors.Is(err, authn.ErrInvalidToken) || r.Cause() != cause || r.Description != "The token was revoked" {
		b.t.Errorf("Check(%+v) = %+v, want invalid_token because %q", id, err, cause)
	}
}

func TestRevocationList(t *testing.T) {
	b := newListBed(t)
	ann := authn.Identity{ID: "ann", Token: "t1", Session: "s1", Generation: 3}
	b.allow(ann)
	b.allow(authn.Identity{})

	b.revoke(authn.Revocation{Kind: authn.RevokeToken, ID: "t1", Expires: b.in(time.Hour)})
	b.deny(ann, "token revoked")
	b.allow(authn.Identity{ID: "ann", Token: "t2", Session: "s1"})
	b.allow(authn.Identity{ID: "ann", Token: "T1"})
	b.allow(authn.Identity{ID: "t1", Session: "t1", Token: "x"})
	b.allow(authn.Identity{Issuer: "https://a", Token: "t1"}) // another issuer's t1

	b.revoke(authn.Revocation{Kind: authn.RevokeSession, ID: "s1", Expires: b.in(time.Hour)})
	b.deny(authn.Identity{ID: "ann", Token: "t2", Session: "s1"}, "session revoked")

	b.revoke(authn.Revocation{Kind: authn.RevokeUser, ID: "ann", Generation: 4, Expires: b.in(time.Hour)})
	b.deny(authn.Identity{ID: "ann", Token: "t3", Generation: 3}, "all tokens of the user revoked")
	b.allow(authn.Identity{ID: "ann", Token: "t3", Generation: 4}) // issued in the same second, but after
	b.revoke(authn.Revocation{Kind: authn.RevokeUser, ID: "ann", Generation: 2, Expires: b.in(time.Hour)})
	b.deny(authn.Identity{ID: "ann", Token: "t3", Generation: 3}, "all tokens of the user revoked")

	// The parts of a key do not run into each other.
	b.revoke(authn.Revocation{Kind: authn.RevokeToken, Issuer: "https://a", ID: "bc", Expires: b.in(time.Hour)})
	b.deny(authn.Identity{Issuer: "https://a", Token: "bc"}, "token revoked")
	b.allow(authn.Identity{Issuer: "https://ab", Token: "c"})
	b.allow(authn.Identity{Issuer: "https://", Token: "abc"})
	if n, at, err := b.State(); n != 4 || !at.Equal(b.clock.Now()) || err != nil {
		t.Errorf("State = %d, %v, %v, want 4 entries read now", n, at, err)
	}
}

func TestRevokeErrors(t *testing.T) {
	b := newListBed(t)
	refuse := func(r authn.Revocation, want error) {
		t.Helper()
		if err := b.Revoke(ctx, r); !errors.Is(err, authn.ErrRevocation) || want != nil && !errors.Is(err, want) {
			t.Errorf("Revoke(%+v) = %v, want revocation_unavailable", r, err)
		}
	}
	refuse(authn.Revocation{Kind: authn.RevokeToken, Expires: b.in(time.Hour)}, nil)
	refuse(authn.Revocation{Kind: "tokens", ID: "t", Expires: b.in(time.Hour)}, nil)
	refuse(authn.Revocation{Kind: authn.RevokeToken, ID: "t"}, nil)
	b.log.broken.Store(true)
	refuse(authn.Revocation{Kind: authn.RevokeToken, ID: "t", Expires: b.in(time.Hour)}, errBroken)
	b.allow(authn.Identity{Token: "t"})
}

// Before the list was read once, nobody passes, and that is not the client's
// fault.
func TestCheckBeforeLoad(t *testing.T) {
	log := new(brokenLog)
	log.broken.Store(true)
	l := authn.NewRevocationList(log, time.Now)
	if err := l.Load(ctx); !errors.Is(err, errBroken) {
		t.Errorf("Load = %v, want the log's error", err)
	}
	err := l.Check(ctx, &authn.Identity{Token: "t"})
	if r := authn.AsRefusal(err); !errors.Is(err, authn.ErrRevocation) || r.RetryAfter != time.Second {
		t.Errorf("Check before Load = %+v, want revocation_unavailable after 1s", err)
	}
	if _, at, err := l.State(); err == nil || !at.IsZero() {
		t.Errorf("State before Load = %v, %v, want an error and no time", at, err)
	}
}

// Entries are kept for the margin and are gone after it.
func TestRevocationExpiry(t *testing.T) {
	b := newListBed(t)
	b.revoke(authn.Revocation{Kind: authn.RevokeToken, ID: "t", Expires: b.in(time.Hour)})
	b.revoke(authn.Revocation{Kind: authn.RevokeUser, ID: "u", Generation: 1, Expires: b.in(time.Hour)})
	b.revoke(authn.Revocation{Kind: authn.RevokeSession, ID: "s", Expires: b.in(200 * 365 * 24 * time.Hour)})
	b.revoke(authn.Revocation{Kind: authn.RevokeToken, ID: "old", Expires: b.in(-time.Hour)})
	follow := func(want int) {
		t.Helper()
		// One turn of Follow: an entry that arrives ends the waiting.
		ended, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- b.Follow(ended) }()
		deadline := time.Now().Add(10 * time.Second)
		n, _, _ := b.State()
		for n != want && time.Now().Before(deadline) {
			if err := b.log.Append(ctx, authn.Revocation{}); err != nil { // means nothing, wakes
				t.Fatal(err)
			}
			runtime.Gosched()
			n, _, _ = b.State()
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow = %v, want context.Canceled", err)
		}
		if n != want {
			t.Errorf("%d entries, want %d", n, want)
		}
	}
	follow(3)
	b.clock.Move(time.Hour + authn.RevocationMargin)
	b.deny(authn.Identity{Token: "t"}, "token revoked")
	b.clock.Move(time.Minute)
	// Follow trims half a minute after it began by its own clock.
	ended, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.Follow(ended) }()
	deadline := time.Now().Add(10 * time.Second)
	n := 3
	for n != 1 && time.Now().Before(deadline) {
		b.clock.Move(time.Minute)
		if err := b.log.Append(ctx, authn.Revocation{}); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
		n, _, _ = b.State()
	}
	cancel()
	<-done
	if n != 1 {
		t.Errorf("%d entries after their time, want 1", n)
	}
	b.deny(authn.Identity{Session: "s"}, "session revoked")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// Follow loads what nobody loaded, goes on over errors, and sees what another
// process appends.
func TestFollow(t *testing.T) {
	log := new(brokenLog)
	log.broken.Store(true)
	l := authn.NewRevocationList(log, time.Now)
	ended, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.Follow(ended) }()
	eventually(t, "an error in State", func() bool { _, _, err := l.State(); return errors.Is(err, errBroken) })
	id := authn.Identity{Token: "t"}
	if err := l.Check(ctx, &id); !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("Check = %v, want revocation_unavailable", err)
	}
	log.broken.Store(false)
	eventually(t, "the list is loaded", func() bool { return l.Check(ctx, &id) == nil })
	log.MemoryStore.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: "t", Expires: time.Now().Add(time.Hour)})
	eventually(t, "the entry is in force", func() bool { return errors.Is(l.Check(ctx, &id), authn.ErrInvalidToken) })
	if n, at, err := l.State(); n != 1 || at.IsZero() || err != nil {
		t.Errorf("State = %d, %v, %v, want 1 entry", n, at, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow = %v, want context.Canceled", err)
	}
}

// manyTokens is a log of so many revoked tokens, made as they are read.
type manyTokens int

func (n manyTokens) Append(context.Context, authn.Revocation) error { return nil }

func (n manyTokens) Read(_ context.Context, cursor string, _ time.Duration) ([]authn.Revocation, string, error) {
	at, _ := strconv.Atoi(cursor)
	page := make([]authn.Revocation, min(1000, int(n)-at))
	for i := range page {
		page[i] = authn.Revocation{Kind: authn.RevokeToken, ID: fmt.Sprint("token", at+i), Expires: time.Now().Add(time.Hour)}
	}
	return page, strconv.Itoa(at + len(page)), nil
}

func loaded(tb testing.TB, n int) *authn.RevocationList {
	l := authn.NewRevocationList(manyTokens(n), time.Now)
	if err := l.Load(ctx); err != nil {
		tb.Fatal(err)
	}
	return l
}

var somebody = &authn.Identity{
	ID: "kq3v7m2p5x4z6w8y1a2b3c4d5e", Token: "3q2-7wAAAAAAAAAAAAAAAA", Session: "abcdefghijklmnopqrstuvwxyz", Generation: 1,
}

// A list that follows a log in which nothing happens is never too old, however
// little it may be.
func TestQuietLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		list := authn.NewRevocationList(new(authn.MemoryStore), time.Now)
		list.Use(authn.RevocationPolicy{MaxStaleness: time.Second})
		go list.Follow(ctx)
		synctest.Wait()
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
			if err := list.Check(ctx, &authn.Identity{ID: "ann"}); err != nil {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
		}
	})
}

func TestCheckDoesNotAllocate(t *testing.T) {
	l := loaded(t, 1000)
	if n := testing.AllocsPerRun(1000, func() {
		if err := l.Check(ctx, somebody); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Check allocates %v times, want never", n)
	}
}

// The README promises a million for less than 100 MB; half of that lets the
// garbage collector have its share.
func TestMillionRevocations(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	l := loaded(t, 1000000)
	size := heap() - before
	if n, _, _ := l.State(); n != 1000000 || size > 50<<20 {
		t.Errorf("%d entries in %d MB, want 1000000 in at most 50", n, size>>20)
	}
	if err := l.Check(ctx, &authn.Identity{Token: "token999999"}); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Check of the last one = %v, want invalid_token", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{0, 1000, 1000000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := loaded(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Check(ctx, somebody); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		loaded(b, 1000000)
	}
}
