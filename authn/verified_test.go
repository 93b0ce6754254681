package authn

import (
	"context"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

// verifiedBed is a Verified beside the verifier whose verdicts it must give.
type verifiedBed struct {
	*tokenBed
	list     *RevocationList
	verified *Verified
	honest   Verifier
}

func newVerifiedBed(t testing.TB, algorithm string, issuers *TrustedIssuers, claims ...string) *verifiedBed {
	t.Helper()
	b := &verifiedBed{tokenBed: newTokenBed(t, algorithm)}
	b.list = NewRevocationList(new(MemoryStore), func() time.Time { return b.at })
	if err := b.list.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.verified = NewVerified(VerifiedOptions{Tokens: b.Tokens, Issuers: issuers, Checks: []Check{b.list.Check}, Claims: claims})
	verifiers := []Verifier{b.Tokens}
	if issuers != nil {
		verifiers = append(verifiers, issuers)
	}
	b.honest = Join(verifiers, b.list.Check)
	return b
}

// same wants both verifiers to agree in everything, and returns the verdict.
func (b *verifiedBed) same(t testing.TB, token string) (*Identity, error) {
	t.Helper()
	id, err := b.verified.Verify(context.Background(), token)
	want, wantErr := b.honest.Verify(context.Background(), token)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || (id == nil) != (want == nil) || (id == nil) == (err == nil) {
		t.Fatalf("Verify(%.300q) = %v, %v, want %v, %v", token, id, err, want, wantErr)
	}
	if id != nil {
		got := *id
		got.Claims, got.kept = want.Claims, nil
		if len(got.Roles) == 0 && len(want.Roles) == 0 {
			got.Roles = want.Roles // nil or not
		}
		if !reflect.DeepEqual(&got, want) {
			t.Fatalf("Verify(%.300q) = %+v, want %+v", token, &got, want)
		}
	}
	return id, err
}

func (b *verifiedBed) allow(t testing.TB, token string) *Identity {
	t.Helper()
	id, err := b.same(t, token)
	if err != nil {
		t.Fatalf("Verify(%.300q): %v", token, err)
	}
	return id
}

func (b *verifiedBed) deny(t testing.TB, token, cause string) {
	t.Helper()
	if _, err := b.same(t, token); !strings.Contains(fmt.Sprint(err), cause) {
		t.Errorf("Verify(%.300q): %v, want %q", token, err, cause)
	}
}

// remembers reports whether a token is known, and would be believed unseen.
func (b *verifiedBed) remembers(token string) bool {
	hash := hashToken(token)
	return b.verified.set.find(&hash) != nil
}

func (v *Verified) count() (entries, bytes int) {
	for i := range v.set.shards {
		s := &v.set.shards[i]
		entries += len(s.byHash)
		bytes += s.young.bytes + s.old.bytes
	}
	return entries, bytes
}

func TestVerified(t *testing.T) {
	for _, algorithm := range ourAlgorithms() {
		b := newVerifiedBed(t, algorithm, nil)
		token := b.issue(t)
		first := b.allow(t, token)
		if second := b.allow(t, token); second != first {
			t.Errorf("%s: the second time another identity", algorithm)
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := b.verified.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a token seen before, want none", algorithm, n)
		}
		// Whatever else is made of it is another token.
		for i := 0; i < len(token); i += 1 + i%7 {
			changed := []byte(token)
			if changed[i] = 'A'; token[i] == 'A' {
				changed[i] = 'B'
			}
			if _, err := b.same(t, string(changed)); err == nil {
				t.Errorf("%s: accepted with %q at %d", algorithm, changed[i], i)
			}
		}
		for _, other := range []string{token + "=", token + "\n", " " + token, token[:len(token)-1], token + token, strings.ToUpper(token)} {
			b.deny(t, other, "invalid_token")
		}
		if n, _ := b.verified.count(); n != 1 {
			t.Errorf("%s: remembers %d tokens, want 1: only good ones", algorithm, n)
		}
	}
}

func TestVerifiedTime(t *testing.T) {
	b := newVerifiedBed(t, "ES256", nil)
	token := b.issue(t)
	start := b.at
	b.allow(t, token)
	b.at = start.Add(b.TTL + b.Leeway - time.Nanosecond)
	b.allow(t, token)
	b.at = start.Add(b.TTL + b.Leeway)
	b.deny(t, token, "expired at")
	b.at = start.Add(-b.Leeway)
	b.allow(t, token)
	b.at = start.Add(-b.Leeway - time.Nanosecond)
	b.deny(t, token, "is in the future")
	b.at = start

	claims := b.claims()
	claims["nbf"] = start.Unix() - 100
	claims["iat"] = float64(start.Unix()) + 0.75
	odd := signRaw(t, b.Keys.signer.joseKey, mustJSON(t, b.header()), mustJSON(t, claims))
	b.allow(t, odd)
	b.at = start.Add(-b.Leeway)
	b.deny(t, odd, "iat is in the future")

	// What has ended is forgotten, also if nobody asks for it.
	b.at = start.Add(b.TTL + b.Leeway)
	b.verified.sweep()
	if n, bytes := b.verified.count(); n != 0 || bytes != 0 {
		t.Errorf("remembers %d tokens in %d bytes, want none", n, bytes)
	}
}

func TestVerifiedKeyRetires(t *testing.T) {
	b := newVerifiedBed(t, "ES256", nil)
	token := b.issue(t)
	b.allow(t, token)
	b.Keys.signer.until = b.at.Add(time.Minute)
	b.allow(t, token)
	b.at = b.at.Add(time.Minute)
	b.deny(t, token, "is retired")
	b.verified.sweep()
	if b.remembers(token) {
		t.Error("a token of a retired key is still remembered")
	}
}

func TestVerifiedRevocation(t *testing.T) {
	b := newVerifiedBed(t, "ES256", nil)
	revoke := func(r Revocation) {
		t.Helper()
		r.Expires = b.at.Add(b.TTL)
		if err := b.list.Revoke(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	token, other := b.issue(t), b.issue(t)
	id := b.allow(t, token)
	b.allow(t, other)
	revoke(Revocation{Kind: RevokeToken, ID: id.Token})
	b.deny(t, token, "token revoked")
	b.allow(t, other)
	revoke(Revocation{Kind: RevokeUser, ID: id.ID, Generation: 4})
	b.deny(t, other, "all tokens of the user revoked")
}

// TestVerifiedMalleable: an ECDSA signature has a second form that verifies as
// well. It is another token here, and the same one to revocations.
func TestVerifiedMalleable(t *testing.T) {
	issuer := newIssuerBed(t, "ES256", nil)
	b := newVerifiedBed(t, "ES256", issuer.trusted)
	for _, token := range []string{b.issue(t), issuer.token(t, nil), issuer.token(t, with{"jti": nil})} {
		twin := malleated(t, token)
		id, second := b.allow(t, token), b.allow(t, twin)
		if id == second || id.Token != second.Token {
			t.Errorf("identities %p %q and %p %q, want two of one name", id, id.Token, second, second.Token)
		}
		if err := b.list.Revoke(t.Context(), Revocation{Kind: RevokeToken, Issuer: id.Issuer, ID: id.Token, Expires: id.Expires}); err != nil {
			t.Fatal(err)
		}
		b.deny(t, token, "token revoked")
		b.deny(t, twin, "token revoked")
	}
}

func malleated(t testing.TB, token string) string {
	t.Helper()
	j, err := splitJWS(token)
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(j.signature[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(j.signature[32:])
	return j.signed + "." + base64url.EncodeToString(j.signature)
}

func TestVerifiedIssuerRotates(t *testing.T) {
	issuer := newIssuerBed(t, "ES256", nil)
	b := newVerifiedBed(t, "HS256", issuer.trusted)
	token, ours := issuer.token(t, nil), b.issue(t)
	first := b.allow(t, token)
	b.allow(t, ours)
	keys := issuer.trusted.byName[issuer.Issuer].keys
	fetch := func() {
		t.Helper()
		if _, err := keys.refresh(t.Context(), keys.current(), true); err != nil {
			t.Fatal(err)
		}
	}
	fetch()
	if second := b.allow(t, token); second != first {
		t.Error("verified anew after the issuer's keys were fetched, though they are the same")
	}
	issuer.rotate(newTokenBed(t, "ES256").Keys)
	fetch()
	b.deny(t, token, "no key of the issuer fits")
	b.verified.sweep()
	if b.remembers(token) || !b.remembers(ours) {
		t.Error("the sweep: want the token of a removed key forgotten, the other kept")
	}
}

// TestVerifiedClaims: what nobody asks for is forgotten, and nothing of the
// claim set is held on to.
func TestVerifiedClaims(t *testing.T) {
	b := newVerifiedBed(t, "HS256", nil, "tenant", "realm.access.roles", "a.b", "absent")
	claims := b.claims()
	claims["tenant"] = "blue"
	claims["realm"] = with{"access": with{"roles": []any{"x", true, 1.5}}}
	claims["a.b"] = "dotted"
	claims["a"] = with{"b": "nested"}
	claims["other"] = strings.Repeat("x", 3000)
	token := signRaw(t, b.Keys.signer.joseKey, mustJSON(t, b.header()), mustJSON(t, claims))
	id := b.allow(t, token)
	want, err := b.honest.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tenant", "realm.access.roles", "a.b", "absent"} {
		if got := id.Claim(name); !reflect.DeepEqual(got, want.Claim(name)) {
			t.Errorf("claim %q = %v, want %v", name, got, want.Claim(name))
		}
	}
	if id.Claim("other") != nil || id.Claim("iss") != nil {
		t.Errorf("claims %v, want only those that were asked for", id.Claims)
	}
}

func TestKept(t *testing.T) {
	b := newVerifiedBed(t, "HS256", nil)
	id := b.allow(t, b.issue(t))
	one, two := new(int), new(int)
	id.Keep(one, []string{"a", strings.Clone(id.Email)})
	id.Keep(two, []string{"b"})
	if got := fmt.Sprint(id.Kept(one), id.Kept(two), id.Kept(new(int))); got != "[a ann@example.com] [b] []" {
		t.Errorf("kept %s", got)
	}
	id.Keep(new(string), []string{strings.Repeat("x", maxKept)})
	if size := id.kept.bytes.Load(); size > maxKept {
		t.Errorf("keeps %d bytes, want at most %d", size, maxKept)
	}
	_, before := b.verified.count()
	id.Keep(new(bool), []string{strings.Repeat("x", 500)})
	b.verified.sweep()
	if _, after := b.verified.count(); after <= before+400 {
		t.Errorf("%d bytes with more kept, %d before", after, before)
	}
	stranger := &Identity{ID: "u"}
	stranger.Keep(one, []string{"a"})
	if stranger.Kept(one) != nil {
		t.Error("kept with an identity that is not remembered")
	}
}
