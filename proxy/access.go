package proxy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatehouse/authn"
	"gatehouse/config"
)

// allow says whether the identity, which may be nobody, satisfies the route's
// access. In a mapping every key that is given must hold.
func (rt *Route) allow(id *authn.Identity) error {
	a := rt.Access
	if a.Kind == config.AccessPublic || a.Kind == config.AccessOptional {
		return nil
	}
	if id == nil {
		return authn.ErrMissingToken
	}
	if a.Kind == config.AccessAuthenticated {
		return nil
	}
	deny := func(format string, args ...any) error {
		return authn.ErrForbidden.Because(fmt.Errorf("route %q: "+format, append([]any{rt.Name}, args...)...))
	}
	if len(a.Roles) > 0 && !slices.ContainsFunc(a.Roles, func(role string) bool { return slices.Contains(id.Roles, role) }) {
		return deny("want one of the roles %s, have %s", list(a.Roles), list(id.Roles))
	}
	if len(a.Emails) > 0 && !slices.Contains(a.Emails, id.Email) {
		return deny("e-mail address is not listed")
	}
	for name, want := range a.Claims {
		if !holds(id.Claim(name), want) {
			return deny("claim %q does not hold", name)
		}
	}
	return nil
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// holds compares a claim with the value wanted: equal, or contained where the
// claim is a list. Values of different types are different.
func holds(got, want any) bool {
	switch got := got.(type) {
	case []any:
		return slices.ContainsFunc(got, func(one any) bool {
			_, nested := one.([]any)
			return !nested && holds(one, want)
		})
	case json.Number:
		switch want := want.(type) {
		case int64:
			n, err := strconv.ParseInt(got.String(), 10, 64)
			return err == nil && n == want
		case float64:
			f, err := got.Float64()
			return err == nil && f == want
		}
		return false
	case string:
		return got == want
	case bool:
		return got == want
	case int64: // from a test's `as:`
		return got == want
	case float64:
		return got == want
	}
	return false
}
