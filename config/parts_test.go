package config

import (
	"strings"
	"testing"
)

func TestParseTemplate(t *testing.T) {
	allow := func(s string, want ...Part) {
		t.Helper()
		got, err := ParseTemplate(s)
		if err != nil {
			t.Errorf("ParseTemplate(%q): %v", s, err)
		}
		equal(t, "ParseTemplate("+s+")", []Part(got), want)
	}
	deny := func(s, want string) {
		t.Helper()
		if got, err := ParseTemplate(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTemplate(%q) = %v, %v, want %q in the error", s, got, err, want)
		}
	}
	allow("")
	allow("{id}", Part{Field: "id"})
	allow("u-{id}: {name}!", Part{Text: "u-"}, Part{Field: "id"}, Part{Text: ": "}, Part{Field: "name"}, Part{Text: "!"})
	allow("{claim.a.b}{roles}", Part{Claim: "a.b"}, Part{Field: "roles"})
	allow("{claim.https://x.example/é}", Part{Claim: "https://x.example/é"})
	allow("{{}}{{id}}", Part{Text: "{}{id}"})
	allow("{{{email}}}", Part{Text: "{"}, Part{Field: "email"}, Part{Text: "}"})
	deny("{id", "not closed")
	deny("id}", "not opened")
	deny("{a{id}", "not closed")
	deny("{ID}", "unknown placeholder")
	deny("{}", "unknown placeholder")
	deny("{claim}", "unknown placeholder")
	deny("{claim.}", "unknown placeholder")
	deny("a\r\nX-Admin: 1", "printable ASCII")
	deny("é", "printable ASCII")
}

