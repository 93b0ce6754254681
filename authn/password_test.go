package authn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"gatehouse/config"
)

// countingHasher has the cost 10 and does no work, but counts the rounds of
// bcrypt that it would have cost.
func countingHasher() (*Hasher, *int) {
	rounds := new(int)
	h := NewHasher(10)
	h.compare = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			return err
		}
		*rounds += 1 << cost
		if strings.HasSuffix(string(hash), "right") && string(password) == "right" {
			return nil
		}
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return h, rounds
}

// fakeHash is a hash of "right" for countingHasher.
func fakeHash(cost int) string {
	h := dummyHash(cost)
	return h[:len(h)-5] + "right"
}

func TestVerifyCostsTheSame(t *testing.T) {
	damaged := strings.Replace(fakeHash(10), "Gate", "Ga!e", 1)
	for _, c := range []struct {
		what, hash, password string
		want                 bool
	}{
		{"unknown user", "", "right", false},
		{"right", fakeHash(10), "right", true},
		{"wrong", fakeHash(10), "wrong", false},
		{"right, of lower cost", fakeHash(4), "right", true},
		{"wrong, of lower cost", fakeHash(4), "wrong", false},
		{"wrong, of half the cost", fakeHash(9), "wrong", false},
		{"right, of higher cost", fakeHash(12), "right", true},
		{"wrong, of higher cost", fakeHash(12), "wrong", false},
		{"right, of the highest cost", fakeHash(config.MaxBcryptCost), "right", true},
		{"of absurd cost", fakeHash(config.MaxBcryptCost + 1), "right", false},
		{"no bcrypt hash", "{SHA}xyz", "right", false},
		{"cut hash", fakeHash(10)[:30], "right", false},
		{"damaged hash", damaged, "right", false},
		{"empty password", fakeHash(10), "", false},
		{"tab", fakeHash(10), "right\t", false},
		{"NUL", fakeHash(10), "right\x00", false},
		{"too long", fakeHash(10), "right" + strings.Repeat("x", 68), false},
		{"invalid UTF-8", fakeHash(10), "right\xff", false},
		{"unknown and too long", "", strings.Repeat("x", 1000), false},
	} {
		for _, highest := range []int{0, 4, 10, 12, 13, config.MaxBcryptCost} {
			h, rounds := countingHasher()
			got, err := h.Verify(context.Background(), c.hash, c.password, highest)
			want := 1 << max(10, highest, HashCost(c.hash))
			if got != c.want || err != nil || *rounds != want {
				t.Errorf("%s, the highest cost %d: Verify = %v, %v in %d rounds, want %v in %d", c.what, highest, got, err, *rounds, c.want, want)
			}
		}
	}
}

// Whose account it is, and whether there is one, does not change what a login
// computes, whichever costs the hashes have.
func TestLoginCostsTheSame(t *testing.T) {
	store := new(MemoryStore)
	for i, hash := range []string{
		"", fakeHash(4), fakeHash(9), fakeHash(10), fakeHash(11), fakeHash(13), fakeHash(config.MaxBcryptCost + 1), fakeHash(31), fakeHash(16)[:59], "{SHA}xyz",
	} {
		for _, disabled := range []bool{false, true} {
			id := fmt.Sprint(i, disabled)
			if err := store.CreateUser(t.Context(), User{ID: id, Email: id + "@example.com", PasswordHash: hash, Disabled: disabled}); err != nil {
				t.Fatal(err)
			}
		}
	}
	logins := func(want int) {
		t.Helper()
		emails := []string{"unknown@example.com", "no address"}
		for _, u := range store.users {
			emails = append(emails, u.Email)
		}
		for _, email := range emails {
			for _, password := range []string{"wrong", "right\x00", strings.Repeat("x", 1000)} {
				h, rounds := countingHasher()
				s := &Service{Users: store, Sessions: store, Hasher: h, Now: time.Now}
				if _, err := s.Login(t.Context(), email, password, Client{}); !errors.Is(err, ErrInvalidCredentials) || *rounds != want {
					t.Errorf("login of %s with %.10q: %v in %d rounds, want invalid_credentials in %d", email, password, err, *rounds, want)
				}
			}
		}
	}
	logins(1 << 13)
	for id, u := range store.users { // as signing in does
		if HashCost(u.PasswordHash) > 10 {
			u.PasswordHash = fakeHash(10)
			store.users[id] = u
		}
	}
	logins(1 << 10)
}

// A store that cannot tell the highest cost gives no verdict, rather than a
// quick one.
func TestLoginWithoutHighestCost(t *testing.T) {
	away := errors.New("database is away")
	h, rounds := countingHasher()
	s := &Service{Users: costlessStore{new(MemoryStore), away}, Hasher: h, Now: time.Now}
	for _, email := range []string{"unknown@example.com", "no address"} {
		if _, err := s.Login(t.Context(), email, "right", Client{}); !errors.Is(err, away) || *rounds != 0 {
			t.Errorf("login of %s = %v in %d rounds, want the store's error and no hashing", email, err, *rounds)
		}
	}
}

