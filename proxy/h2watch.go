package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/authn"
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
// any connection. So this one passes for that, and says by [GuardRequest] what it
// is. What net/http would make of a client that begins otherwise, HTTP/1 past the
// Guard, it never sees.
type h2Conn struct {
	net.Conn
	tls    tls.ConnectionState
	client netip.Addr
	guard  *Guard

	// Of the reader.
	preface  [len(h2Preface)]byte
	greeted  bool   // all of it was read, and it is right
	first    string // to be handed on before anything else
	err      error
	in       h2Frames
	begun    bool // there was a frame
	inHead   bool // of a request, which takes several frames
	woken    bool // by sayGoodbye
	goodbye  bool // net/http has been told that the connection is over
	spare    int  // what may still come, in units of h2Frame
	since    time.Time
	held     time.Duration // for how long reading had to wait
	lastHeld time.Time

	// Of the writer.
	out   h2Frames
	ended int64 // answers
	told  bool  // that the client does not speak HTTP/2

	handled atomic.Int64 // requests that net/http has handed on
	holding atomic.Int32 // refusals that are held up, or that nobody takes
	refused atomic.Bool  // nothing is read any more

	earned  atomic.Int64 // by answers, in units of h2Frame
	owed    atomic.Int64 // for resets of the server, in those units
	granted atomic.Int64 // window updates that may still come, in units of h2Window

	idle h2Idle
}

const (
	h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	h2Data         = 0
	h2Headers      = 1
	h2RSTStream    = 3
	h2GoAway       = 7
	h2WindowUpdate = 8
	h2Continuation = 9

	h2EndStream  = 1
	h2EndHeaders = 4
	h2Padded     = 8

	h2NoError       = 0
	h2ProtocolError = 1

	// What a frame that asks for nothing takes, and a head until it is answered.
	h2Frame = 2
	// A request that is answered has its head back, and earns what another takes that
	// is not: half of its requests a client may take back, as fast as it likes.
	h2Request = 3 * h2Frame
	// A piece of an answer earns the ping with which a client measures how fast it
	// comes, as that of gRPC does.
	h2Answer = h2Frame
	// What a connection has for itself: the requests that may be open at once. The
	// rest comes out of what the client's address has, so that a new connection is no
	// way around it.
	h2Spare       = 100 * h2Frame
	h2SparePerSec = 10 * h2Frame
	// Who had to wait for so long, without a break as long, is not read from any
	// more.
	h2Patience = 10 * time.Second

	// A window update follows what was sent. Clients send two for each piece that
	// they take, of 4 KiB at least, or of what one event has.
	h2Window          = 256 // bytes sent that allow one
	h2WindowsPerWrite = 4
	h2WindowsFirst    = 10000
)

var errTooManyFrames = errors.New("too many HTTP/2 frames that ask for nothing")

func newH2Conn(conn *tls.Conn, guard *Guard, idle time.Duration) *h2Conn {
	c := &h2Conn{Conn: conn, tls: conn.ConnectionState(), guard: guard, spare: h2Spare, since: time.Now()}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		c.client = at.Addr().Unmap().WithZone("")
	}
	if !h2Suite(&c.tls) {
		c.err = io.EOF
	}
	c.granted.Store(h2WindowsFirst * h2Window)
	c.idle.limit = idle
	return c
}

// h2Suite reports whether HTTP/2 may be spoken over s: RFC 9113, section 9.2.2 and
// appendix A.
func h2Suite(s *tls.ConnectionState) bool {
	name := tls.CipherSuiteName(s.CipherSuite)
	return s.Version >= tls.VersionTLS13 ||
		s.Version == tls.VersionTLS12 && strings.HasPrefix(name, "TLS_ECDHE_") && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_POLY1305_"))
}

// GuardRequest returns the Request.TLS, which net/http does not know, of a request
// on an HTTP/2 connection of [Guard.Conn], and is to be called once for each. It is
// nil for all other connections.
func GuardRequest(conn net.Conn) *tls.ConnectionState {
	if c, ok := conn.(*h2Conn); ok {
		c.handled.Add(1)
		return &c.tls
	}
	return nil
}

// GuardAnswered tells such a connection that a request was answered.
func GuardAnswered(conn net.Conn) {
	if c, ok := conn.(*h2Conn); ok {
		c.earned.Add(h2Request)
	}
}

// NetConn is the connection below, as [tls.Conn.NetConn] has it.
func (c *h2Conn) NetConn() net.Conn { return c.Conn }

func (c *h2Conn) Write(p []byte) (int, error) {
	if c.granted.Load() < h2WindowsFirst*h2Window {
		c.granted.Add(h2WindowsPerWrite*h2Window + int64(len(p)))
	}
	c.sent(p)
	return c.Conn.Write(p)
}

