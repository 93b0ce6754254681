package authn

import (
	"context"
	"errors"
	"fmt"
)

// A browser whose access token has run out goes on without noticing: Resume
// lets its request in, Renew gives it new tokens with the answer.
//
// # Why
//
// A refresh token that is spent when the request comes is lost with an answer
// that comes late or never: the app takes a minute, the person clicks on
// something else. The browser would then show the spent one again, which is an
// alarm. So it is spent when the answer is about to go out, and only if the
// browser still has the session's latest by then: an answer that was overtaken
// must not put an older token in the place of a newer one.

// Resume is an access token for the session of a refresh token, which it does
// not spend. Requests that come together share one. A token that Refresh would
// take for stolen is one here, too. The error is ErrInvalidToken if the session
// has ended, and no Refusal if that could not be found out.
func (s *Service) Resume(ctx context.Context, refreshToken string, c Client) (string, error) {
	t, err := parseRefreshToken(refreshToken)
	if err != nil {
		return "", ErrInvalidToken.Because(err)
	}
	return s.resumes.do(ctx, refreshToken, func(ctx context.Context) (string, error) {
		session, err := s.held(ctx, t, c)
		if err != nil {
			return "", err
		}
		if err := s.endRevoked(ctx, session); err != nil {
			return "", err
		}
		g, err := s.grant(ctx, session.ID, func() (User, error) { return s.active(ctx, session.UserID) })
		return g.AccessToken, err
	})
}

// ErrSpent is the answer of Renew to a token that was the session's when the
// request came, and is no longer: the browser has got a newer one meanwhile.
var ErrSpent = errors.New("refresh token was spent by another request")

// Renew is Refresh at the end of a request that Resume has let in. Those that
// come together share one rotation, and none follows another within
// RefreshGrace: of two generations at once the older one would be an alarm.
func (s *Service) Renew(ctx context.Context, refreshToken string, c Client) (Grant, error) {
	t, err := parseRefreshToken(refreshToken)
	if err != nil {
		return Grant{}, ErrInvalidToken.Because(err)
	}
	return s.renewals.do(ctx, refreshToken, func(ctx context.Context) (Grant, error) {
		e := Event{Name: "refresh", Address: c.Address}
		g, rotated, err := s.renew(ctx, t, c, &e)
		if rotated {
			s.audit(ctx, e, err)
		}
		return g, err
	})
}

func (s *Service) renew(ctx context.Context, t refreshToken, c Client, e *Event) (g Grant, rotated bool, err error) {
	session, err := s.sessionOf(ctx, t)
	if err != nil {
		return Grant{}, false, err
	}
	e.SessionID, e.UserID = session.ID, session.UserID
	if err := s.endRevoked(ctx, session); errors.Is(err, ErrInvalidToken) {
		return Grant{}, false, err
	}
	next, expires := t, session.Expires
	young := session.Refresh.Spent != "" && s.Now().Sub(session.Refresh.SpentAt) < s.RefreshGrace
	if !young || !sameText(session.Refresh.Current, t.secretHash()) {
		next, expires, rotated, err = s.successor(ctx, t, session, c)
		if errors.Is(err, errReused) {
			return Grant{}, false, ErrSpent
		}
		if err != nil {
			return Grant{}, false, err
		}
	}
	g, err = s.granted(ctx, session, next, expires)
	return g, rotated, err
}

// held is the session that t is the latest token of, or was a moment ago.
func (s *Service) held(ctx context.Context, t refreshToken, c Client) (Session, error) {
	session, err := s.sessionOf(ctx, t)
	if err != nil {
		return Session{}, err
	}
	if hash := t.secretHash(); !sameText(session.Refresh.Current, hash) && !s.inGrace(session, hash) {
		return Session{}, s.reused(ctx, session, c)
	}
	return session, nil
}

// RolesOf are a user's roles at a generation, for tokens that leave them out.
// They never change: other roles are another generation.
func (s *Service) RolesOf(ctx context.Context, userID string, generation int64) ([]string, error) {
	u, err := s.Users.UserByID(ctx, userID)
	switch {
	case errors.Is(err, ErrUserNotFound):
		return nil, ErrInvalidToken.Because(errors.New("user is deleted"))
	case err != nil:
		return nil, fmt.Errorf("look up roles: %w", err)
	case u.Generation != generation:
		return nil, ErrInvalidToken.Because(fmt.Errorf("roles of generation %d were left out, the user is at %d", generation, u.Generation))
	}
	return u.Roles, nil
}
