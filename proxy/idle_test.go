package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// TestIdleStreamsAreCheap compares what an idle stream costs here and in a bare
// httputil.ReverseProxy: at most a tenth more. Each proxy is a process of its
// own, so that neither clients nor app count. IDLE_STREAMS says how many are
// opened, 500 if it is not set.
func TestIdleStreamsAreCheap(t *testing.T) {
	if role := os.Getenv("IDLE_ROLE"); role != "" {
		idleProxy(role, os.Getenv("IDLE_UPSTREAM"))
		return
	}
	n, _ := strconv.Atoi(os.Getenv("IDLE_STREAMS"))
	if n == 0 {
		n = 500
	}
	for _, path := range []string{"/ws", "/events"} {
		bare, ours := idleCost(t, "bare", path, n), idleCost(t, "gateway", path, n)
		t.Logf("%d idle %s: %d bytes each, with a bare ReverseProxy %d (%+.1f %%)", n, path, ours, bare, 100*(float64(ours)/float64(bare)-1))
		if float64(ours) > 1.1*float64(bare) {
			t.Errorf("an idle %s costs %d bytes, want at most a tenth more than the %d of a bare ReverseProxy", path, ours, bare)
		}
	}
}

// idleCost is how many bytes one of n idle streams costs a proxy.
func idleCost(t *testing.T, role, path string, n int) int {
	upstream := idleApp(t)
	proxy := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestIdleStreamsAreCheap$")
	proxy.Env = append(os.Environ(), "IDLE_ROLE="+role, "IDLE_UPSTREAM="+strings.TrimPrefix(upstream, "http://"))
	in, _ := proxy.StdinPipe()
	out, _ := proxy.StdoutPipe()
	proxy.Stderr = os.Stderr
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close() // ends it
		proxy.Wait()
	}()
	lines := bufio.NewScanner(out)
	line := func() string {
		if !lines.Scan() {
			t.Fatalf("the proxy said nothing: %v", lines.Err())
		}
		return lines.Text()
	}
	measure := func() int {
		io.WriteString(in, "measure\n")
		bytes, err := strconv.Atoi(line())
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	addr := line()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	open := func(n int) {
		for range n {
			conns = append(conns, idleClient(t, addr, path, len(conns)))
		}
	}
	open(50) // what is made once is made now
	before := measure()
	open(n)
	return (measure() - before) / n
}

func idleClient(t *testing.T, addr, path string, i int) net.Conn {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	upgrade := ""
	if path == "/ws" {
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer user-%d\r\n%s\r\n", path, i, upgrade)
	br := bufio.NewReaderSize(conn, 16)
	status, err := br.ReadString('\n')
	if err != nil || path == "/ws" && !strings.Contains(status, " 101 ") || path != "/ws" && !strings.Contains(status, " 200 ") {
		t.Fatalf("%s: %q, %v", path, status, err)
	}
	return conn
}

// idleApp answers with streams on which nothing ever comes.
func idleApp(t *testing.T) string {
	return rawUpstream(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		answer := switched
		if r.URL.Path == "/events" {
			answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n"
		}
		io.WriteString(conn, answer)
		io.Copy(io.Discard, conn)
	})
}

// idleProxy serves until its standard input ends, and tells what it holds.
func idleProxy(role, upstream string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	target := &url.URL{Scheme: "http", Host: upstream}
	var handler http.Handler = &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) {
		pr.SetURL(target)
		pr.SetXForwarded()
	}}
	if role == "gateway" {
		handler = idleGateway(target.String())
	}
	go http.Serve(l, handler)
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		time.Sleep(100 * time.Millisecond) // handlers settle down
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(m.HeapAlloc + m.StackInuse)
	}
	os.Exit(0)
}

func idleGateway(upstream string) http.Handler {
	c, err := config.Parse("gateway.yaml", []byte("log: {access: false}\n"+oneRoute(upstream)), nil)
	if err != nil {
		panic(err)
	}
	watch := authn.NewWatch(authn.NewRevocationList(new(authn.MemoryStore), time.Now), nil, time.Now)
	g := New(Options{Log: slog.New(slog.DiscardHandler), Watch: watch})
	s, err := g.NewSnapshot(SnapshotOptions{Config: c, Verifier: &endBed{tokens: map[string]*authn.Identity{}}})
	if err != nil {
		panic(err)
	}
	g.Use(s)
	return g
}
