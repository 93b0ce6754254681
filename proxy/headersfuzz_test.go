package proxy

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"gatehouse/config"
)

// FuzzForwarded: who is no trusted proxy says nothing about where a request
// came from. A trusted one is believed as far back as addresses of trusted
// proxies reach without a gap, and not one step further; the next gateway,
// which trusts this one, believes the same.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"", "1.1.1.1, 10.2.2.2", "2001:db8::7,::1", "[2001:db8::7]:4711 , unknown,\t10.0.0.2:80", "::ffff:10.1.1.1, fe80::1%eth0, ",
		"10.0.0.9\n9.9.9.9, 10.0.0.8", "127.0.0.1,,10.0.0.1", "0x7f.1, 10.0.0.010, 1.1.1.1;10.0.0.1"} {
		f.Add(seed, "https", "gw.example")
	}
	f.Add("10.0.0.2", "http, https\nHTTP", "a, gw.example:8443, evil@x")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	const here = "10.255.0.1" // as the upstream sees the gateway
	f.Fuzz(func(t *testing.T, chain, proto, host string) {
		request := func(remote string) *http.Request {
			return &http.Request{RemoteAddr: remote, Header: http.Header{
				"X-Forwarded-For": strings.Split(chain, "\n"), "X-Forwarded-Proto": strings.Split(proto, "\n"),
				"X-Forwarded-Host": {host}, "X-Real-Ip": {chain}, "Forwarded": {"for=" + chain},
			}}
		}
		sent := func(r *http.Request) (peer, http.Header) {
			p, out := peerOf(r, trusted), http.Header{}
			setForwarded(out, r, p, &location{hostPort: "here.example"})
			return p, out
		}

		p, out := sent(request("192.0.2.1:5"))
		if p.trusted || p.secure || p.client.String() != "192.0.2.1" {
			t.Fatalf("a stranger with %q is %+v", chain, p)
		}
		for name, want := range map[string]string{"X-Forwarded-For": "192.0.2.1", "X-Real-Ip": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "here.example", "Forwarded": ""} {
			if got := strings.Join(out[name], "|"); got != want {
				t.Fatalf("of a stranger with %q, %s is %q, want %q", chain, name, got, want)
			}
		}

		p, out = sent(request("10.0.0.1:5"))
		if want := clientBehind(netip.MustParseAddr("10.0.0.1"), chain, trusted); p.client != want {
			t.Fatalf("peerOf(%q).client = %v, want %v", chain, p.client, want)
		}
		for hop := range strings.SplitSeq(out.Get("X-Forwarded-For"), ", ") {
			if _, err := netip.ParseAddr(hop); err != nil {
				t.Fatalf("X-Forwarded-For %q of %q has %q", out.Get("X-Forwarded-For"), chain, hop)
			}
		}
		if _, again, err := canonicalHost(out.Get("X-Forwarded-Host")); err != nil || again != out.Get("X-Forwarded-Host") {
			t.Fatalf("X-Forwarded-Host %q of %q is no host: %v", out.Get("X-Forwarded-Host"), host, err)
		}
		next := &http.Request{RemoteAddr: here + ":5", Header: out}
		if q := peerOf(next, trusted); q.client != p.client || q.secure != p.secure {
			t.Fatalf("of %q this gateway believes %+v, the next one %+v", chain, p, q)
		}
	})
}

// clientBehind is the rule once more, word by word from the right.
func clientBehind(client netip.Addr, chain string, trusted []netip.Prefix) netip.Addr {
	words := regexp.MustCompile("[,\n]").Split(chain, -1)
	for i := len(words) - 1; i >= 0 && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(client) }); i-- {
		word := strings.TrimFunc(words[i], unicode.IsSpace)
		addr, err := netip.ParseAddr(strings.Trim(word, "[]"))
		if err != nil {
			withPort, err := netip.ParseAddrPort(word)
			if err != nil {
				return client
			}
			addr = withPort.Addr()
		}
		client = addr.Unmap().WithZone("")
	}
	return client
}

