package authntest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

// base has microseconds, which every store must keep, and nothing finer.
var base = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// parallel runs f n times at once and counts the calls that return true.
func parallel(n int, f func(i int) bool) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := 0
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if f(i) {
				mu.Lock()
				count++
				mu.Unlock()
			}
		})
	}
	close(start)
	wg.Wait()
	return count
}

// odd are texts that no ID is, and that some databases refuse to look for.
var odd = []string{"", "\x00", "a\x00b", "\xff", "a\xc0\xafb", "\xed\xa0\x80", "' OR 1=1 --", strings.Repeat("x", 10000)}

func user(id, email string) authn.User {
	return authn.User{
		ID: id, Email: email, Name: "Ann Łęcka", Roles: []string{"ops", `a"b,c`}, PasswordHash: "$2a$04$x",
		Disabled: true, Generation: 1 << 40, TokensUntil: base.Add(time.Hour), SessionsUntil: base.Add(time.Minute), Created: base, Updated: base.Add(time.Second),
	}
}

// aHash is well-formed, if prefix is.
func aHash(prefix string) string { return prefix + strings.Repeat("./AZaz09u", 6)[:53] }

// hashes are all that a database may hold: those without a cost come first.
func hashes() (all []string) {
	good := aHash("$2a$16$")
	all = []string{
		"", "x", "zzzzzzzzzz", strings.Repeat("z", 60), "$2a$16$", good[:59], good + "u", good + "\n", " " + good, good[:30] + " " + good[31:],
		good[:30] + "=" + good[31:], good[:58] + "é", good[:59] + "é", "é" + good[1:], aHash("$2x$16$"), aHash("$2$16$"), aHash("$3a$16$"), aHash("$2A$16$"),
		aHash("$2a$16."), aHash("$2a.16$"), aHash("$2a$1a$"), aHash("$2a$0:$"), aHash("$2a$ 9$"), aHash("$2a$+9$"), aHash("$2a$1١$"),
	}
	var costly []string
	for cost := range 100 {
		hash := aHash(fmt.Sprintf("$2%c$%02d$", "aby"[cost%3], cost))
		if authn.HashCost(hash) > 0 {
			costly = append(costly, hash)
		} else {
			all = append(all, hash)
		}
	}
	return append(all, costly...)
}

func sameUser(a, b authn.User) bool {
	times := a.TokensUntil.Equal(b.TokensUntil) && a.SessionsUntil.Equal(b.SessionsUntil) && a.Created.Equal(b.Created) && a.Updated.Equal(b.Updated)
	return times && slices.Equal(a.Roles, b.Roles) && a.ID == b.ID && a.Email == b.Email && a.Name == b.Name &&
		a.PasswordHash == b.PasswordHash && a.Disabled == b.Disabled && a.Generation == b.Generation
}

