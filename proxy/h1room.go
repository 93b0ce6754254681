package proxy

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/authn"
)

// An h1Room is for all connections of HTTP/1.1 that may be open to upstreams at
// once. One HTTP/2 client can have a hundred of them, and without files nobody can
// connect any more, neither clients nor operators.
type h1Room struct {
	most atomic.Int64 // 0: any number
	open atomic.Int64
	// evict closes an idle connection of any upstream, and reports whether there
	// was one.
	evict func() bool

	mu    sync.Mutex
	taken int // connections with a request
	by    map[netip.Prefix]int
}

var (
	errNoRoom  = errors.New("as many connections to upstreams are open as there are files for")
	errCrowded = errors.New("the client's requests have as many connections to upstreams as are left for others")
)

// take counts a request of x that is to have a connection, and returns whose it is,
// for give. The error is authn.ErrBusy if its client, or everybody, has too many. A
// nil x is nobody's.
func (r *h1Room) take(x *exchange) (client netip.Prefix, err error) {
	if x != nil {
		client = authn.Network(x.peer.client)
	}
	most := int(r.most.Load())
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.by[client]
	switch {
	case most == 0:
	case r.taken >= most:
		return client, authn.ErrBusy.Because(errNoRoom).After(time.Second)
	case !Share(mine, r.taken, most) && x != nil && !isTrusted(x.snapshot.config.TrustedProxies, x.peer.client):
		return client, authn.ErrBusy.Because(errCrowded).After(time.Second)
	}
	if r.by == nil {
		r.by = map[netip.Prefix]int{}
	}
	r.by[client] = mine + 1
	r.taken++
	return client, nil
}

// give takes back what take has counted.
func (r *h1Room) give(client netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken--
	if r.by[client]--; r.by[client] == 0 {
		delete(r.by, client)
	}
}

// enter makes room for another connection, that of an idle one if there is no
// other. The error is authn.ErrBusy if there is none.
func (r *h1Room) enter() error {
	for {
		most := r.most.Load()
		if r.open.Add(1) <= most || most == 0 {
			return nil
		}
		r.open.Add(-1)
		if !r.evict() {
			return authn.ErrBusy.Because(errNoRoom).After(time.Second)
		}
	}
}

func (r *h1Room) leave() { r.open.Add(-1) }
