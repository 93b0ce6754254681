package authn

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const strictWait = 250 * time.Millisecond // how long a request waits for the log

// flights let requests that come together share one reading of the log. Each
// request takes part in one that begins after it: a reading that is under way
// may have missed what was revoked just before the request.
type flights struct {
	run func(ctx context.Context) error

	mu            sync.Mutex
	current, next *flight
}

type flight struct {
	done chan struct{}
	err  error // once done is closed
}

var errSlowLog = fmt.Errorf("no answer within %s", strictWait)

// join waits for a flight that began after the call, for strictWait at most.
func (f *flights) join(ctx context.Context) error {
	f.mu.Lock()
	mine := f.next
	if mine == nil {
		mine = &flight{done: make(chan struct{})}
		if f.current == nil {
			f.current = mine
			go f.fly()
		} else {
			f.next = mine
		}
	}
	f.mu.Unlock()
	patience := time.NewTimer(strictWait)
	defer patience.Stop()
	select {
	case <-mine.done:
		return mine.err
	case <-patience.C:
		return errSlowLog
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fly runs one flight after the other as long as somebody has joined the next.
func (f *flights) fly() {
	for {
		f.mu.Lock()
		mine := f.current
		f.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), strictWait)
		mine.err = f.run(ctx)
		cancel()
		close(mine.done)
		// Whoever is about to ask may still take part in the next: under load that
		// makes fewer of them, for more requests each.
		runtime.Gosched()
		f.mu.Lock()
		f.current, f.next = f.next, nil
		last := f.current == nil
		f.mu.Unlock()
		if last {
			return
		}
	}
}
