package proxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"gatehouse/authn"
	"gatehouse/config"
)

// asAnn adds ann's token to every request.
type asAnn struct{ http.RoundTripper }

func (t asAnn) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer ann")
	return t.RoundTripper.RoundTrip(r)
}

func withTimeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func upstreamFunc(t *testing.T, f http.HandlerFunc) string {
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server.URL
}

func TestWebsocketPasses(t *testing.T) {
	upstream := upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.Write(r.Context(), websocket.MessageText, []byte("hello "+r.Header.Get("X-Forwarded-Email")))
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			c.Write(r.Context(), kind, message)
		}
	})
	server, logged := testGateway(t, fmt.Sprintf("routes: [{path: /, upstream: %q}]", upstream))
	ctx := withTimeout(t)
	c, res, err := websocket.Dial(ctx, server.URL+"/chat", &websocket.DialOptions{HTTPClient: &http.Client{Transport: asAnn{http.DefaultTransport}}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id on the 101 answer")
	}
	if _, message, err := c.Read(ctx); err != nil || string(message) != "hello ann@example.com" {
		t.Fatalf("first message %q, %v", message, err)
	}
	big := make([]byte, 20000)
	rand.Read(big)
	if err := c.Write(ctx, websocket.MessageBinary, big); err != nil {
		t.Fatal(err)
	}
	if _, message, err := c.Read(ctx); err != nil || string(message) != string(big) {
		t.Fatalf("echo of %d bytes: %d bytes, %v", len(big), len(message), err)
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	if line := waitForLog(t, logged, 0); !strings.Contains(line, "status=101") || strings.Contains(line, "bytes=0") {
		t.Errorf("log line %q, want status 101 and the bytes", line)
	}
}

func TestEventsPassAsTheyCome(t *testing.T) {
	next := make(chan string)
	upstream := upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		for event := range next {
			fmt.Fprintf(w, "data: %s\n\n", event)
			http.NewResponseController(w).Flush()
		}
	})
	server, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: %q}]", upstream))
	r, _ := http.NewRequestWithContext(withTimeout(t), "GET", server.URL, nil)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for _, event := range []string{"one", "two"} {
		next <- event // only once the one before has arrived
		if !lines.Scan() || lines.Text() != "data: "+event {
			t.Fatalf("event %q, %v, want %q", lines.Text(), lines.Err(), event)
		}
		lines.Scan()
	}
	close(next)
}

func TestChunkedUploadStreams(t *testing.T) {
	upstream := upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", strings.TrimSpace(string(body)), r.ContentLength)
	})
	server, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: %q}]", upstream))
	body, w := io.Pipe()
	go func() {
		io.WriteString(w, "first\n")
		w.Close()
	}()
	r, _ := http.NewRequestWithContext(withTimeout(t), "POST", server.URL, body)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(res.Body); string(got) != "first -1" {
		t.Errorf("upstream got %q", got)
	}
}

// TestTrailersPassOverHTTP2 is what gRPC needs: HTTP/2 in front and behind, with
// trailers after the body.
func TestTrailersPassOverHTTP2(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Te") != "trailers" || r.ProtoMajor != 2 {
			t.Errorf("upstream got TE %q over %s", r.Header.Get("Te"), r.Proto)
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.Write(body)
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "gatehouse=evil")
	}))
	upstream.Config.Protocols = &protocols
	upstream.Start()
	t.Cleanup(upstream.Close)

	plain, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, upstream: %q}]", strings.Replace(upstream.URL, "http:", "h2c:", 1)))
	front := httptest.NewUnstartedServer(plain.Config.Handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)

	for _, path := range []string{"/pkg.Service/Call", "/sized"} {
		r, _ := http.NewRequestWithContext(withTimeout(t), "POST", front.URL+path, strings.NewReader("message"))
		r.Header.Set("Te", "trailers")
		res, err := asAnn{front.Client().Transport}.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if string(body) != "message" || res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "fine" || res.ProtoMajor != 2 {
			t.Errorf("%s %q, trailers %v", res.Proto, body, res.Trailer)
		}
		if res.Trailer.Get("Set-Cookie") != "" {
			t.Error("an upstream set a cookie of the gateway's in a trailer")
		}
	}
}

func TestUnixUpstream(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })}
	go app.Serve(l)
	t.Cleanup(func() { app.Close() })
	server, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: %q}]", "unix:"+socket))
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != server.Listener.Addr().String() {
		t.Errorf("the app behind the socket saw host %q", body)
	}
}

