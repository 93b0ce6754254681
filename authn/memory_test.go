package authn_test

import (
	"testing"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

func TestMemoryStore(t *testing.T) {
	t.Run("users", func(t *testing.T) {
		authntest.TestUserStore(t, func(*testing.T) authn.UserStore { return new(authn.MemoryStore) })
	})
	t.Run("sessions", func(t *testing.T) {
		authntest.TestSessionStore(t, func(*testing.T) (authn.SessionStore, authn.UserStore) {
			m := new(authn.MemoryStore)
			return m, m
		})
	})
	t.Run("revocations", func(t *testing.T) {
		authntest.TestRevocationLog(t, func(*testing.T) authn.RevocationLog { return new(authn.MemoryStore) })
	})
}
