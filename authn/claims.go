package authn

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxID   = 256     // bytes of sub, jti, sid and kid
	maxDate = 1 << 53 // the last integer that every JSON reader knows
)

var claimNames = set("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "email", "email_verified", "name", "roles", "roles_omitted", "sid", "gen")

// A claimReader reads claims whose signature is good and keeps the first
// error. Its methods return zero values after one.
type claimReader struct {
	claims map[string]any
	err    error
}

func (c *claimReader) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// wellFormed holds for the claim set as a whole: no second spelling of a name,
// and no control character anywhere, because every claim may end up in a
// header by {claim.NAME}.
func (c *claimReader) wellFormed() {
	if err := checkNames(c.claims, claimNames); err != nil {
		c.fail("claim %w", err)
	}
	for name, v := range c.claims {
		if hasControl(name) || hasControl(v) {
			c.fail("claim %.40q holds a control character", name)
		}
	}
}

// audience wants one of wanted in aud, which is a string or a list of strings.
func (c *claimReader) audience(wanted ...string) {
	var named []string
	switch aud := c.claims["aud"].(type) {
	case string:
		named = []string{aud}
	case []any:
		for _, a := range aud {
			s, ok := a.(string)
			if !ok {
				c.fail("aud is a list of other things than strings")
				return
			}
			named = append(named, s)
		}
	case nil:
		c.fail("aud is missing")
		return
	default:
		c.fail("aud is neither a string nor a list")
		return
	}
	for _, a := range named {
		if a != "" && slices.Contains(wanted, a) {
			return
		}
	}
	c.fail("aud %.128q, want %q", named, wanted)
}

// id reads what names a user: any printable text.
func (c *claimReader) id(name string, v any) string {
	s, ok := v.(string)
	switch {
	case v == nil:
		c.fail("%s is missing", name)
	case !ok:
		c.fail("%s is no string", name)
	case strings.TrimSpace(s) == "":
		c.fail("%s is empty", name)
	case len(s) > maxID:
		c.fail("%s of %d bytes, want at most %d", name, len(s), maxID)
	default:
		return s
	}
	return ""
}

// handle reads jti or sid, which revocations name: letters, digits and a few
// signs that no store takes for a pattern or a separator.
func (c *claimReader) handle(name string, required bool) string {
	v, there := c.claims[name]
	if !there && !required {
		return ""
	}
	s := c.id(name, v)
	for i := range len(s) {
		if b := s[i]; !isDigit(b) && !isLetter(b) && strings.IndexByte("-._~:/+=@|", b) < 0 {
			c.fail("%s holds %q", name, rune(b))
			return ""
		}
	}
	return s
}

// text reads an optional string.
func (c *claimReader) text(name string, v any) string {
	if v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		c.fail("%s is no string", name)
	}
	return s
}

// roles reads a list of strings. Issuers that are not us may leave one role
// bare; a text that could be several is refused, because no reading of it is
// sure.
func (c *claimReader) roles(name string, v any, bare bool) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		if v == "" && bare {
			return nil
		}
		if !bare || strings.ContainsAny(v, " ,;") {
			c.fail("%s is %.64q, want a list", name, v)
			return nil
		}
		return []string{v}
	case []any:
		roles := make([]string, 0, len(v))
		for _, r := range v {
			s, ok := r.(string)
			if !ok || s == "" {
				c.fail("%s holds something else than names", name)
				return nil
			}
			roles = append(roles, s)
		}
		return roles
	}
	c.fail("%s is no list", name)
	return nil
}

// omitted reads roles_omitted: the token's roles are not in it, see
// [Tokens.RolesOf].
func (c *claimReader) omitted() bool {
	v, there := c.claims["roles_omitted"]
	if !there {
		return false
	}
	if _, both := c.claims["roles"]; both || v != true {
		c.fail("roles_omitted is not true, or beside roles")
	}
	return true
}

// integer reads an optional count.
func (c *claimReader) integer(name string) int64 {
	v, there := c.claims[name]
	if !there {
		return 0
	}
	n, ok := v.(json.Number)
	i, err := strconv.ParseInt(string(n), 10, 64)
	if !ok || err != nil || i < 0 {
		c.fail("%s is no whole number from 0 on", name)
		return 0
	}
	return i
}

// date reads a NumericDate (RFC 7519, section 2): a JSON number, perhaps with
// a fraction. {"exp":"9999999999"} and {"exp":1e400} are none.
func (c *claimReader) date(name string, required bool) time.Time {
	v, there := c.claims[name]
	if !there {
		if required {
			c.fail("%s is missing", name)
		}
		return time.Time{}
	}
	n, ok := v.(json.Number)
	if !ok {
		c.fail("%s is no number", name)
		return time.Time{}
	}
	seconds, nanos, err := parseDate(string(n))
	if err != nil {
		c.fail("%s is %.32s, want seconds from 0 to 2^53", name, n)
		return time.Time{}
	}
	return time.Unix(seconds, nanos).UTC()
}

// lastDate is the end of the last year that RFC 3339 writes. Further dates
// cannot be shown, and stores that count microseconds in 64 bits turn
// {"exp":9999999999999} into the past: its revocation would be gone at once.
// The popular 9999999999 is in 2286.
var lastDate = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// expires reads exp.
func (c *claimReader) expires() time.Time {
	t := c.date("exp", true)
	if t.After(lastDate) {
		c.fail("exp is after the year 9999")
	}
	return t
}

var errDate = errors.New("no date")

// parseDate never converts a float that no int64 holds: the result of that is
// another one on each CPU.
func parseDate(s string) (seconds, nanos int64, err error) {
	if !strings.ContainsAny(s, ".eE") {
		seconds, err = strconv.ParseInt(s, 10, 64)
		if err != nil || seconds < 0 || seconds > maxDate {
			return 0, 0, errDate
		}
		return seconds, 0, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= maxDate) {
		return 0, 0, errDate
	}
	seconds = int64(f)
	return seconds, int64((f - float64(seconds)) * 1e9), nil
}

// started wants iat and nbf not to be later than latest. A token from the
// future would outlive "everything issued before now".
func (c *claimReader) started(latest time.Time) {
	for _, name := range []string{"iat", "nbf"} {
		if c.date(name, false).After(latest) {
			c.fail("%s is in the future", name)
		}
	}
}
