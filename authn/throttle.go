package authn

import (
	"container/list"
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// Throttle bounds how often passwords can be guessed: so many failures for a
// pair of account and client address, ten times as many for an address over
// all accounts, and ten times as many registrations for an address. A window
// begins with its first failure; once it has passed, counting starts again.
//
// An attempt is counted when it is admitted, before any password is hashed,
// and what it turned out to be is told afterwards. So a burst of parallel
// attempts cannot overrun the limit: those beyond it wait for the ones before
// them. Nor does it refuse a burst of good ones.
//
// A nil Throttle admits everything. It is safe for concurrent use.
type Throttle struct {
	attempts int
	window   time.Duration
	now      func() time.Time
	shared   SharedThrottle // nil: counts for itself

	mu        sync.Mutex
	waiting   int
	pairs     counters
	addresses counters
	registers counters
}

const (
	addressFactor = 10
	// Each counter costs about 200 bytes. To fill the table with counters that
	// stay, an attacker must have as many passwords hashed within a window,
	// each from an address or for an account of its own; full, it gives up the
	// least used of the oldest, not those that hold somebody back.
	maxCounters    = 1 << 16
	evictionSample = 64
	// maxWaiting bounds the attempts that wait for others to end; those that wait
	// for one counter are at most half of them.
	maxWaiting = 256
)

// NewThrottle allows attempts failures within window. attempts below 1 is no
// limit.
func NewThrottle(attempts int, window time.Duration, now func() time.Time) *Throttle {
	return &Throttle{attempts: attempts, window: window, now: now,
		pairs: newCounters(), addresses: newCounters(), registers: newCounters()}
}

// An attempt is one login or registration that was admitted. Exactly one of
// its methods is called, once.
type attempt struct {
	throttle *Throttle
	counters []*counter
	shared   []ThrottleCount // nil: not counted together with others
}

// login admits a try of a password for account. The error is
// ErrTooManyAttempts with the time to wait, ErrBusy, or that of ctx.
//
// A known client has a pair of its own and no limit over all accounts, so that
// it is held up only by what clients like itself did: a stranger behind the
// same address cannot lock a user out.
func (t *Throttle) login(ctx context.Context, account string, c Client, known bool) (attempt, error) {
	if t == nil || t.attempts < 1 {
		return attempt{}, nil
	}
	network := network(c.Address)
	if known {
		return t.admit(ctx, want{&t.pairs, counterKey("known", account, network), t.attempts})
	}
	return t.admit(ctx,
		want{&t.pairs, counterKey("pair", account, network), t.attempts},
		want{&t.addresses, counterKey("address", "", network), addressFactor * t.attempts})
}

// register admits a registration.
func (t *Throttle) register(ctx context.Context, c Client) (attempt, error) {
	if t == nil || t.attempts < 1 {
		return attempt{}, nil
	}
	return t.admit(ctx, want{&t.registers, counterKey("register", "", network(c.Address)), addressFactor * t.attempts})
}

// want is a counter that must have room.
type want struct {
	in    *counters
	key   [16]byte
	limit int
}

func (t *Throttle) admit(ctx context.Context, wants ...want) (attempt, error) {
	if t.shared != nil {
		if a, answered, err := t.admitShared(ctx, wants); answered {
			return a, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		full, err := t.room(wants)
		if err != nil {
			return attempt{}, err
		}
		if full == nil {
			break
		}
		if t.waiting >= maxWaiting || full.waiting >= maxWaiting/2 {
			return attempt{}, ErrBusy.After(time.Second)
		}
		settled := full.settled
		t.waiting++
		full.waiting++
		t.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
		}
		t.mu.Lock()
		t.waiting--
		full.waiting--
		if ctx.Err() != nil {
			return attempt{}, ctx.Err()
		}
	}
	return t.begin(wants), nil
}

// count begins an attempt that others have admitted.
func (t *Throttle) count(wants []want) attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begin(wants)
}

func (t *Throttle) begin(wants []want) attempt {
	a := attempt{throttle: t}
	for _, w := range wants {
		c := w.in.get(w.key, t.now(), t.window)
		c.pending++
		a.counters = append(a.counters, c)
	}
	return a
}

