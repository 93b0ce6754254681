package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"gatehouse/authn"
)

// stallError is the end of an upload that the upstream stopped reading.
type stallError struct{}

func (stallError) Error() string   { return "upstream stopped reading the request" }
func (stallError) Timeout() bool   { return true }
func (stallError) Temporary() bool { return true }

var errStalled error = stallError{}

// sentBody is the body of a request on its way to the upstream. It tells
// errors of the client from errors of the upstream, and notices when the
// transport has a piece of the body and cannot get rid of it:
// ResponseHeaderTimeout begins only when everything is written.
type sentBody struct {
	io.ReadCloser
	timeout time.Duration // 0: none
	stalled func()

	mu    sync.Mutex
	timer *time.Timer // runs while the upstream is to read
	over  bool        // the upstream has answered
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.pause()
	n, err := b.ReadCloser.Read(p)
	b.resume()
	if err != nil && err != io.EOF {
		err = &clientBodyError{err}
	}
	return n, err
}

func (b *sentBody) pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
	}
}

func (b *sentBody) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.timeout <= 0 {
		return
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(b.timeout, b.stalled)
		return
	}
	b.timer.Reset(b.timeout)
}

// answered ends the watch: from here on both sides may take their time.
func (b *sentBody) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
}

// clientBodyError is why the client's body could not be read.
type clientBodyError struct{ err error }

func (e *clientBodyError) Error() string { return "read request body: " + e.err.Error() }
func (e *clientBodyError) Unwrap() error { return e.err }

// classify is the refusal for an error of a RoundTripper. Refusals pass: they
// are why a request's context was cancelled.
func classify(err error) error {
	var (
		known    *authn.Refusal
		tooLarge *http.MaxBytesError
		body     *clientBodyError
		waited   net.Error
	)
	shown := shownError{err}
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &tooLarge):
		return authn.ErrBodyTooLarge.Because(shown)
	case errors.As(err, &body):
		return authn.ErrInvalidRequest.Because(shown).Saying("The request body could not be read")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &waited) && waited.Timeout():
		return authn.ErrUpstreamTimeout.Because(shown)
	}
	return authn.ErrUpstream.Because(shown)
}

// shownError is an error without the bytes that it quotes.
type shownError struct{ err error }

func (e shownError) Error() string { return withoutQuotes(e.err.Error()) }
func (e shownError) Unwrap() error { return e.err }

// withoutQuotes empties the quoted parts of a message, makes the rest printable
// ASCII and cuts it short. net/http quotes what a peer sent, as in "malformed
// HTTP response": that can be another user's data, and has no place in a log.
func withoutQuotes(s string) string {
	const most = 300
	var b strings.Builder
	for s != "" && b.Len() < most {
		if s[0] == '"' {
			b.WriteString(`"..."`)
			quoted, err := strconv.QuotedPrefix(s)
			if err != nil {
				break // cut short somewhere: where the quote ends is unknown
			}
			s = s[len(quoted):]
			continue
		}
		c := s[0]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b.WriteByte(c)
		s = s[1:]
	}
	return b.String()
}

// ErrorLog is for what net/http has to say outside of any request: for
// http.Server's ErrorLog, ReverseProxy's, and as output of package log, where
// http.Transport quotes bytes that an upstream sent unasked. The lines go to l
// at level debug, without what they quote; panics, with their stack, as errors.
func ErrorLog(l *slog.Logger) *log.Logger { return log.New(errorLog{l}, "", 0) }

type errorLog struct{ l *slog.Logger }

func (w errorLog) Write(p []byte) (int, error) {
	line, rest, _ := strings.Cut(strings.TrimSpace(string(p)), "\n")
	if strings.HasPrefix(line, "http: panic serving") {
		w.l.Error(withoutQuotes(line), "stack", rest)
		return len(p), nil
	}
	w.l.Debug(withoutQuotes(line))
	return len(p), nil
}
