package endpoints

import (
	"net/http"

	"gatehouse/authn"
)

func (e *Endpoints) loginPage(w http.ResponseWriter, r *http.Request) error {
	p := e.page(r, "login", r.URL.Query().Get(nextField)).WithNotice(noticeOf(r)).WithFocus("email")
	return e.pages.Write(w, r, http.StatusOK, p)
}

// login signs in: a program gets tokens, a browser gets cookies and goes on to
// where it was.
func (e *Endpoints) login(w http.ResponseWriter, r *http.Request) error {
	in, err := decode(w, r, field{"email", text}, field{"password", text})
	var grant authn.Grant
	if err == nil {
		grant, err = e.service.Login(r.Context(), in.text("email"), in.text("password"), clientOf(r))
	}
	if err != nil {
		p := e.page(r, "login", in.text(nextField)).WithValue("email", in.text("email")).WithFocus("password")
		return e.again(w, r, in, p, err)
	}
	if !in.browser {
		return writeTokens(w, grant)
	}
	if err := e.cookies.set(w, grant); err != nil {
		// Nobody would ever hold this session.
		return withLogout(err, e.service.Logout(r.Context(), grant.Identity, false))
	}
	e.remember(w, r, grant.Identity.ID)
	e.leave(r)
	return e.goOn(w, r, e.destination(in.text(nextField)))
}

// leave ends the session that the browser had until now, so that whoever
// planted its cookies there cannot go on with it. The new session is good
// whatever becomes of the old one, whose cookies are gone in any case.
func (e *Endpoints) leave(r *http.Request) {
	if c := authn.CallerOf(r.Context()); c.Token != "" && !c.FromCookie {
		return
	}
	if old, err := e.holder(r); err == nil && old.Issuer == "" {
		e.service.Logout(r.Context(), old, false)
	}
}
