package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

// Whatever revokes at one gateway, or at the command line, ends the streams that
// run on another: a websocket with a close frame, an event stream and a long
// download by a cut. Those of a browser outlive its access tokens.
func TestStreamsEndOnEveryReplica(t *testing.T) {
	for name, store := range map[string]func(*testing.T) string{
		"sqlite": func(*testing.T) string { return "users: {" },
		"postgres": func(t *testing.T) string {
			return fmt.Sprintf("users: {database: %q, ", authntest.StartPostgres(t, "fsync = off").URL("postgres"))
		},
		"redis": func(t *testing.T) string {
			return fmt.Sprintf("revocation: {store: redis, redis: {url: \"redis://%s\"}}\nusers: {", startHistoryRedis(t).addr())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for downloads to be long
			newStreamsBed(t, store(t)).run()
		})
	}
}

// streamsBed is two gateways and those who watch streams through one of them.
type streamsBed struct {
	t           *testing.T
	here, there *servedGateway
}

// A viewer is one user with three streams.
type viewer struct {
	name    string
	browser bool
	email   string
	token   string // of the cookie, or a program's
	refresh string
	socket  *websocket.Conn
	echoes  chan string
	ended   chan string // three of "kind: how"
	pieces  atomic.Int64
}

func newStreamsBed(t *testing.T, store string) *streamsBed {
	upstream := httptest.NewServer(http.HandlerFunc(streamForEver))
	t.Cleanup(func() {
		upstream.CloseClientConnections()
		upstream.Close()
	})
	yaml := fmt.Sprintf(`data_dir: %s
public_url: http://gw.example
log: {access: false}
tokens: {access_ttl: 4s, leeway: 0s}
routes: [{path: /, upstream: %q}]
%sbcrypt_cost: 4, password: {min_strength: 0}}
`, filepath.Join(t.TempDir(), "data"), upstream.URL, store)
	return &streamsBed{t: t, here: serveHere(t, yaml), there: serveHere(t, yaml)}
}

