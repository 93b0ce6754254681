package proxy

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gatehouse/authn"
)

// Streams of nobody, and of routes that say so, are left alone.
func TestStreamsThatDoNotEnd(t *testing.T) {
	gone := make(chan string, 10)
	app := streamApp(t, gone)
	b := newEndBed(t, fmt.Sprintf(`tokens: {leeway: 0s}
routes:
  - {path: /events, access: public, upstream: %[1]q}
  - {path: /grpc, access: optional, upstream: %[1]q}
  - {path: /ws, streams: {close_on_revoke: false, close_on_expiry: false}, upstream: %[1]q}
  - {path: /revoke, strip_prefix: /revoke, streams: {close_on_expiry: false}, upstream: %[1]q}
  - {path: /expire, strip_prefix: /expire, streams: {close_on_revoke: false}, upstream: %[1]q}
`, app))
	b.set(func() {
		b.tokens["short"] = &authn.Identity{ID: "ann", Token: "short", Expires: time.Now().Add(400 * time.Millisecond)}
	})
	public, optional := b.ask("ann", "/events"), b.ask("", "/grpc")
	hello(t, public.Body)
	hello(t, optional.Body)
	ws := b.dial(bearer("short"))
	revocable, expiring := b.ask("short", "/revoke/events"), b.ask("short", "/expire/events")
	hello(t, revocable.Body)
	hello(t, expiring.Body)
	b.metric(`gatehouse_streams_open{kind="events"}`, "3")
	b.metric(`gatehouse_streams_open{kind="grpc"}`, "1")

	b.metric(`gatehouse_streams_ended_total{reason="expired"}`, "1")
	if _, err := io.ReadAll(expiring.Body); err == nil {
		t.Error("the stream that ends by expiry came to a good end, want a cut")
	}
	b.revoke(authn.RevokeUser, "ann")
	b.metric(`gatehouse_streams_ended_total{reason="revoked"}`, "1")
	if _, err := io.ReadAll(revocable.Body); err == nil {
		t.Error("the stream that ends by revocation came to a good end, want a cut")
	}
	b.metric(`gatehouse_streams_open{kind="events"}`, "1")
	b.metric(`gatehouse_streams_open{kind="grpc"}`, "1")
	if _, _, err := ws.Read(withTimeout(t)); err != nil {
		t.Errorf("the websocket's first message: %v", err)
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("the websocket: %v", err)
	}
}

// A Bearer token's stream ends when it expires; a browser's goes on for as long
// as its session is alive.
func TestStreamsEndWhenExpired(t *testing.T) {
	b := newEndBed(t, "tokens: {leeway: 0s}\n"+oneRoute(streamApp(t, make(chan string, 10))))
	expires := time.Now().Add(500 * time.Millisecond)
	b.set(func() {
		for _, name := range []string{"program", "browser"} {
			b.tokens[name] = &authn.Identity{ID: "ann", Token: name, Session: name, Expires: expires}
			b.alive[name] = true
		}
	})
	program, browser := b.dial(bearer("program")), b.dial(cookie("browser"))
	b.closes1008(program, "The token expired")
	if time.Now().Before(expires) {
		t.Error("the program's stream ended before its token expired")
	}
	b.within(expires, "the program's stream ended")
	b.metric(`gatehouse_streams_open{kind="websocket"}`, "1")
	if _, _, err := browser.Read(withTimeout(t)); err != nil {
		t.Fatalf("the browser's first message: %v", err)
	}
	if err := browser.Ping(reading(t, browser)); err != nil {
		t.Errorf("the browser's stream after its token expired: %v", err)
	}
	b.set(func() { b.alive["browser"] = false })
	b.metric(`gatehouse_streams_open{kind="websocket"}`, "0")
	b.metric(`gatehouse_streams_ended_total{reason="expired"}`, "2")
}

// reading reads c, without which no pong comes.
func reading(t *testing.T, c *websocket.Conn) context.Context {
	ctx := withTimeout(t)
	c.CloseRead(ctx)
	return ctx
}
