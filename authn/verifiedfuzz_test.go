package authn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"gatehouse/config"
)

// FuzzVerified: whatever happens, in whatever order, a Verified says what a
// verifier without a memory says. Each byte of what is one event; token is what
// somebody made up.
func FuzzVerified(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 2, 3, 4, 5, 0x10, 0, 1, 0x20, 0, 1, 0x30, 0, 1}, "")
	f.Add([]byte{0, 0x41, 0, 0x42, 0, 0x43, 1, 1, 0x50, 0, 0x60, 0}, "a.b.c")
	f.Add([]byte{5, 0x7f, 5, 5, 0x91, 5, 4, 0x92, 4, 5}, "")
	key256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	es, err1 := newPrivate("ES256", key256)
	hs256, err2 := newSecret([]byte(goodSecret))
	if err := errors.Join(err1, err2); err != nil {
		f.Fatal(err)
	}
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	const them = "https://idp.example"
	plain := tokenBed{&Tokens{Issuer: "https://gw.example", Audience: "gatehouse"}, start}
	sign := func(k *joseKey, kid string, changes with) string {
		header, claims := with{"alg": k.algorithm, "kid": kid, "typ": "at+jwt"}, plain.claims()
		maps.Copy(claims, changes)
		return signRaw(f, k, mustJSON(f, header), mustJSON(f, claims))
	}
	ours := sign(es, "es", nil)
	signed := []string{
		ours, malleated(f, ours), sign(hs256, "hs", with{"jti": "id-2", "exp": start.Unix() + 60}),
		sign(es, "es", with{"iss": them, "jti": "id-3", "nbf": start.Unix() - 60}), sign(es, "hs", nil),
	}
	published := jwkSet{keys: []jwk{{kid: "es", hasKID: true, algorithms: []string{"ES256"}, public: es.public}}}
	f.Fuzz(func(t *testing.T, what []byte, made string) {
		if len(what) > 200 {
			what = what[:200]
		}
		// Two keys of ours, and an issuer that has one of them.
		b := &verifiedBed{tokenBed: &tokenBed{at: start}}
		now := func() time.Time { return b.at }
		mine := &key{joseKey: es, id: "es"}
		keys := &KeySet{byID: map[string]*key{}}
		keys.add(mine)
		keys.add(&key{joseKey: hs256, id: "hs"})
		b.Tokens = &Tokens{Keys: keys, Issuer: plain.Issuer, Audience: plain.Audience, Leeway: 30 * time.Second, Now: now}
		is := &issuer{keys: &remoteKeys{now: now}}
		is.Issuer, is.Audiences, is.Algorithms = them, []string{"gatehouse"}, []string{"ES256"}
		is.TrustedIssuer.Claims = config.ClaimMap{ID: "sub", Email: "email", Name: "name", Roles: "roles"}
		is.keys.set.Store(&published)
		issuers := &TrustedIssuers{byName: map[string]*issuer{them: is}, leeway: b.Leeway, now: now}
		b.list = NewRevocationList(new(MemoryStore), now)
		if err := b.list.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.verified = NewVerified(VerifiedOptions{Tokens: b.Tokens, Issuers: issuers, Checks: []Check{b.list.Check}})
		b.honest = Join([]Verifier{b.Tokens, issuers}, b.list.Check)
		tokens := append(slices.Clone(signed), made)
		for _, event := range what {
			switch n := int(event & 15); event >> 4 {
			case 1:
				b.at = start.Add(time.Duration(n-8) * 10 * time.Second)
			case 2:
				b.at = start.Add(time.Duration(n-8) * 10 * time.Minute)
			case 3:
				mine.until = start.Add(time.Duration(n-4) * time.Minute)
			case 4:
				is.keys.set.Store(&jwkSet{})
			case 5:
				is.keys.set.Store(&published)
			case 6:
				again := published
				is.keys.set.Store(&again)
			case 7:
				b.verified.sweep()
			case 8:
				err := b.list.Revoke(t.Context(), Revocation{Kind: RevokeToken, Issuer: []string{"", them}[n&1], ID: fmt.Sprint("id-", n>>1), Expires: start.Add(time.Hour)})
				if err != nil {
					t.Fatal(err)
				}
			case 9:
				if len(made) > 0 { // a part of a good token, changed by what was made up
					good := tokens[n%4]
					i := int(made[0]) * len(good) / 256
					tokens[5] = good[:i] + made[1:] + good[min(len(good), i+len(made)-1):]
				}
			default:
				b.same(t, tokens[n%len(tokens)])
			}
		}
	})
}
