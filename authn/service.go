package authn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Service makes accounts and signs people in and out. Its methods return
// Refusals where the client is to blame; any other error means that a store
// could not answer.
type Service struct {
	Users       UserStore
	Sessions    SessionStore
	Revocations *RevocationList
	Tokens      *Tokens
	Hasher      *Hasher
	Policy      PasswordPolicy
	Throttle    *Throttle // nil: no limit

	RegistrationOpen bool
	DefaultRoles     []string      // of accounts that Register makes
	RefreshTTL       time.Duration // of a session that is not used
	RefreshGrace     time.Duration // in which a spent refresh token still yields its successor

	Now   func() time.Time
	Audit func(ctx context.Context, e Event) // may be nil

	resumes  shares[string] // by refresh token
	renewals shares[Grant]
}

// Client is who asks, as far as the connection tells.
type Client struct {
	Address   netip.Addr
	UserAgent string
	Known     string // what Remember returned for this browser
}

// Grant is what a login or a refresh gives.
type Grant struct {
	AccessToken      string
	ExpiresIn        time.Duration
	RefreshToken     string
	RefreshExpiresIn time.Duration
	Identity         *Identity
}

// Event is one line of the audit log.
type Event struct {
	Name      string // "register", "login", "refresh", "refresh_reuse", "logout", "password", "revoke", …
	Outcome   string // "ok" or the code of the refusal
	UserID    string
	SessionID string
	Address   netip.Addr
	Cause     string
}

func (s *Service) audit(ctx context.Context, e Event, err error) {
	if s.Audit == nil {
		return
	}
	e.Outcome = "ok"
	if err != nil {
		r := AsRefusal(err)
		e.Outcome, e.Cause = r.Code, r.Cause()
	}
	s.Audit(ctx, e)
}

// Register makes an account for whoever asks. It tells if the address is taken
// (the interface promises so), and is therefore counted like a failed login.
func (s *Service) Register(ctx context.Context, email, password, name string, c Client) (User, error) {
	u, err := s.register(ctx, email, password, name, c)
	s.audit(ctx, Event{Name: "register", UserID: u.ID, Address: c.Address}, err)
	return u, err
}

func (s *Service) register(ctx context.Context, email, password, name string, c Client) (User, error) {
	if !s.RegistrationOpen {
		return User{}, ErrRegistrationClosed
	}
	if err := s.Hasher.Busy(ctx); err != nil {
		return User{}, err
	}
	roles, err := canonicalRoles(s.DefaultRoles)
	if err != nil {
		return User{}, fmt.Errorf("default roles: %w", err) // not the client's fault
	}
	u, err := s.newUser(email, password, name, roles)
	if err != nil {
		return User{}, err
	}
	attempt, err := s.Throttle.register(ctx, c)
	if err != nil {
		return User{}, err
	}
	err = s.createUser(ctx, &u, password)
	if err != nil && !errors.Is(err, ErrUserExists) {
		attempt.dropped()
		return User{}, err
	}
	attempt.failed()
	if err != nil {
		return User{}, err
	}
	return u, nil
}

// newUser checks everything that can be checked before the store is asked.
func (s *Service) newUser(email, password, name string, roles []string) (User, error) {
	email, err := CanonicalEmail(email)
	if err != nil {
		return User{}, invalid("email", err)
	}
	if name, err = canonicalName(name, email); err != nil {
		return User{}, invalid("name", err)
	}
	if err := s.Policy.Check(password, email, name); err != nil {
		return User{}, err
	}
	now := s.Now()
	return User{ID: newID(), Email: email, Name: name, Roles: roles, Generation: 1, Created: now, Updated: now}, nil
}

func invalid(field string, err error) error {
	r := ErrInvalidRequest.Saying(field + " " + err.Error()).Because(fmt.Errorf("%s %w", field, err))
	if f := faultOf(err); f != nil {
		r.Fault = f.At(field)
	}
	return r
}

