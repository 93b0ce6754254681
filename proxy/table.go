package proxy

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// A table finds the route of a host, a path and a method. The most specific
// wins: an exact host before a wildcard, the longer wildcard before the shorter,
// any host last; then the path as net/http patterns rank; then the methods.
//
// # Why not http.ServeMux
//
// Its patterns are our grammar and its ranking of paths is ours (a test
// compares the two). As a matcher it would redirect where we must not (`/a`
// where only `/a/` is registered hides the broader route), does not take
// doubled slashes, ranks methods before paths, and cannot look up a folded
// path.
type table struct {
	exact map[string]*node
	wild  map[string]*node // by what follows the star: ".example.com"
	any   *node

	// slashes says that some route fits a path with, but not without, a final
	// slash, or the other way round.
	slashes bool
	cased   bool // some route has a capital, which another case of it would miss

	// folded is the same table with every literal segment folded. Routes that
	// differ in case only share a place in it, so a look-up finds all of them.
	// Without capitals it is the table itself.
	folded *table
}

// A node stands for one segment of a path.
type node struct {
	literal map[string]*node
	wild    *node    // {name}: any one segment that is not empty
	here    []*Route // the path ends here
	below   []*Route // at least one more segment follows, perhaps an empty one
}

func newTable(routes []*Route) *table {
	t := buildTable(routes, func(s string) string { return s })
	t.folded = t
	if t.cased {
		t.folded = buildTable(routes, fold)
	}
	return t
}

func buildTable(routes []*Route, spell func(string) string) *table {
	t := &table{exact: map[string]*node{}, wild: map[string]*node{}}
	for _, rt := range routes {
		t.root(rt.Host).add(rt, spell)
		t.slashes = t.slashes || rt.pattern.here != rt.pattern.below
		for _, part := range rt.pattern.segments {
			t.cased = t.cased || !part.wild && fold(part.text) != part.text
		}
	}
	return t
}

func (t *table) root(host string) *node {
	if host == "" {
		if t.any == nil {
			t.any = &node{}
		}
		return t.any
	}
	hosts := t.exact
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		hosts, host = t.wild, suffix
	}
	if hosts[host] == nil {
		hosts[host] = &node{}
	}
	return hosts[host]
}

func (n *node) add(rt *Route, spell func(string) string) {
	for _, s := range rt.pattern.segments {
		if s.wild {
			if n.wild == nil {
				n.wild = &node{}
			}
			n = n.wild
			continue
		}
		if n.literal == nil {
			n.literal = map[string]*node{}
		}
		name := spell(s.text)
		if n.literal[name] == nil {
			n.literal[name] = &node{}
		}
		n = n.literal[name]
	}
	// Of two routes in one place, one that fits nothing else is the narrower.
	narrowest := func(a, b *Route) int {
		return cmp.Or(cmp.Compare(len(a.pattern.parts()), len(b.pattern.parts())), cmp.Compare(a.methodRank(), b.methodRank()))
	}
	if n.here == nil && n.below == nil && rt.pattern.here && rt.pattern.below {
		n.here = []*Route{rt}
		n.below = n.here // whoever appends to one of them gets another
		return
	}
	if rt.pattern.here {
		n.here = append(n.here, rt)
		slices.SortStableFunc(n.here, narrowest)
	}
	if rt.pattern.below {
		n.below = append(n.below, rt)
		slices.SortStableFunc(n.below, narrowest)
	}
}

// match returns the route of a percent-encoded path, or nil.
func (t *table) match(host, path, method string) *Route {
	var found *Route
	t.find(host, path, true, func(routes []*Route) bool {
		found = pick(routes, method)
		return found != nil
	})
	return found
}

// matchReading returns the routes that a decoded path falls under: the exact
// spelling's, and one for every spelling that differs in case only.
func (t *table) matchReading(host, path, method string) []*Route {
	var found []*Route
	t.find(host, path, false, func(routes []*Route) bool {
		if rt := pick(routes, method); rt != nil {
			found = append(found, rt)
		}
		return len(found) > 0
	})
	t.folded.find(host, fold(path), false, func(routes []*Route) bool {
		served := false
		for i, rt := range routes {
			// Of one spelling only the first counts, as in match.
			passed := slices.ContainsFunc(routes[:i], func(o *Route) bool { return o.serves(method) && o.spelling() == rt.spelling() })
			if !rt.serves(method) || passed {
				continue
			}
			served = true
			if !slices.Contains(found, rt) {
				found = append(found, rt)
			}
		}
		return served
	})
	return found
}

// otherSlash is the path with its final slash added or taken away, which many
// servers take for the same path. "" if that makes no difference to any route.
func (t *table) otherSlash(path string) string {
	switch {
	case !t.slashes || path == "/":
		return ""
	case strings.HasSuffix(path, "/"):
		return strings.TrimRight(path, "/")
	}
	return path + "/"
}

func pick(routes []*Route, method string) *Route {
	for _, rt := range routes {
		if rt.serves(method) {
			return rt
		}
	}
	return nil
}

// find offers the routes of each place that fits, most specific first, until
// one is taken.
func (t *table) find(host, path string, encoded bool, take func([]*Route) bool) bool {
	if n := t.exact[host]; n != nil && n.find(path, encoded, take) {
		return true
	}
	if len(t.wild) > 0 {
		for i := 1; i < len(host); i++ { // the longest suffix first
			if host[i] != '.' {
				continue
			}
			if n := t.wild[host[i:]]; n != nil && n.find(path, encoded, take) {
				return true
			}
		}
	}
	return t.any != nil && t.any.find(path, encoded, take)
}

// find goes down by the segments of rest, which is empty or begins with "/".
func (n *node) find(rest string, encoded bool, take func([]*Route) bool) bool {
	if rest == "" {
		return len(n.here) > 0 && take(n.here)
	}
	segment, after := rest[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, after = segment[:i], segment[i:]
	}
	if encoded {
		segment = unescape(segment)
	}
	if c := n.literal[segment]; c != nil && c.find(after, encoded, take) {
		return true
	}
	if n.wild != nil && segment != "" && n.wild.find(after, encoded, take) {
		return true
	}
	return len(n.below) > 0 && take(n.below)
}

func (rt *Route) spelling() string { return strings.TrimSuffix(rt.Path, "/") }

// fitsHost reports whether the route is for a host, which is in its one form.
func (rt *Route) fitsHost(host string) bool {
	if suffix, ok := strings.CutPrefix(rt.Host, "*"); ok {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return rt.Host == "" || rt.Host == host
}

// serves reports whether the route takes the method. HEAD follows GET
// (RFC 9110, section 9.3.2).
func (rt *Route) serves(method string) bool {
	if len(rt.Methods) == 0 || slices.Contains(rt.Methods, method) {
		return true
	}
	return method == http.MethodHead && slices.Contains(rt.Methods, http.MethodGet)
}

// methodRank orders routes of one path: the fewer methods, the more specific.
func (rt *Route) methodRank() int {
	if len(rt.Methods) == 0 {
		return 1 << 20
	}
	return len(rt.methodSet())
}

// methodSet is every method the route takes; nil stands for all.
func (rt *Route) methodSet() []string {
	if slices.Contains(rt.Methods, http.MethodGet) && !slices.Contains(rt.Methods, http.MethodHead) {
		return append(slices.Clone(rt.Methods), http.MethodHead)
	}
	return rt.Methods
}
