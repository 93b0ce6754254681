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
	*config.Route
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

// compileRoutes makes the routes of a configuration.
func compileRoutes(c *config.Config) ([]*Route, config.Problems) {
	all := make([]Route, len(c.Routes)) // one to mark, not thousands
	routes := make([]*Route, 0, len(all))
	var problems config.Problems
	sets, targets := headerSets{}, targets{}
	for i := range c.Routes {
		cr := &c.Routes[i]
		rt := &all[i]
		*rt = Route{
			Route:    cr,
			pattern:  parsePattern(cr.Path, cr.Exact),
			cors:     compileCORS(cr.CORS),
			set:      headers(cr.SetHeaders),
			response: headers(cr.ResponseHeaders),
			remove:   removed(cr),
		}
		var err error
		if rt.identity, err = sets.compile(c, cr); err != nil {
			problems = append(problems, c.Problem(fmt.Sprintf("routes[%d].identity_headers", i), "%v", err))
		}
		if rt.target, err = targets.parse(cr.Upstream[0].URL); err != nil {
			problems = append(problems, c.Problem(fmt.Sprintf("routes[%d].upstream", i), "%v", err))
		}
		routes = append(routes, rt)
	}
	return routes, problems
}

// removed is what rt.remove wants; nil for nothing.
func removed(cr *config.Route) map[string]bool {
	if len(cr.RemoveHeaders)+len(cr.SetHeaders) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, name := range cr.RemoveHeaders {
		names[config.HeaderSpelling(name)] = true
	}
	for name := range cr.SetHeaders {
		names[config.HeaderSpelling(name)] = true
	}
	return names
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
