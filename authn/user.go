package authn

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"
)

// User is one account. The zero User is nobody.
type User struct {
	ID    string // random, never used again
	Email string // canonical, see CanonicalEmail
	Name  string
	Roles []string

	PasswordHash string // bcrypt; "" lets nobody in
	Disabled     bool
	// Generation is raised to refuse every access token issued before. The
	// first one is 1.
	Generation int64
	// TokensUntil is when the last of the user's access tokens has expired at
	// the latest. It is raised before such a token leaves, so that a revocation
	// knows how long it has to be kept.
	TokensUntil time.Time
	// SessionsUntil is the same of those that belong to a session. A token for
	// a service may last for years; who signs out now and then must not leave
	// revocations behind for as long.
	SessionsUntil    time.Time
	Created, Updated time.Time
}

// UserStore is what signing in needs of a user database. An unknown user is
// ErrUserNotFound; any other error means that the store could not answer.
// authntest.TestUserStore says the rest.
type UserStore interface {
	CreateUser(ctx context.Context, u User) error // ErrUserExists
	UserByEmail(ctx context.Context, email string) (User, error)
	UserByID(ctx context.Context, id string) (User, error)
	// UpdateUser applies change in one transaction; it may call change again.
	// An error of change leaves the user as it was and is returned as it is.
	UpdateUser(ctx context.Context, id string, change func(*User) error) error
	// HighestCost is the highest HashCost of all users, 0 if there is none.
	HighestCost(ctx context.Context) (int, error)
}

// ErrUserNotFound is a UserStore's answer for a user it does not have.
var ErrUserNotFound = errors.New("user not found")

// newID is 130 random bits in lower-case base32: safe in a URL, a header and a
// file name, and the same in any case.
func newID() string { return strings.ToLower(rand.Text()) }
