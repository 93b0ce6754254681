package authn

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/config"
)

type keyFixture struct {
	dir      string
	rsa      *rsa.PrivateKey
	p256     *ecdsa.PrivateKey
	p384     *ecdsa.PrivateKey
	ed       ed25519.PrivateKey
	writings int
}

func newKeyFixture(t *testing.T) *keyFixture {
	t.Helper()
	f := &keyFixture{dir: t.TempDir()}
	var err [4]error
	f.rsa, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	f.p256, err[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.p384, err[2] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, f.ed, err[3] = ed25519.GenerateKey(rand.Reader)
	if e := errors.Join(err[:]...); e != nil {
		t.Fatal(e)
	}
	return f
}

func (f *keyFixture) write(t *testing.T, blocks ...any) string {
	t.Helper()
	var text bytes.Buffer
	for i := 0; i < len(blocks); i += 2 {
		if err := pem.Encode(&text, &pem.Block{Type: blocks[i].(string), Bytes: blocks[i+1].([]byte)}); err != nil {
			t.Fatal(err)
		}
	}
	f.writings++
	path := filepath.Join(f.dir, strings.Repeat("k", f.writings)+".pem")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pkcs8(t *testing.T, k any) []byte { return der(t)(x509.MarshalPKCS8PrivateKey(k)) }
func spki(t *testing.T, k any) []byte  { return der(t)(x509.MarshalPKIXPublicKey(k)) }
func der(t *testing.T) func([]byte, error) []byte {
	return func(raw []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}

func certificate(t *testing.T, k *ecdsa.PrivateKey) []byte {
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "k"}, NotAfter: time.Unix(1, 0)}
	return der(t)(x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k))
}

func keysOf(keys ...config.Key) *config.Config {
	return &config.Config{Tokens: config.Tokens{Algorithm: "ES256", Keys: keys}}
}

const goodSecret = "wvzkkd4Wb1n0XrQOJtE2s9Uq7yLhC3fA"

