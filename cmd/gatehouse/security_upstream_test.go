package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// spoken makes a case of raw answers of an upstream. want is the status that the
// client gets, or "cut": an answer that does not look complete.
func spoken(number int, name, because, want string, answers ...string) hostile {
	return hostile{number: number, name: name, because: because, run: func(t *testing.T, b *hostileBed) string {
		n := 0
		for _, answer := range answers {
			answer := strings.ReplaceAll(answer, "\n", "\r\n")
			b.app.answering(t, func(conn net.Conn, _ captured) bool {
				conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
				_, _ = io.WriteString(conn, answer)
				return false
			})
			for way, gw := range b.gateways() {
				rep := b.say(t, gw, get1("/public/slow/a")+marker)
				rep.harmless(t, fmt.Sprintf("%s, upstream says %.150q", way, answer), want)
				n++
			}
			rep := b.heardHTTP2(t, sent{h2: h2get("/public/slow/a")})
			rep.cut = rep.outcome == "reset" || rep.resetLate
			rep.harmless(t, fmt.Sprintf("HTTP/2, upstream says %.150q", answer), want)
			n++
		}
		b.app.take(t)
		word := map[string]string{"502": "refused with 502", "504": "refused with 504", "cut": "cut off, the client sees that it is not complete"}[want]
		if word == "" {
			word = "arrives clean with " + want
		}
		return fmt.Sprintf("%s (%d times)", word, n)
	}}
}

// harmless holds an answer to what must be true of all of them.
func (rep *reply) harmless(t *testing.T, what, want string) {
	t.Helper()
	low := strings.ToLower("\r\n" + rep.raw)
	switch {
	case want == "cut" && !rep.cut && len(rep.statuses) > 0:
		t.Errorf("%s: %d, and it looks complete\n%.500s", what, rep.statuses, rep.raw)
	case want != "cut" && (len(rep.statuses) == 0 || fmt.Sprint(rep.statuses[0]) != want || rep.cut):
		t.Errorf("%s: %d, want %s\n%.500s", what, rep.statuses, want, rep.raw)
	case len(rep.statuses) > 2 || len(rep.statuses) == 2 && rep.statuses[1] != 200:
		t.Errorf("%s: statuses %d\n%.500s", what, rep.statuses, rep.raw)
	}
	for _, word := range []string{"gatehouse=", "gatehouse-refresh=", "max-age=0", "theirs", "smuggled", `"cookies"`, `"*"`} {
		if strings.Contains(low, word) {
			t.Errorf("%s: the client sees %q\n%.700s", what, word, rep.raw)
		}
	}
	if len(rep.statuses) > 0 && rep.statuses[0] != http.StatusSwitchingProtocols {
		// Two answers, the marker's being the second.
		for _, name := range []string{"x-request-id: ", "strict-transport-security: "} {
			if n := strings.Count(low, "\r\n"+name); n != len(rep.statuses) {
				t.Errorf("%s: %d times %q in %d answers\n%.900s", what, n, name, len(rep.statuses), rep.raw)
			}
		}
	}
}

