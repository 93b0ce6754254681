package authn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// IsRefreshToken reports whether s looks like a refresh token of a gateway. No
// access token does.
func IsRefreshToken(s string) bool {
	_, err := parseRefreshToken(s)
	return err == nil
}

// RevokeRefreshToken ends the session that a refresh token is or was one of,
// with all its access tokens (RFC 7009, section 2.1). It is no error if there
// is none. The error is ErrRevocation if that could not be recorded.
func (s *Service) RevokeRefreshToken(ctx context.Context, token string, c Client) error {
	t, err := parseRefreshToken(token)
	if err != nil {
		return nil
	}
	ctx, cancel := unhurried(ctx)
	defer cancel()
	session, err := s.sessionOf(ctx, t)
	if errors.Is(err, ErrInvalidToken) {
		return nil
	}
	if err == nil {
		err = s.revokeSession(ctx, session)
	} else {
		err = ErrRevocation.Because(err).After(time.Second)
	}
	s.audit(ctx, Event{Name: "revoke", UserID: session.UserID, SessionID: session.ID, Address: c.Address}, err)
	return err
}

func (s *Service) revokeSession(ctx context.Context, session Session) error {
	u, err := s.Users.UserByID(ctx, session.UserID)
	if err != nil && !errors.Is(err, ErrUserNotFound) {
		return ErrRevocation.Because(fmt.Errorf("look up user: %w", err)).After(time.Second)
	}
	return s.endSession(ctx, u, session.ID)
}

// LookUpRefresh returns the session and the user of a refresh token that
// Refresh would take now. It spends nothing, and a spent token is no alarm. The
// error is ErrInvalidToken if Refresh would not.
func (s *Service) LookUpRefresh(ctx context.Context, token string) (Session, User, error) {
	t, err := parseRefreshToken(token)
	if err != nil {
		return Session{}, User{}, ErrInvalidToken.Because(err)
	}
	session, err := s.sessionOf(ctx, t)
	if err != nil {
		return Session{}, User{}, err
	}
	hash := t.secretHash()
	inGrace := sameText(session.Refresh.Spent, hash) && s.Now().Sub(session.Refresh.SpentAt) < s.RefreshGrace
	if !sameText(session.Refresh.Current, hash) && !inGrace {
		return Session{}, User{}, ErrInvalidToken.Because(errors.New("refresh token is spent"))
	}
	if err := s.sessionRevoked(ctx, session); err != nil {
		return Session{}, User{}, err
	}
	u, err := s.Users.UserByID(ctx, session.UserID)
	switch {
	case errors.Is(err, ErrUserNotFound), err == nil && u.Disabled:
		return Session{}, User{}, ErrInvalidToken.Because(errors.New("user is disabled or deleted"))
	case err != nil:
		return Session{}, User{}, fmt.Errorf("look up user: %w", err)
	}
	return session, u, nil
}

// sessionRevoked looks for a session in the list, whatever generation its
// tokens are of.
func (s *Service) sessionRevoked(ctx context.Context, session Session) error {
	return s.Revocations.Check(ctx, &Identity{Session: session.ID, Generation: math.MaxInt64})
}

// endRevoked is sessionRevoked, and forgets a session that a gateway without
// accounts has signed out.
func (s *Service) endRevoked(ctx context.Context, session Session) error {
	err := s.sessionRevoked(ctx, session)
	if errors.Is(err, ErrInvalidToken) {
		return errors.Join(err, s.Sessions.EndSession(ctx, session.ID))
	}
	return err
}
