package config

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} in the value of one scalar.
// It runs after the YAML is parsed: a variable can hold any bytes and never
// becomes a key, a list or a second value. "$${" is a literal "${".
//
// problem says what is wrong, "" if nothing is. It shows no part of s but the
// name of the variable, and not even that where s is secret and holds more.
func expand(s string, secret bool, lookup func(string) (string, bool)) (text string, expanded bool, problem string) {
	if !strings.Contains(s, "${") {
		return s, false, ""
	}
	var b strings.Builder
	for rest := s; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			b.WriteString(rest)
			return b.String(), expanded, ""
		}
		if i > 0 && rest[i-1] == '$' {
			b.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		b.WriteString(rest[:i])
		rest = rest[i+2:]
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return "", false, "a variable is not closed: want ${NAME} or ${NAME:-default}, and $${ for a literal ${"
		}
		name, fallback, hasFallback := strings.Cut(rest[:end], ":-")
		if !validVariable(name) || strings.Contains(fallback, "${") {
			return "", false, "a variable is malformed: want ${NAME} or ${NAME:-default}, and $${ for a literal ${"
		}
		rest = rest[end+1:]
		value, ok := "", false
		if lookup != nil {
			value, ok = lookup(name)
		}
		switch {
		case hasFallback && value == "": // as in a shell, :- also stands in for an empty value
			value = fallback
		case !ok && secret && s != "${"+name+"}":
			return "", false, "a variable in it is not set"
		case !ok:
			return "", false, fmt.Sprintf("variable %s is not set", shorten(name))
		}
		b.WriteString(value)
		expanded = true
	}
}

func validVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		if !letter && (i == 0 || !digit) {
			return false
		}
	}
	return name != ""
}
