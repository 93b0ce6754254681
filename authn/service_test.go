package authn_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
	"gatehouse/config"
)

// bed is a Service on memory, with a clock to move.
type bed struct {
	t     *testing.T
	clock *authntest.Clock
	store *brokenLog
	*authn.Service

	mu     sync.Mutex
	events []authn.Event
}

const (
	address = "ann@example.com"
	good    = "correct horse battery staple"
)

var home = authn.Client{Address: netip.MustParseAddr("192.0.2.1"), UserAgent: "curl/8\x00\u202e"}

func newBed(t *testing.T) *bed {
	t.Helper()
	keys, err := authn.LoadKeys(&config.Config{Tokens: config.Tokens{Keys: []config.Key{
		{ID: "k", Algorithm: "HS256", Secret: "a 32 byte secret, used in tests!"}}}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, clock: authntest.NewClock(), store: new(brokenLog)}
	list := authn.NewRevocationList(b.store, b.clock.Now)
	if err := list.Load(ctx); err != nil {
		t.Fatal(err)
	}
	b.Service = &authn.Service{
		Users: b.store, Sessions: b.store, Revocations: list,
		Tokens: &authn.Tokens{Keys: keys, Issuer: "https://gw.example", Audience: "gatehouse",
			TTL: time.Hour, Leeway: 30 * time.Second, Now: b.clock.Now},
		Hasher: authn.NewHasher(4), Policy: authn.PasswordPolicy{MinLength: 8},
		Throttle:         authn.NewThrottle(3, 15*time.Minute, b.clock.Now),
		RegistrationOpen: true, DefaultRoles: []string{"user"},
		RefreshTTL: 720 * time.Hour, RefreshGrace: 10 * time.Second,
		Now: b.clock.Now,
		Audit: func(_ context.Context, e authn.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
	}
	return b
}

func (b *bed) register(email string) authn.User {
	b.t.Helper()
	u, err := b.Register(ctx, email, good, "", home)
	if err != nil {
		b.t.Fatalf("Register(%q) = %v", email, err)
	}
	return u
}

func (b *bed) login(password string) authn.Grant {
	b.t.Helper()
	g, err := b.Login(ctx, address, password, home)
	if err != nil {
		b.t.Fatalf("Login = %v", err)
	}
	return g
}

func (b *bed) refresh(token string) authn.Grant {
	b.t.Helper()
	g, err := b.Refresh(ctx, token, home)
	if err != nil {
		b.t.Fatalf("Refresh = %v", err)
	}
	return g
}

// alive tells whether an access token is accepted.
func (b *bed) alive(token string) bool {
	b.t.Helper()
	_, err := authn.Join([]authn.Verifier{b.Tokens}, b.Revocations.Check).Verify(ctx, token)
	if err != nil && !errors.Is(err, authn.ErrInvalidToken) {
		b.t.Fatalf("Verify = %v", err)
	}
	return err == nil
}

func (b *bed) wantAlive(what, token string, want bool) {
	b.t.Helper()
	if got := b.alive(token); got != want {
		b.t.Errorf("%s is accepted: %v, want %v", what, got, want)
	}
}

func (b *bed) wantNoRefresh(what, token string) {
	b.t.Helper()
	if _, err := b.Refresh(ctx, token, home); !errors.Is(err, authn.ErrInvalidToken) {
		b.t.Errorf("Refresh of %s = %v, want invalid_token", what, err)
	}
}

// lastEvent is the latest of a name.
func (b *bed) lastEvent(name string) authn.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range slices.Backward(b.events) {
		if e.Name == name {
			return e
		}
	}
	return authn.Event{}
}

func TestRegister(t *testing.T) {
	b := newBed(t)
	refuse := func(email, password, name string, want *authn.Refusal, says string) {
		t.Helper()
		u, err := b.Register(ctx, email, password, name, home)
		if !errors.Is(err, want) || !strings.Contains(authn.AsRefusal(err).Message, says) || u.ID != "" {
			t.Errorf("Register(%q, %q) = %q, %v %+v, want %v saying %q", email, name, u.ID, err, err, want, says)
		}
	}
	u, err := b.Register(ctx, " Ann@EXAMPLE.com ", good, "", home)
	if err != nil || u.Email != address || u.Name != address || !slices.Equal(u.Roles, []string{"user"}) || u.Generation != 1 ||
		!u.Created.Equal(b.clock.Now()) || len(u.ID) != 26 || strings.ToLower(u.ID) != u.ID {
		t.Errorf("Register = %+v, %v", u, err)
	}
	if e := b.lastEvent("register"); e.Outcome != "ok" || e.UserID != u.ID || e.Address != home.Address {
		t.Errorf("event %+v, want register, ok", e)
	}
	named, err := b.Register(ctx, "bob@example.com", good, "  Bob\u200d Ng\u0303uye\u0302\u0303n  ", home)
	if err != nil || named.Name != "Bob\u200d Ng\u0303uy\u1ec5n" {
		t.Errorf("Register = %+q, %v, want the name in NFC", named.Name, err)
	}
	own, err := b.Register(ctx, "cy@example.com", good, "CY@example.com", home)
	if err != nil || own.Name != "cy@example.com" {
		t.Errorf("Register = %q, %v, want the own address as name", own.Name, err)
	}

	refuse("ANN@example.com", good, "", authn.ErrUserExists, "User already exists")
	refuse("ann@b@c", good, "", authn.ErrInvalidRequest, `email must have exactly one "@"`)
	refuse("d\x00@example.com", good, "", authn.ErrInvalidRequest, "email must have no control characters")
	refuse("d@example.com", "short", "", authn.ErrWeakPassword, "at least 8")
	refuse("d@example.com", strings.Repeat("x", 75), "", authn.ErrInvalidRequest, "password must be at most 72 bytes; this one has 75")
	refuse("d@example.com", good, "a\nb", authn.ErrInvalidRequest, "name must have no control")
	refuse("d@example.com", good, "a\u202eb", authn.ErrInvalidRequest, "name must have no control or invisible")
	refuse("d@example.com", good, "a\xff", authn.ErrInvalidRequest, "name must be valid UTF-8")
	refuse("d@example.com", good, strings.Repeat("n", 101), authn.ErrInvalidRequest, "name must be at most 100")
	refuse("d@example.com", good, "ann@example.com", authn.ErrInvalidRequest, "own address")
	refuse("d@example.com", good, "ann\uff20example.com", authn.ErrInvalidRequest, "own address")

	b.Policy.MinStrength = 2
	refuse("dorothea@example.com", "dorothea", "", authn.ErrWeakPassword, "strength 0 of 4")
	for _, bad := range []string{strings.Repeat("r", 65), "a,b", ""} {
		b.DefaultRoles = []string{bad}
		_, err := b.Register(ctx, "d@example.com", good+bad, "", home)
		if r := authn.AsRefusal(err); r.Code != "internal" {
			t.Errorf("Register with the default role %q = %+v, want internal: the client cannot help it", bad, r)
		}
	}
	b.DefaultRoles = nil
	b.RegistrationOpen = false
	refuse("d@example.com", good, "", authn.ErrRegistrationClosed, "closed")
}

func TestRegisterRace(t *testing.T) {
	b := newBed(t)
	b.Throttle = nil
	var mu sync.Mutex
	created := 0
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, err := b.Register(ctx, address, good, "", home)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				created++
			} else if !errors.Is(err, authn.ErrUserExists) {
				t.Errorf("Register = %v", err)
			}
		})
	}
	wg.Wait()
	if created != 1 {
		t.Errorf("%d of 30 registrations succeeded, want 1", created)
	}
}

