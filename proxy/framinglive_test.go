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
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestPipelinedNonsenseWaits: an answer that is being made is finished before
// the nonsense behind its request is answered.
func TestPipelinedNonsenseWaits(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		for _, nonsense := range []string{"\x00", " GET / HTTP/1.1", "\n", "\rX", strings.Repeat("\r\n", 20), "GET / HTTP/9.9\r\n", "(", "GET /\r\n\r\n"} {
			conn := b.dial(t)
			io.WriteString(conn, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
			b.upstream.wait(t, "the head arrives", func() bool {
				return slices.ContainsFunc(b.upstream.seen, func(raw *bytes.Buffer) bool { return strings.Contains(raw.String(), "POST /a") })
			})
			io.WriteString(conn, "ok"+nonsense+marker)
			statuses := readStatuses(bufio.NewReader(conn))
			if len(statuses) != 2 || statuses[0] != 200 || statuses[1] != 400 && statuses[1] != 505 {
				t.Errorf("%q behind a request: statuses %d, want 200, then a refusal", nonsense, statuses)
			}
			if _, targets := b.upstream.take(); !slices.Equal(targets, []string{"POST /a"}) {
				t.Errorf("%q behind a request: the upstream got %q", nonsense, targets)
			}
		}
	})
}

// TestEarlyFramesPass: what a client sends behind its request for an upgrade
// arrives, however much of it net/http has read by then, and is no request.
func TestEarlyFramesPass(t *testing.T) {
	upstream := upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		said, _ := io.ReadAll(rw) // until the client closes its half
		fmt.Fprintf(conn, "%q", said)
	})
	server, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: %q}]", upstream))
	const request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for _, early := range []string{"", "\x81", "\x81\x05hello", "\r", "\r\n", "\x00" + strings.Repeat("x", 3000)} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, request+early)
		br := bufio.NewReader(conn)
		if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 {
			t.Fatalf("%.10q with the request: %v, %v, want 101", early, res, err)
		}
		late := "GET / HTTP/1.1\nlate\x00"
		io.WriteString(conn, late)
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(br); string(got) != fmt.Sprintf("%q", early+late) || err != nil {
			t.Errorf("%.10q with the request: the upstream got %.100s, %v", early, got, err)
		}
	}
}

// TestRefusedBodies, case 83: a body that the gateway does not want is read to
// its end, or the connection is closed. It never holds an answer back for long.
func TestRefusedBodies(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		large := strings.Repeat("a", 1<<20)
		for _, c := range []struct {
			name, request string
		}{
			{"large", fmt.Sprintf("POST /private HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s%s", len(large), large, marker)},
			{"large, in chunks", fmt.Sprintf("POST /private HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n%s", len(large), large, marker)},
			{"absent", "POST /private HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"},
			{"absent, in chunks", "POST /private HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"},
			{"absent, asked for", "POST /private HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if statuses, _ := b.say(t, c.request); !slices.Equal(statuses, []int{401}) {
					t.Errorf("statuses %d, want 401 and the connection closed", statuses)
				}
				if seen, _ := b.upstream.take(); seen != nil {
					t.Errorf("the upstream saw %q", seen)
				}
			})
		}
	})
}

// TestUnfinishedBody, case 80: a client that goes away in its body.
func TestUnfinishedBody(t *testing.T) {
	eachBed(t, func(t *testing.T, b *framingBed) {
		for _, body := range []string{"Content-Length: 5\r\n\r\nhe", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"} {
			ended := b.upstream.ended
			conn := b.dial(t)
			io.WriteString(conn, "POST /half HTTP/1.1\r\nHost: a\r\n"+body)
			b.upstream.wait(t, "the request arrives", func() bool {
				return slices.ContainsFunc(b.upstream.seen, func(raw *bytes.Buffer) bool { return strings.Contains(raw.String(), "/half") })
			})
			conn.Close()
			b.upstream.wait(t, "the request is aborted", func() bool { return b.upstream.ended > ended })
			if _, targets := b.upstream.take(); targets != nil {
				t.Errorf("%q: the upstream got a complete request", body)
			}
		}
	})
}

