package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// longestDial bounds connecting and the TLS handshake, each, for routes
	// whose timeout is longer or none.
	longestDial = 10 * time.Second
	// idlePerUpstream is large: a connection that is closed for want of room
	// is paid for again by the next request.
	idlePerUpstream = 256
	// upstreamHeaderBytes bounds what an upstream can make the gateway hold.
	upstreamHeaderBytes = 256 << 10
)

// transports are the connections to upstreams. Snapshots share them, so that a
// reload keeps what is open.
type transports struct {
	// roots are the authorities trusted to name https upstreams; nil: those of
	// the system. To be set before the first get.
	roots *x509.CertPool

	mu   sync.Mutex
	open map[transportKey]http.RoundTripper
}

// transportKey tells transports apart: routes with the same key share
// connections. Base paths do not count.
type transportKey struct {
	scheme, address string
	timeout         time.Duration
}

func (t target) key(headerTimeout time.Duration) transportKey {
	switch t.scheme {
	case schemeEcho:
		return transportKey{scheme: t.scheme}
	case schemeUnix:
		return transportKey{t.scheme, t.socket, headerTimeout}
	}
	return transportKey{t.scheme, t.url.Host, headerTimeout}
}

func newTransports() *transports {
	return &transports{open: map[transportKey]http.RoundTripper{}}
}

// get is the transport to t that waits up to headerTimeout for the header of a
// response; 0 is no limit.
func (ts *transports) get(t target, headerTimeout time.Duration) http.RoundTripper {
	key := t.key(headerTimeout)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if rt, ok := ts.open[key]; ok {
		return rt
	}
	rt := ts.make(t, headerTimeout)
	ts.open[key] = rt
	return rt
}

// retain forgets every transport that is not in keep and closes its idle
// connections. Requests in flight finish, and their connections close then.
func (ts *transports) retain(keep map[transportKey]bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for key, rt := range ts.open {
		if keep[key] {
			continue
		}
		delete(ts.open, key)
		if t, ok := rt.(*transport); ok {
			t.retired.Store(true)
			t.CloseIdleConnections()
		}
	}
}

// Close closes all idle connections.
func (ts *transports) Close() { ts.retain(nil) }

func (ts *transports) make(t target, headerTimeout time.Duration) http.RoundTripper {
	if t.scheme == schemeEcho {
		return newEchoTransport()
	}
	dialTimeout := longestDial
	if headerTimeout > 0 {
		dialTimeout = min(dialTimeout, headerTimeout)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	base := &http.Transport{
		Proxy:                  nil, // HTTP_PROXY in the environment must never reroute
		DialContext:            dialer.DialContext,
		DisableCompression:     true, // bodies pass as they are
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           0, // no limit over all
		MaxIdleConnsPerHost:    idlePerUpstream,
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
	switch t.scheme {
	case schemeHTTPS:
		base.Protocols.SetHTTP1(true)
		base.Protocols.SetHTTP2(true)
		base.TLSClientConfig = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            ts.roots,
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		}
	case schemeH2C:
		base.Protocols.SetUnencryptedHTTP2(true)
	case schemeUnix:
		base.Protocols.SetHTTP1(true)
		base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", t.socket)
		}
	default:
		base.Protocols.SetHTTP1(true)
	}
	return &transport{Transport: base, timeout: headerTimeout}
}

// transport is an http.Transport that never repeats what is unsafe, and that
// does not wait for ever for an upstream that has stopped reading.
type transport struct {
	*http.Transport
	timeout time.Duration
	retired atomic.Bool // no snapshot in use has it
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
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
func (t *transport) send(r *http.Request) (*http.Response, error) {
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
