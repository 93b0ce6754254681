package authn_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/authn"
)

// countedSessions is a SessionStore that counts, and that a test can hold up.
type countedSessions struct {
	authn.SessionStore
	reads, rotations atomic.Int64
	hold             atomic.Pointer[chan struct{}] // reads wait for it
	err              atomic.Pointer[error]         // of every read
}

func (c *countedSessions) SessionByID(ctx context.Context, id string) (authn.Session, error) {
	c.reads.Add(1)
	if hold := c.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return authn.Session{}, ctx.Err()
		}
	}
	if err := c.err.Load(); err != nil {
		return authn.Session{}, *err
	}
	return c.SessionStore.SessionByID(ctx, id)
}

func (c *countedSessions) RotateSession(ctx context.Context, current string, next authn.Session) (bool, error) {
	won, err := c.SessionStore.RotateSession(ctx, current, next)
	if won {
		c.rotations.Add(1)
	}
	return won, err
}

func newCountedBed(t *testing.T) (*bed, *countedSessions) {
	b := newBed(t)
	c := &countedSessions{SessionStore: b.store}
	b.Sessions = c
	return b, c
}

func (b *bed) resume(token string) string {
	b.t.Helper()
	access, err := b.Resume(ctx, token, home)
	if err != nil {
		b.t.Fatalf("Resume = %v", err)
	}
	return access
}

func (b *bed) renew(token string) authn.Grant {
	b.t.Helper()
	g, err := b.Renew(ctx, token, home)
	if err != nil {
		b.t.Fatalf("Renew = %v", err)
	}
	return g
}

func (b *bed) count(event string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Name == event {
			n++
		}
	}
	return n
}

func TestResume(t *testing.T) {
	b, store := newCountedBed(t)
	u := b.register(address)
	first := b.login(good)
	b.clock.Move(2 * time.Hour)
	access := b.resume(first.RefreshToken)
	b.wantAlive("a resumed session's token", access, true)
	if n := store.rotations.Load(); n != 0 {
		t.Errorf("Resume rotated %d times, want never", n)
	}
	b.clock.Move(time.Hour) // the answer was slow
	g := b.renew(first.RefreshToken)
	if g.RefreshToken == first.RefreshToken || g.Identity.Session != first.Identity.Session || g.RefreshExpiresIn != 720*time.Hour {
		t.Errorf("Renew = %+v after %+v", g, first)
	}
	b.wantAlive("a renewed session's token", g.AccessToken, true)
	if e := b.lastEvent("refresh"); e.Outcome != "ok" || e.UserID != u.ID || e.SessionID != g.Identity.Session || e.Address != home.Address {
		t.Errorf("event %+v, want refresh, ok", e)
	}

	// Changes are picked up, and what ends a session ends it here.
	if err := b.SetRoles(ctx, address, []string{"ops"}); err != nil {
		t.Fatal(err)
	}
	b.wantAlive("a token with the old roles", g.AccessToken, false)
	b.wantAlive("a resumed session's token", b.resume(g.RefreshToken), true)
	if g = b.renew(g.RefreshToken); !slices.Equal(g.Identity.Roles, []string{"ops"}) {
		t.Errorf("Renew after set-roles: roles %q, want ops", g.Identity.Roles)
	}
	if err := b.SetDisabled(ctx, address, true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Resume(ctx, g.RefreshToken, home); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Resume of a disabled user = %v, want invalid_token", err)
	}
	if _, err := b.Renew(ctx, g.RefreshToken, home); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Renew of a disabled user = %v, want invalid_token", err)
	}
}

