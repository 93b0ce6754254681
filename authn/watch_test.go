package authn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

// watchBed is a Watch that runs, the list that it follows and the sessions
// that are alive.
type watchBed struct {
	*listBed
	*authn.Watch
	ended chan string // "name reason: cause"

	mu       sync.Mutex
	sessions map[string]time.Time // until when they are good without asking again
	asked    int
	broken   error
}

func newWatchBed(t *testing.T) *watchBed {
	b := &watchBed{listBed: newListBed(t), ended: make(chan string, 1000), sessions: map[string]time.Time{}}
	b.Watch = authn.NewWatch(b.RevocationList, b.alive, b.clock.Now)
	running, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want the context's error", err)
		}
	})
	return b
}

func (b *watchBed) alive(_ context.Context, id *authn.Identity) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.broken != nil {
		return time.Time{}, b.broken
	}
	until, ok := b.sessions[id.Session]
	if !ok {
		return time.Time{}, fmt.Errorf("look up session: %w", authn.ErrSessionNotFound)
	}
	return until, nil
}

func (b *watchBed) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// open watches a stream that ends with everything.
func (b *watchBed) open(name string, id authn.Identity) *authn.Watched {
	s := &authn.Watched{Identity: &id, OnRevoke: true, Expires: id.Expires}
	return b.add(name, s)
}

func (b *watchBed) add(name string, s *authn.Watched) *authn.Watched {
	s.End = func(reason authn.EndReason, why *authn.Refusal) {
		b.ended <- fmt.Sprintf("%s %s: %s", name, reason, why.Cause())
	}
	b.Add(s)
	return s
}

