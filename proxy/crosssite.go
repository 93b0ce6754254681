package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"gatehouse/authn"
	"gatehouse/config"
)

// crossOrigin refuses what another site makes a browser do with the session
// cookie, by the rules of http.CrossOriginProtection: Fetch Metadata where the
// browser sends it, else Origin against Host. Neither header means that no
// browser is asking.
type crossOrigin struct{ rules *http.CrossOriginProtection }

// newCrossOrigin trusts the origin of public_url: behind a proxy that changes
// Host, it is the one name by which browsers know the gateway.
func newCrossOrigin(publicURL string) *crossOrigin {
	c := &crossOrigin{http.NewCrossOriginProtection()}
	if origin, ok := canonicalOrigin(publicURL); ok {
		// The only error is a malformed origin, which canonicalOrigin makes none of.
		_ = c.rules.AddTrustedOrigin(origin)
	}
	return c
}

// check is nil or ErrCrossOrigin. It is for requests whose identity came from
// the cookie, and for the gateway's own endpoints. websocket says that r opens a websocket: a GET, but one that a
// foreign page can read and write through, since CORS does not apply to it.
// Origins that the route's cors: shares credentials with are trusted.
func (c *crossOrigin) check(r *http.Request, websocket bool, shared *cors) error {
	origins := r.Header["Origin"]
	if len(origins) > 1 || len(r.Header["Sec-Fetch-Site"]) > 1 {
		return authn.ErrCrossOrigin.Because(errors.New("more than one Origin or Sec-Fetch-Site"))
	}
	if websocket {
		// To the rules a GET is safe whatever it opens.
		asPost := *r
		asPost.Method = http.MethodPost
		r = &asPost
	}
	err := c.rules.Check(r)
	if err == nil || len(origins) == 1 && shared.trusts(origins[0]) {
		return nil
	}
	return authn.ErrCrossOrigin.Because(err)
}

// canonicalOrigin is the serialised origin of a URL, as browsers write it into
// Origin: lower case, no default port (RFC 6454, section 6.2).
func canonicalOrigin(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		return "", false
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + strings.TrimSuffix(host, ":"), true
}

// cors is a route's cors:, compiled: the gateway speaks CORS (Fetch standard,
// section 3.3) for the upstream. nil leaves it to the upstream.
type cors struct {
	origins     map[string]bool // canonical
	anyOrigin   bool            // never together with credentials
	methods     []string
	anyMethod   bool
	headers     map[string]bool // lower case
	anyHeader   bool
	credentials bool
	allowed     struct{ methods, headers, maxAge string }
}

// compileCORS returns nil where there are no origins. "*" is allowed as an
// origin, but then credentials are not shared, as the Fetch standard has it;
// "null" is nobody, since any page can make itself a frame of that origin.
func compileCORS(cfg config.CORS) *cors {
	if len(cfg.Origins) == 0 {
		return nil
	}
	c := &cors{origins: map[string]bool{}, headers: map[string]bool{}, credentials: cfg.Credentials}
	for _, s := range cfg.Origins {
		if s == "*" {
			c.anyOrigin, c.credentials = true, false
			continue
		}
		if origin, ok := canonicalOrigin(s); ok {
			c.origins[origin] = true
		}
	}
	c.methods = cfg.Methods
	if len(c.methods) == 0 {
		// What a page may send without asking first.
		c.methods = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	}
	c.anyMethod = slices.Contains(c.methods, "*")
	for _, name := range cfg.Headers {
		c.headers[strings.ToLower(name)] = true
	}
	c.anyHeader = c.headers["*"]
	c.allowed.methods = strings.Join(c.methods, ", ")
	c.allowed.headers = strings.Join(cfg.Headers, ", ")
	c.allowed.maxAge = strconv.FormatInt(int64(cfg.MaxAge/time.Second), 10)
	return c
}

// trusts tells whether scripts of origin may use the user's cookie.
func (c *cors) trusts(origin string) bool {
	return c != nil && c.credentials && c.origins[origin]
}

func (c *cors) allows(origin string) bool {
	return origin != "" && (c.anyOrigin || c.origins[origin])
}

// preflightFor is the method that a preflight asks about, by which it has to be
// routed: the route of OPTIONS may be another one. "" if r is no preflight.
func preflightFor(r *http.Request) string {
	if r.Method != http.MethodOptions || len(r.Header["Origin"]) == 0 {
		return ""
	}
	return r.Header.Get("Access-Control-Request-Method")
}

// preflight answers a CORS preflight. It has no credentials, so it comes before
// authentication, and it says nothing to the upstream. is tells whether r was
// one; then answer is the header of the 204, or err is ErrCrossOrigin.
func (c *cors) preflight(r *http.Request) (answer http.Header, is bool, err error) {
	if c == nil {
		return nil, false, nil
	}
	method := preflightFor(r)
	if method == "" {
		return nil, false, nil
	}
	origins := r.Header["Origin"]
	if len(origins) > 1 || !c.allows(origins[0]) {
		return nil, true, refusePreflight("origin %q is not in cors.origins", origins)
	}
	if !isToken(method) || !c.anyMethod && !slices.Contains(c.methods, method) {
		return nil, true, refusePreflight("method %q is not in cors.methods", method)
	}
	asked := requestedHeaders(r.Header)
	for _, name := range asked {
		if !isToken(name) || !c.anyHeader && !c.headers[strings.ToLower(name)] {
			return nil, true, refusePreflight("header %q is not in cors.headers", name)
		}
	}
	answer = http.Header{}
	c.apply(answer, origins[0])
	for _, name := range [...]string{"Access-Control-Request-Method", "Access-Control-Request-Headers"} {
		addVary(answer, name)
	}
	answer.Set("Access-Control-Max-Age", c.allowed.maxAge)
	// With credentials "*" is no wildcard: name what was asked for.
	answer.Set("Access-Control-Allow-Methods", c.allowed.methods)
	if c.anyMethod {
		answer.Set("Access-Control-Allow-Methods", method)
	}
	switch {
	case c.anyHeader && len(asked) > 0:
		answer.Set("Access-Control-Allow-Headers", strings.Join(asked, ", "))
	case !c.anyHeader && c.allowed.headers != "":
		answer.Set("Access-Control-Allow-Headers", c.allowed.headers)
	}
	return answer, true, nil
}

// isToken tests the grammar of methods and field names: what is not one must not get
// into an answer that repeats it.
func isToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

func refusePreflight(format string, args ...any) error {
	return authn.ErrCrossOrigin.Because(fmt.Errorf("preflight: "+format, args...))
}

func requestedHeaders(h http.Header) []string {
	var names []string
	for _, line := range h["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// apply puts the route's CORS answer to origin, the request's Origin or "",
// into a response header. What the upstream said about CORS goes: browsers
// refuse doubled fields, and the configuration is what was asked for.
func (c *cors) apply(h http.Header, origin string) {
	if c == nil {
		return
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	if c.anyOrigin {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	// A shared cache must not give one origin's answer to another.
	addVary(h, "Origin")
	if !c.allows(origin) {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if c.credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// addVary adds name to Vary unless it is there (RFC 9110, section 12.5.5).
func addVary(h http.Header, name string) {
	for _, line := range h["Vary"] {
		for field := range strings.SplitSeq(line, ",") {
			field = strings.Trim(field, " \t")
			if field == "*" || strings.EqualFold(field, name) {
				return
			}
		}
	}
	h.Add("Vary", name)
}
