package endpoints

import (
	"errors"
	"net/http"

	"gatehouse/authn"
)

// refresh trades a refresh token for new tokens. One in the body wins over the
// cookie; one from the cookie is answered with new cookies, and not told.
func (e *Endpoints) refresh(w http.ResponseWriter, r *http.Request) error {
	in, err := decode(w, r, field{"refresh_token", optional})
	if err != nil {
		return err
	}
	c := authn.CallerOf(r.Context())
	token, given := in.values["refresh_token"]
	fromCookie := !given
	if fromCookie {
		if c.Err != nil {
			return c.Err
		}
		token = c.Refresh
	}
	if token == "" {
		return invalid("refresh_token: missing")
	}
	grant, err := e.service.Refresh(r.Context(), token, clientOf(r))
	if err != nil {
		if fromCookie && errors.Is(err, authn.ErrInvalidToken) {
			e.cookies.clear(w) // it will never be good again
		}
		return err
	}
	if fromCookie {
		if err := e.cookies.set(w, grant); err != nil {
			return withLogout(err, e.service.Logout(r.Context(), grant.Identity, false))
		}
		// The cookie is out of scripts' reach, and so stays what it holds: a
		// script that gets into an app could carry the session off for weeks.
		grant.RefreshToken = ""
	}
	if in.browser {
		return redirect(w, http.StatusSeeOther, e.destination(in.text(nextField)))
	}
	return writeTokens(w, grant)
}
