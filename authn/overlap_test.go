package authn_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"gatehouse/authn"
)

// stepStore is a store before whose n-th call something happens.
type stepStore struct {
	*brokenLog
	calls  int
	at     int
	happen func()
	dead   bool // every call fails, as if the process had been killed
}

var errKilled = errors.New("killed")

func (s *stepStore) step() error {
	s.calls++
	if s.calls == s.at {
		s.happen()
	}
	if s.dead {
		return errKilled
	}
	return nil
}

func (s *stepStore) UserByEmail(ctx context.Context, email string) (authn.User, error) {
	if err := s.step(); err != nil {
		return authn.User{}, err
	}
	return s.brokenLog.UserByEmail(ctx, email)
}

func (s *stepStore) UserByID(ctx context.Context, id string) (authn.User, error) {
	if err := s.step(); err != nil {
		return authn.User{}, err
	}
	return s.brokenLog.UserByID(ctx, id)
}

func (s *stepStore) UpdateUser(ctx context.Context, id string, change func(*authn.User) error) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.brokenLog.UpdateUser(ctx, id, change)
}

func (s *stepStore) DeleteUser(ctx context.Context, id string) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.brokenLog.DeleteUser(ctx, id)
}

func (s *stepStore) CreateSession(ctx context.Context, session authn.Session) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.brokenLog.CreateSession(ctx, session)
}

func (s *stepStore) SessionByID(ctx context.Context, id string) (authn.Session, error) {
	if err := s.step(); err != nil {
		return authn.Session{}, err
	}
	return s.brokenLog.SessionByID(ctx, id)
}

func (s *stepStore) SessionsOf(ctx context.Context, userID string) ([]authn.Session, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.brokenLog.SessionsOf(ctx, userID)
}

func (s *stepStore) RotateSession(ctx context.Context, current string, next authn.Session) (bool, error) {
	if err := s.step(); err != nil {
		return false, err
	}
	return s.brokenLog.RotateSession(ctx, current, next)
}

func (s *stepStore) EndSession(ctx context.Context, id string) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.brokenLog.EndSession(ctx, id)
}

func (s *stepStore) Append(ctx context.Context, r authn.Revocation) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.brokenLog.Append(ctx, r)
}

const another = "another good passphrase"

// scene is a user with two sessions, and a store that can be interrupted.
type scene struct {
	*bed
	steps        *stepStore
	mine, stolen authn.Grant
}

// After pause the tokens that were covered may be covered no longer, so that the
// next one writes the user.
func newScene(t *testing.T, pause time.Duration) *scene {
	b := newBed(t)
	s := &scene{bed: b, steps: &stepStore{brokenLog: b.store}}
	b.register(address)
	s.mine, s.stolen = b.login(good), b.login(good)
	b.Users, b.Sessions = s.steps, s.steps
	b.Revocations = authn.NewRevocationList(s.steps, b.clock.Now)
	if err := b.Revocations.Load(ctx); err != nil {
		t.Fatal(err)
	}
	b.clock.Move(pause)
	return s
}

// everyStep runs do on a new scene for each of its calls of the store, before
// which happen is run.
func everyStep(t *testing.T, do func(*scene) error, happen func(*scene), then func(what string, s *scene, err error)) {
	t.Helper()
	for _, pause := range []time.Duration{0, 90 * time.Minute} {
		everyStepAfter(t, pause, do, happen, then)
	}
}

func everyStepAfter(t *testing.T, pause time.Duration, do func(*scene) error, happen func(*scene), then func(what string, s *scene, err error)) {
	t.Helper()
	for n := 1; ; n++ {
		s := newScene(t, pause)
		s.steps.calls, s.steps.at = 0, n
		s.steps.happen = func() { happen(s) }
		err := do(s)
		if s.steps.calls < n {
			if n < 3 {
				t.Fatalf("only %d calls of the store", s.steps.calls)
			}
			return
		}
		s.steps.at, s.steps.dead = 0, false
		then(fmt.Sprintf("at step %d, after %s", n, pause), s, err)
	}
}

// signOuts are what ends the stolen session.
var signOuts = map[string]func(*scene) error{
	"everywhere": func(s *scene) error {
		return s.Logout(ctx, &authn.Identity{ID: s.mine.Identity.ID}, true) // as "session revoke --all"
	},
	"set-password":    func(s *scene) error { return s.SetPassword(ctx, address, another) },
	"change-password": func(s *scene) error { return s.ChangePassword(ctx, s.mine.Identity, good, another, home) },
	"disable":         func(s *scene) error { return s.SetDisabled(ctx, address, true) },
	"delete":          func(s *scene) error { return s.DeleteUser(ctx, address) },
	"session":         func(s *scene) error { return s.EndSession(ctx, s.mine.Identity.ID, s.stolen.Identity.Session) },
}

// ways in are what a thief with a session or the old password tries.
var waysIn = map[string]func(*scene) (authn.Grant, error){
	"refresh": func(s *scene) (authn.Grant, error) { return s.Refresh(ctx, s.stolen.RefreshToken, home) },
	"login":   func(s *scene) (authn.Grant, error) { return s.Login(ctx, address, good, home) },
}

