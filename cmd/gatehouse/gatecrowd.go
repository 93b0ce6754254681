package main

import (
	"container/heap"
	"net/netip"
	"time"
)

// A crowd is the connections of one client, as authn.Network says.
type crowd struct {
	prefix         netip.Prefix
	open           int
	busy, draining int
	oldest, newest *watched  // of the others, by since
	paid           time.Time // when those that have come so far will be, see gate.rushes
	place          int       // in idlers
}

// idlers is a heap of the clients. First is, of those that have a connection
// without a request, the one with most connections.
type idlers []*crowd

func (h idlers) Len() int { return len(h) }
func (h idlers) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.oldest == nil || b.oldest == nil:
		return a.oldest != nil
	case a.open != b.open:
		return a.open > b.open
	}
	return a.oldest.since.Before(b.oldest.since)
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

// The caller holds the gate's mutex for all below.

// take makes c, which is in no list, one of those with a request.
func (g *gate) take(c *watched) {
	c.busy = true
	g.busy++
	c.crowd.busy++
	heap.Fix(&g.idlers, c.crowd.place)
}

// drains notes whether c, which is in no list, is draining.
func (g *gate) drains(c *watched, yes bool) {
	if c.draining = yes; !yes {
		c.crowd.draining--
		delete(g.draining, c)
		return
	}
	c.crowd.draining++
	if g.draining == nil {
		g.draining = map[*watched]bool{}
	}
	g.draining[c] = true
}

// release is the opposite of take. c belongs into the list then.
func (g *gate) release(c *watched) {
	c.busy = false
	g.busy--
	c.crowd.busy--
}

// append makes c the newest of those without a request.
func (g *gate) append(c *watched) { g.insert(c, c.crowd.newest, nil) }

// prepend makes c the oldest of them.
func (g *gate) prepend(c *watched) { g.insert(c, nil, c.crowd.oldest) }

func (g *gate) insert(c, older, newer *watched) {
	n := c.crowd
	if c.older = older; older != nil {
		older.newer = c
	} else {
		n.oldest = c
	}
	if c.newer = newer; newer != nil {
		newer.older = c
	} else {
		n.newest = c
	}
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
	switch {
	case c.busy:
		g.release(c)
	case c.draining:
		g.drains(c, false)
	default:
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

// floodPace is how many times as long a client whose refusals have to wait does so for
// its next connection.
const floodPace = 5

// rushes reports whether connections of n, a client that has many, come too fast after
// one another where all places are taken, and counts the one that does not. Each may ask
// for a hundred things at once, for all of which others would have to wait: 20 that
// replaced 20, all the time, took honest clients' p99 to four times its own. Half of what
// it has a client may replace at once, now and then (the generic cell rate algorithm),
// but not if what it asks for is refused anyway: then each has to wait floodPace times as
// long, and not even places are for it that are free for a moment while somebody waits.
func (g *gate) rushes(n *crowd, client netip.Addr, now time.Time) bool {
	if g.max == 0 || g.open+g.waiting < g.max || 4*n.open <= g.max {
		return false
	}
	each, burst := min(g.pause, 2*g.grace/time.Duration(n.open)), g.grace
	if g.owes != nil && g.owes(client) {
		each *= floodPace
		burst = each
	} else if g.open < g.max {
		return false
	}
	paid := n.paid
	if paid.Before(now) {
		paid = now
	}
	if paid = paid.Add(each); paid.Sub(now) > burst {
		return true
	}
	n.paid = paid
	return false
}
