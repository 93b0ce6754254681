package main

import (
	"testing"

	"gatehouse/config"
)

func TestMoreOpen(t *testing.T) {
	word := func(kind string) config.Access { return config.Access{Kind: kind} }
	public, optional, signedIn := word(config.AccessPublic), word(config.AccessOptional), word(config.AccessAuthenticated)
	roles := func(roles ...string) config.Access {
		return config.Access{Kind: config.AccessRestricted, Roles: roles}
	}
	emails := config.Access{Kind: config.AccessRestricted, Emails: []string{"ann@example.com"}}
	both := config.Access{Kind: config.AccessRestricted, Emails: []string{"ann@example.com"}, Roles: []string{"admin"}}
	claim := func(v any) config.Access {
		return config.Access{Kind: config.AccessRestricted, Claims: map[string]any{"level": v}}
	}
	for _, c := range []struct {
		name string
		a, b config.Access
		want bool
	}{
		{"public, signed in", public, signedIn, true},
		{"optional, signed in", optional, signedIn, true},
		{"public, optional", public, optional, false},
		{"signed in, public", signedIn, public, false},
		{"signed in, roles", signedIn, roles("admin"), true},
		{"roles, signed in", roles("admin"), signedIn, false},
		{"same roles", roles("a", "b"), roles("b", "a"), false},
		{"fewer roles", roles("a"), roles("a", "b"), false},
		{"more roles", roles("a", "b"), roles("a"), true},
		{"e-mails, roles", emails, roles("admin"), true},
		{"both, roles", both, roles("admin"), false},
		{"roles, both", roles("admin"), both, true},
		{"same claim", claim("gold"), claim("gold"), false},
		{"another claim", claim("silver"), claim("gold"), true},
		{"claim of another type", claim(int64(1)), claim("1"), true},
	} {
		if got := moreOpen(c.a, c.b); got != c.want {
			t.Errorf("%s: moreOpen = %t, want %t", c.name, got, c.want)
		}
	}
}

// FuzzRequestOf: what is taken from the command line is a request that a server
// could have read, to the byte.
func FuzzRequestOf(f *testing.F) {
	f.Add("GET", "/a%2fb?x=1", "X-A: b")
	f.Add("OPTIONS", "*", "Host: other")
	f.Add("GET", "https://example.com?x", "nonsense")
	f.Add("GET", "http://[::1]:80/%zz#frag", ": x")
	f.Add("G T", "ftp://x/", "A: b\r\nC: d")
	f.Fuzz(func(t *testing.T, method, target, line string) {
		r, err := requestOf("http://localhost:8080", method, target, []string{line})
		if err != nil {
			return
		}
		if r.RequestURI != "*" && r.RequestURI[0] != '/' || r.URL == nil || !isToken.MatchString(r.Method) {
			t.Errorf("requestOf(%q, %q) = %q %q", method, target, r.Method, r.RequestURI)
		}
		for name, values := range r.Header {
			for _, value := range values {
				if !isToken.MatchString(name) || controlsIn(value) {
					t.Errorf("header %q: %q", name, value)
				}
			}
		}
		if target[0] == '/' && (r.RequestURI != target || r.TLS != nil) {
			t.Errorf("requestOf(%q) asks for %q", target, r.RequestURI)
		}
	})
}

func controlsIn(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
