package authn_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

func TestChangePassword(t *testing.T) {
	const next = "a new and longer password"
	b := newBed(t)
	b.register(address)
	mine, other := b.login(good), b.login(good)
	if err := b.ChangePassword(ctx, mine.Identity, good, next, home); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("the caller's token", mine.AccessToken, true)
	b.refresh(mine.RefreshToken)
	b.wantAlive("another session's token", other.AccessToken, false)
	b.wantNoRefresh("another session", other.RefreshToken)
	if _, err := b.Login(ctx, address, good, home); !errors.Is(err, authn.ErrInvalidCredentials) {
		t.Errorf("Login with the old password = %v, want invalid_credentials", err)
	}
	b.login(next)

	refuse := func(id *authn.Identity, current, next string, want error) {
		t.Helper()
		if err := b.ChangePassword(ctx, id, current, next, home); !errors.Is(err, want) {
			t.Errorf("ChangePassword(%q, %q) = %v, want %v", current, next, err, want)
		}
	}
	refuse(mine.Identity, next, "short", authn.ErrWeakPassword)
	refuse(mine.Identity, next, strings.Repeat("x", 73), authn.ErrInvalidRequest)
	refuse(&authn.Identity{Issuer: "https://a", ID: mine.Identity.ID}, next, good, authn.ErrForbidden)
	refuse(&authn.Identity{ID: "nobody"}, next, good, authn.ErrInvalidToken)
	for range 3 {
		refuse(mine.Identity, "wrong", good, authn.ErrInvalidCredentials)
	}
	refuse(mine.Identity, next, good, authn.ErrTooManyAttempts) // as at the login
	if e := b.lastEvent("password"); e.Outcome != "too_many_attempts" || e.SessionID != mine.Identity.Session {
		t.Errorf("event %+v, want password, too_many_attempts", e)
	}
	b.clock.Move(time.Hour)
	b.login(next)
}

func TestChangePasswordWithoutLog(t *testing.T) {
	b := newBed(t)
	b.register(address)
	mine := b.login(good)
	b.login(good)
	b.store.broken.Store(true)
	err := b.ChangePassword(ctx, mine.Identity, good, "a new and longer password", home)
	if !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("ChangePassword = %+v, want revocation_unavailable", err)
	}
	b.login(good) // nothing was changed
}

