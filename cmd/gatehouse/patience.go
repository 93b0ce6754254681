package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"gatehouse/proxy"
)

// What a connection may ask of the gateway, beyond what limits: says.

// http2Limits bounds what one connection of HTTP/2 makes the gateway hold. idle
// is how long a client may take nothing of what it asked for, 0 for ever.
func http2Limits(idle time.Duration) *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: 100, // the least that RFC 9113, section 6.5.2, recommends
		// A buffer of this size stays with the connection; net/http's own is 1 MiB.
		MaxReadFrameSize: 16 << 10,
		WriteByteTimeout: idle,
	}
}

// maxTakenBack is how many more requests an HTTP/2 connection may take back
// than it lets be answered. A browser that leaves a page takes back what is
// open, MaxConcurrentStreams at most.
const maxTakenBack = 200

// A patience is what is left of it with a client that asks and does not wait
// for answers: rapid reset, CVE-2023-44487. net/http bounds how much of that
// goes on at a time, but not how long.
type patience struct {
	conn      net.Conn
	takenBack atomic.Int32
}

type patienceKey struct{}

// withPatience is the http.Server.ConnContext.
func withPatience(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(proxy.GuardContext(ctx, conn), patienceKey{}, &patience{conn: conn})
}

// serveHTTP2 is ServeHTTP for a request of HTTP/2.
func (f *front) serveHTTP2(w http.ResponseWriter, r *http.Request) {
	p := r.Context().Value(patienceKey{}).(*patience)
	r.TLS = proxy.GuardRequest(p.conn)
	var head *headAnswer
	if r.Method == http.MethodHead {
		head = &headAnswer{ResponseWriter: w, request: r}
		w = head
	}
	aborted := true
	defer func() {
		switch {
		case r.Context().Err() != nil && (head == nil || !head.given):
			f.losePatience(p)
		case !aborted:
			proxy.GuardAnswered(p.conn)
			if p.takenBack.Load() > 0 {
				p.takenBack.Add(-1)
			}
		}
	}()
	if r.Context().Err() == nil { // or nobody waits for it any more
		f.answer(w, r)
	}
	aborted = false
}

// A headAnswer knows whether a HEAD was answered. Its context is done in either
// case: the answer is complete with its head.
type headAnswer struct {
	http.ResponseWriter
	request      *http.Request
	begun, given bool
}

func (a *headAnswer) begin() {
	if !a.begun {
		a.begun, a.given = true, a.request.Context().Err() == nil
	}
}

func (a *headAnswer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *headAnswer) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b)
}

func (a *headAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// losePatience looks at a request that was taken back.
func (f *front) losePatience(p *patience) {
	if p.takenBack.Add(1) == maxTakenBack+1 {
		f.log.LogAttrs(context.Background(), slog.LevelInfo, "connection closed",
			slog.String("client", p.conn.RemoteAddr().String()), slog.String("reason", "it takes back its requests"))
		_ = p.conn.Close()
	}
}

// spareFiles are for databases, log, listeners and the like, and for connections that
// wait for a place.
const spareFiles = 64 + waitingMost

// connections are how many may be open at once: of clients, limit (0: any number)
// or half of what the open files allow (0: unknown), since each may want another
// to an upstream; and to upstreams, the rest, since a client of HTTP/2 may want a
// hundred. More clients wait in the system's queue; without files the requests of
// all others would fail.
func connections(limit, files int) (clients, upstreams int) {
	if files <= 0 {
		return limit, 0
	}
	clients = max(1, (files-spareFiles)/2)
	if limit > 0 {
		clients = min(limit, clients)
	}
	return clients, max(1, files-spareFiles-clients)
}
