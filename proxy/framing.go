package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"gatehouse/authn"
)

// A Guard refuses HTTP/1.x requests whose framing two parsers could read in two
// ways, before net/http sees them: request smuggling needs such a request.
//
// # Why
//
// net/http takes Content-Length beside Transfer-Encoding, equal lengths twice,
// folded lines and bare line feeds, as RFC 9112 allows, and has tidied up by the
// time a handler runs. So a connection is watched from below. Every byte that
// net/http reads passes through one strict grammar (framing_head.go,
// framing_body.go), in the buffer that net/http reads into: nothing is copied,
// nothing is kept. The last byte of a head is handed on only when all of the
// head is good, so there is nothing to dispatch if it is not; and bytes beyond a
// message's end are handed on only when net/http asks for the next one, so both
// agree where each message begins.
//
// HTTP/2 has frames and needs none of this. There it is their number that is
// watched (h2watch.go).
type Guard struct {
	Log     *slog.Logger
	Metrics *Metrics // nil: refusals are not counted
	Pace    *Pace    // nil: nobody is held up
}

const (
	// What a refused client may still send while the answer is on its way to it.
	// A connection that is closed with unread bytes is reset, which can take the
	// answer from the client again (RFC 9112, section 9.6).
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10

	defaultHeaderBytes = http.DefaultMaxHeaderBytes
)

// Conn guards a connection of an http.Server, whose ConnState must be
// [GuardState], and whose Protocols must have UnencryptedHTTP2, since HTTP/2 over
// TLS looks so to it, see [GuardRequest]. A *tls.Conn must have done its handshake; one
// that negotiated another protocol is returned as it is. More than headerBytes of a
// head are refused; 0 is net/http's default. A connection of HTTP/2 ends after idle
// without a request, 0 for never: for that of the server see h2Idle. What the guard
// waits for ends with the Lifetime() context.Context of the connection or of one below
// it (NetConn), if one has it: who closes one tells nobody above.
func (g *Guard) Conn(conn net.Conn, headerBytes int, idle time.Duration) net.Conn {
	if headerBytes <= 0 {
		headerBytes = defaultHeaderBytes
	}
	c := &guarded{Conn: conn, guard: g, framer: framer{limit: headerBytes}, unwritten: true}
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return c
	}
	switch secure.ConnectionState().NegotiatedProtocol {
	case "", "http/1.1", "http/1.0":
		return &guardedTLS{c}
	case "h2":
		return newH2Conn(secure, g, idle)
	}
	return conn
}

// lifetime is that of conn or of one below it, see [Guard.Conn].
func lifetime(conn net.Conn) context.Context {
	for {
		switch c := conn.(type) {
		case interface{ Lifetime() context.Context }:
			return c.Lifetime()
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return context.Background()
		}
	}
}

// GuardState is the http.Server.ConnState of guarded connections. It tells
// them when an answer is complete, and when a handler has taken over, as for a
// websocket: what follows then is not HTTP.
func GuardState(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(interface{ changed(http.ConnState) }); ok {
		c.changed(state)
	}
}

// A guarded connection belongs to whoever reads from it. net/http reads from one
// goroutine at a time, and calls GuardState when none does.
type guarded struct {
	net.Conn
	guard *Guard
	framer

	rest     *[]byte // read beyond a message's end: clients that pipeline have it
	restFrom int

	hijacked  bool
	answering bool       // from the end of a head to the end of the answer
	unwritten bool       // nothing of the answer was written yet
	pending   *violation // to be answered when the answer before it is complete
	err       error      // of all reads from now on
}

// guardedTLS is one over TLS. net/http fills in Request.TLS by ConnectionState,
// which a plain connection must therefore not have.
type guardedTLS struct{ *guarded }

func (c *guardedTLS) ConnectionState() tls.ConnectionState {
	return c.Conn.(*tls.Conn).ConnectionState()
}

// NetConn is the connection below, as [tls.Conn.NetConn] has it.
func (c *guarded) NetConn() net.Conn { return c.Conn }

