package authn

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/config"
)

// tokenBed is a set of our own tokens under a clock that the test moves.
type tokenBed struct {
	*Tokens
	at time.Time
}

func newTokenBed(t testing.TB, algorithm string) *tokenBed {
	t.Helper()
	cfg := &config.Config{DataDir: t.TempDir(), Tokens: config.Tokens{Algorithm: algorithm}}
	if algorithms[algorithm].family == "RSA" {
		// To make one takes a second; all tests share it.
		path := filepath.Join(cfg.DataDir, "rsa.pem")
		if err := os.WriteFile(path, rsaPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Tokens.Keys = []config.Key{{ID: "rsa", Algorithm: algorithm, PrivateKeyFile: path}}
	}
	keys, err := LoadKeys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &tokenBed{at: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	b.Tokens = &Tokens{
		Keys: keys, Issuer: "https://gw.example", Audience: "gatehouse",
		TTL: time.Hour, Leeway: 30 * time.Second, Now: func() time.Time { return b.at },
	}
	return b
}

var rsaPEM = sync.OnceValue(func() []byte {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
})

var ann = User{ID: "u-ann", Email: "ann@example.com", Name: "Ann", Roles: []string{"user", "ops"}, Generation: 3}

func (b *tokenBed) issue(t testing.TB) string {
	t.Helper()
	token, _, err := b.Issue(ann, "s-1", b.TTL)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// header and claims are those of a good token, for forgeries to change.
func (b *tokenBed) header() map[string]any {
	return map[string]any{"alg": b.Keys.signer.algorithm, "kid": b.Keys.signer.id, "typ": "at+jwt"}
}

func (b *tokenBed) claims() map[string]any {
	now := b.at.Unix()
	return map[string]any{
		"iss": b.Issuer, "sub": "u-ann", "aud": b.Audience, "exp": now + 3600, "iat": now, "nbf": now,
		"jti": "id-1", "email": "ann@example.com", "name": "Ann", "roles": []string{"user"}, "sid": "s-1", "gen": 1,
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// signRaw signs whatever is given, as somebody with the key could.
func signRaw(t testing.TB, k *joseKey, header, payload string) string {
	t.Helper()
	token, err := k.sign([]byte(header), []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// wantRefused wants ErrInvalidToken with cause in its cause.
func wantRefused(t *testing.T, v Verifier, token, cause string) {
	t.Helper()
	id, err := Join([]Verifier{v}).Verify(context.Background(), token)
	if id != nil || !errors.Is(err, ErrInvalidToken) {
		t.Errorf("Verify(%.200q) = %v, %v, want ErrInvalidToken", token, id, err)
		return
	}
	if got := AsRefusal(err).Cause(); !strings.Contains(got, cause) {
		t.Errorf("Verify(%.200q): cause %q, want %q in it", token, got, cause)
	}
}

func TestIssueVerify(t *testing.T) {
	for _, algorithm := range ourAlgorithms() {
		t.Run(algorithm, func(t *testing.T) {
			b := newTokenBed(t, algorithm)
			token, issued, err := b.Issue(ann, "s-1", b.TTL)
			if err != nil {
				t.Fatal(err)
			}
			id, err := b.Verify(context.Background(), token)
			if err != nil {
				t.Fatal(err)
			}
			if id.Issuer != "" || id.ID != "u-ann" || id.Email != "ann@example.com" || id.Name != "Ann" ||
				fmt.Sprint(id.Roles) != "[user ops]" || id.Session != "s-1" || id.Generation != 3 {
				t.Errorf("identity %+v, want ann's", id)
			}
			if raw, err := base64url.DecodeString(id.Token); err != nil || len(raw) != 16 {
				t.Errorf("jti %q, want 128 bits", id.Token)
			}
			if !id.Issued.Equal(b.at) || !id.Expires.Equal(b.at.Add(time.Hour)) {
				t.Errorf("from %v to %v, want an hour from %v", id.Issued, id.Expires, b.at)
			}
			if mustJSON(t, issued) != mustJSON(t, id) {
				t.Errorf("Issue tells %s, Verify %s", mustJSON(t, issued), mustJSON(t, id))
			}
			again, _, _ := b.Issue(ann, "s-1", b.TTL)
			if again == token {
				t.Error("two tokens are the same")
			}
		})
	}
}

func TestIssueRefusesWhatVerifyWould(t *testing.T) {
	b := newTokenBed(t, "ES256")
	for name, u := range map[string]User{
		"no id":              {Email: "a@b.c"},
		"control in name":    {ID: "u", Name: "a\r\nX-Admin: 1"},
		"more than 8 KiB":    {ID: "u", Name: strings.Repeat("n", 9000)},
		"role without name":  {ID: "u", Roles: []string{""}},
		"generation below 0": {ID: "u", Generation: -1},
	} {
		if token, id, err := b.Issue(u, "", b.TTL); err == nil {
			t.Errorf("%s: Issue = %q, %v", name, token, id)
		}
	}
	if _, _, err := b.Issue(ann, "", 0); err == nil {
		t.Error("a token that lives for 0s was issued")
	}
}

// A good token with one thing changed. Every forgery is signed with the right
// key, so that nothing but the rule can refuse it.
func TestVerifyClaims(t *testing.T) {
	b := newTokenBed(t, "HS256")
	now := b.at.Unix()
	key := b.Keys.signer.joseKey
	with := func(name string, v any) string {
		c := b.claims()
		if c[name] = v; v == nil {
			delete(c, name)
		}
		return signRaw(t, key, mustJSON(t, b.header()), mustJSON(t, c))
	}
	raw := func(name, text string) string {
		c := b.claims()
		delete(c, name)
		return signRaw(t, key, mustJSON(t, b.header()), strings.TrimSuffix(mustJSON(t, c), "}")+`,"`+name+`":`+text+"}")
	}
	allow := func(token string) {
		t.Helper()
		if _, err := b.Verify(context.Background(), token); err != nil {
			t.Errorf("Verify: %v, want no error", err)
		}
	}
	deny := func(token, cause string) { t.Helper(); wantRefused(t, b, token, cause) }

	allow(with("extra", map[string]any{"a": []int{1, 2}}))
	allow(with("aud", []string{"other", "gatehouse"}))
	allow(with("nbf", nil))
	allow(with("sid", nil))
	allow(with("gen", nil))
	allow(with("roles", nil))
	allow(with("nbf", now+30))
	allow(raw("exp", "253402300799"))
	allow(raw("exp", fmt.Sprintf("%d.5", now+10)))
	allow(raw("exp", "4e9"))

	deny(with("iss", nil), "iss")
	deny(with("iss", []string{b.Issuer}), "iss")
	for _, other := range []string{b.Issuer + "/", "HTTPS://gw.example", "https://gw.example.evil", "https://gw.exаmple", " " + b.Issuer, "http://gw.example"} {
		deny(with("iss", other), "issuer is not trusted")
	}
	deny(with("aud", nil), "aud is missing")
	deny(with("aud", ""), "aud")
	deny(with("aud", []string{}), "aud")
	deny(with("aud", "Gatehouse"), "aud")
	deny(with("aud", []any{"gatehouse", 1}), "aud")
	deny(with("aud", map[string]any{"gatehouse": 1}), "aud")
	for _, name := range []string{"sub", "jti"} {
		deny(with(name, nil), name+" is missing")
		deny(with(name, ""), name+" is empty")
		deny(with(name, " "), name)
		deny(with(name, 7), name+" is no string")
		deny(with(name, []string{"a"}), name)
		deny(raw(name, "null"), name)
		deny(with(name, strings.Repeat("x", 257)), name+" of 257 bytes")
		allow(with(name, strings.Repeat("x", 256)))
		deny(with(name, "a\r\nb"), "control")
		deny(with(name, "a\u0085b"), "control")
	}
	for _, bad := range []string{"a b", "a*", "{a}", `a"`, "a\\b", "a%00", "a?", "[a]", "ä"} {
		deny(with("jti", bad), "jti holds")
		deny(with("sid", bad), "sid holds")
	}
	deny(with("sid", 1), "sid")
	deny(with("sid", ""), "sid")
	for _, name := range []string{"exp", "iat", "nbf"} {
		for _, bad := range []string{`"9999999999"`, "true", "[1]", "{}", "-1", "1e18", "9.3e18", "1e30", "1e400",
			"99999999999999999999", "9007199254740993", "9223372036854775807", strings.Repeat("9", 5000)} {
			deny(raw(name, bad), name)
		}
	}
	deny(raw("exp", "253402300800"), "exp is after the year 9999")
	deny(raw("exp", "9007199254740992"), "exp is after the year 9999")
	deny(with("exp", nil), "exp is missing")
	deny(raw("exp", "null"), "exp")
	deny(with("iat", nil), "iat is missing")
	deny(with("iat", now+31), "iat is in the future")
	deny(with("nbf", now+31), "nbf is in the future")
	deny(with("email", 1), "email")
	deny(with("email", []string{"a@b.c"}), "email")
	deny(with("name", map[string]any{}), "name")
	deny(with("roles", "admin"), "roles")
	deny(with("roles", []any{"a", 1}), "roles")
	deny(with("roles", []string{"a", ""}), "roles")
	deny(with("roles_omitted", true), "beside roles")
	deny(with("roles_omitted", "true"), "roles_omitted")
	deny(with("Roles_Omitted", true), "spelled oddly")
	deny(with("roles", map[string]any{"admin": true}), "roles")
	for _, bad := range []string{"-1", "1.5", `"1"`, "1e3", "9223372036854775808", "true"} {
		deny(raw("gen", bad), "gen")
	}
	for _, control := range []string{"a\nb", "a\x00b", "\x7f", "\u009f"} {
		deny(with("email", control), "control")
		deny(with("roles", []string{"a", control}), "control")
		deny(with("team", control), "control")
		deny(with("teams", []any{"a", []string{control}}), "control")
		deny(with("deep", map[string]any{"a": control}), "control")
		deny(with("odd"+control, 1), "control")
	}
}

func TestVerifyTwoSpellings(t *testing.T) {
	b := newTokenBed(t, "HS256")
	key := b.Keys.signer.joseKey
	plus := func(member string) string {
		return signRaw(t, key, mustJSON(t, b.header()), strings.TrimSuffix(mustJSON(t, b.claims()), "}")+","+member+"}")
	}
	wantRefused(t, b, plus(`"sub":"admin"`), `"sub" stands there twice`)
	wantRefused(t, b, plus(`"s\u0075b":"admin"`), `"sub" stands there twice`)
	wantRefused(t, b, plus(`"exp":9999999999`), "twice")
	wantRefused(t, b, plus(`"x":{"y":1,"y":2}`), "twice")
	for _, odd := range []string{`"SUB":"admin"`, `"ſub":"admin"`, `"\u017fub":"admin"`, `"Exp":9999999999`, `"EXP":9999999999`,
		`"ROLES":["admin"]`, `"Email":"x"`, `"ıss":1,"ISS":"x"`} {
		wantRefused(t, b, plus(odd), "spel")
	}
	wantRefused(t, b, plus(`"team":"a","Team":"b"`), "two spellings")
	c := b.claims()
	delete(c, "roles")
	c["Roles"] = []string{"admin"}
	wantRefused(t, b, signRaw(t, key, mustJSON(t, b.header()), mustJSON(t, c)), "spelled oddly")
}

func TestVerifyTime(t *testing.T) {
	b := newTokenBed(t, "ES256")
	token := b.issue(t)
	start := b.at
	at := func(d time.Duration) error {
		b.at = start.Add(d)
		_, err := b.Verify(context.Background(), token)
		return err
	}
	for _, d := range []time.Duration{-30 * time.Second, 0, time.Hour, time.Hour + 30*time.Second - 1} {
		if err := at(d); err != nil {
			t.Errorf("after %v: %v", d, err)
		}
	}
	if err := at(-31 * time.Second); !errors.Is(err, ErrInvalidToken) || AsRefusal(err).Description != "" {
		t.Errorf("before its time: %#v, want ErrInvalidToken without description", err)
	}
	err := at(time.Hour + 30*time.Second)
	if !errors.Is(err, ErrInvalidToken) || AsRefusal(err).Description != "The token expired" {
		t.Errorf("at exp + leeway: %#v, want ErrInvalidToken, The token expired", err)
	}

	// Expired and forged: nothing is said of the claims.
	forged := token[:len(token)-8] + "AAAAAAAA"
	_, err = b.Verify(context.Background(), forged)
	if r := AsRefusal(err); r.Description != "" || !strings.Contains(r.Cause(), "signature") {
		t.Errorf("expired and forged: %q, description %q, want the signature alone", r.Cause(), r.Description)
	}
}

func TestVerifyOtherEnvironment(t *testing.T) {
	a, b := newTokenBed(t, "ES256"), newTokenBed(t, "ES256")
	b.Issuer = "https://staging.example"
	if _, err := b.Verify(context.Background(), a.issue(t)); !errors.Is(err, ErrNotMine) {
		t.Errorf("token of another issuer: %v, want ErrNotMine", err)
	}
	b.Issuer = a.Issuer
	wantRefused(t, b, a.issue(t), "is not configured")
	b.Keys, b.Audience = a.Keys, "other"
	wantRefused(t, b, a.issue(t), "aud")
}

func TestRotation(t *testing.T) {
	cfg := &config.Config{DataDir: t.TempDir(), Tokens: config.Tokens{Algorithm: "ES256"}}
	load := func() *KeySet {
		keys, err := LoadKeys(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	b := newTokenBed(t, "ES256")
	b.Keys = load()
	before := b.Keys
	b.at = time.Now()
	old := b.issue(t)
	made, err := GenerateKey(KeyDir(cfg), "ES256")
	if err != nil {
		t.Fatal(err)
	}
	b.Keys = load()
	b.at = b.at.Add(time.Minute) // by then it has settled
	fresh := b.issue(t)
	if b.Keys.signer.id != made.ID || len(b.Keys.List(b.at)) != 2 || !b.Keys.List(b.at)[0].Signs || b.Keys.List(b.at)[0].ID != made.ID {
		t.Errorf("keys %+v, want two, the first %q", b.Keys.List(b.at), made.ID)
	}
	for _, token := range []string{old, fresh} {
		if _, err := b.Verify(context.Background(), token); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
	}
	b.Keys = before
	wantRefused(t, b, fresh, "is not configured")
	if err := os.Remove(before.List(b.at)[0].File); err != nil {
		t.Fatal(err)
	}
	b.Keys = load()
	wantRefused(t, b, old, "is not configured")
	if left, _ := filepath.Glob(filepath.Join(KeyDir(cfg), ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
