package authn

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"hash"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func hs(h func() hash.Hash, key []byte, header, payload string) string {
	signed := base64url.EncodeToString([]byte(header)) + "." + base64url.EncodeToString([]byte(payload))
	mac := hmac.New(h, key)
	mac.Write([]byte(signed))
	return signed + "." + base64url.EncodeToString(mac.Sum(nil))
}

// Cases 100 and 106: the public key is everybody's, so no form of it may serve
// as a secret.
func TestPublicKeyIsNoSecret(t *testing.T) {
	for _, algorithm := range []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} {
		b := newTokenBed(t, algorithm)
		public := b.Keys.signer.public
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		secrets := [][]byte{text, []byte(strings.TrimSpace(string(text))), append([]byte(" "), text...), der,
			b.Keys.JWKS(time.Now()), nil, []byte("secret")}
		if p, ok := public.(*rsa.PublicKey); ok {
			pkcs1 := x509.MarshalPKCS1PublicKey(p)
			secrets = append(secrets, p.N.Bytes(), pkcs1, pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}))
		}
		for _, alg := range []string{"HS256", "HS384", "HS512", "none", "None", "nOnE", "NONE", "hs256", algorithm} {
			header := b.header()
			header["alg"] = alg
			for _, secret := range secrets {
				for _, h := range []func() hash.Hash{sha256.New, sha512.New, sha512.New384} {
					wantRefused(t, b, hs(h, secret, mustJSON(t, header), mustJSON(t, b.claims())), "")
				}
			}
		}
	}
}

func TestVerifyHeader(t *testing.T) {
	b := newTokenBed(t, "HS256")
	key := b.Keys.signer.joseKey
	with := func(name string, v any) string {
		h := b.header()
		if h[name] = v; v == nil {
			delete(h, name)
		}
		return signRaw(t, key, mustJSON(t, h), mustJSON(t, b.claims()))
	}
	raw := func(header string) string { return signRaw(t, key, header, mustJSON(t, b.claims())) }

	for _, alg := range []any{nil, "", "none", "HS384", "HS512", "hs256", "HS256 ", "RS256", 1, []string{"HS256"}, "ES256"} {
		wantRefused(t, b, with("alg", alg), "")
	}
	for _, kid := range []any{nil, "", "../../../../dev/null", "/proc/sys/kernel/randomize_va_space", "' UNION SELECT 'k", "|id", "\x00", 0,
		[]string{b.Keys.signer.id}, strings.Repeat("k", 4000), b.Keys.signer.id + " ", strings.ToUpper(b.Keys.signer.id)} {
		wantRefused(t, b, with("kid", kid), "")
	}
	for _, typ := range []any{nil, "", "JWT", "id_token", "refresh", "JWE", "AT+JWT", "at+jwt ", "application/at+jwt", typAssertion, 1} {
		wantRefused(t, b, with("typ", typ), "typ")
	}
	for _, crit := range []any{[]string{"exp2"}, []string{}, []string{"alg"}, "exp", 0, false, map[string]any{}} {
		wantRefused(t, b, with("crit", crit), `"crit" is not accepted`)
	}
	wantRefused(t, b, raw(`{"alg":"HS256","kid":"`+b.Keys.signer.id+`","typ":"at+jwt","crit":null}`), "crit")
	for _, name := range []string{"b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"} {
		wantRefused(t, b, with(name, "DEF"), "is not accepted")
	}
	good := strings.TrimSuffix(mustJSON(t, b.header()), "}")
	for _, member := range []string{`"alg":"HS256"`, `"ALG":"none"`, `"Kid":"x"`, `"\u212aid":"x"`, `"TYP":"at+jwt"`, `"Crit":[]`, `"x":1,"X":2`} {
		wantRefused(t, b, raw(good+","+member+"}"), "header:")
	}
	for _, header := range []string{"null", "[]", `"x"`, "{}", "", good, good + "}}", good + `,"x":"` + "\xff" + `"}`} {
		wantRefused(t, b, raw(header), "")
	}
	if _, err := b.Verify(context.Background(), with("x5t", "abc")); err != nil {
		t.Errorf("x5t in the header: %v", err)
	}
}

// Cases 103 and 104: nothing is fetched, and no key is taken from the token.
func TestTokenBringsNoKey(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Path) }))
	defer s.Close()
	b := newTokenBed(t, "ES256")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mallory, err := newPrivate("ES256", private)
	if err != nil {
		t.Fatal(err)
	}
	set, err := marshalJWKS([]*key{{joseKey: mallory, id: b.Keys.signer.id}})
	if err != nil {
		t.Fatal(err)
	}
	object, err := readObject(set)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"jwk": object["keys"].([]any)[0], "jku": s.URL + "/jwks.json", "x5u": s.URL + "/cert.pem", "x5c": []string{"MII"}, "none": 0,
	} {
		h := b.header()
		h[name] = v
		wantRefused(t, b, signRaw(t, mallory, mustJSON(t, h), mustJSON(t, b.claims())), "")
	}
	if len(asked) > 0 {
		t.Errorf("asked for %v, want nothing fetched", asked)
	}
}

