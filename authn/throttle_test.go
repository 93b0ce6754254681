package authn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// throttleBed is a Throttle of 3 failures in 15 minutes with a clock of its own.
type throttleBed struct {
	t *testing.T
	*Throttle
	time time.Time
}

func newThrottleBed(t *testing.T) *throttleBed {
	b := &throttleBed{t: t, time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.Throttle = NewThrottle(3, 15*time.Minute, func() time.Time { return b.time })
	return b
}

// visitor is a client, and whether its user is known to sign in there.
type visitor struct {
	Client
	known bool
}

func from(address string) visitor {
	return visitor{Client: Client{Address: netip.MustParseAddr(address)}}
}

func (b *throttleBed) admit(account string, v visitor) attempt {
	b.t.Helper()
	a, err := b.login(context.Background(), account, v.Client, v.known)
	if err != nil {
		b.t.Fatalf("login of %s from %s = %v, want it admitted", account, v.Address, err)
	}
	return a
}

func (b *throttleBed) fail(n int, account string, v visitor) {
	b.t.Helper()
	for range n {
		b.admit(account, v).failed()
	}
}

func (b *throttleBed) refused(account string, v visitor, wait time.Duration) {
	b.t.Helper()
	_, err := b.login(context.Background(), account, v.Client, v.known)
	if !errors.Is(err, ErrTooManyAttempts) || AsRefusal(err).RetryAfter != wait {
		b.t.Errorf("login of %s from %s = %+v, want too_many_attempts for %s", account, v.Address, err, wait)
	}
}

func TestThrottlePair(t *testing.T) {
	b := newThrottleBed(t)
	home := from("192.0.2.1")
	b.fail(2, "ann", home)
	b.admit("ann", home).passed() // clears
	b.fail(1, "ann", home)
	b.time = b.time.Add(10 * time.Minute)
	b.admit("ann", home).dropped() // counts for nothing
	b.fail(2, "ann", home)
	b.refused("ann", home, 5*time.Minute)
	b.refused("ann", from("::ffff:192.0.2.1"), 5*time.Minute) // the same client
	b.fail(1, "bob", home)
	b.fail(1, "ann", from("192.0.2.2"))
	b.time = b.time.Add(5*time.Minute - 1)
	b.refused("ann", home, 1)
	b.time = b.time.Add(1)
	b.fail(3, "ann", home)
	b.refused("ann", home, 15*time.Minute)
}

func TestThrottleNetworks(t *testing.T) {
	b := newThrottleBed(t)
	b.fail(1, "ann", from("2001:db8:1:2::1"))
	b.fail(1, "ann", from("2001:db8:1:2:3:4:5:6"))
	b.fail(1, "ann", from("2001:db8:1:2::1%eth0"))
	b.refused("ann", from("2001:db8:1:2:ffff::"), 15*time.Minute)
	b.fail(1, "ann", from("2001:db8:1:3::1"))
	b.fail(3, "ann", visitor{}) // an address that is not known is one, too
	b.refused("ann", visitor{}, 15*time.Minute)
}

func TestThrottleAddress(t *testing.T) {
	b := newThrottleBed(t)
	home := from("192.0.2.1")
	for i := range 30 {
		if i%7 == 0 {
			b.admit("mallory", home).passed() // earns nothing
		}
		b.fail(1, fmt.Sprint("user", i), home)
	}
	b.refused("ann", home, 15*time.Minute)
	b.refused("mallory", home, 15*time.Minute)
	b.fail(1, "ann", from("192.0.2.2"))

	known := home
	known.known = true
	b.fail(3, "ann", known)
	b.refused("ann", known, 15*time.Minute)
}

func TestThrottleKnownIsNotHeldUp(t *testing.T) {
	b := newThrottleBed(t)
	home := from("192.0.2.1")
	b.fail(3, "ann", home)
	b.refused("ann", home, 15*time.Minute)
	known := home
	known.known = true
	b.admit("ann", known).passed()
}

func TestThrottleRegistrations(t *testing.T) {
	b := newThrottleBed(t)
	home := from("192.0.2.1")
	for range 30 {
		a, err := b.register(context.Background(), home.Client)
		if err != nil {
			t.Fatal(err)
		}
		a.failed()
	}
	if _, err := b.register(context.Background(), home.Client); !errors.Is(err, ErrTooManyAttempts) {
		t.Errorf("31st registration = %v, want too_many_attempts", err)
	}
	b.fail(1, "ann", home) // logins are counted apart
}

// A burst of parallel guesses gets as many as a row of them.
func TestThrottleBurst(t *testing.T) {
	b := newThrottleBed(t)
	var mu sync.Mutex
	admitted, refused := 0, 0
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			a, err := b.login(context.Background(), "ann", from("192.0.2.1").Client, false)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused++
				return
			}
			admitted++
			a.failed()
		})
	}
	wg.Wait()
	if admitted != 3 || refused != 97 {
		t.Errorf("%d admitted, %d refused, want 3 and 97", admitted, refused)
	}
}

