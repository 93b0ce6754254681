package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

// A gateway is what a gateway makes of the log: a list that follows it.
type gateway struct {
	t    testing.TB
	log  *Log
	list *authn.RevocationList
	stop func()
}

func startGateway(t testing.TB, o Options, p authn.RevocationPolicy) *gateway {
	t.Helper()
	if o.Prefix == "" {
		o.Prefix = "gatehouse"
	}
	l, err := New(o)
	must(t, err)
	g := &gateway{t: t, log: l, list: authn.NewRevocationList(l, time.Now)}
	g.list.Use(p)
	following, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = g.list.Follow(following) })
	g.stop = sync.OnceFunc(func() { cancel(); running.Wait(); l.Close() })
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) ready() bool { _, _, err := g.list.State(); return err == nil }

func (g *gateway) check(id string) error {
	return g.list.Check(ctx, &authn.Identity{ID: "ann", Token: id})
}
func (g *gateway) refuses(id string) bool { return errors.Is(g.check(id), authn.ErrInvalidToken) }

func revocation(id string) authn.Revocation {
	return authn.Revocation{Kind: authn.RevokeToken, ID: id, Expires: time.Now().Add(time.Hour)}
}

func (g *gateway) revoke(id string) error { return g.list.Revoke(ctx, revocation(id)) }

func (g *gateway) awaitReady() {
	g.t.Helper()
	eventually(g.t, "the gateway is ready", func() bool { return g.ready() })
}

// neverAccepts watches a token that was revoked before, until the returned
// function is called: once known, it is never accepted again; no Check takes
// longer than budget, but for one that the machine kept waiting; and a gateway whose copy is younger than the revocation
// refuses it in any case.
func neverAccepts(t *testing.T, id string, budget time.Duration, gateways ...*gateway) (end func()) {
	t.Helper()
	var running sync.WaitGroup
	stop := make(chan struct{})
	began := time.Now()
	for i, g := range gateways {
		running.Go(func() {
			known, late, slow := false, time.Duration(0), 0
			for {
				slept := time.Now()
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				late = max(late, time.Since(slept)) // as much as this machine keeps anybody waiting
				_, read, _ := g.list.State()
				asked := time.Now()
				err := g.check(id)
				known = known || errors.Is(err, authn.ErrInvalidToken)
				if young := read.After(began); err == nil && (known || young) {
					t.Errorf("gateway %d accepts %q; known %v, copy younger than the revocation %v", i, id, known, young)
					return
				}
				took := time.Since(asked)
				if slow++; took <= budget+late {
					slow = 0
				}
				if slow == 3 || took > 10*time.Second {
					t.Errorf("gateway %d took %s to decide, and more than %s %d times in a row", i, took, budget+late, slow)
				}
			}
		})
	}
	return func() { close(stop); running.Wait() }
}

// busy is what a decision may take longer on a machine that runs other tests:
// with strictWait still less than callTimeout, which is what one would take that
// waits for Redis without a bound of its own.
const busy = 600 * time.Millisecond

func TestGatewaysShare(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{}), startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{})
	if err := a.check("t"); !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("a new set is believed at once: %v", err)
	}
	a.awaitReady()
	b.awaitReady()
	must(t, a.revoke("t"))
	if !a.refuses("t") {
		t.Error("not in force where it was revoked")
	}
	eventually(t, "in force at the other", func() bool { return b.refuses("t") })
	c := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{})
	eventually(t, "a third is ready at once", c.ready)
	if !c.refuses("t") {
		t.Error("a gateway that is ready accepts what was revoked")
	}
}

// loss is a way for Redis to lose what it had.
var losses = map[string]struct {
	args []string
	lose func(t *testing.T, s *server)
}{
	"kill and restart empty": {nil, func(t *testing.T, s *server) { s.kill(); s.start() }},
	"kill and restart with AOF": {[]string{"--appendonly", "yes", "--appendfsync", "everysec"},
		func(t *testing.T, s *server) { s.kill(); s.start() }},
	"FLUSHALL":    {nil, func(t *testing.T, s *server) { must(t, s.admin("FLUSHALL").Err()) }},
	"set evicted": {nil, func(t *testing.T, s *server) { must(t, s.admin("DEL", "{gatehouse}:revoked").Err()) }},
	"old snapshot": {nil, func(t *testing.T, s *server) {
		// The snapshot of before the revocation was written by prepare.
		s.kill()
		s.start()
	}},
}

