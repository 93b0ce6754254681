package authn_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"gatehouse/authn"
)

// Whoever is imported signs in with the password of before. That raises the
// cost of the hash, and a second import changes nothing of it.
func TestImportedUser(t *testing.T) {
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		b := newBed(t)
		b.Hasher = authn.NewHasher(5)
		made, err := bcrypt.GenerateFromPassword([]byte("old password"), 4)
		if err != nil {
			t.Fatal(err)
		}
		hash := prefix + strings.TrimPrefix(string(made), "$2a$")
		u, err := b.importUser(" Ann@Example.com", "Ann", hash, []string{"ops"})
		if err != nil || u.Email != address || u.PasswordHash != hash || u.Generation != 1 {
			t.Fatalf("import = %+v, %v", u, err)
		}
		if _, err := b.Login(ctx, address, "another password", home); !errors.Is(err, authn.ErrInvalidCredentials) {
			t.Errorf("%s: Login with a wrong password = %v", prefix, err)
		}
		if stored, err := b.Users.UserByID(ctx, u.ID); err != nil || stored.PasswordHash != hash {
			t.Errorf("%s: a failed login changed the hash: %v", prefix, err)
		}
		before := b.login("old password")
		raised, err := b.Users.UserByID(ctx, u.ID)
		if err != nil || !strings.HasPrefix(raised.PasswordHash, "$2a$05$") || raised.Generation != 1 || raised.Name != "Ann" {
			t.Errorf("%s: after the login %+v, %v, want a hash of cost 5", prefix, raised, err)
		}
		b.wantAlive("the token of that login", before.AccessToken, true)
		b.login("old password")
		if raised, err = b.Users.UserByID(ctx, u.ID); err != nil {
			t.Fatal(err)
		}

		if _, err := b.importUser(address, "Other", hash, nil); !errors.Is(err, authn.ErrUserExists) {
			t.Errorf("%s: the second ImportUser = %v, want that there is one", prefix, err)
		}
		after, err := b.Users.UserByID(ctx, u.ID)
		if err != nil || !reflect.DeepEqual(after, raised) {
			t.Errorf("%s: after a second import %+v, %v, want %+v", prefix, after, err, raised)
		}
		b.login("old password")
	}
}

func TestImportRefuses(t *testing.T) {
	b := newBed(t)
	good := "$2b$04$abcdefghijklmnopqrstuuLK5H0QTgH4DZVH3iG8YbFyCTrw9bZ2q"
	for _, c := range []struct{ email, name, hash, role, says string }{
		{"ann", "", good, "a", "email"},
		{address, "a\x00b", good, "a", "name"},
		{address, "", good, "a b\n", "roles"},
		{address, "", "hunter2", "a", "must be a bcrypt hash"},
		{address, "", "", "a", "must be a bcrypt hash"},
	} {
		_, err := b.importUser(c.email, c.name, c.hash, []string{c.role})
		if !errors.Is(err, authn.ErrInvalidRequest) || !strings.Contains(err.Error(), c.says) || c.hash != "" && strings.Contains(err.Error(), c.hash) {
			t.Errorf("ImportUser(%+v) = %v, want it refused without the hash", c, err)
		}
	}
}
