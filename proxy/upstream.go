package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"gatehouse/authn"
	"gatehouse/config"
)

// upstreamURL fills in what the route asks its upstream for: the path as
// received, to the byte, less strip_prefix, below the upstream's own path.
func (rt *Route) upstreamURL(u *url.URL, loc *location) error {
	path, err := stripPrefix(loc.path, rt.StripPrefix)
	if err != nil {
		return err
	}
	*u = *rt.target.url
	u.RawQuery, u.ForceQuery = loc.query, loc.hasQuery && loc.query == ""
	if loc.plain && u.RawPath == "" {
		u.Path += path
		return nil
	}
	path = u.EscapedPath() + path
	u.Path, u.RawPath = unescape(path), path
	if u.EscapedPath() == path {
		return nil
	}
	// net/url would re-encode some of the bytes: `/a|b` has a raw bar, which
	// browsers send. Opaque is sent as it is.
	if strings.HasPrefix(path, "//") {
		return badPath("%q begins with two slashes", path)
	}
	u.Opaque = path
	return nil
}

// stripPrefix takes a whole-segment prefix off an encoded path. What remains
// must still be a path that begins with one slash: from `/api//admin` an
// upstream would get `//admin`.
func stripPrefix(path, prefix string) (string, error) {
	if prefix == "" || prefix == "/" {
		return path, nil
	}
	prefix = strings.TrimSuffix(prefix, "/")
	rest := path
	for i := 0; i < len(prefix); i++ {
		if rest == "" {
			return "", badPath("%q does not begin with %q", path, prefix)
		}
		c, n := rest[0], 1
		if c == '%' {
			c, _ = unhex2(rest[1:])
			n = 3
		}
		if c != prefix[i] || n == 3 && c == '/' {
			return "", badPath("%q does not begin with %q", path, prefix)
		}
		rest = rest[n:]
	}
	switch {
	case rest == "":
		return "/", nil
	case rest[0] != '/' || strings.HasPrefix(rest, "//"):
		return "", badPath("%q has no clean path below %q", path, prefix)
	}
	return rest, nil
}

var buffers = &bufferPool{}

type bufferPool struct{ pool sync.Pool }

type buffer [32 << 10]byte

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*buffer); ok {
		return p[:]
	}
	return new(buffer)[:]
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put((*buffer)(buf)) }

// newForwarder is the handler that forwards the requests of all routes whose
// connections are the transport's.
func newForwarder(s *Snapshot, transport http.RoundTripper, l *slog.Logger) http.Handler {
	return &httputil.ReverseProxy{
		Transport:  transport,
		BufferPool: buffers,
		// Identity headers are set in Rewrite and not earlier: ReverseProxy removes
		// whatever the client names in Connection, and Rewrite runs after that.
		Rewrite: func(pr *httputil.ProxyRequest) {
			x := exchangeOf(pr.In.Context())
			x.stripped = s.rewrite(pr.Out, pr.In, x)
			x.forwarded = time.Now()
		},
		ModifyResponse: func(res *http.Response) error {
			return exchangeOf(res.Request.Context()).answer(res)
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			x := exchangeOf(r.Context())
			x.upstream = time.Since(x.forwarded)
			x.failure = err
		},
		ErrorLog: ErrorLog(l),
	}
}

// Outgoing is the request as the upstream would get it by d. Nothing is sent.
func (s *Snapshot) Outgoing(r *http.Request, d Decision) (*http.Request, error) {
	if d.Route == nil || d.URL.Host == "" {
		return nil, errors.New("the request is not forwarded")
	}
	x := &exchange{snapshot: s, request: r, id: [1]string{newRequestID()}, decision: d, peer: peerOf(r, s.config.TrustedProxies)}
	if err := x.assert(); err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	s.rewrite(out, r, x)
	return out, nil
}

// rewrite makes out, a copy of the client's request without hop-by-hop headers,
// into the request for the upstream. It returns the client's headers that spoke
// of identity.
func (s *Snapshot) rewrite(out, in *http.Request, x *exchange) (forged []string) {
	d, rt, h := &x.decision, x.decision.Route, out.Header
	out.URL = &d.URL
	switch rt.HostHeader {
	case "", "preserve":
		out.Host = d.location.hostPort
	case "upstream":
		out.Host = rt.target.url.Host
	default:
		out.Host = rt.HostHeader
	}

	forged = s.stripper.strip(h, x.peer.trusted)
	if cookies := h["Cookie"]; len(cookies) > 0 {
		if h["Cookie"] = withoutOwnCookies(cookies); len(h["Cookie"]) == 0 {
			delete(h, "Cookie")
		}
	}
	if d.Identity != nil && !d.FromCookie && !rt.ForwardToken {
		delete(h, "Authorization")
	}
	if !d.websocket {
		// Upgrade: h2c would tunnel requests past every rule here.
		delete(h, "Upgrade")
		delete(h, "Connection")
	}
	switch {
	case in.ContentLength == 0:
		delete(h, "Expect") // of nothing: RFC 9110, section 10.1.1, forbids it
	case h["Expect"] != nil:
		// An upstream that answers without 100 may not read the body any more, and
		// take it for the next request. With this there is none on that connection,
		// and http.Transport does not even send it.
		out.Close = true
	}
	s.passTrailers(out, in)

	setForwarded(h, in, x.peer, &d.location)
	h["X-Request-Id"] = x.id[:]
	if d.Identity != nil && rt.Access.Kind != config.AccessPublic {
		rt.identity.set(h, d.Identity)
		if x.assertion != "" {
			h[http.CanonicalHeaderKey(s.config.Identity.Assertion.Header)] = []string{x.assertion}
		}
	}
	if len(rt.remove) > 0 {
		for name := range h {
			if rt.remove[folded(name)] {
				delete(h, name)
			}
		}
	}
	for _, set := range rt.set {
		h[set.name] = []string{set.value}
	}
	return forged
}

