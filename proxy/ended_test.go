package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gatehouse/authn"
)

func TestWebsocketEndsWhenRevoked(t *testing.T) {
	gone := make(chan string, 10)
	b := newEndBed(t, oneRoute(streamApp(t, gone)))
	for _, c := range []struct {
		name   string
		kind   authn.RevocationKind
		id     string
		header http.Header
		cause  string
	}{
		{"token", authn.RevokeToken, "ann-1", bearer("ann-1"), "token revoked"},
		{"session", authn.RevokeSession, "ann-2", cookie("ann-2"), "session revoked"},
		{"user", authn.RevokeUser, "eve", cookie("eve-1"), "all tokens of the user revoked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mark := len(b.log.String())
			other := b.dial(bearer("bob"))
			ws := b.dial(c.header)
			b.metric(`gatehouse_streams_open{kind="websocket"}`, "2")
			at := b.revoke(c.kind, c.id)
			b.closes1008(ws, "The token was revoked")
			b.within(at, "the client was told")
			<-gone
			b.within(at, "the upstream was told")
			line := b.logged(mark)
			if !strings.Contains(line, `decision=forward reason="`+c.cause+`" aborted=true`) || !strings.Contains(line, "status=101") {
				t.Errorf("log line %q, want 101 and the reason", line)
			}
			b.metric(`gatehouse_streams_open{kind="websocket"}`, "1")
			if err := other.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Errorf("the websocket of somebody else: %v", err)
			}
			<-gone
			b.metric(`gatehouse_streams_open{kind="websocket"}`, "0")
		})
	}
	b.metric(`gatehouse_streams_ended_total{reason="revoked"}`, "3")
	b.metric(`gatehouse_streams_ended_total{reason="expired"}`, "0")
}

// Within a frame of the upstream's there is no place for a close frame: the
// client must not take it for payload.
func TestWebsocketIsCutWithinAFrame(t *testing.T) {
	for name, sent := range map[string]string{
		"payload":          frame(0x81, 10)[:7],
		"length":           "\x82\x7f\x00\x00",
		"masked":           "\x81\x80mask",
		"closed by itself": frame(0x88, 2),
	} {
		t.Run(name, func(t *testing.T) {
			upstream := newUpgrader(t, sent)
			b := newEndBed(t, oneRoute(upstream))
			conn, br := rawUpgrade(t, b.server.Listener.Addr().String(), "ann")
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(br, got); err != nil {
				t.Fatal(err)
			}
			at := b.revoke(authn.RevokeToken, "ann")
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("%x follows, want nothing", rest)
			}
			b.within(at, "cut")
			conn.Close()
		})
	}
}

func TestStreamsEndWhenRevoked(t *testing.T) {
	gone := make(chan string, 10)
	b := newEndBed(t, oneRoute(streamApp(t, gone)))
	for path, kind := range map[string]string{"/events": "events", "/grpc": "grpc", "/file": "long"} {
		t.Run(kind, func(t *testing.T) {
			mark := len(b.log.String())
			res := b.ask("ann-"+kind, path)
			if path != "/file" {
				hello(t, res.Body)
			}
			b.metric(`gatehouse_streams_open{kind="`+kind+`"}`, "1")
			at := b.revoke(authn.RevokeSession, "ann-"+kind)
			if path != "/file" {
				if rest, err := io.ReadAll(res.Body); err == nil || len(rest) > 0 {
					t.Errorf("%q follows, %v, want a cut", rest, err)
				}
			}
			<-gone // of the file nothing is read: the gateway waits for the client when it is ended
			b.metric(`gatehouse_streams_open{kind="`+kind+`"}`, "0")
			b.within(at, "ended")
			if line := b.logged(mark); !strings.Contains(line, `reason="session revoked" aborted=true`) {
				t.Errorf("log line %q, want the reason", line)
			}
		})
	}
}

// Neither a websocket nor a request can be held open by a client that takes
// nothing and says nothing.
func TestClientThatIsStuck(t *testing.T) {
	b := newEndBed(t, oneRoute(newUpgrader(t, frame(0x82, 32<<20))))
	rawUpgrade(t, b.server.Listener.Addr().String(), "ann") // and reads no more
	b.metric(`gatehouse_streams_open{kind="websocket"}`, "1")
	at := b.revoke(authn.RevokeToken, "ann")
	b.metric(`gatehouse_streams_open{kind="websocket"}`, "0")
	b.within(at, "the websocket ended")

	gone := make(chan string, 10)
	b.use(oneRoute(streamApp(t, gone)))
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "POST /take HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer bob\r\nContent-Length: 1000\r\n\r\nfirst")
	b.metric(`gatehouse_streams_open{kind="long"}`, "1")
	at = b.revoke(authn.RevokeUser, "bob")
	answer, err := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") || err != nil {
		t.Errorf("the upload is answered with %q, %v, want 401 and the end", answer, err)
	}
	<-gone
	b.within(at, "the upload ended")
}