func upstreamCases(b *hostileBed) []hostile {
	const ok = "HTTP/1.1 200 OK\nContent-Length: 2\n"
	const okBody = ok + "\nok"
	with := func(lines ...string) (all []string) {
		for _, line := range lines {
			all = append(all, ok+line+"\n\nok")
		}
		return all
	}
	trailing := func(announced string, lines ...string) (all []string) {
		for _, line := range lines {
			all = append(all, "HTTP/1.1 200 OK\n"+announced+"Transfer-Encoding: chunked\n\n2\nok\n0\n"+line+"\n\n")
		}
		return all
	}
	own := []string{"__Host-gatehouse=evil", " __Host-gatehouse =evil", "__host-GATEHOUSE=evil", "=__Host-gatehouse=evil", "\"__Host-gatehouse\"=evil", "__Host-gatehouse-refresh=evil; Path=/; Secure", "gatehouse=evil", "\t__Host-gatehouse=evil", "\xc2\xa0__Host-gatehouse=evil",
		"__Host-gatehouse-known=evil", "__Host-gatehouse=; Max-Age=0", "gatehouse-refresh=evil", "; __Host-gatehouse=evil", "__Host-gatehouse\xe2\x80\x80=evil"}
	var cookieHeaders, cookieTrailers, cookieHints, clearings []string
	for _, what := range []string{`"cookies"`, `"*"`, `"cache", "cookies"`, `"cache","*"`, "\"cookies\"\t", "\"storage\"\nclear-site-data: \"*\", \"cookies\"", "\"executionContexts\",\"cookies\",\"theirs\""} {
		line := "Clear-Site-Data: " + what
		clearings = append(clearings, ok+line+"\n\nok", "HTTP/1.1 103 Early Hints\n"+line+"\n\n"+okBody)
		clearings = append(clearings, trailing("", line)...)
	}
	for _, c := range own {
		cookieHeaders = append(cookieHeaders, ok+"Set-Cookie: a=b\nset-cookie: "+c+"\n\nok")
		cookieTrailers = append(cookieTrailers, trailing("", "Set-Cookie: "+c)...)
		cookieTrailers = append(cookieTrailers, trailing("Trailer: Set-Cookie, X\n", "X: y\nSet-Cookie: "+c)...)
		cookieHints = append(cookieHints, "HTTP/1.1 103 Early Hints\nLink: </a>\nSet-Cookie: "+c+"\n\n"+okBody)
	}
	alice := b.keys.token("alice")
	return []hostile{
		spoken(0, "statuses below 100 and above 999, and what is none", "", "502", "HTTP/1.1 099 Low\n\n", "HTTP/1.1 000 None\n\n", "HTTP/1.1 99 Low\n\n", "HTTP/1.1 1000 High\n\n", "HTTP/1.1 -1 Low\n\n", "HTTP/1.1 2e2 OK\n\n", "HTTP/1.1 200x OK\n\n", "HTTP/1.1\n\n",
			"HTTP/1.1 +20 OK\n\n", "HTTP/1.1 0x1 OK\n\n"),
		spoken(0, "no HTTP at all, other versions", "", "502", "garbage\n\n", "", "\n", "<html>ok</html>", "ICY 200 OK\n\nok", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\nX", "SSH-2.0-OpenSSH_9\n", "\x16\x03\x01\x02\x00", "PRI * HTTP/2.0\n\nSM\n\n", "\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
		spoken(0, "statuses from 600 to 999", "a client takes them as it will", "999", "HTTP/1.1 999 Odd\nContent-Length: 2\n\nok"),
		spoken(0, "heads without end, 10,000 header lines, lines of 300 kB", "", "502", "HTTP/1.1 200 OK\n"+strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\n", 400), ok+strings.Repeat("X-"+strings.Repeat("a", 40)+": b\n", 10000)+"\nok", ok+"X: "+strings.Repeat("a", 300<<10)+"\n\nok",
			"HTTP/1.1 200 "+strings.Repeat("a", 300<<10)+"\n\n"),
		spoken(0, "header lines that are none", "", "502", with("X", ": a", "X\x00: a", "\xffX: a", "Set-Cookie\t: __Host-gatehouse=evil")...),
		spoken(0, "spaces in and around header names", "", "502", with("X-Theirs : theirs", "X Theirs: theirs", "Set-Cookie : __Host-gatehouse=evil", "X-Request-Id : theirs", "Strict-Transport-Security : max-age=0")...),
		spoken(0, "lengths that contradict each other", "", "502", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok", "HTTP/1.1 200 OK\nContent-Length: -1\n\nok", "HTTP/1.1 200 OK\nContent-Length: x\n\nok", "HTTP/1.1 200 OK\nContent-Length: 2, 3\n\nok",
			"HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n0\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", "HTTP/1.1 200 OK\nContent-Length: 9223372036854775808\n\nok"),
		spoken(0, "a length beside chunks", "", "502", ok+"Transfer-Encoding: chunked\n\n2\nok\n0\n\n"),
		spoken(0, "response splitting: CR inside a value", "", "502", with("X: a\rX-Request-Id: b", "Location: /\r\r", "X: a\r\tb")...),
		spoken(97, "a second answer behind the first", "it is dropped with the connection", "200", okBody+"HTTP/1.1 200 OK\nContent-Length: 8\n\nsmuggled", ok+"\nok\n\nHTTP/1.1 400 smuggled\n\n", "HTTP/1.1 204 No Content\n\nsmuggled"[:0]+okBody+"\x00smuggled"),
		spoken(0, "a body where there is none", "it is dropped with the connection", "204", "HTTP/1.1 204 No Content\n\nsmuggled", "HTTP/1.1 204 No Content\nContent-Length: 8\n\nsmuggled"),
		spoken(199, "bodies that end too early, chunks that are none", "", "cut", "HTTP/1.1 200 OK\nContent-Length: 10\n\nok", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhe", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nokXX",
			"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nfffffffffffffffff\nok", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n-1\nok", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\nX: y\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\nX y\n\n"),
		{number: 199, name: "an upstream that says nothing, or half a head", run: silent},
		spoken(200, "103, twenty of them, 100 unasked, 1xx that nobody knows", "the gateway's own headers are in the final answer", "200", "HTTP/1.1 103 Early Hints\nX-Request-Id: theirs\nStrict-Transport-Security: max-age=0\n\n"+okBody, strings.Repeat("HTTP/1.1 103 Early Hints\nLink: </a>\n\n", 20)+okBody,
			strings.Repeat("HTTP/1.1 103 Early Hints\nLink: </a>\n\n", 300)+okBody, "HTTP/1.1 100 Continue\nX: y\n\n"+okBody, "HTTP/1.1 150 Odd\n\n"+okBody, "HTTP/1.1 102 Processing\n\nHTTP/1.1 100 Continue\n\n"+okBody),
		spoken(200, "101 that nobody asked for", "", "502", "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\nsmuggled", "HTTP/1.1 103 Early Hints\n\nHTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: h2c\n\n"),
		{number: 200, name: "1xx without end", run: endlessHints},
		spoken(202, "headers that fight the gateway's", "the gateway's win, once", "200", with("X-Request-Id: theirs", "x-request-id: theirs\nX-REQUEST-ID: theirs", "Strict-Transport-Security: max-age=0", "Connection: Strict-Transport-Security, X-Request-Id", "Connection: close\nKeep-Alive: timeout=0",
			"Connection: X-Request-Id\nX-Request-Id: theirs", "strict-transport-security: max-age=0\nSTRICT-TRANSPORT-SECURITY: max-age=0", "Trailer: Set-Cookie\nUpgrade: h2c", "Proxy-Authenticate: Basic\nTE: trailers")...),
		spoken(202, "the same as trailers, announced or not", "they are dropped", "200", slices.Concat(trailing("", "X-Request-Id: theirs", "Strict-Transport-Security: max-age=0", "X-Forwarded-User: admin"), trailing("Trailer: X-Request-Id, Strict-Transport-Security\n", "x-request-id: theirs\nStrict-Transport-Security: max-age=0"))...),
		spoken(163, "the gateway's cookies in Set-Cookie, in every spelling", "the app's own cookie stays", "200", cookieHeaders...),
		spoken(163, "the same in trailers", "", "200", cookieTrailers...),
		spoken(163, "the same in a 103", "", "200", cookieHints...),
		spoken(163, "Clear-Site-Data with cookies in it: in headers, in trailers, in a 103", "what is not about cookies stays", "200", clearings...),
		{number: 197, name: "HTTP/2: 2,000 streams opened and reset at once", because: "CVE-2023-44487", run: rapidReset},
		{number: 197, name: "HTTP/2: CONTINUATION without end", because: "CVE-2023-45288", run: endlessContinuation},
		{number: 203, name: "clients that go away: during a slow call, an upload, an event stream", held: []string{"proxy.TestClientGoneCancelsUpstream", "proxy.TestClientGoneFromEndpoint"}},
		{number: 205, name: "websockets: foreign `Origin` with the cookie, bad handshakes", run: func(t *testing.T, b *hostileBed) string { return websockets(t, b, alice) }},
		{number: 205, name: "bytes after 101, half-close, an upstream that is gone, an expired token", held: []string{"proxy.TestWebsocketPasses", "proxy.TestEarlyFramesPass", "proxy.TestStreamsEndWhenExpired", "proxy.TestWebsocketEndsWhenRevoked"}},
		{number: 206, name: "event streams, gRPC trailers, uploads; nothing unsafe is sent twice", held: []string{"proxy.TestEventsPassAsTheyCome", "proxy.TestTrailersPassOverHTTP2", "proxy.TestChunkedUploadStreams", "proxy.TestTransportDoesNotRepeatUnsafe"}},
	}
}

// silent: the timeout of /public/slow is a second.
func silent(t *testing.T, b *hostileBed) string {
	for _, half := range []string{"", "HTTP/1.1 200 OK\r\nContent-"} {
		b.app.answering(t, func(conn net.Conn, _ captured) bool {
			_, _ = io.WriteString(conn, half)
			_, _ = io.Copy(io.Discard, conn)
			return false
		})
		for way, gw := range b.gateways() {
			rep := b.say(t, gw, get1("/public/slow/a")+marker)
			rep.harmless(t, way, "504")
		}
	}
	b.app.take(t)
	return "refused with 504 (4 times)"
}

func endlessHints(t *testing.T, b *hostileBed) string {
	b.app.answering(t, func(conn net.Conn, _ captured) bool {
		for {
			if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
				return false
			}
		}
	})
	for way, gw := range b.gateways() {
		rep := b.say(t, gw, get1("/public/slow/a")+marker)
		rep.harmless(t, way, "502")
		if len(rep.hints) > 20 {
			t.Errorf("%s: %d hints", way, len(rep.hints))
		}
	}
	b.app.take(t)
	return "refused with 502, after 20 of them (2 times)"
}

