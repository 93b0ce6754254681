package authn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// RevocationList is the local copy of a RevocationLog, which every request is
// checked against. Create one with NewRevocationList.
//
// It only ever grows, until what is in it expires: whatever becomes of the log,
// a token that was refused here is not accepted again. What the log has lost is
// put back from here.
type RevocationList struct {
	log    RevocationLog
	now    func() time.Time
	set    *revocationSet
	policy atomic.Pointer[RevocationPolicy]
	loaded atomic.Bool
	watch  atomic.Pointer[Watch]     // told of what is put in force; nil for nobody
	read   atomic.Pointer[time.Time] // when the log was last known to hold no more
	strict flights

	mu      sync.Mutex // guards what follows
	at      logPosition
	owed    bool // what was not seen in the last pass is to be put back
	lastErr error
	counts  RevocationCounts
}

// RevocationPolicy says how current the list must be.
type RevocationPolicy struct {
	// Strict has each Check catch up with the log first, for at most a quarter
	// of a second.
	Strict bool
	// MaxStaleness is how old the list may be; 0 is no limit.
	MaxStaleness time.Duration
	// AllowStale goes on with a list that is too old, or could not catch up,
	// instead of refusing everybody. A list that was never read refuses in any
	// case.
	AllowStale bool
}

// RevocationCounts tell what has happened since the start.
type RevocationCounts struct {
	Reconnects uint64 // times that reading succeeded after it had failed
	Losses     uint64 // times that the log was found to have a gap, or to be another
	PutBack    uint64 // revocations that it had lost
}

// logPosition is how far the log was read. Reading from the start is a pass,
// and what is read belongs to it.
type logPosition struct {
	cursor  string
	pass    byte
	passing bool // still reading what was there when the pass began
}

const (
	followWait  = time.Second            // how long one Read of Follow waits at most
	followRetry = 250 * time.Millisecond // the longest pause after an error
	trimEvery   = 30 * time.Second       // how often what has expired is dropped
)

// NewRevocationList is the copy of log. It refuses everybody until Load or
// Follow has read the log once. Its policy is the zero one until Use.
func NewRevocationList(log RevocationLog, now func() time.Time) *RevocationList {
	l := &RevocationList{log: log, now: now, set: newRevocationSet(), at: logPosition{passing: true}}
	l.policy.Store(new(RevocationPolicy))
	l.strict.run = l.readToEnd
	return l
}

// Use has requests from now on decided by p.
func (l *RevocationList) Use(p RevocationPolicy) { l.policy.Store(&p) }

// Load reads everything there is. The first request may be served after it.
func (l *RevocationList) Load(ctx context.Context) error {
	for !l.loaded.Load() {
		wait := time.Duration(0)
		if !l.position().passing {
			wait = followWait // until others had time to put back what they hold
		}
		if _, err := l.readOnce(ctx, wait); err != nil && !errors.Is(err, ErrLogUnsettled) && !errors.Is(err, ErrLogGap) {
			return fmt.Errorf("load revocations: %w", err)
		}
	}
	return nil
}