func TestLosses(t *testing.T) {
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, loss.args...)
			o := Options{URL: s.url()}
			a, b := startGateway(t, o, authn.RevocationPolicy{}), startGateway(t, o, authn.RevocationPolicy{})
			a.awaitReady()
			b.awaitReady()
			must(t, a.revoke("before"))
			if name == "old snapshot" {
				must(t, s.admin("SAVE").Err())
			}
			must(t, a.revoke("t"))
			eventually(t, "known to both", func() bool { return b.refuses("t") && b.refuses("before") })
			b.stop() // as if it was restarted: nobody but a knows all
			end := neverAccepts(t, "t", busy, a)
			loss.lose(t, s)
			// A gateway that starts right now knows nothing.
			c := startGateway(t, o, authn.RevocationPolicy{})
			endC := neverAccepts(t, "t", busy, c)
			inSet := func() bool {
				return s.admin("ZSCORE", "{gatehouse}:revoked", "token::t").Err() == nil &&
					s.admin("ZSCORE", "{gatehouse}:revoked", "token::before").Err() == nil
			}
			eventually(t, "what was lost is put back", inSet)
			c.awaitReady()
			a.awaitReady()
			if !c.refuses("t") || !c.refuses("before") {
				t.Error("a gateway that is ready lacks what was lost")
			}
			must(t, c.revoke("after"))
			eventually(t, "they share again", func() bool { return a.refuses("after") })
			end()
			endC()
			if n := a.list.Counts(); name != "kill and restart with AOF" && (n.Losses == 0 || n.PutBack == 0) {
				t.Errorf("counts %+v, want a loss and something put back", n)
			}
		})
	}
}

// A server that hangs: decisions go on from the local copy until it is too old.
func TestHung(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	o := Options{URL: s.url()}
	fast := startGateway(t, o, authn.RevocationPolicy{MaxStaleness: 3 * time.Second})
	lenient := startGateway(t, o, authn.RevocationPolicy{MaxStaleness: 3 * time.Second, AllowStale: true})
	strict := startGateway(t, o, authn.RevocationPolicy{Strict: true})
	all := []*gateway{fast, lenient, strict}
	for _, g := range all {
		g.awaitReady()
	}
	must(t, fast.revoke("t"))
	eventually(t, "known to all", func() bool { return lenient.refuses("t") && strict.refuses("t") })
	end := neverAccepts(t, "t", busy, all...)
	for round := range 2 {
		s.signal(syscall.SIGSTOP)
		began := time.Now()
		if err := strict.check("other"); !errors.Is(err, authn.ErrRevocation) || time.Since(began) > strictBudget {
			t.Errorf("strict: %v after %s, want revocation_unavailable within %s", err, time.Since(began), strictBudget)
		}
		must(t, fast.check("other"))
		began = time.Now()
		if err := fast.revoke("u"); !errors.Is(err, authn.ErrRevocation) || time.Since(began) > 2*callTimeout+10*busy {
			t.Errorf("Revoke: %v after %s, want revocation_unavailable within %s", err, time.Since(began), 2*callTimeout+10*busy)
		}
		eventually(t, "not ready", func() bool { return !fast.ready() && !strict.ready() && !lenient.ready() })
		eventually(t, "too old", func() bool { return errors.Is(fast.check("other"), authn.ErrRevocation) })
		must(t, lenient.check("other"))
		s.signal(syscall.SIGCONT)
		eventually(t, fmt.Sprintf("round %d: all is well again", round), func() bool {
			return fast.ready() && fast.check("other") == nil && strict.check("other") == nil && strict.ready() && lenient.ready()
		})
	}
	end()
}

const strictBudget = 250*time.Millisecond + busy

// Refusals of writes make revoking fail and leave reading alone.
func TestWritesRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ refuse, allow []any }{
		"READONLY": {[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		"OOM":      {[]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		"NOPERM":   {[]any{"ACL", "SETUSER", "default", "-zadd"}, []any{"ACL", "SETUSER", "default", "+@all"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			g := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{MaxStaleness: 2 * time.Second})
			strict := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{Strict: true})
			g.awaitReady()
			strict.awaitReady()
			must(t, g.revoke("t"))
			end := neverAccepts(t, "t", busy+strictBudget, g, strict)
			must(t, s.admin(c.refuse...).Err())
			err := g.revoke("u")
			if !errors.Is(err, authn.ErrRevocation) || !strings.Contains(err.Error(), strings.ToUpper(name)) && name != "NOPERM" {
				t.Errorf("Revoke = %v, want revocation_unavailable because of %s", err, name)
			}
			_, read, _ := g.list.State()
			eventually(t, "the copy stays fresh", func() bool {
				_, again, err := g.list.State()
				return again.Sub(read) > time.Second && err == nil
			})
			must(t, g.check("other"))
			must(t, strict.check("other"))
			must(t, s.admin(c.allow...).Err())
			eventually(t, "revoking works again", func() bool { return g.revoke("u") == nil })
			end()
		})
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--requirepass", "right")
	wrong := startGateway(t, Options{URL: s.url(), Password: "wrong"}, authn.RevocationPolicy{})
	none := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{})
	right := startGateway(t, Options{URL: "redis://:right@" + s.addr()}, authn.RevocationPolicy{})
	right.awaitReady()
	must(t, right.revoke("t"))
	for _, g := range []*gateway{wrong, none} {
		eventually(t, "the error is told", func() bool {
			_, _, err := g.list.State()
			return err != nil && (strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "NOAUTH"))
		})
		if err := g.check("other"); !errors.Is(err, authn.ErrRevocation) {
			t.Errorf("Check = %v, want revocation_unavailable", err)
		}
		if err := g.revoke("u"); !errors.Is(err, authn.ErrRevocation) {
			t.Errorf("Revoke = %v, want revocation_unavailable", err)
		}
	}
	// The server's password becomes what the gateway has: it comes good.
	c := right.log.client()
	must(t, c.Do(ctx, "CONFIG", "SET", "requirepass", "wrong").Err())
	eventually(t, "comes good", func() bool { return wrong.ready() && wrong.refuses("t") })
}

