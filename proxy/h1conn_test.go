package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestConformRepeats: a request is sent again only where nothing can have come of
// the first time.
func TestConformRepeats(t *testing.T) {
	// The first connection answers once, and is closed when a second request comes.
	fickle := func(change func(r *http.Request), method string, body func() io.Reader) func(b *conformBed) {
		return func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, nth int) {
				for i := 0; b.readRequest(in) && (nth > 1 || i == 0); i++ {
					io.WriteString(c, good)
				}
			})
			b.do(b.request("GET", "/first", nil))
			b.do(with(b.request(method, "/second", body()), change))
		}
	}
	none := func() io.Reader { return nil }
	same := func(*http.Request) {}
	conform(t, []story{
		{name: "GET", play: fickle(same, "GET", none)},
		{name: "HEAD", play: fickle(same, "HEAD", none)},
		{name: "OPTIONS", play: fickle(same, "OPTIONS", none)},
		{name: "POST", play: fickle(same, "POST", none)},
		{name: "PUT", play: fickle(same, "PUT", none)},
		{name: "DELETE", play: fickle(same, "DELETE", none)},
		{name: "a body", play: fickle(same, "PUT", func() io.Reader { return io.NopCloser(strings.NewReader("x")) })},
		{name: "a GET with a body", play: fickle(same, "GET", func() io.Reader { return io.NopCloser(strings.NewReader("x")) })},
		{name: "a new connection that is closed", play: func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) { b.readRequest(in) })
			b.do(b.request("GET", "/", nil))
		}},
		{name: "a key", why: "it is the client's word", play: fickle(withFields("Idempotency-Key", "k"), "POST", none),
			ours: []string{gotGood, bodyGood, "failed: broken", "connections: 1"}},
	})
}

// idleBed is an upstream whose connections a test does things to when they are idle.
type idleBed struct {
	rt    *h1Transport
	url   string
	conns chan net.Conn
	log   syncBuffer
}

func newIdleBed(t *testing.T) *idleBed {
	b := &idleBed{conns: make(chan net.Conn, 1000)}
	b.url = rawUpstream(t, func(c net.Conn) {
		b.conns <- c
		for in := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			io.WriteString(c, good)
		}
	})
	ts := newTransports(slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(ts.Close)
	b.rt = ts.get(mustTarget(t, b.url), time.Minute).(*h1Transport)
	return b
}

func (b *idleBed) call(t *testing.T, method string, body io.Reader) {
	t.Helper()
	res, err := b.rt.RoundTrip(upstreamRequest(t, method, b.url, body))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(res.Body); string(got) != "good" || err != nil {
		t.Fatalf("answer %q, %v", got, err)
	}
	res.Body.Close()
	eventually(t, "the connection is free", func() bool { open, idle, _ := b.rt.counts(); return open == idle })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestIdleConnectionsAreLookedAt: what has come on an idle connection is noticed
// before even a request that must not be sent twice, and by the sweeper.
func TestIdleConnectionsAreLookedAt(t *testing.T) {
	for name, do := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { c.Close() },
		"reset":  func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
		"bytes":  func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") },
	} {
		b := newIdleBed(t)
		for range 2 {
			b.call(t, "POST", strings.NewReader("x"))
			do(<-b.conns)
			eventually(t, name+" arrives", func() bool { return arrived(b.rt.idle[0]) })
		}
		b.rt.sweep(time.Now())
		if open, idle, made := b.rt.counts(); open != 0 || idle != 0 || made != 2 {
			t.Errorf("%s: %d open, %d idle, %d made, want 0, 0, 2", name, open, idle, made)
		}
		if log := b.log.String(); strings.Count(log, "level=DEBUG") < 2 && name == "bytes" || strings.Contains(log, "evil") {
			t.Errorf("%s: log %q, want lines at debug without what came", name, log)
		}
	}
}

// arrived reports whether something has come, and leaves it there.
func arrived(c *h1Conn) (is bool) {
	c.wire.peeker.raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		is = n >= 0 || err != syscall.EAGAIN
		return true
	})
	return is
}

