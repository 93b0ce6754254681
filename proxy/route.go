package proxy

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatehouse/config"
)

// A Route is one entry of routes:, compiled.
type Route struct {
	config.Route
	pattern  pattern
	identity *headerSet
	cors     *cors
	target   target
	set      []header // set_headers, names in canonical form
	response []header // response_headers
	// remove is remove_headers and the names of set, as config.HeaderSpelling
	// has them: X_Script_Name is X-Script-Name to the apps that it is removed for.
	remove  map[string]bool
	handler http.Handler
	metrics *routeMetrics
	key     string // its key in the file, "routes[2]", for problems
}

type header struct{ name, value string }

func headers(m map[string]string) []header {
	var hs []header
	for name, value := range m {
		hs = append(hs, header{http.CanonicalHeaderKey(name), value})
	}
	slices.SortFunc(hs, func(a, b header) int { return cmp.Compare(a.name, b.name) })
	return hs
}

// compileRoutes makes the routes of a configuration and finds those that no
// rule ranks and those that no request can reach.
func compileRoutes(c *config.Config) ([]*Route, config.Problems) {
	var routes []*Route
	var problems config.Problems
	sets := headerSets{}
	for i, cr := range c.Routes {
		rt := &Route{
			Route:    cr,
			pattern:  parsePattern(cr.Path, cr.Exact),
			cors:     compileCORS(cr.CORS),
			set:      headers(cr.SetHeaders),
			response: headers(cr.ResponseHeaders),
			remove:   map[string]bool{},
			key:      fmt.Sprintf("routes[%d]", i),
		}
		for _, name := range cr.RemoveHeaders {
			rt.remove[config.HeaderSpelling(name)] = true
		}
		for _, set := range rt.set {
			rt.remove[config.HeaderSpelling(set.name)] = true
		}
		var err error
		if rt.identity, err = sets.compile(c, &cr); err != nil {
			problems = append(problems, c.Problem(rt.key+".identity_headers", "%v", err))
		}
		if rt.target, err = parseTarget(cr.Upstream[0].URL); err != nil {
			problems = append(problems, c.Problem(rt.key+".upstream", "%v", err))
		}
		routes = append(routes, rt)
	}
	return routes, append(problems, conflicts(routes)...)
}

// conflicts finds pairs of routes on one host whose paths and methods meet
// while neither is the more specific. Patterns without wildcards are always
// nested or apart, so only equal ones of these can be in conflict.
func conflicts(routes []*Route) config.Problems {
	var problems config.Problems
	report := func(a, b *Route, why string) {
		problems = append(problems, config.Problem{
			Pos:  b.Pos,
			Text: fmt.Sprintf("route %s and route %s (%s) %s", b.describe(), a.describe(), a.Pos, why),
			Hint: "no rule says which of them comes first: change the path or the methods of one",
		})
	}
	byHost := map[string][]*Route{}
	for _, rt := range routes {
		byHost[rt.Host] = append(byHost[rt.Host], rt)
	}
	hosts := make([]string, 0, len(byHost))
	for host := range byHost {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	for _, host := range hosts {
		var wild []*Route
		same := map[string][]*Route{}
		for _, rt := range byHost[host] {
			if strings.Contains(rt.Path, "{") {
				wild = append(wild, rt)
			}
			parts := rt.pattern.parts()
			for _, p := range parts {
				key := fmt.Sprint(len(parts), p.below, p.sample())
				for _, other := range same[key] {
					if rt != other && !methodsRank(other, rt) && !reported(problems, other, rt) {
						report(other, rt, "match the same requests")
					}
				}
				same[key] = append(same[key], rt)
			}
		}
		for i, a := range wild {
			for _, b := range byHost[host] {
				if a == b || slices.Index(wild, b) > i || methodsApart(a, b) {
					continue
				}
				if example, meet := overlap(a.pattern, b.pattern); meet {
					first, second := a, b
					if cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column)) > 0 {
						first, second = b, a
					}
					report(first, second, fmt.Sprintf("both match paths such as %s, and each matches some that the other does not", example))
				}
			}
		}
	}
	return problems
}

