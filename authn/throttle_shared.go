package authn

import (
	"context"
	"encoding/hex"
	"time"
)

// A SharedThrottle counts attempts for several gateways. Any error means that
// it cannot be asked, and each gateway counts for itself.
type SharedThrottle interface {
	// Take admits an attempt if each count has room for it. If one has none, it
	// tells for how long; no time means until attempts under way have ended.
	Take(ctx context.Context, counts []ThrottleCount) (admitted bool, wait time.Duration, err error)
	// Settle ends an attempt that was admitted. One that failed is counted for
	// window from the first failure on; one that passed clears the first count.
	Settle(ctx context.Context, counts []ThrottleCount, window time.Duration, outcome AttemptOutcome) error
}

// ThrottleCount is one count of failures, and how many it may reach.
type ThrottleCount struct {
	Key   string
	Limit int
}

// AttemptOutcome is what became of an attempt.
type AttemptOutcome string

// The outcomes of an attempt.
const (
	AttemptFailed  AttemptOutcome = "failed"
	AttemptPassed  AttemptOutcome = "passed"
	AttemptDropped AttemptOutcome = "dropped" // nobody learned whether the password was right
)

const (
	sharedPatience = 250 * time.Millisecond // with a call
	sharedPause    = 25 * time.Millisecond  // before asking again
)

// Share counts together with other gateways from now on. What is counted here
// as well is for when shared cannot be asked.
func (t *Throttle) Share(shared SharedThrottle) { t.shared = shared }

// admitShared is admit by the common counts. It is not answered if those cannot
// be had.
func (t *Throttle) admitShared(ctx context.Context, wants []want) (a attempt, answered bool, err error) {
	counts := make([]ThrottleCount, len(wants))
	for i, w := range wants {
		counts[i] = ThrottleCount{Key: hex.EncodeToString(w.key[:]), Limit: w.limit}
	}
	for {
		call, cancel := context.WithTimeout(ctx, sharedPatience)
		admitted, wait, err := t.shared.Take(call, counts)
		cancel()
		switch {
		case ctx.Err() != nil:
			return attempt{}, true, ctx.Err()
		case err != nil:
			return attempt{}, false, nil
		case admitted:
			a := t.count(wants)
			a.shared = counts
			return a, true, nil
		case wait > 0:
			return attempt{}, true, ErrTooManyAttempts.After(wait)
		}
		if !t.queue() {
			return attempt{}, true, ErrBusy.After(time.Second)
		}
		select {
		case <-time.After(sharedPause):
		case <-ctx.Done():
		}
		t.unqueue()
	}
}

// queue reports whether one more attempt may wait for others to end.
func (t *Throttle) queue() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting >= maxWaiting {
		return false
	}
	t.waiting++
	return true
}

func (t *Throttle) unqueue() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting--
}

// settleShared tells the others. It does not go by the request's context: who
// hangs up early must not have guessed for nothing.
func (a attempt) settleShared(outcome AttemptOutcome) {
	if a.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), sharedPatience)
	defer cancel()
	// An error: it was counted here, and what is under way there ends by itself.
	_ = a.throttle.shared.Settle(ctx, a.shared, a.throttle.window, outcome)
}