// room finds a counter that has none until attempts under way have ended, or
// the refusal if one has none at all.
func (t *Throttle) room(wants []want) (full *counter, err error) {
	now := t.now()
	for _, w := range wants {
		c := w.in.find(w.key, now, t.window)
		if c == nil {
			continue
		}
		if c.failures >= w.limit {
			return nil, ErrTooManyAttempts.After(c.ends.Sub(now))
		}
		if c.failures+c.pending >= w.limit {
			full = c
		}
	}
	return full, nil
}

// failed counts the attempt.
func (a attempt) failed() { a.settle(AttemptFailed, func(c *counter) { c.failures++ }) }

// passed clears what the pair had counted. The address keeps its failures: who
// has one account must not earn guesses at others by logging in to it.
func (a attempt) passed() {
	a.settle(AttemptPassed, func(c *counter) {
		if c == a.counters[0] {
			c.failures = 0
		}
	})
}

// dropped leaves no trace: nobody learned whether the password was right.
func (a attempt) dropped() { a.settle(AttemptDropped, func(*counter) {}) }

func (a attempt) settle(outcome AttemptOutcome, change func(*counter)) {
	if a.throttle == nil {
		return
	}
	a.settleShared(outcome)
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	for _, c := range a.counters {
		c.pending--
		change(c)
		close(c.settled)
		c.settled = make(chan struct{})
		if c.failures == 0 && c.pending == 0 {
			c.home.remove(c)
		}
	}
}

// counter counts for one key until its window ends.
type counter struct {
	key               [16]byte
	failures, pending int
	waiting           int // for a pending one to end
	ends              time.Time
	settled           chan struct{} // closed when a pending attempt has ended
	home              *counters
	place             *list.Element
}

// counters are the counters of one kind, bounded in number. As all windows
// have one length, their order of creation is that of their ends.
type counters struct {
	byKey map[[16]byte]*counter
	order *list.List
}

func newCounters() counters {
	return counters{byKey: make(map[[16]byte]*counter), order: list.New()}
}

// find is the counter of key, if there is one. A window that has ended begins
// anew for what is under way in it.
func (cs *counters) find(key [16]byte, now time.Time, window time.Duration) *counter {
	c := cs.byKey[key]
	if c == nil || now.Before(c.ends) {
		return c
	}
	if c.pending == 0 {
		cs.remove(c)
		return nil
	}
	c.failures, c.ends = 0, now.Add(window)
	cs.order.MoveToBack(c.place)
	return c
}

func (cs *counters) get(key [16]byte, now time.Time, window time.Duration) *counter {
	if c := cs.find(key, now, window); c != nil {
		return c
	}
	cs.makeRoom(now)
	c := &counter{key: key, ends: now.Add(window), settled: make(chan struct{}), home: cs}
	c.place = cs.order.PushBack(c)
	cs.byKey[key] = c
	return c
}

// makeRoom drops what has ended and then, if need be, the least used of the
// oldest.
func (cs *counters) makeRoom(now time.Time) {
	for e := cs.order.Front(); e != nil; e = cs.order.Front() {
		c := e.Value.(*counter)
		if now.Before(c.ends) || c.pending > 0 {
			break
		}
		cs.remove(c)
	}
	if len(cs.byKey) < maxCounters {
		return
	}
	var least *counter
	seen := 0
	for e := cs.order.Front(); e != nil && seen < evictionSample; e = e.Next() {
		c := e.Value.(*counter)
		seen++
		if c.pending == 0 && (least == nil || c.failures < least.failures) {
			least = c
		}
	}
	if least != nil {
		cs.remove(least)
	}
}

func (cs *counters) remove(c *counter) {
	delete(cs.byKey, c.key)
	cs.order.Remove(c.place)
}

// Network is what counts as one client: an IPv4 address, or the /64 that an
// IPv6 client has to itself. The zero Addr has the zero Prefix.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	p, _ := a.Prefix(min(a.BitLen(), 64)) // of an address, or of none
	return p
}

// network is the text of [Network], as it is hashed and compared.
func network(a netip.Addr) string {
	p := Network(a)
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// counterKey hashes, so that a counter's size does not depend on what the
// client sends.
func counterKey(kind, account, network string) [16]byte {
	h := sha256.New()
	for _, s := range []string{kind, network, account} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return [16]byte(h.Sum(nil))
}