func TestClaimNames(t *testing.T) {
	c, err := Parse("gateway.yaml", []byte(`
identity: {headers: {X-Tenant: "{claim.tenant}", X-User: "{id}"}}
routes:
  - {path: /a, upstream: "echo:", access: {claims: {realm.level: 3}}, identity_headers: {X-Team: "{name} of {claim.team} in {claim.tenant}"}}
  - {path: /b, upstream: "echo:", identity_headers: {X-Tenant: "", X-Old: "{claim.old}"}}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "ClaimNames", c.ClaimNames(), []string{"old", "realm.level", "team", "tenant"})
}

func TestCheckPath(t *testing.T) {
	allow := func(path string, exact bool) {
		t.Helper()
		if problem, _ := checkPath(path, exact); problem != "" {
			t.Errorf("checkPath(%q, %v) = %q, want it accepted", path, exact, problem)
		}
	}
	deny := func(path string, exact bool) {
		t.Helper()
		if problem, _ := checkPath(path, exact); problem == "" {
			t.Errorf("checkPath(%q, %v) accepts it", path, exact)
		}
	}
	for _, p := range []string{"/", "/a", "/a/", "/.well-known", "/a.b/c-d_e~f", "/{a}/{b}", "/a/{rest...}", "/{rest...}", "/Grüße", "/a+b@c:d,e=f&g!$'()"} {
		allow(p, false)
	}
	allow("/a/", true)
	allow("/a/{id}", true)
	deny("/a/{rest...}", true)
	for _, p := range []string{
		"", "a", "//", "/a//", "//a", "/.", "/a/..", "/a/./b", "/%61", "/a?b", "/a#b", `/a\b`, "/a;b", "/a b", "/a\u00a0b", "/a\u200db",
		"/a.", "/{}", "/{a", "/a}", "/x{a}", "/{a}x", "/{a}{b}", "/{a...}/b", "/{a...}/", "/{$}", "/{1a}", "/{a.b}", "/{a}/{a}", "/{a}/{a...}", "/*", "/**",
		"/" + strings.Repeat("a", 2048), "/\xff",
	} {
		deny(p, false)
	}
}

func TestCanonicalHost(t *testing.T) {
	for s, want := range map[string]string{
		"App.Example.COM.": "app.example.com", "localhost": "localhost", "a_b.c": "a_b.c", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"10.0.0.1": "10.0.0.1", "[2001:DB8:0::1]": "[2001:db8::1]",
		"": "", ".": "", "a..b": "", "-a": "", "a-": "", "a b": "", "a:80": "", "::1": "", "[::1": "", "[10.0.0.1]": "", "[fe80::1%eth0]": "",
		"10.0.0.256": "", "1.2.3": "", "0x7f.1": "", "010.0.0.1": "", "é.example": "", "a/b": "", "a@b": "", "*.a": "",
		strings.Repeat("a", 64): "", strings.Repeat("a.", 127) + "bc": "",
	} {
		if got, ok := canonicalHost(s); got != want || ok != (want != "") {
			t.Errorf("canonicalHost(%q) = %q, %v, want %q", s, got, ok, want)
		}
	}
	for s, want := range map[string]string{
		"a": "a", "A:80": "a", "a:443": "a:443", "[::1]:8080": "[::1]:8080", "[::1]": "[::1]",
		"a:": "", "a:0": "", "a:080": "", "a:65536": "", "a:b": "", "::1": "", ":80": "", "[::1]80": "",
	} {
		if got, ok := canonicalAuthority(s, "http"); got != want || ok != (want != "") {
			t.Errorf("canonicalAuthority(%q) = %q, %v, want %q", s, got, ok, want)
		}
	}
}

func TestWeakness(t *testing.T) {
	allow := func(s string) {
		t.Helper()
		if problem := Secret(s).Weakness(); problem != "" {
			t.Errorf("Weakness of %q = %q, want it accepted", s, problem)
		}
	}
	deny := func(s string) {
		t.Helper()
		if Secret(s).Weakness() == "" {
			t.Errorf("Weakness of %q accepts it", s)
		}
	}
	allow("k7Vq2mXbR9tLw4ZsY1pN8cHf3JgD6aEu")
	allow("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
	allow("correct horse battery staple, and then some")
	allow("\x00\x01\x02\xff binary bytes are as good as any other")
	for _, s := range samples {
		deny(s)
		deny(strings.ToUpper(s))
		deny(s + s + s + s + s + s + s + s + s + s + s)
		deny("  " + s + "!!")
	}
	deny("")
	deny(strings.Repeat("a", 64))
	deny(strings.Repeat("ab12", 16))
	deny("k7Vq2mXbR9tLw4ZsY1pN8cHf3JgD6aE")
	deny(strings.Repeat("ab12Cd34", 3) + strings.Repeat("AB12cD34", 3))
	deny("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----")
	deny(`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78","e":"AQAB"}`)
	deny(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}]}`)
	deny("0101101001011010110100101101001011")
}

func TestNearest(t *testing.T) {
	list := []string{"access", "path", "public_url", "roles", "upstream", "set_headers", "id", "url"}
	for got, want := range map[string]string{
		"acess": "access", "acces": "access", "accses": "access", "Path": "path", "publicUrl": "public_url", "public-url": "public_url",
		"pubic_url": "public_url", "role": "roles", "upstraem": "upstream", "headers": "", "set_header": "set_headers", "uri": "url",
		"": "", "zzz": "", strings.Repeat("access", 20): "",
	} {
		if n := nearest(got, list); n != want {
			t.Errorf("nearest(%q) = %q, want %q", got, n, want)
		}
	}
}

func TestExpand(t *testing.T) {
	for s, want := range map[string]string{
		"a": "a", "$a": "$a", "$$a": "$$a", "{a}": "{a}", "${PORT}": "8081", "a${PORT}b${PORT}c": "a8081b8081c",
		"$${PORT}": "${PORT}", "$$${PORT}": "$${PORT}", "$${": "${", "${NOPE:-x}": "x", "${NOPE:-}": "", "${EMPTY:-x}": "x", "${EMPTY}": "",
		"${PORT:-x}": "8081", "${NOPE:-a:-b}": "a:-b", "${NOPE:-{a}": "{a",
	} {
		if got, _, problem := expand(s, false, environment); got != want || problem != "" {
			t.Errorf("expand(%q) = %q, %q, want %q", s, got, problem, want)
		}
	}
	for _, s := range []string{"${", "${PORT", "${}", "${1}", "${A-B}", "${A?}", "${ PORT}", "${NOPE}", "${NOPE:-${PORT}}", "a ${é}"} {
		if got, _, problem := expand(s, false, environment); problem == "" {
			t.Errorf("expand(%q) = %q, want a problem", s, got)
		}
	}
	// A variable that holds "${...}" is not looked at again.
	lookup := func(string) (string, bool) { return "${PORT}", true }
	if got, _, _ := expand("${A}", false, lookup); got != "${PORT}" {
		t.Errorf("expand looks into the value of a variable: %q", got)
	}
	if _, _, problem := expand("${A}", false, nil); problem != "variable A is not set" {
		t.Errorf("expand without lookup: %q", problem)
	}
}
