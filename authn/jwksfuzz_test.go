package authn

import (
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzJWKS: of whatever an issuer publishes, each key is either taken or
// skipped with a reason; what is taken is nothing that could be a secret, names
// what it may verify, reads the same when it is published again, and is the
// only one that is found by its name.
func FuzzJWKS(f *testing.F) {
	for _, algorithm := range []string{"ES256", "EdDSA", "RS256"} {
		ours := string(newTokenBed(f, algorithm).Keys.JWKS(time.Now()))
		f.Add([]byte(ours))
		f.Add([]byte(strings.Replace(ours, `"alg":"`+algorithm+`",`, "", 1)))
		one := strings.TrimSuffix(strings.TrimPrefix(ours, `{"keys":[`), `]}`)
		f.Add([]byte(`{"keys":[` + one + `,` + strings.Replace(one, `"kty"`, `"d":"AA","kty"`, 1) + `,[],{},` + one + `]}`))
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"KTY":"RSA"},{"kid":"a","kid":"b"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := parseJWKS(data)
		if err != nil {
			if usable, err := parseUsableJWKS(data); usable != nil || err == nil {
				t.Fatalf("parseUsableJWKS = %v, %v, and parseJWKS does not read it", usable, err)
			}
			return
		}
		var document struct{ Keys []json.RawMessage }
		if err := json.Unmarshal(data, &document); err != nil || len(document.Keys) != len(set.keys)+len(set.skipped) {
			t.Fatalf("%d keys (%v): %d taken, %d skipped", len(document.Keys), err, len(set.keys), len(set.skipped))
		}
		for i := range set.keys {
			k := &set.keys[i]
			if len(k.algorithms) == 0 || k.hasKID != (k.kid != "") {
				t.Fatalf("key %+v is for nothing, or without its name", k)
			}
			if p, ok := k.public.(*rsa.PublicKey); ok && (p.Size() < 256 || p.Size() > 1024 || p.E < 3) {
				t.Fatalf("RSA key of %d bytes with exponent %d", p.Size(), p.E)
			}
			for _, algorithm := range k.algorithms {
				if !slices.Contains(issuerAlgorithms(), algorithm) {
					t.Fatalf("key %q is for %s", k.kid, algorithm)
				}
				again := republished(t, k, algorithm)
				if !slices.Equal(again.algorithms, []string{algorithm}) || !samePublic(again.public, k.public) {
					t.Fatalf("key %q of %s is another when it is published again", k.kid, algorithm)
				}
				h := joseHeader{algorithm: algorithm, kid: k.kid, hasKID: k.hasKID}
				if found, err := set.find(h); err == nil && !samePublic(found.public, k.public) {
					t.Fatalf("find(%+v) is another key", h)
				} else if found != nil {
					_ = found.verify(jws{signed: "a.b", signature: make([]byte, 64)})
				}
			}
		}
	})
}

// republished is k for one algorithm as JWKS shows our own keys, read again.
func republished(t *testing.T, k *jwk, algorithm string) *jwk {
	t.Helper()
	id := k.kid
	if !k.hasKID {
		id = "none"
	}
	data, err := marshalJWKS([]*key{{joseKey: &joseKey{algorithm: algorithm, public: k.public}, id: id}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := parseUsableJWKS(data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return &set.keys[0]
}

func samePublic(a, b any) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
