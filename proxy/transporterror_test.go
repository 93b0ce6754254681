package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/authn"
)

// A slow client is not a slow upstream: the timeout does not run while the body
// is awaited, nor once the upstream has answered.
func TestSentBodyWatchesTheUpstream(t *testing.T) {
	for _, c := range []struct {
		name    string
		steps   func(*sentBody)
		stalled bool
	}{
		{"slow client", func(b *sentBody) { b.Read(nil); b.Read(nil) }, false},
		{"upstream does not read on", func(b *sentBody) { b.Read(nil); time.Sleep(2 * time.Second) }, true},
		{"upstream reads on in time", func(b *sentBody) { b.Read(nil); time.Sleep(time.Second / 2); b.Read(nil) }, false},
		{"upstream has answered", func(b *sentBody) { b.Read(nil); b.answered(); time.Sleep(2 * time.Second) }, false},
		{"reads on after the answer", func(b *sentBody) { b.answered(); b.Read(nil); time.Sleep(2 * time.Second) }, false},
		{"no timeout", func(b *sentBody) { b.timeout = 0; b.Read(nil); time.Sleep(2 * time.Second) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			stalled := false
			b := &sentBody{ReadCloser: io.NopCloser(slowReader{}), timeout: time.Second, stalled: func() { stalled = true }}
			c.steps(b)
			b.answered()
			synctest.Wait()
			if stalled != c.stalled {
				t.Errorf("%s: stalled = %t, want %t", c.name, stalled, c.stalled)
			}
		})
	}
}

type slowReader struct{}

func (slowReader) Read([]byte) (int, error) {
	time.Sleep(3 * time.Second)
	return 0, nil
}

func TestClassify(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + free.Addr().String()
	free.Close()
	rubbish := rawUpstream(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "SSH-2.0-secret\"\x1b[31m\r\n\r\n")
	})
	hangsUp := rawUpstream(t, func(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) })
	reads := rawUpstream(t, func(c net.Conn) { io.Copy(io.Discard, c) })

	failing := func(err error) io.Reader {
		return io.NopCloser(io.MultiReader(strings.NewReader("x"), errorReader{err}))
	}
	limited := http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("too long")), 3)
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(authn.ErrInvalidToken.Because(errors.New("revoked")))
	late, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()

	for _, c := range []struct {
		name string
		r    *http.Request
		want *authn.Refusal
		text string
	}{
		{"connection refused", upstreamRequest(t, "GET", refused, nil), authn.ErrUpstream, "connection refused"},
		{"no HTTP", upstreamRequest(t, "GET", rubbish, nil), authn.ErrUpstream, `malformed HTTP response "..."`},
		{"hangs up", upstreamRequest(t, "GET", hangsUp, nil), authn.ErrUpstream, "EOF"},
		{"body over the limit", upstreamRequest(t, "POST", reads, limited), authn.ErrBodyTooLarge, "too large"},
		{"client's body breaks", upstreamRequest(t, "POST", reads, failing(io.ErrUnexpectedEOF)), authn.ErrInvalidRequest, "read request body"},
		{"client is slow", upstreamRequest(t, "POST", reads, failing(context.DeadlineExceeded)), authn.ErrInvalidRequest, "read request body"},
		{"deadline", upstreamRequest(t, "GET", reads, nil).WithContext(late), authn.ErrUpstreamTimeout, "deadline"},
		{"ended by a refusal", upstreamRequest(t, "GET", reads, nil).WithContext(cancelled), authn.ErrInvalidToken, "revoked"},
	} {
		_, err := openTransports(t).get(mustTarget(t, "http://"+c.r.URL.Host), 0).RoundTrip(c.r)
		got := classify(err)
		if !errors.Is(got, c.want) || !strings.Contains(got.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", c.name, got, c.want, c.text)
		}
		if strings.ContainsAny(got.Error(), "\x1b\r\n") || strings.Contains(got.Error(), "secret") {
			t.Errorf("%s: %q has bytes of the upstream", c.name, got)
		}
	}
	if !errors.Is(classify(fmt.Errorf("x: %w", context.Canceled)), context.Canceled) {
		t.Error("the cause of a classified error is lost")
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestWithoutQuotes(t *testing.T) {
	for in, want := range map[string]string{
		"dial tcp: refused":              "dial tcp: refused",
		`a "b \" c" d "e"`:               `a "..." d "..."`,
		`cut "off`:                       `cut "..."`,
		"line\nbreak \x1b[1m \xff end":   "line?break ?[1m ? end",
		strings.Repeat("x", 400):         strings.Repeat("x", 300),
		`bad Content-Length "1\r\n\x00"`: `bad Content-Length "..."`,
	} {
		if got := withoutQuotes(in); got != want {
			t.Errorf("withoutQuotes(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestErrorLog(t *testing.T) {
	var out bytes.Buffer
	l := ErrorLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	l.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "secret", nil)
	l.Printf("http: panic serving 192.0.2.1:80: oops\ngoroutine 7 [running]")
	got := out.String()
	for _, want := range []string{"level=DEBUG", "Unsolicited", "level=ERROR", "oops", "goroutine 7"} {
		if !strings.Contains(got, want) {
			t.Errorf("log %q, want %q in it", got, want)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("log %q has bytes of the upstream", got)
	}
}