// streamForEver is an app with a websocket that answers, events and a download
// that never end, and anything else.
func streamForEver(w http.ResponseWriter, r *http.Request) {
	piece := "data: piece\n\n"
	switch r.URL.Path {
	case "/ws":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for err == nil {
			var message []byte
			if _, message, err = c.Read(r.Context()); err == nil {
				err = c.Write(r.Context(), websocket.MessageText, message)
			}
		}
		return
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
	case "/download":
		w.Header().Set("Content-Length", "1000000000")
		piece = strings.Repeat("piece", 2<<10) // more than is gathered before it is sent
	default:
		return
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(w, piece); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (b *streamsBed) run() {
	t := b.t
	type ending struct {
		*viewer
		end func(*viewer)
	}
	browser := func(name string, end func(*viewer)) ending { return ending{b.signIn(name), end} }
	program := func(name string, end func(*viewer)) ending { return ending{b.issue(name, "1h"), end} }
	endings := []ending{
		browser("logout", func(v *viewer) { b.post(v, "/logout", "{}", 204) }),
		browser("everywhere", func(v *viewer) { b.post(v, "/logout", `{"everywhere":true}`, 204) }),
		browser("session", func(v *viewer) { b.command("session", "revoke", b.sessionOf(v)) }),
		browser("disable", func(v *viewer) { b.command("user", "disable", v.email) }),
		browser("delete", func(v *viewer) { b.command("user", "delete", v.email, "--yes") }),
		program("revoke", func(v *viewer) { b.post(v, "/.gatehouse/revoke", "token="+v.token, 200) }),
		program("command", func(v *viewer) { b.command("token", "revoke", v.token) }),
		program("locked-out", func(v *viewer) { b.command("user", "disable", v.email) }),
	}
	opened := time.Now()
	expiring := b.issue("expiring", "20s")

	await(t, time.Minute, "the downloads to be long", func() bool {
		metrics, err := get(b.there.admin + "/metrics")
		var n int
		_, rest, _ := strings.Cut(metrics, "\ngatehouse_streams_open{kind=\"long\"} ")
		_, _ = fmt.Sscan(rest, &n)
		return err == nil && n >= len(endings)
	})
	t.Logf("the downloads are long after %v", time.Since(opened).Round(time.Millisecond))
	for _, e := range endings {
		if e.browser {
			b.renew(e.viewer)
		}
	}
	for i, e := range endings {
		for _, other := range endings[i:] {
			b.alive(other.viewer)
		}
		began := time.Now()
		e.end(e.viewer)
		b.ends(e.viewer, "The token was revoked")
		t.Logf("%s: all ended after %v", e.name, time.Since(began).Round(time.Millisecond))
	}
	b.ends(expiring, "The token expired")
	for reason, n := range map[string]int{"revoked": 3 * len(endings), "expired": 3} {
		line := fmt.Sprintf("\ngatehouse_streams_ended_total{reason=%q} %d\n", reason, n)
		if metrics, err := get(b.there.admin + "/metrics"); err != nil || !strings.Contains(metrics, line) {
			_, rest, _ := strings.Cut(metrics, "\ngatehouse_streams_ended_total")
			t.Errorf("%v, metrics %.150s, want %s", err, rest, line)
		}
	}
}

// register makes an account.
func (b *streamsBed) register(name string) *viewer {
	b.t.Helper()
	v := &viewer{name: name, email: name + "@example.com", ended: make(chan string, 3), echoes: make(chan string)}
	b.post(v, "/register", b.password(v), 201)
	return v
}

func (b *streamsBed) password(v *viewer) string {
	return fmt.Sprintf(`{"email":%q,"password":"password123"}`, v.email)
}

// signIn registers somebody whose streams are a browser's.
func (b *streamsBed) signIn(name string) *viewer {
	b.t.Helper()
	v := b.register(name)
	var grant struct{ Access_token, Refresh_token string }
	if err := json.Unmarshal([]byte(b.post(v, "/login", b.password(v), 200).body), &grant); err != nil {
		b.t.Fatal(err)
	}
	v.browser, v.token, v.refresh = true, grant.Access_token, grant.Refresh_token
	b.open(v)
	return v
}

// issue registers somebody whose streams are a program's.
func (b *streamsBed) issue(name, ttl string) *viewer {
	b.t.Helper()
	v := b.register(name)
	v.token = strings.TrimSpace(b.command("token", "issue", v.email, "--ttl", ttl))
	b.open(v)
	return v
}

func (b *streamsBed) command(args ...string) string {
	b.t.Helper()
	var stdout, stderr lockedBuffer
	if code := run(b.t.Context(), append(args, "--config", b.here.file), strings.NewReader(""), &stdout, &stderr, b.here.lookup); code != exitDone {
		b.t.Fatalf("gatehouse %s: %s", strings.Join(args, " "), stderr.String())
	}
	return stdout.String()
}

func (v *viewer) header() http.Header {
	switch {
	case v.browser:
		return http.Header{"Cookie": {"gatehouse=" + v.token + "; gatehouse-refresh=" + v.refresh}}
	case v.token != "":
		return http.Header{"Authorization": {"Bearer " + v.token}}
	}
	return http.Header{}
}

// post sends a call to the gateway that the streams do not run on.
func (b *streamsBed) post(v *viewer, path, body string, want int) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "POST", b.here.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = v.header()
	r.Header.Set("Content-Type", "application/json")
	if !strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	got := send(b.t, plainClient(), r)
	if got.status != want {
		b.t.Fatalf("POST %s of %s = %d %s, want %d", path, v.name, got.status, got.body, want)
	}
	return got
}

// renew has a browser ask the other gateway for something once its access token
// is over: it is refreshed on the way.
func (b *streamsBed) renew(v *viewer) {
	b.t.Helper()
	var got answer
	await(b.t, time.Minute, "new cookies for "+v.name, func() bool {
		r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.here.url+"/", nil)
		if err != nil {
			b.t.Fatal(err)
		}
		r.Header = v.header()
		got = send(b.t, plainClient(), r)
		if got.status != 200 {
			b.t.Fatalf("%s is answered %d %s", v.name, got.status, got.body)
		}
		return v.takes(got.header)
	})
}