// A request that waits for its upstream is answered as one that comes now.
func TestWaitingRequestEndsWhenRevoked(t *testing.T) {
	gone := make(chan string, 10)
	b := newEndBed(t, oneRoute(streamApp(t, gone)))
	got := make(chan *http.Response, 1)
	go func() { got <- b.ask("ann", "/wait") }()
	b.metric(`gatehouse_streams_open{kind="long"}`, "1")
	at := b.revoke(authn.RevokeToken, "ann")
	res := <-got
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 401 || !strings.HasPrefix(string(body), `{"error":"invalid_token"`) ||
		!strings.Contains(res.Header.Get("WWW-Authenticate"), "The token was revoked") {
		t.Errorf("answered %d %s %v, want 401 invalid_token", res.StatusCode, body, res.Header)
	}
	<-gone
	b.within(at, "ended")
	if line := b.logged(0); !strings.Contains(line, `decision=invalid_token reason="token revoked"`) || strings.Contains(line, "aborted") {
		t.Errorf("log line %q, want the refusal", line)
	}
}

// What is no stream and not old may finish.
func TestShortRequestFinishes(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	upstream := upstreamFunc(t, func(w http.ResponseWriter, _ *http.Request) {
		entered <- true
		<-release
		io.WriteString(w, "done")
	})
	b := newEndBedOld(t, oneRoute(upstream), time.Hour)
	got := make(chan string, 1)
	go func() {
		body, err := io.ReadAll(b.ask("ann", "/").Body)
		got <- fmt.Sprint(string(body), err)
	}()
	<-entered
	b.revoke(authn.RevokeToken, "ann")
	// A stream that was revoked later has ended, so this one would have, too.
	b.open(&authn.Identity{Token: "later"})
	close(release)
	if body := <-got; body != "done<nil>" {
		t.Errorf("the answer is %s, want done", body)
	}
}

// Over HTTP/2 a stream is reset and its neighbours on the connection go on; a
// reload in between changes nothing.
func TestHTTP2StreamEnds(t *testing.T) {
	app := streamApp(t, make(chan string, 10))
	b := newEndBed(t, oneRoute(app))
	front := httptest.NewUnstartedServer(b.gateway)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	dials := 0
	client := front.Client()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	ask := func(token, path string) *http.Response {
		r, _ := http.NewRequestWithContext(withTimeout(t), "GET", front.URL+path, nil)
		r.Header = bearer(token)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		if path != "/file" {
			hello(t, res.Body)
		}
		return res
	}
	ann, anns, bob := ask("ann", "/events"), ask("ann", "/file"), ask("bob", "/grpc")
	b.metric(`gatehouse_streams_open{kind="long"}`, "1")
	b.use(oneRoute(app) + "\nlog: {level: debug}\n")
	at := b.revoke(authn.RevokeToken, "ann")
	for _, res := range []*http.Response{ann, anns} {
		if _, err := io.ReadAll(res.Body); err == nil || !strings.Contains(err.Error(), "stream error") {
			t.Errorf("ended with %v, want a reset of the stream", err)
		}
	}
	b.within(at, "reset")
	ask("bob", "/events")
	if dials != 1 || bob.ProtoMajor != 2 {
		t.Errorf("%d connections of %s, want one of HTTP/2", dials, bob.Proto)
	}
	b.metric(`gatehouse_streams_open{kind="grpc"}`, "1")
}

// A lockout of a user with hundreds of streams ends them all at once.
func TestHundredsEndAtOnce(t *testing.T) {
	gone := make(chan string, 1000)
	b := newEndBed(t, oneRoute(streamApp(t, gone)))
	const websockets, events = 200, 100
	var sockets []*websocket.Conn
	var bodies []io.ReadCloser
	for i := range websockets {
		header := bearer("ann")
		if i%2 == 1 {
			header = cookie(fmt.Sprint("ann-", i))
		}
		sockets = append(sockets, b.dial(header))
	}
	for range events {
		bodies = append(bodies, b.ask("ann", "/events").Body)
	}
	other := b.dial(bearer("bob"))
	b.metric(`gatehouse_streams_open{kind="websocket"}`, fmt.Sprint(websockets+1))
	b.metric(`gatehouse_streams_open{kind="events"}`, fmt.Sprint(events))
	at := b.revoke(authn.RevokeUser, "ann")
	var reading sync.WaitGroup
	for _, c := range sockets {
		reading.Go(func() { b.closes1008(c, "The token was revoked") })
	}
	for _, body := range bodies {
		reading.Go(func() { io.Copy(io.Discard, body) })
	}
	reading.Wait()
	t.Logf("%d streams ended after %v", websockets+events, time.Since(at))
	b.within(at, "all ended")
	for range websockets + events {
		<-gone
	}
	b.metric(`gatehouse_streams_open{kind="websocket"}`, "1")
	b.metric(`gatehouse_streams_open{kind="events"}`, "0")
	b.metric(`gatehouse_streams_ended_total{reason="revoked"}`, fmt.Sprint(websockets+events))
	if err := other.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("the websocket of somebody else: %v", err)
	}
}

// What an ordinary request pays so that it could be ended.
func BenchmarkEnterLeave(b *testing.B) {
	bed := newEndBedOld(b, oneRoute("http://127.0.0.1:9"), longAfter)
	s := bed.gateway.snapshot.Load()
	ctx, cancel := context.WithCancel(b.Context()) // as that of a request
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		x := &exchange{snapshot: s, decision: Decision{Route: s.routes[0], Identity: people["ann"]}, start: time.Now()}
		bed.gateway.streams.enter(ctx, x)
		bed.gateway.streams.leave(x)
	}
}