// wants is what ended next; within a second at the most.
func (b *watchBed) wants(want string) {
	b.t.Helper()
	select {
	case got := <-b.ended:
		if got != want {
			b.t.Errorf("ended %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		b.t.Fatalf("nothing ended, want %q", want)
	}
}

// next are the next n that end, in any order.
func (b *watchBed) next(n int) map[string]bool {
	b.t.Helper()
	got := map[string]bool{}
	for len(got) < n {
		select {
		case s := <-b.ended:
			got[s] = true
		case <-time.After(10 * time.Second):
			b.t.Fatalf("ended %v, want %d", got, n)
		}
	}
	return got
}

// move moves the clock, and returns when everything that is due was found.
func (b *watchBed) move(d time.Duration) {
	b.clock.Move(d)
	found := make(chan bool)
	b.Add(&authn.Watched{Identity: &authn.Identity{}, Expires: time.Unix(1, 0), End: func(authn.EndReason, *authn.Refusal) { close(found) }})
	<-found
}

// nothing more has ended. Ending is not synchronous, so something that must end
// is opened and revoked last.
func (b *watchBed) nothing() {
	b.t.Helper()
	b.open("last", authn.Identity{ID: "nobody", Token: "last"})
	b.revoke(authn.Revocation{Kind: authn.RevokeToken, ID: "last", Expires: b.in(time.Hour)})
	b.wants("last revoked: token revoked")
}

func TestWatchRevoked(t *testing.T) {
	b := newWatchBed(t)
	later := b.in(time.Hour)
	b.open("tab", authn.Identity{ID: "ann", Token: "t1", Session: "s1", Generation: 1})
	b.open("other tab", authn.Identity{ID: "ann", Token: "t2", Session: "s1", Generation: 1})
	b.open("phone", authn.Identity{ID: "ann", Token: "t3", Session: "s2", Generation: 1})
	b.open("new phone", authn.Identity{ID: "ann", Token: "t4", Session: "s3", Generation: 2})
	b.open("namesake", authn.Identity{Issuer: "https://a", ID: "ann", Token: "t1", Session: "s1"})
	b.add("kept", &authn.Watched{Identity: &authn.Identity{ID: "ann", Token: "t1", Session: "s1"}})
	over := b.open("over", authn.Identity{ID: "ann", Token: "t1"})
	b.Remove(over)
	b.Remove(over)

	b.revoke(authn.Revocation{Kind: authn.RevokeToken, ID: "t1", Expires: later})
	b.wants("tab revoked: token revoked")
	b.revoke(authn.Revocation{Kind: authn.RevokeSession, ID: "s1", Expires: later})
	b.wants("other tab revoked: session revoked")
	b.revoke(authn.Revocation{Kind: authn.RevokeUser, ID: "ann", Generation: 2, Expires: later})
	b.wants("phone revoked: all tokens of the user revoked")
	b.revoke(authn.Revocation{Kind: authn.RevokeUser, ID: "ann", Generation: 2, Expires: later})
	b.nothing()
	b.revoke(authn.Revocation{Kind: authn.RevokeUser, Issuer: "https://a", ID: "ann", Generation: 1, Expires: later})
	b.wants("namesake revoked: all tokens of the user revoked")

	// What was revoked between the check and Add.
	b.open("late", authn.Identity{ID: "ann", Token: "t1", Session: "s9", Generation: 2})
	b.wants("late revoked: token revoked")
}

// What another gateway revoked comes with the log.
func TestWatchFollowsTheLog(t *testing.T) {
	b := newWatchBed(t)
	running, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Follow(running) }()
	t.Cleanup(func() { stop(); <-done })
	b.open("tab", authn.Identity{ID: "ann", Token: "t1"})
	if err := b.log.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: "t1", Expires: b.in(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	b.wants("tab revoked: token revoked")
}

func TestWatchExpiry(t *testing.T) {
	b := newWatchBed(t)
	for i, after := range []time.Duration{3 * time.Minute, time.Minute, 2 * time.Minute, 4 * time.Minute} {
		b.open(fmt.Sprint(i), authn.Identity{ID: "ann", Token: fmt.Sprint(i), Expires: b.in(after)})
	}
	b.add("for ever", &authn.Watched{Identity: &authn.Identity{ID: "ann"}, OnRevoke: true})
	b.move(time.Minute)
	b.wants("1 expired: token expired")
	b.move(time.Minute - 1)
	b.nothing()
	b.move(1)
	b.wants("2 expired: token expired")
	b.move(time.Hour)
	got := b.next(2)
	if !got["0 expired: token expired"] || !got["3 expired: token expired"] {
		t.Errorf("ended %v, want 0 and 3", got)
	}
	b.nothing()
}

// A browser's stream lives as long as its session, whatever token it began with.
func TestWatchSessions(t *testing.T) {
	b := newWatchBed(t)
	start := b.clock.Now()
	b.set(func() { b.sessions["s1"] = start.Add(2 * time.Hour) })
	in := func(session string) *authn.Watched {
		return &authn.Watched{Identity: &authn.Identity{ID: "ann", Token: "t", Session: session},
			OnRevoke: true, InSession: true, Expires: start.Add(time.Hour)}
	}
	b.add("tab", in("s1"))
	b.add("other tab", in("s1"))
	b.add("gone", in("s2"))
	b.add("without", in("")) // a cookie that no login set
	b.add("logged out", in("s4"))
	b.move(time.Hour)
	b.wants("without expired: token expired")
	b.asks(3)
	b.nothing() // a revocation may be on its way

	b.revoke(authn.Revocation{Kind: authn.RevokeSession, ID: "s4", Expires: b.in(time.Hour)})
	b.wants("logged out revoked: session revoked")
	b.move(time.Second)
	b.wants("gone expired: token expired, and its session: look up session: session not found")
	b.nothing()

	// Nobody can tell: it goes on for a while.
	b.set(func() { b.broken = errBroken; b.asked = 0 })
	b.move(time.Hour)
	b.asks(1)
	b.nothing()
	b.set(func() { b.broken = nil; b.sessions["s1"] = start.Add(3 * time.Hour); b.asked = 0 })
	b.move(time.Second)
	b.asks(1)
	b.nothing()
	b.set(func() { b.broken = errBroken; b.asked = 0 })
	b.move(time.Hour)
	b.asks(1)
	seconds := 0
	for ; len(b.ended) < 2 && seconds < 1000; seconds++ {
		b.move(time.Second)
		time.Sleep(time.Millisecond) // the answer comes from another goroutine
	}
	if seconds < 25 {
		t.Errorf("ended after %d seconds without an answer, want about 30", seconds)
	}
	const cause = " expired: token expired, and its session: the log cannot be reached"
	if got := b.next(2); !got["tab"+cause] || !got["other tab"+cause] {
		t.Errorf("ended %v, want both tabs", got)
	}
}

// asks lets time pass until sessions were asked for n times.
func (b *watchBed) asks(n int) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.move(100 * time.Millisecond)
		b.mu.Lock()
		asked := b.asked
		b.mu.Unlock()
		if asked >= n {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("sessions were asked for %d times, want %d", asked, n)
		}
	}
}

