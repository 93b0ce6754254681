package authn

import (
	"context"
	"errors"
	"time"
)

// NoLog is the RevocationLog of a gateway that has nowhere to record one. It is
// empty and stays so.
type NoLog struct{}

// Append fails: what is not recorded must not be promised.
func (NoLog) Append(context.Context, Revocation) error {
	return errors.New("there is no store for revocations")
}

// Read waits for nothing, and finds it.
func (NoLog) Read(ctx context.Context, cursor string, wait time.Duration) ([]Revocation, string, error) {
	if wait <= 0 {
		return nil, cursor, ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, cursor, ctx.Err()
	case <-timer.C:
		return nil, cursor, nil
	}
}
