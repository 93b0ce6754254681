package config

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"
)

const (
	time1s = time.Second
	time1h = time.Hour
	day    = 24 * time.Hour
)

func (v *validator) routes() {
	c := v.c
	if len(c.Routes) == 0 {
		v.bad("routes", "want at least one route", "the least that works has a path and an upstream")
	}
	identity, headers := c.IdentityNames(), c.IdentityHeaders(nil)
	for i := range c.Routes {
		rt, key := &c.Routes[i], fmt.Sprintf("routes[%d]", i)
		if v.skip(key) {
			continue
		}
		v.match(key, rt)
		v.access(key+".access", &rt.Access)
		v.upstreams(key+".upstream", rt.Upstream)
		v.forwarding(key, rt)
		v.identityHeaders(key+".identity_headers", rt.IdentityHeaders, headers)
		v.routeHeaders(key, rt, identity)
		v.cors(key+".cors", rt.CORS)
	}
	v.names()
}

// names gives routes their default names, host and path, and wants all names
// to differ. Routes that share host and path have their methods in front.
func (v *validator) names() {
	routes := v.c.Routes
	plain := make(map[string]int, len(routes))
	for i := range routes {
		plain[routes[i].Host+routes[i].Path]++
	}
	seen := make(map[string]int, len(routes))
	for i := range routes {
		rt, key := &routes[i], fmt.Sprintf("routes[%d]", i)
		given := v.given(key + ".name")
		switch {
		case given && (rt.Name == "" || len(rt.Name) > 200 || strings.TrimSpace(rt.Name) != rt.Name):
			v.bad(key+".name", "want 1 to 200 bytes without outer blanks", "")
		case !given:
			rt.Name = rt.Host + rt.Path
			if plain[rt.Name] > 1 && len(rt.Methods) > 0 {
				rt.Name = strings.Join(rt.Methods, ",") + " " + rt.Name
			}
		}
		first, twice := seen[rt.Name]
		if !twice {
			seen[rt.Name] = i
			continue
		}
		if v.skip(key+".name") || v.skip(key+".path") || v.skip(key+".host") {
			continue
		}
		line := v.c.At(fmt.Sprintf("routes[%d]", first)).Line
		if given {
			v.bad(key+".name", fmt.Sprintf("is the name of the route in line %d as well", line), "")
			continue
		}
		v.report(rt.Pos, fmt.Sprintf("%s: its name, made of host and path, is that of the route in line %d as well", key, line),
			"give one of them another path, methods or a name")
	}
}

// match checks what requests a route is for, and makes its host canonical.
func (v *validator) match(key string, rt *Route) {
	if v.given(key + ".host") {
		v.host(key+".host", rt)
	}
	if problem, hint := checkPath(rt.Path, rt.Exact); problem != "" {
		v.bad(key+".path", problem, hint)
	}
	if v.given(key + ".methods") {
		v.required(key+".methods", len(rt.Methods), "want at least one method", "leave the key out for all methods")
	}
	v.methods(key+".methods", rt.Methods)
}

func (v *validator) host(key string, rt *Route) {
	host, wildcard := strings.CutPrefix(rt.Host, "*.")
	canonical, ok := canonicalHost(host)
	if ok {
		rt.Host = canonical
		if wildcard {
			rt.Host = "*." + canonical
		}
		return
	}
	want, hint := "want a host such as app.example.com or *.example.com", ""
	_, port, hasPort := cutPort(rt.Host)
	switch {
	case rt.Host == "" || rt.Host == "*":
		hint = "leave the key out for any host"
	case strings.Contains(rt.Host, "://"):
		hint = "without scheme and path"
	case hasPort && strings.Trim(port, "0123456789") == "":
		hint = "without the port: hosts are compared without it"
	case strings.ContainsFunc(rt.Host, func(r rune) bool { return r > '~' }):
		hint = "clients send names of other scripts as xn--…, so write that"
	}
	v.bad(key, want, hint)
}

func (v *validator) methods(key string, methods []string) {
	for i, m := range methods {
		at := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case m == "CONNECT" || m == "TRACE":
			v.bad(at, "the gateway forwards no "+m, "")
		case m != strings.ToUpper(m) && isToken(m) && v.spells(at, m):
			v.bad(at, "want a method in capitals", fmt.Sprintf("did you mean %q?", strings.ToUpper(m)))
		case m != strings.ToUpper(m) || !isToken(m) || len(m) > 32:
			v.bad(at, "want a method in capitals, such as GET", "")
		}
	}
	v.unique(key, methods)
}

func (v *validator) access(key string, a *Access) {
	if v.skip(key) {
		return
	}
	words := []string{AccessPublic, AccessOptional, AccessAuthenticated}
	restricted := a.Kind == AccessRestricted
	if restricted {
		_, word := v.raw(key)
		restricted = !word
	}
	if !restricted {
		if !slices.Contains(words, a.Kind) {
			hint := ""
			if v.spells(key, a.Kind) {
				hint = didYouMean(a.Kind, words)
			}
			v.bad(key, "want "+accessWanted, hint)
		}
		return
	}
	given := 0
	for name, n := range map[string]int{"roles": len(a.Roles), "emails": len(a.Emails), "claims": len(a.Claims)} {
		if v.given(key + "." + name) {
			given++
			v.required(key+"."+name, n, "want at least one, or the key left out", "an empty list would let nobody in")
		}
	}
	if given == 0 && !v.failedBelow(key) {
		v.bad(key, "want roles, emails or claims in the mapping", "access: authenticated is for everybody who is signed in")
	}
	v.roleNames(key+".roles", a.Roles)
	for i, e := range a.Emails {
		a.Emails[i] = canonicalEmail(e)
		if name, domain, ok := strings.Cut(a.Emails[i], "@"); !ok || name == "" || domain == "" || strings.ContainsAny(domain, "@ ") {
			v.bad(fmt.Sprintf("%s.emails[%d]", key, i), "want an address such as ann@example.com", "")
		}
	}
	v.unique(key+".emails", a.Emails)
	for name := range a.Claims {
		if name == "" {
			v.bad(key+".claims", "want the name of a claim", "")
		}
	}
}

