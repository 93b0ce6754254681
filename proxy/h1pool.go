package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idlePerUpstream is large: a connection that is closed for want of room
	// is paid for again by the next request.
	idlePerUpstream = 4096
	// idleTimeout is how long a connection is kept that nobody needs, and
	// crowdTimeout how long one is beyond idleForLong: those of a rush. An
	// upstream may have a thread for each.
	idleTimeout  = 90 * time.Second
	idleForLong  = 256
	crowdTimeout = 10 * time.Second
	// sweepEvery is how often idle connections are looked at: those that the
	// upstream has closed would keep their sockets until somebody needs one.
	sweepEvery = 5 * time.Second
)

// h1Pool keeps the connections of one upstream that no request uses. The one
// used last is taken first, so that what is not needed grows old. It is ready
// with a room.
type h1Pool struct {
	room *h1Room

	mu      sync.Mutex
	idle    []*h1Conn // by idleSince
	sweeper *time.Timer
	waiting bool         // for the sweeper
	retired atomic.Bool  // nothing is kept any more
	open    atomic.Int64 // connections, idle or not
	made    atomic.Int64
}

// evict closes the connection that was idle for the longest time, if there is one.
func (p *h1Pool) evict() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return false
	}
	p.idle[0].close()
	p.idle = slices.Delete(p.idle, 0, 1)
	return true
}

// pop is a connection that was idle, or nil.
func (p *h1Pool) pop() *h1Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// push keeps c for the next request, or closes it if there is no room.
func (p *h1Pool) push(c *h1Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired.Load() || len(p.idle) >= idlePerUpstream {
		c.close()
		return
	}
	c.idleSince = time.Now()
	p.idle = append(p.idle, c)
	switch {
	case p.waiting:
		return
	case p.sweeper == nil:
		p.sweeper = time.AfterFunc(sweepEvery, func() { p.sweep(time.Now()) })
	default:
		p.sweeper.Reset(sweepEvery)
	}
	p.waiting = true
}

// sweep closes the connections that nobody has needed for too long, and those on
// which something has come.
func (p *h1Pool) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, crowd := p.idle[:0], len(p.idle)-idleForLong
	for i, c := range p.idle {
		unused := now.Sub(c.idleSince)
		if unused > idleTimeout || i < crowd && unused > crowdTimeout {
			c.close()
			continue
		}
		c.limit(0)
		if err := c.quiet(); err != nil {
			c.discard(err)
			continue
		}
		kept = append(kept, c)
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.waiting = len(kept) > 0; p.waiting {
		p.sweeper.Reset(sweepEvery)
	}
}

// retire closes what is idle, and the others when their request is done.
func (p *h1Pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired.Store(true)
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
}

// counts are the open connections, how many of them are idle, and how many were
// made since the start.
func (p *h1Pool) counts() (open, idle, made int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.open.Load()), len(p.idle), int(p.made.Load())
}