func reported(problems config.Problems, a, b *Route) bool {
	return slices.ContainsFunc(problems, func(p config.Problem) bool {
		return p.Pos == b.Pos && strings.Contains(p.Text, a.Pos.String())
	})
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

// unreachable finds routes that other routes, or the gateway's own endpoints,
// cover whole.
func (s *Snapshot) unreachable() config.Problems {
	var problems config.Problems
	for _, rt := range s.routes {
		if own := s.ownEndpoint(rt); own != "" {
			problems = append(problems, config.Problem{
				Pos:  rt.Pos,
				Text: fmt.Sprintf("route %s is never reached: the gateway serves %s itself", rt.describe(), own),
				Hint: "see endpoints.at_root and endpoints.prefix",
			})
			continue
		}
		if by := s.coveredBy(rt); by != nil {
			problems = append(problems, config.Problem{
				Pos:  rt.Pos,
				Text: fmt.Sprintf("route %s is never reached: route %s (%s) takes all of its requests", rt.describe(), by.describe(), by.Pos),
			})
		}
	}
	return problems
}

// coveredBy returns a route that wins wherever rt would fit, or nil. Samples
// whose wildcards no pattern spells out are enough: whatever else fits them is
// more specific than rt in other places.
func (s *Snapshot) coveredBy(rt *Route) *Route {
	host := rt.Host
	if suffix, ok := strings.CutPrefix(host, "*"); ok || host == "" {
		host = "\x01" + suffix
	}
	methods := rt.methodSet()
	if methods == nil {
		methods = []string{"\x01"}
	}
	var by *Route
	for _, p := range rt.pattern.parts() {
		for _, method := range methods {
			var found *Route
			s.table.find(host, p.sample(), false, func(routes []*Route) bool {
				found = pick(routes, method)
				return found != nil
			})
			if found == rt {
				return nil
			}
			by = found
		}
	}
	return by
}

// ownEndpoint returns the gateway's own path that takes all of rt's requests.
func (s *Snapshot) ownEndpoint(rt *Route) string {
	if s.endpoints == nil || strings.Contains(rt.Path, "{") {
		return ""
	}
	below := rt.Path + "/"
	if prefix := s.config.Endpoints.Prefix; strings.HasPrefix(below, prefix+"/") {
		return prefix + "/"
	}
	r := &http.Request{Method: http.MethodGet, Host: "x", URL: &url.URL{Path: rt.Path}, Header: http.Header{}}
	if rt.Exact && s.endpoints.Match(r) != nil {
		return rt.Path
	}
	return ""
}

// describe names a route as an operator would look for it.
func (rt *Route) describe() string {
	s := fmt.Sprintf("%q", rt.Name)
	if len(rt.Methods) > 0 {
		s += " [" + strings.Join(rt.Methods, " ") + "]"
	}
	return s
}

// rank orders routes for people: as the table ranks them, hosts first.
func rank(routes []*Route) []*Route {
	ranked := slices.Clone(routes)
	hostRank := func(host string) int {
		switch {
		case host == "":
			return 2
		case host[0] == '*':
			return 1
		}
		return 0
	}
	slices.SortStableFunc(ranked, func(a, b *Route) int {
		return cmp.Or(
			cmp.Compare(hostRank(a.Host), hostRank(b.Host)),
			cmp.Compare(len(b.Host), len(a.Host)),
			cmp.Compare(a.Host, b.Host),
			a.pattern.rank(b.pattern),
			cmp.Compare(a.methodRank(), b.methodRank()),
		)
	})
	return ranked
}

// rank puts literal segments before wildcards and longer patterns first.
func (p pattern) rank(q pattern) int {
	for i := range min(len(p.segments), len(q.segments)) {
		s, t := p.segments[i], q.segments[i]
		switch {
		case s.wild != t.wild && s.wild:
			return 1
		case s.wild != t.wild:
			return -1
		case s.text != t.text && !s.wild:
			return cmp.Compare(s.text, t.text)
		}
	}
	if c := cmp.Compare(len(q.segments), len(p.segments)); c != 0 {
		return c
	}
	breadth := func(p pattern) int { return len(p.parts()) }
	return cmp.Compare(breadth(p), breadth(q))
}