// CloseWrite keeps half-closing possible, which net/http and websockets do.
func (c *guarded) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *guarded) changed(state http.ConnState) {
	switch state {
	case http.StateIdle:
		c.answering, c.unwritten = false, true
	case http.StateHijacked:
		// The byte that net/http reads ahead while a handler runs was judged as
		// the beginning of a request. It was not.
		c.hijacked, c.pending = true, nil
	}
}

func (c *guarded) Read(p []byte) (int, error) {
	switch {
	case c.hijacked:
		if c.rest == nil {
			return c.Conn.Read(p)
		}
		n := copy(p, (*c.rest)[c.restFrom:])
		c.consumed(n)
		return n, nil
	case c.err != nil:
		return 0, c.err
	case c.pending != nil:
		return 0, c.refuse(c.pending, p)
	case len(p) == 0:
		return c.Conn.Read(p)
	}
	ahead := c.answering && c.between()
	if ahead {
		// net/http reads one byte ahead to notice that a client has gone. An
		// answer is being written now, so whatever is wrong has to wait.
		p = p[:1]
	}
	for {
		b, err := c.fetch(p)
		if len(b) == 0 {
			return 0, err
		}
		stray, wrong := c.strays(b)
		if stray > 0 && ahead && c.seen&fieldUpgrade != 0 {
			// It may not be HTTP at all, so nothing is left out. If it is, then too much
			// is lost to go on.
			stray, wrong = 0, bad("a line end behind a request for an upgrade")
		}
		c.complete = false
		n := 0
		if wrong == nil && stray < len(b) {
			n, wrong = c.scan(b[stray:])
		}
		switch {
		case wrong == nil:
		case ahead:
			c.pending = wrong
			c.deliver(p, b, 0, 1)
			return 1, nil
		case c.answering:
			// In a body. Whoever reads it fails, and the answer closes the connection.
			c.err = wrong
			return 0, wrong
		default:
			return 0, c.refuse(wrong, p)
		}
		c.answering = c.answering || c.complete
		c.deliver(p, b, stray, n)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// fetch returns bytes to look at: from rest, or read into p.
func (c *guarded) fetch(p []byte) ([]byte, error) {
	if c.rest != nil {
		b := (*c.rest)[c.restFrom:]
		return b[:min(len(b), len(p))], nil
	}
	if c.state == inBody && uint64(len(p)) > c.left {
		p = p[:c.left] // so that there is no rest
	}
	n, err := c.Conn.Read(p)
	return p[:n], err
}

// deliver moves the n bytes of b after the first stray ones to the beginning of
// p and keeps what follows them.
func (c *guarded) deliver(p, b []byte, stray, n int) {
	if c.rest != nil {
		copy(p, b[stray:stray+n])
		c.consumed(stray + n)
		return
	}
	if more := b[stray+n:]; len(more) > 0 {
		c.rest, c.restFrom = rests.Get().(*[]byte), 0
		*c.rest = append((*c.rest)[:0], more...)
	}
	if stray > 0 {
		copy(p, b[stray:stray+n])
	}
}

func (c *guarded) consumed(n int) {
	if c.restFrom += n; c.restFrom == len(*c.rest) {
		rests.Put(c.rest)
		c.rest = nil
	}
}

var rests = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Write passes on what answers a request. A head that the grammar allows and
// net/http cannot read all the same (`GET /%zz`) never reaches a handler: net/http
// answers by itself, with neither request id nor log line. That answer is
// replaced.
func (c *guarded) Write(p []byte) (int, error) {
	if c.unwritten {
		c.unwritten = false
		if wrong := ownRefusal(p); wrong != nil {
			_ = c.refuse(wrong, make([]byte, 4<<10))
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

// ownRefusal reads what net/http writes where it refuses a request itself. The
// answer of a handler has other fields: X-Request-Id at least.
func ownRefusal(p []byte) *violation {
	const version = "HTTP/1.1 "
	line, body, is := bytes.Cut(p, []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"))
	if !is || !bytes.HasPrefix(line, []byte(version)) || bytes.Contains(line, []byte("\r\n")) || len(line) < len(version)+3 {
		return nil
	}
	status, err := strconv.Atoi(string(line[len(version):][:3]))
	if err != nil || status < 400 {
		return nil
	}
	return &violation{status, "net/http cannot read the request: " + withoutQuotes(string(body))}
}

// refuse answers instead of net/http and returns the error that makes it close
// the connection without a word. scratch is overwritten.
func (c *guarded) refuse(wrong *violation, scratch []byte) error {
	c.err = &net.OpError{Op: "read", Net: "tcp", Err: wrong}
	ref := authn.ErrInvalidRequest
	if wrong.status == http.StatusRequestHeaderFieldsTooLarge {
		ref = authn.ErrHeaderTooLarge
	}
	id := newRequestID()
	if m := c.guard.Metrics; m != nil {
		m.refused(ref.Code)
	}
	client := c.RemoteAddr().String()
	at, err := netip.ParseAddrPort(client)
	if err == nil {
		client = at.Addr().Unmap().String()
	}
	c.guard.Log.LogAttrs(context.Background(), slog.LevelInfo, "connection refused",
		slog.String("request_id", id), slog.String("client", client), slog.Int("status", wrong.status),
		slog.String("decision", ref.Code), slog.String("reason", wrong.Error()))

	c.guard.Pace.hold(lifetime(c.Conn), at.Addr(), 1)
	now := time.Now()
	_ = c.SetDeadline(now.Add(lingerTime))
	body, _ := json.Marshal(errorBody{ref.Code, ref.Message, id}) // three strings
	_, err = fmt.Fprintf(c.Conn, "HTTP/1.1 %d %s\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: %d\r\n"+
		"Content-Type: application/json\r\nDate: %s\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: %s\r\n\r\n%s\n",
		wrong.status, http.StatusText(wrong.status), len(body)+1, now.UTC().Format(http.TimeFormat), id, body)
	if err == nil && c.CloseWrite() == nil {
		for left := lingerBytes; left > 0 && err == nil; {
			var n int
			n, err = c.Conn.Read(scratch)
			left -= n
		}
	}
	return c.err
}

// chunkedBody notes what was wrong with the chunks of a request's body, for the
// answer and the log: to net/http it looks as if the client had gone.
type chunkedBody struct {
	io.ReadCloser
	x *exchange
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if wrong, ok := err.(*violation); ok {
		b.x.misframed.Store(wrong)
	}
	return n, err
}

// checkFrames refuses an HTTP/2 request that expects what nobody knows, as the
// grammar does of HTTP/1, or whose Content-Length cannot be true: a body that is
// longer or shorter than it says is the server's to find, but it does not compare
// where no body follows (RFC 9113, section 8.1.1).
func (x *exchange) checkFrames(r *http.Request) error {
	if r.ProtoMajor < 2 {
		return nil
	}
	if expected := r.Header["Expect"]; len(expected) > 1 || len(expected) == 1 && !strings.EqualFold(expected[0], "100-continue") {
		return authn.ErrInvalidRequest.Because(fmt.Errorf("expectation %.100q, want 100-continue", expected))
	}
	lengths := r.Header["Content-Length"]
	if len(lengths) == 0 {
		return nil
	}
	declared, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil || len(lengths) > 1 || int64(declared) != r.ContentLength || lengths[0][0] == '+' {
		return authn.ErrInvalidRequest.Because(fmt.Errorf("Content-Length %.100q, and a body of %d bytes", lengths, r.ContentLength))
	}
	if declared > 0 || r.Body == nil {
		return nil
	}
	// Forwarding would not wait for the end of a body that is said to be empty.
	if t := x.snapshot.config.Limits.HeaderTimeout; t > 0 {
		body := http.NewResponseController(x)
		body.SetReadDeadline(x.start.Add(t))
		defer body.SetReadDeadline(time.Time{})
	}
	var more [1]byte
	if n, err := r.Body.Read(more[:]); n > 0 || err != io.EOF {
		return authn.ErrInvalidRequest.Because(errors.New("Content-Length 0, and a body"))
	}
	return nil
}

// A violation is why a request is refused.
type violation struct {
	status int
	reason string
}

func (v *violation) Error() string { return v.reason }

func bad(format string, args ...any) *violation {
	return &violation{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}
