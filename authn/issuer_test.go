package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/config"
)

// issuerBed is somebody else who issues tokens: a tokenBed whose JWK set is
// served, or written to a file.
type issuerBed struct {
	*tokenBed
	entry   config.TrustedIssuer
	fetches atomic.Int32
	server  *httptest.Server
	trusted *TrustedIssuers

	mu     sync.Mutex
	jwks   []byte
	answer http.HandlerFunc // nil: jwks
}

// serve changes what the issuer answers; nil for its JWK set.
func (b *issuerBed) serve(answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

// rotate gives the issuer other keys.
func (b *issuerBed) rotate(keys *KeySet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Keys, b.jwks = keys, keys.JWKS(time.Now())
}

func (b *issuerBed) publish(w http.ResponseWriter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Write(b.jwks)
}

func newIssuerBed(t *testing.T, algorithm string, change func(*config.TrustedIssuer)) *issuerBed {
	t.Helper()
	b := &issuerBed{tokenBed: newTokenBed(t, algorithm)}
	b.Issuer = "https://idp.example"
	b.jwks = b.Keys.JWKS(time.Now())
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.fetches.Add(1)
		b.mu.Lock()
		answer := b.answer
		b.mu.Unlock()
		if answer == nil {
			b.publish(w)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(b.server.Close)
	b.entry = config.TrustedIssuer{Issuer: b.Issuer, Audiences: []string{b.Audience}, JWKSURL: b.server.URL + "/jwks.json"}
	if change != nil {
		change(&b.entry)
	}
	b.trusted = b.open(t)
	return b
}

func (b *issuerBed) open(t *testing.T) *TrustedIssuers {
	t.Helper()
	cfg := &config.Config{Tokens: config.Tokens{Leeway: b.Leeway, Issuer: "https://gw.example", Audience: "gatehouse"}, TrustedIssuers: []config.TrustedIssuer{b.entry}}
	trusted, err := NewTrustedIssuers(cfg, func() time.Time { return b.at })
	if err != nil {
		t.Fatal(err)
	}
	return trusted
}

// token is a good one with changes; nil takes a member away. Header members
// are named "header.NAME".
func (b *issuerBed) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	header, claims := b.header(), b.claims()
	for name, v := range changes {
		into := claims
		if rest, ok := strings.CutPrefix(name, "header."); ok {
			into, name = header, rest
		}
		if into[name] = v; v == nil {
			delete(into, name)
		}
	}
	return signRaw(t, b.Keys.signer.joseKey, mustJSON(t, header), mustJSON(t, claims))
}

func (b *issuerBed) allow(t *testing.T, changes map[string]any) *Identity {
	t.Helper()
	id, err := b.trusted.Verify(context.Background(), b.token(t, changes))
	if err != nil {
		t.Errorf("Verify with %v: %v", changes, err)
		return &Identity{}
	}
	return id
}

func (b *issuerBed) deny(t *testing.T, changes map[string]any, cause string) {
	t.Helper()
	wantRefused(t, b.trusted, b.token(t, changes), cause)
}

type with = map[string]any

func TestTrustedIssuer(t *testing.T) {
	b := newIssuerBed(t, "RS256", nil)
	id := b.allow(t, nil)
	if id.Issuer != b.Issuer || id.ID != "u-ann" || id.Email != "ann@example.com" || id.Token != "id-1" || id.Session != "s-1" || id.Generation != 0 {
		t.Errorf("identity %+v, want ann of %s, without our generation", id, b.Issuer)
	}
	for _, typ := range []any{nil, "JWT", "jwt", "at+jwt", "application/at+jwt"} {
		b.allow(t, with{"header.typ": typ})
	}
	for _, typ := range []any{"", "id_token", "logout+jwt", "application/", "dpop+jwt", typAssertion, 1} {
		b.deny(t, with{"header.typ": typ}, "typ")
	}
	b.allow(t, with{"header.kid": nil})
	b.allow(t, with{"header.x5t": "abc", "header.jku": "http://127.0.0.1:1/", "header.x5c": []string{"MII"}, "header.x5t#S256": "x"})
	b.deny(t, with{"header.jwk": with{}}, "jwk")
	b.deny(t, with{"header.crit": []string{"exp"}}, "crit")
	b.deny(t, with{"header.kid": "other"}, "no key of the issuer fits")
	b.deny(t, with{"header.alg": "PS256"}, "is not for")
	b.deny(t, with{"header.alg": "HS256"}, "not allowed to sign")
	b.deny(t, with{"header.alg": "none"}, "not allowed to sign")

	bare := b.token(t, with{"jti": nil})
	one, err := b.trusted.Verify(context.Background(), bare)
	if err != nil || !strings.HasPrefix(one.Token, "sha256:") {
		t.Errorf("without jti: %+v, %v", one, err)
	}
	if other := b.allow(t, with{"jti": nil, "x": 1}); other.Token == one.Token {
		t.Error("two tokens without jti have one name")
	}
	b.deny(t, with{"jti": ""}, "jti")
	b.deny(t, with{"jti": "a b"}, "jti")
	b.deny(t, with{"sid": 7}, "sid")
	b.deny(t, with{"sub": nil}, "sub")
	b.deny(t, with{"exp": nil}, "exp")
	b.deny(t, with{"iat": nil}, "iat")
	b.deny(t, with{"exp": "9999999999"}, "exp")
	b.deny(t, with{"exp": json.Number("9999999999999")}, "exp is after the year 9999")
	b.deny(t, with{"aud": "somebody else"}, "aud")
	b.deny(t, with{"name": "a\nb"}, "control")
	b.deny(t, with{"address": with{"formatted": "a\x00b"}}, "control")
	b.deny(t, with{"SUB": "admin"}, "spelled oddly")
	b.deny(t, with{"iss": b.Issuer + "/"}, "issuer is not trusted")
	b.deny(t, with{"exp": b.at.Unix() - 30}, "expired")
	b.allow(t, with{"exp": b.at.Unix() - 29})

	for roles, want := range map[string]string{`["a","b"]`: "[a b]", `"admin"`: "[admin]", `""`: "[]", `null`: "[]"} {
		if id := b.allow(t, with{"roles": json.RawMessage(roles)}); fmt.Sprint(id.Roles) != want {
			t.Errorf("roles %s = %v, want %s", roles, id.Roles, want)
		}
	}
	for _, roles := range []string{`"a b"`, `"a,b"`, `[1]`, `{}`, `true`, `[""]`} {
		b.deny(t, with{"roles": json.RawMessage(roles)}, "roles")
	}
	if id := b.allow(t, with{"email": "Ann@Example.COM"}); id.Email != "ann@example.com" {
		t.Errorf("email %q, want its one spelling", id.Email)
	}
	for _, unverified := range []any{false, "false"} {
		if id := b.allow(t, with{"email_verified": unverified}); id.Email != "" {
			t.Errorf("email %q, want none: the issuer has not verified it", id.Email)
		}
	}
	for _, none := range []string{"", "ann", "@example.com", "ann@example.com,ceo@example.com", "Ann <ann@example.com>", "ann b@example.com", strings.Repeat("a", 300) + "@example.com"} {
		if id := b.allow(t, with{"email": none}); id.Email != "" {
			t.Errorf("email %q of the claim %q, want none: it is no address", id.Email, none)
		}
	}
	b.deny(t, with{"email": 1}, "email")
}

func TestClaimMapping(t *testing.T) {
	b := newIssuerBed(t, "ES256", func(c *config.TrustedIssuer) {
		c.Claims = config.ClaimMap{ID: "oid", Email: "upn", Name: "https://x.example/name", Roles: "realm_access.roles"}
	})
	mapped := with{"oid": "o-1", "upn": "a@b.example", "https://x.example/name": "A", "email_verified": false, "realm_access": with{"roles": []string{"ops"}}}
	id := b.allow(t, mapped)
	if id.ID != "o-1" || id.Email != "a@b.example" || id.Name != "A" || fmt.Sprint(id.Roles) != "[ops]" {
		t.Errorf("identity %+v, want the mapped claims", id)
	}
	mapped["realm_access.roles"] = []string{"literal"}
	if id := b.allow(t, mapped); fmt.Sprint(id.Roles) != "[literal]" {
		t.Errorf("roles %v, want those of the literal name", id.Roles)
	}
	b.deny(t, nil, "oid is missing")
	if id := b.allow(t, with{"oid": "o", "realm_access": "x"}); len(id.Roles) > 0 {
		t.Errorf("roles %v, want none", id.Roles)
	}
	b.deny(t, with{"oid": with{"a": 1}}, "oid is no string")
}

func TestAllowedAlgorithms(t *testing.T) {
	b := newIssuerBed(t, "ES256", func(c *config.TrustedIssuer) { c.Algorithms = []string{"RS256"} })
	b.deny(t, nil, "not allowed to sign")
	if b.fetches.Load() > 0 {
		t.Error("keys were fetched for a token that is refused by its header")
	}
	for _, algorithm := range []string{"HS256", "none", "", "ES256K"} {
		b.entry.Algorithms = []string{algorithm}
		if _, err := NewTrustedIssuers(&config.Config{TrustedIssuers: []config.TrustedIssuer{b.entry}}, nil); err == nil {
			t.Errorf("algorithms: [%q] is taken", algorithm)
		}
	}
}

func TestIssuerProblems(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := config.TrustedIssuer{Issuer: "https://idp.example", Audiences: []string{"a"}, JWKSURL: "https://idp.example/jwks"}
	for want, change := range map[string]func(*config.TrustedIssuer){
		"issuer is empty":        func(c *config.TrustedIssuer) { c.Issuer = "" },
		"this gateway itself":    func(c *config.TrustedIssuer) { c.Issuer = "https://gw.example" },
		"aud":                    func(c *config.TrustedIssuer) { c.Audiences = []string{""} },
		"either jwks_url":        func(c *config.TrustedIssuer) { c.JWKSURL = "" },
		"want either":            func(c *config.TrustedIssuer) { c.JWKSFile = "x" },
		"want a URL":             func(c *config.TrustedIssuer) { c.JWKSURL = "file:///etc/passwd" },
		"such as https://issuer": func(c *config.TrustedIssuer) { c.JWKSURL = "idp.example" },
		"no such file":           func(c *config.TrustedIssuer) { c.JWKSURL, c.JWKSFile = "", filepath.Join(dir, "none") },
		"JWK set: not a JSON":    func(c *config.TrustedIssuer) { c.JWKSURL, c.JWKSFile = "", file("a", "<html>") },
		`want a list "keys"`:     func(c *config.TrustedIssuer) { c.JWKSURL, c.JWKSFile = "", file("b", "{}") },
		"no usable key: keys[0]: a shared secret": func(c *config.TrustedIssuer) {
			c.JWKSURL, c.JWKSFile = "", file("c", `{"keys":[{"kty":"oct","k":"AA"}]}`)
		},
		"regular file":              func(c *config.TrustedIssuer) { c.JWKSURL, c.JWKSFile = "", dir },
		`"keys" stands there twice`: func(c *config.TrustedIssuer) { c.JWKSURL, c.JWKSFile = "", file("d", `{"keys":[],"keys":[]}`) },
	} {
		c := good
		change(&c)
		cfg := &config.Config{TrustedIssuers: []config.TrustedIssuer{c}, Tokens: config.Tokens{Issuer: "https://gw.example"}}
		_, err := NewTrustedIssuers(cfg, nil)
		var problems config.Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), want) {
			t.Errorf("NewTrustedIssuers = %v, want %q", err, want)
		}
	}
	if _, err := NewTrustedIssuers(&config.Config{TrustedIssuers: []config.TrustedIssuer{good, good}}, nil); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("NewTrustedIssuers = %v, want twice", err)
	}
}

func TestJWKSFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	b := newIssuerBed(t, "EdDSA", nil)
	object, err := readObject(b.Keys.JWKS(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	object["keys"] = append(object["keys"].([]any), with{"kty": "oct", "kid": "s", "k": "AAAA"}, "rubbish")
	if err := os.WriteFile(path, []byte(mustJSON(t, object)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.entry.JWKSURL, b.entry.JWKSFile = "", path
	b.trusted = b.open(t)
	b.allow(t, nil)
	b.deny(t, with{"header.kid": "other"}, "fits")
	if w := b.trusted.Warnings(); len(w) != 2 || !strings.Contains(w[0].Text, "shared secret") {
		t.Errorf("Warnings = %v, want the two skipped keys", w)
	}
	if b.fetches.Load() != 0 {
		t.Error("a jwks_file was fetched")
	}
}

// One JWK in many ways; which algorithms it may verify.
func TestParseJWK(t *testing.T) {
	rs, ec, ed := newTokenBed(t, "RS256"), newTokenBed(t, "ES256"), newTokenBed(t, "EdDSA")
	parse := func(b *tokenBed, changes map[string]any) ([]string, string) {
		t.Helper()
		object, err := readObject(b.Keys.JWKS(time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		m := object["keys"].([]any)[0].(map[string]any)
		for name, v := range changes {
			if m[name] = v; v == nil {
				delete(m, name)
			}
		}
		set, err := parseJWKS([]byte(mustJSON(t, object)))
		if err != nil {
			t.Fatal(err)
		}
		if len(set.keys) == 0 {
			return nil, set.skipped[0]
		}
		return set.keys[0].algorithms, ""
	}
	allow := func(b *tokenBed, changes map[string]any, want string) {
		t.Helper()
		if got, why := parse(b, changes); fmt.Sprint(got) != want {
			t.Errorf("key with %v is for %v %s, want %s", changes, got, why, want)
		}
	}
	deny := func(b *tokenBed, changes map[string]any, want string) {
		t.Helper()
		if got, why := parse(b, changes); got != nil || !strings.Contains(why, want) {
			t.Errorf("key with %v is for %v, %q, want %q", changes, got, why, want)
		}
	}
	allow(rs, nil, "[RS256]")
	allow(rs, with{"alg": nil}, "[PS256 PS384 PS512 RS256 RS384 RS512]")
	allow(rs, with{"use": nil, "key_ops": []string{"verify"}, "x5t": "x", "x5c": []string{"x"}, "n2": 1}, "[RS256]")
	allow(ec, with{"alg": nil}, "[ES256]")
	allow(ed, with{"alg": nil}, "[EdDSA]")
	for _, b := range []*tokenBed{rs, ec, ed} {
		deny(b, with{"use": "enc"}, "want sig")
		deny(b, with{"use": 1}, "use")
		deny(b, with{"key_ops": []string{"encrypt"}}, "verify")
		deny(b, with{"key_ops": "verify"}, "verify")
		deny(b, with{"alg": "HS256"}, "HS256")
		deny(b, with{"alg": "none"}, "none")
		deny(b, with{"alg": "RSA-OAEP"}, "RSA-OAEP")
		deny(b, with{"alg": 1}, "alg")
		deny(b, with{"kid": 1}, "kid")
		deny(b, with{"kty": "oct", "k": "AAAA"}, "secret")
		deny(b, with{"kty": "XYZ"}, "kty")
		deny(b, with{"kty": nil}, "kty")
		deny(b, with{"d": "AAAA"}, "private part")
		deny(b, with{"KTY": "RSA"}, "spelled oddly")
	}
	deny(rs, with{"alg": "ES256"}, "want one for ES256")
	for _, e := range []any{nil, "", "AA", "AQ", "Ag", "BA", "AQAAAAE", "AQAAAAAAAAAD", "AQAB=", "AQ\nAB", 65537} {
		deny(rs, with{"e": e}, "")
	}
	deny(rs, with{"n": "AQAB"}, "bits")
	deny(rs, with{"n": strings.Repeat("_", 2000)}, "bits")
	deny(ec, with{"crv": "P-384"}, "48")
	deny(ec, with{"crv": "secp256k1"}, "curve")
	deny(ec, with{"x": "AAAA"}, "3 bytes, want 32")
	deny(ec, with{"x": strings.Repeat("A", 43)}, "not on P-256")
	deny(ec, with{"y": nil}, "y")
	deny(ed, with{"crv": "X25519"}, "curve")
	deny(ed, with{"x": "AAAA"}, "3 bytes, want 32")
	many := `{"keys":[` + strings.Repeat("{},", maxKeys) + `{}]}`
	if _, err := parseJWKS([]byte(many)); err == nil {
		t.Error("a set of 513 keys is taken")
	}
}

func TestFindKey(t *testing.T) {
	a, b := newTokenBed(t, "ES256"), newTokenBed(t, "ES256")
	entry := func(bed *tokenBed, kid string) jwk {
		return jwk{kid: kid, hasKID: kid != "", algorithms: []string{"ES256"}, public: bed.Keys.signer.public}
	}
	find := func(set []jwk, h joseHeader) error {
		h.algorithm = "ES256"
		_, err := (&jwkSet{keys: set}).find(h)
		return err
	}
	named := joseHeader{kid: "k", hasKID: true}
	for name, c := range map[string]struct {
		set  []jwk
		h    joseHeader
		good bool
	}{
		"its kid":                  {[]jwk{entry(a, "j"), entry(b, "k")}, named, true},
		"kid twice":                {[]jwk{entry(a, "k"), entry(b, "k")}, named, false},
		"key without kid":          {[]jwk{entry(a, "")}, named, false},
		"neither has one":          {[]jwk{entry(a, "")}, joseHeader{}, true},
		"no kid, one key":          {[]jwk{entry(a, "k")}, joseHeader{}, true},
		"no kid, two keys":         {[]jwk{entry(a, "j"), entry(b, "k")}, joseHeader{}, false},
		"no kid, one of them fits": {[]jwk{{algorithms: []string{"RS256"}}, entry(b, "k")}, joseHeader{}, true},
		"nothing":                  {nil, joseHeader{}, false},
	} {
		if err := find(c.set, c.h); (err == nil) != c.good {
			t.Errorf("%s: %v, want found %v", name, err, c.good)
		}
	}
}