// TestUpstreamSaysTooMuch, case 97: what follows a complete answer reaches
// neither the next client nor the log.
func TestUpstreamSaysTooMuch(t *testing.T) {
	b := newFramingBed(t, false)
	b.upstream.answer += "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for range 5 {
		if statuses, answer := b.say(t, last); !slices.Equal(statuses, []int{200}) || !strings.HasSuffix(answer, "\r\n\r\nok") {
			t.Errorf("statuses %d: %q", statuses, answer)
		}
	}
	if strings.Contains(b.logged.String(), "evil") {
		t.Error("the log has bytes of the upstream")
	}
}

// TestContinueIsNotPassedOn: 100 is between two neighbours. One that the
// upstream sends is no news for the client, who gets the gateway's own, once,
// and only if it asked.
func TestContinueIsNotPassedOn(t *testing.T) {
	b := newFramingBed(t, false)
	b.upstream.answer = strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 3) + b.upstream.answer
	if statuses, _ := b.say(t, last); !slices.Equal(statuses, []int{200}) {
		t.Errorf("without Expect: statuses %d, want 200 alone", statuses)
	}
	asks := "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	for range 20 {
		if statuses, _ := b.say(t, asks); !slices.Equal(statuses, []int{100, 200}) {
			t.Fatalf("with Expect: statuses %d, want 100 once, then 200", statuses)
		}
	}
}

// TestHTTP2Framing, cases 92 and 95: HTTP/2 cannot bring the fields that frame
// HTTP/1, nor a length that is not true.
func TestHTTP2Framing(t *testing.T) {
	upstream := newFramingUpstream(t)
	plain, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: \"http://%s\"}]", upstream.Addr()))
	front := httptest.NewUnstartedServer(plain.Config.Handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	for _, field := range [][]string{
		{"transfer-encoding", "chunked"}, {"connection", "close"}, {"connection", "x-forwarded-user"}, {"keep-alive", "timeout=5"},
		{"upgrade", "h2c"}, {"proxy-connection", "close"}, {"te", "gzip"}, {"content-length", "5"}, {"content-length", "-1"},
		{"x\r\ny", "z"}, {"x", "y\r\nz: a"}, {"x y", "z"}, {"x:", "z"}, {"", "z"}, {"x", "\x00"},
	} {
		status := roundTripHTTP2(t, front.Listener.Addr().String(), "POST", "a", "/", field)
		seen, targets := upstream.take()
		if status != "400" && status != "reset" || targets != nil {
			t.Errorf("%q: %s, and the upstream got %q", field, status, seen)
		}
	}
}

// TestHTTP2Length, case 95: what DATA frames bring must be what was declared.
func TestHTTP2Length(t *testing.T) {
	upstream := newFramingUpstream(t)
	plain, _ := testGateway(t, fmt.Sprintf("routes: [{path: /, access: public, upstream: \"http://%s\"}]", upstream.Addr()))
	front := httptest.NewUnstartedServer(plain.Config.Handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	for length, complete := range map[string]bool{"5": true, "3": false, "7": false, "0": false, "x": false, "+5": false} {
		conn, err := tls.Dial("tcp", front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		framer.WriteSettings()
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/"}, {":authority", "a"}, {"content-length", length}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		framer.WriteData(1, true, []byte("hello"))
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		status := ""
		for status == "" {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := frame.(type) {
			case *http2.MetaHeadersFrame:
				status = f.PseudoValue("status")
			case *http2.RSTStreamFrame:
				status = "reset"
			}
		}
		conn.Close()
		if _, targets := upstream.take(); (targets != nil) != complete || (status == "200") != complete {
			t.Errorf("length %q, 5 bytes: %s, and the upstream got %q complete", length, status, targets)
		}
	}
}
