package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/config"
)

// Session is one login and all the tokens that follow from it.
type Session struct {
	ID, UserID         string
	Created, LastUsed  time.Time
	Expires            time.Time // of the current refresh token
	Address, UserAgent string    // of the last use

	Refresh RefreshState
}

// RefreshState is what a store keeps of a session's refresh tokens: text, of
// which no usable token can be made.
type RefreshState struct {
	Family  string    // hash of what all tokens of the session share
	Current string    // hash of the token that is good now
	Spent   string    // hash of the one before it; "" after a login
	SpentAt time.Time // when Current took its place
	Sealed  string    // Current's secret, readable with the spent token only
}

// SessionStore keeps sessions. An unknown one is ErrSessionNotFound; any other
// error means that the store could not answer. It may forget sessions that
// have expired. authntest.TestSessionStore says the rest.
type SessionStore interface {
	CreateSession(ctx context.Context, s Session) error
	SessionByID(ctx context.Context, id string) (Session, error)
	// SessionsOf lists a user's sessions, the latest used first.
	SessionsOf(ctx context.Context, userID string) ([]Session, error)
	// RotateSession replaces LastUsed, Expires, Address, UserAgent and Refresh
	// of session next.ID by next's, in one atomic step and only if the stored
	// Refresh.Current still is current. It reports whether it was.
	RotateSession(ctx context.Context, current string, next Session) (bool, error)
	// EndSession forgets a session. It is no error if there is none.
	EndSession(ctx context.Context, id string) error
}

// ErrSessionNotFound is a SessionStore's answer for a session it does not have.
var ErrSessionNotFound = errors.New("session not found")

// Refresh exchanges a refresh token for a new one and a new access token, with
// the user's roles and generation as they are now. A second use of the token
// spent last yields the same successor while RefreshGrace lasts (two tabs, a
// request that was repeated); any other use of a spent token ends the session,
// since two parties hold its tokens and one of them is a thief.
func (s *Service) Refresh(ctx context.Context, refreshToken string, c Client) (Grant, error) {
	e := Event{Name: "refresh", Address: c.Address}
	g, err := s.refresh(ctx, refreshToken, c, &e)
	s.audit(ctx, e, err)
	return g, err
}

func (s *Service) refresh(ctx context.Context, text string, c Client, e *Event) (Grant, error) {
	spent, err := parseRefreshToken(text)
	if err != nil {
		return Grant{}, ErrInvalidToken.Because(err)
	}
	session, err := s.sessionOf(ctx, spent)
	if err != nil {
		return Grant{}, err
	}
	e.SessionID, e.UserID = session.ID, session.UserID
	if err := s.endRevoked(ctx, session); errors.Is(err, ErrInvalidToken) {
		return Grant{}, err
	}
	next, expires, _, err := s.successor(ctx, spent, session, c)
	if errors.Is(err, errReused) {
		err = s.reused(ctx, session, c)
	}
	if err != nil {
		return Grant{}, err
	}
	return s.granted(ctx, session, next, expires)
}

// granted is what a refresh gives: the session's next token, and an access token.
// The user is read after the rotation: a sign-out that comes before it is
// seen here, and one that comes after it revokes the session.
func (s *Service) granted(ctx context.Context, session Session, next refreshToken, expires time.Time) (Grant, error) {
	g, err := s.grant(ctx, session.ID, func() (User, error) { return s.active(ctx, session.UserID) })
	if err != nil {
		return Grant{}, err
	}
	if err := s.Revocations.Check(ctx, g.Identity); errors.Is(err, ErrInvalidToken) {
		return Grant{}, err
	}
	g.RefreshToken, g.RefreshExpiresIn = next.String(), expires.Sub(s.Now())
	return g, nil
}

// sessionOf is the session that t is or was a token of.
func (s *Service) sessionOf(ctx context.Context, t refreshToken) (Session, error) {
	session, err := s.Sessions.SessionByID(ctx, t.session)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return Session{}, ErrInvalidToken.Because(errors.New("session has ended"))
	case err != nil:
		return Session{}, fmt.Errorf("look up session: %w", err)
	case !sameText(session.Refresh.Family, t.familyHash()):
		return Session{}, ErrInvalidToken.Because(errors.New("refresh token was never issued"))
	case !s.Now().Before(session.Expires):
		return Session{}, ErrInvalidToken.Because(errors.New("session has expired"))
	}
	return session, nil
}

var errReused = errors.New("spent refresh token was used again")

