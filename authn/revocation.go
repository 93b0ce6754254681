package authn

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// RevocationKind says what a Revocation's ID names.
type RevocationKind string

// The kinds of revocation.
const (
	RevokeToken   RevocationKind = "token"   // ID is a jti
	RevokeSession RevocationKind = "session" // ID is a sid
	RevokeUser    RevocationKind = "user"    // ID is a sub; tokens of a generation lower than Generation
)

// Revocation is one thing that is no longer wanted, until it would have
// expired anyway.
type Revocation struct {
	Kind RevocationKind
	// Issuer is empty for the gateway's own tokens. IDs of different issuers
	// are different.
	Issuer, ID string
	Generation int64 // of RevokeUser only
	// Expires is when the last token meant here is refused for its age, leeway
	// included.
	Expires time.Time
}

// RevocationMargin is how much longer than Expires a revocation is kept, so
// that clocks that differ a little bring no token back to life.
const RevocationMargin = 2 * time.Minute

// A RevocationLog is the record of revocations that all gateways share.
type RevocationLog interface {
	// Append returns once r is recorded for good.
	Append(ctx context.Context, r Revocation) error
	// Read returns what follows cursor, oldest first, waiting up to wait for
	// the first entry. It may return a part: no entries means that there are
	// no more. The first cursor is "". Entries that have expired may be
	// missing.
	Read(ctx context.Context, cursor string, wait time.Duration) (entries []Revocation, next string, err error)
}

// RevocationList is the local copy of a RevocationLog, which every request is
// checked against. Create one with NewRevocationList.
//
// It holds hashes in maps without pointers: 17 bytes and some slack for each
// revoked token, and nothing for the garbage collector to follow. The hashes
// are seeded anew in each process and 96 bits long; were two IDs ever to
// collide, a token would be refused, never accepted.
type RevocationList struct {
	log    RevocationLog
	now    func() time.Time
	seeds  [3][2]maphash.Seed // of each kind
	shards [revocationShards]revocationShard
	loaded atomic.Bool
	watch  atomic.Pointer[Watch] // told of what is put in force; nil for nobody

	reading sync.Mutex // one Read at a time; guards cursor
	cursor  string

	mu       sync.Mutex // guards what State tells
	lastRead time.Time
	lastErr  error
}

const (
	revocationShards = 64
	followWait       = time.Second      // how long one Read of Follow waits
	followRetry      = time.Second      // the longest pause after an error
	trimEvery        = 30 * time.Second // how often what has expired is dropped
)

// revocationKey is a hash of kind, issuer and ID.
type revocationKey [3]uint32

// revocationShard is one part of the list, so that trimming a long list never
// holds up requests for long.
type revocationShard struct {
	mu sync.RWMutex
	// ids are tokens and sessions, with the Unix second in which they may be
	// forgotten.
	ids   map[revocationKey]uint32
	users map[revocationKey]userMark
}

type userMark struct {
	generation int64
	forget     uint32
}

// NewRevocationList is the copy of log. It refuses everybody until Load or
// Follow has read the log once.
func NewRevocationList(log RevocationLog, now func() time.Time) *RevocationList {
	l := &RevocationList{log: log, now: now}
	for i := range l.seeds {
		l.seeds[i] = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	}
	for i := range l.shards {
		l.shards[i].ids = make(map[revocationKey]uint32)
		l.shards[i].users = make(map[revocationKey]userMark)
	}
	return l
}

// Load reads everything there is. The first request may be served after it.
func (l *RevocationList) Load(ctx context.Context) error {
	for {
		n, err := l.read(ctx, 0)
		if err != nil {
			return fmt.Errorf("load revocations: %w", err)
		}
		if n == 0 {
			l.loaded.Store(true)
			return nil
		}
	}
}