func TestRegisterThrottle(t *testing.T) {
	b := newBed(t)
	for i := range 30 {
		_, err := b.Register(ctx, string(rune('a'+i%26))+"@example.com", good, "", home)
		if err != nil && !errors.Is(err, authn.ErrUserExists) {
			t.Fatal(err)
		}
	}
	_, err := b.Register(ctx, "new@example.com", good, "", home)
	if !errors.Is(err, authn.ErrTooManyAttempts) || authn.AsRefusal(err).RetryAfter != 15*time.Minute {
		t.Errorf("31st Register = %v, want too_many_attempts", err)
	}
}

func TestLogin(t *testing.T) {
	b := newBed(t)
	u := b.register(address)
	g, err := b.Login(ctx, "\tANN@Example.com", good, home)
	if err != nil {
		t.Fatal(err)
	}
	if g.ExpiresIn != time.Hour || g.RefreshExpiresIn != 720*time.Hour || g.Identity.ID != u.ID || g.Identity.Session == "" {
		t.Errorf("Login = %+v", g)
	}
	b.wantAlive("the token", g.AccessToken, true)
	sessions, err := b.SessionsOf(ctx, u.ID)
	if err != nil || len(sessions) != 1 || sessions[0].ID != g.Identity.Session || sessions[0].Address != "192.0.2.1" || sessions[0].UserAgent != "curl/8" {
		t.Errorf("SessionsOf = %+v, %v", sessions, err)
	}
	if again := b.login(good); again.Identity.Session == g.Identity.Session {
		t.Error("a second login has the session of the first")
	}
	if e := b.lastEvent("login"); e.Outcome != "ok" || e.UserID != u.ID || e.SessionID == "" {
		t.Errorf("event %+v, want login, ok", e)
	}

	b.register("off@example.com")
	if err := b.SetDisabled(ctx, "off@example.com", true); err != nil {
		t.Fatal(err)
	}
	refuse := func(email, password, cause string) {
		t.Helper()
		g, err := b.Login(ctx, email, password, home)
		r := authn.AsRefusal(err)
		if !errors.Is(err, authn.ErrInvalidCredentials) || r.Message != "Invalid credentials" || r.Description != "" || r.RetryAfter != 0 || g.AccessToken != "" {
			t.Errorf("Login(%q) = %+v, %+v, want plain invalid_credentials", email, g, err)
		}
		if e := b.lastEvent("login"); e.Outcome != "invalid_credentials" || e.Cause != cause {
			t.Errorf("event %+v, want the cause %q", e, cause)
		}
	}
	refuse(address, "wrong", "wrong password")
	refuse("nobody@example.com", good, "unknown user")
	refuse("off@example.com", good, "user is disabled")
	refuse("off@example.com", "wrong", "wrong password")
	refuse("not an address", good, "unknown user")
	refuse("", "", "unknown user")
	refuse(address, good+strings.Repeat("x", 72), "wrong password")
}