// takes notes the new cookies of an answer, if it has any.
func (v *viewer) takes(h http.Header) bool {
	cookies := (&http.Response{Header: h}).Cookies()
	for _, c := range cookies {
		switch c.Name {
		case "gatehouse":
			v.token = c.Value
		case "gatehouse-refresh":
			v.refresh = c.Value
		}
	}
	return len(cookies) == 2
}

func (b *streamsBed) sessionOf(v *viewer) string {
	b.t.Helper()
	_, claims, err := authn.Inspect(v.token)
	if err != nil {
		b.t.Fatal(err)
	}
	return claims["sid"].(string)
}

// open opens all streams of v, and reads them.
func (b *streamsBed) open(v *viewer) {
	b.t.Helper()
	c, answer, err := websocket.Dial(b.t.Context(), b.there.url+"/ws", &websocket.DialOptions{HTTPHeader: v.header()})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.CloseNow() })
	v.socket = c
	v.takes(answer.Header) // on a slow machine
	go func() {
		for {
			_, message, err := c.Read(context.Background())
			var closed websocket.CloseError
			switch {
			case err == nil:
				v.echoes <- string(message)
				continue
			case errors.As(err, &closed) && closed.Code == websocket.StatusPolicyViolation:
				v.ended <- "websocket: " + closed.Reason
			default:
				v.ended <- fmt.Sprint("websocket: ", err)
			}
			return
		}
	}()
	for _, path := range []string{"/events", "/download"} {
		r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.there.url+path, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		r.Header = v.header()
		res, err := new(http.Transport).RoundTrip(r)
		if err != nil || res.StatusCode != 200 {
			b.t.Fatalf("%s of %s: %v, %v", path, v.name, res, err)
		}
		b.t.Cleanup(func() { res.Body.Close() })
		v.takes(res.Header)
		go func() {
			for piece := make([]byte, 16<<10); ; v.pieces.Add(1) {
				if _, err := res.Body.Read(piece); err == io.ErrUnexpectedEOF {
					v.ended <- path + ": cut"
					return
				} else if err != nil {
					v.ended <- fmt.Sprint(path, ": ", err)
					return
				}
			}
		}()
	}
}

// alive has something pass through the streams of v.
func (b *streamsBed) alive(v *viewer) {
	b.t.Helper()
	passed := v.pieces.Load()
	if err := v.socket.Write(b.t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		b.t.Fatalf("%s: %v", v.name, err)
	}
	select {
	case <-v.echoes:
	case how := <-v.ended:
		b.t.Fatalf("%s, while nothing was revoked: %s", v.name, how)
	case <-time.After(20 * time.Second):
		b.t.Fatalf("the websocket of %s does not answer", v.name)
	}
	await(b.t, 20*time.Second, "the streams of "+v.name, func() bool { return v.pieces.Load() > passed })
	if len(v.ended) > 0 {
		b.t.Fatalf("%s, while nothing was revoked: %s", v.name, <-v.ended)
	}
}

// ends waits for the end of the streams of v. The promise is a second; a
// machine that runs other tests gets more.
func (b *streamsBed) ends(v *viewer, reason string) {
	b.t.Helper()
	want := map[string]bool{"websocket: " + reason: true, "/events: cut": true, "/download: cut": true}
	for late := time.After(30 * time.Second); len(want) > 0; {
		select {
		case how := <-v.ended:
			if !want[how] {
				b.t.Errorf("%s ended by %q, want one of %v", v.name, how, want)
				return
			}
			delete(want, how)
		case <-late:
			b.t.Fatalf("%s: still open: %v", v.name, want)
		}
	}
}
