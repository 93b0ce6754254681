package proxy

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/authn"
)

func mustTarget(t *testing.T, s string) target {
	t.Helper()
	target, err := parseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func upstreamRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openTransports(t *testing.T) *transports {
	ts := newTransports(slog.New(slog.DiscardHandler))
	t.Cleanup(ts.Close)
	return ts
}

// rawUpstream answers every connection with serve.
func rawUpstream(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestTransportIgnoresEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	ts := openTransports(t)
	if ts.get(mustTarget(t, "h2c://app.example"), 0).(*multiplexed).Proxy != nil ||
		ts.get(mustTarget(t, "https://app.example"), 0).(*negotiated).two.Proxy != nil {
		t.Error("the transport has a Proxy, want nil")
	}
	// .invalid never resolves (RFC 6761, section 6.4): a proxy would be connected to all the same.
	_, err := ts.get(mustTarget(t, "http://app.invalid"), 0).RoundTrip(upstreamRequest(t, "GET", "http://app.invalid", nil))
	if lookup := new(net.DNSError); !errors.As(err, &lookup) {
		t.Errorf("%v, want a failed lookup", err)
	}
}

func TestTransportPassesBodiesAsTheyAre(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["Accept-Encoding"])
	}))
	defer up.Close()
	res, err := openTransports(t).get(mustTarget(t, up.URL), 0).RoundTrip(upstreamRequest(t, "GET", up.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "[]" {
		t.Errorf("the upstream saw Accept-Encoding %s, want none", b)
	}
}

func TestTransportHTTPS(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	up.EnableHTTP2 = true
	up.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	up.StartTLS()
	defer up.Close()
	ts := openTransports(t)
	if _, err := ts.get(mustTarget(t, up.URL), 0).RoundTrip(upstreamRequest(t, "GET", up.URL, nil)); !errors.Is(classify(err), authn.ErrUpstream) {
		t.Errorf("an unknown authority: %v, want upstream_unavailable", err)
	}

	ts = openTransports(t)
	ts.roots = x509.NewCertPool()
	ts.roots.AddCert(up.Certificate())
	rt := ts.get(mustTarget(t, up.URL), 0)
	for header, want := range map[string]string{"": "HTTP/2.0", "websocket": "HTTP/1.1"} {
		r := upstreamRequest(t, "GET", up.URL, nil)
		if header != "" {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", header)
		}
		res, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); string(b) != want {
			t.Errorf("with Upgrade %q: %s, want %s", header, b, want)
		}
		res.Body.Close()
	}
}

func TestTransportH2CTrailers(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.Host, b)
		w.Header().Set("Grpc-Status", r.Trailer.Get("X-Sent"))
	}))
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	defer up.Close()
	target := mustTarget(t, "h2c"+strings.TrimPrefix(up.URL, "http"))
	r := upstreamRequest(t, "POST", target.url.String(), io.NopCloser(strings.NewReader("ping")))
	r.Host = "app.example"
	r.Trailer = http.Header{"X-Sent": {"7"}}
	res, err := openTransports(t).get(target, time.Minute).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if got := string(b); err != nil || got != "HTTP/2.0 app.example ping" {
		t.Errorf("answer %q, %v", got, err)
	}
	if got := res.Trailer.Get("Grpc-Status"); got != "7" {
		t.Errorf("trailer Grpc-Status = %q, want 7", got)
	}
	r = upstreamRequest(t, "POST", target.url.String(), http.MaxBytesReader(nil, io.NopCloser(zeros{}), 9))
	if _, err = openTransports(t).get(target, time.Minute).RoundTrip(r); !errors.Is(classify(err), authn.ErrBodyTooLarge) {
		t.Errorf("a body over the limit: %v, want body_too_large", err)
	}
}

