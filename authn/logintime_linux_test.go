package authn

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/crypto/bcrypt"
)

// TestLoginTime: the time of a login that fails tells nobody whether there is
// such an account. TestVerifyCostsTheSame counts the work; this one looks at
// the clock, for whatever else there may be on the way. It is the clock of the
// thread, which stands still while the machine does something else.
//
// In each round every kind of account is tried twice, in random order, so
// that whatever the machine does meanwhile hits all kinds alike; the shortest
// time is the one with the least of it. What counts is only in how many rounds
// one kind took 5 % longer, or shorter, than an ordinary account: in at most
// half of them if the medians differ by less, whatever the machine's speed and
// the distribution. By chance alone it is limit or more with probability below
// 1e-7 (Hoeffding: exp(-2·rounds·(limit/rounds - 1/2)²)), so that eight such
// questions raise a false alarm less than once in a million runs.
//
// One account's hash is of a higher cost, which all the others make up for: an
// unknown user by one comparison, an ordinary one by two, each of which does a
// little more than its rounds.
//
// Seen on two processors that fifteen others wanted: honest kinds are longer or
// shorter in 2 to 34 of 100 rounds, and limit is 79. Without the hash for
// unknown users, or with one of twice the work, it is all 100; with a tenth
// more work, 86 to 93.
func TestLoginTime(t *testing.T) {
	t.Parallel()
	const (
		cost   = bcrypt.MinCost
		rounds = 100
		tries  = 2
		margin = 1.05
	)
	limit := int(math.Ceil(rounds * (0.5 + math.Sqrt(math.Log(1e7)/(2*rounds)))))

	store := new(MemoryStore)
	s := &Service{Users: store, Sessions: store, Hasher: NewHasher(cost), Now: time.Now}
	right, err := bcrypt.GenerateFromPassword([]byte("right"), cost)
	if err != nil {
		t.Fatal(err)
	}
	hash := string(right)
	for _, u := range []User{
		{ID: "1", Email: "ordinary@example.com", PasswordHash: hash},
		{ID: "2", Email: "disabled@example.com", PasswordHash: hash, Disabled: true},
		{ID: "3", Email: "damaged@example.com", PasswordHash: "$2a$04$none"},
		{ID: "4", Email: "costly@example.com", PasswordHash: dummyHash(cost + 1)},
	} {
		if err := store.CreateUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	kinds := []string{"ordinary@example.com", "unknown@example.com", "disabled@example.com", "damaged@example.com", "costly@example.com"}
	longer, shorter := make([]int, len(kinds)), make([]int, len(kinds))
	took := make([]time.Duration, len(kinds))
	runtime.LockOSThread() // hashing is done by whoever asks for it
	defer runtime.UnlockOSThread()
	for range rounds {
		clear(took)
		for range tries {
			for _, kind := range rand.Perm(len(kinds)) {
				password := "wrong"
				if strings.HasPrefix(kinds[kind], "disabled") {
					password = "right"
				}
				begin := threadTime(t)
				_, err := s.Login(context.Background(), kinds[kind], password, Client{})
				if d := threadTime(t) - begin; took[kind] == 0 || d < took[kind] {
					took[kind] = d
				}
				if !errors.Is(err, ErrInvalidCredentials) {
					t.Fatalf("%s: %v", kinds[kind], err)
				}
			}
		}
		for kind := range kinds {
			if ratio := float64(took[kind]) / float64(took[0]); ratio > margin {
				longer[kind]++
			} else if ratio < 1/margin {
				shorter[kind]++
			}
		}
	}
	for kind, name := range kinds[1:] {
		t.Logf("%s: longer in %d, shorter in %d of %d rounds, limit %d", name, longer[kind+1], shorter[kind+1], rounds, limit)
		if longer[kind+1] >= limit {
			t.Errorf("%s takes longer than an ordinary account in %d of %d rounds", name, longer[kind+1], rounds)
		}
		if shorter[kind+1] >= limit {
			t.Errorf("%s takes less time than an ordinary account in %d of %d rounds", name, shorter[kind+1], rounds)
		}
	}
}

// threadTime is what the thread has used of a processor.
func threadTime(t *testing.T) time.Duration {
	// getrusage brings its numbers up to date with each tick only.
	var now syscall.Timespec
	const clockThreadCPUTime = 3 // linux/time.h
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPUTime, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		t.Fatal(errno)
	}
	return time.Duration(now.Nano())
}
