package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// twice sends method two times: whether the connection is used again shows what
// the transport thinks of the answer's end.
func twice(method string, answers ...string) func(b *conformBed) {
	return func(b *conformBed) {
		b.answers(answers...)
		b.do(b.request(method, "/one", nil))
		b.do(b.request(method, "/two", nil))
	}
}

const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"

// refusedThenGood is what comes of an answer that ours does not take, and a good one.
var refusedThenGood = []string{"failed: refused", gotGood, bodyGood, "connections: 2"}

const (
	gotGood  = `got HTTP/1.1 "200 OK" 200 length=4 coding=[] close=false fields=[Content-Length:["4"]] announced=[]`
	bodyGood = `body "good" trailer=[] ok`
)

// TestConformAnswers: whatever comes back, both make the same of it.
func TestConformAnswers(t *testing.T) {
	var stories []story
	for _, answer := range []string{
		good,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 299 Any Thing, even this: x\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 999 Beyond\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\ncontent-length:\t 1 \r\nx-LOWER: a\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nEmpty:\r\nX-Lower:  b  c \r\n\r\nx",
		"HTTP/1.1 200 OK\r\nX-Obs: caf\xe9\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n000\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, x-two\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nX-Late: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nuntil the end<close>",
		"HTTP/1.1 200 OK\r\n\r\n<close>",
		"HTTP/1.0 200 OK\r\n\r\nuntil the end<close>",
		"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: \"x\"\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + good,
		"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 199 Odd\r\n\r\n" + good,
		// Less than was announced.
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n<close>",
		"HTTP/1.1 200 OK\r\nX-A: b\r\n<close>",
		"<close>",
		// Chunks that are none.
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno field\r\n\r\n<close>",
		// Lengths that are none.
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ngood!",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\ngood",
		"HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\ngood",
		"HTTP/1.1 200 OK\r\nContent-Length: 0x4\r\n\r\ngood",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\ngood",
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n<close>",
		"HTTP/1.1 200 OK\r\nContent-Length: 4 4\r\n\r\ngood",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n<close>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		// Heads that are none.
		"HTTP/1.1 abc OK\r\n\r\n<close>",
		"HTTP/1.1 2000 OK\r\n\r\n<close>",
		"HTTP/1.1 20 OK\r\n\r\n<close>",
		"HTTP/1.1\r\n\r\n<close>",
		"HTTP/11 200 OK\r\n\r\n<close>",
		"http/1.1 200 OK\r\n\r\n<close>",
		"ICY 200 OK\r\n\r\n<close>",
		" HTTP/1.1 200 OK\r\n\r\n<close>",
		"\r\nHTTP/1.1 200 OK\r\n\r\n<close>",
		"SSH-2.0-server\r\n<close>",
		"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n Leading: x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-\xe9: a\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("y", 20<<10) + "\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nX-Too-Long: " + strings.Repeat("y", 300<<10) + "\r\nContent-Length: 1\r\n\r\nx<close>",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Many: "+strings.Repeat("y", 1000)+"\r\n", 270) + "\r\n<close>",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n<close>",
	} {
		stories = append(stories, story{name: fmt.Sprintf("GET/%.60q", answer), play: twice("GET", answer, good)})
	}
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood",
		"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
	} {
		stories = append(stories, story{name: fmt.Sprintf("HEAD/%.60q", answer), play: twice("HEAD", answer, "HTTP/1.1 200 OK\r\n\r\n")})
	}
	conform(t, stories)
}