// successor spends a token, or finds the successor that it got a moment ago; won
// tells which.
func (s *Service) successor(ctx context.Context, spent refreshToken, session Session, c Client) (next refreshToken, expires time.Time, won bool, err error) {
	hash := spent.secretHash()
	if sameText(session.Refresh.Current, hash) {
		now, next := s.Now(), spent.next()
		rotated := session
		rotated.LastUsed, rotated.Expires = now, now.Add(s.RefreshTTL)
		rotated.Address, rotated.UserAgent = addressText(c.Address), printable(c.UserAgent, maxUserAgent)
		rotated.Refresh.Current, rotated.Refresh.Spent = next.secretHash(), hash
		rotated.Refresh.SpentAt, rotated.Refresh.Sealed = now, spent.seal(next)
		won, err := s.Sessions.RotateSession(ctx, hash, rotated)
		if err != nil {
			return refreshToken{}, time.Time{}, false, fmt.Errorf("rotate session: %w", err)
		}
		if won {
			return next, rotated.Expires, true, nil
		}
		if session, err = s.sessionOf(ctx, spent); err != nil {
			return refreshToken{}, time.Time{}, false, err
		}
	}
	if !s.inGrace(session, hash) {
		return refreshToken{}, time.Time{}, false, errReused
	}
	next, err = spent.open(session.Refresh.Sealed)
	return next, session.Expires, false, err
}

// inGrace tells whether the token of this hash was spent last, and just now.
func (s *Service) inGrace(session Session, hash string) bool {
	return sameText(session.Refresh.Spent, hash) && s.Now().Sub(session.Refresh.SpentAt) < s.RefreshGrace
}

// Holder is whom a refresh token signs in, without spending it: for those who
// want to sign out, and whose access token has run out. A token that Refresh
// would take for stolen is one here, too.
func (s *Service) Holder(ctx context.Context, refreshToken string, c Client) (*Identity, error) {
	t, err := parseRefreshToken(refreshToken)
	if err != nil {
		return nil, ErrInvalidToken.Because(err)
	}
	session, err := s.held(ctx, t, c)
	if err != nil {
		return nil, err
	}
	u, err := s.active(ctx, session.UserID)
	if err != nil {
		return nil, err
	}
	return &Identity{ID: u.ID, Email: u.Email, Name: u.Name, Roles: u.Roles, Session: session.ID, Generation: u.Generation}, nil
}

// reused ends a session whose spent token turned up again.
func (s *Service) reused(ctx context.Context, session Session, c Client) error {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	u, err := s.Users.UserByID(ctx, session.UserID)
	if err == nil || errors.Is(err, ErrUserNotFound) {
		err = s.endSession(ctx, u, session.ID)
	}
	s.audit(ctx, Event{Name: "refresh_reuse", UserID: session.UserID, SessionID: session.ID, Address: c.Address}, err)
	if err != nil {
		return err
	}
	return ErrInvalidToken.Because(errReused)
}

// endSession has a session's access tokens refused and forgets it. The
// revocation goes first: a session that is still there can be ended again, and
// a token that was used twice tells so again, until the revocation is recorded.
func (s *Service) endSession(ctx context.Context, u User, id string) error {
	err := s.Revocations.Revoke(ctx, Revocation{Kind: RevokeSession, ID: id, Expires: s.lastExpiry(u.SessionsUntil)})
	if err != nil {
		return err
	}
	if err := s.Sessions.EndSession(ctx, id); err != nil {
		return ErrRevocation.Because(fmt.Errorf("end session: %w", err)).After(time.Second)
	}
	return nil
}

// endSessions ends all of a user's sessions but one.
func (s *Service) endSessions(ctx context.Context, u User, but string) error {
	sessions, err := s.Sessions.SessionsOf(ctx, u.ID)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for _, session := range sessions {
		if session.ID == but {
			continue
		}
		if err := s.endSession(ctx, u, session.ID); err != nil {
			return err
		}
	}
	return nil
}

// SessionsOf lists a user's sessions that are alive, the latest used first.
func (s *Service) SessionsOf(ctx context.Context, userID string) ([]Session, error) {
	sessions, err := s.Sessions.SessionsOf(ctx, userID)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	now := s.Now()
	return slices.DeleteFunc(sessions, func(session Session) bool { return !now.Before(session.Expires) }), nil
}

