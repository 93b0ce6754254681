package redisstore

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/authn"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	one, two := newLog(t, Options{URL: s.url(), Prefix: "p"}).Throttle(), newLog(t, Options{URL: s.url(), Prefix: "p"}).Throttle()
	pair, address := authn.ThrottleCount{Key: "pair", Limit: 3}, authn.ThrottleCount{Key: "address", Limit: 6}
	counts := []authn.ThrottleCount{pair, address}
	const window = time.Minute
	take := func(by *Throttle, counts []authn.ThrottleCount, want bool) time.Duration {
		t.Helper()
		ok, wait, err := by.Take(ctx, counts)
		must(t, err)
		if ok != want {
			t.Fatalf("Take = %v, %s, want %v", ok, wait, want)
		}
		return wait
	}
	settle := func(by *Throttle, outcome authn.AttemptOutcome) {
		t.Helper()
		must(t, by.Settle(ctx, counts, window, outcome))
	}
	take(one, counts, true)
	take(two, counts, true)
	take(one, counts, true)
	if wait := take(two, counts, false); wait != 0 {
		t.Errorf("attempts under way: wait %s, want no time", wait)
	}
	settle(one, authn.AttemptFailed)
	settle(two, authn.AttemptFailed)
	settle(one, authn.AttemptDropped)
	take(two, counts, true)
	settle(two, authn.AttemptPassed) // clears the pair, not the address
	for range 3 {
		take(one, counts, true)
		settle(one, authn.AttemptFailed)
	}
	if wait := take(two, counts, false); wait < window-10*time.Second || wait > window {
		t.Errorf("wait %s, want about %s", wait, window)
	}
	take(two, []authn.ThrottleCount{{Key: "other", Limit: 3}, address}, true) // the sixth of the address
	must(t, two.Settle(ctx, []authn.ThrottleCount{{Key: "other", Limit: 3}, address}, window, authn.AttemptFailed))
	if wait := take(one, []authn.ThrottleCount{{Key: "third", Limit: 3}, address}, false); wait == 0 {
		t.Error("the address has room")
	}
	// Nothing stays for ever.
	keys, err := s.admin("KEYS", "*").StringSlice()
	must(t, err)
	if len(keys) != 3 {
		t.Errorf("keys %q, want the three that count failures", keys)
	}
	for _, k := range keys {
		if ttl, err := s.admin("PTTL", k).Int64(); err != nil || ttl <= 0 {
			t.Errorf("key %q lives for %d ms, %v, want an end", k, ttl, err)
		}
	}
	// A server that hangs is told from a refusal, in time.
	s.signal(syscall.SIGSTOP)
	hurry, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if ok, _, err := one.Take(hurry, counts); err == nil || ok || time.Since(began) > 100*time.Millisecond+busy {
		t.Errorf("Take of a server that hangs = %v, %v after %s", ok, err, time.Since(began))
	}
	s.signal(syscall.SIGCONT)
}

// No burst over several gateways gets more guesses than the limit.
func TestThrottleBurst(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var taken atomic.Int64
	var all sync.WaitGroup
	counts := []authn.ThrottleCount{{Key: "pair", Limit: 5}}
	for range 4 {
		by := newLog(t, Options{URL: s.url(), Prefix: "p"}).Throttle()
		for range 25 {
			all.Go(func() {
				for {
					ok, wait, err := by.Take(ctx, counts)
					if err != nil {
						t.Errorf("Take = %v", err)
						return
					}
					if ok {
						taken.Add(1)
						if err := by.Settle(ctx, counts, time.Minute, authn.AttemptFailed); err != nil {
							t.Errorf("Settle = %v", err)
						}
						return
					}
					if wait > 0 {
						return
					}
				}
			})
		}
	}
	all.Wait()
	if taken.Load() != 5 {
		t.Errorf("%d guesses, want 5", taken.Load())
	}
}
