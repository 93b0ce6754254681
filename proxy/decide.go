package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"gatehouse/authn"
	"gatehouse/config"
)

// A Decision is what the gateway will do with a request, and why.
type Decision struct {
	Host     string      // in its one form
	URL      url.URL     // what the upstream is asked for
	Endpoint HandlerFunc // set if the gateway answers by itself
	Route    *Route
	// Also are routes that some reading of the path falls under. Their rules,
	// access and csrf, hold as well.
	Also       []*Route
	Identity   *authn.Identity // nil for nobody
	FromCookie bool            // the credential was the session cookie
	Passed     []Passed        // routes not taken and the reason; filled for Explain

	refresh   string // of the session that goes on by it; spent with the answer
	location  location
	websocket bool
	preflight http.Header // the answer to a CORS preflight
}

// Forwards reports whether the request goes to the route's upstream: it is
// neither for the gateway itself nor a CORS preflight, which it answers.
func (d *Decision) Forwards() bool {
	return d.Endpoint == nil && d.Route != nil && d.preflight == nil
}

// Passed is a route that a request did not take.
type Passed struct {
	Route *Route
	Why   string
}

// An identifier says who a request is from.
type identifier func(r *http.Request, d *Decision) (*authn.Identity, error)

// Decide says what should happen to r. It calls no upstream and writes nothing.
// An error that is no Refusal means that no verdict was possible.
func (s *Snapshot) Decide(r *http.Request) (d Decision, err error) {
	err = s.decide(r, &d, nil)
	return d, err
}

// DecideAs is Decide for a request of as, who may be nobody (nil), whatever
// credentials the request has.
func (s *Snapshot) DecideAs(r *http.Request, as *authn.Identity) (d Decision, err error) {
	err = s.decide(r, &d, func(*http.Request, *Decision) (*authn.Identity, error) { return as, nil })
	return d, err
}

// Explain is DecideAs, and says why other routes were passed over, which costs
// as much as there are routes.
func (s *Snapshot) Explain(r *http.Request, as *authn.Identity) (Decision, error) {
	d, err := s.DecideAs(r, as)
	if d.Host != "" {
		d.Passed = s.passed(r, &d)
	}
	return d, err
}

// decide fills in d, which is the zero Decision. identify is s.identify if it is
// nil. A plain request allocates nothing on the way.
func (s *Snapshot) decide(r *http.Request, d *Decision, identify identifier) (err error) {
	if d.Endpoint = s.special(r); d.Endpoint != nil {
		return nil
	}
	if err := checkMethod(r.Method); err != nil {
		return err
	}
	if d.location, err = locate(r); err != nil {
		return err
	}
	d.Host = d.location.host
	if d.Endpoint = s.endpoint(r, &d.location); d.Endpoint != nil {
		return nil
	}
	if err := s.match(r, d); err != nil {
		return err
	}
	d.websocket = isWebsocket(r)
	if rt := d.Route; rt.cors != nil {
		answer, is, err := rt.cors.preflight(r)
		if err != nil {
			return err
		}
		if is {
			d.preflight = answer
			return nil
		}
	}
	if d.needsIdentity() {
		if identify == nil {
			d.Identity, err = s.identify(r, d)
		} else {
			d.Identity, err = identify(r, d)
		}
		if err != nil {
			return err
		}
	}
	for rt := range d.rules {
		if d.FromCookie && rt.CSRF == "check" {
			if err := s.cross.check(r, d.websocket, rt.cors); err != nil {
				return err
			}
		}
		if err := rt.allow(d.Identity); err != nil {
			return err
		}
	}
	return nil
}

// special answers `OPTIONS *`, the one request without a path.
func (s *Snapshot) special(r *http.Request) HandlerFunc {
	if r.Method != http.MethodOptions || r.RequestURI != "*" {
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// checkMethod refuses methods that mean something to proxies (RFC 9110,
// sections 9.3.6 and 9.3.8: TRACE would show the request's credentials).
func checkMethod(method string) error {
	switch {
	case method == http.MethodConnect || method == http.MethodTrace:
		return authn.ErrMethodNotAllowed.Because(fmt.Errorf("%s is never forwarded", method))
	case len(method) > 32:
		return authn.ErrMethodNotAllowed.Because(fmt.Errorf("method of %d bytes", len(method)))
	case !httpguts.ValidHeaderFieldName(method): // a token; HTTP/2 lets others in
		return authn.ErrInvalidRequest.Saying("Invalid method").Because(fmt.Errorf("method %q is no token", method))
	}
	return nil
}

// knownMethods are those whose meaning is registered (RFC 9110, WebDAV and its
// kin). Methods are case-sensitive.
var knownMethods = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`GET HEAD POST PUT PATCH DELETE OPTIONS QUERY
		ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL
		MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH REBIND REPORT SEARCH UNBIND UNCHECKOUT
		UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL`) {
		m[name] = true
	}
	return m
}()

func (s *Snapshot) endpoint(r *http.Request, loc *location) HandlerFunc {
	if s.endpoints == nil || loc.odd {
		return nil // `/login;x` and `//login` are the app's business
	}
	return s.endpoints.Match(r)
}

