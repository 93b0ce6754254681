package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gatehouse/authn"
	"gatehouse/config"
)

// A renewBed is a gateway whose browsers have sessions: a refresh cookie "ann" is
// hers, "late" is one that other requests spend meanwhile, "down" and "away" meet
// a store that cannot answer at the request or at the answer; every other one is
// of a dead session.
type renewBed struct {
	t      *testing.T
	server *httptest.Server
	log    *syncBuffer
	gw     *Gateway
	snap   *Snapshot
	open   chan string // answers of /slow

	mu                sync.Mutex
	resumed, renewals []string
	client            authn.Client
	seen              http.Header // of the upstream's last request
}

func (b *renewBed) Resume(_ context.Context, token string, c authn.Client) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resumed, b.client = append(b.resumed, token), c
	switch token {
	case "ann", "late", "away":
		return "ann", nil
	case "down":
		return "", errors.New("the store is down")
	}
	return "", authn.ErrInvalidToken.Because(errors.New("session has ended"))
}

func (b *renewBed) Renew(ctx context.Context, token string, c authn.Client) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.renewals = append(b.renewals, token)
	if authn.CallerOf(ctx).RequestID == "" {
		b.t.Error("Renew was not told the request's id")
	}
	switch token {
	case "late":
		return nil, authn.ErrSpent
	case "away":
		return nil, errors.New("the store went away")
	}
	return []string{"gatehouse=new; Path=/", "gatehouse-refresh=newer; Path=/"}, nil
}

func (b *renewBed) took() (resumed, renewed string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	resumed, renewed = strings.Join(b.resumed, " "), strings.Join(b.renewals, " ")
	b.resumed, b.renewals = nil, nil
	return resumed, renewed
}

const evilCookie = "gatehouse-refresh=evil; Path=/"

func newRenewBed(t *testing.T) *renewBed {
	b := &renewBed{t: t, log: &syncBuffer{}, open: make(chan string)}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.seen = r.Header.Clone()
		b.mu.Unlock()
		h := w.Header()
		h.Add("Set-Cookie", "app=1")
		h.Add("Set-Cookie", evilCookie)
		switch r.URL.Path {
		case "/asset":
			h.Set("Cache-Control", "public, max-age=60, s-maxage=600")
			h.Set("CDN-Cache-Control", "max-age=600")
			h.Set("Surrogate-Control", "max-age=600")
			io.WriteString(w, "body")
		case "/secret":
			h.Set("Cache-Control", "no-store")
		case "/unchanged":
			w.WriteHeader(http.StatusNotModified)
		case "/moved":
			h.Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/hints":
			h.Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
		case "/events":
			h.Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: hello\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/slow":
			select {
			case text := <-b.open:
				io.WriteString(w, text)
			case <-r.Context().Done():
			}
		case "/ws":
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.Write(r.Context(), websocket.MessageText, []byte("hello"))
			c.Read(r.Context())
		}
	}))
	t.Cleanup(app.Close)
	c, err := config.Parse("gateway.yaml", fmt.Appendf(nil, `
routes:
  - {path: /, upstream: %[1]q}
  - {path: /public, access: public, upstream: %[1]q}
  - {path: /optional, access: optional, upstream: %[1]q}
  - {path: /ops, access: {roles: [ops]}, upstream: %[1]q}
  - {path: /open, csrf: "off", upstream: %[1]q}
  - {path: /down, upstream: "http://127.0.0.1:1"}
`, app.URL), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	b.gw = New(Options{Log: slog.New(slog.NewTextHandler(b.log, nil))})
	t.Cleanup(b.gw.Close)
	if b.snap, err = b.gw.NewSnapshot(SnapshotOptions{Config: c, Verifier: knownTokens{}, Renewer: b}); err != nil {
		t.Fatal(err)
	}
	b.gw.Use(b.snap)
	b.server = httptest.NewServer(b.gw)
	t.Cleanup(b.server.Close)
	return b
}