// What an operator does to an account reaches the tokens that are out.
func TestOperatorChanges(t *testing.T) {
	for what, c := range map[string]struct {
		do       func(*bed) error
		sessions bool // go on
		login    bool // with the old password
	}{
		"set-roles":    {func(b *bed) error { return b.SetRoles(ctx, " ANN@example.com", nil) }, true, true},
		"set-password": {func(b *bed) error { return b.SetPassword(ctx, address, "a new and longer password") }, false, false},
		"disable":      {func(b *bed) error { return b.SetDisabled(ctx, address, true) }, false, false},
		"disable and enable": {func(b *bed) error {
			return errors.Join(b.SetDisabled(ctx, address, true), b.SetDisabled(ctx, address, false))
		}, false, true},
		"delete": {func(b *bed) error { return b.DeleteUser(ctx, address) }, false, false},
	} {
		b := newBed(t)
		b.register(address)
		g := b.login(good)
		service, _, err := b.IssueToken(ctx, address, nil, 1000*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.do(b); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		b.wantAlive("a token from before "+what, g.AccessToken, false)
		b.wantAlive("a token of no session from before "+what, service, false)
		if _, err := b.Refresh(ctx, g.RefreshToken, home); (err == nil) != c.sessions {
			t.Errorf("Refresh after %s = %v, want success: %v", what, err, c.sessions)
		}
		later, err := b.Login(ctx, address, good, home)
		if (err == nil) != c.login {
			t.Errorf("Login after %s = %v, want success: %v", what, err, c.login)
		}
		if err == nil {
			b.wantAlive("a token from after "+what, later.AccessToken, true)
		}
	}
}

// A token that lives longer than usual must not outlive its revocation, nor
// one that was issued when access_ttl was longer.
func TestRevocationOutlivesEveryToken(t *testing.T) {
	for what, issue := range map[string]func(*bed) string{
		"a token of 1000 h": func(b *bed) string {
			token, _, err := b.IssueToken(ctx, address, []string{"ops"}, 1000*time.Hour)
			if err != nil {
				b.t.Fatal(err)
			}
			return token
		},
		"a token of an older configuration": func(b *bed) string {
			b.Tokens.TTL = 1000 * time.Hour
			token := b.login(good).AccessToken
			b.Tokens.TTL = time.Hour
			return token
		},
	} {
		b := newBed(t)
		b.register(address)
		token := issue(b)
		b.wantAlive(what, token, true)
		if err := b.SetDisabled(ctx, address, true); err != nil {
			t.Fatal(err)
		}
		b.clock.Move(1000*time.Hour + 30*time.Second - 1)
		b.Revocations = authn.NewRevocationList(b.store, b.clock.Now) // forgets what has expired
		if err := b.Revocations.Load(ctx); err != nil {
			t.Fatal(err)
		}
		b.wantAlive(what+" in its last moment", token, false)
		b.clock.Move(5000 * time.Hour)
		list := authn.NewRevocationList(b.store, b.clock.Now)
		if err := list.Load(ctx); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := list.State(); n != 0 {
			t.Errorf("%d revocations are kept long after, want none", n)
		}
	}
}

// A token for a service does not have every later sign-out kept for as long.
func TestSessionRevocationsEnd(t *testing.T) {
	b := newBed(t)
	b.register(address)
	if _, _, err := b.IssueToken(ctx, address, nil, 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	b.Tokens.TTL = 20 * time.Hour // until a reload
	g := b.login(good)
	b.Tokens.TTL = time.Hour
	if err := b.EndSession(ctx, g.Identity.ID, g.Identity.Session); err != nil {
		t.Fatal(err)
	}
	reload := func() int {
		b.Revocations = authn.NewRevocationList(b.store, b.clock.Now)
		if err := b.Revocations.Load(ctx); err != nil {
			t.Fatal(err)
		}
		n, _, _ := b.Revocations.State()
		return n
	}
	b.clock.Move(20*time.Hour + 30*time.Second - 1)
	reload()
	b.wantAlive("the session's token in its last moment", g.AccessToken, false)
	b.clock.Move(30 * time.Hour)
	if n := reload(); n != 0 {
		t.Errorf("%d revocations are kept long after the session's last token, want none", n)
	}
}

func TestIssueToken(t *testing.T) {
	b := newBed(t)
	u := b.register(address)
	token, id, err := b.IssueToken(ctx, address, nil, 0)
	if err != nil || id.ID != u.ID || id.Session != "" || id.Roles[0] != "user" || !id.Expires.Equal(b.clock.Now().Add(time.Hour)) {
		t.Errorf("IssueToken = %+v, %v", id, err)
	}
	b.wantAlive("the token", token, true)
	if err := b.RevokeToken(ctx, id); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("the token", token, false)
	refuse := func(email string, roles []string, ttl time.Duration, says string) {
		t.Helper()
		if _, _, err := b.IssueToken(ctx, email, roles, ttl); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("IssueToken(%q, %q, %s) = %v, want an error with %q", email, roles, ttl, err, says)
		}
	}
	refuse(address, nil, time.Millisecond, "ttl 1ms")
	refuse(address, nil, -time.Hour, "ttl -1h")
	refuse(address, nil, 1<<62, "ttl")
	refuse(address, []string{""}, 0, "roles")
	refuse("nobody@example.com", nil, 0, `user "nobody@example.com": user not found`)
	if err := b.SetDisabled(ctx, address, true); err != nil {
		t.Fatal(err)
	}
	refuse(address, nil, 0, "disabled")
}

func TestAddUser(t *testing.T) {
	b := newBed(t)
	b.RegistrationOpen = false
	u, err := b.AddUser(ctx, "Ann@Example.com", good, "Ann", []string{"a", "b", "a"})
	if err != nil || u.Email != address || u.Name != "Ann" || len(u.Roles) != 2 {
		t.Errorf("AddUser = %+v, %v", u, err)
	}
	b.login(good)
	refuse := func(email, password string, roles []string, want error) {
		t.Helper()
		if u, err := b.AddUser(ctx, email, password, "", roles); !errors.Is(err, want) || u.ID != "" {
			t.Errorf("AddUser(%q, %q) = %+v, %v, want %v", email, roles, u, err, want)
		}
	}
	refuse(address, good, nil, authn.ErrUserExists)
	refuse("b@example.com", "short", nil, authn.ErrWeakPassword)
	refuse("b@example.com", good, []string{" ops"}, authn.ErrInvalidRequest)
	refuse("b@example.com", good, []string{"o\nps"}, authn.ErrInvalidRequest)
	refuse("b@example.com", good, []string{strings.Repeat("r", 65)}, authn.ErrInvalidRequest)
	refuse("b@example.com", good, manyRoles(4001, 1), authn.ErrInvalidRequest)
	refuse("b@example.com", good, manyRoles(1100, 62), authn.ErrInvalidRequest)
	for _, err := range []error{
		b.SetPassword(ctx, "nobody@example.com", good), b.SetRoles(ctx, "nobody@example.com", nil),
		b.SetDisabled(ctx, "nobody@example.com", true), b.DeleteUser(ctx, "nobody@example.com"),
	} {
		if !errors.Is(err, authn.ErrUserNotFound) {
			t.Errorf("change of nobody = %v, want ErrUserNotFound", err)
		}
	}
	if err := b.SetPassword(ctx, address, "short"); !errors.Is(err, authn.ErrWeakPassword) {
		t.Errorf("SetPassword = %v, want weak_password", err)
	}
}

func manyRoles(n, length int) (roles []string) {
	for i := range n {
		roles = append(roles, string(rune(0x100+i))+strings.Repeat("r", length-1))
	}
	return roles
}

// importUser is `user import` of one line.
func (b *bed) importUser(email, name, hash string, roles []string) (authn.User, error) {
	u, err := b.PrepareImport(email, name, hash, roles)
	if err == nil {
		err = b.Users.CreateUser(ctx, u)
	}
	return u, err
}

func TestImport(t *testing.T) {
	b := newBed(t)
	hash, err := b.Hasher.Hash(ctx, good)
	if err != nil {
		t.Fatal(err)
	}
	ofCost := func(cost string) string { return hash[:4] + cost + hash[6:] }
	for _, bad := range []string{"", "secret", ofCost("19"), ofCost("31"), ofCost("32"), hash[:30]} {
		if _, err := b.importUser(address, "", bad, nil); !errors.Is(err, authn.ErrInvalidRequest) || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("import with the hash %q = %v, want invalid_request", bad, err)
		}
	}
	if _, err := b.importUser(address, "", hash, nil); err != nil {
		t.Fatal(err)
	}
	b.login(good)
	// A login after this would take minutes.
	if _, err := b.importUser("costly@example.com", "", ofCost("18"), nil); err != nil {
		t.Errorf("import with the highest cost = %v", err)
	}
}
