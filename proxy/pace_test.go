package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

func TestPace(t *testing.T) {
	now := time.Unix(1e9, 0)
	enemy, neighbour := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	var p Pace
	for i := range paceBurst {
		if wait := p.wait(enemy, 1, now); wait > 0 {
			t.Fatalf("refusal %d waits %s", i+1, wait)
		}
	}
	if wait := p.wait(neighbour, 1, now); wait != time.Second/paceRate {
		t.Errorf("the next, of the same /64, waits %s, want %s", wait, time.Second/paceRate)
	}
	if wait := p.wait(netip.MustParseAddr("2001:db8:0:1::1"), 1, now); wait > 0 {
		t.Errorf("another network waits %s", wait)
	}
	for range 100 * paceRate {
		if wait := p.wait(enemy, 1, now); wait > paceMost {
			t.Fatalf("a refusal waits %s, want %s at most", wait, paceMost)
		}
	}
	// What was refused is paid for at paceRate, and no more than paceMost of it is
	// remembered beyond the burst.
	now = now.Add(paceMost)
	if wait := p.wait(enemy, 1, now); wait != time.Second/paceRate {
		t.Errorf("after %s a refusal waits %s, want %s", paceMost, wait, time.Second/paceRate)
	}
	now = now.Add(time.Minute)
	if wait := p.wait(enemy, 1, now); wait > 0 || len(p.clients) != 1 {
		t.Errorf("after a minute a refusal waits %s, %d clients are remembered", wait, len(p.clients))
	}
}

// An IPv4 address is the same client however a socket names it.
func TestPaceMapped(t *testing.T) {
	var p Pace
	now := time.Unix(1e9, 0)
	p.wait(netip.MustParseAddr("192.0.2.1"), 1, now)
	p.wait(netip.MustParseAddr("::ffff:192.0.2.1"), 1, now)
	if len(p.clients) != 1 {
		t.Errorf("%v, want one client", p.clients)
	}
}

// Somebody with any number of addresses does not fill the memory.
func TestPaceManyClients(t *testing.T) {
	var p Pace
	now := time.Unix(1e9, 0)
	for i := range paceClients + 10 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		p.wait(a, 1, now)
	}
	if len(p.clients) != paceClients {
		t.Errorf("%d clients are remembered, want %d", len(p.clients), paceClients)
	}
	if p.wait(netip.MustParseAddr("192.0.2.1"), 1, now.Add(time.Minute)); len(p.clients) != 1 {
		t.Errorf("%d clients are remembered a minute later, want 1", len(p.clients))
	}
}

// Who gives up is not held.
func TestPaceHold(t *testing.T) {
	m := NewMetrics("", "")
	p := &Pace{Metrics: m}
	enemy := netip.MustParseAddr("192.0.2.1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 * paceBurst {
		p.hold(ctx, enemy, 1)
	}
	if text := scrape(t, m); strings.Contains(text, "\ngatehouse_refusals_held_total 0\n") {
		t.Error("nothing was held")
	}
	if !p.Owes(enemy) || !p.Owes(netip.MustParseAddr("::ffff:192.0.2.1")) || p.Owes(netip.MustParseAddr("192.0.2.2")) || p.Owes(netip.Addr{}) {
		t.Error("others owe, or the enemy does not")
	}
	p.trust([]netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")})
	before := len(p.clients)
	p.hold(t.Context(), netip.MustParseAddr("::ffff:192.0.2.7"), 1)
	if len(p.clients) != before {
		t.Error("a trusted proxy was charged")
	}
	var none *Pace
	none.trust(nil)
	none.hold(ctx, enemy, 1)
	if none.Owes(enemy) {
		t.Error("somebody owes nobody")
	}
}

func TestPaced(t *testing.T) {
	at := map[string]bool{}
	for _, r := range authn.Refusals() {
		at[r.Code] = paced(r)
	}
	for code, want := range map[string]bool{
		"invalid_token": true, "invalid_credentials": true, "bad_path": true, "too_many_attempts": true, "forbidden": true, "busy": true,
		"missing_token": false, "upstream_unavailable": false, "upstream_timeout": false, "revocation_unavailable": false, "internal": false,
	} {
		if got, known := at[code]; got != want || !known {
			t.Errorf("%s is paced: %t, known: %t", code, got, known)
		}
	}
}

// Only who is refused is held up: by an answer that is the gateway's, and by one
// that is the guard's.
func TestPacedLive(t *testing.T) {
	t.Parallel()
	upstream := newCapture(t)
	upstream.answer = plainAnswer
	server, _ := testGateway(t, ""+
		"routes: [{path: /, access: public, upstream: \"http://"+upstream.Addr().String()+"\"}, {path: /private, upstream: \"http://"+upstream.Addr().String()+"\"}]\n")
	g := server.Config.Handler.(*Gateway)
	held := 0
	for _, test := range []struct {
		path, header, status string
		held                 bool
	}{
		{"/", "", "200", false},
		{"/a/..;/b", "", "400", true},
		{"/private", "", "401", false},
		{"/private", "Authorization: Bearer nobody\r\n", "401", true},
		{"/", "Bare: line feed\n", "400", true},
		{"/", "", "200", false},
	} {
		g.pace.wait(netip.MustParseAddr("127.0.0.1"), paceBurst+paceRate, time.Now()) // a flood
		status, _ := exchangeRaw(t, server.Listener.Addr().String(), "GET "+test.path+" HTTP/1.1\r\nHost: gateway.example\r\n"+test.header+"Connection: close\r\n\r\n")
		if test.held {
			held++
		}
		want := fmt.Sprintf("\ngatehouse_refusals_held_total %d\n", held)
		if !strings.Contains(status, test.status) || !strings.Contains(scrape(t, g.metrics), want) {
			t.Errorf("GET %s, %q: %s, want %s and%s", test.path, test.header, status, test.status, want)
		}
	}
}
