package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
	"gatehouse/proxy"
)

// simpleGate says what a gate has to do, and is slow.
type simpleGate struct {
	max  int
	open []*simpleConn // by when each was last without a request
}

type simpleConn struct {
	*watched
	client        netip.Prefix
	busy, crowded bool
}

func (g *simpleGate) count(want func(*simpleConn) bool) (n int) {
	for _, c := range g.open {
		if want(c) {
			n++
		}
	}
	return n
}

// victim is who gives way to the next of client: nil for nobody.
func (g *simpleGate) victim(client netip.Prefix) (victim *simpleConn) {
	open := func(client netip.Prefix) int {
		return g.count(func(c *simpleConn) bool { return c.client == client })
	}
	most := 0
	var own *simpleConn
	for _, c := range g.open {
		if c.busy {
			continue
		}
		if n := open(c.client); n > most {
			victim, most = c, n
		}
		if c.client == client && own == nil {
			own = c
		}
	}
	if mine := open(client); most > mine {
		return victim
	}
	return own
}

func (g *simpleGate) last(c *simpleConn) {
	g.open = append(slices.DeleteFunc(g.open, func(o *simpleConn) bool { return o == c }), c)
}

// watchOf is a connection of client, of which nothing is sent.
func watchOf(g *gate, client netip.Addr) *watched {
	c := g.watch(&net.TCPConn{})
	c.client = client
	return c
}

// A gate does what the simple one does, whatever comes.
func TestGate(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		simple := &simpleGate{max: 1 + rnd.IntN(20)}
		var gone []netip.Addr
		g := &gate{full: func(client netip.Addr) { gone = append(gone, client) }}
		trusted := netip.MustParseAddr("2001:db8::7")
		g.limit(simple.max, []netip.Prefix{netip.PrefixFrom(trusted, 128)})
		clients := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:1::1"), trusted}
		for step := range 500 {
			at := func(what string) string { return fmt.Sprintf("seed %d, step %d: %s", seed, step, what) }
			if rnd.IntN(3) == 0 || len(simple.open) == 0 {
				c := &simpleConn{watched: watchOf(g, clients[rnd.IntN(len(clients))])}
				c.client = authn.Network(c.watched.client)
				full := len(simple.open) == simple.max
				victim := simple.victim(c.client)
				gone = nil
				if got, want := g.enter(c.watched), !full || victim != nil; got != want {
					t.Fatal(at(fmt.Sprintf("let in: %v, want %v", got, want)))
				} else if !got {
					continue
				}
				if full {
					simple.open = slices.DeleteFunc(simple.open, func(o *simpleConn) bool { return o == victim })
					if len(gone) != 1 || gone[0] != victim.watched.client || victim.crowd != nil {
						t.Fatal(at("another one gave way"))
					}
					if g.begin(victim.watched) != evicted { // its request has come too late
						t.Fatal(at("a request without a place is served"))
					}
					if victim.lifetime.Err() == nil {
						t.Fatal(at("what waits for it goes on"))
					}
					_ = victim.watched.Close()
				} else if gone != nil {
					t.Fatal(at("one gave way for nothing"))
				}
				simple.last(c)
				continue
			}
			c := simple.open[rnd.IntN(len(simple.open))]
			switch rnd.IntN(4) {
			case 0:
				if c.lifetime.Err() != nil {
					t.Fatal(at("it has ended before it was closed"))
				}
				if _ = c.watched.Close(); c.lifetime.Err() == nil {
					t.Fatal(at("what waits for it goes on after it was closed"))
				}
				c.crowded = false
				simple.open = slices.DeleteFunc(simple.open, func(o *simpleConn) bool { return o == c })
			case 1:
				g.end(c.watched)
				if c.crowded = false; c.busy {
					c.busy = false
					simple.last(c)
				}
			default:
				mine := simple.count(func(o *simpleConn) bool { return o.busy && o.client == c.client })
				all := simple.count(func(o *simpleConn) bool { return o.busy })
				if !c.busy {
					c.busy = c.watched.client == trusted || mine < simple.max-all
					c.crowded = !c.busy
				}
				g.begin(c.watched)
			}
			refused := simple.count(func(o *simpleConn) bool { return o.crowded })
			busy, idle := g.counts()
			if (c.watched.standing.Load() == crowded) != c.crowded || int(g.refusing.Load()) != refused ||
				busy != simple.count(func(o *simpleConn) bool { return o.busy }) || busy+idle != len(simple.open) {
				t.Fatal(at(fmt.Sprintf("%d busy, %d idle, %d crowded, want %+v", busy, idle, g.refusing.Load(), simple.open)))
			}
		}
		for _, c := range simple.open {
			_ = c.watched.Close()
			_ = c.watched.Close()
		}
		if busy, idle := g.counts(); busy != 0 || idle != 0 || len(g.crowds) != 0 || len(g.idlers) != 0 || g.refusing.Load() != 0 {
			t.Fatalf("seed %d: something is left: %d busy, %d idle, %d clients, %d in the heap, %d crowded", seed, busy, idle, len(g.crowds), len(g.idlers), g.refusing.Load())
		}
	}
}

