package authn_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gatehouse/authn"
)

// A gateway without accounts, which issues under the same name and reads the
// same revocations as the one that keeps them, signs its users out.
func TestLogoutWithoutAccounts(t *testing.T) {
	b := newBed(t)
	b.register(address)
	here, there := b.login(good), b.login(good)
	verifier := &authn.Service{Revocations: b.Revocations, Tokens: b.Tokens, RefreshTTL: b.RefreshTTL, Now: b.Now, Audit: b.Audit}

	if err := verifier.Logout(ctx, here.Identity, true); !errors.Is(err, authn.ErrForbidden) {
		t.Errorf("Logout everywhere = %v, want forbidden: only the keeper of the account can", err)
	}
	b.wantAlive("the token", here.AccessToken, true)
	if err := verifier.Logout(ctx, here.Identity, false); err != nil {
		t.Fatalf("Logout = %v", err)
	}
	b.wantAlive("the token", here.AccessToken, false)
	b.wantAlive("the token of another session", there.AccessToken, true)

	// Long after, its refresh token brings nothing back, and the session ends.
	b.clock.Move(719 * time.Hour)
	b.wantNoRefresh("a session that was signed out elsewhere", here.RefreshToken)
	if _, err := b.Sessions.SessionByID(ctx, here.Identity.Session); !errors.Is(err, authn.ErrSessionNotFound) {
		t.Errorf("SessionByID = %v, want the session gone", err)
	}
	b.refresh(there.RefreshToken)

	// A token of no session is all there is to end.
	single, id, err := b.IssueToken(ctx, address, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Logout(ctx, id, false); err != nil {
		t.Fatalf("Logout = %v", err)
	}
	b.wantAlive("a token without session", single, false)
}

// Without a log nothing is revoked, and nothing is promised.
func TestNoLog(t *testing.T) {
	list := authn.NewRevocationList(authn.NoLog{}, time.Now)
	if err := list.Load(ctx); err != nil {
		t.Fatal(err)
	}
	ann := &authn.Identity{ID: "ann", Token: "t"}
	if err := list.Check(ctx, ann); err != nil {
		t.Errorf("Check = %v", err)
	}
	r := authn.Revocation{Kind: authn.RevokeToken, ID: "t", Expires: time.Now().Add(time.Hour)}
	if err := list.Revoke(ctx, r); !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("Revoke = %v, want that it was not recorded", err)
	}
	if err := list.Check(ctx, ann); err != nil {
		t.Errorf("Check = %v after a revocation that failed", err)
	}
	if n, read, err := list.State(); n != 0 || read.IsZero() || err != nil {
		t.Errorf("State = %d, %v, %v", n, read, err)
	}
	// Following it costs nothing and ends when it should.
	if _, _, err := (authn.NoLog{}).Read(ctx, "", time.Millisecond); err != nil {
		t.Errorf("Read = %v", err)
	}
	ending, end := context.WithCancel(ctx)
	followed := make(chan error)
	go func() { followed <- list.Follow(ending) }()
	end()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow = %v", err)
	}
}
