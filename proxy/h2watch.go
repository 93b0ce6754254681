package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// An h2Conn follows the frames that an HTTP/2 client sends (RFC 9113, section
// 4.1) and reads no further from one that sends what asks for nothing, such as
// pings, settings, priorities, resets and empty data, in any number: net/http
// answers them as fast as they come, and its requests have to wait for that. The
// frames beyond what a client may need count as refusals do, see [Pace].
//
// # Why
//
// Only frames tell a flood (CVE-2023-44487, CVE-2019-9512, -9515, -9518) from an
// upload, and net/http shows them to nobody. It takes HTTP/2 over TLS from a
// *tls.Conn alone, which nothing can be put around, but unencrypted HTTP/2 from
// any connection. So this one passes for that, and says by TLS what it is.
type h2Conn struct {
	net.Conn
	tls    tls.ConnectionState
	client netip.Addr
	guard  *Guard

	// Of the reader.
	head  [h2HeadBytes]byte
	have  int    // bytes of head
	left  uint32 // of the preface, or of a frame's payload
	spare int    // what may still come, in units of h2Frame
	since time.Time
	held  int // how often reading had to wait

	granted atomic.Int64 // window updates that may still come, in units of h2Window
}

var errTooManyFrames = errors.New("too many HTTP/2 frames that ask for nothing")

const (
	h2Preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2HeadBytes = 9

	h2Data         = 0
	h2Headers      = 1
	h2WindowUpdate = 8
	h2Continuation = 9

	// What a frame that asks for nothing takes. One that asks gives 1 back: half of
	// its requests a client may take back, as fast as it likes.
	h2Frame = 2
	// What a connection has for itself: a client that measures it pings a few times
	// per second. The rest comes out of what the client's address has, so that a new
	// connection is no way around it.
	h2Spare       = 50 * h2Frame
	h2SparePerSec = 10 * h2Frame
	// Who had to wait as often as this is not read from any more.
	h2Held = 50

	// A window update follows what was sent. Clients send two for each piece that
	// they take, of 4 KiB at least, or of what one event has.
	h2Window          = 256 // bytes sent that allow one
	h2WindowsPerWrite = 4
	h2WindowsFirst    = 10000
)

// TLSOf is what Request.TLS should be for requests of an HTTP/2 connection that
// [Guard.Conn] returned, and nil for all others.
func TLSOf(conn net.Conn) *tls.ConnectionState {
	if c, ok := conn.(*h2Conn); ok {
		return &c.tls
	}
	return nil
}

func newH2Conn(conn *tls.Conn, guard *Guard) *h2Conn {
	c := &h2Conn{Conn: conn, tls: conn.ConnectionState(), guard: guard, left: uint32(len(h2Preface)), spare: h2Spare, since: time.Now()}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		c.client = at.Addr()
	}
	c.granted.Store(h2WindowsFirst * h2Window)
	return c
}

func (c *h2Conn) Write(p []byte) (int, error) {
	if c.granted.Load() < h2WindowsFirst*h2Window {
		c.granted.Add(h2WindowsPerWrite*h2Window + int64(len(p)))
	}
	return c.Conn.Write(p)
}

func (c *h2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.spare = min(h2Spare, c.spare-c.follow(p[:n])); c.spare < 0 {
		c.holdUp(time.Now())
	}
	if c.held >= h2Held {
		return 0, errTooManyFrames
	}
	return n, err
}

// follow is what the frames in b take, in units of h2Frame.
func (c *h2Conn) follow(b []byte) (taken int) {
	for len(b) > 0 {
		if c.left > 0 {
			n := min(uint32(len(b)), c.left)
			b, c.left = b[n:], c.left-n
			continue
		}
		n := copy(c.head[c.have:], b)
		b = b[n:]
		if c.have += n; c.have < h2HeadBytes {
			return taken
		}
		c.have = 0
		c.left = uint32(c.head[0])<<16 | uint32(c.head[1])<<8 | uint32(c.head[2])
		switch c.head[3] {
		case h2Headers:
			taken--
		case h2Data, h2Continuation:
			if c.left == 0 && c.head[4] == 0 { // neither content nor an end
				taken += h2Frame
			}
		case h2WindowUpdate:
			if c.granted.Add(-h2Window) < 0 {
				c.granted.Add(h2Window)
				taken += h2Frame
			}
		default:
			taken += h2Frame
		}
	}
	return taken
}

// holdUp waits for what the client has taken beyond its due.
func (c *h2Conn) holdUp(now time.Time) {
	c.spare = min(h2Spare, c.spare+int(min(now.Sub(c.since), time.Minute)*h2SparePerSec/time.Second))
	c.since = now
	if c.spare < 0 {
		if c.guard.Pace.hold(context.Background(), c.client, (h2Frame-1-c.spare)/h2Frame) > 0 {
			c.held++
		}
		if c.held == h2Held {
			c.guard.Log.LogAttrs(context.Background(), slog.LevelInfo, "connection closed",
				slog.String("client", c.client.String()), slog.String("reason", errTooManyFrames.Error()))
		}
		c.spare = 0
	}
}
