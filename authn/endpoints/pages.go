package endpoints

import (
	"net/http"
	"strconv"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/pages"
)

// page begins a page for who sent r, which leads on to next.
func (e *Endpoints) page(r *http.Request, name, next string) pages.Page {
	p := e.pages.Page(r, name).WithMinLength(e.service.Policy.MinLength)
	p.Registration = e.service.RegistrationOpen
	if to := e.destination(next); to != "/" {
		p.Next = to
	}
	return p
}

// goOn sends a browser to where it was, once it is signed in.
//
// Chrome holds every redirect after a form to the form-action of the page with
// the form (CSP 3, section 6.4.1). If the app behind answers with a redirect to
// another origin, as it does to sign in elsewhere, the person would stand at the
// login page for ever. A page that leads on by itself ends the chain. Clients that
// show no documents get a redirect.
func (e *Endpoints) goOn(w http.ResponseWriter, r *http.Request, to string) error {
	if _, own := e.paths[pathOf(to)]; own || r.Header.Get("Sec-Fetch-Dest") != "document" {
		return redirect(w, http.StatusSeeOther, to)
	}
	p := e.pages.Page(r, "continue")
	p.Next = to
	w.Header().Set("Refresh", "0; url="+to)
	return e.pages.Write(w, r, http.StatusOK, p)
}

// noticeOf is the name of what was just done: the query names it. What another
// site leads to says nothing, so that nobody is frightened by a link.
func noticeOf(r *http.Request) string {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return ""
	}
	return r.URL.Query().Get("notice")
}

// shown are the refusals that a form can show, with their statuses. What the
// person at the form cannot help is left to the gateway's error page.
var shown = map[string]int{
	authn.ErrInvalidRequest.Code:     http.StatusBadRequest,
	authn.ErrWeakPassword.Code:       http.StatusBadRequest,
	authn.ErrUserExists.Code:         http.StatusBadRequest,
	authn.ErrInvalidCredentials.Code: http.StatusBadRequest,
	authn.ErrTooManyAttempts.Code:    http.StatusTooManyRequests,
	authn.ErrBusy.Code:               http.StatusServiceUnavailable,
}

// again shows a form once more to the browser that posted it, with what was
// wrong. Programs, and what no form can show, get the error.
func (e *Endpoints) again(w http.ResponseWriter, r *http.Request, in input, p pages.Page, err error) error {
	refusal := authn.AsRefusal(err)
	status, ok := shown[refusal.Code]
	if !ok || !in.browser {
		return err
	}
	if refusal.RetryAfter > 0 {
		wait := (refusal.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(wait), 10))
	}
	return e.pages.Write(w, r, status, p.WithRefusal(refusal))
}