type costlessStore struct {
	*MemoryStore
	err error
}

func (s costlessStore) HighestCost(context.Context) (int, error) { return 0, s.err }

// What has a cost can be compared with: it is good for bcrypt to do its work.
func TestHashCost(t *testing.T) {
	good := dummyHash(5)
	for hash, want := range map[string]int{
		good: 5, "$2b" + good[3:]: 5, "$2y" + good[3:]: 5, dummyHash(4): 4, dummyHash(config.MaxBcryptCost): config.MaxBcryptCost,
		dummyHash(3): 0, dummyHash(config.MaxBcryptCost + 1): 0, dummyHash(31): 0, dummyHash(99): 0,
		"": 0, "$2a$05$": 0, good[:59]: 0, good + "u": 0, good + "\n": 0, " " + good: 0, "$2x" + good[3:]: 0, "$2" + good[3:]: 0, "$3a" + good[3:]: 0,
		"$2a$+5" + good[6:]: 0, "$2a$5$" + good[6:]: 0, "$2a$ 5" + good[6:]: 0, "$2a$05!" + good[7:]: 0, good[:20] + "!" + good[21:]: 0, good[:20] + "\n" + good[21:]: 0,
		good[:58] + "é": 0, good[:59] + "é": 0,
	} {
		got := HashCost(hash)
		if got != want {
			t.Errorf("HashCost(%q) = %d, want %d", hash, got, want)
		}
		if got != 5 {
			continue // too dear to try, or not to be tried
		}
		if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("comparing with %q: %v, want a mismatch", hash, err)
		}
	}
}

// The dummy must be good enough for bcrypt to do its work before it says no.
func TestDummyHash(t *testing.T) {
	for cost := bcrypt.MinCost; cost < 8; cost++ {
		got, err := bcrypt.Cost([]byte(dummyHash(cost)))
		if err != nil || got != cost {
			t.Errorf("cost of dummyHash(%d) = %d, %v", cost, got, err)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(dummyHash(cost)), []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("comparing with dummyHash(%d): %v, want a mismatch", cost, err)
		}
	}
}

func TestHasher(t *testing.T) {
	ctx := context.Background()
	h := NewHasher(4)
	longest := strings.Repeat("é", 36)
	for _, password := range []string{"correct horse", longest, " blanks ", "na\u00efve", "nai\u0308ve"} {
		hash, err := h.Hash(ctx, password)
		if err != nil {
			t.Fatalf("Hash(%q) = %v", password, err)
		}
		for other, want := range map[string]bool{
			password: true, password + "x": false, password + "\x00": false, "": false, strings.TrimSpace(password) + " ": false,
		} {
			if got, err := h.Verify(ctx, hash, other, 0); got != want || err != nil {
				t.Errorf("Verify of %q against the hash of %q = %v, %v, want %v", other, password, got, err, want)
			}
		}
		if h.Outdated(hash) || !NewHasher(5).Outdated(hash) {
			t.Errorf("Outdated(%q) is wrong", hash)
		}
	}
	for _, password := range []string{"", longest + "x", "a\x00b", "a\tb", "\xff", "\ufffd"} {
		if hash, err := h.Hash(ctx, password); err == nil {
			t.Errorf("Hash(%q) = %q, want an error", password, hash)
		}
	}
	// Hashes of other programs.
	hash, _ := bcrypt.GenerateFromPassword([]byte("right"), 4)
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		if ok, err := h.Verify(ctx, prefix+string(hash[4:]), "right", 0); !ok || err != nil {
			t.Errorf("Verify of a %s hash = %v, %v, want true", prefix, ok, err)
		}
	}
}

func TestHasherQueue(t *testing.T) {
	h := NewHasher(4)
	release := make(chan struct{})
	working := make(chan struct{}, h.seats)
	var mu sync.Mutex
	at, most := 0, 0
	h.compare = func(_, _ []byte) error {
		mu.Lock()
		at++
		most = max(most, at)
		mu.Unlock()
		working <- struct{}{}
		<-release
		mu.Lock()
		at--
		mu.Unlock()
		return bcrypt.ErrMismatchedHashAndPassword
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for range cap(h.desks) {
		wg.Go(func() { h.Verify(context.Background(), "", "x", 0) })
		<-working
	}
	left := make(chan error, h.seats)
	for range h.seats - cap(h.desks) {
		wg.Go(func() {
			_, err := h.Verify(ctx, "", "x", 0)
			left <- err
		})
	}
	queued := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.taken
	}
	for queued() < h.seats {
		time.Sleep(time.Microsecond) // until all of them queue; there is nothing to wait on
	}
	_, err := h.Verify(context.Background(), "", "x", 0)
	if r := AsRefusal(err); !errors.Is(err, ErrBusy) || r.RetryAfter != time.Second {
		t.Errorf("Verify with a full queue = %v, want ErrBusy after 1s", err)
	}
	cancel()
	for range h.seats - cap(h.desks) {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("Verify whose caller left = %v, want context.Canceled", err)
		}
	}
	close(release)
	wg.Wait()
	if most > cap(h.desks) {
		t.Errorf("%d worked at once, want at most %d", most, cap(h.desks))
	}
	if _, err := h.Verify(context.Background(), "", "x", 0); err != nil {
		t.Errorf("Verify once the queue is empty = %v", err)
	}
}

