package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// scalar is one value of the file after its variables are replaced.
type scalar struct {
	text     string
	quoted   bool // in quotes or a block: text, whatever it looks like
	expanded bool // text came from a variable, so the place decides its type
}

const quotedStyles = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func isNull(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Style&quotedStyles != 0 {
		return false
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// isBoolWord reports what some YAML reader takes for a boolean.
func isBoolWord(s string) bool {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off":
		return true
	}
	return false
}

var (
	numberLike = regexp.MustCompile(`^[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$|^[-+]?0[xobXOB][0-9a-fA-F_]+$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$`)
	jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	wholeShape = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
)

// isNumberLike reports what some YAML reader takes for a number.
func isNumberLike(s string) bool {
	return strings.Trim(s[:min(len(s), 1)], "+-.0123456789") == "" && numberLike.MatchString(s)
}

// A valueError says what was wanted, without the value.
type valueError struct{ want, hint string }

func (e *valueError) Error() string { return e.want }

func wanted(want, hint string) error { return &valueError{want, hint} }

func parseText(s scalar) (string, error) {
	if !s.quoted && !s.expanded {
		switch {
		case s.text == "true" || s.text == "false":
			return "", wanted("want text, got a boolean", "write it in quotes")
		case isNumberLike(s.text):
			return "", wanted("want text, got a number", "write it in quotes")
		}
	}
	if !utf8.ValidString(s.text) {
		return "", wanted("want valid UTF-8", "")
	}
	if strings.ContainsFunc(s.text, unicode.IsControl) {
		return "", wanted("want no control characters", "")
	}
	return s.text, nil
}

func parseBool(s scalar) (bool, error) {
	switch {
	case s.quoted && !s.expanded:
		return false, wanted("want true or false, without quotes", "")
	case s.text == "true":
		return true, nil
	case s.text == "false":
		return false, nil
	}
	hint := ""
	switch strings.ToLower(s.text) {
	case "yes", "on", "y", "true":
		hint = "did you mean true?"
	case "no", "off", "n", "false":
		hint = "did you mean false?"
	}
	if s.expanded {
		hint = ""
	}
	return false, wanted("want true or false", hint)
}

func parseWhole(s scalar, bits int) (int64, error) {
	if s.quoted && !s.expanded {
		return 0, wanted("want a whole number, without quotes", "")
	}
	if !wholeShape.MatchString(s.text) {
		return 0, wanted("want a whole number in plain digits", "")
	}
	n, err := strconv.ParseInt(s.text, 10, bits)
	switch {
	case strings.HasPrefix(s.text, "-"):
		return 0, wanted("want 0 or more", "")
	case err != nil:
		return 0, wanted("the number is too large", "")
	}
	return n, nil
}

func parseDuration(s scalar) (time.Duration, error) {
	if s.text == "0" {
		return 0, nil
	}
	if isNumberLike(s.text) {
		return 0, wanted("want a duration with a unit, such as 15s, 10m or 1h", "")
	}
	t, err := time.ParseDuration(s.text)
	switch {
	case err != nil:
		return 0, wanted("want a duration such as 15s, 10m or 720h", "")
	case t < 0:
		return 0, wanted("want 0 or more", "")
	}
	return t, nil
}

// parsePrefix takes a network or a single address. IPv4 networks written as
// IPv6 are told as what they are, because addresses are compared unmapped.
func parsePrefix(s scalar) (netip.Prefix, error) {
	want := "want an address or a network such as 10.0.0.0/8"
	if a, err := netip.ParseAddr(s.text); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, wanted("want an address without a zone", "")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s.text)
	if err != nil {
		return netip.Prefix{}, wanted(want, "")
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, wanted("want an IPv4 or an IPv6 network, not both in one", "")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		hint := fmt.Sprintf("did you mean %q?", m)
		if s.expanded {
			hint = ""
		}
		return netip.Prefix{}, wanted("want a network without host bits", hint)
	}
	return p, nil
}

// parseAny types a value of a claims mapping: text, bool, int64 or float64.
// A word that YAML readers disagree about is refused rather than guessed.
func parseAny(s scalar) (any, error) {
	if s.quoted {
		return parseText(s)
	}
	switch {
	case s.text == "true" || s.text == "false":
		return s.text == "true", nil
	case isBoolWord(s.text):
		return nil, wanted("want true, false, or text in quotes", "")
	case !isNumberLike(s.text):
		return parseText(s)
	case !jsonNumber.MatchString(s.text):
		return nil, wanted("want a number in plain digits, or text in quotes", "")
	}
	if wholeShape.MatchString(s.text) {
		n, err := strconv.ParseInt(s.text, 10, 64)
		if err != nil {
			return nil, wanted("the number is too large", "")
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(s.text, 64)
	if err != nil {
		return nil, wanted("the number is too large", "")
	}
	return f, nil
}

func hintOf(err error) string {
	var v *valueError
	if errors.As(err, &v) {
		return v.hint
	}
	return ""
}