func TestVerifyForm(t *testing.T) {
	for _, algorithm := range []string{"HS256", "ES256", "EdDSA", "ES384"} {
		b := newTokenBed(t, algorithm)
		token := b.issue(t)
		parts := strings.Split(token, ".")
		deny := func(token, cause string) { t.Helper(); wantRefused(t, b, token, cause) }

		for i, part := range parts {
			// Every other character at the end of a part that has unused bits.
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			for _, c := range alphabet {
				changed := append([]string{}, parts...)
				if changed[i] = part[:len(part)-1] + string(c); changed[i] != part {
					deny(strings.Join(changed, "."), "")
				}
			}
			for _, odd := range []string{part + "=", part + "==", part + "\n", part + "\r\n", part + " ", "\n" + part, part[:4] + "\n" + part[4:],
				part + "A", part + "AA", part[1:], part[:len(part)-1], "", "+" + part[1:], "/" + part[1:], part + "?", part + "%3D", part + "\x00"} {
				changed := append([]string{}, parts...)
				changed[i] = odd
				deny(strings.Join(changed, "."), "")
			}
		}
		deny("", "parts")
		deny(".", "")
		deny("..", "")
		deny("a.b", "parts")
		deny("....", "parts")
		deny(token+".", "parts")
		deny("."+token, "parts")
		deny(token+".."+token, "parts")
		deny(token+" ", "byte")
		deny(" "+token, "byte")
		deny(token+","+token, "byte")
		deny("Bearer "+token, "byte")
		deny(parts[0]+"."+parts[1]+"."+parts[2]+"."+parts[1]+"."+parts[2], "parts")
		deny(strings.Repeat(".", 1<<20), "bytes")
		deny(strings.Repeat(".", 8000), "parts")
		deny(strings.Repeat("a", 10<<20), "bytes")
		deny(parts[0]+"."+strings.Repeat("A", 16<<10)+"."+parts[2], "bytes")
		deny(`{"payload":"`+parts[1]+`","protected":"`+parts[0]+`","signature":"`+parts[2]+`"}`, "byte")
		deny(`{"`+parts[0]+"."+parts[1]+"."+parts[2]+`":1}`, "byte")
	}
}

func TestVerifyPayload(t *testing.T) {
	b := newTokenBed(t, "HS256")
	for payload, cause := range map[string]string{
		"": "payload", "null": "payload", "[]": "payload", "1": "payload", `"x"`: "payload",
		mustJSON(t, b.claims()) + "{}":            "payload",
		mustJSON(t, b.claims()) + "\x00":          "payload",
		"\ufeff" + mustJSON(t, b.claims()):        "payload",
		`{"a":` + strings.Repeat("[", 5000) + "}": "nested",
		b.issue(t): "payload", // a token in a token
		"{}":       "iss",
	} {
		wantRefused(t, b, signRaw(t, b.Keys.signer.joseKey, mustJSON(t, b.header()), payload), cause)
	}
}

// The second form (r, n-s) of an ECDSA signature verifies too. It is the same
// token: what revocation and memory go by does not change.
func TestSecondSignatureIsTheSameToken(t *testing.T) {
	b := newTokenBed(t, "ES256")
	token := b.issue(t)
	j, err := splitJWS(token)
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	s := new(big.Int).Sub(n, new(big.Int).SetBytes(j.signature[32:]))
	second := j.signed + "." + base64url.EncodeToString(s.FillBytes(append([]byte{}, j.signature...)[32:]))
	if wrong, err := b.Verify(context.Background(), second); err == nil {
		t.Errorf("half a signature verifies: %v", wrong)
	}
	whole := append(append([]byte{}, j.signature[:32]...), s.FillBytes(make([]byte, 32))...)
	second = j.signed + "." + base64url.EncodeToString(whole)
	one, err := b.Verify(context.Background(), token)
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Verify(context.Background(), second)
	if err != nil {
		t.Fatal(err)
	}
	if one.Token != other.Token || one.ID != other.ID {
		t.Errorf("Verify = %v and %v, want one token", one, other)
	}
	// A third form does not: zero bytes before r and s, ASN.1, r and s swapped.
	for _, signature := range [][]byte{
		append(append(append([]byte{0}, j.signature[:32]...), 0), j.signature[32:]...),
		append(append([]byte{}, j.signature[32:]...), j.signature[:32]...),
		append([]byte{0x30, 0x44, 2, 32}, j.signature...),
		make([]byte, 64), {}, {1},
	} {
		wantRefused(t, b, j.signed+"."+base64url.EncodeToString(signature), "")
	}
}