// Streams come and go while revocations hit them: each is ended once or
// removed, none is forgotten.
func TestWatchAtOnce(t *testing.T) {
	b := newWatchBed(t)
	const users, each = 50, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	ends := map[string]int{}
	for u := range users {
		for i := range each {
			wg.Go(func() {
				done := make(chan bool)
				s := &authn.Watched{
					Identity: &authn.Identity{ID: fmt.Sprint(u), Token: fmt.Sprint(u, ".", i), Session: fmt.Sprint(u, i%3)},
					OnRevoke: true, Expires: b.in(time.Hour),
				}
				s.End = func(authn.EndReason, *authn.Refusal) {
					mu.Lock()
					ends[s.Identity.Token]++
					mu.Unlock()
					close(done)
				}
				b.Add(s)
				if i%4 == 0 {
					b.Remove(s)
					return
				}
				<-done
				b.Remove(s)
			})
		}
		wg.Go(func() {
			b.Revoke(ctx, authn.Revocation{Kind: authn.RevokeUser, ID: fmt.Sprint(u), Generation: 1, Expires: b.in(time.Hour)})
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for u := range users {
		for i := range each {
			if token := fmt.Sprint(u, ".", i); i%4 != 0 && ends[token] != 1 || ends[token] > 1 {
				t.Errorf("stream %s ended %d times", token, ends[token])
			}
		}
	}
}

func TestAlive(t *testing.T) {
	b := newBed(t)
	b.register(address)
	g := b.login(good)
	life := b.Tokens.TTL + b.Tokens.Leeway
	left := func(id *authn.Identity) time.Duration {
		t.Helper()
		until, err := b.Alive(ctx, id)
		if err != nil {
			t.Fatalf("Alive = %v", err)
		}
		return until.Sub(b.clock.Now())
	}
	if got := left(g.Identity); got != life {
		t.Errorf("after the login Alive = %v, want %v", got, life)
	}
	b.clock.Move(life / 4)
	if got := left(g.Identity); got != life-life/4 {
		t.Errorf("a while later Alive = %v, want %v", got, life-life/4)
	}
	b.clock.Move(life)
	if got := left(g.Identity); got != life {
		t.Errorf("without a refresh Alive = %v, want %v", got, life)
	}
	b.clock.Move(b.RefreshTTL - life/4 - life - time.Second)
	if got := left(g.Identity); got != time.Second {
		t.Errorf("a second before its end Alive = %v, want 1s", got)
	}
	dead := func(what string, id authn.Identity) {
		t.Helper()
		if until, err := b.Alive(ctx, &id); !errors.Is(err, authn.ErrSessionNotFound) {
			t.Errorf("Alive of %s = %v, %v, want ErrSessionNotFound", what, until, err)
		}
	}
	theirs := *g.Identity
	theirs.ID = "other"
	dead("another user's session", theirs)
	theirs = *g.Identity
	theirs.Issuer = "https://a"
	dead("another issuer's session", theirs)
	b.clock.Move(time.Second)
	dead("a session that has expired", *g.Identity)
}

// What it costs to watch a stream, and to revoke while ten thousand are open.
func BenchmarkWatch(b *testing.B) {
	clock := authntest.NewClock()
	list := authn.NewRevocationList(new(authn.MemoryStore), clock.Now)
	w := authn.NewWatch(list, nil, clock.Now)
	open := func(i int) *authn.Watched {
		s := &authn.Watched{
			Identity: &authn.Identity{ID: fmt.Sprint("user", i), Token: fmt.Sprint("token", i), Session: fmt.Sprint("session", i)},
			OnRevoke: true, Expires: clock.Now().Add(time.Duration(i) * time.Second),
			End: func(authn.EndReason, *authn.Refusal) {},
		}
		w.Add(s)
		return s
	}
	for i := range 10_000 {
		open(i)
	}
	b.Run("AddRemove", func(b *testing.B) {
		b.ReportAllocs()
		s := open(10_000)
		w.Remove(s)
		for b.Loop() {
			w.Add(s)
			w.Remove(s)
		}
	})
	b.Run("Revoke", func(b *testing.B) {
		r := authn.Revocation{Kind: authn.RevokeToken, ID: "someone else's", Expires: clock.Now().Add(time.Hour)}
		for b.Loop() {
			if err := list.Revoke(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A Watch that was not told finds out by asking.
func TestWatchRecheck(t *testing.T) {
	b := newWatchBed(t)
	b.open("tab", authn.Identity{ID: "ann", Token: "t1"})
	b.open("other tab", authn.Identity{ID: "ann", Token: "t2"})
	authn.NewWatch(b.RevocationList, nil, b.clock.Now) // is told from now on
	b.revoke(authn.Revocation{Kind: authn.RevokeToken, ID: "t1", Expires: b.in(time.Hour)})
	b.Recheck()
	b.wants("tab revoked: token revoked")
	if len(b.ended) > 0 {
		t.Errorf("ended %q too", <-b.ended)
	}
}
