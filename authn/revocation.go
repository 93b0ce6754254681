package authn

import (
	"context"
	"errors"
	"fmt"
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
	// no more, and fewer than RevocationPage behind a cursor that was read to
	// the end before, that these were all. The first cursor is "". Entries
	// that have expired may be missing.
	//
	// The error is ErrLogGap if what follows cursor cannot be told.
	// ErrLogUnsettled comes with entries and cursor like none, and says that
	// having read them all is not yet to know them all.
	Read(ctx context.Context, cursor string, wait time.Duration) (entries []Revocation, next string, err error)
}

// RevocationPage is how many entries a Read may return without being the last.
const RevocationPage = 1000

// ErrLogGap is a RevocationLog's answer to a cursor that it knows nothing of:
// it lost its last entries, or all of them, or they came too fast. Reading
// begins again with the cursor "", and what is missing is put back.
var ErrLogGap = errors.New("revocation log has a gap")

// ErrLogUnsettled is a RevocationLog's answer while it may lack what others are
// about to put back.
var ErrLogUnsettled = errors.New("revocation log is new or was restarted: others may be putting back what it lacks")

// A LossyLog is a RevocationLog that can lose what it has recorded.
type LossyLog interface {
	RevocationLog
	// PutBack records all of list, about RevocationPage entries, of which some
	// may be there.
	PutBack(ctx context.Context, list []Revocation) error
}

func (r Revocation) check() error {
	switch {
	case r.Kind != RevokeToken && r.Kind != RevokeSession && r.Kind != RevokeUser:
		return fmt.Errorf("revocation of kind %q: want token, session or user", r.Kind)
	case r.ID == "":
		return fmt.Errorf("revocation of a %s without an ID", r.Kind)
	case len(r.ID) > maxRevocationID:
		return fmt.Errorf("revocation of a %s with an ID of %d bytes: want at most %d", r.Kind, len(r.ID), maxRevocationID)
	case r.Expires.IsZero():
		return fmt.Errorf("revocation of a %s that never expires", r.Kind)
	}
	return nil
}
