package proxy

import (
	"net/http"
	"slices"
	"strings"

	"gatehouse/config"
)

// A stripper removes from client requests what only the gateway may say. Names
// are in the form of config.HeaderSpelling.
type stripper struct {
	identity map[string]bool // identity headers of every route
}

// What a header of a client may be to an upstream.
const (
	routing = iota + 1 // tells the upstream another path or method: never passes
	origin             // tells where the request came from: passes from trusted proxies
	framing            // means something to HTTP itself: passes in its one spelling only
)

var clientHeaders = map[string]int{
	"x-original-url":          routing,
	"x-original-uri":          routing,
	"x-rewrite-url":           routing,
	"x-http-method":           routing,
	"x-http-method-override":  routing,
	"x-method-override":       routing,
	"x-http-host-override":    routing,
	"x-http-path-override":    routing,
	"x-envoy-original-path":   routing,
	"x-middleware-subrequest": routing,
	"set-cookie":              routing,
	"http2-settings":          routing,
	"proxy":                   routing, // becomes HTTP_PROXY in CGI programs (CVE-2016-5385)

	"forwarded":                origin,
	"x-forwarded":              origin,
	"x-real-ip":                origin,
	"x-cluster-client-ip":      origin,
	"x-proxyuser-ip":           origin,
	"x-envoy-external-address": origin,
	"x-host":                   origin,
	"x-url-scheme":             origin,
	"front-end-https":          origin,
	"client-ip":                origin,
	"fastly-client-ip":         origin,
	"x-client-ip":              origin,
	"true-client-ip":           origin,
	"cf-connecting-ip":         origin,
	"cf-connecting-ipv6":       origin,
	"fly-client-ip":            origin,
	"remote-addr":              origin,
	"x-appengine-user-ip":      origin,
	"x-azure-clientip":         origin,
	"x-azure-socketip":         origin,
	"x-originating-ip":         origin,
	"x-remote-addr":            origin,
	"x-remote-ip":              origin,
	"x-scheme":                 origin,
	"x-request-id":             origin,

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
	for name := range h {
		key := folded(name)
		switch kind := clientHeader(key); {
		case s.identity[key]:
			forged = append(forged, name)
			delete(h, name)
		case kind == routing, kind == origin && !trusted, kind != 0 && !strings.EqualFold(name, key):
			delete(h, name)
		}
	}
	return forged
}

// folded is config.HeaderSpelling without the work for the names that nearly
// all requests have.
func folded(name string) string {
	if key, ok := commonHeaders[name]; ok {
		return key
	}
	return config.HeaderSpelling(name)
}

var commonHeaders = func() map[string]string {
	m := map[string]string{}
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "Content-Length",
		"Content-Type", "Cookie", "Dnt", "If-Modified-Since", "If-None-Match", "Origin", "Pragma", "Priority", "Range",
		"Referer", "Sec-Ch-Ua", "Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode",
		"Sec-Fetch-Site", "Sec-Fetch-User", "Te", "Upgrade-Insecure-Requests", "User-Agent", "X-Forwarded-For",
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id", "X-Requested-With",
	} {
		m[name] = config.HeaderSpelling(name)
	}
	return m
}()

// trailers returns the names of r's announced trailers that may pass: none
// that speaks of identity, framing, routing or credentials (RFC 9110, section
// 6.5.1).
func (s stripper) trailers(announced http.Header) []string {
	var names []string
	for name := range announced {
		key := config.HeaderSpelling(name)
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
	"set-cookie": true, "set-cookie2": true, "vary": true, "warning": true, "www-authenticate": true,
	"proxy-authenticate": true,
}
