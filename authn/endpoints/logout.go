package endpoints

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"gatehouse/authn"
)

// logout ends the caller's session; with "everywhere" all of the user's, with
// "session" another one of the user's.
//
// A browser always ends at the login page without cookies, except where the
// sign-out could not be recorded: it keeps them then, to try again.
func (e *Endpoints) logout(w http.ResponseWriter, r *http.Request) error {
	id, err := e.holder(r)
	if isDead(err) && postsForm(r) {
		return e.signedOut(w)
	}
	if err != nil {
		return err
	}

	in, err := decode(w, r, field{"everywhere", flag}, field{"session", optional})
	if err != nil {
		return err
	}
	if session, given := in.values["session"]; given && session != id.Session {
		return e.logoutOther(w, in, id, session, r)
	}
	if err := e.service.Logout(r.Context(), id, in.flag("everywhere")); err != nil {
		return err
	}
	if in.browser && in.flag("everywhere") && e.links.Login != "" {
		e.cookies.clear(w)
		return redirect(w, http.StatusSeeOther, e.links.Login+"?notice=signed_out_everywhere")
	}
	if in.browser {
		return e.signedOut(w)
	}
	if c := authn.CallerOf(r.Context()); c.FromCookie || c.Token == "" {
		e.cookies.clear(w)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// holder finds who is calling, and who holds the refresh cookie where the
// access token has run out: the session has not, and forgetting the cookie would
// leave it alive for whoever copied it. It is not given new cookies.
func (e *Endpoints) holder(r *http.Request) (*authn.Identity, error) {
	c := authn.CallerOf(r.Context())
	id, err := e.presented(r)
	if isDead(err) && c.Refresh != "" && (c.Token == "" || c.FromCookie) {
		return e.service.Holder(r.Context(), c.Refresh, clientOf(r))
	}
	return id, err
}

// signedOut is where a browser is once it is signed out.
func (e *Endpoints) signedOut(w http.ResponseWriter) error {
	e.cookies.clear(w)
	return redirect(w, http.StatusSeeOther, cmp.Or(e.links.Login, "/")) // users.database: none has no login page
}

// logoutOther ends one session of the caller's that is not the one calling.
func (e *Endpoints) logoutOther(w http.ResponseWriter, in input, id *authn.Identity, session string, r *http.Request) error {
	switch {
	case in.flag("everywhere"):
		return invalid("session: want either this or everywhere")
	case id.Issuer != "":
		return errElsewhere(id)
	}
	err := e.service.EndSession(r.Context(), id.ID, session)
	if errors.Is(err, authn.ErrSessionNotFound) {
		return invalid("session: unknown").Because(err)
	}
	if err != nil {
		return err
	}
	if in.browser {
		return redirect(w, http.StatusSeeOther, e.links.Account+"?notice=session_ended")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// withLogout is err, and what went wrong when a session was taken back because
// of it.
func withLogout(err, logout error) error {
	if logout == nil {
		return err
	}
	return fmt.Errorf("%w; its session stays: %v", err, logout)
}
