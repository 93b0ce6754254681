package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// longestDial bounds connecting and the TLS handshake, each, for routes whose
// timeout is longer or none.
const longestDial = 10 * time.Second

// transports are the connections to upstreams. Snapshots share them, so that a
// reload keeps what is open.
type transports struct {
	// roots are the authorities trusted to name https upstreams; nil: those of
	// the system. To be set before the first get.
	roots *x509.CertPool
	log   *slog.Logger
	room  h1Room

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

func newTransports(l *slog.Logger) *transports {
	ts := &transports{log: l, open: map[transportKey]http.RoundTripper{}}
	ts.room.evict = ts.evict
	return ts
}

// evict closes an idle connection of HTTP/1.1, and reports whether there was one.
func (ts *transports) evict() bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, rt := range ts.open {
		if t, ok := rt.(interface{ evict() bool }); ok && t.evict() {
			return true
		}
	}
	return false
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
		if t, ok := rt.(interface{ retire() }); ok {
			t.retire()
		}
	}
}

// Close closes all idle connections.
func (ts *transports) Close() { ts.retain(nil) }

func (ts *transports) make(t target, headerTimeout time.Duration) http.RoundTripper {
	if t.scheme == schemeEcho {
		return newEchoTransport()
	}
	dialer := &net.Dialer{Timeout: longestDial}
	if headerTimeout > 0 {
		dialer.Timeout = min(longestDial, headerTimeout)
	}
	if t.scheme == schemeH2C {
		return newMultiplexed(dialer, nil, headerTimeout)
	}
	one := &h1Transport{h1Pool: h1Pool{room: &ts.room}, timeout: headerTimeout, log: ts.log}
	network, address := "tcp", t.address()
	if t.scheme == schemeUnix {
		network, address = "unix", t.socket
	}
	dial := func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, address) }
	if t.scheme != schemeHTTPS {
		one.connect = one.connector(dial, nil, 0)
		return one
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            ts.roots,
		ServerName:         t.name(),
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	one.connect = one.connector(dial, config, dialer.Timeout)
	return &negotiated{one: one, two: newMultiplexed(dialer, config.Clone(), headerTimeout)}
}