// TestStricterAnswers are answers that http.Transport takes and ours does not, or
// in another way.
func TestStricterAnswers(t *testing.T) {
	var stories []story
	for why, answers := range map[string][]string{
		"says twice where it ends": {
			"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\ngood",
		},
		"chunks in HTTP/1.0": {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n<close>"},
		"a line end that filters overlook": {
			"HTTP/1.1 200 OK\nContent-Length: 4\n\ngood",
			"HTTP/1.1 200 OK\r\nX-A: a\nX-Injected: b\r\nContent-Length: 4\r\n\r\ngood",
			"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\ngood",
		},
		"a folded line": {"HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 4\r\n\r\ngood"},
		"another version": {
			"HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\ngood",
			"HTTP/1.2 200 OK\r\nContent-Length: 4\r\n\r\ngood",
			"HTTP/0.9 200 OK\r\nContent-Length: 4\r\n\r\ngood",
		},
		"no status is below 100":          {"HTTP/1.1 099 Low\r\nContent-Length: 4\r\n\r\ngood"},
		"a status with a sign":            {"HTTP/1.1 +20 OK\r\nContent-Length: 4\r\n\r\ngood"},
		"a space before the colon":        {"HTTP/1.1 200 OK\r\nContent-Length : 4\r\nContent-Length: 4\r\n\r\ngood"},
		"two spaces":                      {"HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\ngood"},
		"control bytes in the reason":     {"HTTP/1.1 200 O\x00K\r\nContent-Length: 4\r\n\r\ngood"},
		"more lines than anybody needs":   {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxFieldLines+1) + "Content-Length: 4\r\n\r\ngood"},
		"a 101 that says nothing of it":   {"HTTP/1.1 101 Switching Protocols\r\n\r\n<close>"},
		"a name that cannot be announced": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a b\r\n\r\n0\r\n\r\n"},
	} {
		for i, answer := range answers {
			stories = append(stories, story{name: fmt.Sprintf("%s/%d", why, i), play: twice("GET", answer, good), why: why, ours: refusedThenGood})
		}
	}
	stories = append(stories,
		story{name: "half a status line", why: "it broke off, whatever it was going to be", play: twice("GET", "HTTP/1.1 20<close>", good),
			ours: []string{"failed: broken", gotGood, bodyGood, "connections: 2"}},
		story{name: "half a trailer", why: "http.Transport takes it for one that is too long",
			play: twice("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\r\n<close>", good),
			ours: []string{`got HTTP/1.1 "200 OK" 200 length=-1 coding=[chunked] close=false fields=[] announced=[]`, `body "" trailer=[] broken`, gotGood, bodyGood, "connections: 2"}},
		story{name: "keep-alive of HTTP/1.0", why: "understood in too many ways",
			play: twice("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ngood", good),
			ours: []string{`got HTTP/1.0 "200 OK" 200 length=4 coding=[] close=true fields=[Content-Length:["4"]] announced=[]`, bodyGood, gotGood, bodyGood, "connections: 2"}},
		story{name: "Pragma", why: "http.Transport makes a Cache-Control of it",
			play: twice("GET", "HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 4\r\n\r\ngood", good),
			ours: []string{`got HTTP/1.1 "200 OK" 200 length=4 coding=[] close=false fields=[Content-Length:["4"] Pragma:["no-cache"]] announced=[]`, bodyGood, gotGood, bodyGood, "connections: 1"}},
		story{name: "a 204 with a length", why: "the upstream may send a body",
			play: twice("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", good),
			ours: []string{`got HTTP/1.1 "204 No Content" 204 length=0 coding=[] close=false fields=[Content-Length:["4"]] announced=[]`, `body "" trailer=[] ok`, gotGood, bodyGood, "connections: 2"}},
		story{name: "a trailer that would be a header", why: "RFC 9110, section 6.5.1",
			play: twice("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\nContent-Length: 5\r\nAuthorization: x\r\n\r\n", good),
			ours: []string{`got HTTP/1.1 "200 OK" 200 length=-1 coding=[chunked] close=false fields=[] announced=[]`, `body "" trailer=[X-A:["1"]] ok`, gotGood, bodyGood, "connections: 1"}},
	)
	conform(t, stories)
}

// TestAnswerLimits: interim answers do not lift the limit for all heads together.
func TestAnswerLimits(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"); err != nil {
				return
			}
		}
	})
	_, err := openTransports(t).get(mustTarget(t, up), 0).RoundTrip(upstreamRequest(t, "GET", up, nil))
	if err == nil || !strings.Contains(err.Error(), "exceeds") {
		t.Errorf("endless interim answers: %v, want a limit", err)
	}
}

// TestSurplusBytes: more came than was announced, and not a byte of it may become
// another request's answer. http.Transport, which looks at it beside the next
// request, may take it for that.
func TestSurplusBytes(t *testing.T) {
	for _, answer := range []string{
		good + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		good + "x",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
		"HTTP/1.1 304 Not Modified\r\n\r\nx",
	} {
		ts := openTransports(t)
		rt := ts.get(mustTarget(t, "http://app.example"), 0).(*h1Transport).anywhere()
		got := story{play: twice("GET", answer, good)}.run(t, rt)
		if all := strings.Join(got, "\n"); !strings.Contains(all, "connections: 2") || strings.Contains(all, "evil") || strings.Contains(all, "failed") {
			t.Errorf("%q:\n%s", answer, all)
		}
	}
}
