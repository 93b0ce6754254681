package proxy

import (
	"context"
	"net"
	"net/netip"
)

// h2Held refusals of one connection may be held up at a time: what each costs is too
// much for a hundred on every connection. More are not told at all.
const h2Held = 10

type h2ConnKey struct{}

// GuardContext is the http.Server.ConnContext of guarded connections.
func GuardContext(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*h2Conn); ok {
		return context.WithValue(ctx, h2ConnKey{}, c)
	}
	return ctx
}

// h2Hold reports whether a refusal for client may be held up, until end is called.
// Those of others, who are behind a trusted proxy, are not the connection's.
func h2Hold(ctx context.Context, client netip.Addr) (end func(), ok bool) {
	c, ok := ctx.Value(h2ConnKey{}).(*h2Conn)
	if !ok || c.client != client.Unmap().WithZone("") {
		return func() {}, true
	}
	if c.holding.Add(1) > h2Held {
		c.holding.Add(-1)
		c.handled.Add(-1) // it ends with a reset
		return nil, false
	}
	return func() { c.holding.Add(-1) }, true
}