func TestPSSSaltLength(t *testing.T) {
	b := newTokenBed(t, "PS256")
	private := b.Keys.signer.private.(*rsa.PrivateKey)
	for _, salt := range []int{rsa.PSSSaltLengthAuto, 0, 20, 31, 32, 33, 64} {
		method := &jwt.SigningMethodRSAPSS{SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: salt}}
		signed := base64url.EncodeToString([]byte(mustJSON(t, b.header()))) + "." + base64url.EncodeToString([]byte(mustJSON(t, b.claims())))
		signature, err := method.Sign(signed, private)
		if err != nil {
			t.Fatal(err)
		}
		token := signed + "." + base64url.EncodeToString(signature)
		if salt != 32 {
			wantRefused(t, b, token, "signature")
			continue
		}
		if _, err := b.Verify(context.Background(), token); err != nil {
			t.Errorf("salt of 32 bytes: %v", err)
		}
	}
	// RS256 with the same key is another algorithm.
	h := b.header()
	h["alg"] = "RS256"
	rs := &joseKey{algorithm: "RS256", public: &private.PublicKey, private: private}
	wantRefused(t, b, signRaw(t, rs, mustJSON(t, h), mustJSON(t, b.claims())), "not configured for")
	wantRefused(t, b, signRaw(t, rs, mustJSON(t, b.header()), mustJSON(t, b.claims())), "signature")
	if jwt.SigningMethodPS256.VerifyOptions.SaltLength != rsa.PSSSaltLengthAuto {
		t.Error("the library's own method was changed")
	}
}

func TestSignatureErrorWins(t *testing.T) {
	b := newTokenBed(t, "EdDSA")
	c := b.claims()
	c["exp"], c["sub"], c["aud"], c["name"] = 1, "", "x", "a\nb"
	forged := signRaw(t, newTokenBed(t, "EdDSA").Keys.signer.joseKey, mustJSON(t, b.header()), mustJSON(t, c))
	_, err := b.Verify(context.Background(), forged)
	if !errors.Is(err, errBadSignature) || AsRefusal(err).Description != "" {
		t.Errorf("Verify = %v, want the signature alone", err)
	}
	good := signRaw(t, b.Keys.signer.joseKey, mustJSON(t, b.header()), mustJSON(t, c))
	if _, err := b.Verify(context.Background(), good); err == nil || errors.Is(err, errBadSignature) {
		t.Errorf("Verify = %v, want a claim's error", err)
	}
}

func FuzzVerify(f *testing.F) {
	// The keys are the same in every process: seeds come from another one than
	// they are verified in.
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	es, err1 := newPrivate("ES256", p256)
	ed, err2 := newPrivate("EdDSA", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	hs256, err3 := newSecret([]byte(goodSecret))
	if err := errors.Join(err1, err2, err3); err != nil {
		f.Fatal(err)
	}
	b := newTokenBed(f, "ES256")
	b.Keys = &KeySet{byID: map[string]*key{}}
	issued := map[string]bool{}
	for _, k := range []*joseKey{es, ed, hs256} {
		b.Keys.signer = &key{joseKey: k, id: k.algorithm}
		b.Keys.add(b.Keys.signer)
		header, claims := mustJSON(f, b.header()), mustJSON(f, b.claims())
		token := signRaw(f, k, header, claims)
		if _, err := b.Verify(context.Background(), token); err != nil {
			f.Fatal(err)
		}
		j, err := splitJWS(token)
		if err != nil {
			f.Fatal(err)
		}
		issued[j.signed] = true
		f.Add(token)
		for _, other := range []string{"none", "HS256", "ES256"} {
			f.Add(base64url.EncodeToString([]byte(strings.Replace(header, k.algorithm, other, 1))) + "." + base64url.EncodeToString([]byte(claims)) + ".AA")
		}
		f.Add(hs(sha256.New, nil, header, claims))
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := b.Verify(context.Background(), token)
		if err != nil {
			if id != nil || !errors.Is(err, ErrNotMine) && !errors.Is(err, ErrInvalidToken) {
				t.Errorf("Verify(%q) = %v, %v", token, id, err)
			}
			return
		}
		if signed := token[:strings.LastIndex(token, ".")]; !issued[signed] {
			t.Errorf("Verify(%q) = %+v, which no key has signed", token, id)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range ourAlgorithms() {
		b.Run(algorithm, func(b *testing.B) {
			bed := newTokenBed(b, algorithm)
			token := bed.issue(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bed.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		bed := newTokenBed(b, "ES256")
		long := strings.Repeat(".", 1<<20)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bed.Verify(context.Background(), long); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}
