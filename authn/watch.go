package authn

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Watch ends what goes on longer than a request, when the identity behind it
// is revoked or expires: a websocket was let in by one check and would
// otherwise outlive every logout.
//
// # Why
//
// Ten thousand idle streams have no goroutine and no timer of their own. They
// stand in one heap by expiry and in lists by what a revocation names, so that
// a revocation costs one look per kind and finds those that it ends.
type Watch struct {
	list  *RevocationList
	alive func(ctx context.Context, id *Identity) (time.Time, error)
	now   func() time.Time

	count atomic.Int64  // of those in lists, so that revoking is free without streams
	kick  chan struct{} // the earliest expiry has changed
	asks  chan struct{} // asked is not empty

	mu     sync.Mutex
	first  map[watchKey]*Watched
	due    watchHeap
	asked  []*Watched     // whose session has to be looked up
	over   bool           // Run has returned: nothing is ended any more
	ending sync.WaitGroup // grows under mu and until over only
}

// EndReason says in one word why a Watched was ended.
type EndReason string

// The reasons for ending.
const (
	EndRevoked EndReason = "revoked" // token, session or generation
	EndExpired EndReason = "expired" // token or session
)

// Watched is one thing to end. Its owner sets the fields, calls Watch.Add, and
// Watch.Remove when it is over.
type Watched struct {
	Identity *Identity
	OnRevoke bool // ends when Identity is revoked
	// Expires is when Identity is refused for its age, leeway included. Zero:
	// it does not end by age.
	Expires time.Time
	// InSession is that of a browser, which gets new tokens while its session
	// is alive: at Expires the session is asked for, not the token. One that is
	// gone is asked for twice, a second apart, if OnRevoke.
	InSession bool
	// End is called once, in a goroutine of its own, with the refusal that a
	// request would get now. Remove does not wait for it.
	End func(reason EndReason, why *Refusal)

	on     bool // under Watch.mu, as all below
	linked [3]watchLinks
	when   time.Time // of the place in the heap
	place  int       // in the heap; -1: not there
	unsure time.Time // since when nobody could tell whether the session is alive
	gone   bool      // the session was not found when last asked for
}

// watchKey is what a revocation names.
type watchKey struct {
	kind       RevocationKind
	issuer, id string
}

// watchLinks are the neighbours in the list of a watchKey.
type watchLinks struct{ before, after *Watched }

var watchKinds = [3]RevocationKind{RevokeToken, RevokeSession, RevokeUser}

// key is what revocations of the i-th kind call s; its id is "" for none.
func (s *Watched) key(i int) watchKey {
	id := s.Identity
	return watchKey{watchKinds[i], id.Issuer, [3]string{id.Token, id.Session, id.ID}[i]}
}

const (
	// watchPause is how long the Watch sleeps at most. A clock that was set, or
	// a machine that slept, is noticed after it.
	watchPause = time.Second
	// aliveTimeout bounds one look for a session, and unsureFor how long a
	// stream goes on while nobody can tell whether its session is alive.
	aliveTimeout = 5 * time.Second
	unsureFor    = 30 * time.Second
)

// NewWatch ends what list refuses from now on. The function alive tells until
// when the session of an identity is good without asking again; the error is
// ErrSessionNotFound if it has ended. A nil alive knows no sessions. A list has
// one Watch.
func NewWatch(list *RevocationList, alive func(context.Context, *Identity) (time.Time, error), now func() time.Time) *Watch {
	w := &Watch{
		list: list, alive: alive, now: now,
		kick: make(chan struct{}, 1), asks: make(chan struct{}, 1),
		first: make(map[watchKey]*Watched),
	}
	list.watch.Store(w)
	return w
}

// Add begins to watch s. What was revoked since s was checked ends it at once.
func (w *Watch) Add(s *Watched) {
	w.mu.Lock()
	s.on, s.place = true, -1
	if s.OnRevoke {
		w.link(s)
	}
	if !s.Expires.IsZero() {
		w.arm(s, s.Expires)
	}
	w.mu.Unlock()
	// After it stands in the lists: a revocation that comes now finds it there,
	// one that came before is in the RevocationList.
	if s.OnRevoke {
		w.recheck(s)
	}
}

func (w *Watch) recheck(list ...*Watched) {
	for _, s := range list {
		if err := w.list.refusal(s.Identity); err != nil {
			w.end(s, EndRevoked, AsRefusal(err))
		}
	}
}