// sent looks at what the server writes. A reset tells of a client that has sent what
// cannot be (CVE-2025-8671), but for the one after an early answer.
func (c *h2Conn) sent(p []byte) {
	data := false
	for f := range c.out.each(p) {
		switch f.kind() {
		case h2Data, h2Headers:
			data = data || f.kind() == h2Data
			if f.flags()&h2EndStream == 0 {
				continue
			}
			if c.ended++; c.ended > c.handled.Load() {
				// No handler has answered: the request has fields of a connection
				// (RFC 9113, section 8.2.2), or too many.
				c.refuse("net/http cannot read the request")
			}
		case h2RSTStream:
			if f.code() != h2NoError {
				c.owed.Add(h2Frame)
			}
			if f.code() == h2ProtocolError {
				c.refuse("the request is malformed")
			}
		case h2GoAway:
			if f.code() != h2NoError {
				c.refuse(fmt.Sprintf("the client breaks the rules: error %d", f.code()))
			}
		}
	}
	if data {
		c.earned.Add(h2Answer)
	}
}

// refuse reads no more, and says why. RFC 9113, section 5.4.2, lets a malformed
// request end the connection: who sends one may have more of them.
func (c *h2Conn) refuse(why string) {
	if c.told {
		return
	}
	c.told = true
	if m := c.guard.Metrics; m != nil {
		m.refused(authn.ErrInvalidRequest.Code)
	}
	c.guard.Log.LogAttrs(context.Background(), slog.LevelInfo, "connection refused",
		slog.String("client", c.client.String()), slog.String("decision", authn.ErrInvalidRequest.Code), slog.String("reason", "HTTP/2: "+why))
	c.refused.Store(true)
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
}

// linger drops what a refused client still sends while the answer is on its way.
func (c *h2Conn) linger(scratch []byte) error {
	c.guard.Pace.hold(lifetime(c.Conn), c.client, 1)
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	for left := lingerBytes; left > 0; {
		n, err := c.Conn.Read(scratch)
		if left -= n; err != nil {
			break
		}
	}
	return io.EOF // for net/http as if the client had gone
}

func (c *h2Conn) Read(p []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.refused.Load():
		c.err = c.linger(p)
		return 0, c.err
	case !c.greeted:
		if _, err := io.ReadFull(c.Conn, c.preface[:]); err != nil || string(c.preface[:]) != h2Preface {
			c.err = io.EOF
			return 0, c.err
		}
		c.greeted, c.first = true, h2Preface
	}
	if len(c.first) == 0 && c.goodbyeDue() {
		c.first = h2Goodbye
	}
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if c.refused.Load() {
		c.err = c.linger(p)
		return 0, c.err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.woken { // by sayGoodbye
		c.woken = true
		_ = c.SetReadDeadline(time.Time{})
		if n == 0 {
			return c.Read(p)
		}
		err = nil
	}
	c.spare -= c.follow(p[:n])
	if c.owed.Load() > 0 {
		c.spare -= int(c.owed.Swap(0))
	}
	if c.spare < 0 {
		c.holdUp(time.Now())
	}
	if c.err != nil {
		return 0, c.err
	}
	return n, err
}

// follow is what the frames in b take, in units of h2Frame.
func (c *h2Conn) follow(b []byte) (taken int) {
	for f := range c.in.each(b) {
		c.begun = true
		if f.kind() == h2Headers || f.kind() == h2Continuation {
			c.inHead = f.flags()&h2EndHeaders == 0
		}
		switch f.kind() {
		case h2Data:
			if f.empty() && f.flags()&h2EndStream == 0 {
				taken += h2Frame
			}
		case h2Continuation:
			if f.empty() && f.flags()&h2EndHeaders == 0 {
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
	earned := int64(min(now.Sub(c.since), time.Minute)*h2SparePerSec/time.Second) + c.earned.Swap(0)
	c.spare = int(min(h2Spare, int64(c.spare)+earned))
	c.since = now
	if c.spare >= 0 {
		return
	}
	wait := c.guard.Pace.hold(lifetime(c.Conn), c.client, (h2Frame-1-c.spare)/h2Frame)
	c.spare = 0
	if wait <= 0 {
		return
	}
	if now.Sub(c.lastHeld) > h2Patience {
		c.held = 0
	}
	c.held, c.lastHeld = c.held+wait, now
	if c.held > h2Patience {
		c.err = errTooManyFrames
		c.guard.Log.LogAttrs(context.Background(), slog.LevelInfo, "connection closed",
			slog.String("client", c.client.String()), slog.String("reason", c.err.Error()))
	}
}
