package authn

import (
	"context"
	"fmt"
	"time"
)

// Checks beyond the signature, one function each. Those that need a store are
// where the store is: [RevocationList.Check].

// Unexpired refuses identities whose token has run out: now is at or after
// Expires plus leeway. Streams end and revocations are kept by the same sum.
func Unexpired(leeway time.Duration, now func() time.Time) Check {
	return func(_ context.Context, id *Identity) error {
		t := now()
		if t.Before(id.Expires.Add(leeway)) {
			return nil
		}
		cause := fmt.Errorf("expired at %s, %s ago", id.Expires.UTC().Format(time.RFC3339), t.Sub(id.Expires).Round(time.Second))
		return ErrInvalidToken.Because(cause).Describing("The token expired")
	}
}
