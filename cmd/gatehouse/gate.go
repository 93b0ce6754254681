package main

import (
	"container/heap"
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
// Nobody is to keep others out by holding connections. Where no place is left,
// somebody's connection without a request gives way to who comes: of the client
// with most of them that which is without for longest. A request is never cut
// short. So that requests cannot take every place, [proxy.Share] bounds those of
// one client. A request costs two short locks for all this.
type gate struct {
	crowded atomic.Int32            // connections whose requests are refused
	evicted atomic.Int64            // connections that had to give way, ever
	full    func(client netip.Addr) // called after each of them, whose it was
	grace   time.Duration           // graceTime, unless a test is in a hurry

	mu         sync.Mutex
	changed    sync.Cond
	max        int
	open, busy int // connections, and those with a request
	closed     bool
	trusted    []netip.Prefix // proxies, behind which there are many clients
	crowds     map[netip.Prefix]*crowd
	idlers     idlers
}

const (
	// graceTime is what a connection has for its request before it may have to give
	// way: clients that all come at once wait for each other, as a person waits.
	graceTime = time.Second
	// Who has more than so many without a request, and more than this part of the
	// places, gets no grace. A browser opens six.
	graceMost = 8
	gracePart = 8
)

// A crowd is the connections of one client, as authn.Network says.
type crowd struct {
	prefix         netip.Prefix
	open, busy     int
	oldest, newest *watched // of those without a request, by since
	place          int      // in idlers
}

func (n *crowd) idle() int { return n.open - n.busy }

// idlers is a heap, the client with most connections without a request first.
type idlers []*crowd

func (h idlers) Len() int { return len(h) }
func (h idlers) Less(i, j int) bool {
	if a, b := h[i].idle(), h[j].idle(); a != b || a == 0 {
		return a > b
	}
	return h[i].oldest.since.Before(h[j].oldest.since)
}
func (h idlers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *idlers) Push(x any) {
	n := x.(*crowd)
	n.place = len(*h)
	*h = append(*h, n)
}

func (h *idlers) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	(*h)[last], *h = nil, (*h)[:last]
	return n
}

// A watched connection has a place until it is closed, or has to give way. It
// keeps *net.TCPConn's CloseWrite.
type watched struct {
	*net.TCPConn
	gate    *gate
	client  netip.Addr
	crowded atomic.Bool // its requests are refused

	// gate.mu guards the rest.
	crowd        *crowd    // nil: it has no place
	busy         bool      // with a request
	since        time.Time // when it was last without
	older, newer *watched  // in the crowd's list
}

// watch is a connection that is to enter.
func (g *gate) watch(conn *net.TCPConn) *watched {
	c := &watched{TCPConn: conn, gate: g}
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

func (c *watched) Close() error {
	c.gate.leave(c)
	return c.TCPConn.Close()
}

// limit sets how many may be open, and which proxies have no share.
func (g *gate) limit(n int, trusted []netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.max, g.trusted = n, trusted
	g.changed.Broadcast()
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.changed.Broadcast()
}

// enter gives c a place, and waits for one if it must. It is false once the gate
// is shut.
func (g *gate) enter(c *watched) bool {
	for {
		gone, ok := g.tryEnter(c)
		if gone == nil {
			return ok
		}
		g.evicted.Add(1)
		_ = gone.TCPConn.Close()
		g.full(gone.client)
	}
}

// tryEnter is enter, or the connection that has given up its place and must be
// closed first.
func (g *gate) tryEnter(c *watched) (gone *watched, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var timer *time.Timer
	for !g.closed && g.max > 0 && g.open >= g.max {
		gone, wait := g.spare(time.Now())
		switch {
		case gone != nil:
			g.remove(gone)
			return gone, false
		case wait > 0 && timer == nil:
			timer = time.AfterFunc(wait, g.wake)
			defer timer.Stop()
		case wait > 0:
			timer.Reset(wait)
		}
		g.changed.Wait()
	}
	if g.closed {
		return nil, false
	}
	key := authn.Network(c.client)
	n := g.crowds[key]
	if n == nil {
		if g.crowds == nil {
			g.crowds = map[netip.Prefix]*crowd{}
		}
		n = &crowd{prefix: key}
		g.crowds[key] = n
		heap.Push(&g.idlers, n)
	}
	g.open++
	n.open++
	c.crowd = n
	g.append(c)
	return nil, true
}

// spare is the connection that may give way now, or how long it will take until
// there is one; 0 for not before something changes.
func (g *gate) spare(now time.Time) (*watched, time.Duration) {
	if len(g.idlers) == 0 || g.idlers[0].oldest == nil {
		return nil, 0
	}
	most := g.idlers[0]
	wait := most.oldest.since.Add(g.grace).Sub(now)
	if wait <= 0 || most.idle() > max(graceMost, g.max/gracePart) {
		return most.oldest, 0
	}
	return nil, wait
}

func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed.Broadcast()
}

func (g *gate) leave(c *watched) {
	g.calm(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.crowd != nil {
		g.remove(c)
		g.changed.Signal()
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

// counts are the connections that have a request and that have none.
func (g *gate) counts() (busy, idle int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy, g.open - g.busy
}

// begin notes that c has a request, or several over HTTP/2. If it is to be
// refused, c goes on counting as idle.
func (g *gate) begin(c *watched) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := c.crowd
	switch {
	case c.busy:
		return
	case n == nil, g.max > 0 && !proxy.Share(n.busy, g.busy, g.max) && !slices.ContainsFunc(g.trusted, func(p netip.Prefix) bool { return p.Contains(c.client) }):
		if !c.crowded.Swap(true) {
			g.crowded.Add(1)
		}
		return
	}
	g.calm(c)
	g.unlink(c)
	c.busy = true
	g.busy++
	n.busy++
	heap.Fix(&g.idlers, n.place)
}

// end notes that c has none.
func (g *gate) end(c *watched) {
	g.calm(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.busy {
		return
	}
	c.busy = false
	g.busy--
	c.crowd.busy--
	g.append(c)
	g.changed.Signal()
}

func (g *gate) calm(c *watched) {
	if c.crowded.Swap(false) {
		g.crowded.Add(-1)
	}
}

// append makes c the newest of the idle ones. The caller holds mu, as for all below.
func (g *gate) append(c *watched) {
	n := c.crowd
	c.since = time.Now()
	if c.older = n.newest; c.older != nil {
		c.older.newer = c
	} else {
		n.oldest = c
	}
	n.newest = c
	heap.Fix(&g.idlers, n.place)
}

func (g *gate) unlink(c *watched) {
	n := c.crowd
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		n.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		n.newest = c.older
	}
	c.older, c.newer = nil, nil
}

// remove takes the place of c.
func (g *gate) remove(c *watched) {
	n := c.crowd
	if c.busy {
		c.busy = false
		g.busy--
		n.busy--
	} else {
		g.unlink(c)
	}
	c.crowd = nil
	g.open--
	if n.open--; n.open == 0 {
		heap.Remove(&g.idlers, n.place)
		delete(g.crowds, n.prefix)
		return
	}
	heap.Fix(&g.idlers, n.place)
}
