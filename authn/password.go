package authn

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"gatehouse/config"
)

// maxPassword is bcrypt's limit in bytes. Go's bcrypt refuses to hash more but
// ignores the rest when it compares, so that a password of 72 bytes would be
// good with anything after it.
const maxPassword = 72

// checkPassword refuses what bcrypt cannot tell apart and what no login can
// send. A NUL ends the text for bcrypt ("a" equals "a\x00a"), invalid UTF-8
// reaches us as U+FFFD from JSON, which would make many passwords one, and the
// endpoints take no control characters. The bytes are hashed as they come:
// normalising them would shut out whoever chose a password elsewhere whose
// hash was imported.
func checkPassword(password string) error {
	switch {
	case password == "":
		return fault("password_empty")
	case !utf8.ValidString(password):
		return fault("password_utf8")
	case strings.ContainsRune(password, utf8.RuneError):
		return fault("password_replacement")
	case strings.ContainsFunc(password, unicode.IsControl):
		return fault("password_control")
	case len(password) > maxPassword:
		return fault("password_long", "max", maxPassword, "bytes", len(password))
	}
	return nil
}

// bcryptHash is $2a$, two digits of cost, 22 characters of salt, 31 of hash.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

// HashCost is the cost of a bcrypt hash that a password can be compared with,
// bcrypt.MinCost to config.MaxBcryptCost. It is 0 for everything else: no hash,
// a damaged one, one of cost 31, which would keep a processor busy for days.
func HashCost(hash string) int {
	parts := bcryptHash.FindStringSubmatch(hash)
	if parts == nil {
		return 0
	}
	cost, _ := strconv.Atoi(parts[1]) // digits, as the expression says
	if cost < bcrypt.MinCost || cost > config.MaxBcryptCost {
		return 0
	}
	return cost
}

// PasswordPolicy is what a new password must be. 72 bytes are the limit
// whatever it says.
type PasswordPolicy struct {
	MinLength   int // characters
	MinStrength int // 0 to 4, as zxcvbn scores it
}

// Check returns ErrWeakPassword or ErrInvalidRequest, saying what is wanted
// and what was reached. inputs are what an attacker would try first: the
// user's address and name.
func (p PasswordPolicy) Check(password string, inputs ...string) error {
	if err := checkPassword(password); err != nil {
		return ErrInvalidRequest.About(faultOf(err).At("password")).Because(errors.New("password cannot be used"))
	}
	if n := utf8.RuneCountInString(password); n < p.MinLength {
		return ErrWeakPassword.About(fault("password_short", "min", p.MinLength, "characters", n).At("password"))
	}
	if p.MinStrength <= 0 {
		return nil
	}
	if got := passwordStrength(password, inputs...); got < p.MinStrength {
		return ErrWeakPassword.About(fault("password_weak", "strength", got, "wanted", p.MinStrength).At("password"))
	}
	return nil
}

// Hasher hashes passwords with bcrypt. It keeps to half of the processors, so
// that forwarded requests keep theirs: other callers queue, and once the queue
// is long they are told ErrBusy. So is a network that has half of the queue to
// itself, while there is still room for others.
type Hasher struct {
	cost  int
	desks chan struct{} // who is working

	mu    sync.Mutex
	seats int            // how many may wait or work
	taken int            // how many do
	from  map[string]int // the same by network

	// The two that cost time; tests count them.
	generate func(password []byte, cost int) ([]byte, error)
	compare  func(hash, password []byte) error
}

// HashWorkers is how many passwords are hashed at once, as many as half of the
// processors that there are when it is first asked.
var HashWorkers = sync.OnceValue(func() int { return max(1, runtime.GOMAXPROCS(0)/2) })

// queuePerWorker is a wait of some eight seconds at cost 12.
const queuePerWorker = 32

// NewHasher hashes with the given bcrypt cost, 4 to config.MaxBcryptCost.
func NewHasher(cost int) *Hasher {
	workers := HashWorkers()
	return &Hasher{
		cost:     min(max(cost, bcrypt.MinCost), config.MaxBcryptCost),
		desks:    make(chan struct{}, workers),
		from:     make(map[string]int),
		seats:    workers * (queuePerWorker + 1),
		generate: bcrypt.GenerateFromPassword,
		compare:  bcrypt.CompareHashAndPassword,
	}
}

// work runs f when it is its turn. f is not run if the error is not nil:
// ErrBusy, or that of ctx.
func (h *Hasher) work(ctx context.Context, f func()) error {
	from := networkOf(ctx)
	if !h.sit(from) {
		return ErrBusy.After(time.Second)
	}
	defer h.rise(from)
	if err := ctx.Err(); err != nil { // select picks at random
		return err
	}
	select {
	case h.desks <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.desks }()
	f()
	return nil
}

// Busy is ErrBusy where Hash and Verify would say so at the moment, so that who
// cannot be served is told before anything is looked up.
func (h *Hasher) Busy(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.room(networkOf(ctx)) {
		return ErrBusy.After(time.Second)
	}
	return nil
}

// networkOf is where ctx's caller comes from, "" for nobody's.
func networkOf(ctx context.Context) string {
	if a := CallerOf(ctx).Address; a.IsValid() {
		return network(a)
	}
	return ""
}

// room reports whether there is a seat for a client of a network. The caller
// holds mu.
func (h *Hasher) room(network string) bool {
	return h.taken < h.seats && (network == "" || h.from[network] < h.seats/2)
}

// sit takes a seat for a client of a network.
func (h *Hasher) sit(network string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.room(network) {
		return false
	}
	h.taken++
	h.from[network]++
	return true
}

func (h *Hasher) rise(network string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken--
	if h.from[network]--; h.from[network] == 0 {
		delete(h.from, network)
	}
}

// Hash is the bcrypt hash of a password that checkPassword allows.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	var hash []byte
	var err error
	if busy := h.work(ctx, func() { hash, err = h.generate([]byte(password), h.cost) }); busy != nil {
		return "", busy
	}
	return string(hash), err
}

// Verify reports whether password is the one that was hashed. highest is the
// highest HashCost of any account, whose hash may be this one. The error means
// that there is no verdict.
//
// It takes the same time whatever it finds out, so that nobody learns who has
// an account: the rounds of bcrypt are those of the cost that is configured or
// of highest, whichever is more, for no hash at all ("", an unknown user), for
// a hash that cannot be read, for a password that no account can have, and for
// a hash of a lower cost, where further comparisons make up the difference.
func (h *Hasher) Verify(ctx context.Context, hash, password string, highest int) (bool, error) {
	cost := HashCost(hash)
	known := cost > 0
	full := max(h.cost, highest, cost)
	if !known {
		hash, cost = dummyHash(full), full
	}
	allowed := checkPassword(password) == nil
	if !allowed {
		password = "no password of anybody"
	}
	same := false
	err := h.work(ctx, func() {
		same = h.compare([]byte(hash), []byte(password)) == nil
		// 2^c + 2^c + 2^(c+1) + … + 2^(full-1) = 2^full
		for c := cost; c < full; c++ {
			_ = h.compare([]byte(dummyHash(c)), []byte(password))
		}
	})
	return same && known && allowed, err
}

// Outdated tells whether a hash was made with another cost than is configured,
// and is to be replaced when its password is at hand.
func (h *Hasher) Outdated(hash string) bool {
	return HashCost(hash) != h.cost
}

// dummyHash is well-formed, and the hash of no password that anybody knows.
func dummyHash(cost int) string {
	return fmt.Sprintf("$2a$%02d$%s", cost, "GatehouseGatehouseGateeuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu")
}
