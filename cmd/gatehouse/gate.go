package main

import (
	"container/heap"
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/authn"
	"gatehouse/proxy"
)

// A gate lets at most max connections be open at once; max 0 is no limit. It may
// change, which that of x/net's LimitListener cannot.
//
// # Why
//
// Nobody is to keep others out by holding connections, and nobody is to lose what
// he has asked for. So where no place is left:
//
//   - A client that has fewer connections takes the place of one that has more, of
//     which the connection goes that has been without a request for longest.
//   - Clients that have as many as he would have keep theirs for a moment
//     (gateTimes.grace); so does he himself. Meanwhile he waits, beside the listener: those behind him may
//     find a place.
//   - A request is not cut short. So that requests cannot take every place,
//     [proxy.Share] bounds those of one client. An answer of which the system has
//     something left is as good as a request for a while (gateTimes.drain), within
//     the same bounds.
//   - A client that has many replaces them one after another.
//
// A request costs two short locks for all this.
type gate struct {
	refusing atomic.Int32                 // connections that are not served
	closed   atomic.Int64                 // connections that had to give way, ever
	full     func(client netip.Addr)      // called for each of them, whose it was
	owes     func(client netip.Addr) bool // whether it asks for too much that is refused; nil: nobody does
	gateTimes

	mu         sync.Mutex
	max        int
	open, busy int // connections, and those with a request
	shut       bool
	trusted    []netip.Prefix // proxies, behind which there are many clients
	crowds     map[netip.Prefix]*crowd
	idlers     idlers
	draining   map[*watched]bool // without a request, but with an answer on its way
	swept      time.Time
	waiting    int // beside the listener
	waitingOf  map[netip.Prefix]int
}

// gateTimes are constants but for tests.
type gateTimes struct {
	grace time.Duration // what a connection has for its request before it may have to give way to equals
	fresh time.Duration // what net/http may need to hand over the end of an answer
	drain time.Duration // what an answer has to leave the system
	pause time.Duration // between two connections of a client that has many, at most, where no place is left
}

var usualTimes = gateTimes{grace: time.Second, fresh: 100 * time.Millisecond, drain: 10 * time.Second, pause: waitingTick}

const (
	// waitingMost connections may wait for a place, each for waitingTime, and look
	// for one every waitingTick.
	waitingMost = 32
	waitingTime = 10 * time.Second
	waitingTick = 20 * time.Millisecond
)

// standing says what becomes of a connection's requests.
type standing = int32

const (
	served  standing = iota
	crowded          // they are refused
	evicted          // it is closed
)

// A watched connection has a place until it is closed, or has to give way. It
// keeps *net.TCPConn's CloseWrite.
type watched struct {
	*net.TCPConn
	gate     *gate
	client   netip.Addr
	lifetime context.Context // until it is closed, by us or by net/http
	end      context.CancelFunc
	standing atomic.Int32

	// gate.mu guards the rest.
	crowd        *crowd // nil: it has no place
	closed       bool   // by us or by net/http
	busy         bool   // with a request
	draining     bool
	since        time.Time // when it was last without
	older, newer *watched  // in the crowd's list, unless it is busy or draining
}

// watch is a connection that is to enter.
func (g *gate) watch(conn *net.TCPConn) *watched {
	c := &watched{TCPConn: conn, gate: g}
	c.lifetime, c.end = context.WithCancel(context.Background())
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.client = at.AddrPort().Addr().Unmap().WithZone("")
	}
	return c
}

