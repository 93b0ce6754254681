package redisstore

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

var (
	historySeed  = flag.Uint64("history.seed", 0, "seed of TestHistory; 0 is a new one")
	historySteps = flag.Int("history.steps", 12000, "steps of TestHistory")
)

// A history is what clients of several gateways saw, and the model that it is
// held to. Times are taken before a call begins and after it ended, so that
// only what certainly came after something is judged by it.
type history struct {
	mu     sync.Mutex
	acked  map[string]time.Time // when a revocation was acknowledged, by whatever gateway
	tried  map[string]bool      // a revocation was asked for; it may hold
	known  map[string]int       // gateways that refused it, as bits
	counts map[string]int
}

// bound is how long after its acknowledgement a revocation may be unknown to a
// gateway that can read Redis, on a machine that runs other tests: README says
// milliseconds.
const bound = 2 * time.Second

// TestHistory has clients revoke and use tokens at three gateways, two of them
// behind a network that fails, with a Redis that fails as well. Each call is
// held to the model:
//
//   - a gateway that once refused a token as revoked never accepts it again;
//   - one that acknowledged a revocation never accepts the token again;
//   - strict: nothing is accepted in a call that began after the
//     acknowledgement, unless Redis has lost it in between;
//   - fast: nothing is accepted longer than bound after it by a gateway that
//     is ready before and after the call;
//   - a token that nobody asked to revoke is never refused as revoked;
//   - no decision takes longer than its budget.
func TestHistory(t *testing.T) {
	t.Parallel()
	seed := *historySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again: go test ./authn/redisstore -run TestHistory -history.seed %d", seed)
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	proxies := []*faultProxy{startProxy(t, s.addr()), startProxy(t, s.addr())}
	gateways := []*gateway{
		startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{MaxStaleness: 3 * time.Second}),
		startGateway(t, Options{URL: proxies[0].url()}, authn.RevocationPolicy{MaxStaleness: 3 * time.Second}),
		startGateway(t, Options{URL: proxies[1].url()}, authn.RevocationPolicy{Strict: true}),
	}
	for _, g := range gateways {
		g.awaitReady()
	}
	h := &history{acked: map[string]time.Time{}, tried: map[string]bool{}, known: map[string]int{}, counts: map[string]int{}}
	tokens := *historySteps / 5
	var clients sync.WaitGroup
	done := make(chan struct{})
	for client := range 6 {
		random := rand.New(rand.NewPCG(seed, uint64(client)))
		clients.Go(func() {
			for range *historySteps / 6 {
				id := fmt.Sprint("t", random.IntN(tokens))
				g := random.IntN(len(gateways))
				if random.IntN(8) == 0 {
					h.revoke(gateways, g, id)
				} else {
					h.use(t, gateways, g, id)
				}
				time.Sleep(time.Duration(random.IntN(14)) * time.Millisecond) // as clients come and go: faults need time
			}
		})
	}
	go func() { clients.Wait(); close(done) }()
	faults := rand.New(rand.NewPCG(seed, 1<<32))
	for running := true; running; {
		p := proxies[faults.IntN(2)]
		switch faults.IntN(6) {
		case 0:
			p.set(func() { p.dropped = true })
		case 1:
			p.set(func() { p.refused = true })
		case 2:
			p.set(func() { p.delay = time.Duration(faults.IntN(600)) * time.Millisecond })
		case 3:
			p.set(func() { p.rubbish = "-ERR out of order\r\n" })
		case 4:
			p.set(func() { p.shift = true })
		case 5:
			s.kill()
			s.start() // AOF, each write on the disk: nothing acknowledged is lost
		}
		select {
		case <-done:
			running = false
		case <-time.After(time.Duration(200+faults.IntN(1200)) * time.Millisecond):
		}
		p.heal()
		select {
		case <-done:
			running = false
		case <-time.After(time.Duration(faults.IntN(1500)) * time.Millisecond):
		}
	}
	for _, p := range proxies {
		p.heal()
	}
	for i, g := range gateways {
		within(t, 5*time.Second, fmt.Sprintf("gateway %d recovers", i), func() bool { return g.ready() && g.check("good") == nil })
		for id := range h.acked {
			if !g.refuses(id) {
				t.Errorf("gateway %d accepts %s in the end", i, id)
			}
		}
	}
	t.Logf("%v; %d tokens revoked", h.counts, len(h.acked))
	if h.counts["revoked"] < *historySteps/100 || h.counts["accepted"] < *historySteps/10 || h.counts["refused"] < *historySteps/100 {
		t.Errorf("%v: too little happened to prove anything", h.counts)
	}
}

func (h *history) revoke(gateways []*gateway, g int, id string) {
	h.mu.Lock()
	h.tried[id] = true
	h.mu.Unlock()
	err := gateways[g].revoke(id)
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.counts["not revoked"]++
		return
	}
	h.counts["revoked"]++
	h.known[id] |= 1 << g
	if _, ok := h.acked[id]; !ok {
		h.acked[id] = now
	}
}

func (h *history) use(t *testing.T, gateways []*gateway, i int, id string) {
	g, strict := gateways[i], i == 2
	h.mu.Lock()
	acked, revoked := h.acked[id]
	known := h.known[id]&(1<<i) != 0
	h.mu.Unlock()
	ready, began := g.ready(), time.Now()
	err := g.check(id)
	took := time.Since(began)
	ready = ready && g.ready()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.counts["accepted"]++
		age := began.Sub(acked)
		if known || revoked && strict || revoked && ready && age > bound {
			t.Errorf("gateway %d accepted %s, %s after its revocation was acknowledged; known %v, strict %v, ready %v", i, id, age, known, strict, ready)
		}
	case errors.Is(err, authn.ErrInvalidToken):
		h.counts["refused"]++
		h.known[id] |= 1 << i
		if !h.tried[id] {
			t.Errorf("gateway %d refused %s, which nobody revoked", i, id)
		}
	case errors.Is(err, authn.ErrRevocation):
		h.counts["unavailable"]++
	default:
		t.Errorf("gateway %d: Check = %v", i, err)
	}
	if took > strictBudget+busy {
		t.Errorf("gateway %d took %s to decide", i, took)
	}
}