// passTrailers lets announced trailers through that may pass. Their values are
// known when the body has been read.
func (s *Snapshot) passTrailers(out, in *http.Request) {
	out.Trailer = nil
	names := s.stripper.trailers(in.Trailer)
	if len(names) == 0 || out.Body == nil {
		return
	}
	out.Trailer = http.Header{}
	for _, name := range names {
		out.Trailer[name] = nil
	}
	out.Body = &atEOF{out.Body, func() {
		for _, name := range names {
			out.Trailer[name] = in.Trailer[name]
		}
	}}
}

// atEOF calls done when the body has been read to its end.
type atEOF struct {
	io.ReadCloser
	done func()
}

func (b *atEOF) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.done()
	}
	return n, err
}

// answer looks at what the upstream answered before the client sees any of it.
func (x *exchange) answer(res *http.Response) error {
	x.upstream = time.Since(x.forwarded)
	rt, h := x.decision.Route, res.Header
	switch {
	case res.StatusCode < 100 || res.StatusCode > 999:
		// net/http panics when asked to write such a status.
		return fmt.Errorf("upstream answered with status %d", res.StatusCode)
	case res.StatusCode == http.StatusSwitchingProtocols && !x.decision.websocket:
		return errors.New("upstream switched protocols unasked")
	}
	delete(h, "X-Request-Id")
	if x.snapshot.https {
		delete(h, "Strict-Transport-Security")
	}
	keepSetCookies(h)
	dropTrailers(res.Trailer)
	// More trailers may come with the body's end, announced or not.
	if res.StatusCode != http.StatusSwitchingProtocols && (res.ContentLength < 0 || res.ProtoMajor > 1) {
		res.Body = &atEOF{res.Body, func() { dropTrailers(res.Trailer) }}
	}
	if rt.cors != nil {
		rt.cors.apply(h, x.request.Header.Get("Origin"))
	}
	x.opened(kindOf(res), nil)
	for _, set := range rt.response {
		h[set.name] = []string{set.value}
	}
	return nil
}

// dropTrailers takes out of an upstream's trailers what it may not set.
func dropTrailers(trailer http.Header) {
	delete(trailer, "Set-Cookie")
	delete(trailer, "Set-Cookie2")
	delete(trailer, "Clear-Site-Data")
	delete(trailer, "X-Request-Id")
	delete(trailer, "Strict-Transport-Security")
}

// keepSetCookies leaves an upstream its own cookies, and none but those.
// Set-Cookie2 is that of RFC 2965, which Java still reads.
func keepSetCookies(h http.Header) {
	keepFields(h, "Set-Cookie", withoutOwnSetCookies)
	keepFields(h, "Set-Cookie2", withoutOwnSetCookies)
	keepFields(h, "Clear-Site-Data", withoutClearedCookies)
}

// keepFields leaves of the fields with that name what kept returns.
func keepFields(h http.Header, name string, kept func(fields []string) []string) {
	fields := h[name]
	if len(fields) == 0 {
		return
	}
	if h[name] = kept(fields); len(h[name]) == 0 {
		delete(h, name)
	}
}

// assert signs the assertion about the user where one is wanted.
func (x *exchange) assert() (err error) {
	s, d := x.snapshot, &x.decision
	a := s.config.Identity.Assertion
	if !a.Enabled || d.Identity == nil || d.Route.Access.Kind == config.AccessPublic {
		return nil
	}
	if s.assert == nil {
		return authn.ErrInternal.Because(errors.New("identity.assertion is enabled, but nothing signs it"))
	}
	x.assertion, err = s.assert(d.Identity, d.Route.Name, a.TTL)
	return err
}

// isWebsocket reports whether r asks for an upgrade to a websocket (RFC 6455,
// section 4.1), the only upgrade that is forwarded.
func isWebsocket(r *http.Request) bool {
	upgrade, version := r.Header["Upgrade"], r.Header["Sec-Websocket-Version"]
	return len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket") &&
		len(version) == 1 && version[0] == "13" && len(r.Header["Sec-Websocket-Key"]) == 1 &&
		r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && r.ProtoMajor == 1 && r.ContentLength == 0 &&
		httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
}
