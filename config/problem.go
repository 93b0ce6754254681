package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in a configuration file. The zero Position is the
// configuration as a whole. Lines and columns count from 1; a column that is not
// known is 0.
type Position struct {
	File         string
	Line, Column int
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	if p.Column == 0 {
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one thing wrong with a configuration. Text never holds the value
// of a secret or of an environment variable.
type Problem struct {
	Pos  Position
	Text string
	Hint string // what to do, on a line of its own; may be empty
}

func (p Problem) Error() string {
	s := p.Text
	if at := p.Pos.String(); at != "" {
		s = at + ": " + s
	}
	if p.Hint != "" {
		s += "\n    " + p.Hint
	}
	return s
}

// Problems is everything wrong with a configuration, in the order of the file.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// At tells where a key stands in the file: "routes[2].upstream", say. For a
// key that was left out it is the nearest section above it.
func (c *Config) At(key string) Position {
	for {
		if p, ok := c.source.at(key); ok {
			return p
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return Position{File: c.Path}
		}
		key = key[:i]
	}
}

// Problem is a Problem with the value of key.
func (c *Config) Problem(key, format string, args ...any) Problem {
	return Problem{Pos: c.At(key), Text: fmt.Sprintf(format, args...)}
}

// Quote is value in quotes as the file spells it, so that a message shows
// "${UPSTREAM}" and not what the variable holds. A secret is "[redacted]".
func (c *Config) Quote(key, value string) string {
	return c.source.quote(key, value)
}

// Expanded reports whether the value of key has something of the environment
// in it, where secrets come from.
func (c *Config) Expanded(key string) bool { return c.source != nil && c.source.expanded[key] }

// Forget lets go of what the file said and where, which is more than all that
// it means. Afterwards At and Problem know the file only.
func (c *Config) Forget() { c.source = nil }

// quote is value in quotes as the file spells it.
func (s *source) quote(key, value string) string {
	if raw, ok := s.raw(key); ok {
		value = raw
	}
	return strconv.Quote(shorten(value))
}

// shorten keeps a message readable whatever the file holds.
func shorten(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
