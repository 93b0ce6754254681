package endpoints

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"

	"gatehouse/authn"
	"gatehouse/authn/pages"
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
	return e.pages.Write(w, r, http.StatusOK, p.WithNotice(noticeOf(r)))
}

// orLogin sends a browser that is not signed in to the login page. Others get
// the error, and so do forms: a redirect would lose what was typed.
func (e *Endpoints) orLogin(w http.ResponseWriter, r *http.Request, err error) error {
	if !isDead(err) || r.Method == http.MethodPost || !authn.CallerOf(r.Context()).Navigates {
		return err
	}
	return redirect(w, http.StatusFound, e.links.Login+"?"+url.Values{nextField: {e.links.Account}}.Encode())
}

// accountOf fills the account page of a caller. Users of other issuers have no
// sessions and no password here.
func (e *Endpoints) accountOf(r *http.Request, id *authn.Identity) (pages.Page, error) {
	p := e.page(r, "account", "")
	a := pages.Account{Name: id.Name, Email: id.Email, Roles: id.Roles, Local: id.Issuer == ""}
	if !a.Local {
		return p.WithAccount(a), nil
	}
	sessions, err := e.service.SessionsOf(r.Context(), id.ID)
	if err != nil {
		return p, err
	}
	slices.SortFunc(sessions, func(a, b authn.Session) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.ID, b.ID))
	})
	now := e.service.Now()
	for _, s := range sessions {
		a.Sessions = append(a.Sessions, p.Session(s, s.ID == id.Session, now))
	}
	return p.WithAccount(a), nil
}