// Follow keeps the list current until ctx ends, whose error it returns. It
// goes on over errors, which State tells, and loads the list first if nobody
// did.
func (l *RevocationList) Follow(ctx context.Context) error {
	pause := time.Duration(0)
	trimmed := l.now()
	for {
		var err error
		if l.loaded.Load() {
			_, err = l.read(ctx, followWait)
		} else {
			err = l.Load(ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now := l.now(); now.Sub(trimmed) >= trimEvery {
			l.trim(now)
			trimmed = now
		}
		if err == nil {
			pause = 0
			continue
		}
		pause = min(2*pause+50*time.Millisecond, followRetry)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// read applies what follows the cursor and tells how many entries that was.
func (l *RevocationList) read(ctx context.Context, wait time.Duration) (int, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	entries, next, err := l.log.Read(ctx, l.cursor, wait)
	if err == nil {
		for _, r := range entries {
			l.apply(r)
		}
		l.cursor = next
	}
	if ctx.Err() != nil {
		return 0, ctx.Err() // shutting down is no failure of the log
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = err
	if err == nil {
		l.lastRead = l.now()
	}
	return len(entries), err
}

// Revoke records r for good and has it in force here before it returns. The
// error is ErrRevocation if r could not be recorded.
func (l *RevocationList) Revoke(ctx context.Context, r Revocation) error {
	if err := r.check(); err != nil {
		return ErrRevocation.Because(err)
	}
	if err := l.log.Append(ctx, r); err != nil {
		return ErrRevocation.Because(fmt.Errorf("record revocation: %w", err)).After(time.Second)
	}
	l.apply(r)
	return nil
}

func (r Revocation) check() error {
	switch {
	case r.Kind != RevokeToken && r.Kind != RevokeSession && r.Kind != RevokeUser:
		return fmt.Errorf("revocation of kind %q: want token, session or user", r.Kind)
	case r.ID == "":
		return fmt.Errorf("revocation of a %s without an ID", r.Kind)
	case r.Expires.IsZero():
		return fmt.Errorf("revocation of a %s that never expires", r.Kind)
	}
	return nil
}

var errNotLoaded = errors.New("revocation list is not loaded yet")

// Check refuses an identity whose token, session or generation is revoked. It
// is a Check, and allocates nothing for those that pass.
func (l *RevocationList) Check(_ context.Context, id *Identity) error {
	if !l.loaded.Load() {
		return ErrRevocation.Because(errNotLoaded).After(time.Second)
	}
	return l.refusal(id)
}

// refusal is Check by what the list holds now.
func (l *RevocationList) refusal(id *Identity) error {
	switch {
	case id.Token != "" && l.has(RevokeToken, id.Issuer, id.Token):
		return revoked("token revoked")
	case id.Session != "" && l.has(RevokeSession, id.Issuer, id.Session):
		return revoked("session revoked")
	case id.Generation < l.generation(id.Issuer, id.ID):
		return revoked("all tokens of the user revoked")
	}
	return nil
}

func revoked(cause string) error {
	return ErrInvalidToken.Because(errors.New(cause)).Describing("The token was revoked")
}

// State tells how many revocations are in force here, when the log last
// answered and, if it does not answer now, why. The time is zero before the
// first answer.
func (l *RevocationList) State() (entries int, lastRead time.Time, err error) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.RLock()
		entries += len(s.ids) + len(s.users)
		s.mu.RUnlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.lastErr
	if err == nil && !l.loaded.Load() {
		err = errNotLoaded
	}
	return entries, l.lastRead, err
}

func (l *RevocationList) has(kind RevocationKind, issuer, id string) bool {
	k := l.key(kind, issuer, id)
	s := l.shard(k)
	s.mu.RLock()
	_, ok := s.ids[k]
	s.mu.RUnlock()
	return ok
}

// generation is the lowest that is still good; 0 is every one.
func (l *RevocationList) generation(issuer, id string) int64 {
	k := l.key(RevokeUser, issuer, id)
	s := l.shard(k)
	s.mu.RLock()
	g := s.users[k].generation
	s.mu.RUnlock()
	return g
}

// apply puts r in force. What is there already is never weakened: entries may
// come twice and in any order.
func (l *RevocationList) apply(r Revocation) {
	until := r.Expires.Add(RevocationMargin)
	if r.check() != nil || !until.After(l.now()) {
		return
	}
	if w := l.watch.Load(); w != nil {
		defer w.revoked(r) // runs when the shard is unlocked
	}
	// Rounded up, and what lies beyond 2106 is kept until then.
	forget := uint32(min(max(until.Unix()+1, 0), math.MaxUint32))
	k := l.key(r.Kind, r.Issuer, r.ID)
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Kind != RevokeUser {
		s.ids[k] = max(s.ids[k], forget)
		return
	}
	m := s.users[k]
	s.users[k] = userMark{max(m.generation, r.Generation), max(m.forget, forget)}
}

// trim drops what has expired.
func (l *RevocationList) trim(now time.Time) {
	second := now.Unix()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for k, forget := range s.ids {
			if int64(forget) <= second {
				delete(s.ids, k)
			}
		}
		for k, m := range s.users {
			if int64(m.forget) <= second {
				delete(s.users, k)
			}
		}
		s.mu.Unlock()
	}
}

func (l *RevocationList) shard(k revocationKey) *revocationShard {
	return &l.shards[k[0]%revocationShards]
}

// key is the hash of an ID under the seeds of its kind, with the issuer's mixed
// in. Nobody knows the seeds, so that nobody can choose two that are equal.
func (l *RevocationList) key(kind RevocationKind, issuer, id string) revocationKey {
	seeds := &l.seeds[0]
	switch kind {
	case RevokeSession:
		seeds = &l.seeds[1]
	case RevokeUser:
		seeds = &l.seeds[2]
	}
	a, b := maphash.String(seeds[0], id), maphash.String(seeds[1], id)
	if issuer != "" {
		a ^= bits.RotateLeft64(maphash.String(seeds[0], issuer), 17)
		b ^= bits.RotateLeft64(maphash.String(seeds[1], issuer), 17)
	}
	return revocationKey{uint32(a), uint32(a >> 32), uint32(b)}
}
