package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tlsBed is an https upstream and a transport that trusts it.
type tlsBed struct {
	server *httptest.Server
	rt     *negotiated
	conns  atomic.Int32
}

func newTLSBed(t *testing.T, http2 bool, handler http.HandlerFunc) *tlsBed {
	b := &tlsBed{server: httptest.NewUnstartedServer(handler)}
	b.server.EnableHTTP2 = http2
	b.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	b.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			b.conns.Add(1)
		}
	}
	b.server.StartTLS()
	t.Cleanup(b.server.Close)
	ts := openTransports(t)
	ts.roots = x509.NewCertPool()
	ts.roots.AddCert(b.server.Certificate())
	b.rt = ts.get(mustTarget(t, b.server.URL), time.Minute).(*negotiated)
	return b
}

func (b *tlsBed) call(t *testing.T, method string, upgrade bool) string {
	t.Helper()
	r := upstreamRequest(t, method, b.server.URL, nil)
	if upgrade {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	}
	res, err := b.rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestNegotiated: an https upstream says what it speaks, and may change its mind.
func TestNegotiated(t *testing.T) {
	proto := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }
	one, two := newTLSBed(t, false, proto), newTLSBed(t, true, proto)
	for range 3 {
		if got := one.call(t, "POST", false); got != "HTTP/1.1" {
			t.Errorf("an upstream of HTTP/1.1 was asked in %s", got)
		}
		if got := two.call(t, "POST", false); got != "HTTP/2.0" {
			t.Errorf("an upstream of HTTP/2 was asked in %s", got)
		}
		if got := two.call(t, "GET", true); got != "HTTP/1.1" {
			t.Errorf("an upgrade was asked for in %s", got)
		}
	}
	if got := one.conns.Load(); got != 1 {
		t.Errorf("HTTP/1.1: %d connections for three requests, want 1", got)
	}
	// One to learn what it speaks, one for HTTP/2, one for each upgrade.
	if got := two.conns.Load(); got != 5 {
		t.Errorf("HTTP/2: %d connections, want 5", got)
	}
	one.rt.prefers2.Store(true) // as if it had been replaced
	one.call(t, "GET", false)
	if one.rt.prefers2.Load() {
		t.Error("an upstream that answers in HTTP/1.1 is still taken for one of HTTP/2")
	}
}

// TestIdleTLS: neither a goodbye nor surplus bytes can hide in a record that has
// been read already.
func TestIdleTLS(t *testing.T) {
	b := newTLSBed(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("surplus") == "" {
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		// Two records in one packet, as far as the kernel goes along.
		inner := conn.(*tls.Conn)
		inner.Write([]byte(good))
		inner.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
		t.Cleanup(func() { conn.Close() })
	})
	b.call(t, "POST", false)
	b.server.CloseClientConnections()
	eventually(t, "the goodbye arrives", func() bool { return arrived(b.rt.one.idle[0]) })
	b.call(t, "POST", false)
	if got := b.conns.Load(); got != 2 {
		t.Errorf("%d connections, want 2: the first was closed", got)
	}
	r := upstreamRequest(t, "GET", b.server.URL+"/?surplus=1", nil)
	res, err := b.rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(res.Body); string(got) != "good" {
		t.Errorf("answer %q", got)
	}
	res.Body.Close()
	eventually(t, "the surplus is found", func() bool {
		b.rt.one.sweep(time.Now())
		open, _, _ := b.rt.one.counts()
		return open == 0
	})
	if got := b.call(t, "POST", false); got != "" {
		t.Errorf("the next request got %q", got)
	}
}

// TestHandshakeEnds: with the request, or after a while.
func TestHandshakeEnds(t *testing.T) {
	silent := strings.Replace(rawUpstream(t, func(c net.Conn) { io.Copy(io.Discard, c) }), "http", "https", 1)
	ts := openTransports(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	rt := ts.get(mustTarget(t, silent), time.Minute).(*negotiated)
	if _, err := rt.RoundTrip(upstreamRequest(t, "GET", silent, nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if open, _, _ := rt.one.counts(); open != 0 {
		t.Errorf("%d connections are open", open)
	}
	_, err := ts.get(mustTarget(t, silent), 100*time.Millisecond).RoundTrip(upstreamRequest(t, "GET", silent, nil))
	if class(err) != "timeout" {
		t.Errorf("a handshake without an end: %v, want a timeout", err)
	}
	plain := strings.Replace(rawUpstream(t, func(c net.Conn) { io.WriteString(c, good) }), "http", "https", 1)
	if _, err := ts.get(mustTarget(t, plain), time.Minute).RoundTrip(upstreamRequest(t, "GET", plain, nil)); class(err) != "refused" {
		t.Errorf("no TLS at all: %v", err)
	}
}
