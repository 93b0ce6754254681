package authn

import (
	"context"
	"errors"
	"testing"
)

// What one caller began goes on for the others when that one leaves.
func TestShareOutlivesItsFirst(t *testing.T) {
	var s shares[int]
	leaving, leave := context.WithCancel(t.Context())
	started, release, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := s.do(leaving, "key", func(ctx context.Context) (int, error) {
			close(started)
			<-release
			return 42, ctx.Err()
		})
		left <- err
	}()
	<-started
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("do of who left = %v, want context.Canceled", err)
	}
	s.mu.Lock()
	others := s.open["key"]
	s.mu.Unlock()
	if others == nil {
		t.Fatal("nobody can join any more")
	}
	close(release)
	if <-others.done; others.value != 42 || others.err != nil {
		t.Errorf("the others got %d, %v, want 42", others.value, others.err)
	}
	if len(s.open) != 0 {
		t.Errorf("%d shares are kept", len(s.open))
	}
}
