package authn_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

func TestRefresh(t *testing.T) {
	b := newBed(t)
	u := b.register(address)
	first := b.login(good)
	b.clock.Move(700 * time.Hour)
	second := b.refresh(first.RefreshToken)
	if second.RefreshToken == first.RefreshToken || second.Identity.Session != first.Identity.Session ||
		second.ExpiresIn != time.Hour || second.RefreshExpiresIn != 720*time.Hour || second.Identity.Token == first.Identity.Token {
		t.Errorf("Refresh = %+v after %+v", second, first)
	}
	b.wantAlive("the new token", second.AccessToken, true)
	b.clock.Move(700 * time.Hour) // use keeps it alive
	third := b.refresh(second.RefreshToken)
	if e := b.lastEvent("refresh"); e.Outcome != "ok" || e.UserID != u.ID || e.SessionID != first.Identity.Session {
		t.Errorf("event %+v, want refresh, ok", e)
	}
	sessions, err := b.SessionsOf(ctx, u.ID)
	if err != nil || len(sessions) != 1 || !sessions[0].LastUsed.Equal(b.clock.Now()) || !sessions[0].Created.Equal(b.clock.Now().Add(-1400*time.Hour)) {
		t.Errorf("SessionsOf = %+v, %v", sessions, err)
	}
	b.clock.Move(720 * time.Hour)
	b.wantNoRefresh("an expired session", third.RefreshToken)
	if sessions, err := b.SessionsOf(ctx, u.ID); err != nil || len(sessions) != 0 {
		t.Errorf("SessionsOf = %+v, %v, want none: it has expired", sessions, err)
	}
}

func TestRefreshMalformed(t *testing.T) {
	b := newBed(t)
	b.register(address)
	g := b.login(good)
	token := g.RefreshToken
	secret := token[strings.LastIndexByte(token, '.')+1:]
	if len(secret) != 64 || !strings.HasPrefix(token, "gr_"+g.Identity.Session+".") {
		t.Fatalf("refresh token %q, want gr_SESSION.SECRET", token)
	}
	flip := func(i int) string { // another secret
		c := byte('A')
		if secret[i] == 'A' {
			c = 'B'
		}
		return strings.TrimSuffix(token, secret) + secret[:i] + string(c) + secret[i+1:]
	}
	for _, bad := range []string{
		"", "x", "gr_", "gr_.", g.AccessToken, token + "A", token[:len(token)-1], strings.ToUpper(token), " " + token, token + "\n",
		strings.TrimPrefix(token, "gr_"), "gr_" + strings.Repeat("s", 65) + "." + secret, "gr_nobody." + secret, "gr_." + secret,
		token[:len(token)-2] + "\r\n", token[:len(token)-1] + "=", flip(0), strings.Repeat("a", 1<<20),
	} {
		b.wantNoRefresh(bad[:min(len(bad), 90)], bad)
	}
	// Whoever knows the session's ID alone has not ended it with all that.
	b.refresh(token)
}

// Two tabs, a repeated request: the same successor.
func TestRefreshGrace(t *testing.T) {
	b := newBed(t)
	b.register(address)
	first := b.login(good)
	second := b.refresh(first.RefreshToken)
	b.clock.Move(10*time.Second - 1)
	again := b.refresh(first.RefreshToken)
	if again.RefreshToken != second.RefreshToken {
		t.Error("a second use within the grace period has another successor")
	}
	if want := 720*time.Hour - 10*time.Second + 1; again.RefreshExpiresIn != want {
		t.Errorf("it expires in %v, want %v", again.RefreshExpiresIn, want)
	}
	b.wantAlive("its access token", again.AccessToken, true)
	b.refresh(again.RefreshToken)
}

func TestRefreshParallel(t *testing.T) {
	b := newBed(t)
	b.register(address)
	first := b.login(good)
	var mu sync.Mutex
	successors := make(map[string]bool)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			g, err := b.Refresh(ctx, first.RefreshToken, home)
			if err != nil {
				t.Errorf("Refresh = %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			successors[g.RefreshToken] = true
		})
	}
	wg.Wait()
	if len(successors) != 1 {
		t.Errorf("%d successors, want 1", len(successors))
	}
}

func TestRefreshReuse(t *testing.T) {
	for what, use := range map[string]func(b *bed, first authn.Grant) (spent string, latest authn.Grant){
		"after the grace period": func(b *bed, first authn.Grant) (string, authn.Grant) {
			latest := b.refresh(first.RefreshToken)
			b.clock.Move(10 * time.Second)
			return first.RefreshToken, latest
		},
		"two generations back, at once": func(b *bed, first authn.Grant) (string, authn.Grant) {
			second := b.refresh(first.RefreshToken)
			return first.RefreshToken, b.refresh(second.RefreshToken)
		},
	} {
		b := newBed(t)
		u := b.register(address)
		other := b.login(good)
		spent, latest := use(b, b.login(good))
		b.wantNoRefresh("a spent token "+what, spent)
		b.wantNoRefresh("the latest token after an alarm", latest.RefreshToken)
		b.wantAlive("the session's access token after an alarm", latest.AccessToken, false)
		if e := b.lastEvent("refresh_reuse"); e.Outcome != "ok" || e.UserID != u.ID || e.SessionID != latest.Identity.Session || e.Address != home.Address {
			t.Errorf("event %+v, want refresh_reuse", e)
		}
		b.wantAlive("another session's token", other.AccessToken, true)
		b.refresh(other.RefreshToken)
	}
}