// Remove forgets s, which may be ended at this very moment.
func (w *Watch) Remove(s *Watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(s)
}

// remove reports whether s was still watched. The caller holds mu.
func (w *Watch) remove(s *Watched) bool {
	if !s.on {
		return false
	}
	s.on = false
	if s.OnRevoke {
		w.unlink(s)
	}
	if s.place >= 0 {
		heap.Remove(&w.due, s.place)
	}
	return true
}

func (w *Watch) link(s *Watched) {
	w.count.Add(1)
	for i := range s.linked {
		k := s.key(i)
		if k.id == "" {
			continue
		}
		next := w.first[k]
		if next != nil {
			next.linked[i].before = s
		}
		s.linked[i] = watchLinks{after: next}
		w.first[k] = s
	}
}

func (w *Watch) unlink(s *Watched) {
	w.count.Add(-1)
	for i := range s.linked {
		k, l := s.key(i), s.linked[i]
		if k.id == "" {
			continue
		}
		if l.after != nil {
			l.after.linked[i].before = l.before
		}
		switch {
		case l.before != nil:
			l.before.linked[i].after = l.after
		case l.after != nil:
			w.first[k] = l.after
		default:
			delete(w.first, k)
		}
		s.linked[i] = watchLinks{}
	}
}

// arm puts s into the heap. The caller holds mu.
func (w *Watch) arm(s *Watched, when time.Time) {
	s.when = when
	heap.Push(&w.due, s)
	if s.place == 0 {
		wake(w.kick)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// revoked ends what r names. The RevocationList calls it once r is in force.
func (w *Watch) revoked(r Revocation) {
	if w.count.Load() == 0 {
		return
	}
	var named []*Watched
	w.mu.Lock()
	if i := slices.Index(watchKinds[:], r.Kind); i >= 0 {
		for s := w.first[watchKey{r.Kind, r.Issuer, r.ID}]; s != nil; s = s.linked[i].after {
			named = append(named, s)
		}
	}
	w.mu.Unlock()
	w.recheck(named...) // a generation ends the tokens below it only
}

// Recheck asks the list about everything that is watched, after the list was
// replaced as a whole.
func (w *Watch) Recheck() {
	var all []*Watched
	w.mu.Lock()
	for k, s := range w.first {
		for ; k.kind == RevokeUser && s != nil; s = s.linked[2].after {
			all = append(all, s)
		}
	}
	w.mu.Unlock()
	w.recheck(all...)
}

// end ends s, unless it is over.
func (w *Watch) end(s *Watched, reason EndReason, why *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over && w.remove(s) {
		w.ending.Go(func() { s.End(reason, why) })
	}
}

// Run ends what expires, until ctx ends. It returns the error of ctx, after
// the last End.
func (w *Watch) Run(ctx context.Context) error {
	defer func() {
		w.mu.Lock()
		w.over = true
		w.mu.Unlock()
		w.ending.Wait()
	}()
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { w.ask(ctx) })
	timer := time.NewTimer(watchPause)
	defer timer.Stop()
	for {
		timer.Reset(w.expire())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.kick:
		case <-timer.C:
		}
	}
}

// expire ends what is due and tells how long there is nothing to do.
func (w *Watch) expire() time.Duration {
	now := w.now()
	var expired []*Watched
	pause := watchPause
	w.mu.Lock()
	for len(w.due) > 0 {
		s := w.due[0]
		if left := s.when.Sub(now); left > 0 {
			pause = min(pause, left)
			break
		}
		heap.Pop(&w.due)
		if s.InSession && s.Identity.Session != "" && w.alive != nil {
			w.asked = append(w.asked, s)
			wake(w.asks)
			continue
		}
		expired = append(expired, s)
	}
	w.mu.Unlock()
	for _, s := range expired {
		w.end(s, EndExpired, endExpired("token expired"))
	}
	return pause
}

func endExpired(cause string) *Refusal {
	return ErrInvalidToken.Because(errors.New(cause)).Describing("The token expired")
}

// watchHeap is ordered by when; container/heap does the rest.
type watchHeap []*Watched

func (h watchHeap) Len() int           { return len(h) }
func (h watchHeap) Less(i, j int) bool { return h[i].when.Before(h[j].when) }
func (h watchHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *watchHeap) Push(x any) {
	s := x.(*Watched)
	s.place = len(*h)
	*h = append(*h, s)
}

func (h *watchHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last], *h = nil, (*h)[:last]
	s.place = -1
	return s
}
