package proxy

import (
	"net/http"
	"net/url"

	"gatehouse/authn"
)

// signInBeside is where somebody signs in who has sent a form and has no session,
// in another tab; "" if that is not what is wrong.
//
// A redirect would turn the form into a GET, and what was typed would be gone.
// This page takes the place of the answer, so that the browser still has the form:
// reloading sends it again, going back shows it. Only leaving the tab loses it, which
// is why the link opens another one. It ends at a page that says who is signed in.
func (s *Snapshot) signInBeside(r *http.Request, d *Decision, ref *authn.Refusal) string {
	signedOut := d.wantsLogin(ref) || d.Endpoint != nil && dead(ref)
	if s.loginPath == "" || !signedOut || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return ""
	}
	return s.loginPath + "?next=" + url.QueryEscape(s.config.Endpoints.Prefix+"/account")
}