// The database holds nothing of which a usable token can be made.
func TestRefreshTokensAreNotStored(t *testing.T) {
	b := newBed(t)
	u := b.register(address)
	first := b.login(good)
	second := b.refresh(first.RefreshToken)
	sessions, err := b.store.SessionsOf(ctx, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := json.Marshal(sessions)
	for _, token := range []string{first.RefreshToken, second.RefreshToken} {
		secret := token[strings.LastIndexByte(token, '.')+1:]
		if strings.Contains(string(stored), secret) || strings.Contains(string(stored), secret[:22]) {
			t.Errorf("the store holds %s", stored)
		}
	}
}

func TestRefreshPicksUpChanges(t *testing.T) {
	b := newBed(t)
	b.register(address)
	g := b.login(good)
	if err := b.SetRoles(ctx, address, []string{"ops", "ops", "user"}); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("a token with the old roles", g.AccessToken, false)
	g = b.refresh(g.RefreshToken)
	if !slices.Equal(g.Identity.Roles, []string{"ops", "user"}) || g.Identity.Generation != 2 {
		t.Errorf("after set-roles: %+v, want ops, user and generation 2", g.Identity)
	}
	b.wantAlive("a token with the new roles", g.AccessToken, true)
}

func TestLogout(t *testing.T) {
	b := newBed(t)
	b.register(address)
	mine, other := b.login(good), b.login(good)
	later := b.refresh(mine.RefreshToken)
	if err := b.Logout(ctx, mine.Identity, false); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("the token", mine.AccessToken, false)
	b.wantAlive("a later token of the session", later.AccessToken, false)
	b.wantNoRefresh("an ended session", later.RefreshToken)
	b.wantAlive("another session", other.AccessToken, true)
	b.refresh(other.RefreshToken)
	if err := b.Logout(ctx, mine.Identity, false); err != nil {
		t.Errorf("Logout again = %v", err)
	}
	// Kept for as long as the token would be accepted, and longer.
	b.clock.Move(time.Hour + 30*time.Second - 1)
	restarted := authn.NewRevocationList(b.store, b.clock.Now)
	if err := restarted.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if err := restarted.Check(ctx, mine.Identity); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Check in the token's last moment, after a restart = %v, want invalid_token", err)
	}
}

func TestLogoutEverywhere(t *testing.T) {
	b := newBed(t)
	b.register(address)
	one, two := b.login(good), b.login(good)
	if err := b.Logout(ctx, one.Identity, true); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("the caller's token", one.AccessToken, false)
	b.wantAlive("the other token", two.AccessToken, false)
	b.wantNoRefresh("the caller's session", one.RefreshToken)
	b.wantNoRefresh("the other session", two.RefreshToken)
	b.wantAlive("a token from the same second, after", b.login(good).AccessToken, true)
}

// A revocation that is not recorded is never called done.
func TestLogoutWithoutLog(t *testing.T) {
	for _, everywhere := range []bool{false, true} {
		b := newBed(t)
		b.register(address)
		g := b.login(good)
		b.store.broken.Store(true)
		err := b.Logout(ctx, g.Identity, everywhere)
		if r := authn.AsRefusal(err); !errors.Is(err, authn.ErrRevocation) || r.RetryAfter != time.Second {
			t.Errorf("Logout(everywhere: %v) = %+v, want revocation_unavailable", everywhere, err)
		}
		b.store.broken.Store(false)
		if err := b.Logout(ctx, g.Identity, everywhere); err != nil {
			t.Errorf("Logout afterwards = %v", err)
		}
		b.wantAlive("the token", g.AccessToken, false)
	}
}

// The client that closes its tab is logged out all the same.
func TestLogoutOfAClientThatLeft(t *testing.T) {
	b := newBed(t)
	b.register(address)
	g := b.login(good)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.Logout(gone, g.Identity, false); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("the token", g.AccessToken, false)
}

func TestLogoutOfTrustedIssuer(t *testing.T) {
	b := newBed(t)
	b.register(address)
	ours := b.login(good)
	theirs := &authn.Identity{Issuer: "https://login.example", ID: ours.Identity.ID, Token: ours.Identity.Token,
		Session: ours.Identity.Session, Expires: b.clock.Now().Add(time.Hour)}
	if err := b.Logout(ctx, theirs, true); err != nil {
		t.Fatal(err)
	}
	if err := b.Revocations.Check(ctx, theirs); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Check = %v, want invalid_token", err)
	}
	b.wantAlive("our token with the same IDs", ours.AccessToken, true)
	theirs.Token = ""
	if err := b.Logout(ctx, theirs, false); !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("Logout of a token that cannot be named = %v, want revocation_unavailable", err)
	}
}

func TestEndSession(t *testing.T) {
	b := newBed(t)
	u, other := b.register(address), b.register("bob@example.com")
	g := b.login(good)
	for _, c := range [][2]string{{other.ID, g.Identity.Session}, {u.ID, "nothing"}, {u.ID, ""}} {
		if err := b.EndSession(ctx, c[0], c[1]); !errors.Is(err, authn.ErrSessionNotFound) {
			t.Errorf("EndSession(%q) = %v, want ErrSessionNotFound", c, err)
		}
	}
	b.wantAlive("the token", g.AccessToken, true)
	if err := b.EndSession(ctx, u.ID, g.Identity.Session); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("the token of an ended session", g.AccessToken, false)
	b.wantNoRefresh("an ended session", g.RefreshToken)
}
