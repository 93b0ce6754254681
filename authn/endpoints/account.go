package endpoints

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatehouse/authn"
)

func (e *Endpoints) accountPage(w http.ResponseWriter, r *http.Request) error {
	id, err := e.identify(r)
	if err != nil {
		return e.orLogin(w, r, err)
	}
	p, err := e.accountOf(r, id)
	if err != nil {
		return err
	}
	p.Notice = noticeOf(r)
	return e.show(w, http.StatusOK, "account.html", p)
}

// orLogin sends a browser that is not signed in to the login page. Others get
// the error.
func (e *Endpoints) orLogin(w http.ResponseWriter, r *http.Request, err error) error {
	if !isDead(err) || !authn.CallerOf(r.Context()).Navigates {
		return err
	}
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	return redirect(w, status, e.links.Login+"?"+url.Values{nextField: {e.links.Account}}.Encode())
}

// accountOf fills the account page of a caller. Users of other issuers have no
// sessions and no password here.
func (e *Endpoints) accountOf(r *http.Request, id *authn.Identity) (page, error) {
	p := e.page("")
	p.User, p.Local = id, id.Issuer == ""
	if !p.Local {
		return p, nil
	}
	sessions, err := e.service.SessionsOf(r.Context(), id.ID)
	if err != nil {
		return p, err
	}
	slices.SortFunc(sessions, func(a, b authn.Session) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.ID, b.ID))
	})
	for _, s := range sessions {
		p.Sessions = append(p.Sessions, sessionRow{
			ID: s.ID, Current: s.ID == id.Session,
			Device: device(s.UserAgent), UserAgent: s.UserAgent, Address: s.Address,
			Created: s.Created.UTC(), LastUsed: s.LastUsed.UTC(),
		})
	}
	return p, nil
}

// device is how people call what they sign in with. It is for reading only: a
// user agent says what it likes.
func device(userAgent string) string {
	find := func(marks ...string) string { // mark, name, mark, name, …
		for i := 0; i < len(marks); i += 2 {
			if strings.Contains(userAgent, marks[i]) {
				return marks[i+1]
			}
		}
		return ""
	}
	// The order matters: Edge calls itself Chrome as well, and Chrome Safari.
	program := find("Firefox/", "Firefox", "Edg/", "Edge", "OPR/", "Opera", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := find("iPhone", "iPhone", "iPad", "iPad", "Android", "Android", "Windows", "Windows", "Mac OS X", "macOS", "Linux", "Linux")
	switch {
	case program != "" && system != "":
		return program + " on " + system
	case program != "":
		return program
	case system != "":
		return "A program on " + system
	}
	return "An unknown program"
}