// canonicalEmail spells an address as authn does: lower case, NFC, no blanks
// around it.
func canonicalEmail(s string) string {
	return norm.NFC.String(strings.ToLower(norm.NFC.String(strings.TrimSpace(s))))
}

func (v *validator) upstreams(key string, list []Upstream) {
	v.required(key, len(list), "missing", "a URL such as http://127.0.0.1:3000, or echo: to see requests")
	if _, one := v.raw(key); one && len(list) == 1 {
		v.upstream(key, list[0].URL)
		return
	}
	for i, u := range list {
		at := fmt.Sprintf("%s[%d].url", key, i)
		if !v.given(at) {
			v.bad(at, "missing", "")
			continue
		}
		v.upstream(at, u.URL)
	}
}

func (v *validator) upstream(key, s string) {
	want := "want a URL such as http://localhost:3000"
	if s == "echo:" || strings.HasPrefix(s, "unix:/") || v.upstreamsSeen[s] {
		return
	}
	if strings.HasPrefix(s, "unix:") {
		v.bad(key, "want the path of a socket behind unix:", "")
		return
	}
	u, err := url.Parse(s)
	if strings.Contains(s, "@") {
		v.hidden[key] = true // it may hold a password
	}
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c" || u.Opaque != "":
		hint := ""
		if _, ok := canonicalAuthority(s, ""); ok && v.spells(key, s) {
			hint = fmt.Sprintf("did you mean %q?", "http://"+s)
		}
		v.bad(key, want, hint)
	case u.User != nil:
		v.bad(key, "want no user name or password in it", "set_headers can send an Authorization header")
	case strings.ContainsAny(s, "?#"):
		v.bad(key, "want no query and no fragment", "")
	case strings.ContainsAny(s, `%\;`) || u.Path != "" && u.Path != path.Clean(u.Path) && u.Path != path.Clean(u.Path)+"/":
		v.bad(key, "want a plain path, without dot segments, //, %, ; and \\", "")
	default:
		if _, ok := canonicalAuthority(u.Host, u.Scheme); !ok {
			v.bad(key, want, "")
			return
		}
		v.upstreamsSeen[s] = !strings.Contains(s, "@")
	}
}

func (v *validator) forwarding(key string, rt *Route) {
	if v.given(key + ".strip_prefix") {
		rt.StripPrefix = strings.TrimSuffix(rt.StripPrefix, "/")
		literal := literalPrefix(rt.Path)
		if p := rt.StripPrefix; p == "" || literal != p && !strings.HasPrefix(literal, p+"/") {
			v.bad(key+".strip_prefix", "want whole segments from the beginning of path, before any wildcard", "")
		}
	}
	if h := rt.HostHeader; h != "preserve" && h != "upstream" {
		words := []string{"preserve", "upstream"}
		if _, ok := canonicalAuthority(h, ""); !ok {
			v.bad(key+".host_header", "want preserve, upstream or the name of a host", "")
		} else if !strings.ContainsAny(h, ".:") && nearest(h, words) != "" && v.spells(key+".host_header", h) {
			v.bad(key+".host_header", "want preserve, upstream or the name of a host", didYouMean(h, words))
		}
	}
	v.lasts(key+".timeout", rt.Timeout, 0, 30*day)
}

// cors checks the rules of the Fetch standard that a browser would otherwise
// enforce by failing without a word.
func (v *validator) cors(key string, c CORS) {
	for i, o := range c.Origins {
		at := fmt.Sprintf("%s.origins[%d]", key, i)
		switch canonical, ok := serialOrigin(o); {
		case o == "*" && len(c.Origins) > 1:
			v.bad(at, "want * alone, or a list of origins", "")
		case o == "*" && c.Credentials:
			v.bad(at, "want the origins by name together with credentials", "browsers refuse * with credentials")
		case o == "*":
		case !ok:
			v.bad(at, "want an origin such as https://app.example.com, or *", "")
		case canonical != o:
			hint := fmt.Sprintf("did you mean %q?", canonical)
			if !v.spells(at, o) {
				hint = ""
			}
			v.bad(at, "want the origin as browsers send it", hint)
		}
	}
	v.unique(key+".origins", c.Origins)
	v.methods(key+".methods", c.Methods)
	for i, h := range c.Headers {
		if !validHeaderName(h) || h == "*" && c.Credentials {
			v.bad(fmt.Sprintf("%s.headers[%d]", key, i), "want the name of a header", "")
		}
	}
	v.unique(key+".headers", c.Headers)
	v.lasts(key+".max_age", c.MaxAge, 0, day)
	if len(c.Origins) > 0 || len(c.Methods) == 0 && len(c.Headers) == 0 && !c.Credentials {
		return
	}
	for _, name := range []string{"methods", "headers", "credentials", "max_age"} {
		if v.given(key+"."+name) && !v.skip(key+".origins") {
			v.bad(key+"."+name, "does nothing without origins", "")
			return
		}
	}
}

// serialOrigin is s as a browser would write it (RFC 6454, section 6.2).
func serialOrigin(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Opaque != "" ||
		u.Path != "" && u.Path != "/" || strings.ContainsAny(s, "?#") {
		return "", false
	}
	authority, ok := canonicalAuthority(u.Host, u.Scheme)
	return u.Scheme + "://" + authority, ok
}
