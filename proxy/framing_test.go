package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/proxy/proxytest"
)

// The tests of this file speak raw bytes to a gateway with the Guard in front,
// over TCP and over TLS, and look at the bytes that its upstream got. Numbers
// are those of the cases in the security design, section C and others.

// guardedListener guards what it accepts, as the public listener does.
type guardedListener struct {
	net.Listener
	guard *Guard
	tls   *tls.Config // nil: none
}

func (l *guardedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.tls != nil {
		secure := tls.Server(conn, l.tls)
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		conn = secure
	}
	return l.guard.Conn(conn, testHeaderBytes, 0), nil
}

const testHeaderBytes = 64 << 10

// A framingUpstream keeps what it gets, by connection, and answers "ok" to
// each request it understands.
type framingUpstream struct {
	net.Listener
	answer  string
	mu      sync.Mutex
	changed sync.Cond
	seen    []*bytes.Buffer
	targets []string // of complete requests
	ended   int      // connections
}

func newFramingUpstream(t testing.TB) *framingUpstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &framingUpstream{Listener: l, answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}
	u.changed.L = &u.mu
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			raw := &bytes.Buffer{}
			u.seen = append(u.seen, raw)
			u.mu.Unlock()
			go u.serve(conn, raw)
		}
	}()
	return u
}

func (u *framingUpstream) serve(conn net.Conn, raw *bytes.Buffer) {
	defer conn.Close()
	br := bufio.NewReader(io.TeeReader(conn, writerFunc(func(p []byte) (int, error) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.changed.Broadcast()
		return raw.Write(p)
	})))
	for {
		r, err := http.ReadRequest(br)
		if err == nil {
			if r.Header.Get("Expect") != "" {
				io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			_, err = io.Copy(io.Discard, r.Body)
		}
		u.mu.Lock()
		if err == nil {
			u.targets = append(u.targets, r.Method+" "+r.RequestURI)
		} else {
			u.ended++
		}
		u.changed.Broadcast()
		u.mu.Unlock()
		if err != nil {
			return
		}
		io.WriteString(conn, u.answer)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// wait returns when what it is told of is true.
func (u *framingUpstream) wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(10*time.Second, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		late = true
		u.changed.Broadcast()
	})
	defer timer.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for !is() && !late {
		u.changed.Wait()
	}
	if late {
		t.Fatalf("%s: not so after 10 s", what)
	}
}

// take returns the bytes of each connection so far and the complete requests,
// and forgets them.
func (u *framingUpstream) take() (seen, targets []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, b := range u.seen {
		if b.Len() > 0 {
			seen = append(seen, b.String())
		}
		b.Reset()
	}
	targets, u.targets = u.targets, nil
	return seen, targets
}

// A framingBed is a gateway by one way in.
type framingBed struct {
	name     string
	address  string
	secure   bool
	upstream *framingUpstream
	logged   *syncBuffer
}

func newFramingBed(t *testing.T, secure bool) *framingBed {
	u := newFramingUpstream(t)
	server, logged := testGateway(t, fmt.Sprintf(`routes:
  - {path: /, access: public, upstream: "http://%s"}
  - {path: /private, upstream: "http://%[1]s"}
`, u.Addr()))
	b := &framingBed{"plain", server.Listener.Addr().String(), secure, u, logged}
	if !secure {
		return b
	}
	b.name = "tls"
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	t.Cleanup(certificate.Close)
	front := httptest.NewUnstartedServer(server.Config.Handler)
	front.Config.ConnState = GuardState
	front.Config.ErrorLog = server.Config.ErrorLog
	guard := server.Listener.(*guardedListener).guard
	front.Listener = &guardedListener{front.Listener, guard, &tls.Config{Certificates: certificate.TLS.Certificates}}
	front.Start()
	t.Cleanup(front.Close)
	b.address = front.Listener.Addr().String()
	return b
}

func (b *framingBed) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if b.secure {
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	return conn
}