// watchedBelow is the connection that the gate knows, below what was put around it.
func watchedBelow(conn net.Conn) *watched {
	for {
		switch c := conn.(type) {
		case *watched:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// Lifetime is what [proxy.Guard] waits no longer than.
func (c *watched) Lifetime() context.Context { return c.lifetime }

func (c *watched) Close() error {
	c.gate.leave(c)
	c.end()
	return c.TCPConn.Close()
}

// limit sets how many may be open, and which proxies have no share.
func (g *gate) limit(n int, trusted []netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.max, g.trusted = n, trusted
}

// close lets nobody in any more.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// enter gives c a place, and reports whether there was one.
func (g *gate) enter(c *watched) bool {
	gone, ok := g.tryEnter(c)
	for _, gone := range gone {
		g.turnAway(gone)
	}
	return ok
}

// turnAway closes a connection for want of places.
func (g *gate) turnAway(c *watched) {
	g.closed.Add(1)
	c.end()
	_ = c.TCPConn.Close()
	g.full(c.client)
}

// tryEnter is enter, but for closing those that are gone.
func (g *gate) tryEnter(c *watched) (gone []*watched, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := authn.Network(c.client)
	n, now := g.crowds[key], time.Now()
	if n != nil && !g.trusts(c) && g.rushes(n, c.client, now) {
		return nil, false
	}
	for g.max > 0 && g.open >= g.max {
		victim := g.spare(n, now)
		if victim == nil {
			return gone, false
		}
		g.remove(victim)
		gone = append(gone, victim)
	}
	if g.shut {
		return gone, false
	}
	if n = g.crowds[key]; n == nil { // perhaps again
		if g.crowds == nil {
			g.crowds = map[netip.Prefix]*crowd{}
		}
		n = &crowd{prefix: key}
		g.crowds[key] = n
		heap.Push(&g.idlers, n)
	}
	g.open++
	n.open++
	c.crowd, c.since = n, now
	g.append(c)
	return gone, true
}

// spare is the connection that has to give way to one of own, which is nil for a
// client that has none, or nil if none has. The caller holds mu, as for all below
// that do not say otherwise.
func (g *gate) spare(own *crowd, now time.Time) *watched {
	g.sweep(now)
	mine := 0
	if own != nil {
		mine = own.open
	}
	for len(g.idlers) > 0 && g.idlers[0].oldest != nil {
		most := g.idlers[0]
		victim := most.oldest
		switch over := func(c *watched) bool { return now.Sub(c.since) >= g.grace }; {
		case most.open > mine+1:
		case most.open == mine+1 && over(victim):
		case own != nil && own.oldest != nil && over(own.oldest):
			victim = own.oldest
		default:
			return nil
		}
		if !g.answering(victim, now) || !g.mayDrain(victim, 0) {
			return victim
		}
		g.unlink(victim)
		g.drains(victim, true)
		heap.Fix(&g.idlers, victim.crowd.place)
	}
	return nil
}

// mayDrain reports whether c, for an answer that is on its way, is as good as one
// with a request, of which its client and all have so many less.
func (g *gate) mayDrain(c *watched, less int) bool {
	n := c.crowd
	return proxy.Share(n.busy+n.draining-less, g.busy+len(g.draining)-less, g.max) || g.trusts(c)
}

// answering reports whether some of an answer may still be on its way.
func (g *gate) answering(c *watched, now time.Time) bool {
	age := now.Sub(c.since)
	return age < g.fresh || age < g.drain && unsent(c.TCPConn) > 0
}

// sweep makes idle what has drained.
func (g *gate) sweep(now time.Time) {
	if now.Sub(g.swept) < waitingTick {
		return
	}
	g.swept = now
	for c := range g.draining {
		if g.answering(c, now) && g.mayDrain(c, 1) {
			continue
		}
		g.drains(c, false)
		g.prepend(c) // it has been without a request for longer than most
	}
}

// wait counts c among those that wait for a place, unless there are too many. It
// may be called without mu, as may all below up to counts.
func (g *gate) wait(c *watched) bool {
	key := authn.Network(c.client)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= waitingMost || !proxy.Share(g.waitingOf[key], g.waiting, waitingMost) && !g.trusts(c) {
		return false
	}
	if g.waitingOf == nil {
		g.waitingOf = map[netip.Prefix]int{}
	}
	g.waiting++
	g.waitingOf[key]++
	return true
}

// waited ends what wait has begun.
func (g *gate) waited(c *watched) {
	key := authn.Network(c.client)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.waitingOf[key]--; g.waitingOf[key] == 0 {
		delete(g.waitingOf, key)
	}
}

// patient reports whether c is of those that the listener waits for.
func (g *gate) patient(c *watched) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.trusts(c) && !g.shut
}

func (g *gate) leave(c *watched) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stand(c, served)
	c.closed = true
	if c.crowd != nil {
		g.remove(c)
	}
}

// changes is for the http.Server.ConnState.
func (g *gate) changes(c *watched, state http.ConnState) {
	switch state {
	case http.StateActive:
		g.begin(c)
	case http.StateIdle:
		g.end(c)
	}
}

// begin notes that c has a request, or several over HTTP/2, and returns what becomes
// of them. If they are refused, c goes on counting as idle.
func (g *gate) begin(c *watched) standing {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case c.closed: // TLS tells of it once, and net/http may not know yet
	case c.crowd == nil:
		g.stand(c, evicted)
	case c.busy:
	case !g.allows(c):
		g.stand(c, crowded)
	default:
		g.stand(c, served)
		if c.draining {
			g.drains(c, false)
		} else {
			g.unlink(c)
		}
		g.take(c)
	}
	return c.standing.Load()
}

// end notes that c has none.
func (g *gate) end(c *watched) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.crowd == nil {
		return
	}
	g.stand(c, served)
	if c.busy {
		g.release(c)
		c.since = time.Now()
		g.append(c)
	}
}

// counts are the connections that have a request and that have none.
func (g *gate) counts() (busy, idle int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy, g.open - g.busy
}

// allows reports whether one more connection of c's client may be busy. The caller
// holds mu, as for all below.
func (g *gate) allows(c *watched) bool {
	return g.max == 0 || proxy.Share(c.crowd.busy, g.busy, g.max) || g.trusts(c)
}

func (g *gate) trusts(c *watched) bool {
	return slices.ContainsFunc(g.trusted, func(p netip.Prefix) bool { return p.Contains(c.client) })
}

func (g *gate) stand(c *watched, s standing) {
	switch before := c.standing.Swap(s); {
	case before == served && s != served:
		g.refusing.Add(1)
	case before != served && s == served:
		g.refusing.Add(-1)
	}
}