// rapidReset, and then an honest request on another connection.
func rapidReset(t *testing.T, b *hostileBed) string {
	conn := b.dial(t, b.secure, "h2")
	defer conn.Close()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, nil)
	_ = framer.WriteSettings()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for i := range 2000 {
		block.Reset()
		for _, f := range h2get("/api/a") {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		id := uint32(2*i + 1)
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // the gateway has had enough
		}
	}
	if h := b.heardHTTP2(t, sent{h2: h2get("/public/a")}); h.outcome != "clean" {
		t.Errorf("an honest client gets %s", h.outcome)
	}
	return "nothing arrives, and other clients are served"
}

func endlessContinuation(t *testing.T, b *hostileBed) string {
	conn := b.dial(t, b.secure, "h2")
	defer conn.Close()
	closed := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, conn); close(closed) }()
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, nil)
	_ = framer.WriteSettings()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, f := range h2get("/public/a") {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String())})
	block.Reset()
	_ = enc.WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("\x01", 8000)})
	sentBytes := 0
	for err == nil && sentBytes < 64<<20 {
		err = framer.WriteContinuation(1, false, []byte(block.String()))
		sentBytes += block.Len()
	}
	if err == nil {
		t.Errorf("64 MB of CONTINUATION frames are taken")
	}
	<-closed
	if arrived := b.app.take(t); len(arrived) > 0 {
		t.Errorf("%q arrived", arrived[0].line)
	}
	return "refused, the connection is closed"
}