func TestConfiguredKeys(t *testing.T) {
	f := newKeyFixture(t)
	sec1 := der(t)(x509.MarshalECPrivateKey(f.p256))
	allow := func(c config.Key) {
		t.Helper()
		c.ID = "k1"
		cfg := keysOf(c)
		if c.PublicKeyFile != "" {
			cfg = keysOf(config.Key{ID: "first", Algorithm: "HS256", Secret: goodSecret}, c)
		}
		keys, err := LoadKeys(cfg)
		if err != nil {
			t.Errorf("LoadKeys(%s): %v", c.Algorithm, err)
			return
		}
		if k := keys.byID["k1"]; k == nil || k.algorithm != c.Algorithm {
			t.Errorf("LoadKeys(%s): key %+v", c.Algorithm, k)
		}
		if len(keys.Warnings()) > 0 {
			t.Errorf("LoadKeys(%s): warnings %v", c.Algorithm, keys.Warnings())
		}
	}
	private := func(algorithm, path string) config.Key {
		return config.Key{ID: "k1", Algorithm: algorithm, PrivateKeyFile: path}
	}
	public := func(algorithm, path string) config.Key {
		return config.Key{ID: "k1", Algorithm: algorithm, PublicKeyFile: path}
	}
	rsaFile := f.write(t, "PRIVATE KEY", pkcs8(t, f.rsa))
	allow(private("RS256", rsaFile))
	allow(private("PS256", rsaFile))
	allow(private("RS256", f.write(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(f.rsa))))
	allow(private("ES256", f.write(t, "EC PARAMETERS", []byte{6, 0}, "EC PRIVATE KEY", sec1)))
	allow(private("ES256", f.write(t, "CERTIFICATE", certificate(t, f.p256), "PRIVATE KEY", pkcs8(t, f.p256))))
	allow(private("ES384", f.write(t, "PRIVATE KEY", pkcs8(t, f.p384))))
	allow(private("EdDSA", f.write(t, "PRIVATE KEY", pkcs8(t, f.ed))))
	allow(public("RS256", f.write(t, "PUBLIC KEY", spki(t, &f.rsa.PublicKey))))
	allow(public("PS256", f.write(t, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&f.rsa.PublicKey))))
	allow(public("ES256", f.write(t, "CERTIFICATE", certificate(t, f.p256))))
	allow(public("EdDSA", f.write(t, "PUBLIC KEY", spki(t, f.ed.Public()))))
	allow(config.Key{Algorithm: "HS256", Secret: goodSecret})
	allow(config.Key{Algorithm: "HS256", Secret: config.Secret(strings.Repeat("0123456789abcdef", 2) + "x9")})

	deny := func(c config.Key, want string) {
		t.Helper()
		cfg := keysOf(c)
		_, err := LoadKeys(cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadKeys(%s) = %v, want %q", c.Algorithm, err, want)
		}
		var problems config.Problems
		if !errors.As(err, &problems) {
			t.Errorf("LoadKeys(%s): %T, want config.Problems", c.Algorithm, err)
		}
		if c.Secret != "" && err != nil && strings.Contains(err.Error(), string(c.Secret)) {
			t.Errorf("the secret is in %q", err)
		}
		if check := CheckKeys(cfg); check == nil || check.Error() != err.Error() {
			t.Errorf("CheckKeys = %v, LoadKeys = %v", check, err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecFile := f.write(t, "PRIVATE KEY", pkcs8(t, f.p256))
	deny(private("RS256", f.write(t, "PRIVATE KEY", pkcs8(t, weak))), "1024 bits, want at least 2048")
	deny(private("ES384", ecFile), "EC P-256 key, want one on P-384 for ES384")
	deny(private("ES256", f.write(t, "PRIVATE KEY", pkcs8(t, p224))), "P-224")
	deny(private("RS256", ecFile), "EC P-256 key, want one for RS256")
	deny(private("EdDSA", rsaFile), "RSA key, want one for EdDSA")
	deny(private("EdDSA", f.write(t, "PRIVATE KEY", pkcs8(t, x25519))), "want RSA, EC or Ed25519")
	deny(private("HS256", ecFile), "HS256 takes a secret")
	deny(private("ES256", filepath.Join(f.dir, "none.pem")), "no such file")
	deny(private("ES256", f.dir), "regular file")
	deny(private("ES256", "/dev/zero"), "regular file")
	deny(private("ES256", f.write(t)), "no private key")
	deny(private("ES256", f.write(t, "PRIVATE KEY", []byte("rubbish"))), "does not hold what it says")
	deny(private("ES256", f.write(t, "ENCRYPTED PRIVATE KEY", []byte{1})), "passphrase")
	deny(private("ES256", f.write(t, "PUBLIC KEY", spki(t, &f.p256.PublicKey))), "want a private key")
	deny(private("ES256", f.write(t, "PRIVATE KEY", pkcs8(t, f.p256), "PRIVATE KEY", pkcs8(t, f.p256))), "several")
	deny(public("ES256", ecFile), "want a public key")
	deny(public("ES256", f.write(t, "PUBLIC KEY", spki(t, &f.p256.PublicKey))), "signs, because it is the first")
	for _, algorithm := range []string{"", "none", "HS512", "RS384", "ES512", "es256", "Ed25519"} {
		deny(private(algorithm, ecFile), "want one of ES256, ES384, EdDSA, HS256, PS256, RS256")
	}
	deny(config.Key{ID: "k", Algorithm: "ES256"}, "want one of secret")
	deny(config.Key{ID: "k", Algorithm: "ES256", Secret: goodSecret, PrivateKeyFile: ecFile}, "want one of secret")
	deny(config.Key{ID: "k", Algorithm: "ES256", Secret: goodSecret}, "takes a private_key_file")
	deny(config.Key{Algorithm: "HS256", Secret: goodSecret}, "without an id")
	deny(config.Key{ID: "a\nb", Algorithm: "HS256", Secret: goodSecret}, "printable")
	publicText, err := os.ReadFile(f.write(t, "PUBLIC KEY", spki(t, &f.rsa.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	for secret, why := range map[string]string{
		"short": "5 bytes", strings.Repeat("x", 31): "31 bytes",
		strings.Repeat("x", 64): "repeats itself", strings.Repeat("changeme", 5): "well-known sample", strings.Repeat("my-secret-value!", 2): "repeats itself",
		strings.Repeat("my-secret-value!", 2) + "my-se":            "repeats itself",
		"a-string-secret-at-least-256-bits-long":                   "well-known sample",
		string(publicText):                                         "PEM or JWK",
		" " + string(publicText):                                   "PEM or JWK",
		`{"kty":"RSA","e":"AQAB","n":"sXchDaQebHnPiGvyDOAT4saGE"}`: "PEM or JWK",
	} {
		deny(config.Key{ID: "k", Algorithm: "HS256", Secret: config.Secret(secret)}, why)
	}
}

func TestKeysTogether(t *testing.T) {
	f := newKeyFixture(t)
	hs := config.Key{ID: "a", Algorithm: "HS256", Secret: goodSecret}
	es := config.Key{ID: "b", Algorithm: "ES256", PublicKeyFile: f.write(t, "PUBLIC KEY", spki(t, &f.p256.PublicKey))}
	keys, err := LoadKeys(keysOf(hs, es))
	if err != nil {
		t.Fatal(err)
	}
	if l := keys.List(time.Now()); len(l) != 2 || l[0].ID != "a" || !l[0].Signs || l[0].Public != nil || l[1].Signs || l[1].Private {
		t.Errorf("List = %+v", l)
	}
	twice := es
	twice.ID = "a"
	if _, err := LoadKeys(keysOf(hs, twice)); err == nil || !strings.Contains(err.Error(), `key id "a" is used twice`) {
		t.Errorf("LoadKeys = %v, want used twice", err)
	}
	bad := config.Key{ID: "c", Algorithm: "HS256", Secret: "short"}
	var problems config.Problems
	if _, err := LoadKeys(keysOf(bad, bad, es)); !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("LoadKeys = %v, want both problems", err)
	}
	verifyOnly := keysOf(es)
	verifyOnly.Users.Database = "none"
	keys, err = LoadKeys(verifyOnly)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&Tokens{Keys: keys, TTL: time.Hour}).Issue(ann, "", time.Hour); err == nil || !strings.Contains(err.Error(), "no key signs") {
		t.Errorf("Issue = %v, want no key signs", err)
	}
	if err := os.Chmod(es.PublicKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	private := config.Key{ID: "p", Algorithm: "ES256", PrivateKeyFile: f.write(t, "PRIVATE KEY", pkcs8(t, f.p256))}
	if err := os.Chmod(private.PrivateKeyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	keys, err = LoadKeys(keysOf(private, es))
	if err != nil {
		t.Fatal(err)
	}
	if w := keys.Warnings(); len(w) != 1 || !strings.Contains(w[0].Text, "mode 0640") {
		t.Errorf("Warnings = %v, want one about the private key", w)
	}
}

func TestJWKS(t *testing.T) {
	f := newKeyFixture(t)
	private := func(id, algorithm string, k any) config.Key {
		return config.Key{ID: id, Algorithm: algorithm, PrivateKeyFile: f.write(t, "PRIVATE KEY", pkcs8(t, k))}
	}
	keys, err := LoadKeys(keysOf(config.Key{ID: "h", Algorithm: "HS256", Secret: goodSecret},
		private("r", "RS256", f.rsa), private("p", "PS256", f.rsa), private("e", "ES256", f.p256), private("f", "ES384", f.p384), private("d", "EdDSA", f.ed)))
	if err != nil {
		t.Fatal(err)
	}
	var shown struct{ Keys []map[string]string }
	if err := json.Unmarshal(keys.JWKS(time.Now()), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown.Keys) != 5 {
		t.Fatalf("%d keys in %s, want 5: no secret", len(shown.Keys), keys.JWKS(time.Now()))
	}
	for _, k := range shown.Keys {
		for name := range k {
			if !strings.Contains(" kty use alg kid crv x y n e ", " "+name+" ") {
				t.Errorf("member %q in a public key", name)
			}
		}
	}
	// What we publish, a trusting gateway takes, each key for its algorithm.
	set, err := parseJWKS(keys.JWKS(time.Now()))
	if err != nil || len(set.skipped) > 0 || len(set.keys) != 5 {
		t.Fatalf("parseJWKS = %+v, %v", set, err)
	}
	for _, k := range keys.keys[1:] {
		token := signRaw(t, k.joseKey, `{}`, `{}`)
		j, err := splitJWS(token)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifyWith(set, j, joseHeader{algorithm: k.algorithm, kid: k.id, hasKID: true}); err != nil {
			t.Errorf("%s: %v", k.algorithm, err)
		}
	}
	empty, err := LoadKeys(keysOf(config.Key{ID: "h", Algorithm: "HS256", Secret: goodSecret}))
	if err != nil || string(empty.JWKS(time.Now())) != `{"keys":[]}` {
		t.Errorf("JWKS = %s, %v, want an empty list", empty.JWKS(time.Now()), err)
	}
}