// TestIdleConnectionsGrowOld: at first those of a rush are closed, then all.
func TestIdleConnectionsGrowOld(t *testing.T) {
	b := newIdleBed(t)
	const rush = idleForLong + 10
	var bodies []io.Closer
	for range rush {
		res, err := b.rt.RoundTrip(upstreamRequest(t, "GET", b.url, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		bodies = append(bodies, res.Body)
	}
	for _, body := range bodies {
		io.Copy(io.Discard, body.(io.Reader))
	}
	for _, c := range []struct {
		later time.Duration
		idle  int
	}{{0, rush}, {crowdTimeout + time.Second, idleForLong}, {idleTimeout - time.Second, idleForLong}, {idleTimeout + time.Second, 0}} {
		b.rt.sweep(time.Now().Add(c.later))
		if open, idle, _ := b.rt.counts(); idle != c.idle || open != idle {
			t.Errorf("after %v: %d open, %d idle, want %d", c.later, open, idle, c.idle)
		}
	}
	b.call(t, "GET", nil)
	b.rt.retire()
	if open, _, _ := b.rt.counts(); open != 0 {
		t.Errorf("%d connections after the upstream left the configuration", open)
	}
}

// TestNoGoroutineWaits: a request without a body is its caller's alone.
func TestNoGoroutineWaits(t *testing.T) {
	asked, answer := make(chan bool), make(chan bool)
	up := rawUpstream(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			asked <- true
			<-answer
			io.WriteString(c, good)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rt := openTransports(t).get(mustTarget(t, up), time.Minute)
	done := make(chan error)
	go func() {
		res, err := rt.RoundTrip(upstreamRequest(t, "GET", up, nil).WithContext(ctx))
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		done <- err
	}()
	<-asked
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if bytes.Contains(stacks, []byte("created by gatehouse/proxy.(*h1")) || bytes.Contains(stacks, []byte("context.propagateCancel.func")) {
		t.Errorf("a goroutine waits with the caller:\n%s", stacks)
	}
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTransportLeavesNothing: not a goroutine, not a socket, however requests end.
func TestTransportLeavesNothing(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn) {
		for in := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			switch r.URL.Path {
			case "/early":
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				continue
			case "/half":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
				return
			case "/silent":
				io.Copy(io.Discard, in)
				return
			case "/hangs-up":
				return
			case "/upgrade":
				io.WriteString(c, switched)
				io.Copy(c, in)
				return
			}
			io.Copy(io.Discard, r.Body)
			io.WriteString(c, good)
		}
	})
	time.Sleep(10 * time.Millisecond)
	goroutines, sockets := runtime.NumGoroutine(), openFiles()
	ts := newTransports(slog.New(slog.DiscardHandler))
	rt := ts.get(mustTarget(t, up), 200*time.Millisecond).(*h1Transport)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			paths := []string{"/", "/early", "/half", "/silent", "/hangs-up", "/upgrade", "/cancelled", "/unread"}
			path := paths[i%len(paths)]
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var body io.Reader
			if i/len(paths)%2 == 1 {
				body = io.NopCloser(strings.NewReader(strings.Repeat("x", 100_000)))
			}
			r := upstreamRequest(t, "POST", up+path, body).WithContext(ctx)
			if path == "/upgrade" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "x")
			}
			if path == "/cancelled" {
				time.AfterFunc(time.Duration(i)*time.Millisecond/10, cancel)
			}
			res, err := rt.RoundTrip(r)
			if err != nil {
				return
			}
			if path != "/unread" && path != "/upgrade" {
				io.Copy(io.Discard, res.Body)
			}
			res.Body.Close()
		})
	}
	all.Wait()
	ts.Close()
	eventually(t, "all connections are closed", func() bool { open, _, _ := rt.counts(); return open == 0 })
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "all sockets are closed", func() bool { return openFiles() <= sockets })
}

// openFiles is how many descriptors this process has; 0 where nobody tells.
func openFiles() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// TestUpgradedConnection: both directions, each of which may end alone.
func TestUpgradedConnection(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		http.ReadRequest(in)
		io.WriteString(c, switched+"early ")
		sent, _ := io.ReadAll(in)
		fmt.Fprintf(c, "and late: %s", sent)
	})
	rt := openTransports(t).get(mustTarget(t, up), time.Second).(*h1Transport)
	ctx, cancel := context.WithCancel(t.Context())
	r := upstreamRequest(t, "GET", up, nil).WithContext(ctx)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	res, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // the caller's from now on
	conn := res.Body.(io.ReadWriteCloser)
	time.Sleep(1200 * time.Millisecond) // no timeout for the header holds any more
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "early and late: hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	conn.Close()
	if open, _, _ := rt.counts(); open != 0 {
		t.Errorf("%d connections are open", open)
	}
}

// TestConnectionMetrics: those of one upstream count together.
func TestConnectionMetrics(t *testing.T) {
	b := newIdleBed(t)
	m := NewMetrics("", "")
	ts := newTransports(slog.New(slog.DiscardHandler))
	m.connections(ts)
	target := mustTarget(t, b.url)
	unix := mustTarget(t, "unix:/run/app.sock")
	ts.get(unix, 0)
	for _, timeout := range []time.Duration{time.Minute, time.Hour} {
		b.rt = ts.get(target, timeout).(*h1Transport)
		b.call(t, "GET", nil)
		b.call(t, "GET", nil)
	}
	res, err := b.rt.RoundTrip(upstreamRequest(t, "GET", b.url, nil))
	if err != nil {
		t.Fatal(err)
	}
	wantSeries(t, m,
		fmt.Sprintf(`gatehouse_upstream_connections{state="active",upstream=%q} 1`, b.url),
		fmt.Sprintf(`gatehouse_upstream_connections{state="idle",upstream=%q} 1`, b.url),
		fmt.Sprintf(`gatehouse_upstream_connects_total{upstream=%q} 2`, b.url),
		`gatehouse_upstream_connections{state="active",upstream="unix:/run/app.sock"} 0`)
	res.Body.Close()
	ts.retain(map[transportKey]bool{unix.key(0): true})
	wantSeries(t, m, fmt.Sprintf(`-gatehouse_upstream_connections{state="idle",upstream=%q}`, b.url))
}