// createUser hashes and stores. The store decides whether the address is taken;
// asking first only saves the hash.
func (s *Service) createUser(ctx context.Context, u *User, password string) error {
	switch _, err := s.Users.UserByEmail(ctx, u.Email); {
	case err == nil:
		return ErrUserExists
	case !errors.Is(err, ErrUserNotFound):
		return fmt.Errorf("look up user: %w", err)
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	u.PasswordHash = hash
	if err := s.Users.CreateUser(ctx, *u); err != nil {
		return fmt.Errorf("create user: %w", err)
	}
	return nil
}

// Login begins a session. Whether the account is unknown or disabled or the
// password wrong, the answer is ErrInvalidCredentials and takes the same time.
func (s *Service) Login(ctx context.Context, email, password string, c Client) (Grant, error) {
	u, err := s.authenticate(ctx, email, password, c, false)
	if err != nil {
		s.audit(ctx, Event{Name: "login", UserID: u.ID, Address: c.Address}, err)
		return Grant{}, err
	}
	u = s.renewHash(ctx, u, password)
	g, err := s.begin(ctx, u, password, c)
	e := Event{Name: "login", UserID: u.ID, Address: c.Address}
	if err == nil {
		e.SessionID = g.Identity.Session
	}
	s.audit(ctx, e, err)
	return g, err
}

// authenticate returns the user whose password this is. Beside an error, the
// user is the one who was meant, for the audit log only. known says that the
// client has proven to be the user's; its cookie may do so as well.
func (s *Service) authenticate(ctx context.Context, email, password string, c Client, known bool) (User, error) {
	if err := s.Hasher.Busy(ctx); err != nil {
		return User{}, err
	}
	account, bad := CanonicalEmail(email)
	u, err := User{}, ErrUserNotFound
	if bad != nil {
		account = "\x00" + email // nobody's, but counted
	} else {
		u, err = s.Users.UserByEmail(ctx, account)
	}
	if errors.Is(err, ErrUserNotFound) {
		u = User{}
	} else if err != nil {
		return User{}, fmt.Errorf("look up user: %w", err)
	}
	attempt, err := s.Throttle.login(ctx, account, c, known || c.knows(u))
	if err != nil {
		return u, err
	}
	good, err := s.verify(ctx, u.PasswordHash, password)
	switch {
	case err != nil:
		attempt.dropped()
		return u, err
	case u.ID == "":
		err = errors.New("unknown user")
	case !good:
		err = errors.New("wrong password")
	case u.Disabled:
		err = errors.New("user is disabled")
	default:
		attempt.passed()
		return u, nil
	}
	attempt.failed()
	return u, ErrInvalidCredentials.Because(err)
}

// verify compares a password with the hash of a user, "" for an unknown one, in
// the same time for all of them. One account with a costly hash slows down every
// login, until its owner has signed in and renewHash has replaced it; a quick
// answer for all others would tell that this one exists.
func (s *Service) verify(ctx context.Context, hash, password string) (bool, error) {
	highest, err := s.Users.HighestCost(ctx)
	if err != nil {
		return false, fmt.Errorf("look up the highest bcrypt cost: %w", err)
	}
	good, err := s.Hasher.Verify(ctx, hash, password, highest)
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	return good, nil
}

// renewHash brings an old hash to the configured cost, now that the password
// is at hand. Nothing depends on it, so it may fail.
func (s *Service) renewHash(ctx context.Context, u User, password string) User {
	if !s.Hasher.Outdated(u.PasswordHash) {
		return u
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return u
	}
	old := u.PasswordHash
	err = s.Users.UpdateUser(ctx, u.ID, func(stored *User) error {
		if stored.PasswordHash != old {
			return errors.New("password was changed meanwhile")
		}
		stored.PasswordHash, stored.Updated = hash, s.Now()
		return nil
	})
	if err == nil {
		u.PasswordHash = hash
	}
	return u
}

// begin makes a new session, never one that the client named.
//
// The account is read again once the session is stored: a password that was
// changed while the old one was being verified has ended only the sessions
// that were there, and this one must not outlive it.
func (s *Service) begin(ctx context.Context, u User, password string, c Client) (Grant, error) {
	refresh := newRefreshToken(newID())
	now := s.Now()
	session := Session{
		ID: refresh.session, UserID: u.ID, Created: now, LastUsed: now, Expires: now.Add(s.RefreshTTL),
		Address: addressText(c.Address), UserAgent: printable(c.UserAgent, maxUserAgent),
		Refresh: RefreshState{Family: refresh.familyHash(), Current: refresh.secretHash()},
	}
	if err := s.Sessions.CreateSession(ctx, session); err != nil {
		return Grant{}, fmt.Errorf("create session: %w", err)
	}
	g, err := s.grant(ctx, session.ID, s.stillGood(ctx, u, password))
	if err == nil {
		err = s.dropOldest(ctx, u)
	}
	if err != nil {
		// Whoever the session was for does not get its token, so that it would
		// only lie about until it expires.
		return Grant{}, errors.Join(err, s.Sessions.EndSession(context.WithoutCancel(ctx), session.ID))
	}
	g.RefreshToken, g.RefreshExpiresIn = refresh.String(), s.RefreshTTL
	return g, nil
}

// maxSessions of one user may be open. A script that logs in every minute and
// never out must not make signing out everywhere an endless task.
const maxSessions = 100

// dropOldest forgets the sessions beyond maxSessions that were not used for
// the longest time.
func (s *Service) dropOldest(ctx context.Context, u User) error {
	sessions, err := s.Sessions.SessionsOf(ctx, u.ID)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for _, old := range sessions[min(maxSessions, len(sessions)):] {
		if err := s.Sessions.EndSession(ctx, old.ID); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
	}
	return nil
}

// stillGood reads the user whose password was verified again and again: it is
// the user for as long as the account may sign in with that password.
func (s *Service) stillGood(ctx context.Context, verified User, password string) func() (User, error) {
	return func() (User, error) {
		u, err := s.Users.UserByID(ctx, verified.ID)
		switch {
		case errors.Is(err, ErrUserNotFound):
			return User{}, ErrInvalidCredentials.Because(errors.New("user was deleted meanwhile"))
		case err != nil:
			return User{}, fmt.Errorf("look up user: %w", err)
		case u.Disabled:
			return User{}, ErrInvalidCredentials.Because(errors.New("user was disabled meanwhile"))
		case u.PasswordHash == verified.PasswordHash:
			return u, nil
		}
		good, err := s.verify(ctx, u.PasswordHash, password)
		if err != nil {
			return User{}, err
		}
		if !good {
			return User{}, ErrInvalidCredentials.Because(errors.New("password was changed meanwhile"))
		}
		verified = u
		return u, nil
	}
}

const maxUserAgent = 200 // bytes

// printable is s without what could upset a terminal or a page, cut to limit
// bytes.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if invisible(r) || r == '\uFFFD' {
			return -1
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