func (b *renewBed) send(method, path, cookies string, header ...string) *http.Response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(withTimeoutTB(b.t), method, b.server.URL+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Cookie", cookies)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { res.Body.Close() })
	return res
}

// want checks the status, the cookies, and what was asked of the Renewer.
func (b *renewBed) want(res *http.Response, status int, cookies, resumed, renewed string) {
	b.t.Helper()
	if got := strings.Join(res.Header["Set-Cookie"], " | "); res.StatusCode != status || got != cookies {
		b.t.Errorf("%s: status %d, cookies %q, want %d, %q", res.Request.URL.Path, res.StatusCode, got, status, cookies)
	}
	if re, ne := b.took(); re != resumed || ne != renewed {
		b.t.Errorf("%s: resumed %q, renewed %q, want %q, %q", res.Request.URL.Path, re, ne, resumed, renewed)
	}
}

const (
	newCookies  = "gatehouse=new; Path=/ | gatehouse-refresh=newer; Path=/"
	withNew     = "app=1 | " + newCookies
	expiredAnn  = "gatehouse=expired; gatehouse-refresh=ann"
	expiredDead = "gatehouse=expired; gatehouse-refresh=dead"
)

// Whatever the answer is, it has the new cookies, and the upstream's own.
func TestRenewedAnswers(t *testing.T) {
	b := newRenewBed(t)
	for path, status := range map[string]int{
		"/asset": 200, "/secret": 200, "/unchanged": 304, "/moved": 302, "/broken": 500, "/hints": 200, "/events": 200,
	} {
		res := b.send("GET", path, expiredAnn)
		b.want(res, status, withNew, "ann", "ann")
		want := map[string]string{"/asset": "private, max-age=60", "/secret": "no-store"}[path]
		if want == "" {
			want = "private"
		}
		if got := strings.Join(res.Header["Cache-Control"], " | "); got != want || res.Header["Cdn-Cache-Control"] != nil || res.Header["Surrogate-Control"] != nil {
			t.Errorf("%s: Cache-Control %q, want %q; %v", path, got, want, res.Header)
		}
	}
	b.want(b.send("GET", "/down", expiredAnn), 502, newCookies, "ann", "ann")
	b.want(b.send("GET", "/ops", expiredAnn), 403, newCookies, "ann", "ann")
	b.want(b.send("GET", "/asset", "gatehouse-refresh=ann"), 200, withNew, "ann", "ann")
	if b.client.Address.String() != "127.0.0.1" {
		t.Errorf("client %+v, want 127.0.0.1", b.client)
	}

	// The upstream was told who it is, and nothing of the cookies.
	res := b.send("GET", "/asset", expiredAnn+"; theme=dark", "X-Forwarded-User", "eve")
	b.want(res, 200, withNew, "ann", "ann")
	if got := b.seen; got.Get("X-Forwarded-User") != "u-ann" || got.Get("Cookie") != "theme=dark" {
		t.Errorf("upstream saw %v", got)
	}
	if lines := waitForLog(t, b.log, 0); !strings.Contains(lines, "refreshed=true") {
		t.Errorf("log %s, want refreshed=true", lines)
	}
	// A good access token spends nothing, and its answer is the upstream's.
	res = b.send("GET", "/asset", "gatehouse=ann; gatehouse-refresh=ann")
	b.want(res, 200, "app=1", "", "")
	if got := res.Header.Get("Cache-Control"); got != "public, max-age=60, s-maxage=600" {
		t.Errorf("Cache-Control %q of an ordinary answer", got)
	}
}

