package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"
)

// h1Transport is an http.RoundTripper for upstreams that speak HTTP/1.1, over
// TCP, unix sockets and TLS.
//
//	h1write.go   the head of a request
//	h1upload.go  its body, sent while the answer is awaited
//	h1read.go    the head of an answer, in its one spelling
//	h1frame.go   where an answer ends
//	h1body.go    the answer's body, or the connection of a 101
//	h1conn.go    a connection, and one request on it
//	h1pool.go    connections that wait for the next request
//
// # Why
//
// http.Transport has two goroutines for every connection, one that writes and
// one that reads, and each request is handed to both and back. Here the caller's
// goroutine writes the request, waits for the answer and reads it; that is a
// quarter of what a bare httputil.ReverseProxy costs (transportbench_test.go). The
// only requests that need a second goroutine, while it lasts, are those with a
// body: the upstream may answer before it has all of it. A context that ends
// closes the connection, which wakes whoever waits for it.
//
// Nobody reads from an idle connection, so what has come in the meantime is
// looked for before it is used again (h1Conn.quiet): one system call that does
// not wait.
//
// It is stricter than http.Transport about answers that two readers could
// understand in two ways; h1read.go and h1frame.go say where. It does not look for
// a proxy, follow HTTP/2 or decompress, and of httptrace knows Got1xxResponse,
// which is what httputil.ReverseProxy asks for.
type h1Transport struct {
	h1Pool
	connect func(ctx context.Context, upgrade bool) (*h1Conn, error)
	// timeout is how long the upstream may take to begin its answer once it has
	// the request, and to take a piece of the request's body; 0: for ever.
	timeout time.Duration
	log     *slog.Logger
}

// errSpeaksHTTP2 is why a request cannot be sent here. Nothing was done with it.
var errSpeaksHTTP2 = errors.New("the upstream speaks HTTP/2")

// RoundTrip sends r and returns the answer when its header is there. The error
// is the context's cause if that ended, a *clientBodyError if r.Body failed, or
// has Timeout() true if the upstream took too long.
func (t *h1Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := t.compose(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	defer out.free()
	for {
		x, err := t.begin(r)
		if err != nil {
			if err != errSpeaksHTTP2 {
				closeBody(r)
			}
			return nil, err
		}
		res, err := x.roundTrip(out)
		if err == nil {
			return res, nil
		}
		if x.again && r.Context().Err() == nil {
			continue
		}
		if x.upload == nil { // or else that closes it
			closeBody(r)
		}
		return nil, err
	}
}

// begin is the exchange of r, on a connection.
func (t *h1Transport) begin(r *http.Request) (*h1Exchange, error) {
	client, err := t.room.take(exchangeOf(r.Context()))
	if err != nil {
		return nil, err
	}
	c, err := t.take(r.Context(), isUpgrade(r))
	if err != nil {
		t.room.give(client)
		return nil, err
	}
	c.wire.used, c.wire.user = true, client
	return newH1Exchange(c, r), nil
}

// take is a connection to send a request on, kept or new.
func (t *h1Transport) take(ctx context.Context, upgrade bool) (*h1Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for c := t.pop(); c != nil; c = t.pop() {
		// The limit of the exchange before may have run out, and looking at
		// the connection would fail.
		c.limit(t.timeout)
		if err := c.quiet(); err != nil {
			c.discard(err)
			continue
		}
		c.reused = true
		return c, nil
	}
	// Connecting needs a deep stack. On this goroutine it would stay as large as
	// that for as long as the stream lasts that the request may become.
	var (
		c    *h1Conn
		err  error
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		c, err = t.connect(ctx, upgrade)
	}()
	if <-done; err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	c.limit(t.timeout)
	return c, nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

// replayable reports whether r may be sent a second time when a kept connection
// breaks: net/http would also repeat what names an Idempotency-Key, but that is
// the client's word, and not every upstream honours it.
func replayable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// lateError is an upstream that took too long.
type lateError struct{ what string }

func (e lateError) Error() string   { return e.what }
func (e lateError) Timeout() bool   { return true }
func (e lateError) Temporary() bool { return true }
func (e lateError) Unwrap() error   { return os.ErrDeadlineExceeded }

var errNoAnswer error = lateError{"timeout awaiting the upstream's response header"}