// Where all places are taken, whoever has most that are idle loses the one that
// was idle for longest; others notice nothing.
func TestIdleGiveWay(t *testing.T) {
	const limit = 20
	for _, kind := range []string{"kept", "silent", "slow head", "no handshake"} {
		t.Run(kind, func(t *testing.T) {
			var certificates *tls.Config
			if kind == "no handshake" {
				certificates = pairConfig(t)
			}
			f := startFront(t, config.Limits{Connections: limit}, certificates, func(http.ResponseWriter, *http.Request) {})
			ask := func(c rawClient) {
				t.Helper()
				if certificates != nil {
					c.Conn = tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
					c.r = bufio.NewReader(c.Conn)
				}
				if status, _, err := c.ask(simpleRequest); status != http.StatusOK {
					t.Fatalf("status %d, %v, want 200", status, err)
				}
			}
			open := func(n int) {
				await(t, 10*time.Second, fmt.Sprint(n, " idle connections"), func() bool {
					busy, idle := f.gate.counts()
					return busy == 0 && idle == n
				})
			}
			honest := dialFrom(t, f, 5)
			ask(honest)
			var greedy []rawClient
			for len(greedy) < limit-1 {
				c := dialFrom(t, f, 66)
				switch kind {
				case "kept":
					ask(c)
				case "slow head":
					fmt.Fprint(c, "GET / HT")
				}
				greedy = append(greedy, c)
				open(1 + len(greedy))
			}
			time.Sleep(2 * usualTimes.fresh)
			for n := range 5 {
				ask(dialFrom(t, f, 9))
				for i, c := range greedy {
					c.SetReadDeadline(time.Now().Add(time.Millisecond))
					if i <= n {
						c.SetReadDeadline(time.Now().Add(10 * time.Second))
					}
					_, err := c.r.ReadByte()
					if timeout, ok := err.(net.Error); ok && timeout.Timeout() == (i <= n) || !ok && i > n {
						t.Fatalf("after %d newcomers connection %d of the greedy one has %v, want the oldest gone", n+1, i, err)
					}
				}
			}
			if certificates == nil {
				ask(honest)
			}
		})
	}
}

