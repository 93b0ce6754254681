package authn

import (
	"fmt"
	"testing"
	"time"
)

func TestAssert(t *testing.T) {
	b := newTokenBed(t, "ES256")
	id := &Identity{ID: "u-ann", Issuer: "https://idp.example", Email: "ann@example.com", Roles: []string{"ops"}, Expires: b.at.Add(10 * time.Second)}
	token, err := b.Assert(id, "gatehouse", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	u, err := readToken(token)
	if err != nil {
		t.Fatal(err)
	}
	h, claims := u.header, u.claims
	if err := b.Keys.signer.verify(u.jws); err != nil || h.typ != typAssertion || h.kid != b.Keys.signer.id {
		t.Errorf("header %+v, %v", h, err)
	}
	want := map[string]string{"iss": b.Issuer, "sub": "u-ann", "sub_iss": "https://idp.example", "aud": "gatehouse", "email": "ann@example.com",
		"roles": "[ops]", "exp": fmt.Sprint(b.at.Unix() + 40)} // with its token, leeway included
	for name, v := range want {
		if got := fmt.Sprint(claims[name]); got != v {
			t.Errorf("%s = %s, want %s", name, got, v)
		}
	}
	wantRefused(t, b, token, "typ")

	// Roles are a list also where there are none.
	if token, err = b.Assert(&Identity{ID: "u-bob"}, "gatehouse", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, claims, err := Inspect(token); err != nil || fmt.Sprintf("%#v", claims["roles"]) != "[]interface {}{}" {
		t.Errorf("roles %#v, %v, want an empty list", claims["roles"], err)
	}
}

func TestInspect(t *testing.T) {
	b := newTokenBed(t, "ES256")
	header, claims, err := Inspect(b.issue(t))
	if err != nil || header["kid"] != b.Keys.signer.id || claims["sub"] != "u-ann" {
		t.Errorf("Inspect = %v, %v, %v", header, claims, err)
	}
	if _, _, err := Inspect("a.b.c"); err == nil {
		t.Error("Inspect of no token: no error")
	}
}
