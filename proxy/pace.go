package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/authn"
)

// A Pace lets the refusals that one client earns go out no faster than
// paceRate. A flood of requests that are refused, each of which costs what
// finding out costs, then has to wait, and honest clients do not: whoever is
// admitted never meets it. The answers stay what they are, but that HTTP/2 gets no
// more of them than h2Held lets wait.
//
// A client is an IPv4 address, or the /64 of an IPv6 address. The zero value is
// ready; a nil *Pace holds nobody up.
type Pace struct {
	Metrics *Metrics // nil: what is held up is not counted

	trusted atomic.Pointer[[]netip.Prefix]

	mu      sync.Mutex
	clients map[netip.Prefix]time.Time // when what was refused so far will be paid for
	swept   time.Time
}

const (
	// Refusals per second, and how many may come at once. No person and few
	// programs get that far: many people behind one address may.
	paceRate  = 200
	paceBurst = 1000
	// No answer is held up for longer, whatever others behind the same address do.
	paceMost = 2 * time.Second
	// Clients that are remembered. Beyond that, and where clients have that many
	// addresses, new ones do not wait.
	paceClients = 1 << 16
	// How often those that have paid are forgotten.
	paceSweep = time.Second
)

// trust exempts proxies, behind whose addresses there are many clients.
func (p *Pace) trust(proxies []netip.Prefix) {
	if p != nil {
		p.trusted.Store(&proxies)
	}
}

// hold waits as long as client has to for n refusals, or until ctx ends, and
// returns how long that was.
func (p *Pace) hold(ctx context.Context, client netip.Addr, n int) time.Duration {
	return p.sit(ctx, p.due(client, n))
}

// due is how long client has to wait for n refusals, which it counts.
func (p *Pace) due(client netip.Addr, n int) time.Duration {
	if p == nil || !client.IsValid() {
		return 0
	}
	if trusted := p.trusted.Load(); trusted != nil && isTrusted(*trusted, client.Unmap().WithZone("")) {
		return 0
	}
	return p.wait(client, n, time.Now())
}

// Owes reports whether a refusal of client would have to wait.
func (p *Pace) Owes(client netip.Addr) bool {
	if p == nil || !client.IsValid() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.clients[authn.Network(client)]) >= paceBurst*time.Second/paceRate
}

// sit waits, until ctx ends at most, and returns how long that was.
func (p *Pace) sit(ctx context.Context, wait time.Duration) time.Duration {
	if wait <= 0 {
		return 0
	}
	if p.Metrics != nil {
		p.Metrics.held.Inc()
	}
	began, timer := time.Now(), time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return time.Since(began)
}

// wait counts n refusals and is how long they have to wait: the generic cell rate
// algorithm, which needs one time of each client.
func (p *Pace) wait(client netip.Addr, n int, now time.Time) time.Duration {
	const each, burst = time.Second / paceRate, paceBurst * time.Second / paceRate
	key := authn.Network(client)
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.swept) >= paceSweep {
		p.swept = now
		for client, paid := range p.clients {
			if !paid.After(now) {
				delete(p.clients, client)
			}
		}
		if len(p.clients) == 0 {
			p.clients = map[netip.Prefix]time.Time{} // a map never becomes smaller
		}
	}
	paid, known := p.clients[key]
	if !known && len(p.clients) >= paceClients {
		return 0
	}
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(time.Duration(n) * each)
	wait := paid.Sub(now) - burst
	if wait > paceMost {
		wait, paid = paceMost, now.Add(burst+paceMost)
	}
	p.clients[key] = paid
	return wait
}

// paced reports whether a refusal is the client's doing. Who has no token yet, as
// everybody has not before signing in, is told so at once. That the gateway is busy
// may be the doing of others, who can make it cost them nothing but to ask again:
// thousands of such answers in a second took honest clients' p99 to ten times its own.
func paced(ref *authn.Refusal) bool {
	status := Status(ref)
	return ref.Code == authn.ErrBusy.Code ||
		status >= http.StatusBadRequest && status < http.StatusInternalServerError && ref.Code != authn.ErrMissingToken.Code
}
