package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// h1Conn is a connection to an upstream. It belongs to one request at a time.
type h1Conn struct {
	net.Conn  // wire, or TLS over it
	transport *h1Transport
	wire      *wire
	in        *bufio.Reader // nil while idle
	reused    bool
	once      bool      // it was made for an upgrade: it cannot tell whether the upstream speaks HTTP/2
	deadline  time.Time // of reading and writing; zero: none is set
	idleSince time.Time
	hangUp    func() // closes wire; made once
	one       [1]byte
}

// wire is the socket of a connection.
type wire struct {
	net.Conn
	peeker  *peeker
	peeking bool // reads do not wait
	closed  atomic.Bool
	pool    *h1Pool
	used    bool         // by a request
	user    netip.Prefix // whose that is
}

func newWire(conn net.Conn, pool *h1Pool) (*wire, error) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	peeker, err := newPeeker(socket)
	if err != nil {
		return nil, err
	}
	pool.open.Add(1)
	return &wire{Conn: conn, peeker: peeker, pool: pool}, nil
}

func (w *wire) Read(p []byte) (int, error) {
	if w.peeking {
		return w.peeker.read(p)
	}
	return w.Conn.Read(p)
}

// Close may be called from anywhere, and more than once.
func (w *wire) Close() error {
	if w.closed.Swap(true) {
		return net.ErrClosed
	}
	w.pool.open.Add(-1)
	w.pool.room.leave()
	if w.used {
		w.pool.room.give(w.user)
	}
	return w.Conn.Close()
}

// CloseWrite ends an upgraded connection in one direction.
func (w *wire) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// connector is h1Transport.connect. A nil config is a connection without TLS.
func (t *h1Transport) connector(dial func(context.Context) (net.Conn, error), config *tls.Config, handshake time.Duration) func(context.Context, bool) (*h1Conn, error) {
	return func(ctx context.Context, upgrade bool) (*h1Conn, error) {
		if err := t.room.enter(); err != nil {
			return nil, err
		}
		conn, err := dial(ctx)
		if err != nil {
			t.room.leave()
			return nil, err
		}
		w, err := newWire(conn, &t.h1Pool)
		if err != nil {
			t.room.leave()
			conn.Close()
			return nil, err
		}
		t.made.Add(1)
		c := &h1Conn{Conn: w, wire: w, transport: t, hangUp: func() { w.Close() }}
		if config == nil {
			return c, nil
		}
		offer := config
		if c.once = upgrade; upgrade { // HTTP/2 has no upgrades
			offer = config.Clone()
			offer.NextProtos = []string{"http/1.1"}
		}
		secure := tls.Client(w, offer)
		ctx, cancel := context.WithTimeoutCause(ctx, handshake, lateError{"TLS handshake timeout"})
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			w.Close()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
		c.Conn = secure
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			c.close()
			return nil, errSpeaksHTTP2
		}
		return c, nil
	}
}

// limit sets how long reading and writing may take from now on, to a sixteenth:
// a deadline that is near enough is left, since each of its two timers would have
// to be moved for every request. 0 is no limit.
func (c *h1Conn) limit(d time.Duration) {
	if d <= 0 {
		if !c.deadline.IsZero() {
			c.deadline = time.Time{}
			c.wire.SetDeadline(c.deadline)
		}
		return
	}
	now, more := time.Now(), d/16
	if left := c.deadline.Sub(now); left < d || left > d+more {
		c.deadline = now.Add(d + more)
		c.wire.SetDeadline(c.deadline)
	}
}

var errUnsolicited = errors.New("bytes of the upstream that no request asked for")

// quiet looks whether something has come on an idle connection: an end, bytes
// that nobody asked for, or nothing, and then the error is nil.
func (c *h1Conn) quiet() error {
	c.wire.peeking = true
	n, err := c.Conn.Read(c.one[:])
	c.wire.peeking = false
	switch {
	case n > 0:
		return errUnsolicited
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

// discard closes an idle connection on which something has come.
func (c *h1Conn) discard(why error) {
	if why != io.EOF {
		c.transport.log.Debug("idle upstream connection closed", "upstream", c.RemoteAddr().String(), "reason", shownError{why}.Error())
	}
	c.close()
}

// close says goodbye where TLS has a word for it.
func (c *h1Conn) close() {
	c.Conn.Close()
	c.wire.Close()
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// h1Exchange is one request on a connection. Reading the answer is one side of
// it, sending a body while it is read the other.
type h1Exchange struct {
	conn    *h1Conn
	request *http.Request
	body    h1Body      // of the answer
	upload  *h1Upload   // nil: the request is sent
	unwatch func() bool // ends the watch over the context; nil: that cannot end
	again   bool        // after an error: the request may be sent on another connection
	sides   atomic.Int32
	spoilt  atomic.Bool // the connection is of no further use
}

func newH1Exchange(c *h1Conn, r *http.Request) *h1Exchange {
	x := &h1Exchange{conn: c, request: r}
	x.sides.Store(1)
	if ctx := r.Context(); ctx.Done() != nil {
		x.unwatch = context.AfterFunc(ctx, c.hangUp)
	}
	c.in = readers.Get().(*bufio.Reader)
	c.in.Reset(c.Conn)
	return x
}

func (x *h1Exchange) roundTrip(out *h1Outgoing) (*http.Response, error) {
	n, err := x.conn.Write(out.head)
	if err != nil {
		x.again = x.conn.reused && n == 0 && !x.late(err)
		return nil, x.fail(err)
	}
	if out.streams() {
		x.sides.Add(1)
		x.conn.limit(0) // the client may take its time
		x.upload = newH1Upload(x, out)
		go x.upload.run()
	}
	res, err := x.answer()
	if err != nil {
		return nil, x.fail(err)
	}
	return res, nil
}

// fail ends the exchange before there was an answer, and says why.
func (x *h1Exchange) fail(err error) error {
	why := x.reason(err)
	if why == err && x.late(err) {
		why = errNoAnswer
	}
	if x.upload != nil {
		x.upload.answered() // nobody waits for the rest of the body
	}
	x.abort()
	return why
}

// late reports that a deadline on the connection has passed.
func (x *h1Exchange) late(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Timeout()
}

// reason is what is behind an error of the connection: the end of the context
// and a failed upload close it.
func (x *h1Exchange) reason(err error) error {
	if ctx := x.request.Context(); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if x.upload != nil {
		if failed := x.upload.failure(); failed != nil {
			return failed
		}
	}
	return err
}

// abort closes the connection at once. It ends the side that reads.
func (x *h1Exchange) abort() {
	x.conn.wire.Close()
	x.leave(false)
}

// leave is called by each side when it is done. The last one gives the
// connection back.
func (x *h1Exchange) leave(reusable bool) {
	if !reusable {
		x.spoilt.Store(true)
	}
	if x.sides.Add(-1) > 0 {
		return
	}
	c := x.conn
	// A watch that cannot be ended any more is closing the connection.
	alive := (x.unwatch == nil || x.unwatch()) && !x.spoilt.Load() && !c.once
	switch {
	case !alive: // somebody may still be reading
		c.close()
	case c.in.Buffered() > 0:
		c.discard(errUnsolicited)
	default:
		c.in.Reset(nil)
		readers.Put(c.in)
		c.in = nil
		// Whoever is let in for it must find it idle, or room for another.
		user, room := c.wire.user, c.transport.room
		c.wire.used = false
		c.transport.push(c)
		room.give(user)
	}
}
