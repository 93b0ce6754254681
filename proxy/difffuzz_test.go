package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"gatehouse/authn"
)

// Readings of a path that servers are known for, written down here once more
// and apart from readings.go: each takes what stands on the request line.
var servers = map[string]func(string) string{
	"plain":  func(p string) string { return p },
	"decode": percent,
	"twice":  func(p string) string { return percent(percent(p)) },
	"thrice": func(p string) string { return percent(percent(percent(p))) },
	"net/url": func(p string) string {
		if u, err := url.ParseRequestURI(p); err == nil {
			return u.Path
		}
		return p
	},
	"path.Clean": func(p string) string { return path.Clean(percent(p)) },
	"nginx":      func(p string) string { return slashes(dots(percent(p))) },
	// Tomcat cuts ;parameters before it decodes, Jetty and others after.
	"tomcat": func(p string) string { return dots(slashes(percent(parameters(p)))) },
	"jetty":  func(p string) string { return dots(parameters(percent(p))) },
	"spring": func(p string) string { return dots(slashes(percent(parameters(percent(p))))) },
	"iis": func(p string) string {
		return windows(strings.ToLower(dots(strings.ReplaceAll(unicodeEscapes(percent(p)), `\`, "/"))))
	},
	"iis twice": func(p string) string {
		return windows(strings.ToLower(dots(strings.ReplaceAll(percent(unicodeEscapes(percent(p))), `\`, "/"))))
	},
	"overlong":  func(p string) string { return dots(overlong(percent(p))) },
	"cut":       func(p string) string { p, _, _ = strings.Cut(percent(p), "\x00"); return p },
	"fragment":  func(p string) string { p, _, _ = strings.Cut(percent(p), "#"); return p },
	"query":     func(p string) string { p, _, _ = strings.Cut(percent(p), "?"); return p },
	"backslash": func(p string) string { return dots(strings.ReplaceAll(percent(p), `\`, "/")) },
	"folded":    func(p string) string { return strings.ToLower(percent(p)) },
	"upper":     func(p string) string { return strings.ToUpper(percent(p)) },
	"php":       func(p string) string { return slashes(parameters(percent(p))) + "/" }, // PATH_INFO begins anywhere
}

// percent decodes what is an escape and leaves the rest.
func percent(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		var v byte
		if p[i] == '%' && i+2 < len(p) {
			if n, err := fmt.Sscanf(p[i+1:i+3], "%02x", &v); n == 1 && err == nil && !strings.ContainsAny(p[i+1:i+3], " +-xX_") {
				b.WriteByte(v)
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// unicodeEscapes are IIS' %u002f.
func unicodeEscapes(p string) string {
	for i := 0; i+6 <= len(p); i++ {
		var r rune
		if p[i] != '%' || p[i+1] != 'u' && p[i+1] != 'U' || strings.Trim(p[i+2:i+6], "0123456789abcdefABCDEF") != "" {
			continue
		}
		if _, err := fmt.Sscanf(p[i+2:i+6], "%04x", &r); err == nil {
			p = p[:i] + string(r) + p[i+6:]
		}
	}
	return p
}

// overlong decodes two-byte forms of ASCII: C0 AF is a slash.
func overlong(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if (p[i] == 0xc0 || p[i] == 0xc1) && i+1 < len(p) {
			b.WriteByte(p[i]&1<<6 | p[i+1]&0x3f)
			i++
			continue
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func slashes(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	return p
}

// dots resolves dot segments as RFC 3986, section 5.2.4, does.
func dots(p string) string {
	var out []string
	all := strings.Split(p, "/")
	for i, s := range all {
		last := i == len(all)-1
		switch {
		case s == "." && last, s == ".." && last:
			if s == ".." && len(out) > 1 {
				out = out[:len(out)-1]
			}
			out = append(out, "")
		case s == ".":
		case s == "..":
			if len(out) > 1 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
		}
	}
	return strings.Join(out, "/")
}

func parameters(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

func windows(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		if trimmed := strings.TrimRight(segments[i], ". "); trimmed != "" {
			segments[i] = trimmed
		}
	}
	return strings.Join(segments, "/")
}

// covers tells, without the table, whether a route's path covers a decoded one.
func (rt *Route) covers(p string) bool {
	wanted, given := strings.Split(strings.Trim(rt.Path, "/"), "/"), strings.Split(strings.TrimPrefix(p, "/"), "/")
	if rt.Path == "/" {
		return true
	}
	if len(given) < len(wanted) {
		return false
	}
	for i, w := range wanted {
		if w != given[i] && (!strings.HasPrefix(w, "{") || given[i] == "") {
			return false
		}
	}
	return true
}

// owner is the route of a decoded path: the longest one that covers it.
func owner(routes []*Route, p string) *Route {
	var found *Route
	for _, rt := range routes {
		if rt.covers(p) && (found == nil || len(rt.Path) > len(found.Path)) {
			found = rt
		}
	}
	return found
}

// A server that does not care for case finds /Admin by /admin as well.
func TestRoutesWithCapitals(t *testing.T) {
	s := testSnapshot(t, `routes:
  - {path: /, access: public, upstream: 'http://127.0.0.1:1'}
  - {path: /Admin, upstream: 'http://127.0.0.1:1'}
`)
	for _, target := range []string{"/Admin/x", "/admin/x", "/ADMIN", "/%61dmin"} {
		r := &http.Request{Method: "GET", Host: "gw.example", RequestURI: target, URL: &url.URL{Path: target}, Header: http.Header{}}
		if d, err := s.Decide(r); authn.AsRefusal(err).Code != authn.ErrMissingToken.Code {
			t.Errorf("Decide(%q) = %v, %v, want missing_token", target, d.Route, err)
		}
	}
}

// FuzzServers: whatever a known server makes of the path that is forwarded
// belongs to the route that was decided, or to one whose access was satisfied as
// well. Nobody is signed in, so that any route that is not public was not.
func FuzzServers(f *testing.F) {
	words := []string{"admin", "public", "a", "API", "x.y", "ß"}
	for _, target := range []string{
		"/public/a", "/public//admin", "/public/%2e%2e/admin", "/public/..;/admin", "/public;/../admin", "/public/%252e%252e%252fadmin",
		"/a/admin;x=1", "/public/%u002e%u002e/admin", "/public/..%c0%afadmin", "/public%00/admin", "/public%23/../admin", "/PUBLIC/admin",
		"/public/x/..%5cadmin", "/a%2fadmin", "/%61dmin", "/a./admin ", "/public/admin%20", "/a;/admin", "//admin", "/.//admin", "/api/x.y/",
		"/public/%3f/../admin", "/adm%c4%b1n", "/%ef%bc%a1dmin", "/%25%36%31dmin", "/public/%2%65%2%65/admin", "/a%", "/%u0061dmin",
	} {
		for _, routes := range []uint32{0, 1, 0x01020304, 0x5a5a5a5a} {
			f.Add(target, routes)
		}
	}
	snapshots := map[uint32]*Snapshot{}
	f.Fuzz(func(t *testing.T, target string, seed uint32) {
		if !strings.HasPrefix(target, "/") || len(target) > 200 {
			return
		}
		seed %= 1 << 12 // each table is made once
		s := snapshots[seed]
		if s == nil {
			if s = randomTable(t, words, seed); len(snapshots) < 2000 {
				snapshots[seed] = s
			}
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", Host: "gw.example", RequestURI: target, URL: u, Header: http.Header{}, RemoteAddr: "192.0.2.1:1"}
		d, err := s.Decide(r)
		if err != nil {
			if authn.AsRefusal(err).Code == authn.ErrInternal.Code {
				t.Fatalf("Decide(%q): %v", target, err)
			}
			return
		}
		out, err := s.Outgoing(r, d)
		if err != nil {
			return // a preflight, or refused on the way
		}
		sent, _, _ := strings.Cut(out.URL.RequestURI(), "?")
		if got, _, _ := strings.Cut(target, "?"); sent != got {
			t.Fatalf("%q is forwarded as %q", target, sent)
		}
		for name, read := range servers {
			reading := read(sent)
			if !strings.HasPrefix(reading, "/") {
				reading = "/" + reading
			}
			if rt := owner(s.routes, reading); rt != nil && rt.Access.Kind != "public" {
				t.Fatalf("%q takes the public route %q without a credential, and %s reads it as %q, which is %q's (valid UTF-8: %v)",
					sent, d.Route.Path, name, reading, rt.Path, utf8.ValidString(reading))
			}
		}
	})
}

// randomTable has up to five routes, of one to three words each.
func randomTable(t testing.TB, words []string, seed uint32) *Snapshot {
	next := func(n uint32) uint32 {
		seed = seed*1664525 + 1013904223
		return (seed >> 8) % n
	}
	lines, seen := "", map[string]bool{}
	for range 2 + next(4) {
		p := ""
		for range 1 + next(3) {
			if word := next(uint32(len(words)) + 1); word < uint32(len(words)) {
				p += "/" + words[word]
			} else {
				p += "/all"
			}
		}
		if seen[p] {
			continue
		}
		seen[p] = true
		access := "public"
		if next(2) == 0 {
			access = "authenticated"
		}
		slashes := "refuse"
		if next(3) == 0 {
			slashes = "forward"
		}
		lines += fmt.Sprintf("  - {path: %q, access: %s, encoded_slashes: %s, upstream: 'http://127.0.0.1:1'}\n", p, access, slashes)
	}
	if next(2) == 0 {
		lines += "  - {path: /, access: public, upstream: 'http://127.0.0.1:1'}\n"
	}
	return testSnapshot(t, "routes:\n"+lines)
}