// A burst of good logins is not a burst of guesses.
func TestThrottleGoodBurst(t *testing.T) {
	b := newThrottleBed(t)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			a, err := b.login(context.Background(), "ann", from("192.0.2.1").Client, false)
			if err != nil {
				t.Errorf("login = %v", err)
				return
			}
			a.passed()
		})
	}
	wg.Wait()
	if n := len(b.pairs.byKey) + len(b.addresses.byKey); n != 0 {
		t.Errorf("%d counters are left, want none", n)
	}
}

func TestThrottleWaiting(t *testing.T) {
	b := newThrottleBed(t)
	home := from("192.0.2.1")
	first, second, third := b.admit("ann", home), b.admit("ann", home), b.admit("ann", home)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.login(ctx, "ann", home.Client, false); !errors.Is(err, context.Canceled) {
		t.Errorf("login whose caller leaves while it waits = %v, want context.Canceled", err)
	}
	b.waiting = maxWaiting
	if _, err := b.login(context.Background(), "ann", home.Client, false); !errors.Is(err, ErrBusy) {
		t.Errorf("login behind too many others = %v, want busy", err)
	}
	b.waiting = 0
	pair := b.pairs.byKey[counterKey("pair", "ann", network(home.Address))]
	pair.waiting = maxWaiting / 2
	if _, err := b.login(context.Background(), "ann", home.Client, false); !errors.Is(err, ErrBusy) {
		t.Errorf("login behind too many others of the same client = %v, want busy", err)
	}
	b.admit("bob", home).dropped()
	pair.waiting = 0
	// A window that ends while attempts are under way counts them in the next.
	b.time = b.time.Add(time.Hour)
	first.failed()
	second.failed()
	next := b.admit("ann", home)
	third.failed()
	next.failed()
	if c := b.pairs.byKey[counterKey("pair", "ann", network(home.Address))]; c.failures != 2 || c.pending != 0 {
		t.Errorf("%d failures and %d pending, want 2 and 0", c.failures, c.pending)
	}
}

func TestThrottleIsBounded(t *testing.T) {
	b := newThrottleBed(t)
	victim := from("192.0.2.1")
	b.fail(3, "ann", victim)
	for i := range maxCounters + 1000 {
		b.fail(1, "ann", from(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()))
	}
	if n := len(b.pairs.byKey); n > maxCounters || n != b.pairs.order.Len() {
		t.Errorf("%d counters, %d in order, want at most %d", n, b.pairs.order.Len(), maxCounters)
	}
	b.refused("ann", victim, 15*time.Minute) // a flood does not wash it away
	b.time = b.time.Add(time.Hour)
	b.fail(1, "ann", victim)
	if n := len(b.pairs.byKey); n != 1 {
		t.Errorf("%d counters after their windows have ended, want 1", n)
	}
}

func TestNoThrottle(t *testing.T) {
	for _, none := range []*Throttle{nil, NewThrottle(0, time.Minute, time.Now)} {
		for range 100 {
			a, err := none.login(context.Background(), "ann", Client{}, false)
			if err != nil {
				t.Fatal(err)
			}
			a.failed()
		}
	}
}
