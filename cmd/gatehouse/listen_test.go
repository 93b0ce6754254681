package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
	"gatehouse/proxy"
)

// startFront runs a front on a free port with an otherwise empty configuration.
func startFront(t *testing.T, limits config.Limits, certificates *tls.Config, handler http.HandlerFunc) *front {
	t.Helper()
	cfg := &config.Config{Limits: limits, Listen: "127.0.0.1:0"}
	l, err := listenToPublic(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(l, answers(handler), &proxy.Guard{Log: slog.New(slog.DiscardHandler)})
	f.use(cfg, limits.Connections, certificates)
	done := make(chan error, 1)
	go func() { done <- f.run() }()
	t.Cleanup(func() {
		f.close()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		// A connection that is closed gives its place back a moment later.
		await(t, 10*time.Second, "every place to be given back", func() bool {
			f.gate.mu.Lock()
			defer f.gate.mu.Unlock()
			return f.gate.open == 0 && f.gate.busy == 0 && len(f.gate.crowds) == 0 && len(f.gate.idlers) == 0 && f.gate.refusing.Load() == 0
		})
	})
	return f
}

// answers is a frontHandler that tells a refusal by its cause.
type answers http.HandlerFunc

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) { a(w, r) }

func (a answers) Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, authn.AsRefusal(err).Cause(), proxy.Status(authn.AsRefusal(err)))
}

// A rawClient speaks HTTP/1.1 on one connection.
type rawClient struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, f *front) rawClient {
	t.Helper()
	return dialFrom(t, f, 1)
}

// dialFrom is dial from 127.0.0.host.
func dialFrom(t *testing.T, f *front, host byte) rawClient {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}).Dial("tcp", f.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return rawClient{c, bufio.NewReader(c)}
}

func (c rawClient) ask(request string) (status int, header http.Header, err error) {
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		return 0, nil, err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header, err
}

const simpleRequest = "GET / HTTP/1.1\nHost: a\n\n"

func TestConnectionLimit(t *testing.T) {
	// Of one client, two could be busy: see TestShareOfConnections.
	t.Run("clients", func(t *testing.T) { testConnectionLimit(t, nil, 20, func(i int) byte { return byte(i + 1) }) })
	// More than may wait beside the listener.
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.66/32")}
	t.Run("trusted proxy", func(t *testing.T) { testConnectionLimit(t, proxies, waitingMost+20, func(int) byte { return 66 }) })
}

func testConnectionLimit(t *testing.T, proxies []netip.Prefix, clients int, host func(i int) byte) {
	const limit = 3
	arrived, leave := make(chan struct{}), make(chan struct{})
	f := startFront(t, config.Limits{Connections: limit}, nil, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-leave
	})
	f.use(&config.Config{Limits: config.Limits{Connections: limit}, TrustedProxies: proxies}, limit, nil)
	var wg sync.WaitGroup
	for i := range clients {
		c := dialFrom(t, f, host(i))
		wg.Go(func() {
			defer c.Close()
			if status, _, err := c.ask(simpleRequest); status != http.StatusOK {
				t.Errorf("status %d, %v, want 200: whoever waits is served in the end", status, err)
			}
		})
	}
	for range limit {
		<-arrived
	}
	for n := limit; n < clients; n++ {
		// Full: nobody comes in before somebody leaves.
		select {
		case <-arrived:
			t.Errorf("more than %d connections at once", limit)
		default:
		}
		leave <- struct{}{}
		<-arrived
	}
	for range limit {
		leave <- struct{}{}
	}
	wg.Wait()
}

func TestConnectionLimitRaised(t *testing.T) {
	f := startFront(t, config.Limits{Connections: 1}, nil, func(http.ResponseWriter, *http.Request) {})
	first := dial(t, f)
	if _, _, err := first.ask(simpleRequest); err != nil {
		t.Fatal(err)
	}
	// The first stays open, so the second is served by the new limit alone.
	f.use(&config.Config{Limits: config.Limits{Connections: 2}}, 2, nil)
	if _, _, err := dial(t, f).ask(simpleRequest); err != nil {
		t.Fatal(err)
	}
}

// Other limits are for connections from then on; those that are open go on.
func TestLimitsChange(t *testing.T) {
	f := startFront(t, config.Limits{HeaderBytes: 1 << 10}, nil, func(http.ResponseWriter, *http.Request) {})
	large := "GET / HTTP/1.1\nHost: a\nX-Large: " + strings.Repeat("a", 16<<10) + "\n\n"
	old := dial(t, f)
	if _, _, err := old.ask(simpleRequest); err != nil {
		t.Fatal(err)
	}
	if status, _, err := dial(t, f).ask(large); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large header: status %d, %v, want 431", status, err)
	}
	f.use(&config.Config{Limits: config.Limits{HeaderBytes: 64 << 10}}, 0, nil)
	if status, _, err := dial(t, f).ask(large); status != http.StatusOK {
		t.Errorf("large header after the limit was raised: status %d, %v, want 200", status, err)
	}
	if status, _, err := old.ask(simpleRequest); status != http.StatusOK {
		t.Errorf("open connection after the limit was raised: status %d, %v, want 200", status, err)
	}
	f.use(&config.Config{Limits: config.Limits{HeaderBytes: 64 << 10}}, 0, nil)
	if n := len(f.stopAccepting()); n != 2 {
		t.Errorf("%d servers, want 2: the same limits make no other one, and the one before has a connection", n)
	}
}

