package proxy

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// An h2Idle ends a connection that is without a request for too long.
//
// # Why
//
// net/http's own IdleTimeout does so as well, but of a connection that its client
// ends with a request under way it stops the timer before it closes the streams,
// and closing the last one starts the timer again. That keeps the connection's
// buffers, 130 KiB and more, until it fires: who opens and drops connections fills
// the memory.
type h2Idle struct {
	limit time.Duration // 0: none
	over  atomic.Bool   // it has been reached

	mu    sync.Mutex
	timer *time.Timer
	at    time.Time // when the timer is to fire
	yes   bool      // no request is under way
}

const (
	// h2Leave is for net/http to end a connection with which it is done, which takes
	// it a second.
	h2Leave = 2 * time.Second

	// h2Goodbye is a GOAWAY (RFC 9113, section 6.8) as a client sends it: the last
	// stream 0, no error. net/http answers with its own, finishes what has begun, and
	// closes the connection.
	h2Goodbye = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
)

// changed is GuardState's.
func (c *h2Conn) changed(state http.ConnState) {
	i := &c.idle
	if i.limit <= 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case state == http.StateActive && i.yes:
		i.yes = false
		i.timer.Stop()
	case state == http.StateIdle:
		i.yes = true
		if i.timer == nil {
			i.timer = time.AfterFunc(time.Hour, c.sayGoodbye)
		}
		i.wait(i.limit)
	}
}

func (i *h2Idle) wait(d time.Duration) {
	i.at = time.Now().Add(d)
	i.timer.Reset(d)
}

// sayGoodbye wakes the reader, which ends the connection in peace. Should it be in
// the middle of a frame, it may be there for ever: then there is no peace.
func (c *h2Conn) sayGoodbye() {
	switch past := time.Unix(1, 0); {
	case !c.idle.is():
	case c.idle.over.CompareAndSwap(false, true):
		_ = c.SetReadDeadline(past)
	default:
		_ = c.SetDeadline(past) // so that no alert of TLS waits for the client
		_ = c.Conn.Close()
	}
}

// is reports whether the time is up, and begins h2Leave.
func (i *h2Idle) is() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.yes || time.Now().Before(i.at) { // there was a request meanwhile
		return false
	}
	i.wait(h2Leave)
	return true
}

// goodbyeDue reports, once, whether net/http is to be told that the connection is over.
func (c *h2Conn) goodbyeDue() bool {
	if !c.idle.over.Load() || c.goodbye || !c.begun || c.inHead || !c.in.between() {
		return false
	}
	c.goodbye = true
	return true
}

// Close leaves nothing behind: net/http calls it after the last request.
func (c *h2Conn) Close() error {
	c.idle.mu.Lock()
	c.idle.yes = false
	if c.idle.timer != nil {
		c.idle.timer.Stop()
	}
	c.idle.mu.Unlock()
	return c.Conn.Close()
}
