package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gatehouse/config"
)

// mostConflicts bounds what is said of one configuration: one mistake that is
// repeated can put every route in conflict with every other.
const mostConflicts = 500

// conflicts finds pairs of routes on one host whose paths and methods meet
// while neither is the more specific, in the order of the file. Patterns
// without wildcards are always nested or apart, so only equal ones of these can
// be in conflict.
func (t *table) conflicts() config.Problems {
	var problems config.Problems
	told := map[[2]*Route]bool{}
	report := func(a, b *Route, why string) {
		if inFile(a.Pos, b.Pos) > 0 {
			a, b = b, a
		}
		if pair := [2]*Route{a, b}; !told[pair] && len(told) < mostConflicts {
			told[pair] = true
			problems = append(problems, config.Problem{
				Pos:  b.Pos,
				Text: fmt.Sprintf("route %s and route %s (%s) %s", b.describe(), a.describe(), a.Pos, why),
				Hint: "no rule says which of them comes first: change the path or the methods of one",
			})
		}
	}
	for root := range t.roots {
		root.places(func(routes []*Route) {
			for i, a := range routes {
				for _, b := range routes[:i] {
					if len(a.pattern.parts()) == len(b.pattern.parts()) && !methodsRank(a, b) {
						report(a, b, "match the same requests")
					}
				}
				if !strings.Contains(a.Path, "{") {
					continue
				}
				root.meet(a.pattern.segments, a.pattern.below, func(b *Route) {
					if methodsApart(a, b) {
						return
					}
					if example, meet := overlap(a.pattern, b.pattern); meet {
						report(a, b, fmt.Sprintf("both match paths such as %s, and each matches some that the other does not", example))
					}
				})
			}
		})
	}
	slices.SortFunc(problems, func(p, q config.Problem) int {
		return cmp.Or(inFile(p.Pos, q.Pos), cmp.Compare(p.Text, q.Text))
	})
	return problems
}

func inFile(a, b config.Position) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// roots are where the paths of each host begin.
func (t *table) roots(yield func(*node) bool) {
	for _, hosts := range []map[string]*node{t.exact, t.wild, {"": t.any}} {
		for _, root := range hosts {
			if root != nil && !yield(root) {
				return
			}
		}
	}
}

// places offers what stands in each place of n and below. A route can stand in
// two of them.
func (n *node) places(take func([]*Route)) {
	take(n.here)
	take(n.below)
	for _, c := range n.literal {
		c.places(take)
	}
	if n.wild != nil {
		n.wild.places(take)
	}
}

// meet offers the routes below n that could share a path with a pattern of
// these segments, so that not every route is compared with every other.
func (n *node) meet(segments []segment, below bool, take func(*Route)) {
	for _, rt := range n.below {
		take(rt)
	}
	next, rest := segment{wild: true}, segments // what is below a pattern may be anything
	if len(segments) > 0 {
		next, rest = segments[0], segments[1:]
	} else {
		for _, rt := range n.here {
			take(rt)
		}
		if !below {
			return
		}
	}
	if n.wild != nil {
		n.wild.meet(rest, below, take)
	}
	if !next.wild {
		if c := n.literal[next.text]; c != nil {
			c.meet(rest, below, take)
		}
		return
	}
	for _, c := range n.literal {
		c.meet(rest, below, take)
	}
}

// overlap tells whether some paths fit both patterns while neither pattern is
// inside the other there.
func overlap(a, b pattern) (example string, meet bool) {
	for _, p := range a.parts() {
		for _, q := range b.parts() {
			if p.compare(q) == overlaps {
				return p.common(q), true
			}
		}
	}
	return "", false
}

// common is a path that both parts fit.
func (a part) common(b part) string {
	var s strings.Builder
	for i := range max(len(a.segments), len(b.segments)) {
		text := "x"
		for _, p := range []part{a, b} {
			if i < len(p.segments) && !p.segments[i].wild {
				text = p.segments[i].text
			}
		}
		s.WriteString("/" + text)
	}
	return s.String()
}

// methodsApart reports that no method is served by both.
func methodsApart(a, b *Route) bool {
	if len(a.Methods) == 0 || len(b.Methods) == 0 {
		return false
	}
	return !slices.ContainsFunc(a.methodSet(), func(m string) bool { return slices.Contains(b.methodSet(), m) })
}

// methodsRank reports that the methods say which of two routes on one path comes
// first: they are apart, or one's are some of the other's.
func methodsRank(a, b *Route) bool {
	if methodsApart(a, b) {
		return true
	}
	as, bs := a.methodSet(), b.methodSet()
	switch {
	case as == nil || bs == nil:
		return len(as) != len(bs)
	case len(as) == len(bs):
		return false
	}
	small, large := as, bs
	if len(as) > len(bs) {
		small, large = bs, as
	}
	return !slices.ContainsFunc(small, func(m string) bool { return !slices.Contains(large, m) })
}
