package authn

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxNesting bounds objects and lists inside each other. A claim set has three
// or four levels; encoding/json would follow ten thousand.
const maxNesting = 16

// readObject reads data as one JSON object (RFC 8259) and nothing else. Every
// reader must see the same object, so what two readers could take differently
// is refused: a name twice in one object, at any depth; invalid UTF-8; half a
// surrogate pair; anything after the end. Numbers stay as they are written,
// as json.Number.
//
// encoding/json lets the later of two equal names win, and for struct fields
// the oddly cased one as well: {"sub":"ann","SUB":"admin"} is admin there.
func readObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	s := scanner{text: string(data)}
	s.space()
	if s.peek() != '{' {
		return nil, errors.New("not a JSON object")
	}
	object, err := s.object(1)
	if err != nil {
		return nil, fmt.Errorf("at byte %d: %w", s.at, err)
	}
	s.space()
	if s.at != len(s.text) {
		return nil, fmt.Errorf("at byte %d: text after the object", s.at)
	}
	return object, nil
}

var literals = []struct {
	word  string
	value any
}{{"true", true}, {"false", false}, {"null", nil}}

type scanner struct {
	text string
	at   int
}

// peek is the next byte, or 0 at the end. A NUL in the text is an error
// wherever it is, so the two need no telling apart.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) value(depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.list(depth)
	case c == '"':
		return s.string()
	case c == '-' || isDigit(c):
		return s.number()
	}
	for _, literal := range literals {
		if strings.HasPrefix(s.text[s.at:], literal.word) {
			s.at += len(literal.word)
			return literal.value, nil
		}
	}
	return nil, errors.New("want a value")
}

func (s *scanner) object(depth int) (map[string]any, error) {
	object := map[string]any{}
	s.at++ // {
	s.space()
	if s.peek() == '}' {
		s.at++
		return object, nil
	}
	for {
		s.space()
		if s.peek() != '"' {
			return nil, errors.New("want a name in quotes")
		}
		name, err := s.string()
		if err != nil {
			return nil, err
		}
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("%.40q stands there twice", name)
		}
		s.space()
		if s.peek() != ':' {
			return nil, errors.New(`want ":"`)
		}
		s.at++
		s.space()
		v, err := s.value(depth + 1)
		if err != nil {
			return nil, err
		}
		object[name] = v
		s.space()
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			return object, nil
		default:
			return nil, errors.New(`want "," or "}"`)
		}
	}
}

func (s *scanner) list(depth int) ([]any, error) {
	list := []any{}
	s.at++ // [
	s.space()
	if s.peek() == ']' {
		s.at++
		return list, nil
	}
	for {
		s.space()
		v, err := s.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		s.space()
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			return list, nil
		default:
			return nil, errors.New(`want "," or "]"`)
		}
	}
}

func (s *scanner) string() (string, error) {
	s.at++ // "
	start := s.at
	var b strings.Builder // stays empty while nothing is escaped
	escaped := false
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			tail := s.text[start:s.at]
			s.at++
			if !escaped {
				return tail, nil
			}
			b.WriteString(tail)
			return b.String(), nil
		case c < 0x20:
			return "", errors.New("raw control character in a string")
		case c == '\\':
			escaped = true
			b.WriteString(s.text[start:s.at])
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			start = s.at
		default:
			s.at++
		}
	}
	return "", errors.New("string without end")
}

func (s *scanner) escape() (rune, error) {
	s.at++ // backslash
	c := s.peek()
	s.at++
	if i := strings.IndexByte(`"\/bfnrt`, c); c != 0 && i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, errors.New("unknown escape in a string")
	}
	r, err := s.hex()
	if err != nil {
		return 0, err
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if strings.HasPrefix(s.text[s.at:], `\u`) {
		s.at += 2
		low, err := s.hex()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, nil
		}
	}
	return 0, errors.New("half a surrogate pair in a string")
}

func (s *scanner) hex() (rune, error) {
	if s.at+4 > len(s.text) {
		return 0, errors.New("want four hexadecimal digits")
	}
	var r rune
	for _, c := range []byte(s.text[s.at : s.at+4]) {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, errors.New("want four hexadecimal digits")
		}
		r = r<<4 | rune(c)
	}
	s.at += 4
	return r, nil
}

func (s *scanner) number() (json.Number, error) {
	start := s.at
	if s.peek() == '-' {
		s.at++
	}
	leading := s.at
	if !s.digits() || s.text[leading] == '0' && s.at > leading+1 {
		return "", errors.New("want a number")
	}
	if s.peek() == '.' {
		s.at++
		if !s.digits() {
			return "", errors.New("want digits after the point")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		if !s.digits() {
			return "", errors.New("want digits in the exponent")
		}
	}
	return json.Number(s.text[start:s.at]), nil
}

func (s *scanner) digits() bool {
	start := s.at
	for isDigit(s.peek()) {
		s.at++
	}
	return s.at > start
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// checkNames refuses members that a reader which folds case would take for
// another one: a second spelling of a name in the same object, and any but the
// right spelling of a known name. The case that must not pass is
// {"sub":"ann","ſub":"admin"}, which encoding/json reads as admin.
func checkNames(object map[string]any, known map[string]bool) error {
	spelled := make(map[string]string, len(object))
	for name := range object {
		folded := fold(name)
		if known[folded] && name != folded {
			return fmt.Errorf("%.40q is spelled oddly, want %q", name, folded)
		}
		if other, twice := spelled[folded]; twice {
			return fmt.Errorf("%.40q and %.40q are two spellings of one name", min(name, other), max(name, other))
		}
		spelled[folded] = name
	}
	return nil
}

// fold maps all strings that strings.EqualFold holds equal to one, which for
// ASCII is lower case.
func fold(s string) string {
	foldable := func(r rune) bool { return r >= utf8.RuneSelf || r >= 'A' && r <= 'Z' }
	if !strings.ContainsFunc(s, foldable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			if f >= 'a' && f <= 'z' {
				return f
			}
			least = min(least, f)
		}
		return least
	}, s)
}

// hasControl tells whether a string anywhere in v, member names included,
// holds a control character.
func hasControl(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.IndexFunc(v, unicode.IsControl) >= 0
	case []any:
		for _, e := range v {
			if hasControl(e) {
				return true
			}
		}
	case map[string]any:
		for name, e := range v {
			if hasControl(name) || hasControl(e) {
				return true
			}
		}
	}
	return false
}