func TestRenewedWebsocket(t *testing.T) {
	b := newRenewBed(t)
	dial := func(header http.Header) (*websocket.Conn, *http.Response, error) {
		header.Set("Cookie", expiredAnn)
		return websocket.Dial(withTimeoutTB(t), b.server.URL+"/ws", &websocket.DialOptions{HTTPHeader: header})
	}
	c, res, err := dial(http.Header{"Origin": {b.server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	b.want(res, 101, newCookies+" | app=1", "ann", "ann")
	if _, text, err := c.Read(withTimeoutTB(t)); string(text) != "hello" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	_, res, err = dial(http.Header{"Origin": {"https://evil.example"}})
	if err == nil {
		t.Fatal("another site's websocket was let in")
	}
	b.want(res, 403, "", "", "")
}

// Which requests let a session go on, and what the others get.
func TestWhoMayResume(t *testing.T) {
	b := newRenewBed(t)
	b.want(b.send("GET", "/public/asset", expiredAnn), 200, "app=1", "", "")
	b.want(b.send("GET", "/optional", expiredAnn), 200, withNew, "ann", "ann")
	b.want(b.send("GET", "/optional", expiredDead), 200, "app=1", "dead", "")
	if b.seen.Get("X-Forwarded-User") != "" {
		t.Errorf("a dead session is %q", b.seen.Get("X-Forwarded-User"))
	}
	b.want(b.send("GET", "/asset", expiredAnn, "Authorization", "Bearer expired"), 401, "", "", "")
	b.want(b.send("GET", "/asset", expiredAnn, "Authorization", "Bearer ann"), 200, "app=1", "", "")
	b.want(b.send("GET", "/asset", expiredAnn, "Authorization", "Basic eDp5"), 200, withNew, "ann", "ann")
	b.want(b.send("GET", "/asset", "gatehouse-refresh=ann; gatehouse-refresh=dead"), 401, "", "", "")
	b.want(b.send("POST", "/asset", expiredAnn, "Sec-Fetch-Site", "same-origin"), 200, withNew, "ann", "ann")

	// Another site's doing revives nothing, and where nobody is welcome it is nobody's.
	b.want(b.send("POST", "/asset", expiredAnn, "Sec-Fetch-Site", "cross-site"), 403, "", "", "")
	b.want(b.send("POST", "/optional", expiredAnn, "Origin", "https://evil.example"), 200, "app=1", "", "")
	b.want(b.send("POST", "/open", expiredAnn, "Sec-Fetch-Site", "cross-site"), 200, withNew, "ann", "ann")
	b.want(b.send("GET", "/asset", expiredAnn, "Sec-Fetch-Site", "cross-site"), 200, withNew, "ann", "ann") // a link

	// A session that has ended.
	res := b.send("GET", "/asset?x=1", expiredDead, "Sec-Fetch-Mode", "navigate")
	b.want(res, 302, "", "dead", "")
	if got := res.Header.Get("Location"); got != "/login?next=%2Fasset%3Fx%3D1" {
		t.Errorf("Location %q", got)
	}
	res = b.send("GET", "/asset", expiredDead, "Sec-Fetch-Mode", "cors", "Accept", "text/html")
	b.want(res, 401, "", "dead", "")
	if body, _ := io.ReadAll(res.Body); !strings.Contains(string(body), `"invalid_token"`) || !strings.Contains(res.Header.Get("Www-Authenticate"), "The token expired") {
		t.Errorf("body %s, %v", body, res.Header)
	}
	mark := len(b.log.String())
	res = b.send("GET", "/asset", "gatehouse-refresh=dead")
	b.want(res, 401, "", "dead", "")
	if body, _ := io.ReadAll(res.Body); !strings.Contains(string(body), `"missing_token"`) {
		t.Errorf("body %s, want missing_token", body)
	}
	if lines := waitForLog(t, b.log, mark); !strings.Contains(lines, `its session: session has ended`) {
		t.Errorf("log %s", lines)
	}

	// No verdict is not "no".
	for _, path := range []string{"/asset", "/optional"} {
		res = b.send("GET", path, "gatehouse=expired; gatehouse-refresh=down", "Sec-Fetch-Mode", "navigate")
		b.want(res, 503, "", "down", "")
		if res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	// Explaining asks nobody.
	r := httptest.NewRequest("GET", "/asset", nil)
	r.Header.Set("Cookie", expiredAnn)
	if _, err := b.snap.Explain(r, nil); !errors.Is(err, authn.ErrMissingToken) {
		t.Errorf("Explain = %v, want missing_token", err)
	}
	if resumed, _ := b.took(); resumed != "" {
		t.Error("Explain resumed a session")
	}
}

// The refresh token is spent with the answer, and for nobody who has left.
func TestRenewWithTheAnswer(t *testing.T) {
	b := newRenewBed(t)
	done := make(chan *http.Response, 1)
	go func() { done <- b.send("GET", "/slow", expiredAnn) }()
	await := func(what string, reached func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !reached(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	resumed := func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.resumed) > 0 }
	await("the request", resumed)
	b.open <- "answer"
	b.want(<-done, 200, withNew, "ann", "ann")

	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", b.server.URL+"/slow", nil)
	r.Header.Set("Cookie", expiredAnn)
	mark := len(b.log.String())
	go func() {
		await("the request", resumed)
		leave()
	}()
	if _, err := http.DefaultTransport.RoundTrip(r); err == nil {
		t.Fatal("an answer")
	}
	await("the log line", func() bool { return strings.Contains(b.log.String()[mark:], "status=499") })
	if re, ne := b.took(); re != "ann" || ne != "" {
		t.Errorf("resumed %q, renewed %q, want a token that is not spent", re, ne)
	}

	// Others were quicker, or the store went away: the answer goes out as it is.
	b.want(b.send("GET", "/asset", "gatehouse-refresh=late"), 200, "app=1", "late", "late")
	mark = len(b.log.String())
	res := b.send("GET", "/asset", "gatehouse-refresh=away")
	b.want(res, 200, "app=1", "away", "away")
	if got := res.Header.Get("Cache-Control"); !strings.HasPrefix(got, "public") {
		t.Errorf("Cache-Control %q without cookies", got)
	}
	if lines := waitForLog(t, b.log, mark); !strings.Contains(lines, `refresh_failed="the store went away"`) {
		t.Errorf("log %s", lines)
	}
	w := httptest.NewRecorder()
	b.gw.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{`gatehouse_refreshes_total{outcome="ok"} 1`, `{outcome="late"} 1`, `{outcome="failed"} 1`} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no %s in the metrics", line)
		}
	}
}

func TestKeepPrivate(t *testing.T) {
	for given, want := range map[string]string{
		"":                                  "private",
		"public":                            "private",
		"Public, max-age=5":                 "private, max-age=5",
		"s-maxage=9,no-cache":               "private, no-cache",
		"max-age=0, must-revalidate":        "private, max-age=0, must-revalidate",
		"private":                           "private",
		`private="set-cookie", max-age=5`:   "private, no-cache",
		`no-cache="a, public", public, x=1`: "private, no-cache",
		"public,NO-STORE":                   "public,NO-STORE",
		`no-cache="a", no-store`:            `no-cache="a", no-store`,
		`No-Store,private="a\"b"`:           `No-Store,private="a\"b"`,
		`private="a, no-store ,b"`:          "private, no-cache",
		`x="\", no-store, "`:                "private, no-cache",
	} {
		h := http.Header{"Cache-Control": {given}, "Cloudflare-Cdn-Cache-Control": {"public"},
			"X-Accel-Expires": {"60"}, "Edge-Control": {"max-age=60"}, "X-Own": {"1"}}
		keepPrivate(h)
		if got := h.Get("Cache-Control"); got != want || len(h) != 2 {
			t.Errorf("keepPrivate(%q) = %q, want %q; %v", given, got, want, h)
		}
	}
	h := http.Header{"Cache-Control": {"public", "max-age=5"}}
	if keepPrivate(h); strings.Join(h["Cache-Control"], "|") != "private, max-age=5" {
		t.Errorf("two fields: %q", h["Cache-Control"])
	}
}