// say sends the pieces, each in a write of its own, and returns the statuses of
// all answers until the gateway closes the connection.
func (b *framingBed) say(t *testing.T, pieces ...string) (statuses []int, all string) {
	t.Helper()
	conn := b.dial(t)
	go func() {
		for _, piece := range pieces {
			if _, err := io.WriteString(conn, piece); err != nil {
				return // refused before the end
			}
		}
	}()
	var raw bytes.Buffer
	return readStatuses(bufio.NewReader(io.TeeReader(conn, &raw))), raw.String()
}

func readStatuses(br *bufio.Reader) (statuses []int) {
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, res.StatusCode)
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return statuses
		}
	}
}

func eachBed(t *testing.T, f func(t *testing.T, b *framingBed)) {
	for _, secure := range []bool{false, true} {
		b := newFramingBed(t, secure)
		t.Run(b.name, func(t *testing.T) { f(t, b) })
	}
}

const (
	marker = "GET /marker HTTP/1.1\r\nHost: gw.example\r\n\r\n"
	last   = "GET /last HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n\r\n"
)

// TestFramingRefused: each request is followed by GET /marker in the same
// segment. The upstream sees nothing, the marker is not answered, and the
// connection is closed.
func TestFramingRefused(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		for _, c := range proxytest.FramingCases() {
			request := []string{c.Raw + marker}
			statuses, answer := b.say(t, request...)
			if len(c.Raw) < 1000 && c.Body == "" {
				// The same, a byte at a time. A body would be on its way by then.
				more, _ := b.say(t, strings.Split(c.Raw+marker, "")...)
				if !slices.Equal(more, statuses) {
					t.Errorf("case %d %s: statuses %d, byte by byte %d", c.Number, c.Name, statuses, more)
				}
			}
			if !slices.Equal(statuses, []int{c.Status}) {
				t.Errorf("case %d %s: statuses %d, want %d alone, for %.200q", c.Number, c.Name, statuses, c.Status, c.Raw)
			}
			for _, want := range []string{"\r\nConnection: close\r\n", "\r\nX-Request-Id: ", `","request_id":"`} {
				if !strings.Contains(answer, want) {
					t.Errorf("case %d %s: no %q in the answer:\n%s", c.Number, c.Name, want, answer)
				}
			}
			if seen, _ := b.upstream.take(); seen != nil {
				t.Errorf("case %d %s: the upstream saw %q", c.Number, c.Name, seen)
			}
		}
		for line := range strings.Lines(b.logged.String()) {
			if !strings.Contains(line, `msg="connection refused" request_id=`) || !strings.Contains(line, " reason=") ||
				strings.Contains(line, "hunter2") || len(line) > 400 {
				t.Errorf("log line %.1000q, want a connection refused, and why, without the client's secrets", line)
			}
		}
	})
}

