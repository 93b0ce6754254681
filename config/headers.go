package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// HeaderSpelling is what all spellings of a header name have in common that
// some upstream takes for the same: lower case, "-" for every byte that is no
// letter or digit. CGI and WSGI turn "X-User" and "X_User" into one variable.
func HeaderSpelling(name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			b[i] = '-'
		}
	}
	return string(b)
}

// IdentityHeaders are the headers, by name, that tell the upstream of rt who
// the user is: identity.headers or else the defaults, changed by the route's
// own. nil stands for a route without any of its own. An empty template of the
// route has dropped its header.
func (c *Config) IdentityHeaders(rt *Route) map[string]string {
	headers := maps.Clone(c.Identity.Headers)
	if len(headers) == 0 {
		headers = DefaultIdentityHeaders()
	}
	if rt == nil {
		return headers
	}
	for name, template := range rt.IdentityHeaders {
		maps.DeleteFunc(headers, func(k, _ string) bool { return HeaderSpelling(k) == HeaderSpelling(name) })
		if template != "" {
			headers[name] = template
		}
	}
	return headers
}

// IdentityNames are the spellings of every header that is about identity in
// this configuration: the default ones, all configured ones and the
// assertion's. None of them may come from a client, on any route.
func (c *Config) IdentityNames() map[string]bool {
	names := map[string]bool{HeaderSpelling(c.Identity.Assertion.Header): true}
	add := func(headers map[string]string) {
		for name := range headers {
			names[HeaderSpelling(name)] = true
		}
	}
	add(DefaultIdentityHeaders())
	add(c.Identity.Headers)
	for i := range c.Routes {
		add(c.Routes[i].IdentityHeaders)
	}
	return names
}

func validHeaderName(s string) bool { return s != "" && len(s) <= 128 && isToken(s) }

// isToken is the token rule of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func validHeaderValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

var (
	// connectionHeaders frame a message or belong to one connection
	// (RFC 9110, section 7.6.1). Nobody may set them by configuration.
	connectionHeaders = []string{
		"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
		"te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect", "host", "http2-settings",
	}
	// clientHeaders mean something to every app. As names of identity headers
	// they would be taken away from all requests.
	clientHeaders = []string{
		"accept", "accept-encoding", "accept-language", "authorization", "content-encoding", "content-type",
		"cookie", "date", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
		"origin", "range", "referer", "set-cookie", "user-agent", "www-authenticate",
	}
	// gatewayHeaders are the gateway's own or those it takes from clients.
	gatewayHeaders = []string{
		"forwarded", "proxy", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-method", "x-forwarded-port",
		"x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-uri",
		"x-http-method", "x-http-method-override", "x-method-override", "x-real-ip", "x-request-id",
	}
)

// identityName says why name cannot carry an identity, "" if it can.
func identityName(name string) string {
	s := HeaderSpelling(name)
	switch {
	case !validHeaderName(name):
		return "want the name of a header (RFC 9110)"
	case slices.Contains(connectionHeaders, s):
		return "want a header that does not belong to the connection"
	case slices.Contains(clientHeaders, s), strings.HasPrefix(s, "sec-"), strings.HasPrefix(s, "access-control-"):
		return "want a header that clients have no other use for"
	case slices.Contains(gatewayHeaders, s), strings.HasPrefix(s, "x-original-"), strings.HasPrefix(s, "x-rewrite-"):
		return "want a header that the gateway does not set itself"
	}
	return ""
}

func (v *validator) identity() {
	id := v.c.Identity
	v.identityHeaders("identity.headers", id.Headers, nil)
	for name, template := range id.Headers {
		if key := "identity.headers." + name; template == "" {
			v.bad(key, "want a template such as {email}", "")
		}
	}
	key := "identity.assertion.header"
	if problem := identityName(id.Assertion.Header); problem != "" {
		v.bad(key, problem, "")
	}
	for name := range v.c.IdentityHeaders(nil) {
		if HeaderSpelling(name) != HeaderSpelling(id.Assertion.Header) {
			continue
		}
		at := key
		if header := "identity.headers." + name; v.given(header) && !v.given(key) {
			at = header
		}
		v.bad(at, "is both an identity header and the header of identity.assertion", "")
	}
	v.lasts("identity.assertion.ttl", id.Assertion.TTL, time1s, time1h)
	sep := id.RolesSeparator
	if len(sep) != 1 || sep[0] < ' ' || sep[0] > '~' || sep == "%" || isToken(sep) && strings.Trim(sep, pathLetters) == "" {
		v.bad("identity.roles_separator", "want one character such as , or |", "no letter, digit, %, or one of -._~")
	}
}

