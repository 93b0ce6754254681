package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The conformance tests run one story twice, with http.Transport and with ours,
// and compare what came of it: what the caller got, what the upstream saw, and
// over how many connections. Where ours is stricter on purpose the story says so.

// conformBed is one run of a story.
type conformBed struct {
	t  *testing.T
	rt http.RoundTripper

	url      string
	dialed   atomic.Int32
	conns    atomic.Int32  // of those, the upstream has so many
	over     chan struct{} // closed when the story has been told
	got      []string      // by the caller
	mu       sync.Mutex
	upstream []string  // what it saw
	serving  int       // connections of it
	served   sync.Cond // one less
}

// note is for the caller, see for the upstream.
func (b *conformBed) note(format string, args ...any) {
	b.got = append(b.got, fmt.Sprintf(format, args...))
}

func (b *conformBed) see(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.upstream = append(b.upstream, "upstream: "+fmt.Sprintf(format, args...))
}

// serve answers each connection with f. The reader is where requests come from;
// nth counts connections from 1.
func (b *conformBed) serve(f func(c net.Conn, in *bufio.Reader, nth int)) {
	b.url = rawUpstream(b.t, func(c net.Conn) {
		b.count(1)
		defer b.count(-1)
		f(c, bufio.NewReader(c), int(b.conns.Add(1)))
	})
}

func (b *conformBed) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serving += n
	b.served.Broadcast()
}

// answers writes one answer for each request, whatever connection it comes over.
// A connection is closed behind an answer that ends in "<close>".
func (b *conformBed) answers(answers ...string) {
	var next atomic.Int32
	b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
		for b.readRequest(in) {
			i := int(next.Add(1)) - 1
			if i >= len(answers) {
				return
			}
			answer, closes := strings.CutSuffix(answers[i], "<close>")
			io.WriteString(c, answer)
			if closes {
				return
			}
		}
	})
}

// readRequest notes what the upstream saw.
func (b *conformBed) readRequest(in *bufio.Reader) bool {
	r, err := http.ReadRequest(in)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	b.see("%s %s host=%s length=%d coding=%v fields=[%s] body=%s trailer=[%s] %s",
		r.Method, r.RequestURI, strings.TrimPrefix("http://"+r.Host, b.url), r.ContentLength, r.TransferEncoding,
		fieldsOf(r.Header), shortened(body), fieldsOf(r.Trailer), class(err))
	return true
}

func fieldsOf(h http.Header) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		all = append(all, fmt.Sprintf("%s:%.60q", name, h[name]))
	}
	return strings.Join(all, " ")
}

func shortened(b []byte) string {
	if len(b) > 60 {
		return fmt.Sprintf("%q… of %d", b[:20], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// request is a request that net/http adds nothing to.
func (b *conformBed) request(method, path string, body io.Reader) *http.Request {
	r := upstreamRequest(b.t, method, b.url+path, body)
	r.Header.Set("User-Agent", "")
	return r
}

// do sends r and notes the answer with all of its body.
func (b *conformBed) do(r *http.Request) {
	b.t.Helper()
	trace := &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			b.note("interim %d [%s]", status, fieldsOf(http.Header(h)))
			return nil
		},
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				b.dialed.Add(1)
			}
		},
	}
	res, err := b.rt.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		b.note("failed: %s", class(err))
		return
	}
	if res.Request.URL != r.URL {
		b.t.Error("the answer is to another request")
	}
	b.read(res)
}

// read notes an answer.
func (b *conformBed) read(res *http.Response) {
	header := res.Header.Clone()
	header.Del("Connection") // http.Transport takes it away where it says close
	var length int64 = -2
	if n := res.ContentLength; res.StatusCode != 101 {
		length = n
	}
	b.note("got %s %q %d length=%d coding=%v close=%t fields=[%s] announced=%v",
		res.Proto, res.Status, res.StatusCode, length, res.TransferEncoding, res.Close, fieldsOf(header), slices.Sorted(maps.Keys(res.Trailer)))
	if res.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	body, err := io.ReadAll(res.Body)
	if _, again := res.Body.Read(make([]byte, 1)); err == nil && again != io.EOF {
		b.note("after the end: %v", again)
	}
	b.note("body %s trailer=[%s] %s", shortened(body), fieldsOf(res.Trailer), class(err))
	if err := res.Body.Close(); err != nil {
		b.note("close: %v", err)
	}
}

