package config

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A source is what a configuration was read from. It finds keys in the file as
// it was parsed, because a list of all of them would cost more than reading it.
type source struct {
	file   string
	top    *yaml.Node      // nil: nothing could be parsed
	hidden map[string]bool // keys whose values are never shown
	// expanded are the keys of scalars with something of the environment.
	expanded map[string]bool
}

// find returns the nodes of a key, "routes[2].upstream" say: its name and its
// value, which are one for an item of a list. They are nil if the file has no
// such key.
func (s *source) find(key string) (name, value *yaml.Node) {
	if s == nil || s.top == nil {
		return nil, nil
	}
	return findIn(s.top, key)
}

func findIn(n *yaml.Node, key string) (name, value *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			// The name of a header or a claim may have dots and brackets of its own.
			if rest, ok := strings.CutPrefix(key, n.Content[i].Value); ok {
				if name, value = findBelow(n.Content[i], n.Content[i+1], rest); name != nil {
					return name, value
				}
			}
		}
	}
	return nil, nil
}

// findBelow goes on with rest behind the name of value.
func findBelow(name, value *yaml.Node, rest string) (*yaml.Node, *yaml.Node) {
	switch {
	case rest == "":
		return name, value
	case rest[0] == '.':
		return findIn(value, rest[1:])
	case rest[0] == '[' && value.Kind == yaml.SequenceNode:
		number, rest, _ := strings.Cut(rest[1:], "]")
		if i, err := strconv.Atoi(number); err == nil && i >= 0 && i < len(value.Content) {
			return findBelow(value.Content[i], value.Content[i], rest)
		}
	}
	return nil, nil
}

// at is where key stands, if the file has it.
func (s *source) at(key string) (Position, bool) {
	name, _ := s.find(key)
	if name == nil {
		return Position{}, false
	}
	return Position{s.file, name.Line, name.Column}, true
}

// raw is the value of key as the file spells it, if that is a scalar.
func (s *source) raw(key string) (string, bool) {
	_, value := s.find(key)
	switch {
	case value == nil || value.Kind != yaml.ScalarNode:
		return "", false
	case s.hidden[key]:
		return Secret("").String(), true
	}
	return value.Value, true
}

// spells reports whether the value of key stands in the file as it is, and not
// as a variable.
func (s *source) spells(key, value string) bool {
	raw, ok := s.raw(key)
	return ok && raw == value
}

// each calls found for every key that general stands for, in which "[]" is any
// item of a list: "routes[].upstream".
func (s *source) each(general string, found func(key string)) {
	if s.top != nil {
		eachIn(s.top, "", general, found)
	}
}

func eachIn(n *yaml.Node, key, general string, found func(key string)) {
	head, tail, list := strings.Cut(general, "[]")
	name, value := findIn(n, head)
	switch {
	case name == nil:
	case !list:
		found(key + head)
	case value.Kind == yaml.SequenceNode:
		for i, item := range value.Content {
			at := key + head + "[" + strconv.Itoa(i) + "]"
			if tail == "" {
				found(at)
			} else {
				eachIn(item, at+".", tail[1:], found)
			}
		}
	}
}