// TestFramingAccepted: what a careful server takes passes, one for one.
func TestFramingAccepted(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		for _, c := range []struct {
			number   int
			name     string
			raw      string
			statuses []int
			targets  []string
		}{
			{82, "a CRLF before the request line", "\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, []string{"GET /a"}},
			{82, "a CRLF after a body", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok\r\n", []int{200}, []string{"POST /a"}},
			{83, "GET with a body that is a request", fmt.Sprintf("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(marker), marker),
				[]int{200}, []string{"GET /a"}},
			{83, "chunks that hold a request", fmt.Sprintf("DELETE /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(marker), marker),
				[]int{200}, []string{"DELETE /a"}},
			{83, "a refused request's body", fmt.Sprintf("POST /private HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(marker), marker),
				[]int{401}, nil},
			{86, "public, then protected", "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /private HTTP/1.1\r\nHost: a\r\n\r\n", []int{200, 401}, []string{"GET /a"}},
			{86, "with a token, then without", "GET /private HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\r\nGET /private HTTP/1.1\r\nHost: a\r\n\r\n",
				[]int{200, 401}, []string{"GET /private"}},
			{91, "an upgrade that is not granted", "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /private HTTP/1.1\r\nHost: a\r\n\r\n", []int{200, 401}, []string{"GET /a"}},
			{0, "chunk extensions and trailers", "POST /a HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tChunked \r\n\r\n" +
				"5;a;b=c;d=\"e\\\"; f\"\r\nhello\r\n00\r\nX-Sum: 1\r\n\r\n", []int{200}, []string{"POST /a"}},
			{0, "HTTP/1.0", "GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", []int{200}, []string{"GET /a"}},
			{0, "space around values", "GET /a HTTP/1.1\r\nHost:\t a \r\nContent-Length:  0 \r\nX:\r\n\r\n", []int{200}, []string{"GET /a"}},
			{85, "100-continue without a body", "GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", []int{200}, []string{"GET /a"}},
			{85, "100-continue with the body at once", "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
				[]int{100, 200}, []string{"POST /a"}},
		} {
			// A chunk or two at a time: wherever a read ends, nothing changes.
			for _, size := range []int{1, 7, 1 << 20} {
				var pieces []string
				for piece := range slices.Chunk([]byte(c.raw+last), size) {
					pieces = append(pieces, string(piece))
				}
				b.upstream.take()
				statuses, _ := b.say(t, pieces...)
				_, targets := b.upstream.take()
				if want := append(slices.Clone(c.statuses), 200); !slices.Equal(statuses, want) {
					t.Errorf("case %d %s, pieces of %d: statuses %d, want %d", c.number, c.name, size, statuses, want)
				}
				if want := append(slices.Clone(c.targets), "GET /last"); !slices.Equal(targets, want) {
					t.Errorf("case %d %s, pieces of %d: the upstream got %q, want %q", c.number, c.name, size, targets, want)
				}
			}
		}
	})
}

// TestUnderscoresFrameNothing, case 74: what follows the head is a request.
func TestUnderscoresFrameNothing(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		statuses, _ := b.say(t, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent_Length: 90\r\n\r\n"+last)
		seen, targets := b.upstream.take()
		if !slices.Equal(statuses, []int{200, 200}) || !slices.Equal(targets, []string{"POST /a", "GET /last"}) {
			t.Errorf("statuses %d for %q, want one for each", statuses, targets)
		}
		if strings.Contains(strings.ToLower(strings.Join(seen, "")), "r_encoding") || strings.Contains(strings.ToLower(strings.Join(seen, "")), "t_length") {
			t.Errorf("the upstream saw the underscores: %q", seen)
		}
	})
}

// TestFramingBrokenBody: chunks that go wrong when the request is on its way
// already. The upstream gets an aborted request, never a complete one.
func TestFramingBrokenBody(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		for _, c := range proxytest.FramingCases() {
			if c.Body == "" {
				continue
			}
			b.upstream.take()
			ended := b.upstream.ended
			conn := b.dial(t)
			head := strings.TrimSuffix(c.Raw, c.Body)
			io.WriteString(conn, strings.Replace(head, "POST /", "POST /broken", 1))
			b.upstream.wait(t, "the head arrives", func() bool {
				return slices.ContainsFunc(b.upstream.seen, func(raw *bytes.Buffer) bool { return strings.Contains(raw.String(), "/broken") })
			})
			io.WriteString(conn, c.Body+marker)
			statuses := readStatuses(bufio.NewReader(conn))
			b.upstream.wait(t, "the request is aborted", func() bool { return b.upstream.ended > ended })
			if len(statuses) > 1 || len(statuses) == 1 && statuses[0] != 400 {
				t.Errorf("case %d %s: statuses %d, want 400 or none", c.Number, c.Name, statuses)
			}
			if seen, targets := b.upstream.take(); targets != nil {
				t.Errorf("case %d %s: the upstream got %q, and complete: %q", c.Number, c.Name, seen, targets)
			}
		}
	})
}
