package proxy

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// strictAnswer is a head in the one spelling that ours takes.
var strictAnswer = regexp.MustCompile(`^HTTP/1\.[01] [2-9][0-9]{2}( [\t -~\x{80}-\x{10FFFF}]*)?\r\n([!#$%&'*+.^_|~0-9A-Za-z-]+:[\t -~\x{80}-\x{10FFFF}]*\r\n)*\r\n`)

// FuzzTransportResponse: whatever an upstream sends, there is an answer or an
// error, soon, and no body longer than its frame. What ours takes http.Transport
// takes in the same way; what http.Transport takes ours takes, if it is spelt as
// it should be and says once where it ends.
func FuzzTransportResponse(f *testing.F) {
	for _, seed := range []string{
		good, good + good, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 4\n\ngood", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nshort", "HTTP/2.0 200 OK\r\n\r\n", "\x15\x03\x01\x00\x02\x02\x28",
	} {
		f.Add(false, []byte(seed))
		f.Add(true, []byte(seed))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	var answer atomic.Pointer[[]byte]
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := *answer.Load()
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					c.Write(b)
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	url := "http://" + l.Addr().String()
	target, err := parseTarget(url)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, head bool, b []byte) {
		answer.Store(&b)
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		ts := newTransports(slog.New(slog.DiscardHandler))
		defer ts.Close()
		is := fuzzed(t, ts.get(target, 10*time.Second), method, url)
		theirs := standard(10 * time.Second)
		defer theirs.CloseIdleConnections()
		was := fuzzed(t, theirs, method, url)
		if is.err != nil {
			if was.err == nil && strictAnswer.Match(b) && !framedTwice(was.header, b) {
				t.Fatalf("%q: %v, but http.Transport takes it", b, is.err)
			}
			return
		}
		switch {
		case len(is.body) > len(b), is.length >= 0 && int64(len(is.body)) > max(is.length, 0):
			t.Fatalf("%q: a body of %d bytes, Content-Length %d", b, len(is.body), is.length)
		case was.err != nil:
			t.Fatalf("%q: taken, but http.Transport says %v", b, was.err)
		case is.status != was.status || is.length != was.length || is.body != was.body || is.broken != was.broken:
			t.Fatalf("%q: %+v, http.Transport: %+v", b, is, was)
		case fieldsOf(is.header) != fieldsOf(was.header):
			t.Fatalf("%q: header %s, http.Transport: %s", b, fieldsOf(is.header), fieldsOf(was.header))
		}
		for name, values := range is.trailer {
			if !slices.Equal(values, was.trailer[name]) {
				t.Fatalf("%q: trailer %s = %q, http.Transport: %q", b, name, values, was.trailer[name])
			}
		}
	})
}

// framedTwice reports whether http.Transport had to choose where an answer ends.
func framedTwice(h http.Header, b []byte) bool {
	head, _, _ := strings.Cut(strings.ToLower(string(b)), "\r\n\r\n")
	lengths, codings := strings.Count(head, "\ncontent-length:"), strings.Count(head, "\ntransfer-encoding:")
	return lengths > 1 || codings > 0 && (lengths > 0 || strings.HasPrefix(head, "http/1.0")) ||
		strings.Contains(head, "\ntrailer:") || len(h) > maxFieldLines
}

type fuzzOutcome struct {
	err             error
	status          int
	length          int64
	header, trailer http.Header
	body            string
	broken          bool
}

func fuzzed(t *testing.T, rt http.RoundTripper, method, url string) fuzzOutcome {
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := rt.RoundTrip(r)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) || class(err) == "timeout" {
			t.Fatalf("%T: %v", rt, err)
		}
		return fuzzOutcome{err: err}
	}
	defer res.Body.Close()
	o := fuzzOutcome{status: res.StatusCode, length: res.ContentLength, header: maps.Clone(res.Header)}
	if res.StatusCode == http.StatusSwitchingProtocols {
		o.length = 0
		res.Body.Close()
		return o
	}
	delete(o.header, "Connection") // http.Transport takes it away where it says close
	if len(o.header["Pragma"]) > 0 && len(o.header["Cache-Control"]) <= 1 {
		delete(o.header, "Cache-Control") // http.Transport makes one of it
	}
	body, err := io.ReadAll(res.Body)
	o.body, o.broken, o.trailer = string(body), err != nil, res.Trailer
	return o
}
