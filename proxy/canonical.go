package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"gatehouse/authn"
)

// A location is the one form of a request's host and path. It is matched and
// it is forwarded; nothing looks at the request's own again.
type location struct {
	host     string // lower case, no port, no final dot
	hostPort string // host, and the port if the client named one
	path     string // as received, to the byte: percent-encoded, begins with "/"
	query    string // as received, without "?"
	hasQuery bool

	encodedSlash bool // some segment holds %2F
	doubledSlash bool // "//" somewhere
	odd          bool // readings beyond case folding are possible
	upper        bool // some letter is upper case
}

// maxOddPath bounds the work that one path can ask for. Paths with nothing odd
// in them are bounded by limits.header_bytes alone.
const maxOddPath = 4096

// locate reads the request's host and target.
func locate(r *http.Request) (location, error) {
	var loc location
	var err error
	if loc.host, loc.hostPort, err = canonicalHost(r.Host); err != nil {
		return loc, authn.ErrInvalidRequest.Saying("Invalid Host").Because(err)
	}
	target := r.RequestURI
	if target == "" { // a request that did not come from a server: explain, tests
		target = r.URL.RequestURI()
	}
	// RFC 9112, section 3.2.2: a server must take the absolute form. net/http
	// has already made its host the request's host.
	if target[0] != '/' {
		rest, ok := cutScheme(target)
		if !ok {
			return loc, badPath("target %q is not in origin form", target)
		}
		i := strings.IndexAny(rest, "/?")
		switch {
		case i < 0:
			target = "/"
		case rest[i] == '?':
			target = "/" + rest[i:]
		default:
			target = rest[i:]
		}
	}
	if strings.Contains(target, "#") {
		return loc, badPath("target has a raw %q", "#")
	}
	loc.path, loc.query, loc.hasQuery = strings.Cut(target, "?")
	return loc, loc.inspect()
}

func cutScheme(target string) (string, bool) {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) > len(scheme) && strings.EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return "", false
}

func badPath(format string, args ...any) error {
	return authn.ErrBadPath.Because(fmt.Errorf(format, args...))
}

// inspect refuses what no path may hold and notes what is odd about the rest.
//
// What is refused is read differently by different servers and has no honest
// use: dot segments (`/public/../admin`, `/public/%2e%2e/admin`), backslashes
// (`/public/..%5cadmin`), control bytes (`/admin%00.png`), bytes that occur in
// no UTF-8 (`/%c0%ae%c0%ae/admin`).
func (loc *location) inspect() error {
	p := loc.path
	segment := []byte(nil) // the decoded segment, as far as it could be a dot segment
	dots := true           // so far the segment is nothing but dots
	var last byte = '/'
	for i := 0; i < len(p); i++ {
		c, encoded := p[i], false
		if c == '%' {
			v, ok := unhex2(p[i+1:])
			if !ok {
				return badPath("invalid percent-encoding in %q", p)
			}
			c, encoded = v, true
			i += 2
		}
		switch {
		case c < 0x20 || c == 0x7f:
			return badPath("control byte %#02x", c)
		case c == '\\':
			return badPath("backslash in %q", p)
		case c == 0xc0 || c == 0xc1 || c >= 0xf5:
			return badPath("byte %#02x, which no UTF-8 has", c)
		}
		if c == '/' && !encoded {
			if dots && (len(segment) == 1 || len(segment) == 2) {
				return badPath("dot segment in %q", p)
			}
			if last == '/' && i > 0 {
				loc.doubledSlash, loc.odd = true, true
			}
			if last == '.' || last == ' ' {
				loc.odd = true
			}
			segment, dots, last = nil, true, c
			continue
		}
		switch {
		case c == '/':
			loc.encodedSlash, loc.odd = true, true
		case c == ';', c >= 0x80, encoded && (c == '%' || c == '#' || c == '?'):
			loc.odd = true
		case 'A' <= c && c <= 'Z':
			loc.upper = true
		}
		if dots = dots && c == '.'; dots && len(segment) < 3 {
			segment = append(segment, c)
		}
		last = c
	}
	if dots && (len(segment) == 1 || len(segment) == 2) {
		return badPath("dot segment in %q", p)
	}
	if last == '.' || last == ' ' {
		loc.odd = true
	}
	if loc.odd && len(p) > maxOddPath {
		return badPath("unusual path of %d bytes", len(p))
	}
	return nil
}

func unhex2(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, ok1 := unhex(s[0])
	lo, ok2 := unhex(s[1])
	return hi<<4 | lo, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unescape decodes every valid percent-escape and leaves the others as they
// are, as lenient servers do.
func unescape(s string) string {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for ; i < len(s); i++ {
		if v, ok := unhex2(s[i+1:]); ok && s[i] == '%' {
			b = append(b, v)
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// canonicalHost is the one spelling of a Host: `GW.Example.:0080` is
// gw.example with port 80. Other spellings of one host must not fall to
// another host's routes.
func canonicalHost(s string) (host, hostPort string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("host %q: %s", s, why)
	}
	if s == "" {
		return bad("missing")
	}
	if len(s) > 300 { // a name of 253 bytes, a port, and some
		return "", "", fmt.Errorf("host of %d bytes", len(s))
	}
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		name, port = s[:i], s[i+1:]
		if port != "" {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 || strings.TrimLeft(port, "0123456789") != "" {
				return bad("port out of range")
			}
			port = strconv.FormatUint(n, 10)
		}
	}
	if strings.HasPrefix(name, "[") {
		ip, err := netip.ParseAddr(strings.TrimSuffix(name[1:], "]"))
		if err != nil || !ip.Is6() || ip.Zone() != "" || !strings.HasSuffix(name, "]") {
			return bad("want an IPv6 address in brackets")
		}
		host = "[" + ip.String() + "]"
		return host, joinPort(host, port), nil
	}
	name = strings.TrimSuffix(name, ".")
	label := 0
	lower := true
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return bad("empty label")
			}
			label = 0
			continue
		case 'A' <= c && c <= 'Z':
			lower = false
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return bad("want letters, digits, hyphens and dots")
		}
		if label++; label > 63 {
			return bad("label over 63 bytes")
		}
	}
	if label == 0 {
		return bad("empty label")
	}
	host = name
	if !lower {
		host = strings.ToLower(name)
	}
	if host == s { // the usual case allocates nothing
		return host, host, nil
	}
	return host, joinPort(host, port), nil
}

func joinPort(host, port string) string {
	if port == "" {
		return host
	}
	return host + ":" + port
}