// identityHeaders checks names and templates. over are the headers that these
// change: a name that differs from theirs only in spelling would not override
// but double it.
func (v *validator) identityHeaders(key string, headers, over map[string]string) {
	spelled := map[string]string{}
	for _, name := range v.inOrder(key, headers) {
		at := key + "." + name
		if problem := identityName(name); problem != "" {
			v.bad(at, problem, "")
			continue
		}
		s := HeaderSpelling(name)
		if first, twice := spelled[s]; twice {
			v.bad(at, fmt.Sprintf("is another spelling of %q", first), "")
		}
		spelled[s] = name
		for other := range over {
			if HeaderSpelling(other) == s && !strings.EqualFold(other, name) {
				v.bad(at, fmt.Sprintf("is another spelling of %q", other), "")
			}
		}
		if over != nil && s == HeaderSpelling(v.c.Identity.Assertion.Header) {
			v.bad(at, "is both an identity header and the header of identity.assertion", "")
		}
		_, err := ParseTemplate(headers[name])
		var unknown *placeholderError
		switch {
		case errors.As(err, &unknown) && v.spells(at, headers[name]):
			v.bad(at, unknown.Error(), unknown.hint())
		case errors.As(err, &unknown):
			v.bad(at, "want {id}, {email}, {name}, {roles} or {claim.NAME}", "")
		case err != nil:
			v.bad(at, err.Error(), "")
		}
	}
}

// routeHeaders checks what a route does to headers besides identity. Values
// are never shown: set_headers is where the credential of an app stands.
func (v *validator) routeHeaders(key string, rt *Route, identity map[string]bool) {
	v.headers(key+".set_headers", rt.SetHeaders, func(name string) string {
		return notIdentity(name, identity)
	})
	v.headers(key+".response_headers", rt.ResponseHeaders, func(name string) string {
		switch HeaderSpelling(name) {
		case "set-cookie", "x-request-id":
			return "want a header that the gateway does not set itself"
		}
		return ""
	})
	seen := map[string]bool{}
	for i, name := range rt.RemoveHeaders {
		at := fmt.Sprintf("%s.remove_headers[%d]", key, i)
		switch problem := notIdentity(name, identity); {
		case !validHeaderName(name):
			v.bad(at, "want the name of a header (RFC 9110)", "")
		case slices.Contains(connectionHeaders, HeaderSpelling(name)):
			v.bad(at, "want a header that does not belong to the connection", "")
		case problem != "":
			v.bad(at, problem, "")
		case seen[strings.ToLower(name)]:
			v.bad(at, "stands twice in the list", "")
		}
		seen[strings.ToLower(name)] = true
	}
}

func notIdentity(name string, identity map[string]bool) string {
	if identity[HeaderSpelling(name)] {
		return "want no identity header here: identity_headers changes those"
	}
	return ""
}

func (v *validator) headers(key string, headers map[string]string, rule func(name string) string) {
	seen := map[string]string{}
	for _, name := range v.inOrder(key, headers) {
		at := key + "." + name
		problem := rule(name)
		switch first, twice := seen[strings.ToLower(name)]; {
		case !validHeaderName(name):
			v.badName(at, "want the name of a header (RFC 9110)")
		case slices.Contains(connectionHeaders, HeaderSpelling(name)):
			v.badName(at, "want a header that does not belong to the connection")
		case problem != "":
			v.badName(at, problem)
		case twice:
			v.badName(at, fmt.Sprintf("is another spelling of %q", first))
		case !validHeaderValue(headers[name]):
			v.badName(at, "want a value of printable ASCII without outer blanks")
		}
		seen[strings.ToLower(name)] = name
	}
}

// inOrder are the names of a mapping in the order of the file.
func (v *validator) inOrder(key string, headers map[string]string) []string {
	if len(headers) == 0 {
		return nil
	}
	at := make(map[string]Position, len(headers))
	for name := range headers {
		at[name], _ = v.at(key + "." + name)
	}
	return slices.SortedFunc(maps.Keys(headers), func(a, b string) int {
		return byPosition(Problem{Pos: at[a]}, Problem{Pos: at[b]})
	})
}

// badName is bad about a name: the value is beside the point.
func (v *validator) badName(key, want string) {
	if !v.skip(key) {
		v.report(v.c.At(key), key+": "+want, "")
		v.failed[key] = true
	}
}
