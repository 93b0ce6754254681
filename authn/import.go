package authn

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"

	"gatehouse/config"
)

// ImportUser makes an account whose password was hashed elsewhere, with bcrypt,
// so that it stays what it is. No policy holds: the password is not known. An
// address that has an account is ErrUserExists, and the account is left as it is.
func (s *Service) ImportUser(ctx context.Context, email, name, hash string, roles []string) (User, error) {
	u, err := s.importUser(ctx, email, name, hash, roles)
	s.audit(ctx, Event{Name: "user_import", UserID: u.ID}, err)
	return u, err
}

func (s *Service) importUser(ctx context.Context, email, name, hash string, roles []string) (User, error) {
	email, err := CanonicalEmail(email)
	if err != nil {
		return User{}, invalid("email", err)
	}
	if name, err = canonicalName(name, email); err != nil {
		return User{}, invalid("name", err)
	}
	if roles, err = canonicalRoles(roles); err != nil {
		return User{}, invalid("roles", err)
	}
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil {
		return User{}, invalid("password", errors.New("must be a bcrypt hash")) // err quotes parts of it
	}
	if cost > config.MaxBcryptCost {
		return User{}, invalid("password", fmt.Errorf("must be a bcrypt hash of a cost up to %d", config.MaxBcryptCost))
	}
	now := s.Now()
	u := User{ID: newID(), Email: email, Name: name, Roles: roles, PasswordHash: hash, Generation: 1, Created: now, Updated: now}
	if err := s.Users.CreateUser(ctx, u); err != nil {
		return User{}, fmt.Errorf("create user: %w", err)
	}
	return u, nil
}
