package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"gatehouse/authn"
)

// h2Held refusals of one connection may be held up at a time, or, having been, wait for
// the client to take them: what each costs is too much for a hundred on every
// connection. More are not told at all. Those that need not wait do not count: of them
// Pace lets through few enough.
const h2Held = 10

type h2ConnKey struct{}

// GuardContext is the http.Server.ConnContext of guarded connections.
func GuardContext(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*h2Conn); ok {
		return context.WithValue(ctx, h2ConnKey{}, c)
	}
	return ctx
}

// h2ConnOf is the connection of a request of client, nil for one of HTTP/1. Those of
// others, who are behind a trusted proxy, are not the connection's either.
func h2ConnOf(ctx context.Context, client netip.Addr) *h2Conn {
	if c, ok := ctx.Value(h2ConnKey{}).(*h2Conn); ok && c.client == client.Unmap().WithZone("") {
		return c
	}
	return nil
}

// holdUp holds the refusal of x up, and reports whether it is to go out at all.
func (x *exchange) holdUp(p *Pace, wait time.Duration) bool {
	ctx := x.request.Context()
	if c := h2ConnOf(ctx, x.peer.client); c != nil {
		if c.holding.Add(1) > h2Held {
			c.holding.Add(-1)
			c.handled.Add(-1) // it ends with a reset
			x.held = -1
			return false
		}
		x.holding = c
	}
	x.held = p.sit(ctx, wait)
	return true
}

// handOver waits until the client has taken a refusal that was held up. It may open no
// window for it (RFC 9113, section 5.2), for as long as it likes.
func (x *exchange) handOver() {
	if c := x.holding; c != nil {
		_ = http.NewResponseController(x.ResponseWriter).Flush()
		c.holding.Add(-1)
	}
}

// Drops reports whether a request on conn that is to be refused as busy is not to be
// answered, since h2Held refusals on it wait already, and counts those.
func (g *Guard) Drops(conn net.Conn) bool {
	c, ok := conn.(*h2Conn)
	if !ok || c.holding.Load() < h2Held {
		return false
	}
	c.handled.Add(-1)
	if g.Metrics != nil {
		g.Metrics.refused(authn.ErrBusy.Code)
		g.Metrics.dropped.Inc()
	}
	return true
}
