package proxy

import "strings"

// A pattern is a route's path, taken apart. It fits the path itself (here),
// the paths below it (below), or both.
type pattern struct {
	segments    []segment
	here, below bool
}

type segment struct {
	text string // literal text, decoded; the name of a wildcard
	wild bool
}

// parsePattern takes apart a path that config has found valid. `/a` and `/a/`
// cover /a and all below it: who protects /admin/ means /admin as well.
// `/a/{rest...}` is only what is below; an exact route only the path itself.
func parsePattern(path string, exact bool) pattern {
	p := pattern{here: true, below: !exact}
	for name := range strings.SplitSeq(path[1:], "/") {
		switch {
		case strings.HasPrefix(name, "{") && strings.HasSuffix(name, "...}"):
			p.here, p.below = false, true
			return p
		case strings.HasPrefix(name, "{"):
			p.segments = append(p.segments, segment{name[1 : len(name)-1], true})
		default:
			p.segments = append(p.segments, segment{text: name})
		}
	}
	if last := len(p.segments) - 1; !exact && p.segments[last].text == "" {
		p.segments = p.segments[:last]
	}
	return p
}

// narrower reports whether p, which meets q, has more to say of a path than q.
func (p pattern) narrower(q pattern) bool {
	if len(p.segments) != len(q.segments) {
		return len(p.segments) > len(q.segments)
	}
	return len(p.parts()) < len(q.parts())
}

// fits reports whether a decoded path is one of the pattern's.
func (p pattern) fits(path string) bool {
	names := strings.Split(path[1:], "/")
	if len(names) < len(p.segments) {
		return false
	}
	for i, s := range p.segments {
		if s.wild && names[i] == "" || !s.wild && names[i] != s.text {
			return false
		}
	}
	if len(names) == len(p.segments) {
		return p.here
	}
	return p.below
}

// The relation of two sets of paths.
type relation int

const (
	disjoint relation = iota
	equal
	inside   // the first in the second
	contains // the second in the first
	overlaps // some in common, some apart on both sides
)

// part is one of the at most two shapes that a pattern is made of.
type part struct {
	segments []segment
	below    bool
}

func (p pattern) parts() []part {
	var parts []part
	if p.here {
		parts = append(parts, part{p.segments, false})
	}
	if p.below {
		parts = append(parts, part{p.segments, true})
	}
	return parts
}

// compare tells how two parts' paths lie to each other.
func (a part) compare(b part) relation {
	r := equal
	for i := range max(len(a.segments), len(b.segments)) {
		switch {
		case i >= len(a.segments):
			if !a.below {
				return disjoint
			}
			return r.and(contains)
		case i >= len(b.segments):
			if !b.below {
				return disjoint
			}
			return r.and(inside)
		}
		s, t := a.segments[i], b.segments[i]
		switch {
		case s.wild && t.wild:
		case s.wild:
			if t.text == "" {
				return disjoint
			}
			r = r.and(contains)
		case t.wild:
			if s.text == "" {
				return disjoint
			}
			r = r.and(inside)
		case s.text != t.text:
			return disjoint
		}
	}
	if a.below != b.below {
		return disjoint // one ends where the other goes on
	}
	return r
}

// and combines what two places of a path say. Neither is disjoint.
func (r relation) and(s relation) relation {
	switch {
	case r == equal:
		return s
	case s == equal || r == s:
		return r
	}
	return overlaps
}

// sample is a path that the part fits and that a less general pattern does not:
// its wildcards stand for a segment that no pattern spells out.
func (a part) sample() string {
	var b strings.Builder
	for _, s := range a.segments {
		b.WriteByte('/')
		if s.wild {
			b.WriteString("\x01")
			continue
		}
		b.WriteString(s.text)
	}
	if a.below {
		b.WriteString("/\x01")
	}
	return b.String()
}