// match finds the route, and every other route that a reading of the path falls
// under. A reading that no route covers is refused: nobody has said that it may
// be seen.
func (s *Snapshot) match(r *http.Request, d *Decision) error {
	loc := &d.location
	path := loc.path
	if loc.doubledSlash {
		path = mergeSlashes(path)
	}
	method := r.Method
	if asked := preflightFor(r); asked != "" {
		// A preflight asks about the route of the request that it announces.
		if rt := s.table.match(loc.host, path, asked); rt != nil && rt.cors != nil {
			method = asked
		}
	}
	if d.Route = s.table.match(loc.host, path, method); d.Route == nil {
		return authn.ErrNoRoute
	}
	if loc.encodedSlash && d.Route.EncodedSlashes != "forward" {
		return badPath("encoded slash in %q, and route %q does not forward these", loc.path, d.Route.Name)
	}
	if err := s.matchReadings(d, method); err != nil {
		return err
	}
	return d.Route.upstreamURL(&d.URL, loc)
}

// matchReadings finds the other routes whose rules hold for the request.
func (s *Snapshot) matchReadings(d *Decision, method string) error {
	loc := &d.location
	add := func(rt *Route) {
		if rt != d.Route && !slices.Contains(d.Also, rt) {
			d.Also = append(d.Also, rt)
		}
	}
	if !knownMethods[method] {
		// Nobody knows what `get` is to the upstream: all that is said of the
		// path holds.
		s.table.find(loc.host, unescape(mergeSlashes(loc.path)), false, func(routes []*Route) bool {
			for _, rt := range routes {
				add(rt)
			}
			return true
		})
	}
	if !loc.odd && !loc.upper && !s.table.slashes && !s.table.cased {
		return nil // there is one reading
	}
	paths, err := readings(loc)
	if err != nil {
		return err
	}
	for _, reading := range paths {
		routes := s.table.matchReading(loc.host, reading, method)
		if len(routes) == 0 {
			return badPath("%q can be read as %q, which no route covers", loc.path, reading)
		}
		for _, rt := range routes {
			add(rt)
		}
		other := s.table.otherSlash(reading)
		if other == "" {
			continue
		}
		// Only narrower ones: a broader route is what ours was carved out of.
		for _, rt := range s.table.matchReading(loc.host, other, method) {
			if rt.pattern.narrower(d.Route.pattern) {
				add(rt)
			}
		}
	}
	return nil
}

// rules are the route and all others whose rules hold as well.
func (d *Decision) rules(yield func(*Route) bool) {
	if !yield(d.Route) {
		return
	}
	for _, rt := range d.Also {
		if !yield(rt) {
			return
		}
	}
}

// needsIdentity reports that some rule asks who is calling.
func (d *Decision) needsIdentity() bool {
	for rt := range d.rules {
		if rt.Access.Kind != config.AccessPublic {
			return true
		}
	}
	return false
}

// optional reports that nobody may use the route too.
func (d *Decision) optional() bool {
	for rt := range d.rules {
		if rt.Access.Kind != config.AccessPublic && rt.Access.Kind != config.AccessOptional {
			return false
		}
	}
	return true
}

// identify finds out who sent r. Nobody is no error. A dead cookie is nobody on
// an optional route; a bad Bearer token is refused even there.
func (s *Snapshot) identify(r *http.Request, d *Decision) (*authn.Identity, error) {
	cr, err := s.credentials.read(r.Header)
	if err != nil {
		return nil, err
	}
	resumable := s.renewer != nil && cr.refresh != "" && (cr.fromCookie || cr.token == "")
	if cr.token == "" && !resumable {
		return nil, nil
	}
	d.FromCookie = cr.fromCookie || cr.token == ""
	id, err := s.verify(r.Context(), cr.token)
	if resumable && dead(err) {
		id, err = s.resume(r, d, cr.refresh, err)
	}
	switch {
	case err == nil:
		return id, nil
	case dead(err) && d.FromCookie && d.optional():
		d.FromCookie = false
		return nil, nil
	}
	return nil, unsure(err)
}

// passed says of every other route why the request did not take it.
func (s *Snapshot) passed(r *http.Request, d *Decision) []Passed {
	var passed []Passed
	path := unescape(mergeSlashes(d.location.path))
	for _, rt := range s.routes {
		if rt == d.Route {
			continue
		}
		var why string
		switch {
		case !rt.fitsHost(d.Host):
			why = fmt.Sprintf("host %q is not %q", d.Host, rt.Host)
		case !rt.pattern.fits(path):
			why = fmt.Sprintf("%q does not cover the path", rt.Path)
		case !rt.serves(r.Method):
			why = fmt.Sprintf("method %s is not one of %s", r.Method, strings.Join(rt.Methods, ", "))
		case d.Route != nil:
			why = fmt.Sprintf("route %q is more specific", d.Route.Name)
		default:
			why = "the request was refused before a route was chosen"
		}
		if slices.Contains(d.Also, rt) {
			why += "; but the path can be read as one of its own, so its access holds as well"
		}
		passed = append(passed, Passed{rt, why})
	}
	return passed
}
