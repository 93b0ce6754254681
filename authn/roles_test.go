package authn_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gatehouse/authn"
)

// named are roles with names as long as people give them.
func named(n int) (roles []string) {
	for i := range n {
		roles = append(roles, fmt.Sprintf("department-%04d", i))
	}
	return roles
}

// A token that would be too long for a cookie leaves its roles out, and proves
// them all the same where the account is.
func TestRolesOmitted(t *testing.T) {
	b := newBed(t)
	b.Tokens.RolesOf = b.RolesOf
	verifier := authn.Join([]authn.Verifier{b.Tokens}, b.Revocations.Check)
	proves := func(token string, want []string) {
		t.Helper()
		id, err := verifier.Verify(ctx, token)
		if err != nil {
			t.Fatalf("Verify = %v", err)
		}
		claim, _ := json.Marshal(id.Claim("roles"))
		wanted, _ := json.Marshal(want)
		if !slices.Equal(id.Roles, want) || string(claim) != string(wanted) {
			t.Errorf("%d roles and the claim %.60s, want %d roles in both", len(id.Roles), claim, len(want))
		}
	}
	omits := func(token string, want bool) {
		t.Helper()
		_, claims, err := authn.Inspect(token)
		_, there := claims["roles"]
		if err != nil || claims["roles_omitted"] == true != want || there == want || len(token) > 4000 {
			t.Errorf("token of %d bytes, roles %v, omitted %v, %v; want omitted %v", len(token), there, claims["roles_omitted"], err, want)
		}
	}
	b.register(address)
	few, many := named(50), named(2000)
	for _, roles := range [][]string{nil, few, many} {
		if err := b.SetRoles(ctx, address, roles); err != nil {
			t.Fatal(err)
		}
		g := b.login(good)
		omits(g.AccessToken, len(roles) == len(many))
		if len(g.Identity.Roles) != len(roles) {
			t.Errorf("the grant's identity has %d roles, want %d", len(g.Identity.Roles), len(roles))
		}
		proves(g.AccessToken, append([]string{}, roles...))
	}
	g := b.login(good)
	single, _, err := b.IssueToken(ctx, address, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	omits(single, true)
	proves(single, many)

	// Other roles than the user's own are nowhere but in the token.
	if token, _, err := b.IssueToken(ctx, address, few, time.Hour); err != nil {
		t.Error(err)
	} else {
		omits(token, false)
		proves(token, few)
	}
	if _, _, err := b.IssueToken(ctx, address, many[1:], time.Hour); err == nil {
		t.Error("a token with 1999 roles in it was issued")
	}

	// A store that cannot answer is no "no"; a gateway without accounts says it is one.
	down := errors.New("the store is down")
	b.Tokens.RolesOf = func(context.Context, string, int64) ([]string, error) { return nil, down }
	var refusal *authn.Refusal
	if _, err := verifier.Verify(ctx, g.AccessToken); !errors.Is(err, down) || errors.As(err, &refusal) {
		t.Errorf("Verify = %v, want the store's error and no refusal", err)
	}
	b.Tokens.RolesOf = nil
	b.wantAlive("a token without its roles, where nobody knows them", g.AccessToken, false)
	b.Tokens.RolesOf = b.RolesOf

	// Other roles are another generation, also before the revocation has arrived.
	if err := b.SetRoles(ctx, address, few); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Tokens.Verify(ctx, g.AccessToken); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Verify of a token with the roles of before = %v, want invalid_token", err)
	}
	if err := b.SetRoles(ctx, address, many); err != nil {
		t.Fatal(err)
	}
	g = b.refresh(g.RefreshToken)
	if err := b.store.DeleteUser(ctx, g.Identity.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Tokens.Verify(ctx, g.AccessToken); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Verify of a deleted user's token = %v, want invalid_token", err)
	}
}
