package authn

import (
	"context"
	"errors"
	"fmt"

	"gatehouse/config"
)

// PrepareImport is an account whose password was hashed elsewhere, with bcrypt,
// so that it stays what it is. No policy holds: the password is not known.
func (s *Service) PrepareImport(email, name, hash string, roles []string) (User, error) {
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
	if HashCost(hash) == 0 {
		return User{}, invalid("password", fmt.Errorf("must be a bcrypt hash of a cost up to %d", config.MaxBcryptCost))
	}
	now := s.Now()
	return User{ID: newID(), Email: email, Name: name, Roles: roles, PasswordHash: hash, Generation: 1, Created: now, Updated: now}, nil
}

// A userCreator is a UserStore that can make many accounts in one step. Of each
// it tells whether it was made: an address that is taken is left as it is.
type userCreator interface {
	CreateUsers(ctx context.Context, users []User) (created []bool, err error)
}

// ImportUsers makes the accounts of PrepareImport, all or none of them, and
// tells of each whether it is new. An address that has an account is left as it
// is.
func (s *Service) ImportUsers(ctx context.Context, users []User) ([]bool, error) {
	store, ok := s.Users.(userCreator)
	if !ok {
		return nil, errors.New("this user store cannot import users")
	}
	created, err := store.CreateUsers(ctx, users)
	if err != nil {
		s.audit(ctx, Event{Name: "user_import"}, err)
		return nil, fmt.Errorf("create users: %w", err)
	}
	for i, u := range users {
		if created[i] {
			s.audit(ctx, Event{Name: "user_import", UserID: u.ID}, nil)
		} else {
			s.audit(ctx, Event{Name: "user_import"}, ErrUserExists)
		}
	}
	return created, nil
}