// A client that has as many requests under way as there are places left is told so,
// nobody is cut short for others, and trusted proxies have no share.
func TestShareOfConnections(t *testing.T) {
	const limit = 8
	for _, c := range []struct {
		kind    string
		trusted []netip.Prefix
		most    int
	}{
		{"requests", nil, limit / 2},
		{"upgraded", nil, limit / 2},
		{"requests", []netip.Prefix{netip.MustParsePrefix("127.0.0.66/32")}, limit},
	} {
		t.Run(fmt.Sprint(c.kind, c.trusted), func(t *testing.T) {
			arrived, leave := make(chan struct{}, limit), make(chan struct{})
			cfg := config.Limits{Connections: limit}
			f := startFront(t, cfg, nil, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/wait":
					arrived <- struct{}{}
					<-leave
				case "/upgrade":
					hijacking(arrived)(w, r)
				}
			})
			f.use(&config.Config{Limits: cfg, TrustedProxies: c.trusted}, limit, nil)
			request := "GET /wait HTTP/1.1\nHost: a\n\n"
			if c.kind == "upgraded" {
				request = "GET /upgrade HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: test\n\n"
			}
			answered := make(chan int, limit)
			var busy []rawClient
			for range c.most {
				conn := dialFrom(t, f, 66)
				go func() {
					status, _, _ := conn.ask(request)
					answered <- status
				}()
				<-arrived
				busy = append(busy, conn)
			}
			if c.most == limit {
				close(leave)
				for range busy {
					if status := <-answered; status != http.StatusOK {
						t.Errorf("status %d for a client behind a proxy, want 200", status)
					}
				}
				return
			}
			over := dialFrom(t, f, 66)
			for range 2 {
				if status, _, err := over.ask(request); status != http.StatusServiceUnavailable {
					t.Fatalf("one more request of the same client: %d, %v, want 503", status, err)
				}
			}
			for range 3 * limit { // others come and go
				other := dialFrom(t, f, 9)
				if status, _, err := other.ask(simpleRequest); status != http.StatusOK {
					t.Fatalf("another client: %d, %v, want 200", status, err)
				}
				other.Close()
			}
			want := http.StatusOK
			if c.kind == "upgraded" {
				want = http.StatusSwitchingProtocols
			} else {
				close(leave)
			}
			for range busy {
				if status := <-answered; status != want {
					t.Errorf("status %d of who was let in, want %d", status, want)
				}
			}
			for _, conn := range busy {
				if c.kind == "upgraded" {
					fmt.Fprint(conn, "x") // which ends it
					if _, err := io.ReadAll(conn.r); err != nil {
						t.Errorf("an upgraded connection was cut short: %v", err)
					}
				}
			}
			await(t, 10*time.Second, "the requests to be over", func() bool { busy, _ := f.gate.counts(); return busy == 0 })
			if status, _, err := dialFrom(t, f, 66).ask(simpleRequest); status != http.StatusOK {
				t.Errorf("once its requests are over: %d, %v, want 200", status, err)
			}
		})
	}
}

// Who has just come keeps his place for a moment, against all who have as many.
func TestGrace(t *testing.T) {
	g := &gate{gateTimes: gateTimes{grace: time.Hour}, full: func(netip.Addr) {}}
	g.limit(100, nil)
	from := func(host byte) *watched {
		return watchOf(g, netip.AddrFrom4([4]byte{192, 0, 2, host}))
	}
	for host := range byte(98) {
		g.enter(from(host))
	}
	two := []*watched{from(100), from(100)}
	g.enter(two[0])
	g.enter(two[1])
	for _, c := range []struct {
		host  byte
		later time.Duration
		want  int // the host who gives way; -1: none
	}{
		{101, 0, 100},         // who has none takes from who has two
		{7, 0, -1},            // who has one does not
		{7, time.Hour, 100},   // but after a while
		{100, 0, -1},          // nor he himself
		{100, time.Hour, 100}, // but what is his own
	} {
		g.mu.Lock()
		victim := g.spare(g.crowds[authn.Network(from(c.host).client)], time.Now().Add(c.later))
		g.mu.Unlock()
		got := -1
		if victim != nil {
			got = int(victim.client.As4()[3])
		}
		if got != c.want {
			t.Errorf("for %d, %s later, %d gives way, want %d", c.host, c.later, got, c.want)
		}
	}
	g.begin(two[0])
	g.begin(two[1])
	if g.enter(from(101)) {
		t.Error("somebody gives way to an equal at once")
	}
	g.grace = 0
	if !g.enter(from(101)) || g.enter(from(100)) {
		t.Error("want him let in who has none, and not him who has two that are busy")
	}
}

// An answer of which the system has something left is not cut off for others, who
// find another connection.
func TestAnswersAreNotCutForOthers(t *testing.T) {
	const size = 300 << 10 // more than a client takes in that does not read
	f := startFront(t, config.Limits{Connections: 2}, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/large" {
			return
		}
		conn := watchedBelow(r.Context().Value(patienceKey{}).(*patience).conn)
		_ = conn.SetWriteBuffer(size) // so that the handler can return
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(make([]byte, size))
	})
	slow := dialFrom(t, f, 5)
	const request = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
	fmt.Fprint(slow, request)
	await(t, 10*time.Second, "the answer to be the system's", func() bool {
		busy, idle := f.gate.counts()
		f.gate.mu.Lock()
		defer f.gate.mu.Unlock()
		return busy == 0 && idle == 1 && unsent(f.gate.idlers[0].oldest.TCPConn) > 0
	})
	idle := dialFrom(t, f, 6)
	for _, host := range []byte{9, 10} {
		if status, _, err := dialFrom(t, f, host).ask(simpleRequest); status != http.StatusOK {
			t.Fatalf("another client: %d, %v, want 200", status, err)
		}
	}
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection without a request: %v, want it closed", err)
	}
	fmt.Fprint(slow, request) // which would have a closed connection reset
	for range 2 {
		res, err := http.ReadResponse(slow.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); len(body) != size || err != nil {
			t.Fatalf("%d bytes, %v, want %d", len(body), err, size)
		}
	}
}

