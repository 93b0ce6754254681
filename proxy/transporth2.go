package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// negotiated is for https upstreams: the first connection tells what they speak.
// That of an HTTP/2 upstream is closed again, since http.Transport makes its own.
type negotiated struct {
	one      *h1Transport
	two      *multiplexed
	prefers2 atomic.Bool
}

func (t *negotiated) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.prefers2.Load() || isUpgrade(r) {
		res, err := t.one.RoundTrip(r)
		if err != errSpeaksHTTP2 {
			return res, err
		}
		t.prefers2.Store(true)
	}
	res, err := t.two.RoundTrip(r)
	if err == nil && res.ProtoMajor == 1 {
		t.prefers2.Store(false) // the upstream was replaced
	}
	return res, err
}

func (t *negotiated) retire() {
	t.one.retire()
	t.two.retire()
}

func (t *negotiated) evict() bool { return t.one.evict() }

// isUpgrade reports whether r asks for another protocol, which HTTP/2 cannot
// switch to.
func isUpgrade(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
}

// newMultiplexed is the transport to upstreams that speak HTTP/2: in the clear if
// there is no config, else as they say in the TLS handshake.
func newMultiplexed(dialer *net.Dialer, config *tls.Config, headerTimeout time.Duration) *multiplexed {
	t := &http.Transport{
		Proxy:                  nil, // HTTP_PROXY in the environment must never reroute
		DialContext:            dialer.DialContext,
		DisableCompression:     true, // bodies pass as they are
		TLSHandshakeTimeout:    dialer.Timeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  continueTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           0, // no limit over all
		MaxIdleConnsPerHost:    idleForLong,
		MaxResponseHeaderBytes: upstreamHeaderBytes,
		// Bodies are copied in larger pieces past these buffers, and every
		// open stream holds both: larger ones cost memory and save nothing.
		ReadBufferSize:  4 << 10,
		WriteBufferSize: 4 << 10,
		Protocols:       new(http.Protocols),
		// One HTTP/2 connection carries many requests. A dead one has to be
		// found before all of them have waited for their timeout.
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  15 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 30 * time.Second,
		},
	}
	if config == nil {
		t.Protocols.SetUnencryptedHTTP2(true)
	} else {
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
		t.TLSClientConfig = config
	}
	return &multiplexed{Transport: t, timeout: headerTimeout}
}

// multiplexed is an http.Transport for HTTP/2 that never repeats what is unsafe,
// and that does not wait for ever for an upstream that has stopped reading.
type multiplexed struct {
	*http.Transport
	timeout time.Duration
	retired atomic.Bool // no snapshot in use has it
}

func (t *multiplexed) retire() {
	t.retired.Store(true)
	t.CloseIdleConnections()
}

func (t *multiplexed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = unrepeatable(r)
	if t.retired.Load() {
		// A last request of the snapshot before. Asking for an idle connection
		// would have http.Transport keep them again.
		r = r.WithContext(r.Context())
		r.Close = true
	}
	if r.Body == nil || r.Body == http.NoBody {
		return t.Transport.RoundTrip(r)
	}
	return t.send(r)
}

// send is RoundTrip for a request with a body. It is by itself for the stack of
// those without, as in gateway.go.
//
//go:noinline
func (t *multiplexed) send(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.WithContext(ctx)
	body := &sentBody{ReadCloser: r.Body, timeout: t.timeout, stalled: func() { cancel(errStalled) }}
	r.Body = body
	res, err := t.Transport.RoundTrip(r)
	body.answered()
	if err == nil {
		// ctx has to last as long as the response's body. It ends with the
		// incoming request's context.
		return res, nil
	}
	if context.Cause(ctx) == errStalled {
		err = errStalled
	}
	cancel(err)
	return nil, err
}

// unrepeatable makes sure that an unsafe request is sent at most once. When a
// kept connection breaks, http.Transport sends again what names an
// Idempotency-Key; but that is the client's word, and not every upstream
// honours it. It looks for the canonical spelling only, and field names are
// case-insensitive (RFC 9110, section 5.1).
func unrepeatable(r *http.Request) *http.Request {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r
	}
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		values, ok := r.Header[name]
		if !ok {
			continue
		}
		r = r.WithContext(r.Context())
		r.Header = r.Header.Clone()
		delete(r.Header, name)
		r.Header[strings.ToLower(name)] = values
	}
	return r
}