// Fifty requests of a page, and the one that was slow.
func TestRenewTogether(t *testing.T) {
	b, store := newCountedBed(t)
	b.register(address)
	first := b.login(good)
	b.clock.Move(2 * time.Hour)
	var mu sync.Mutex
	grants := map[string]authn.Grant{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := b.Resume(ctx, first.RefreshToken, home); err != nil {
				t.Errorf("Resume = %v", err)
			}
			g, err := b.Renew(ctx, first.RefreshToken, home)
			if err != nil {
				t.Errorf("Renew = %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			grants[g.RefreshToken] = g
		})
	}
	wg.Wait()
	if n := store.rotations.Load(); n != 1 || len(grants) != 1 || b.count("refresh") != 1 {
		t.Fatalf("%d rotations, %d successors, %d events, want 1 each", n, len(grants), b.count("refresh"))
	}
	var second authn.Grant
	for _, second = range grants {
	}

	// A newer token is not spent again at once: whoever still has the first one
	// would raise the alarm.
	if g := b.renew(second.RefreshToken); g.RefreshToken != second.RefreshToken || store.rotations.Load() != 1 {
		t.Errorf("a second rotation within the grace period")
	}
	if g := b.renew(first.RefreshToken); g.RefreshToken != second.RefreshToken {
		t.Error("another successor within the grace period")
	}

	// An answer that was overtaken says nothing, and is no alarm.
	b.clock.Move(10 * time.Second)
	if g, err := b.Renew(ctx, first.RefreshToken, home); !errors.Is(err, authn.ErrSpent) || g.RefreshToken != "" {
		t.Errorf("Renew of a token that others have spent = %+v, %v, want ErrSpent", g, err)
	}
	third := b.renew(second.RefreshToken)
	if third.RefreshToken == second.RefreshToken {
		t.Error("no rotation after the grace period")
	}
	if b.count("refresh_reuse") != 0 {
		t.Error("an alarm")
	}
	// A request that begins with it is one.
	b.clock.Move(time.Hour)
	if _, err := b.Resume(ctx, first.RefreshToken, home); !errors.Is(err, authn.ErrInvalidToken) {
		t.Errorf("Resume by a token spent long ago = %v, want invalid_token", err)
	}
	if b.count("refresh_reuse") != 1 {
		t.Error("no alarm")
	}
	b.wantNoRefresh("a session after the alarm", third.RefreshToken)
	b.wantAlive("a token after the alarm", third.AccessToken, false)
}

// Whoever leaves takes nothing from those who wait for the same.
func TestResumeOfAClientThatLeft(t *testing.T) {
	b, store := newCountedBed(t)
	b.register(address)
	first := b.login(good)
	hold := make(chan struct{})
	store.hold.Store(&hold)
	before := store.reads.Load()
	leaving, leave := context.WithCancel(ctx)
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := b.Resume(leaving, first.RefreshToken, home); left <- err }()
	for store.reads.Load() == before {
		time.Sleep(time.Millisecond)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("Resume of who left = %v, want context.Canceled", err)
	}
	go func() { _, err := b.Resume(ctx, first.RefreshToken, home); stayed <- err }()
	close(hold)
	if err := <-stayed; err != nil {
		t.Errorf("Resume of who stayed = %v", err)
	}
	if _, err := b.Renew(leaving, first.RefreshToken, home); !errors.Is(err, context.Canceled) || store.rotations.Load() != 0 {
		t.Errorf("Renew for nobody = %v and %d rotations, want context.Canceled and none", err, store.rotations.Load())
	}
}

// What a stranger can send costs no question to the store, or one; and a store
// that cannot answer is no "no".
func TestResumeMalformed(t *testing.T) {
	b, store := newCountedBed(t)
	b.register(address)
	g := b.login(good)
	before := store.reads.Load()
	for _, bad := range []string{"", "x", "gr_.", g.AccessToken, g.RefreshToken + "A", strings.ToUpper(g.RefreshToken), strings.Repeat("a", 1<<16)} {
		if _, err := b.Resume(ctx, bad, home); !errors.Is(err, authn.ErrInvalidToken) {
			t.Errorf("Resume(%.40q) = %v, want invalid_token", bad, err)
		}
		if _, err := b.Renew(ctx, bad, home); !errors.Is(err, authn.ErrInvalidToken) {
			t.Errorf("Renew(%.40q) = %v, want invalid_token", bad, err)
		}
	}
	if n := store.reads.Load() - before; n != 0 {
		t.Errorf("%d questions to the store about malformed tokens, want none", n)
	}
	forged := g.RefreshToken[:len(g.RefreshToken)-64] + strings.Repeat("A", 64)
	if _, err := b.Resume(ctx, forged, home); !errors.Is(err, authn.ErrInvalidToken) || store.reads.Load()-before != 1 {
		t.Errorf("Resume of a forged token = %v after %d questions, want invalid_token after one", err, store.reads.Load()-before)
	}
	if b.count("refresh_reuse") != 0 || b.count("refresh") != 0 {
		t.Error("rubbish is in the audit log")
	}

	down := errors.New("the store is down")
	store.err.Store(&down)
	var refusal *authn.Refusal
	if _, err := b.Resume(ctx, g.RefreshToken, home); !errors.Is(err, down) || errors.As(err, &refusal) {
		t.Errorf("Resume = %v, want the store's error and no refusal", err)
	}
	store.err.Store(nil)
	b.resume(g.RefreshToken)
	b.Sessions = nil // a panic
	if _, err := b.Resume(ctx, g.RefreshToken, home); err == nil || errors.As(err, &refusal) {
		t.Errorf("Resume = %v, want an error and no refusal", err)
	}
}
