package proxy

import (
	"net/http"

	"gatehouse/authn"
)

// StatusOf is the status of the answer to r, which d refuses with ref: that of
// the refusal, or 302 for a browser that is sent to sign in.
func (s *Snapshot) StatusOf(r *http.Request, d Decision, ref *authn.Refusal) int {
	if s.loginPath != "" && isNavigation(r) && d.wantsLogin(ref) {
		return http.StatusFound
	}
	return Status(ref)
}

// Forwards reports whether the request goes to the route's upstream: it is
// neither for the gateway itself nor a CORS preflight, which it answers.
func (d *Decision) Forwards() bool {
	return d.Endpoint == nil && d.Route != nil && d.preflight == nil
}

// DecideAs is [Snapshot.Explain] without a word about the routes that were
// passed over, which costs as much as there are routes.
func (s *Snapshot) DecideAs(r *http.Request, as *authn.Identity) (Decision, error) {
	return s.decide(r, func(*http.Request, *Decision) (*authn.Identity, error) { return as, nil })
}