// bcrypt compares 72 bytes and a NUL like 72 bytes; we do not.
func TestLogin72Bytes(t *testing.T) {
	b := newBed(t)
	longest := strings.Repeat("long word ", 7) + "72"
	if _, err := b.Register(ctx, address, longest, "", home); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{longest + "x", longest + "\x00", longest[:71]} {
		if _, err := b.Login(ctx, address, p, home); !errors.Is(err, authn.ErrInvalidCredentials) {
			t.Errorf("Login with %d bytes = %v, want invalid_credentials", len(p), err)
		}
		b.clock.Move(time.Hour)
	}
	b.login(longest)
}

func TestLoginThrottle(t *testing.T) {
	b := newBed(t)
	b.register(address)
	for i := range 3 {
		if _, err := b.Login(ctx, address, "wrong", home); !errors.Is(err, authn.ErrInvalidCredentials) {
			t.Fatalf("failure %d = %v, want invalid_credentials", i+1, err)
		}
	}
	for _, spelling := range []string{address, "ANN@example.com", " ann@example.com "} {
		_, err := b.Login(ctx, spelling, good, home)
		if !errors.Is(err, authn.ErrTooManyAttempts) || authn.AsRefusal(err).RetryAfter != 15*time.Minute {
			t.Errorf("Login(%q) with the right password = %v, want too_many_attempts", spelling, err)
		}
	}
	elsewhere := authn.Client{Address: netip.MustParseAddr("192.0.2.2")}
	if _, err := b.Login(ctx, address, good, elsewhere); err != nil {
		t.Errorf("Login from elsewhere = %v", err)
	}
	b.clock.Move(15 * time.Minute)
	b.login(good)
}

// A hash of another cost is replaced when its password is at hand.
func TestLoginRenewsHash(t *testing.T) {
	b := newBed(t)
	u := b.register(address)
	b.Hasher = authn.NewHasher(5)
	b.login(good)
	after, err := b.Users.UserByID(ctx, u.ID)
	if err != nil || !strings.HasPrefix(after.PasswordHash, "$2a$05$") || after.Generation != 1 {
		t.Errorf("after login: %+v, %v, want a hash of cost 5 and the same generation", after, err)
	}
	b.login(good)
}

// changing is a SessionStore during whose CreateSession something happens.
type changing struct {
	authn.SessionStore
	meanwhile func()
}

func (c *changing) CreateSession(ctx context.Context, s authn.Session) error {
	err := c.SessionStore.CreateSession(ctx, s)
	if c.meanwhile != nil {
		c.meanwhile()
	}
	return err
}

// What happens between the check of a password and the session must not be
// outlived by the session.
func TestLoginRaces(t *testing.T) {
	for what, meanwhile := range map[string]func(*bed) error{
		"set-password": func(b *bed) error {
			hash, err := b.Hasher.Hash(ctx, "another password")
			return errors.Join(err, b.Users.UpdateUser(ctx, b.login(good).Identity.ID, func(u *authn.User) error {
				u.PasswordHash = hash
				return nil
			}))
		},
		"disable": func(b *bed) error { return b.SetDisabled(ctx, address, true) },
		"delete":  func(b *bed) error { return b.DeleteUser(ctx, address) },
	} {
		b := newBed(t)
		u := b.register(address)
		sessions := &changing{SessionStore: b.store}
		b.Sessions = sessions
		sessions.meanwhile = func() {
			sessions.meanwhile = nil
			if err := meanwhile(b); err != nil {
				t.Fatal(err)
			}
			b.Sessions = b.store
		}
		if _, err := b.Login(ctx, address, good, home); !errors.Is(err, authn.ErrInvalidCredentials) {
			t.Errorf("Login during %s = %v, want invalid_credentials", what, err)
		}
		if left, err := b.SessionsOf(ctx, u.ID); what != "set-password" && len(left) != 0 || len(left) > 1 || err != nil {
			t.Errorf("sessions after Login during %s: %+v, %v", what, left, err)
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	b := newBed(t)
	u := b.register(address)
	first := b.login(good)
	for range 100 {
		b.clock.Move(time.Second)
		b.login(good)
	}
	if sessions, err := b.SessionsOf(ctx, u.ID); err != nil || len(sessions) != 100 {
		t.Errorf("%d sessions, %v, want 100", len(sessions), err)
	}
	b.wantNoRefresh("the oldest session", first.RefreshToken)
}
