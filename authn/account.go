package authn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"gatehouse/config"
)

const maxName = 100 // characters

// canonicalName is the name to show, the address if there is none. Nobody may
// take another's address for a name: apps are told the name, too, and some
// take it for the user.
func canonicalName(name, email string) (string, error) {
	switch {
	case !utf8.ValidString(name):
		return "", fault("utf8")
	case len(name) > 4*maxName: // far too long, whatever comes of it
		return "", fault("name_long", "max", maxName)
	}
	name = norm.NFC.String(strings.TrimFunc(name, unicode.IsSpace))
	switch {
	case name == "":
		return email, nil
	case utf8.RuneCountInString(name) > maxName:
		return "", fault("name_long", "max", maxName)
	case strings.ContainsFunc(name, invisible):
		return "", fault("name_invisible")
	}
	if folded := norm.NFKC.String(name); strings.Contains(folded, "@") {
		if other, err := CanonicalEmail(folded); err != nil || other != email {
			return "", fault("name_at")
		}
		return email, nil
	}
	return name, nil
}

// invisible are characters that could upset a terminal, a header or a page, or
// make it look like another: controls, line separators, bidirectional controls
// and other format characters. The two joiners stay, since Persian and Hindi
// names need them.
func invisible(r rune) bool {
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// canonicalRoles is the roles without repetitions.
func canonicalRoles(roles []string) ([]string, error) {
	kept, seen := []string{}, map[string]bool{}
	for _, r := range roles {
		if err := config.CheckRole(r); err != nil {
			return nil, fmt.Errorf("%.64q: %w", r, err)
		}
		if !seen[r] {
			kept, seen[r] = append(kept, r), true
		}
	}
	return kept, config.CheckRoleCount(kept)
}

// AddUser makes an account as an operator, whether registration is open or
// not. The policy holds.
func (s *Service) AddUser(ctx context.Context, email, password, name string, roles []string) (User, error) {
	u, err := s.addUser(ctx, email, password, name, roles)
	s.audit(ctx, Event{Name: "user_add", UserID: u.ID}, err)
	if err != nil {
		return User{}, err
	}
	return u, nil
}

func (s *Service) addUser(ctx context.Context, email, password, name string, roles []string) (User, error) {
	roles, err := canonicalRoles(roles)
	if err != nil {
		return User{}, invalid("roles", err)
	}
	u, err := s.newUser(email, password, name, roles)
	if err != nil {
		return u, err
	}
	return u, s.createUser(ctx, &u, password)
}

// ChangePassword replaces the caller's password and signs out all other
// sessions; the caller's goes on. Wrong guesses at the current one count as
// failed logins.
func (s *Service) ChangePassword(ctx context.Context, id *Identity, current, next string, c Client) error {
	err := s.changePassword(ctx, id, current, next, c)
	s.audit(ctx, Event{Name: "password", UserID: id.ID, SessionID: id.Session, Address: c.Address}, err)
	return err
}

func (s *Service) changePassword(ctx context.Context, id *Identity, current, next string, c Client) error {
	if id.Issuer != "" {
		return ErrForbidden.Saying("This account's password is not kept here").Because(
			fmt.Errorf("account of issuer %q", id.Issuer))
	}
	u, err := s.Users.UserByID(ctx, id.ID)
	if errors.Is(err, ErrUserNotFound) || err == nil && u.Disabled {
		return ErrInvalidToken.Because(errors.New("user is disabled or deleted"))
	}
	if err != nil {
		return fmt.Errorf("look up user: %w", err)
	}
	if err := s.Policy.Check(next, u.Email, u.Name); err != nil {
		return err
	}
	if u, err = s.authenticate(ctx, u.Email, current, c, true); err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, next)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	// The other sessions go before and after: if they cannot be ended, nothing is
	// changed, and a login with the old password may have begun one meanwhile.
	ctx, cancel := unhurried(ctx)
	defer cancel()
	if err := s.endSessions(ctx, u, id.Session); err != nil {
		return err
	}
	verified := u.PasswordHash
	err = s.Users.UpdateUser(ctx, u.ID, func(stored *User) error {
		if stored.PasswordHash != verified {
			return ErrInvalidCredentials.Because(errors.New("password was changed meanwhile"))
		}
		stored.PasswordHash, stored.Updated = hash, s.Now()
		return nil
	})
	if err != nil {
		return fmt.Errorf("update user: %w", err)
	}
	if err := s.endSessions(ctx, u, id.Session); err != nil {
		return ErrRevocation.Because(err).After(time.Second).Saying(
			"The password was changed, but other sessions could not be signed out")
	}
	return nil
}

// unhurried is ctx for what must be finished although the client left.
func unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// SetPassword replaces a user's password and signs the user out everywhere.
func (s *Service) SetPassword(ctx context.Context, email, password string) error {
	return s.edit(ctx, "set_password", email, true, func(u User) (func(*User), error) {
		if err := s.Policy.Check(password, u.Email, u.Name); err != nil {
			return nil, err
		}
		hash, err := s.Hasher.Hash(ctx, password)
		return func(u *User) { u.PasswordHash = hash }, err
	})
}

