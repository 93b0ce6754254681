package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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

// endBed is a gateway whose streams end, and the revocations that end them.
type endBed struct {
	t       testing.TB
	gateway *Gateway
	server  *httptest.Server
	list    *authn.RevocationList
	log     *syncBuffer

	mu     sync.Mutex
	tokens map[string]*authn.Identity
	alive  map[string]bool // sessions
}

// newEndBed serves yaml; exchanges are old after a tenth of a second.
func newEndBed(t testing.TB, yaml string) *endBed {
	return newEndBedOld(t, yaml, 100*time.Millisecond)
}

func newEndBedOld(t testing.TB, yaml string, old time.Duration) *endBed {
	b := &endBed{t: t, log: &syncBuffer{}, tokens: map[string]*authn.Identity{}, alive: map[string]bool{}}
	b.list = authn.NewRevocationList(new(authn.MemoryStore), time.Now)
	if err := b.list.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch := authn.NewWatch(b.list, b.Alive, time.Now)
	b.gateway = New(Options{Log: slog.New(slog.NewTextHandler(b.log, nil)), Watch: watch})
	b.gateway.streams.old = old
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { watch.Run(ctx) })
	running.Go(func() { b.gateway.Run(ctx) })
	b.use(yaml)
	b.server = httptest.NewServer(b.gateway)
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
		stop()
		running.Wait()
		b.gateway.Close()
	})
	return b
}

func (b *endBed) use(yaml string) {
	b.t.Helper()
	c, err := config.Parse("gateway.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := b.gateway.NewSnapshot(SnapshotOptions{Config: c, Verifier: authn.Join([]authn.Verifier{b}, b.list.Check)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.gateway.Use(s)
}

// Verify makes the bed a Verifier: each token has a session of its name, and
// its user is what stands before the first dash.
func (b *endBed) Verify(_ context.Context, token string) (*authn.Identity, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id := b.tokens[token]; id != nil {
		return id, nil
	}
	user, _, _ := strings.Cut(token, "-")
	return &authn.Identity{ID: user, Token: token, Session: token}, nil
}

func (b *endBed) Alive(_ context.Context, id *authn.Identity) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.alive[id.Session] {
		return time.Time{}, authn.ErrSessionNotFound
	}
	return time.Now(), nil
}

func (b *endBed) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *endBed) revoke(kind authn.RevocationKind, id string) time.Time {
	b.t.Helper()
	at := time.Now()
	r := authn.Revocation{Kind: kind, ID: id, Generation: 1, Expires: at.Add(time.Hour)}
	if err := b.list.Revoke(b.t.Context(), r); err != nil {
		b.t.Fatal(err)
	}
	return at
}

func (b *endBed) ask(token, path string) *http.Response {
	b.t.Helper()
	r, _ := http.NewRequestWithContext(withTimeoutTB(b.t), "GET", b.server.URL+path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { res.Body.Close() })
	return res
}

// withTimeoutTB bounds a test's requests.
func withTimeoutTB(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (b *endBed) dial(header http.Header) *websocket.Conn {
	b.t.Helper()
	c, _, err := websocket.Dial(withTimeoutTB(b.t), b.server.URL+"/ws", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.CloseNow() })
	return c
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
func cookie(token string) http.Header { return http.Header{"Cookie": {"gatehouse=" + token}} }

// soon is how long after a revocation everything is over. The promise is a
// second; a machine that runs other tests beside this one gets more.
const soon = 3 * time.Second

func (b *endBed) within(since time.Time, what string) {
	b.t.Helper()
	if d := time.Since(since); d > soon {
		b.t.Errorf("%s after %v, want within %v", what, d, soon)
	}
}

// logged waits for an access log line after mark.
func (b *endBed) logged(mark int) string {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s := b.log.String()[mark:]; strings.Contains(s, "msg=request") {
			return s
		}
	}
	b.t.Fatal("no log line")
	return ""
}

// metric waits until a metric has a value.
func (b *endBed) metric(name, value string) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		w := httptest.NewRecorder()
		b.gateway.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if strings.Contains(w.Body.String(), "\n"+name+" "+value+"\n") {
			return
		}
		if time.Now().After(end) {
			_, rest, _ := strings.Cut(w.Body.String(), "\n"+name)
			line, _, _ := strings.Cut(rest, "\n")
			b.t.Fatalf("%s is%s, want %s; log:\n%s", name, line, value, b.log.String())
		}
	}
}

// closes1008 reads until the connection ends, as it must, with 1008.
func (b *endBed) closes1008(c *websocket.Conn, reason string) {
	b.t.Helper()
	for {
		_, _, err := c.Read(withTimeoutTB(b.t))
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != reason {
			b.t.Errorf("the websocket ends with %v, want close frame 1008 %q", err, reason)
		}
		return
	}
}

// streamApp answers /ws, /events, /grpc, /file (without end), /wait (without an
// answer) and /take (which reads). gone has one entry for each that ended.
func streamApp(t testing.TB, gone chan<- string) string {
	mux := http.NewServeMux()
	until := func(r *http.Request) {
		<-r.Context().Done()
		gone <- r.URL.Path
	}
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.Write(r.Context(), websocket.MessageText, []byte("hello"))
		for {
			if _, _, err := c.Read(r.Context()); err != nil {
				gone <- r.URL.Path
				return
			}
		}
	})
	begin := func(w http.ResponseWriter, contentType string) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, "data: hello\n\n")
		http.NewResponseController(w).Flush()
	}
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		begin(w, "text/event-stream; charset=utf-8")
		until(r)
	})
	mux.HandleFunc("/grpc", func(w http.ResponseWriter, r *http.Request) {
		begin(w, "application/grpc+proto")
		until(r)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 64<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				gone <- r.URL.Path
				return
			}
		}
	})
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) { until(r) })
	mux.HandleFunc("/take", func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		gone <- r.URL.Path
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func oneRoute(upstream string) string {
	return fmt.Sprintf("routes: [{path: /, upstream: %q}]", upstream)
}

func hello(t testing.TB, body io.Reader) {
	t.Helper()
	got := make([]byte, len("data: hello\n\n"))
	if _, err := io.ReadFull(body, got); err != nil {
		t.Fatalf("the stream begins with %q, %v", got, err)
	}
}

// newUpgrader is an upstream that switches protocols, sends something and waits.
func newUpgrader(t testing.TB, sent string) (url string) {
	return rawUpstream(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		io.WriteString(conn, switched+sent)
		io.Copy(io.Discard, conn)
	})
}

func rawUpgrade(t testing.TB, addr, token string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", token)
	br := bufio.NewReaderSize(conn, 512)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("upgrade: %v, %v", res, err)
	}
	return conn, br
}

// open watches something that is revoked and waits for its end.
func (b *endBed) open(id *authn.Identity) {
	ended := make(chan bool)
	b.gateway.streams.watch.Add(&authn.Watched{Identity: id, OnRevoke: true, End: func(authn.EndReason, *authn.Refusal) { close(ended) }})
	b.revoke(authn.RevokeToken, id.Token)
	<-ended
}
