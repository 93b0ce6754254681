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