// SetRoles replaces a user's roles. Sessions go on, with the new roles from
// their next refresh, which is at once: tokens with the old ones are refused.
func (s *Service) SetRoles(ctx context.Context, email string, roles []string) error {
	return s.edit(ctx, "set_roles", email, false, func(User) (func(*User), error) {
		roles, err := canonicalRoles(roles)
		if err != nil {
			return nil, invalid("roles", err)
		}
		return func(u *User) { u.Roles = roles }, nil
	})
}

// SetDisabled locks a user out everywhere, or lets the user in again.
func (s *Service) SetDisabled(ctx context.Context, email string, disabled bool) error {
	name := "enable"
	if disabled {
		name = "disable"
	}
	return s.edit(ctx, name, email, disabled, func(User) (func(*User), error) {
		return func(u *User) { u.Disabled = disabled }, nil
	})
}

// A userDeleter is a UserStore that can forget a user, and the user's sessions.
type userDeleter interface {
	DeleteUser(ctx context.Context, id string) error // ErrUserNotFound
}

// DeleteUser locks a user out everywhere and then forgets the account, in that
// order, so that a failure on the way leaves nobody signed in.
func (s *Service) DeleteUser(ctx context.Context, email string) error {
	store, ok := s.Users.(userDeleter)
	if !ok {
		return errors.New("this user store cannot delete users")
	}
	var id string
	err := s.edit(ctx, "delete", email, true, func(u User) (func(*User), error) {
		id = u.ID
		return func(u *User) { u.Disabled = true }, nil
	})
	if err != nil {
		return err
	}
	if err := store.DeleteUser(ctx, id); err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// edit is a change by an operator, after which no access token from before is
// accepted.
func (s *Service) edit(ctx context.Context, name, email string, signOut bool, prepare func(User) (func(*User), error)) error {
	u, err := s.userByEmail(ctx, email)
	if err == nil {
		var change func(*User)
		if change, err = prepare(u); err == nil {
			err = s.raise(ctx, u, signOut, change)
		}
	}
	s.audit(ctx, Event{Name: name, UserID: u.ID}, err)
	return err
}

func (s *Service) userByEmail(ctx context.Context, email string) (User, error) {
	canonical, err := CanonicalEmail(email)
	if err != nil {
		return User{}, invalid("email", err)
	}
	u, err := s.Users.UserByEmail(ctx, canonical)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", canonical, err)
	}
	return u, nil
}

// raise applies change and has every token from before refused; with signOut
// it ends the sessions as well. The steps may be of several stores, and any of
// them may be the last one that is taken:
//
//   - the revocation goes first, so that no account looks changed whose old
//     tokens are good. If nothing follows, holders of sessions and passwords
//     get new tokens as before (see cover);
//   - then the user is changed. What was issued in between is revoked, too;
//   - sessions go last. A login or refresh that began before may have made one
//     of them, or a token of the new generation.
//
// Repeating it repairs what broke off.
func (s *Service) raise(ctx context.Context, u User, signOut bool, change func(*User)) error {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	revoke := func(u User) error {
		return s.Revocations.Revoke(ctx, Revocation{Kind: RevokeUser, ID: u.ID, Generation: u.Generation, Expires: s.lastExpiry(u.TokensUntil)})
	}
	first := u
	first.Generation++
	if err := revoke(first); err != nil {
		return err
	}
	var after User
	err := s.Users.UpdateUser(ctx, u.ID, func(u *User) error {
		change(u)
		u.Generation++
		u.Updated = s.Now()
		after = *u
		return nil
	})
	if err != nil {
		return fmt.Errorf("update user: %w", err)
	}
	if after.Generation != first.Generation || after.TokensUntil.After(first.TokensUntil) {
		if err := revoke(after); err != nil {
			return err
		}
	}
	if !signOut {
		return nil
	}
	return s.endSessions(ctx, after, "")
}

// maxTokenTTL keeps expiries within what a revocation can name.
const maxTokenTTL = 10 * 365 * 24 * time.Hour

// IssueToken makes an access token that belongs to no session, for scripts and
// services. ttl 0 is the usual one; roles nil are the user's own. It is ended
// by RevokeToken and by whatever raises the user's generation.
func (s *Service) IssueToken(ctx context.Context, email string, roles []string, ttl time.Duration) (string, *Identity, error) {
	token, id, err := s.issueToken(ctx, email, roles, ttl)
	e := Event{Name: "token_issue"}
	if err == nil {
		e.UserID = id.ID
	}
	s.audit(ctx, e, err)
	return token, id, err
}

func (s *Service) issueToken(ctx context.Context, email string, roles []string, ttl time.Duration) (string, *Identity, error) {
	if ttl == 0 {
		ttl = s.Tokens.TTL
	}
	if ttl < time.Second || ttl > maxTokenTTL {
		return "", nil, fmt.Errorf("ttl %s: want between 1s and %s", ttl, maxTokenTTL)
	}
	var err error
	if roles != nil {
		if roles, err = canonicalRoles(roles); err != nil {
			return "", nil, invalid("roles", err)
		}
	}
	return s.issue(ctx, func() (User, error) {
		u, err := s.userByEmail(ctx, email)
		if err == nil && u.Disabled {
			err = fmt.Errorf("user %q is disabled", u.Email)
		}
		return u, err
	}, roles, "", ttl)
}
