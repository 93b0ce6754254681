package endpoints

import (
	"net/http"
	"net/url"

	"gatehouse/authn"
)

func (e *Endpoints) registerPage(w http.ResponseWriter, r *http.Request) error {
	if !e.service.RegistrationOpen {
		return authn.ErrRegistrationClosed
	}
	p := e.page(r, "register", r.URL.Query().Get(nextField)).WithFocus("email")
	return e.pages.Write(w, r, http.StatusOK, p)
}

// register makes an account. A browser is sent to the login page with a notice
// and not signed in at once: what the password manager saved is tried where it
// will be needed.
func (e *Endpoints) register(w http.ResponseWriter, r *http.Request) error {
	in, err := decode(w, r, field{"email", text}, field{"password", text}, field{"name", optional})
	var user authn.User
	if err == nil {
		user, err = e.service.Register(r.Context(), in.text("email"), in.text("password"), in.text("name"), clientOf(r))
	}
	if err != nil {
		p := e.page(r, "register", in.text(nextField)).WithFocus("password").
			WithValue("email", in.text("email")).WithValue("name", in.text("name"))
		return e.again(w, r, in, p, err)
	}
	if in.browser {
		to := url.Values{"notice": {"registered"}}
		if next := e.destination(in.text(nextField)); next != "/" {
			to.Set(nextField, next)
		}
		return redirect(w, http.StatusSeeOther, e.links.Login+"?"+to.Encode())
	}
	return writeJSON(w, http.StatusCreated, struct {
		Message string `json:"message"`
		ID      string `json:"id"`
	}{"User created successfully", user.ID})
}
