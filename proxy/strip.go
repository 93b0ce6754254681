package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// A stripper removes from client requests what only the gateway may say. Its
// names are in the form of spelling.
type stripper struct {
	identity map[string]bool // identity headers of every route
}

func newStripper(names []string) stripper {
	s := stripper{map[string]bool{}}
	for name := range defaultIdentityHeaders {
		s.identity[spelling(name)] = true
	}
	for _, name := range names {
		s.identity[spelling(name)] = true
	}
	return s
}

// What a header of a client may be to an upstream.
const (
	routing = iota + 1 // tells the upstream another path or method: never passes
	origin             // tells where the request came from: passes from trusted proxies
	framing            // means something to HTTP itself: passes in its one spelling only
)

var clientHeaders = map[string]int{
	"x-original-url":         routing,
	"x-original-uri":         routing,
	"x-rewrite-url":          routing,
	"x-http-method":          routing,
	"x-http-method-override": routing,
	"x-method-override":      routing,
	"proxy":                  routing, // becomes HTTP_PROXY in CGI programs (CVE-2016-5385)

	"forwarded":        origin,
	"x-real-ip":        origin,
	"x-client-ip":      origin,
	"true-client-ip":   origin,
	"cf-connecting-ip": origin,
	"x-request-id":     origin,

	"authorization":       framing,
	"connection":          framing,
	"content-encoding":    framing,
	"content-length":      framing,
	"content-type":        framing,
	"cookie":              framing,
	"expect":              framing,
	"host":                framing,
	"keep-alive":          framing,
	"proxy-authorization": framing,
	"proxy-connection":    framing,
	"te":                  framing,
	"trailer":             framing,
	"transfer-encoding":   framing,
	"upgrade":             framing,
}

func clientHeader(key string) int {
	if kind := clientHeaders[key]; kind != 0 {
		return kind
	}
	for _, prefix := range []string{"x-forwarded-", "x-original-", "x-rewrite-"} {
		if strings.HasPrefix(key, prefix) {
			return origin
		}
	}
	return 0
}

// strip removes headers from h and returns the names of those that spoke of
// identity.
func (s stripper) strip(h http.Header, trusted bool) (forged []string) {
	var buf [64]byte
	for name := range h {
		if len(name) > len(buf) {
			if key := spelling(name); s.identity[key] || clientHeader(key) != 0 {
				delete(h, name)
			}
			continue
		}
		key := buf[:len(name)]
		spell(key, name)
		if s.identity[string(key)] {
			forged = append(forged, name)
			delete(h, name)
			continue
		}
		kind := clientHeaders[string(key)]
		if kind == 0 && key[0] == 'x' {
			kind = clientHeader(string(key))
		}
		odd := kind != 0 && !strings.EqualFold(name, string(key))
		if odd || kind == routing || kind == origin && !trusted {
			delete(h, name)
		}
	}
	return forged
}

// trailers returns the names of r's announced trailers that may pass: none
// that speaks of identity, framing, routing or credentials (RFC 9110, section
// 6.5.1).
func (s stripper) trailers(announced http.Header) []string {
	var names []string
	for name := range announced {
		key := spelling(name)
		if s.identity[key] || clientHeader(key) != 0 || forbiddenTrailers[key] {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var forbiddenTrailers = map[string]bool{
	"age": true, "cache-control": true, "content-range": true, "date": true, "expires": true,
	"location": true, "max-forwards": true, "pragma": true, "range": true, "retry-after": true,
	"set-cookie": true, "vary": true, "warning": true, "www-authenticate": true,
	"proxy-authenticate": true, "www-authorization": true,
}
