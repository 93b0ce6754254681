package endpoints

import (
	"net/http"

	"gatehouse/authn"
)

// password changes the caller's password and ends the user's other sessions.
func (e *Endpoints) password(w http.ResponseWriter, r *http.Request) error {
	id, err := e.account(r)
	if err != nil {
		return e.orLogin(w, r, err)
	}
	in, err := decode(w, r, field{"current_password", text}, field{"new_password", text})
	if err == nil {
		err = e.service.ChangePassword(r.Context(), id, in.text("current_password"), in.text("new_password"), clientOf(r))
	}
	if err != nil && !in.browser {
		return err
	}
	if err != nil {
		p, pageErr := e.accountOf(r, id)
		if pageErr != nil {
			return pageErr
		}
		return e.again(w, r, in, p.WithFocus("current_password"), err)
	}
	if c := authn.CallerOf(r.Context()); c.FromCookie || c.Token == "" {
		e.remember(w, r, id.ID)
	}
	if in.browser {
		return redirect(w, http.StatusSeeOther, e.links.Account+"?notice=password_changed")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