// TestUserStore is what every authn.UserStore must pass. open makes an empty
// one.
func TestUserStore(t *testing.T, open func(t *testing.T) authn.UserStore) {
	ctx := context.Background()
	t.Run("what is created is found", func(t *testing.T) {
		s := open(t)
		want := user("u1", "ann@example.com")
		must(t, s.CreateUser(ctx, want))
		must(t, s.CreateUser(ctx, authn.User{ID: "u2", Email: "bob@example.com"}))
		got, err := s.UserByEmail(ctx, want.Email)
		if err != nil || !sameUser(got, want) {
			t.Errorf("UserByEmail = %+v, %v, want %+v", got, err, want)
		}
		if got, err = s.UserByID(ctx, "u1"); err != nil || !sameUser(got, want) {
			t.Errorf("UserByID = %+v, %v, want %+v", got, err, want)
		}
		bob, err := s.UserByID(ctx, "u2")
		if err != nil || !bob.TokensUntil.IsZero() || len(bob.Roles) != 0 {
			t.Errorf("UserByID of a bare user = %+v, %v, want zero times and no roles", bob, err)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		s := open(t)
		_, byEmail := s.UserByEmail(ctx, "ann@example.com")
		_, byID := s.UserByID(ctx, "u1")
		update := s.UpdateUser(ctx, "u1", func(*authn.User) error { return nil })
		for _, err := range []error{byEmail, byID, update} {
			if !errors.Is(err, authn.ErrUserNotFound) {
				t.Errorf("error = %v, want ErrUserNotFound", err)
			}
		}
		for _, id := range odd {
			_, byEmail := s.UserByEmail(ctx, id)
			_, byID := s.UserByID(ctx, id)
			if !errors.Is(byEmail, authn.ErrUserNotFound) || !errors.Is(byID, authn.ErrUserNotFound) {
				t.Errorf("user %q: %v, %v, want ErrUserNotFound", id, byEmail, byID)
			}
		}
	})
	t.Run("one user for an address, however many try", func(t *testing.T) {
		s := open(t)
		created := parallel(50, func(i int) bool {
			err := s.CreateUser(ctx, user("u"+strconv.Itoa(i), "ann@example.com"))
			if err != nil && !errors.Is(err, authn.ErrUserExists) {
				t.Errorf("CreateUser = %v, want nil or ErrUserExists", err)
			}
			return err == nil
		})
		if created != 1 {
			t.Errorf("%d of 50 were created, want 1", created)
		}
	})
	t.Run("update", func(t *testing.T) {
		s := open(t)
		must(t, s.CreateUser(ctx, user("u1", "ann@example.com")))
		must(t, s.CreateUser(ctx, user("u2", "bob@example.com")))
		want := user("u1", "ann@example.org")
		want.Roles, want.Name, want.Disabled, want.Generation = []string{"user"}, "A", false, 7
		want.PasswordHash, want.TokensUntil, want.SessionsUntil = "$2b$", base.Add(48*time.Hour), base.Add(24*time.Hour)
		want.Updated = base.Add(time.Minute)
		must(t, s.UpdateUser(ctx, "u1", func(u *authn.User) error { *u = want; return nil }))
		if got, err := s.UserByEmail(ctx, "ann@example.org"); err != nil || !sameUser(got, want) {
			t.Errorf("after UpdateUser: %+v, %v, want %+v", got, err, want)
		}
		err := s.UpdateUser(ctx, "u1", func(u *authn.User) error { u.Email = "bob@example.com"; return nil })
		if !errors.Is(err, authn.ErrUserExists) {
			t.Errorf("UpdateUser to a taken address = %v, want ErrUserExists", err)
		}
		mine := errors.New("no")
		err = s.UpdateUser(ctx, "u1", func(u *authn.User) error { u.Name = "B"; return mine })
		if got, _ := s.UserByID(ctx, "u1"); !errors.Is(err, mine) || !sameUser(got, want) {
			t.Errorf("UpdateUser that fails = %v, left %+v, want %v and no change", err, got, mine)
		}
	})
	t.Run("the highest cost", func(t *testing.T) {
		s := open(t)
		highest := 0
		check := func(after string) {
			t.Helper()
			if got, err := s.HighestCost(ctx); got != highest || err != nil {
				t.Errorf("HighestCost after %q = %d, %v, want %d", after, got, err, highest)
			}
		}
		check("nothing")
		for i, hash := range hashes() {
			must(t, s.CreateUser(ctx, authn.User{ID: strconv.Itoa(i), Email: strconv.Itoa(i) + "@example.com", PasswordHash: hash, Disabled: i%2 == 0}))
			highest = max(highest, authn.HashCost(hash))
			check(hash)
		}
		for i := range hashes() {
			must(t, s.UpdateUser(ctx, strconv.Itoa(i), func(u *authn.User) error { u.PasswordHash = aHash("$2a$07$"); return nil }))
		}
		highest = 7
		check("all were replaced")
	})
	t.Run("no update is lost", func(t *testing.T) {
		s := open(t)
		must(t, s.CreateUser(ctx, authn.User{ID: "u1", Email: "ann@example.com"}))
		done := parallel(20, func(int) bool {
			err := s.UpdateUser(ctx, "u1", func(u *authn.User) error { u.Generation++; return nil })
			if err != nil {
				t.Errorf("UpdateUser = %v", err)
			}
			return err == nil
		})
		if u, err := s.UserByID(ctx, "u1"); err != nil || u.Generation != int64(done) || done != 20 {
			t.Errorf("generation = %d after %d updates, %v, want 20", u.Generation, done, err)
		}
	})
}

func session(id, userID string, used time.Duration) authn.Session {
	return authn.Session{
		ID: id, UserID: userID, Created: base, LastUsed: base.Add(used), Expires: base.Add(1000 * time.Hour),
		Address: "2001:db8::1", UserAgent: "curl/8 'ü'",
		Refresh: authn.RefreshState{Family: "f-" + id, Current: "c-" + id},
	}
}

func sameSession(a, b authn.Session) bool {
	times := a.Created.Equal(b.Created) && a.LastUsed.Equal(b.LastUsed) && a.Expires.Equal(b.Expires) &&
		a.Refresh.SpentAt.Equal(b.Refresh.SpentAt)
	a.Refresh.SpentAt, b.Refresh.SpentAt = time.Time{}, time.Time{}
	return times && a.ID == b.ID && a.UserID == b.UserID && a.Address == b.Address && a.UserAgent == b.UserAgent &&
		a.Refresh == b.Refresh
}

// TestSessionStore is what every authn.SessionStore must pass. open makes an
// empty one, together with the user store that it belongs to.
func TestSessionStore(t *testing.T, open func(t *testing.T) (authn.SessionStore, authn.UserStore)) {
	ctx := context.Background()
	setUp := func(t *testing.T) authn.SessionStore {
		s, users := open(t)
		must(t, users.CreateUser(ctx, authn.User{ID: "u1", Email: "ann@example.com"}))
		must(t, users.CreateUser(ctx, authn.User{ID: "u2", Email: "bob@example.com"}))
		return s
	}
	t.Run("what is created is found", func(t *testing.T) {
		s := setUp(t)
		want := session("s1", "u1", 0)
		must(t, s.CreateSession(ctx, want))
		if got, err := s.SessionByID(ctx, "s1"); err != nil || !sameSession(got, want) {
			t.Errorf("SessionByID = %+v, %v, want %+v", got, err, want)
		}
		if err := s.CreateSession(ctx, session("s1", "u2", 0)); err == nil {
			t.Error("a second session of the same ID was created")
		}
		if err := s.CreateSession(ctx, session("s2", "nobody", 0)); err == nil {
			t.Error("a session of no user was created")
		}
		for _, id := range append(odd, "s9") { // clients choose it, in a refresh token
			if _, err := s.SessionByID(ctx, id); !errors.Is(err, authn.ErrSessionNotFound) {
				t.Errorf("SessionByID(%q) = %v, want ErrSessionNotFound", id, err)
			}
		}
	})
	t.Run("list and end", func(t *testing.T) {
		s := setUp(t)
		for i, id := range []string{"s1", "s2", "s3"} {
			must(t, s.CreateSession(ctx, session(id, "u1", time.Duration(i)*time.Minute)))
		}
		must(t, s.CreateSession(ctx, session("t1", "u2", 0)))
		must(t, s.EndSession(ctx, "s2"))
		must(t, s.EndSession(ctx, "s2"))
		list, err := s.SessionsOf(ctx, "u1")
		if err != nil || len(list) != 2 || list[0].ID != "s3" || list[1].ID != "s1" {
			t.Errorf("SessionsOf = %+v, %v, want s3, s1", list, err)
		}
		if _, err := s.SessionByID(ctx, "s2"); !errors.Is(err, authn.ErrSessionNotFound) {
			t.Errorf("SessionByID of an ended one = %v, want ErrSessionNotFound", err)
		}
		if list, err := s.SessionsOf(ctx, "nobody"); err != nil || len(list) != 0 {
			t.Errorf("SessionsOf nobody = %v, %v, want none", list, err)
		}
	})
	t.Run("rotate", func(t *testing.T) {
		s := setUp(t)
		must(t, s.CreateSession(ctx, session("s1", "u1", 0)))
		must(t, s.CreateSession(ctx, session("s2", "u1", 0)))
		want := session("s1", "u1", time.Hour)
		want.Expires, want.Address, want.UserAgent = base.Add(2000*time.Hour), "192.0.2.1", "x"
		want.Refresh = authn.RefreshState{Family: "f-s1", Current: "d", Spent: "c-s1", SpentAt: base.Add(time.Hour), Sealed: "e"}
		if ok, err := s.RotateSession(ctx, "c-s1", want); !ok || err != nil {
			t.Fatalf("RotateSession = %v, %v, want true", ok, err)
		}
		if got, err := s.SessionByID(ctx, "s1"); err != nil || !sameSession(got, want) {
			t.Errorf("after RotateSession: %+v, %v, want %+v", got, err, want)
		}
		if got, err := s.SessionByID(ctx, "s2"); err != nil || !sameSession(got, session("s2", "u1", 0)) {
			t.Errorf("RotateSession changed another session: %+v, %v", got, err)
		}
		if ok, err := s.RotateSession(ctx, "c-s1", want); ok || err != nil {
			t.Errorf("RotateSession with a spent hash = %v, %v, want false", ok, err)
		}
		must(t, s.EndSession(ctx, "s1"))
		if ok, err := s.RotateSession(ctx, "d", want); ok || err != nil {
			t.Errorf("RotateSession of an ended session = %v, %v, want false", ok, err)
		}
	})
	t.Run("one winner", func(t *testing.T) {
		s := setUp(t)
		must(t, s.CreateSession(ctx, session("s1", "u1", 0)))
		won := parallel(50, func(i int) bool {
			next := session("s1", "u1", time.Hour)
			next.Refresh.Current = fmt.Sprint("n", i)
			ok, err := s.RotateSession(ctx, "c-s1", next)
			if err != nil {
				t.Errorf("RotateSession = %v", err)
			}
			return ok
		})
		if won != 1 {
			t.Errorf("%d of 50 rotations won, want 1", won)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