func TestSlowAndAbsentUpstreams(t *testing.T) {
	slow := upstreamFunc(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	server, _ := testGateway(t, fmt.Sprintf(`routes:
  - {path: /slow, access: public, timeout: 20ms, upstream: %q}
  - {path: /gone, access: public, upstream: "http://%s"}
`, slow, closed.Addr()))
	for path, want := range map[string]string{
		"/slow": `504 {"error":"upstream_timeout"`,
		"/gone": `502 {"error":"upstream_unavailable"`,
	} {
		res, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if got := fmt.Sprintf("%d %s", res.StatusCode, body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestClientGoneCancelsUpstream(t *testing.T) {
	entered, cancelled := make(chan bool), make(chan bool)
	upstream := upstreamFunc(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(cancelled)
	})
	server, logged := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: %q}]", upstream))
	ctx, cancel := context.WithCancel(withTimeout(t))
	go func() {
		<-entered
		cancel()
	}()
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
	if _, err := http.DefaultClient.Do(r); err == nil {
		t.Error("an answer to a cancelled request")
	}
	select {
	case <-cancelled:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream request goes on")
	}
	if line := waitForLog(t, logged, 0); !strings.Contains(line, "status=499") || !strings.Contains(line, "aborted=true") {
		t.Errorf("log line %q, want status 499 and aborted", line)
	}
}

// onePage is endpoints that answer everything by one handler.
type onePage HandlerFunc

func (p onePage) Match(*http.Request) HandlerFunc { return HandlerFunc(p) }

// A login that is given up while it waits for its turn is the client's doing:
// no 500 in the log, no alarm.
func TestClientGoneFromEndpoint(t *testing.T) {
	gone, leave := context.WithCancel(context.Background())
	leave()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want string
	}{
		{gone, fmt.Errorf("verify password: %w", context.Canceled), "status=499"},
		{gone, authn.ErrBusy.Because(context.Canceled), "status=499"},
		{gone, authn.ErrInvalidCredentials, "status=400"},
		{gone, errors.New("disk full"), "status=500"},
		{context.Background(), context.Canceled, "status=500"}, // of something else than the request
	} {
		cfg, err := config.Parse("gateway.yaml", []byte("routes: [{path: /, upstream: 'echo:'}]"), nil)
		if err != nil {
			t.Fatal(err)
		}
		logged := &syncBuffer{}
		g := New(Options{Log: slog.New(slog.NewTextHandler(logged, nil))})
		s, err := g.NewSnapshot(SnapshotOptions{Config: cfg, Verifier: knownTokens{},
			Endpoints: onePage(func(http.ResponseWriter, *http.Request) error { return c.err })})
		if err != nil {
			t.Fatal(err)
		}
		g.Use(s)
		cut := false
		func() {
			defer func() { cut = recover() == http.ErrAbortHandler }()
			g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/login", nil).WithContext(c.ctx))
		}()
		if line := logged.String(); !strings.Contains(line, c.want) || cut != (c.want == "status=499") || cut && strings.Contains(line, "internal") {
			t.Errorf("%v: cut off %v, logged %q, want %s", c.err, cut, line, c.want)
		}
	}
}

// TestEndingRequestsIsNoAnswer: a request that the gateway itself gives up, at
// the end of its shutdown grace, is cut off and not answered with 200.
func TestEndingRequestsIsNoAnswer(t *testing.T) {
	entered := make(chan bool)
	upstream := upstreamFunc(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	plain, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: %q}]", upstream))
	ctx, end := context.WithCancel(withTimeout(t))
	server := httptest.NewUnstartedServer(plain.Config.Handler)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	t.Cleanup(server.Close)
	go func() {
		<-entered
		end()
	}()
	if res, err := http.Get(server.URL); err == nil {
		t.Errorf("status %d, want a connection that is cut", res.StatusCode)
	}
}

// TestShortBodyIsNoCompleteAnswer: what looks complete to the client must be.
func TestShortBodyIsNoCompleteAnswer(t *testing.T) {
	upstream := newCapture(t)
	upstream.answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"
	server, logged := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: \"http://%s\"}]", upstream.Addr()))
	res, err := http.Get(server.URL)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("a short body passed for a complete answer")
	}
	if line := waitForLog(t, logged, 0); !strings.Contains(line, "aborted=true") {
		t.Errorf("log line %q, want aborted", line)
	}
}

func BenchmarkForward(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "2")
		io.WriteString(w, "ok")
	}))
	b.Cleanup(upstream.Close)
	server, _ := testGateway(b, fmt.Sprintf("log: {access: false}\nroutes: [{path: /, upstream: %q}]", upstream.URL))
	client := asAnn{&http.Transport{MaxIdleConnsPerHost: 8}}
	b.ReportAllocs()
	for b.Loop() {
		r, _ := http.NewRequest("GET", server.URL+"/a/b", nil)
		res, err := client.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}