// One network leaves room in the queue for the others.
func TestHasherShares(t *testing.T) {
	h := NewHasher(4)
	as := func(address string) context.Context {
		return WithCaller(context.Background(), Caller{Address: netip.MustParseAddr(address)})
	}
	taken := 0
	for h.sit(network(netip.MustParseAddr("192.0.2.1"))) {
		taken++
	}
	if taken != h.seats/2 {
		t.Errorf("one network takes %d of %d seats, want half", taken, h.seats)
	}
	for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1"} {
		if _, err := h.Verify(as(address), "", "x", 0); !errors.Is(err, ErrBusy) {
			t.Errorf("Verify for %s = %v, want busy", address, err)
		}
		if err := h.Busy(as(address)); !errors.Is(err, ErrBusy) {
			t.Errorf("Busy for %s = %v", address, err)
		}
	}
	for _, ctx := range []context.Context{as("192.0.2.2"), as("2001:db8::1"), context.Background()} {
		if _, err := h.Verify(ctx, "", "x", 0); err != nil {
			t.Errorf("Verify for another = %v", err)
		}
		if err := h.Busy(ctx); err != nil {
			t.Errorf("Busy for another = %v", err)
		}
	}
	for range taken {
		h.rise("192.0.2.1")
	}
	if len(h.from) != 0 || h.taken != 0 {
		t.Errorf("%d seats are taken, by %v, want none", h.taken, h.from)
	}
}

// Who cannot be served costs neither a look-up nor an attempt: there is no store
// here to ask.
func TestBusyIsSaidFirst(t *testing.T) {
	h := NewHasher(4)
	h.seats = 0
	s := &Service{Hasher: h, RegistrationOpen: true}
	if _, err := s.Login(t.Context(), "ann@example.com", "a good password", Client{}); AsRefusal(err).RetryAfter != time.Second || !errors.Is(err, ErrBusy) {
		t.Errorf("Login = %v, want busy for a second", err)
	}
	if _, err := s.Register(t.Context(), "ann@example.com", "a good password", "", Client{}); !errors.Is(err, ErrBusy) {
		t.Errorf("Register = %v, want busy", err)
	}
}

func TestPasswordPolicy(t *testing.T) {
	strict := PasswordPolicy{MinLength: 8, MinStrength: 2}
	check := func(p PasswordPolicy, password string, want *Refusal, says string) {
		t.Helper()
		err := p.Check(password, "ann.jones@example.com", "Ann Jones")
		if want == nil {
			if err != nil {
				t.Errorf("Check(%q) = %v: %s, want nil", password, err, AsRefusal(err).Message)
			}
			return
		}
		if !errors.Is(err, want) || !strings.Contains(AsRefusal(err).Message, says) {
			t.Errorf("Check(%q) = %v %+v, want %v with %q", password, err, err, want, says)
		}
		if len(password) > 2 && strings.Contains(AsRefusal(err).Message+err.Error(), password) {
			t.Errorf("Check(%q) repeats the password", password)
		}
	}
	check(strict, "correct horse battery staple", nil, "")
	check(strict, "корова летит над лесом", nil, "")
	check(strict, strings.Repeat("x7#Q", 18), nil, "") // 72 bytes
	check(strict, strings.Repeat("x7#Q", 18)+"abc", ErrInvalidRequest, "password must be at most 72 bytes; this one has 75")
	check(strict, strings.Repeat("é", 37), ErrInvalidRequest, "this one has 74")
	check(strict, "", ErrInvalidRequest, "empty")
	check(strict, "long enough\x00", ErrInvalidRequest, "control")
	check(strict, "long\tenough", ErrInvalidRequest, "control")
	check(strict, "long enough\xff", ErrInvalidRequest, "UTF-8")
	check(strict, "long enough\ufffd", ErrInvalidRequest, "U+FFFD")
	check(strict, "x7#Qp!z", ErrWeakPassword, "at least 8 characters; this one has 7")
	check(strict, "éééééé7", ErrWeakPassword, "this one has 7")
	check(strict, "password123", ErrWeakPassword, "strength 0 of 4, wanted is 2")
	check(strict, "ann.jones@example.com", ErrWeakPassword, "strength 0")
	check(strict, "annjones1", ErrWeakPassword, "strength")
	check(PasswordPolicy{MinLength: 8}, "password123", nil, "")
	check(PasswordPolicy{}, "a", nil, "")
}