func TestTransportUnix(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.RequestURI) }))
	up.Listener = l
	up.Start()
	defer up.Close()
	target := mustTarget(t, "unix:"+socket)
	res, err := openTransports(t).get(target, 0).RoundTrip(upstreamRequest(t, "GET", target.url.String()+"/a", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "unix/a" {
		t.Errorf("answer %q, want unix/a", b)
	}
}

func TestTransportsAreShared(t *testing.T) {
	var conns atomic.Int32
	closed := make(chan struct{}, 8)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	up.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed:
			closed <- struct{}{}
		}
	}
	up.Start()
	defer up.Close()
	ts := openTransports(t)
	one, base := mustTarget(t, up.URL), mustTarget(t, up.URL+"/base/")
	call := func(rt http.RoundTripper) {
		t.Helper()
		res, err := rt.RoundTrip(upstreamRequest(t, "GET", up.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	call(ts.get(one, time.Second))
	call(ts.get(base, time.Second))
	if got := conns.Load(); got != 1 {
		t.Errorf("two routes to one upstream made %d connections, want 1", got)
	}
	if ts.get(one, time.Second) == ts.get(one, 2*time.Second) {
		t.Error("routes with different timeouts share a transport")
	}

	ts.retain(map[transportKey]bool{base.key(time.Second): true})
	call(ts.get(one, time.Second))
	if got := conns.Load(); got != 1 {
		t.Errorf("after a reload that keeps the upstream: %d connections, want 1", got)
	}
	old := ts.get(one, time.Second)
	ts.retain(nil)
	<-closed
	if ts.get(one, time.Second) == old {
		t.Error("a transport that no route uses was kept")
	}
	call(old) // a last request of the old snapshot
}

func TestTransportTimeouts(t *testing.T) {
	silent := rawUpstream(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	deaf := rawUpstream(t, func(c net.Conn) { <-t.Context().Done() })
	endless := io.NopCloser(io.LimitReader(zeros{}, 1<<40))
	for name, r := range map[string]*http.Request{
		"no answer":              upstreamRequest(t, "GET", silent, nil),
		"no answer to a body":    upstreamRequest(t, "POST", silent, strings.NewReader("x")),
		"the body is never read": upstreamRequest(t, "POST", deaf, endless),
	} {
		_, err := openTransports(t).get(mustTarget(t, "http://"+r.URL.Host), 100*time.Millisecond).RoundTrip(r)
		if got := classify(err); !errors.Is(got, authn.ErrUpstreamTimeout) {
			t.Errorf("%s: %v, want upstream_timeout", name, got)
		}
	}
}

// In HTTP/2 it is flow control that holds a body back.
func TestTransportTimeoutOfH2C(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	defer up.Close()
	target := mustTarget(t, "h2c"+strings.TrimPrefix(up.URL, "http"))
	for _, body := range []io.Reader{nil, io.NopCloser(zeros{})} {
		_, err := openTransports(t).get(target, 100*time.Millisecond).RoundTrip(upstreamRequest(t, "POST", up.URL, body))
		if got := classify(err); !errors.Is(got, authn.ErrUpstreamTimeout) {
			t.Errorf("with body %v: %v, want upstream_timeout", body, got)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// What comes after the header is not held to the timeout for it.
func TestTransportStreamsBothWays(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		io.Copy(w, r.Body)
	}))
	defer up.Close()
	in, out := io.Pipe()
	res, err := openTransports(t).get(mustTarget(t, up.URL), time.Minute).RoundTrip(upstreamRequest(t, "POST", up.URL, in))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	go func() {
		io.WriteString(out, "late")
		out.Close()
	}()
	if b, err := io.ReadAll(res.Body); string(b) != "late" || err != nil {
		t.Errorf("answer %q, %v", b, err)
	}
}

func TestTransportDoesNotRepeatUnsafe(t *testing.T) {
	var posts atomic.Int32
	up := rawUpstream(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.Method == "POST" {
				if r.Header.Get("Idempotency-Key") != "k" {
					posts.Add(100)
				}
				posts.Add(1)
				return // closed without an answer
			}
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	rt := openTransports(t).get(mustTarget(t, up), 0)
	res, err := rt.RoundTrip(upstreamRequest(t, "GET", up, nil)) // a connection to reuse
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	r := upstreamRequest(t, "POST", up, nil)
	r.Header.Set("Idempotency-Key", "k")
	if _, err = rt.RoundTrip(r); err == nil {
		t.Error("want an error")
	}
	if got := posts.Load(); got != 1 {
		t.Errorf("the upstream saw %d requests, want 1 with its key", got)
	}
	if len(r.Header["Idempotency-Key"]) != 1 {
		t.Error("RoundTrip changed the caller's header")
	}
}

// TestRetiredTransportKeepsNothing: a last request of the snapshot before must
// not leave a connection that nobody will use.
func TestRetiredTransportKeepsNothing(t *testing.T) {
	open := make(chan http.ConnState, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) { open <- state }
	server.Start()
	defer server.Close()
	target, err := parseTarget(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ts := newTransports(slog.New(slog.DiscardHandler))
	rt := ts.get(target, time.Second)
	ts.retain(nil)
	r, _ := http.NewRequest("GET", server.URL, nil)
	res, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for state := range open {
		if state == http.StateIdle {
			t.Fatal("the connection is kept")
		}
		if state == http.StateClosed {
			return
		}
	}
}