// websockets: who may open one.
func websockets(t *testing.T, b *hostileBed, token string) string {
	b.app.answering(t, accepts)
	cookie, bearer := "Cookie: __Host-gatehouse="+token+"\r\n", "Authorization: Bearer "+token+"\r\n"
	n := 0
	for way, gw := range b.gateways() {
		for _, c := range []struct {
			lines string
			want  int
		}{
			{cookie + "Origin: https://gw.example\r\n" + handshakeLines, 101},
			{bearer + handshakeLines, 101},
			{bearer + "Origin: https://evil.example\r\n" + handshakeLines, 101}, // a program: a browser cannot send that
			{cookie + "Origin: https://evil.example\r\n" + handshakeLines, 403},
			{cookie + "Origin: https://gw.example.evil\r\n" + handshakeLines, 403},
			{cookie + "Origin: null\r\n" + handshakeLines, 403},
			{cookie + "Origin: http://gw.example\r\nSec-Fetch-Site: cross-site\r\n" + handshakeLines, 403},
			{cookie + "Sec-Fetch-Site: same-site\r\nOrigin: https://other.gw.example\r\n" + handshakeLines, 403},
			{handshakeLines, 401},
			{"Cookie: __Host-gatehouse=x\r\n" + handshakeLines, 401},
		} {
			conn := b.dial(t, gw, "http/1.1")
			fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\n%s\r\n", c.lines)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			conn.Close()
			if err != nil || res.StatusCode != c.want {
				t.Errorf("%s %.200q: %v, %v, want %d", way, c.lines, res, err, c.want)
			}
			arrived := b.app.take(t)
			if (len(arrived) > 0) != (c.want == 101) {
				t.Errorf("%s %.200q: %d arrived", way, c.lines, len(arrived))
			}
			n++
		}
		// Handshakes that are none are requests like others.
		for _, lines := range []string{strings.Replace(handshakeLines, "Sec-WebSocket-Key", "X-Key", 1), handshakeLines + "Sec-WebSocket-Key: x\r\n", strings.Replace(handshakeLines, "13", "12", 1)} {
			b.app.answering(t, plainly)
			h := heard{reply: b.say(t, gw, "GET /ws HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\n"+bearer+lines+"\r\n"+marker)}
			h.collect(t, b)
			if h.tell(); h.outcome != "clean" || len(h.requests[0].get("Upgrade")) > 0 {
				t.Errorf("%s %q: %s, %v", way, lines, h.outcome, h.requests)
			}
			n++
		}
		b.app.answering(t, accepts)
	}
	return fmt.Sprintf("refused with 403 or 401, or no handshake any more, but for those of the same origin or with a Bearer token (%d times)", n)
}