// heldRefusals refuses slowly.
type heldRefusals struct {
	frontHandler
	arrived, leave chan struct{}
}

func (h heldRefusals) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.arrived <- struct{}{}
	<-h.leave
	h.frontHandler.Refuse(w, r, err)
}

// What one request of a connection was refused is granted to the next, once there
// is room for it.
func TestRefusedOverHTTP2(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	f := startFront(t, config.Limits{Connections: 2}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-leave
		}
	})
	held := heldRefusals{f.handler, make(chan struct{}), make(chan struct{})}
	f.handler = held
	client := func() *http.Client {
		return &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	}
	ask := func(client *http.Client, path string) int {
		res, err := client.Get("https://" + f.listener.Addr().String() + path)
		if err != nil {
			t.Error(err)
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	one, other := client(), client()
	defer one.CloseIdleConnections()
	defer other.CloseIdleConnections()
	answered := make(chan int)
	go func() { answered <- ask(one, "/wait") }()
	<-arrived
	go func() { answered <- ask(other, "/") }()
	<-held.arrived
	close(leave)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("who came first got %d", status)
	}
	await(t, 10*time.Second, "its request to be over", func() bool { busy, _ := f.gate.counts(); return busy == 0 })
	if status := ask(other, "/"); status != http.StatusOK {
		t.Errorf("with room again: %d, want 200", status)
	}
	close(held.leave)
	if status := <-answered; status != http.StatusServiceUnavailable {
		t.Errorf("who was refused got %d", status)
	}
}

// Where all places are taken, who has many replaces half of them at once and the rest
// one after another; others come at once.
func TestOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owing := false
		g := &gate{gateTimes: usualTimes, full: func(netip.Addr) {}, owes: func(netip.Addr) bool { return owing }}
		many, few, proxy := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
		g.limit(200, []netip.Prefix{netip.PrefixFrom(proxy, 32)})
		enters := func(client netip.Addr, tries, want int) {
			t.Helper()
			got := 0
			for range tries {
				if g.enter(watchOf(g, client)) {
					got++
				}
			}
			if got != want {
				t.Errorf("%s has entered %d times, want %d", client, got, want)
			}
		}
		enters(few, 40, 40)
		enters(many, 160, 160)
		time.Sleep(2 * time.Second)
		enters(many, 160, 80)
		enters(few, 8, 8)
		time.Sleep(2*time.Second/152 - time.Microsecond)
		enters(many, 1, 0)
		time.Sleep(time.Microsecond)
		enters(many, 2, 1)
		enters(proxy, 60, 60) // there are many clients behind it
		time.Sleep(2 * time.Second)
		enters(proxy, 60, 60)
		enters(many, 92, 50) // 20 ms apart
		time.Sleep(2 * time.Second)
		owing = true
		enters(many, 92, 1)
		time.Sleep(floodPace*waitingTick - time.Microsecond)
		enters(many, 1, 0)
		time.Sleep(time.Microsecond)
		enters(many, 2, 1)
		for c := range 2 { // places become free, for which somebody waits
			_ = g.crowds[authn.Network(few)].oldest.Close()
			g.waiting = 2
			time.Sleep(time.Duration(c) * floodPace * waitingTick)
			enters(many, 2, c)
		}
		owing = false
		enters(many, 1, 1)
	})
}

// BenchmarkGate is what a request costs here.
func BenchmarkGate(b *testing.B) {
	g := &gate{}
	g.limit(1<<20, nil)
	for i := range 10000 { // other clients
		g.enter(watchOf(g, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := watchOf(g, netip.MustParseAddr("192.0.2.1"))
		g.enter(c)
		for pb.Next() {
			g.begin(c)
			g.end(c)
		}
	})
}

var _ frontHandler = (*proxy.Gateway)(nil)