// Alive tells until when the session of id is good without asking again: until
// its access token of now has expired, an access token's life from now where
// the browser is slow to refresh, and never beyond the session's own end. The
// error is ErrSessionNotFound if the session is over.
func (s *Service) Alive(ctx context.Context, id *Identity) (time.Time, error) {
	if id.Issuer != "" {
		return time.Time{}, ErrSessionNotFound // another issuer's sessions are unknown here
	}
	session, err := s.Sessions.SessionByID(ctx, id.Session)
	if err != nil {
		return time.Time{}, fmt.Errorf("look up session: %w", err)
	}
	now := s.Now()
	if session.UserID != id.ID || !now.Before(session.Expires) {
		return time.Time{}, ErrSessionNotFound
	}
	life := s.Tokens.TTL + s.Tokens.Leeway
	until := session.LastUsed.Add(life)
	if !until.After(now) {
		until = now.Add(life)
	}
	if until.After(session.Expires) {
		until = session.Expires
	}
	return until, nil
}

// EndSession signs out one of the user's sessions. The error is
// ErrSessionNotFound if the user has none of that ID.
func (s *Service) EndSession(ctx context.Context, userID, sessionID string) error {
	err := s.endSessionOf(ctx, userID, sessionID)
	s.audit(ctx, Event{Name: "session_end", UserID: userID, SessionID: sessionID}, err)
	return err
}

func (s *Service) endSessionOf(ctx context.Context, userID, sessionID string) error {
	session, err := s.Sessions.SessionByID(ctx, sessionID)
	if err != nil {
		return fmt.Errorf("look up session: %w", err)
	}
	if session.UserID != userID {
		return ErrSessionNotFound
	}
	u, err := s.Users.UserByID(ctx, userID)
	if err != nil {
		return fmt.Errorf("look up user: %w", err)
	}
	return s.endSession(ctx, u, sessionID)
}

// Logout ends the identity's token and session, or with everywhere all of the
// user's, and returns once that is recorded for good. The error is
// ErrRevocation if it could not be. It goes on although the client leaves.
//
// Of a trusted issuer's user the token is all there is to end.
func (s *Service) Logout(ctx context.Context, id *Identity, everywhere bool) error {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	err := s.logout(ctx, id, everywhere)
	s.audit(ctx, Event{Name: "logout", UserID: id.ID, SessionID: id.Session}, err)
	return err
}

func (s *Service) logout(ctx context.Context, id *Identity, everywhere bool) error {
	if id.Issuer != "" {
		return s.revokeToken(ctx, id)
	}
	if s.Users == nil {
		return s.logoutElsewhere(ctx, id, everywhere)
	}
	u, err := s.Users.UserByID(ctx, id.ID)
	deleted := errors.Is(err, ErrUserNotFound)
	if err != nil && !deleted {
		return ErrRevocation.Because(fmt.Errorf("look up user: %w", err)).After(time.Second)
	}
	if everywhere && !deleted {
		if err := s.raise(ctx, u, true, func(*User) {}); err != nil {
			return ErrRevocation.Because(err).After(time.Second)
		}
	}
	if id.Session != "" {
		if err := s.endSession(ctx, u, id.Session); err != nil {
			return err
		}
	}
	if id.Token == "" {
		return nil
	}
	return s.revokeToken(ctx, id)
}

// logoutElsewhere ends the session of a user whose account another gateway
// keeps, one that issues under the same name and reads the same revocations. It
// is kept for as long as the session could go on without being used; a refresh
// within that time ends the session for good.
func (s *Service) logoutElsewhere(ctx context.Context, id *Identity, everywhere bool) error {
	if everywhere {
		return ErrForbidden.Saying("This account is kept elsewhere").Because(errors.New("there are no accounts here"))
	}
	if id.Session != "" {
		until := s.Now().Add(max(s.RefreshTTL, s.Tokens.TTL)).Add(s.Tokens.Leeway)
		if err := s.Revocations.Revoke(ctx, Revocation{Kind: RevokeSession, ID: id.Session, Expires: until}); err != nil {
			return err
		}
	}
	return s.revokeToken(ctx, id)
}

// RevokeToken has one token refused, whoever issued it. Its session goes on.
func (s *Service) RevokeToken(ctx context.Context, id *Identity) error {
	err := s.revokeToken(ctx, id)
	s.audit(ctx, Event{Name: "revoke", UserID: id.ID, SessionID: id.Session}, err)
	return err
}

func (s *Service) revokeToken(ctx context.Context, id *Identity) error {
	return s.Revocations.Revoke(ctx, Revocation{
		Kind: RevokeToken, Issuer: id.Issuer, ID: id.Token, Expires: id.Expires.Add(config.MaxLeeway)})
}
