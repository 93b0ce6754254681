package authn

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// shares let calls that ask for the same thing at the same time share one
// answer. The zero value is ready.
type shares[T any] struct {
	mu   sync.Mutex
	open map[string]*share[T]
}

type share[T any] struct {
	done  chan struct{} // closed when the rest is set
	value T
	err   error
}

// shareTime bounds a share: whoever waits for it has a request to answer.
const shareTime = 5 * time.Second

// do returns what work returns, which may be another caller's work for the same
// key. The work goes on although those who asked for it leave, since others may
// have come to wait for it.
func (s *shares[T]) do(ctx context.Context, key string, work func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	s.mu.Lock()
	f := s.open[key]
	if f == nil {
		f = &share[T]{done: make(chan struct{})}
		if s.open == nil {
			s.open = map[string]*share[T]{}
		}
		s.open[key] = f
		go s.run(context.WithoutCancel(ctx), key, f, work)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (s *shares[T]) run(ctx context.Context, key string, f *share[T], work func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(ctx, shareTime)
	defer cancel()
	defer func() {
		// Nobody above would catch it: it must not end the gateway.
		if p := recover(); p != nil {
			f.err = fmt.Errorf("panic: %v", p)
		}
		s.mu.Lock()
		delete(s.open, key)
		s.mu.Unlock()
		close(f.done)
	}()
	f.value, f.err = work(ctx)
}