// Whatever of a sign-out and a refresh, or a login with the old password, comes
// in the middle of the other: what the thief got is no good afterwards.
func TestSignOutOverlaps(t *testing.T) {
	t.Parallel()
	for out, signOut := range signOuts {
		for in, enter := range waysIn {
			if in == "login" && (out == "everywhere" || out == "session") {
				continue // the password is still good
			}
			check := func(what string, s *scene, got authn.Grant, entered, left error) {
				t.Helper()
				if left != nil {
					t.Errorf("%s: %v", what, left)
				}
				if entered != nil {
					return
				}
				s.wantAlive(what+": the access token", got.AccessToken, false)
				s.wantNoRefresh(what+": the session", got.RefreshToken)
			}
			var got authn.Grant
			var entered, left error
			everyStep(t, signOut, func(s *scene) { got, entered = enter(s) }, func(at string, s *scene, err error) {
				check(in+" during "+out+" "+at, s, got, entered, err)
			})
			everyStep(t, func(s *scene) (err error) { got, err = enter(s); return err },
				func(s *scene) { left = signOut(s) },
				func(at string, s *scene, err error) { check(out+" during "+in+" "+at, s, got, err, left) })
		}
	}
}

// A change of roles signs nobody out, however it meets a refresh.
func TestSetRolesOverlapsRefresh(t *testing.T) {
	setRoles := func(s *scene) error { return s.SetRoles(ctx, address, []string{"ops"}) }
	var got authn.Grant
	refresh := func(s *scene) (err error) { got, err = s.Refresh(ctx, s.mine.RefreshToken, home); return err }
	check := func(what string, s *scene, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		g := s.refresh(got.RefreshToken)
		s.wantAlive("the next token", g.AccessToken, true)
		if !slices.Equal(g.Identity.Roles, []string{"ops"}) {
			t.Errorf("%s: the next token has the roles %q", what, g.Identity.Roles)
		}
	}
	var inner error
	everyStep(t, setRoles, func(s *scene) { inner = refresh(s) },
		func(at string, s *scene, err error) { check("refresh during set-roles "+at, s, inner, err) })
	everyStep(t, refresh, func(s *scene) { inner = setRoles(s) },
		func(at string, s *scene, err error) { check("set-roles during refresh "+at, s, inner, err) })
}

// A change that breaks off never looks done while old tokens are good; it can
// be repeated, and leaves nobody without a way in.
func TestChangeBreaksOff(t *testing.T) {
	t.Parallel()
	changes := maps.Clone(signOuts)
	changes["set-roles"] = func(s *scene) error { return s.SetRoles(ctx, address, []string{"ops"}) }
	for what, change := range changes {
		if what == "session" || what == "change-password" {
			continue // they change no account
		}
		everyStep(t, change, func(s *scene) { s.steps.dead = true }, func(at string, s *scene, err error) {
			if err == nil {
				t.Errorf("%s that broke off %s: no error", what, at)
			}
			before := s.stolen.Identity
			u, err := s.Users.UserByID(ctx, before.ID)
			changed := err != nil || u.Disabled || u.Generation != before.Generation
			if good := s.Revocations.Check(ctx, before) == nil; good && changed {
				t.Errorf("%s that broke off %s looks done, and old tokens are good", what, at)
			}
			if g, err := s.Login(ctx, address, good, home); err == nil {
				s.wantAlive("a new token", g.AccessToken, true)
			} else if !changed {
				t.Errorf("login after %s that broke off %s: %v", what, at, err)
			}
			if err := change(s); err != nil && !errors.Is(err, authn.ErrUserNotFound) {
				t.Errorf("%s again: %v", what, err)
			}
			s.wantAlive("a token from before "+what, s.stolen.AccessToken, false)
			if err := s.Revocations.Check(ctx, before); !errors.Is(err, authn.ErrInvalidToken) {
				t.Errorf("after %s: %v, want it revoked", what, err)
			}
		})
	}
}

// The alarm about a token that was used twice goes off again until it is
// recorded.
func TestReuseAlarmIsNotLost(t *testing.T) {
	b := newBed(t)
	b.register(address)
	first := b.login(good)
	thief := b.refresh(first.RefreshToken)
	b.clock.Move(time.Minute)
	b.store.broken.Store(true)
	if _, err := b.Refresh(ctx, first.RefreshToken, home); !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("reuse while the log is away = %v, want revocation_unavailable", err)
	}
	b.store.broken.Store(false)
	b.wantNoRefresh("the spent token again", first.RefreshToken)
	b.wantAlive("the other holder's token", thief.AccessToken, false)
	b.wantNoRefresh("the other holder", thief.RefreshToken)
}

// A token that was revoked stays so when tokens.leeway is raised to its limit.
func TestRaisedLeeway(t *testing.T) {
	for what, revoke := range map[string]func(*bed, authn.Grant) error{
		"token":   func(b *bed, g authn.Grant) error { return b.RevokeToken(ctx, g.Identity) },
		"session": func(b *bed, g authn.Grant) error { return b.EndSession(ctx, g.Identity.ID, g.Identity.Session) },
		"user":    func(b *bed, _ authn.Grant) error { return b.SetPassword(ctx, address, another) },
	} {
		b := newBed(t)
		b.register(address)
		g := b.login(good)
		if err := revoke(b, g); err != nil {
			t.Fatal(err)
		}
		b.Tokens.Leeway = 5 * time.Minute
		b.clock.Move(time.Hour + 5*time.Minute - 1)
		b.Revocations = authn.NewRevocationList(b.store, b.clock.Now)
		if err := b.Revocations.Load(ctx); err != nil {
			t.Fatal(err)
		}
		b.wantAlive("the token of a revoked "+what, g.AccessToken, false)
	}
}
