package authn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/config"
)

// Access tokens for users who were judged, by their password or by a session:
// how they come to be.

// active reads a user who may hold tokens.
func (s *Service) active(ctx context.Context, id string) (User, error) {
	u, err := s.Users.UserByID(ctx, id)
	switch {
	case errors.Is(err, ErrUserNotFound), err == nil && u.Disabled:
		return User{}, ErrInvalidToken.Because(errors.New("user is disabled or deleted"))
	case err != nil:
		return User{}, fmt.Errorf("look up user: %w", err)
	}
	return u, nil
}

// grant issues an access token of the session.
func (s *Service) grant(ctx context.Context, session string, read func() (User, error)) (Grant, error) {
	token, id, err := s.issue(ctx, read, nil, session, s.Tokens.TTL)
	if err != nil {
		return Grant{}, err
	}
	return Grant{AccessToken: token, ExpiresIn: s.Tokens.TTL, Identity: id}, nil
}

var errChanged = errors.New("user was changed meanwhile")

// issue makes an access token for the user whom read returns, with roles
// instead of the user's own if they are not nil. If the user is changed before
// the token is made, read has to judge again.
func (s *Service) issue(ctx context.Context, read func() (User, error), roles []string, session string, ttl time.Duration) (string, *Identity, error) {
	for {
		u, err := read()
		if err != nil {
			return "", nil, err
		}
		switch err := s.cover(ctx, &u, session, ttl); {
		case errors.Is(err, errChanged), errors.Is(err, ErrUserNotFound):
			continue
		case err != nil:
			return "", nil, fmt.Errorf("update user: %w", err)
		}
		if roles != nil {
			u.Roles = roles
		}
		own := roles == nil && s.Tokens.RolesOf != nil
		token, id, err := s.Tokens.issue(u, session, ttl, own)
		if err != nil {
			return "", nil, fmt.Errorf("issue token: %w", err)
		}
		if id.Generation < s.Revocations.generation("", u.ID) {
			continue // it would be dead already
		}
		return token, id, nil
	}
}

// cover sees to it that TokensUntil and SessionsUntil cover a token of u before
// it leaves, and that its generation is one that is accepted: a change that
// broke off, or a database that was restored, may have left it behind what is
// revoked.
//
// The step is generous, so that a user's row is written once in a TTL and not
// at every login.
func (s *Service) cover(ctx context.Context, u *User, session string, ttl time.Duration) error {
	until, generation := s.Now().Add(ttl), s.Revocations.generation("", u.ID)
	if u.Generation >= generation && !u.TokensUntil.Before(until) && (session == "" || !u.SessionsUntil.Before(until)) {
		return nil
	}
	judged := *u
	return s.Users.UpdateUser(ctx, u.ID, func(stored *User) error {
		if stored.Generation != judged.Generation || stored.PasswordHash != judged.PasswordHash || stored.Disabled {
			return errChanged
		}
		stored.TokensUntil = later(stored.TokensUntil, until.Add(s.Tokens.TTL))
		if session != "" {
			stored.SessionsUntil = later(stored.SessionsUntil, until.Add(s.Tokens.TTL))
		}
		stored.Generation = max(stored.Generation, generation)
		*u = *stored
		return nil
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// inFlight covers a token whose making has begun before its revocation.
const inFlight = time.Minute

// lastExpiry is when no access token that was issued until now is accepted any
// more, whatever leeway a later configuration has. covered is the user's
// TokensUntil or SessionsUntil.
func (s *Service) lastExpiry(covered time.Time) time.Time {
	return later(covered, s.Now().Add(s.Tokens.TTL)).Add(config.MaxLeeway + inFlight)
}
