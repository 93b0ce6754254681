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

// victim is who gives way to the next: nil for nobody.
func (g *simpleGate) victim() (victim *simpleConn) {
	most := 0
	for _, c := range g.open {
		if n := g.count(func(o *simpleConn) bool { return !o.busy && o.client == c.client }); !c.busy && n > most {
			victim, most = c, n
		}
	}
	return victim
}

func (g *simpleGate) last(c *simpleConn) {
	g.open = append(slices.DeleteFunc(g.open, func(o *simpleConn) bool { return o == c }), c)
}

// A gate does what the simple one does, whatever comes.
func TestGate(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		simple := &simpleGate{max: 1 + rnd.IntN(20)}
		var gone []netip.Addr
		g := &gate{full: func(client netip.Addr) { gone = append(gone, client) }}
		g.changed.L = &g.mu
		trusted := netip.MustParseAddr("2001:db8::7")
		g.limit(simple.max, []netip.Prefix{netip.PrefixFrom(trusted, 128)})
		clients := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:1::1"), trusted}
		for step := range 500 {
			at := func(what string) string { return fmt.Sprintf("seed %d, step %d: %s", seed, step, what) }
			if rnd.IntN(3) == 0 || len(simple.open) == 0 {
				victim := simple.victim()
				if len(simple.open) < simple.max {
					victim = nil
				} else if victim == nil {
					continue // it would wait
				}
				c := &simpleConn{watched: &watched{TCPConn: &net.TCPConn{}, gate: g, client: clients[rnd.IntN(len(clients))]}}
				c.client = authn.Network(c.watched.client)
				gone = nil
				if !g.enter(c.watched) {
					t.Fatal(at("not let in"))
				}
				if victim != nil {
					simple.open = slices.DeleteFunc(simple.open, func(o *simpleConn) bool { return o == victim })
					if len(gone) != 1 || gone[0] != victim.watched.client || victim.crowd != nil {
						t.Fatal(at("another one gave way"))
					}
					g.begin(victim.watched) // its request has come too late
					if !victim.watched.crowded.Load() {
						t.Fatal(at("a request without a place is not refused"))
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
				_ = c.watched.Close()
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
			crowded := simple.count(func(o *simpleConn) bool { return o.crowded })
			busy, idle := g.counts()
			if c.watched.crowded.Load() != c.crowded && c.watched.crowd != nil || int(g.crowded.Load()) != crowded ||
				busy != simple.count(func(o *simpleConn) bool { return o.busy }) || busy+idle != len(simple.open) {
				t.Fatal(at(fmt.Sprintf("%d busy, %d idle, %d crowded, want %+v", busy, idle, g.crowded.Load(), simple.open)))
			}
		}
		for _, c := range simple.open {
			_ = c.watched.Close()
			_ = c.watched.Close()
		}
		if busy, idle := g.counts(); busy != 0 || idle != 0 || len(g.crowds) != 0 || len(g.idlers) != 0 || g.crowded.Load() != 0 {
			t.Fatalf("seed %d: something is left: %d busy, %d idle, %d clients, %d in the heap, %d crowded", seed, busy, idle, len(g.crowds), len(g.idlers), g.crowded.Load())
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
				await(t, 10*time.Second, fmt.Sprint(n, " open connections"), func() bool {
					busy, idle := f.gate.counts()
					return busy+idle == n
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

// Who has just come gets a moment for the request, unless there are many of him.
func TestGrace(t *testing.T) {
	g := &gate{grace: time.Hour, full: func(netip.Addr) {}}
	g.changed.L = &g.mu
	g.limit(100, nil)
	enter := func(host byte) {
		g.enter(&watched{TCPConn: &net.TCPConn{}, gate: g, client: netip.AddrFrom4([4]byte{192, 0, 2, host})})
	}
	for host := range byte(87) {
		enter(host)
	}
	for range 12 {
		enter(100)
	}
	now := time.Now()
	if c, wait := g.spare(now); c != nil || wait <= 0 {
		t.Errorf("with 12 of 100 places %v gives way, after %v, want nobody before his time is over", c, wait)
	}
	if c, _ := g.spare(now.Add(time.Hour)); c == nil || c.client.As4()[3] != 100 {
		t.Errorf("%v gives way then, want one of those with most", c)
	}
	enter(100)
	if c, _ := g.spare(now); c == nil || c.client.As4()[3] != 100 {
		t.Errorf("with 13 of 100 places %v gives way, want the first of them at once", c)
	}
	enter(101) // waits for nobody
	if busy, idle := g.counts(); busy+idle != 100 || g.evicted.Load() != 1 {
		t.Errorf("%d open, %d gave way, want 100 and 1", busy+idle, g.evicted.Load())
	}
}

// BenchmarkGate is what a request costs here.
func BenchmarkGate(b *testing.B) {
	g := &gate{}
	g.changed.L = &g.mu
	g.limit(1<<20, nil)
	for i := range 10000 { // other clients
		g.enter(&watched{TCPConn: &net.TCPConn{}, gate: g, client: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := &watched{TCPConn: &net.TCPConn{}, gate: g, client: netip.MustParseAddr("192.0.2.1")}
		g.enter(c)
		for pb.Next() {
			g.begin(c)
			g.end(c)
		}
	})
}

var _ frontHandler = (*proxy.Gateway)(nil)
