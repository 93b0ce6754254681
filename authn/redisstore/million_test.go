package redisstore

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/authn"
)

// fill adds so many tokens to the set, as PutBack would in a minute.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	_, _, err := l.Read(ctx, "", 0) // begins the epoch
	must(t, err)
	for i := 0; i < n; {
		var members []redis.Z
		for ; i < n && len(members) < 1000; i++ {
			r := revocation(token(i))
			members = append(members, redis.Z{Score: float64(score(r)), Member: member(r)})
		}
		must(t, l.client().ZAdd(ctx, l.keys[0], members...).Err())
	}
}

// processorTime is what this process has used so far.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// token is as long as the jti of our own tokens.
func token(i int) string { return fmt.Sprintf("%022d", i) }

// The README promises that a million are loaded in 3 s, for less than 100 MB;
// half of that lets the garbage collector have its share.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million takes a while")
	}
	const n = 1_000_000
	s := startServer(t)
	l := newLog(t, Options{URL: s.url()})
	fill(t, l, n)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, began, idle := heap(), time.Now(), processorTime(t)
	list := authn.NewRevocationList(l, time.Now)
	must(t, list.Load(ctx))
	took, worked := time.Since(began), processorTime(t)-idle
	size := heap() - before
	entries, _, _ := list.State()
	t.Logf("%d entries loaded in %s, %s of processor time, %d MB", entries, took, worked, size>>20)
	if entries != n || size > 50<<20 {
		t.Errorf("%d entries in %d MB, want %d in at most 50", entries, size>>20, n)
	}
	// Not the time that passed: the machine may have other things to do.
	if worked > 3*time.Second && !underRace {
		t.Errorf("loading took %s of processor time, want at most 3s", worked)
	}
	if err := list.Check(ctx, &authn.Identity{Token: token(n - 1)}); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Check of the last = %v, want invalid_token", err)
	}
}

// All of a long list is put back, and a gateway that starts meanwhile believes
// nothing until it is.
func TestLongRefill(t *testing.T) {
	t.Parallel()
	const n = 50_000
	s := startServer(t)
	o := Options{URL: s.url()}
	filler := newLog(t, Options{URL: s.url(), Prefix: "gatehouse"})
	fill(t, filler, n)
	a := startGateway(t, o, authn.RevocationPolicy{})
	within(t, 30*time.Second, "loaded", a.ready)
	if !a.refuses(token(n - 1)) {
		t.Fatal("a gateway that is ready lacks an entry")
	}
	end := neverAccepts(t, token(n/2), 5*busy, a)
	must(t, s.admin("FLUSHALL").Err())
	b := startGateway(t, o, authn.RevocationPolicy{})
	endB := neverAccepts(t, token(n-1), 5*busy, b)
	within(t, 30*time.Second, "put back", func() bool { c, _ := s.admin("ZCARD", "{gatehouse}:revoked").Int(); return c > n })
	within(t, 30*time.Second, "both are ready", func() bool { return a.ready() && b.ready() })
	for i := range n {
		if !b.refuses(token(i)) {
			t.Fatalf("a gateway that is ready lacks %s", token(i))
		}
	}
	end()
	endB()
}

// BenchmarkPropagation is the time from Revoke's return at one gateway until
// another one refuses.
func BenchmarkPropagation(b *testing.B) {
	s := startServer(b)
	from, to := startGateway(b, Options{URL: s.url()}, authn.RevocationPolicy{}), startGateway(b, Options{URL: s.url()}, authn.RevocationPolicy{})
	from.awaitReady()
	to.awaitReady()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		id := token(i)
		must(b, from.revoke(id))
		began := time.Now()
		for !to.refuses(id) {
			runtime.Gosched()
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func BenchmarkStrict(b *testing.B) {
	s := startServer(b)
	g := startGateway(b, Options{URL: s.url()}, authn.RevocationPolicy{Strict: true})
	g.awaitReady()
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			must(b, g.check("good"))
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := g.check("good"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