// The gateway is there before Redis, and Redis takes its time to load.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
	first := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{})
	first.awaitReady()
	must(t, first.revoke("t"))
	first.stop()
	for i := range 200 { // two seconds of loading
		must(t, s.admin("SET", fmt.Sprint("key", i), strings.Repeat("x", 200)).Err())
	}
	must(t, s.admin("SAVE").Err())
	s.kill()
	g := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{AllowStale: true})
	end := neverAccepts(t, "t", busy, g)
	refuse := func() {
		t.Helper()
		if err := g.check("other"); !errors.Is(err, authn.ErrRevocation) || authn.AsRefusal(err).RetryAfter == 0 {
			t.Errorf("Check = %v, want revocation_unavailable and a time to wait", err)
		}
	}
	refuse()
	s.launch()
	eventually(t, "LOADING", func() bool {
		_, _, err := g.list.State()
		return err != nil && strings.Contains(err.Error(), "LOADING")
	})
	refuse()
	eventually(t, "comes good", g.ready)
	if !g.refuses("t") {
		t.Error("what was revoked is accepted")
	}
	must(t, g.check("other"))
	end()
}

func TestNetwork(t *testing.T) {
	for name, faults := range map[string]authntest.Faults{
		"partition": {Dropped: true},
		"reset":     {Reset: true},
		"slow":      {Delay: 3 * time.Second},
		"HTTP":      {Rubbish: "HTTP/1.1 400 Bad Request\r\n\r\n"},
		"cut off":   {Rubbish: "*3\r\n$10\r\nabc"},
		"a number":  {Rubbish: ":1\r\n"},
		"huge":      {Rubbish: "$1000000000\r\n"},
		"overflow":  {Rubbish: "*9223372036854775807\r\n"},
		"shifted":   {Shifted: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			p := authntest.StartFaultProxy(t, s.addr())
			a := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{})
			b := startGateway(t, Options{URL: "redis://" + p.Addr()}, authn.RevocationPolicy{MaxStaleness: 2 * time.Second})
			strict := startGateway(t, Options{URL: "redis://" + p.Addr()}, authn.RevocationPolicy{Strict: true})
			for _, g := range []*gateway{a, b, strict} {
				g.awaitReady()
			}
			must(t, a.revoke("t"))
			eventually(t, "known to all", func() bool { return b.refuses("t") && strict.refuses("t") })
			end := neverAccepts(t, "t", strictBudget, b, strict)
			p.Set(faults)
			eventually(t, "noticed", func() bool { return !b.ready() })
			if err := strict.check("other"); !errors.Is(err, authn.ErrRevocation) {
				t.Errorf("strict: %v, want revocation_unavailable", err)
			}
			began := time.Now()
			if err := b.revoke("u"); !errors.Is(err, authn.ErrRevocation) || time.Since(began) > 2*callTimeout+10*busy {
				t.Errorf("Revoke: %v after %s, want revocation_unavailable", err, time.Since(began))
			}
			eventually(t, "too old", func() bool { return errors.Is(b.check("other"), authn.ErrRevocation) })
			must(t, a.revoke("meanwhile"))
			endMeanwhile := neverAccepts(t, "meanwhile", strictBudget, b, strict)
			p.Set(authntest.Faults{})
			eventually(t, "heals", func() bool {
				return b.ready() && strict.ready() && strict.check("other") == nil && b.check("other") == nil
			})
			if !b.refuses("meanwhile") || !strict.refuses("meanwhile") {
				t.Error("what was revoked meanwhile is accepted")
			}
			end()
			endMeanwhile()
		})
	}
}