// Follow keeps the list current until ctx ends, whose error it returns. It
// goes on over errors, which State tells, and loads the list first if nobody
// did. What the log has lost it puts back.
func (l *RevocationList) Follow(ctx context.Context) error {
	pause := time.Duration(0)
	trimmed := l.now()
	for {
		_, err := l.readOnce(ctx, l.followWait())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || errors.Is(err, ErrLogUnsettled) {
			err = l.putBack(ctx)
		}
		if now := l.now(); now.Sub(trimmed) >= trimEvery {
			l.set.trim(now)
			trimmed = now
		}
		if err == nil {
			pause = 0
			continue
		}
		pause = min(2*pause+20*time.Millisecond, followRetry)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// followWait is how long the next Read may wait. What it tells is as old as its
// beginning, and gets as old again until the one after it has ended: of a log in
// which nothing happens the list must not seem too old.
func (l *RevocationList) followWait() time.Duration {
	switch limit := l.policy.Load().MaxStaleness; {
	case l.position().passing:
		return 0
	case limit > 0:
		return min(followWait, limit/4)
	}
	return followWait
}

func (l *RevocationList) position() logPosition {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// readOnce applies what follows in the log and tells how many entries that was.
// Two of them may be under way: entries may come twice.
func (l *RevocationList) readOnce(ctx context.Context, wait time.Duration) (int, error) {
	at, began := l.position(), l.now()
	entries, next, err := l.log.Read(ctx, at.cursor, wait)
	for _, r := range entries {
		l.apply(r, at.pass)
	}
	if ctx.Err() != nil {
		return 0, ctx.Err() // shutting down is no failure of the log
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	read := err == nil || errors.Is(err, ErrLogUnsettled)
	ended := read && len(entries) == 0
	if l.at == at {
		switch {
		case errors.Is(err, ErrLogGap):
			if !at.passing || at.cursor != "" {
				l.counts.Losses++
			}
			l.at = logPosition{pass: at.pass + 1, passing: true}
		case ended:
			l.owed = l.owed || at.passing
			l.at = logPosition{cursor: next, pass: at.pass}
		case read:
			l.at.cursor = next
		}
	}
	if err == nil && (ended || !at.passing && len(entries) < RevocationPage) {
		l.loaded.Store(true)
		l.read.Store(&began)
	}
	if err == nil && l.lastErr != nil {
		l.counts.Reconnects++
	}
	l.lastErr = err
	return len(entries), err
}

// putBack records what the last pass over the log did not show. The log can
// still be read if that fails.
func (l *RevocationList) putBack(ctx context.Context) error {
	l.mu.Lock()
	pass, owed := l.at.pass, l.owed
	l.mu.Unlock()
	log, lossy := l.log.(LossyLog)
	if !owed || !lossy {
		return nil
	}
	for shard := 0; shard < revocationShards; {
		var list []Revocation
		list, shard = l.set.unseen(shard, pass, l.now(), RevocationPage)
		if len(list) == 0 {
			break
		}
		if err := log.PutBack(ctx, list); err != nil {
			return fmt.Errorf("put back revocations: %w", err)
		}
		for _, r := range list {
			l.apply(r, pass)
		}
		l.mu.Lock()
		l.counts.PutBack += uint64(len(list))
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.pass == pass {
		l.owed = false
	}
	return nil
}

// readToEnd has everything in force that was recorded before it was called.
func (l *RevocationList) readToEnd(ctx context.Context) error {
	for {
		if l.position().passing {
			return errNotLoaded
		}
		n, err := l.readOnce(ctx, 0)
		if err != nil {
			return err
		}
		if n < RevocationPage {
			return nil
		}
	}
}

// Revoke records r for good and has it in force here before it returns. The
// error is ErrRevocation if r could not be recorded.
func (l *RevocationList) Revoke(ctx context.Context, r Revocation) error {
	if err := r.check(); err != nil {
		return ErrRevocation.Because(err)
	}
	// Of the pass that was under way before: should the log be lost right
	// after it took r, the next pass must not take r for seen.
	pass := l.position().pass
	if err := l.log.Append(ctx, r); err != nil {
		return ErrRevocation.Because(fmt.Errorf("record revocation: %w", err)).After(time.Second)
	}
	l.apply(r, pass)
	return nil
}

var errNotLoaded = errors.New("revocation list is not loaded yet")

// Check refuses an identity whose token, session or generation is revoked. It
// is a Check, and allocates nothing for those that pass where it need not
// catch up.
func (l *RevocationList) Check(ctx context.Context, id *Identity) error {
	if !l.loaded.Load() {
		return ErrRevocation.Because(errNotLoaded).After(time.Second)
	}
	if err := l.refusal(id); err != nil {
		return err
	}
	p := l.policy.Load()
	if p.Strict {
		if err := l.strict.join(ctx); err != nil && !p.AllowStale {
			return ErrRevocation.Because(fmt.Errorf("catch up with the revocation log: %w", err)).After(time.Second)
		}
		return l.refusal(id)
	}
	if p.MaxStaleness <= 0 || p.AllowStale {
		return nil
	}
	if age := l.now().Sub(*l.read.Load()); age > p.MaxStaleness {
		return ErrRevocation.Because(fmt.Errorf("revocation log was last read %s ago: want at most %s",
			age.Round(time.Millisecond), p.MaxStaleness)).After(time.Second)
	}
	return nil
}

// refusal is Check by what the list holds now.
func (l *RevocationList) refusal(id *Identity) error {
	switch {
	case id.Token != "" && l.set.has(RevokeToken, id.Issuer, id.Token):
		return revoked("token revoked")
	case id.Session != "" && l.set.has(RevokeSession, id.Issuer, id.Session):
		return revoked("session revoked")
	case id.Generation < l.generation(id.Issuer, id.ID):
		return revoked("all tokens of the user revoked")
	}
	return nil
}

// generation is the lowest of a user that is still good; 0 is every one.
func (l *RevocationList) generation(issuer, id string) int64 { return l.set.generation(issuer, id) }

func revoked(cause string) error {
	return ErrInvalidToken.Because(errors.New(cause)).Describing("The token was revoked")
}

// State tells how many revocations are in force here, when the log was last
// read and, if it cannot be read now, why. The time is zero before the first
// answer.
func (l *RevocationList) State() (entries int, lastRead time.Time, err error) {
	if at := l.read.Load(); at != nil {
		lastRead = *at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.lastErr
	if err == nil && !l.loaded.Load() {
		err = errNotLoaded
	}
	return l.set.len(), lastRead, err
}

// Counts tells what has happened since the start.
func (l *RevocationList) Counts() RevocationCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// apply puts r in force. What is there already is never weakened: entries may
// come twice and in any order.
func (l *RevocationList) apply(r Revocation, pass byte) {
	until := r.Expires.Add(RevocationMargin)
	if r.check() != nil || !until.After(l.now()) {
		return
	}
	if w := l.watch.Load(); w != nil {
		defer w.revoked(r)
	}
	// Rounded up, and what lies beyond 2106 is kept until then.
	second := until.Unix()
	if until.Nanosecond() > 0 {
		second++
	}
	l.set.put(r, uint32(min(max(second, 0), math.MaxUint32)), pass)
}
