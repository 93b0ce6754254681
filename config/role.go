package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxRole      = 64 // bytes
	maxRoles     = 4000
	maxRoleBytes = 64 << 10 // of all together; no app takes a longer header
)

// CheckRole says what is wrong with a role that an account is to have. Roles
// stand in headers between commas.
func CheckRole(role string) error {
	switch {
	case role == "":
		return errors.New("want the name of a role")
	case len(role) > maxRole:
		return fmt.Errorf("want at most %d bytes", maxRole)
	case !utf8.ValidString(role) || strings.ContainsFunc(role, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("want printable characters only")
	case strings.Contains(role, ","):
		return errors.New("want no comma in it")
	case role != strings.TrimSpace(role):
		return errors.New("want no blanks around it")
	}
	return nil
}

// CheckRoleCount says whether the roles of an account are too many.
func CheckRoleCount(roles []string) error {
	if len(roles) > maxRoles || len(strings.Join(roles, "")) > maxRoleBytes {
		return fmt.Errorf("want at most %d roles, of %d bytes together", maxRoles, maxRoleBytes)
	}
	return nil
}