// A gateway whose limits change every day must not keep the servers of all days.
func TestOldServersAreForgotten(t *testing.T) {
	open := make(chan struct{}, 1)
	f := startFront(t, config.Limits{}, pairConfig(t), hijacking(open))
	servers := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.servers)
	}
	upgrade := "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
	for n := range 5 {
		// One that is upgraded, one that only shakes hands, and one that does not
		// even do that.
		c := dial(t, f)
		upgraded := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
		fmt.Fprint(upgraded, upgrade)
		<-open
		idle := tls.Client(dial(t, f).Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err := idle.Handshake(); err != nil {
			t.Fatal(err)
		}
		silent := dial(t, f)
		f.use(&config.Config{Limits: config.Limits{HeaderBytes: (n + 2) << 10}}, 0, pairConfig(t))
		if n := servers(); n != 2 {
			t.Errorf("%d servers, want the new one and that of the open connections", n)
		}
		idle.Close()
		silent.Close()
		await(t, 10*time.Second, "the old server to be forgotten", func() bool { return servers() == 1 })
		// Whoever has upgraded does not notice.
		fmt.Fprint(upgraded, "x")
		if _, err := io.ReadAll(upgraded); err != nil {
			t.Errorf("the upgraded connection: %v, want it ended by what it said", err)
		}
	}
}

func TestHeaderTimeout(t *testing.T) {
	limits := config.Limits{HeaderTimeout: 50 * time.Millisecond}
	answer := func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }

	t.Run("header", func(t *testing.T) {
		c := dial(t, startFront(t, limits, nil, answer))
		fmt.Fprint(c, "GET / HTTP/1.1\r\n")
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("a header that does not end: %v, want the connection closed", err)
		}
	})
	t.Run("handshake", func(t *testing.T) {
		c := dial(t, startFront(t, limits, pairConfig(t), answer))
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("a handshake that does not begin: %v, want the connection closed", err)
		}
	})
	t.Run("body", func(t *testing.T) { // not limited: uploads may take their time
		c := dial(t, startFront(t, limits, nil, answer))
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
		time.AfterFunc(3*limits.HeaderTimeout, func() { fmt.Fprint(c, "cd") })
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "abcd" {
			t.Errorf("slow body: %q, %v, want abcd", body, err)
		}
	})
}

// hijacking answers 101 and keeps the connection until its request's context
// ends or the client says something.
func hijacking(open chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		open <- struct{}{}
		said := make(chan struct{})
		go func() { _, _ = rw.ReadByte(); close(said) }()
		select {
		case <-said:
		case <-r.Context().Done():
		}
	}
}

func TestDrainUpgraded(t *testing.T) {
	open := make(chan struct{}, 1)
	start := func(t *testing.T) (*front, rawClient) {
		f := startFront(t, config.Limits{}, nil, hijacking(open))
		c := dial(t, f)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		<-open
		return f, c
	}
	t.Run("ends by itself", func(t *testing.T) {
		f, c := start(t)
		drained := make(chan error, 1)
		go func() { drained <- f.drain(t.Context()) }()
		<-f.closing // draining has begun
		fmt.Fprint(c, "x")
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	t.Run("is cut", func(t *testing.T) {
		f, c := start(t)
		grace, end := context.WithCancel(t.Context())
		drained := make(chan error, 1)
		go func() { drained <- f.drain(grace) }()
		<-f.closing
		end()
		if err := <-drained; err == nil || err.Error() != "1 requests did not end in time" {
			t.Errorf("drain: %v, want one request that did not end", err)
		}
		f.close()
		if _, err := io.ReadAll(c.r); err != nil {
			t.Errorf("%v, want the connection closed", err)
		}
	})
}

func TestDrainClosesKeptConnections(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	f := startFront(t, config.Limits{}, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			arrived <- struct{}{}
			<-leave
		}
	})
	idle, busy := dial(t, f), dial(t, f)
	if _, _, err := idle.ask(simpleRequest); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(busy, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	drained := make(chan error, 1)
	go func() { drained <- f.drain(t.Context()) }()
	if _, err := io.ReadAll(idle.r); err != nil {
		t.Errorf("idle connection: %v, want it closed", err)
	}
	if c, err := net.Dial("tcp", f.listener.Addr().String()); err == nil {
		c.Close()
		t.Error("a new connection was accepted while draining")
	}
	close(leave)
	res, err := http.ReadResponse(busy.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("open request: status %d, close %v, want 200 and Connection: close", res.StatusCode, res.Close)
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
}

// OPTIONS * and what HTTP/2 begins with are for the handler to answer and to
// log, not for net/http.
func TestNothingIsAnsweredBeforeTheGateway(t *testing.T) {
	f := startFront(t, config.Limits{}, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Seen", r.Method+" "+r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
	})
	if status, header, err := dial(t, f).ask("OPTIONS * HTTP/1.1\nHost: a\n\n"); status != http.StatusTeapot || header.Get("Seen") != "OPTIONS *" {
		t.Errorf("OPTIONS *: status %d, seen %q, %v", status, header.Get("Seen"), err)
	}
	c := dial(t, f)
	fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	line, err := c.r.ReadString('\n')
	if !strings.HasPrefix(line, "HTTP/1.1 ") {
		t.Errorf("HTTP/2 without TLS: %q, %v, want an answer in HTTP/1.1", line, err)
	}
}

func TestListenInUse(t *testing.T) {
	f := startFront(t, config.Limits{}, nil, nil)
	cfg := parse(t, "listen: "+f.listener.Addr().String())
	_, err := listenToPublic(cfg)
	want := "gateway.yaml:1:1: listen \"" + cfg.Listen + "\": the port is in use"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("listen: %v, want %q", err, want)
	}
}

// parse reads a configuration with one route added to it.
func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("gateway.yaml", []byte(yaml+"\nroutes: [{path: /, access: public, upstream: \"echo:\"}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
