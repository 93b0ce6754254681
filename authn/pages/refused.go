package pages

import (
	"net/http"
	"time"

	"gatehouse/authn"
)

// An Error is what the error page says of a request that was refused.
type Error struct {
	Status    int    // of HTTP
	Code      string // "no_route", as programs get it
	Title     string
	Text      string
	Wait      string // when to try again, in words; "" where nobody knows
	RequestID string // leads to the reason in the log

	Login    string // where to sign in; "" where that is no help
	SignedIn string // the address of who may not; "" for nobody
	TryAgain bool   // the same request can be sent once more
	Posted   bool   // what was sent can be sent once more after signing in
}

// A Refused is a request that is answered with the error page.
type Refused struct {
	Refusal *authn.Refusal
	Status  int
	// RetryAfter is what the header of that name tells; 0 for nothing.
	RetryAfter time.Duration
	RequestID  string
	Login      string // where to sign in, with the way back; "" for nowhere
	SignedIn   string // the address of who asked; "" for nobody
}

// WriteError answers r with the error page.
func (s *Set) WriteError(w http.ResponseWriter, r *http.Request, x Refused) error {
	return s.Write(w, r, x.Status, s.errorPage(s.languageFor(r), r.Method, x))
}

func (s *Set) errorPage(l *language, method string, x Refused) Page {
	p := s.page(l, "error")
	code := x.Refusal.Code
	e := &Error{
		Status: x.Status, Code: code, RequestID: x.RequestID,
		Title: l.must("error." + code + ".title"), Text: l.must("error." + code + ".text"),
		Wait: l.wait(x.RetryAfter),
	}
	safe := method == http.MethodGet || method == http.MethodHead
	switch code {
	case authn.ErrMissingToken.Code, authn.ErrInvalidToken.Code:
		e.Login, e.Wait = x.Login, ""
		if e.Posted = !safe && x.Login != ""; e.Posted {
			e.Title, e.Text = l.must("posted.title"), l.must("posted.text")
		}
	case authn.ErrForbidden.Code:
		e.Login, e.SignedIn = x.Login, x.SignedIn
	}
	e.TryAgain = safe && (x.Status >= 500 || x.Status == http.StatusTooManyRequests || x.Status == http.StatusRequestHeaderFieldsTooLarge)
	p.Error = e
	return p
}
