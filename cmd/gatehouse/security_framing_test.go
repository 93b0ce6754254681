package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"gatehouse/proxy/proxytest"
)

// framingNames tell what the cases of one number in proxytest have in common.
var framingNames = map[int]string{
	13:  "trailers that are malformed",
	14:  "space before the colon, in any header",
	67:  "Content-Length beside Transfer-Encoding, in any order and spelling",
	68:  "several Content-Lengths, equal ones too; lengths that are no plain digits",
	70:  "Transfer-Encoding: chunked twice",
	71:  "codings beside, around or instead of chunked",
	73:  "folded lines",
	74:  "space before the colon of Transfer-Encoding",
	76:  "chunk sizes that are no plain hex digits, and odd extensions",
	77:  "chunk lines that end in something else than CRLF",
	79:  "chunks with more or less data than their size says",
	82:  "empty lines and more before the request line",
	85:  "expectations nobody knows",
	196: "10,000 header lines, 1 MB of header, lines and elements of 100 kB",
	0:   "request lines, hosts and header lines outside of the grammar, targets that cannot be parsed",
}

func framingCases(b *hostileBed) []hostile {
	alice := "Authorization: Bearer " + b.keys.token("alice")
	// Each of these is followed by the marker, which must not be answered.
	closed := func(t *testing.T, _ *hostileBed, h heard) {
		if len(h.statuses) > 1 || len(h.statuses) == 1 && !strings.Contains(h.raw, "\r\nConnection: close\r\n") || len(h.requests) > 0 {
			t.Errorf("the connection went on: %d\n%s", h.statuses, h.raw)
		}
	}
	rows := map[int]*hostile{}
	var cases []hostile
	for _, c := range proxytest.FramingCases() {
		if rows[c.Number] == nil {
			rows[c.Number] = &hostile{number: c.Number, name: framingNames[c.Number], each: closed}
		}
		s := sent{raw: c.Raw, want: fmt.Sprint(c.Status)}
		if c.Body != "" {
			// What is wrong may come when the head has been forwarded already.
			s = sent{raw: strings.Replace(c.Raw, "POST / ", "POST /public/a ", 1), want: "400|cut"}
		}
		rows[c.Number].sent = append(rows[c.Number].sent, s)
	}
	for _, row := range rows {
		cases = append(cases, *row)
	}
	slices.SortFunc(cases, func(x, y hostile) int { return x.number - y.number })

	smuggled := "GET /admin/smuggled HTTP/1.1\r\nHost: gw.example\r\n\r\n"
	withBody := func(method, target, body string, lines ...string) string {
		return strings.Replace(post1(target, body, lines...), "POST", method, 1)
	}
	var carried, refused []sent
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE", "POST"} {
		carried = append(carried, sent{raw: withBody(method, "/public/a", smuggled), want: "clean", sees: []string{"GET /admin/smuggled HTTP/1.1\r"}})
		refused = append(refused, sent{raw: withBody(method, "/admin/a", smuggled), want: "401"})
	}
	refused = append(refused, sent{raw: withBody("POST", "/nowhere", smuggled), want: "401"}, sent{raw: withBody("TRACE", "/public/a", smuggled), want: "405"},
		sent{raw: withBody("POST", "/public/../a", smuggled), want: "400"}, sent{raw: withBody("POST", "/login", smuggled, "Content-Type: text/html"), want: "415"},
		sent{raw: withBody("GET", "/login", smuggled), want: "own 200"}, sent{raw: withBody("GET", "/.gatehouse/userinfo", smuggled), want: "401"}, sent{raw: withBody("DELETE", "/login", smuggled), want: "405"},
		sent{raw: chunked1("/admin/a", smuggled, nil), want: "401"})

	return append(cases, []hostile{
		{number: 74, name: "`Transfer_Encoding: chunked`, `Content_Length: 9`", because: "they frame nothing, and are dropped", sent: []sent{
			{raw: post1("/public/a", "hello", "Transfer_Encoding: chunked"), want: "clean", sees: []string{"hello", "!_encoding"}},
			{raw: post1("/public/a", "hello", "Content_Length: 90", "content.length: 3"), want: "clean", sees: []string{"hello", "!_length", "!.length"}},
			{raw: chunked1("/public/a", "hello", nil, "Content_Length: 2"), want: "clean", sees: []string{"hello", "!_length"}}}},
		{number: 80, name: "the last chunk, or part of the body, never comes", run: unfinished},
		{number: 82, name: "up to four CRLFs before the request line", because: "RFC 9112, section 2.2", sent: []sent{
			{raw: "\r\n" + get1("/public/a"), want: "clean"}, {raw: "\r\n\r\n\r\n\r\n" + get1("/public/a"), want: "clean"}}},
		{number: 83, name: "GET, HEAD, OPTIONS, DELETE with a body that is a request", because: "it arrives as a body", sent: carried},
		{number: 83, name: "the same where the gateway answers itself", because: "the body is read to its end, or the connection is closed", sent: refused, each: func(t *testing.T, _ *hostileBed, h heard) {
			if len(h.statuses) > 2 || len(h.statuses) == 2 && h.statuses[1] != 200 || strings.Contains(h.raw, "smuggled") {
				t.Errorf("the body was answered: %d\n%s", h.statuses, h.raw)
			}
		}},
		{number: 85, name: "`Expect: 100-continue` on a protected route", because: "it is decided before 100 is sent", sent: []sent{
			{raw: "POST /admin/a HTTP/1.1\r\nHost: gw.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", want: "401"}},
			each: func(t *testing.T, _ *hostileBed, h heard) {
				if len(h.hints) > 0 || len(h.statuses) != 1 {
					t.Errorf("1xx answers %d, then %d, want 401 alone", h.hints, h.statuses)
				}
			}},
		{number: 85, name: "`Expect: 100-continue` with the body at once, and without one", sent: []sent{
			{raw: post1("/public/a", "hello", "Expect: 100-continue"), want: "clean", sees: []string{"hello"}},
			{raw: get1("/public/a", "Expect: 100-continue"), want: "clean", sees: []string{"!Expect"}},
			{raw: chunked1("/public/a", "hello", nil, "Expect: 100-Continue"), want: "clean", sees: []string{"hello"}}}},
		{number: 85, name: "expectations nobody knows, over HTTP/2", sent: []sent{
			{h2: h2get("/public/a", [2]string{"expect", "200-ok"}), want: "400"}, {h2: h2get("/public/a", [2]string{"expect", ""}), want: "400"},
			{h2: h2get("/public/a", [2]string{"expect", "200-ok"}, [2]string{"expect", "x"}), want: "400"}}},
		{number: 85, name: "`expect: 100-continue` over HTTP/2, beside others too", because: "the HTTP/2 library answers it, it is not passed on", sent: []sent{
			{h2: h2get("/public/a", [2]string{"expect", "100-continue, x"}), want: "clean", sees: []string{"!expect"}},
			{h2: h2get("/public/a", [2]string{"expect", "100-continue"}, [2]string{"expect", "100-continue"}), want: "clean", sees: []string{"!expect"}}}},
		{number: 85, name: "the upstream answers without reading what it was told to expect", run: unread},
		{number: 86, name: "pipelined: public, then protected; with a token, then without", run: func(t *testing.T, b *hostileBed) string { return pipelined(t, b, alice) }},
		{number: 88, name: "`Upgrade: h2c` in every spelling of Connection", because: "it is no upgrade any more", sent: func() (all []sent) {
			for _, connection := range []string{"Upgrade, HTTP2-Settings", "HTTP2-Settings, Upgrade", "upgrade", "Upgrade", "keep-alive, Upgrade,HTTP2-Settings"} {
				all = append(all, sent{raw: get1("/public/a", "Connection: "+connection, "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"), want: "clean", sees: []string{"!upgrade", "!h2c", "!settings"}})
			}
			return append(all, sent{raw: get1("/public/a", "Upgrade: h2c", "HTTP2_Settings: AAMAAABkAAQCAAAAAAIAAAAA", "HTTP2-Settings: a"), want: "clean", sees: []string{"!upgrade", "!h2c", "!settings"}})
		}()},
		{number: 89, name: "upgrades to something else, on POST, in HTTP/1.0, without Connection", because: "it is no upgrade any more", sent: []sent{
			{raw: get1("/public/a", "Connection: Upgrade", "Upgrade: foo/1"), want: "clean", sees: []string{"!upgrade"}},
			{raw: get1("/public/a", "Connection: Upgrade", "Upgrade: websocket, h2c", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), want: "clean", sees: []string{"!upgrade"}},
			{raw: get1("/public/a", "Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), want: "clean", sees: []string{"!upgrade"}},
			{raw: post1("/public/a", "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), want: "clean", sees: []string{"!upgrade"}},
			{raw: "GET /public/a HTTP/1.0\r\nHost: gw.example\r\nConnection: Upgrade\r\n" + handshakeLines + "\r\n", want: "clean", sees: []string{"!upgrade"}},
			{raw: get1("/public/a", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), want: "clean", sees: []string{"!upgrade"}}}},
		{number: 91, name: "an upgrade that is not granted, and a request in the \"tunnel\"", run: fakeUpgrade},
		{number: 92, name: "HTTP/2: fields that belong to a connection", because: "by the HTTP/2 library, with its own words", sent: func() (all []sent) {
			for _, f := range [][2]string{{"transfer-encoding", "chunked"}, {"connection", "close"}, {"connection", "x-forwarded-user"}, {"keep-alive", "timeout=5"}, {"upgrade", "h2c"}, {"proxy-connection", "close"}, {"te", "gzip"}, {"te", "trailers, gzip"}} {
				all = append(all, sent{h2: h2get("/public/a", f), want: "400"}, sent{h2: h2get("/api/a", f, [2]string{"authorization", alice[15:]}), as: "alice", want: "400"})
			}
			return all
		}()},
		{number: 92, name: "HTTP/2: `te: trailers`", because: "the one that is allowed", sent: []sent{{h2: h2get("/public/a", [2]string{"te", "trailers"}), want: "clean"}}},
		{number: 95, name: "HTTP/2: a length that is not what DATA brings", sent: func() (all []sent) {
			for _, length := range []string{"3", "7", "0", "-1", "+5", "x", "5, 5", "18446744073709551621", ""} {
				fields := h2get("/public/a", [2]string{"content-length", length})
				fields[0][1] = "POST"
				all = append(all, sent{h2: fields, body: "hello", want: "400|cut|reset"})
			}
			twice := h2get("/public/a", [2]string{"content-length", "5"}, [2]string{"content-length", "5"})
			twice[0][1] = "POST"
			return append(all, sent{h2: twice, body: "hello", want: "400|cut|reset"}, sent{h2: h2get("/public/a", [2]string{"content-length", "5"}), want: "400|reset"})
		}()},
		{number: 97, name: "bytes of the upstream behind a complete answer", run: extraBytes},
		{number: 98, name: "bodies over the limit: by length, in chunks, over HTTP/2", run: tooLarge},
	}...)
}

// tooLarge: the limit of /public/small is 1000 bytes.
func tooLarge(t *testing.T, b *hostileBed) string {
	body := strings.Repeat("a", 1001)
	for way, gw := range b.gateways() {
		for _, raw := range []string{post1("/public/small", body), post1("/public/small", "", "Content-Length: 9999999999")[:0] + "POST /public/small HTTP/1.1\r\nHost: gw.example\r\nContent-Length: 9999999999\r\n\r\n",
			chunked1("/public/small", body, nil), "POST /public/small HTTP/1.1\r\nHost: gw.example\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1f4\r\n"+strings.Repeat("b", 500)+"\r\n", 3) + "0\r\n\r\n"} {
			h := heard{reply: b.say(t, gw, raw+marker)}
			h.collect(t, b)
			if len(h.statuses) == 0 || h.statuses[0] != 413 || len(h.requests) > 0 {
				t.Errorf("%s %.80q: %d, and the upstream got %d requests", way, raw, h.statuses, len(h.requests))
			}
		}
		h := heard{reply: b.say(t, gw, post1("/public/small", body[:1000])+marker)}
		if h.collect(t, b); !slices.Equal(h.statuses, []int{200, 200}) {
			t.Errorf("1000 bytes: %d", h.statuses)
		}
	}
	fields := h2get("/public/small")
	fields[0][1] = "POST"
	if h := b.heardHTTP2(t, sent{h2: fields, body: body}); len(h.statuses) != 1 || h.statuses[0] != 413 || len(h.requests) > 0 {
		t.Errorf("HTTP/2: %d, %d requests", h.statuses, len(h.requests))
	}
	return "refused with 413 (9 times), what was on its way is cut off"
}

// unfinished: clients that go away in the middle of a body.
func unfinished(t *testing.T, b *hostileBed) string {
	n := 0
	for _, gw := range b.gateways() {
		for _, rest := range []string{"Content-Length: 5\r\n\r\nhe", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"} {
			conn := b.dial(t, gw, "http/1.1")
			_, _ = io.WriteString(conn, "POST /public/half HTTP/1.1\r\nHost: gw.example\r\n"+rest)
			b.app.wait(t, "the request arrives", func() bool { return b.app.started > 0 })
			conn.Close()
			for _, c := range b.app.take(t) {
				if c.err == nil {
					t.Errorf("%q: the upstream got a complete request", rest)
				}
			}
			n++
		}
	}
	return fmt.Sprintf("cut off, the upstream sees an aborted request (%d times)", n)
}

// pipelined requests are each judged alone.
func pipelined(t *testing.T, b *hostileBed, credential string) string {
	for way, gw := range b.gateways() {
		for _, c := range []struct {
			raw     string
			want    []int
			arrives []string
		}{
			{get1("/public/a") + get1("/admin/a") + get1("/public/b"), []int{200, 401, 200}, []string{"/public/a", "/public/b"}},
			{get1("/api/a", credential) + get1("/api/b") + get1("/api/c", credential), []int{200, 401, 200}, []string{"/api/a", "/api/c"}},
			{get1("/api/a", "Cookie: __Host-gatehouse="+credential[22:]) + get1("/api/b"), []int{200, 401}, []string{"/api/a"}},
			{post1("/api/a", "x", credential) + get1("/admin/b", credential), []int{200, 403}, []string{"/api/a"}},
			{get1("/public/a") + "GET /public/b HTTP/1.1\r\n\r\n", []int{200, 400}, []string{"/public/a"}},
		} {
			rep := b.say(t, gw, c.raw+marker)
			var got []string
			for _, r := range b.app.take(t) {
				if r.target() != markerTarget {
					got = append(got, r.target())
				}
				for _, wrong := range r.impostors(map[bool]string{true: "alice"}[strings.HasPrefix(r.target(), "/api/")]) {
					t.Error(wrong)
				}
			}
			want := append(slices.Clone(c.want), 200)
			if c.want[len(c.want)-1] == 400 {
				want = c.want
			}
			if !slices.Equal(rep.statuses, want) || !slices.Equal(got, c.arrives) {
				t.Errorf("%s %.200q: %d, and %q arrived; want %d, %q", way, c.raw, rep.statuses, got, want, c.arrives)
			}
		}
	}
	return "each is judged alone: what may arrives clean, the rest is refused with 401, 403 or 400 (10 times)"
}
