package authn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeShared is a SharedThrottle of one process.
type fakeShared struct {
	mu               sync.Mutex
	away             atomic.Bool
	failures, active map[string]int
}

func newFakeShared() *fakeShared {
	return &fakeShared{failures: map[string]int{}, active: map[string]int{}}
}

func (f *fakeShared) Take(_ context.Context, counts []ThrottleCount) (bool, time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away.Load() {
		return false, 0, errors.New("away")
	}
	for _, c := range counts {
		if f.failures[c.Key] >= c.Limit {
			return false, time.Minute, nil
		}
		if f.failures[c.Key]+f.active[c.Key] >= c.Limit {
			return false, 0, nil
		}
	}
	for _, c := range counts {
		f.active[c.Key]++
	}
	return true, 0, nil
}

func (f *fakeShared) Settle(_ context.Context, counts []ThrottleCount, _ time.Duration, outcome AttemptOutcome) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, c := range counts {
		f.active[c.Key]--
		switch {
		case outcome == AttemptFailed:
			f.failures[c.Key]++
		case outcome == AttemptPassed && i == 0:
			f.failures[c.Key] = 0
		}
	}
	return nil
}

// Two gateways count together, and each for itself while they cannot.
func TestThrottleShared(t *testing.T) {
	shared := newFakeShared()
	a, b := newThrottleBed(t), newThrottleBed(t)
	a.Share(shared)
	b.Share(shared)
	home := from("192.0.2.1")
	a.fail(2, "ann", home)
	b.fail(1, "ann", home)
	a.refused("ann", home, time.Minute)
	b.refused("ann", home, time.Minute)

	// A success at one clears what the other one counted.
	a.fail(2, "bob", home)
	b.admit("bob", home).passed()
	a.fail(2, "bob", home)
	a.admit("bob", home).passed()

	// While it is away, what was counted here holds.
	b.fail(2, "eve", home)
	shared.away.Store(true)
	b.fail(1, "eve", home)
	b.refused("eve", home, 15*time.Minute)
	a.fail(3, "eve", home)
	a.refused("eve", home, 15*time.Minute)
	shared.away.Store(false)
	b.admit("eve", home).dropped()
}

// A burst over two gateways has no more guesses than one after the other.
func TestThrottleSharedBurst(t *testing.T) {
	shared := newFakeShared()
	beds := []*throttleBed{newThrottleBed(t), newThrottleBed(t)}
	var guesses, refused atomic.Int64
	var all sync.WaitGroup
	for _, b := range beds {
		b.Share(shared)
		for range 50 {
			all.Go(func() {
				a, err := b.login(context.Background(), "ann", from("192.0.2.1").Client, false)
				if err != nil {
					refused.Add(1)
					return
				}
				guesses.Add(1)
				a.failed()
			})
		}
	}
	all.Wait()
	if guesses.Load() != 3 || refused.Load() != 97 {
		t.Errorf("%d guesses and %d refusals, want 3 and 97", guesses.Load(), refused.Load())
	}
	// And a burst of good ones is not refused.
	for _, b := range beds {
		for range 20 {
			all.Go(func() {
				a, err := b.login(context.Background(), "bob", from("192.0.2.2").Client, false)
				if err != nil {
					t.Errorf("a good login: %v", err)
					return
				}
				a.passed()
			})
		}
	}
	all.Wait()
	// Who gives up while waiting is told so.
	hold := []attempt{beds[0].admit("carl", from("192.0.2.3")), beds[0].admit("carl", from("192.0.2.3")), beds[1].admit("carl", from("192.0.2.3"))}
	ended, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := beds[1].login(ended, "carl", from("192.0.2.3").Client, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("login with an ended context = %v", err)
	}
	for _, a := range hold {
		a.dropped()
	}
}
