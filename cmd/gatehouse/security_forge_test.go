package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// forgers hold the gateways' keys, so that tokens can be made that are wrong in
// one thing alone.
type forgers struct {
	es, stranger *ecdsa.PrivateKey
	rs           *rsa.PrivateKey
	hs           []byte
	next         atomic.Int64
}

func newForgers(t *testing.T) *forgers {
	k := &forgers{hs: make([]byte, 32)}
	var errs [4]error
	k.es, errs[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.stranger, errs[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.rs, errs[2] = rsa.GenerateKey(rand.Reader, 2048)
	_, errs[3] = rand.Read(k.hs)
	for i := range k.hs {
		k.hs[i] = "abcdefghijklmnop"[k.hs[i]%16] // a text file, without line ends
	}
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// write makes the key files of the configuration.
func (k *forgers) write(t *testing.T, dir string) {
	t.Helper()
	for name, key := range map[string]any{"es.pem": k.es, "rs.pem": k.rs} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	writeFile(t, filepath.Join(dir, "hs"), string(k.hs))
}

const esHeader = `{"alg":"ES256","kid":"es","typ":"at+jwt"}`

// claims are those of a good token, changed by pairs of name and JSON value; an
// empty value leaves one out.
func (k *forgers) claims(who string, changes ...string) string {
	now := time.Now().Unix()
	names := []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "email", "name", "roles", "gen"}
	roles := `["user"]`
	if who == "admin" {
		roles = `["user","admin"]`
	}
	values := map[string]string{
		"iss": `"https://gw.example"`, "sub": fmt.Sprintf("%q", "u-"+who), "aud": `"gatehouse"`,
		"exp": fmt.Sprint(now + 3600), "iat": fmt.Sprint(now), "nbf": fmt.Sprint(now), "jti": fmt.Sprintf(`"j-%d"`, k.next.Add(1)),
		"email": fmt.Sprintf("%q", who+"@example.com"), "name": fmt.Sprintf("%q", strings.ToUpper(who[:1])+who[1:]), "roles": roles, "gen": "0",
	}
	for i := 0; i < len(changes); i += 2 {
		if _, known := values[changes[i]]; !known {
			names = append(names, changes[i])
		}
		values[changes[i]] = changes[i+1]
	}
	var pairs []string
	for _, name := range names {
		if values[name] != "" {
			pairs = append(pairs, fmt.Sprintf("%q:%s", name, values[name]))
		}
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// token is a good one of alice or admin.
func (k *forgers) token(who string) string { return k.es256(esHeader, k.claims(who)) }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// es256 signs with the gateway's own key.
func (k *forgers) es256(header, payload string) string { return signES256(k.es, header, payload) }

func signES256(key *ecdsa.PrivateKey, header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		panic(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + b64(signature[:])
}

func signHS(secret []byte, header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func signRS(key *rsa.PrivateKey, header, payload string, pss bool) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	var err error
	if pss {
		signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	}
	if err != nil {
		panic(err)
	}
	return signed + "." + b64(signature)
}
