package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Template is the value of an identity header, parsed: its parts in order.
type Template []Part

// Part is literal Text, or one Field of the identity ("id", "email", "name",
// "roles"), or one Claim by its name. One of the three is set.
type Part struct {
	Text, Field, Claim string
}

var templateFields = []string{"id", "email", "name", "roles"}

// ParseTemplate parses text with placeholders: {id} {email} {name} {roles} and
// {claim.NAME}. The text between them is printable ASCII; {{ and }} stand for
// the braces themselves.
func ParseTemplate(s string) (Template, error) {
	var t Template
	text := ""
	flush := func() {
		if text != "" {
			t, text = append(t, Part{Text: text}), ""
		}
	}
	for s != "" {
		switch {
		case strings.HasPrefix(s, "{{"), strings.HasPrefix(s, "}}"):
			text, s = text+s[:1], s[2:]
			continue
		case s[0] == '}':
			return nil, errors.New("a brace is not opened: want {id}, and }} for a literal brace")
		case s[0] < ' ' || s[0] > '~':
			return nil, errors.New("want printable ASCII between the placeholders")
		case s[0] != '{':
			text, s = text+s[:1], s[1:]
			continue
		}
		name, rest, ok := strings.Cut(s[1:], "}")
		if !ok || strings.Contains(name, "{") {
			return nil, errors.New("a brace is not closed: want {id}, and {{ for a literal brace")
		}
		part, err := placeholder(name)
		if err != nil {
			return nil, err
		}
		flush()
		t, s = append(t, part), rest
	}
	flush()
	return t, nil
}

// A placeholderError keeps the hint apart, for the line below.
type placeholderError struct{ name string }

func (e *placeholderError) Error() string {
	return fmt.Sprintf("unknown placeholder %q: want {id}, {email}, {name}, {roles} or {claim.NAME}", "{"+shorten(e.name)+"}")
}

func (e *placeholderError) hint() string {
	if meant := nearest(e.name, templateFields); meant != "" {
		return fmt.Sprintf("did you mean %q?", "{"+meant+"}")
	}
	return ""
}

func placeholder(name string) (Part, error) {
	for _, f := range templateFields {
		if name == f {
			return Part{Field: f}, nil
		}
	}
	if claim, ok := strings.CutPrefix(name, "claim."); ok && claim != "" {
		return Part{Claim: claim}, nil
	}
	return Part{}, &placeholderError{name}
}

// ClaimNames are the claims that some identity header or access asks for, in
// order, each once.
func (c *Config) ClaimNames() []string {
	names := map[string]bool{}
	add := func(headers map[string]string) {
		for _, text := range headers {
			template, _ := ParseTemplate(text) // a valid configuration has no other
			for _, part := range template {
				if part.Claim != "" {
					names[part.Claim] = true
				}
			}
		}
	}
	add(c.IdentityHeaders(nil))
	for i := range c.Routes {
		add(c.Routes[i].IdentityHeaders)
		for name := range c.Routes[i].Access.Claims {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