// FuzzHeaderNames: what is left of a client's header, or trailer, is nobody's
// spelling of an identity header, of a header that frames, or of one of those
// that a stranger does not say; the gateway's own names pass as they are.
func FuzzHeaderNames(f *testing.F) {
	for _, name := range []string{"X-Forwarded-User", "X_Forwarded_User", "x-forwarded_groups", "Content_Length", "X-Real-IP", "X-Request.Id", "Authorization", "Accept", "X-App", "~Cookie", "Proxy", ""} {
		f.Add(name)
	}
	s := stripper{new(config.Config).IdentityNames()}
	f.Fuzz(func(t *testing.T, name string) {
		for _, trusted := range []bool{false, true} {
			h := http.Header{name: {"v"}}
			forged := s.strip(h, trusted)
			_, passed := h[name]
			identity := false
			for _, reading := range readingsOfName(name) {
				identity = identity || s.identity[reading]
				kind := clientHeaders[reading]
				if passed && (s.identity[reading] || kind == routing || kind == origin && !trusted || kind == framing && !strings.EqualFold(name, reading)) {
					t.Fatalf("strip lets %q pass, which reads as %s (trusted: %v)", name, reading, trusted)
				}
			}
			if passed && len(forged) > 0 || identity != (len(forged) == 1) {
				t.Fatalf("strip(%q) = %q, passed: %v", name, forged, passed)
			}
		}
		if passes := s.trailers(http.Header{name: nil}); len(passes) > 0 {
			for _, reading := range readingsOfName(name) {
				if s.identity[reading] || clientHeaders[reading] != 0 || strings.HasPrefix(reading, "x-forwarded-") || reading == "set-cookie" {
					t.Fatalf("trailer %q passes, which reads as %s", name, reading)
				}
			}
		}
	})
}

// readingsOfName are what CGI, WSGI and those who copy them make of a name.
func readingsOfName(name string) []string {
	dashed := func(keep string) string {
		return strings.Map(func(r rune) rune {
			if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(keep, r)) {
				return unicode.ToLower(r)
			}
			return '-'
		}, name)
	}
	return []string{strings.ToLower(name), strings.ReplaceAll(strings.ToLower(name), "_", "-"), dashed("."), dashed("")}
}

// FuzzCookieNames: whatever passes, in either direction, none who is easier to
// please than the gateway finds one of its cookies there.
func FuzzCookieNames(f *testing.F) {
	for _, seed := range []string{"a=b; gatehouse=x", "gatehouse=x; Path=/", "=gatehouse=x", " ; gatehouse=x", "\"gatehouse\"=x", "\u2000gatehouse=x", "__Host-gatehouse-refresh =x",
		"a=b, gatehouse=x; Path=/", "a=b; Expires=Wed, 21 Oct 2015 07:28:00 GMT, __Host-gatehouse=x", "GATEHOUSE", "$Version=1; gatehouse=\"x\"", "a=\"b; gatehouse=x\"", "\tgatehouse\t=x", ";;a=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		for _, left := range withoutOwnCookies([]string{field}) {
			found := cookieNames(strings.Split(left, ";"))
			for _, c := range (&http.Request{Header: http.Header{"Cookie": {left}}}).Cookies() {
				found = append(found, c.Name)
			}
			if i := slices.IndexFunc(found, isOwnName); i >= 0 {
				t.Fatalf("withoutOwnCookies(%q) = %q, with %q", field, left, found[i])
			}
		}
		for _, left := range withoutOwnSetCookies([]string{field}) {
			// Some join and part several lines at commas.
			found := cookieNames(regexp.MustCompile("^[; \t]*").Split(left, 2))
			for line := range strings.SplitSeq(left, ",") {
				pair, _, _ := strings.Cut(strings.TrimLeft(line, "; \t"), ";")
				found = append(found, cookieNames([]string{pair})...)
			}
			for _, c := range (&http.Response{Header: http.Header{"Set-Cookie": {left}}}).Cookies() {
				found = append(found, c.Name)
			}
			if i := slices.IndexFunc(found, isOwnName); i >= 0 {
				t.Fatalf("withoutOwnSetCookies(%q) = %q, with %q", field, left, found[i])
			}
		}
	})
}

// cookieNames are the names that lenient servers and browsers see in pairs:
// without blanks, control bytes and quotes around them, and without an "=" that
// leads.
func cookieNames(pairs []string) (names []string) {
	for _, pair := range pairs {
		pair = strings.TrimLeft(pair, "= \t\"")
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name, strings.TrimSpace(name),
			strings.Trim(strings.TrimFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), `"`))
	}
	return names
}

func isOwnName(name string) bool {
	for _, own := range []string{"gatehouse", "gatehouse-refresh", "gatehouse-known"} {
		if name = strings.ToLower(name); name == own || name == "__host-"+own {
			return true
		}
	}
	return false
}