// class is what kind of error it is, as far as a caller can tell.
func class(err error) string {
	var timeout net.Error
	var body *clientBodyError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errClientBroke), errors.As(err, &body):
		return "client"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(err.Error(), "server closed idle connection"), strings.Contains(err.Error(), "unexpected EOF"):
		return "broken"
	case strings.Contains(err.Error(), "closed response body"):
		return "closed"
	}
	return "refused"
}

var errClientBroke = errors.New("the client's body broke")

// story is run with each transport.
type story struct {
	name    string
	play    func(b *conformBed)
	timeout time.Duration
	// ours is what is different on purpose, and why: the outcome that ours must
	// have, without what the upstream saw.
	ours []string
	why  string
}

func (s story) run(t *testing.T, rt http.RoundTripper) (lines []string) {
	b := &conformBed{t: t, rt: rt, over: make(chan struct{})}
	b.served.L = &b.mu
	s.play(b)
	close(b.over)
	rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.serving > 0 || b.conns.Load() < b.dialed.Load() {
		b.served.Wait()
	}
	slices.Sort(b.upstream) // two connections have no order
	return slices.Concat(b.got, []string{fmt.Sprintf("connections: %d", b.conns.Load())}, b.upstream)
}

// standard is http.Transport with the settings that ours has built in.
func standard(timeout time.Duration) *http.Transport {
	return &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: idleForLong, ExpectContinueTimeout: continueTimeout,
		ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: upstreamHeaderBytes}
}

func conform(t *testing.T, stories []story) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			theirs := standard(s.timeout)
			defer theirs.CloseIdleConnections()
			ts := newTransports(slog.New(slog.DiscardHandler))
			defer ts.Close()
			is := s.run(t, ts.get(mustTarget(t, "http://app.example"), s.timeout).(*h1Transport).anywhere())
			was := s.run(t, theirs)
			if s.why == "" {
				if !slices.Equal(is, was) {
					t.Errorf("ours:\n\t%s\nhttp.Transport:\n\t%s", strings.Join(is, "\n\t"), strings.Join(was, "\n\t"))
				}
				return
			}
			if slices.Equal(is, was) {
				t.Errorf("the same as http.Transport, which was not expected (%s):\n\t%s", s.why, strings.Join(is, "\n\t"))
			}
			is = slices.DeleteFunc(is, func(line string) bool { return strings.HasPrefix(line, "upstream: ") })
			if !slices.Equal(is, s.ours) {
				t.Errorf("ours:\n\t%s\nwant (%s):\n\t%s", strings.Join(is, "\n\t"), s.why, strings.Join(s.ours, "\n\t"))
			}
		})
	}
}

// anywhere makes the transport connect to wherever a request's URL says, as
// http.Transport does.
func (t *h1Transport) anywhere() http.RoundTripper { return anywhere{t} }

type anywhere struct{ *h1Transport }

func (a anywhere) CloseIdleConnections() { a.retire() }

// RoundTrip waits a moment for the upload of the request before: its connection
// is free only when that knows that it is done.
func (a anywhere) RoundTrip(r *http.Request) (*http.Response, error) {
	for range 50 {
		if open, idle, _ := a.counts(); open == idle {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if a.made.Load() == 0 && r.URL != nil {
		address := r.URL.Host
		a.connect = a.connector(func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}, nil, 0)
	}
	return a.h1Transport.RoundTrip(r)
}

// tracing calls hook for every interim answer to r.
func tracing(r *http.Request, hook func() error) *http.Request {
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { return hook() },
	}))
}
